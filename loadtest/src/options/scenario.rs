//! What scenarios take.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Auth, LoadOptions, OutputOptions, Transport};

/// What all scenarios take that are played by clients that listen.
#[derive(Debug, Clone, Args)]
pub(crate) struct SceneOptions {
    /// The server, as http://host:port
    #[arg(long)]
    pub(crate) url: String,
    /// How many people there are, all in one room
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(2..=5_000))]
    pub(crate) users: u32,
    /// What sessions go over
    #[arg(long, value_enum, default_value_t = Transport::Websocket)]
    pub(crate) transport: Transport,
    /// How to get in
    #[arg(long, value_enum, default_value_t = Auth::Login)]
    pub(crate) auth: Auth,
    /// What all chance follows from
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How long the server may take until all have heard the same, or all are in
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) patience: Duration,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// Joining and leaving.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChurnOptions {
    #[command(flatten)]
    pub(crate) scene: SceneOptions,
    /// How long people come and go
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// Joins and leaves per second, all together
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rate: u32,
    /// Poses per second of those who stay, who are half of all
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=90))]
    pub(crate) hz: u32,
    /// How often everybody stops for a moment, so that what they see can be compared
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) check_every: Duration,
}

/// All at once.
#[derive(Debug, Clone, Args)]
pub(crate) struct StormOptions {
    #[command(flatten)]
    pub(crate) scene: SceneOptions,
    /// A shell command that restarts the server once all are in
    #[arg(long, conflicts_with = "server_cmd")]
    pub(crate) restart_cmd: Option<String>,
    /// The server itself, as a command split at spaces, to be started first and restarted once all are in. It finds the
    /// URL's port in PORT
    #[arg(long)]
    pub(crate) server_cmd: Option<String>,
    /// Kill it, rather than asking it to end
    #[arg(long, requires = "server_cmd")]
    pub(crate) kill: bool,
    /// How long everybody may take to be back
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) back_within: Duration,
}

/// Edits of shared objects.
#[derive(Debug, Clone, Args)]
pub(crate) struct ObjectsOptions {
    #[command(flatten)]
    pub(crate) scene: SceneOptions,
    /// How long they are edited
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// How many objects there are: the fewer, the more conflicts
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) objects: u32,
    /// Edits per second of each
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rate: u32,
}

/// A recording, played by bots.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReplayOptions {
    #[command(flatten)]
    pub(crate) scene: ReplaySceneOptions,
    /// The recording: a file of one JSON event per line (or one array), as `/api/rooms/:id/replay` gives it
    #[arg(long, required_unless_present = "from_room", conflicts_with = "from_room")]
    pub(crate) recording: Option<PathBuf>,
    /// A room of the same server whose recording is fetched
    #[arg(long)]
    pub(crate) from_room: Option<String>,
    /// How many times as fast as it was
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    pub(crate) speed: f64,
}

/// What a replay takes of the options of scenes: how many people there are, the recording says.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReplaySceneOptions {
    /// The server, as http://host:port
    #[arg(long)]
    pub(crate) url: String,
    /// What sessions go over
    #[arg(long, value_enum, default_value_t = Transport::Websocket)]
    pub(crate) transport: Transport,
    /// How to get in
    #[arg(long, value_enum, default_value_t = Auth::Login)]
    pub(crate) auth: Auth,
    /// How long the server may take to tell the last of it
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) patience: Duration,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|speed| (0.01..=100.0).contains(speed));
    speed.ok_or_else(|| "from 0.01 to 100".to_owned())
}

/// Guests who misbehave beside a load that moves.
#[derive(Debug, Clone, Args)]
pub(crate) struct GuestOptions {
    /// The server, as http://host:port
    #[arg(long)]
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    /// How many misbehave, besides the users, spread over the rooms
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) guests: u32,
    /// Above this p99 age of poses of those near by the users count as having noticed
    #[arg(long, default_value = "250ms", value_parser = humantime::parse_duration)]
    pub(crate) users_p99: Duration,
    /// Above this time without an update of somebody near, too
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) users_gap: Duration,
    /// Process id of the server, to measure its CPU time and memory
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Cores for the load, one thread on each (comma-separated); one thread anywhere if absent
    #[arg(long, value_delimiter = ',')]
    pub(crate) pin: Vec<usize>,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// Guests who do not read.
#[derive(Debug, Clone, Args)]
pub(crate) struct SlowOptions {
    #[command(flatten)]
    pub(crate) guest: GuestOptions,
    /// The share of them who read nothing at all; the others read a little now and then
    #[arg(long, default_value_t = 0.6, value_parser = super::load::share)]
    pub(crate) stopped: f64,
    /// How long the server may keep somebody who reads nothing
    #[arg(long, default_value = "40s", value_parser = humantime::parse_duration)]
    pub(crate) within: Duration,
}

/// Guests who send what is broken.
#[derive(Debug, Clone, Args)]
pub(crate) struct MalformedOptions {
    #[command(flatten)]
    pub(crate) guest: GuestOptions,
    /// Broken inputs per second of each of them
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rate: u32,
    /// How long the server may take to answer
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) patience: Duration,
}
