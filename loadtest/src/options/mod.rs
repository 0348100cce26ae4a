//! The command line.

mod load;
mod scenario;
mod survey;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use load::{Auth, Encoding, LoadOptions, Phases, RoomOptions, TickHz, Transport};

pub(crate) use scenario::{
    ChurnOptions, GuestOptions, MalformedOptions, ObjectsOptions, ReplayOptions, SceneOptions, SlowOptions,
    StormOptions,
};

pub(crate) use survey::{Note, SurveyOptions};

use crate::objective::Objective;
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
    /// Everybody joins, moves and watches the others; the same as naming no command.
    Steady(Box<SteadyOptions>),
    /// Half of the people stay and move, the others come and go; everybody must always be told who is there.
    Churn(Box<ChurnOptions>),
    /// Everybody comes at once, and comes back after a restart.
    Storm(Box<StormOptions>),
    /// Guests who do not read, or hardly, beside users who must not notice.
    SlowReaders(Box<SlowOptions>),
    /// Guests who send what is broken, beside users who must not notice.
    Malformed(Box<MalformedOptions>),
    /// Everybody edits the same objects; of all edits of one version exactly one is granted.
    Objects(Box<ObjectsOptions>),
    /// Bots do again what a recording says.
    Replay(Box<ReplayOptions>),
    /// List the figures that `--assert` takes.
    Figures,
    /// Hold connections that say nothing, and weigh them.
    Idle(IdleOptions),
    /// Start servers in turn on the same core and compare them under the same load.
    Compare(Box<CompareOptions>),
    /// The same with more and more users, written down as tables and charts: what `cargo xtask compare` runs
    Survey(Box<SurveyOptions>),
}

/// Everybody joins, moves and watches the others.
#[derive(Debug, Clone, Args)]
pub(crate) struct SteadyOptions {
    /// The server, as http://host:port
    #[arg(long, required = true)]
    pub(crate) url: Option<String>,
    /// What it speaks
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
    #[command(flatten)]
    pub(crate) capacity: CapacityOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// How many users an objective allows.
#[derive(Debug, Clone, Args)]
pub(crate) struct CapacityOptions {
    /// Try more and more users until the objective breaks, and say how many it allows. `--users` is ignored
    #[arg(long)]
    pub(crate) find_capacity: bool,
    /// The objective: the p99 age of poses of those near by
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    pub(crate) p99: Duration,
    /// The objective, too: the longest time without an update of somebody near
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) max_gap: Duration,
    /// How many users to begin with
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=i64::from(SENDERS_MAX)))]
    pub(crate) from: u32,
    /// How many to try at most
    #[arg(long, default_value_t = SENDERS_MAX, value_parser = clap::value_parser!(u32).range(2..=i64::from(SENDERS_MAX)))]
    pub(crate) most: u32,
}

/// Where the findings go, and what must be true of them.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct OutputOptions {
    /// Write the report as JSON into a file, or in place of the text if none or `-` is named
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report as a page with charts, which needs nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// What must be true of a figure, as 'pose_age_p99<100ms'; may be given again. `loadtest figures` lists what there is
    #[arg(long = "assert", value_name = "OBJECTIVE")]
    pub(crate) objectives: Vec<Objective>,
}

impl OutputOptions {
    /// Whether the text is replaced by JSON.
    pub(crate) fn json_instead(&self) -> bool {
        self.json.as_deref().is_some_and(|file| file.as_os_str() == "-")
    }
}

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// Socket.IO with the events of `docs/PROTOCOL.md`
    Socketio,
    /// Colyseus 0.18, with the room of `loadtest/relays/colyseus`
    Colyseus,
}

impl Protocol {
    /// How Colyseus encodes poses.
    pub(crate) const SCHEMA: &str = "schema";

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Socketio => "socketio",
            Self::Colyseus => "colyseus",
        }
    }
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

#[cfg(test)]
mod tests;
