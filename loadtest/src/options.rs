//! The command line.

use std::num::ParseIntError;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::stamp::SENDERS_MAX;

/// Drives real sessions against a server and counts what arrives.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) steady: SteadyOptions,
}

/// What else there is besides the steady load.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hold connections that say nothing, and weigh them.
    Idle(IdleOptions),
    /// Start servers in turn on the same core and compare them under the same load.
    Compare(Box<CompareOptions>),
}

/// Everybody joins, moves and watches the others.
#[derive(Debug, Clone, Args)]
pub(crate) struct SteadyOptions {
    /// The server, as http://host:port
    #[arg(long, required = true)]
    pub(crate) url: Option<String>,
    /// What it speaks; of a Colyseus room bytes and patches are counted, and poses are not judged
    #[arg(long, value_enum, default_value_t = Protocol::Socketio)]
    pub(crate) protocol: Protocol,
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    /// Process id of the server, to measure its CPU time and memory
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Cores for the load, one thread on each (comma-separated); one thread anywhere if absent
    #[arg(long, value_delimiter = ',')]
    pub(crate) pin: Vec<usize>,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// Socket.IO with the events of `docs/PROTOCOL.md`
    Socketio,
    /// Colyseus 0.18, with the room of `relays/colyseus`
    Colyseus,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Socketio => "socketio",
            Self::Colyseus => "colyseus",
        }
    }
}

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
    /// How many receivers are judged pose by pose; 200 for binary and everybody otherwise if absent
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

/// Judged receivers of binary frames if nothing else is asked for.
const JUDGES: u32 = 200;

impl LoadOptions {
    /// How many receivers are judged pose by pose.
    pub(crate) fn judges(&self) -> u32 {
        let default = if self.encoding == Encoding::Binary { JUDGES } else { self.users };
        self.judges.unwrap_or(default).min(self.users)
    }
}

fn metres(text: &str) -> Result<f32, String> {
    in_range(text, 0.0..=100_000.0).map(|metres| metres as f32)
}

fn share(text: &str) -> Result<f64, String> {
    in_range(text, 0.0..=1.0)
}

fn in_range(text: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| range.contains(value));
    value.ok_or_else(|| format!("from {} to {}", range.start(), range.end()))
}

/// Idle connections.
#[derive(Debug, Clone, Args)]
pub(crate) struct IdleOptions {
    /// The server, as http://host:port
    #[arg(long)]
    pub(crate) url: String,
    /// How many connections
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(SENDERS_MAX)))]
    pub(crate) users: u32,
    /// Join rooms of 50 as well, and stand still there
    #[arg(long)]
    pub(crate) join: bool,
    /// How long to hold them
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) hold: Duration,
    /// How to get in
    #[arg(long, value_enum, default_value_t = Auth::Login)]
    pub(crate) auth: Auth,
    /// Process id of the server
    #[arg(long)]
    pub(crate) pid: u32,
    /// The core for the load
    #[arg(long)]
    pub(crate) pin: Option<usize>,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// One server against another.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompareOptions {
    /// The server to be judged; it logs people in
    #[arg(long)]
    pub(crate) server_bin: PathBuf,
    /// A relay that it is compared with; it needs no login and takes its port from PORT. May be given again
    #[arg(long, required_unless_present_any = ["naive_cmd", "colyseus_cmd", "bare_bin"])]
    pub(crate) naive_bin: Vec<PathBuf>,
    /// The same, as a command with arguments, split at spaces: "node loadtest/relays/node/relay.js"
    #[arg(long)]
    pub(crate) naive_cmd: Vec<String>,
    /// A Colyseus room to compare with, as such a command: "node loadtest/relays/colyseus/index.js"
    #[arg(long)]
    pub(crate) colyseus_cmd: Option<String>,
    /// The bare loop of `benches`, which sends as many bytes per tick as the server has just been found to send
    #[arg(long)]
    pub(crate) bare_bin: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    /// How often each of them is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// The core that the servers run on
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: usize,
    /// The core that the load comes from
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,
    /// The least median ratio of poses per CPU second, to each of the naive relays
    #[arg(long, default_value_t = 2.0)]
    pub(crate) min_ratio: f64,
    /// The most that the server's median p99 pose age may be
    #[arg(long, default_value = "75ms", value_parser = humantime::parse_duration)]
    pub(crate) max_p99: Duration,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from("loadtest --url http://127.0.0.1:1 --users 7 --pin 0,1".split(' '));
        let steady = cli.steady;
        assert_eq!((steady.load.users, steady.pin), (7, vec![0, 1]));
        let cli = Cli::parse_from("loadtest idle --url http://127.0.0.1:1 --pid 1".split(' '));
        assert!(matches!(cli.command, Some(Command::Idle(_))));
        assert!(Cli::try_parse_from(["loadtest"]).is_err(), "which server?");
        assert!(Cli::try_parse_from("loadtest compare --server-bin a".split(' ')).is_err(), "with what?");
        for other in ["--naive-bin b", "--naive-cmd b", "--colyseus-cmd b", "--bare-bin b"] {
            let line = format!("loadtest compare --server-bin a {other}");
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{other} is enough");
        }
    }

    #[test]
    fn receivers_are_judged_by_the_encoding_or_as_asked_for() {
        for (options, judges) in [
            ("--users 5000", 5_000),
            ("--users 5000 --encoding binary", 200),
            ("--users 50 --server-encoding binary", 50),
            ("--users 5000 --judges 7", 7),
        ] {
            let line = format!("loadtest --url http://127.0.0.1:1 {options}");
            assert_eq!(Cli::parse_from(line.split(' ')).steady.load.judges(), judges, "{options}");
        }
        for wrong in ["--hands 1.5", "--hands x", "--near -1", "--area nan", "--tick-hz fast"] {
            let line = format!("loadtest --url http://127.0.0.1:1 {wrong}");
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rooms_are_created_with_what_was_asked_for_and_no_more() {
        for (options, expected) in [
            ("", serde_json::json!({})),
            (" --tick-hz auto", serde_json::json!({ "tickHz": "auto" })),
            (
                " --tick-hz 30 --view-budget 4096 --view-radius 40",
                serde_json::json!({ "tickHz": 30, "viewBudget": 4096, "viewRadius": 40.0 }),
            ),
        ] {
            let line = format!("loadtest --url http://127.0.0.1:1{options}");
            let room = Cli::parse_from(line.split(' ')).steady.load.room;
            assert_eq!(serde_json::to_value(room).unwrap(), expected, "{options}");
        }
    }
}
