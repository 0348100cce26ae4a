//! How much load there is, and of what kind.

use std::num::ParseIntError;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Protocol;
use crate::stamp::SENDERS_MAX;

/// How much load there is, and of what kind.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadOptions {
    /// How many people there are in all
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(SENDERS_MAX)))]
    pub(crate) users: u32,
    /// How many rooms they share
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rooms: u32,
    /// Poses per second of each
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=90))]
    pub(crate) hz: u32,
    /// How long is measured
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// How long everybody moves before that
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    pub(crate) warmup: Duration,
    /// When within a period people send
    #[arg(long, value_enum, default_value_t = Phases::Spread)]
    pub(crate) phases: Phases,
    /// How poses are asked for; in a comparison, of the server (the relays know JSON only)
    #[arg(long, visible_alias = "server-encoding", value_enum, default_value_t = Encoding::Json)]
    pub(crate) encoding: Encoding,
    /// What sessions go over
    #[arg(long, value_enum, default_value_t = Transport::Websocket)]
    pub(crate) transport: Transport,
    /// How often each asks for an answer, to time it; 0s for never. Absent: every 5 s, but never with `--auth none`
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) ack_every: Option<Duration>,
    /// How to get in
    #[arg(long, value_enum, default_value_t = Auth::Login)]
    pub(crate) auth: Auth,
    /// Side of the square that people are spread over and walk in, in metres; close together if absent or 0
    #[arg(long, value_parser = metres)]
    pub(crate) area: Option<f32>,
    /// The share of people who send tracked hands, from 0 to 1; binary only
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub(crate) hands: f64,
    /// Up to how many metres away somebody counts as near
    #[arg(long, default_value_t = 8.0, value_parser = metres)]
    pub(crate) near: f32,
    /// How many receivers are judged pose by pose; 200 for binary and Colyseus, everybody otherwise, if absent
    #[arg(long)]
    pub(crate) judges: Option<u32>,
    /// What all random walks follow from
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// People arrive evenly spread over this time, and move from then on; as fast as they can if absent
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) ramp: Option<Duration>,
    #[command(flatten)]
    pub(crate) room: RoomOptions,
}

/// What rooms are created with; the server's own defaults where absent.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoomOptions {
    /// Ticks per second of the rooms, or `auto`
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tick_hz: Option<TickHz>,
    /// Bytes per second that one viewer gets of the others' poses
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) view_budget: Option<u32>,
    /// How far people see, in metres
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) view_radius: Option<f64>,
}

/// A room's rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TickHz {
    /// The server chooses.
    Auto,
    #[serde(untagged)]
    Fixed(u32),
}

impl FromStr for TickHz {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Fixed) }
    }
}

/// Judged receivers of binary frames and patches if nothing else is asked for.
const JUDGES: u32 = 200;

/// How often somebody asks for an answer if nothing else is asked for: one message in a hundred at 20 Hz. Servers
/// without logins are other people's, and may know no acks.
const ASK_EVERY: Duration = Duration::from_secs(5);

impl LoadOptions {
    /// How many receivers are judged pose by pose.
    pub(crate) fn judges(&self, protocol: Protocol) -> u32 {
        let shared = self.encoding == Encoding::Binary || protocol == Protocol::Colyseus;
        let default = if shared { JUDGES } else { self.users };
        self.judges.unwrap_or(default).min(self.users)
    }

    /// With each how many-th of its poses somebody asks for an answer; `None` if never.
    pub(crate) fn asks_each(&self) -> Option<u32> {
        let default = if self.auth == Auth::Login { ASK_EVERY } else { Duration::ZERO };
        let every = self.ack_every.unwrap_or(default);
        (!every.is_zero()).then(|| ((every.as_secs_f64() * f64::from(self.hz)).round() as u32).max(1))
    }
}

fn metres(text: &str) -> Result<f32, String> {
    in_range(text, 0.0..=100_000.0).map(|metres| metres as f32)
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    in_range(text, 0.0..=1.0)
}

fn in_range(text: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| range.contains(value));
    value.ok_or_else(|| format!("from {} to {}", range.start(), range.end()))
}

/// How poses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    /// One `user-moved` per pose, as every server of this kind sends them
    Json,
    /// One `users-moved` per tick
    Batch,
    /// One `pose-frame` per tick, and poses sent in binary too
    Binary,
}

impl Encoding {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Batch => "batch",
            Self::Binary => "binary",
        }
    }
}

/// What sessions go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// A WebSocket from the first byte on
    Websocket,
    /// HTTP long polling, without an upgrade: for moderate numbers
    Polling,
}

impl Transport {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Polling => "polling",
        }
    }
}

/// When within a period people send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Phases {
    /// Each at a time of its own, evenly spread, as people who know nothing of each other do
    Spread,
    /// All at the same moment, which spares a relay most of its writes
    Together,
}

/// How to get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Auth {
    /// Log in over HTTP, create the rooms, and connect with the token
    Login,
    /// Just connect
    None,
}
