//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::stamp::SENDERS_MAX;

/// Drives real Socket.IO sessions against a server and counts what arrives.
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
    /// Start two servers in turn on the same core and compare them under the same load.
    Compare(CompareOptions),
}

/// Everybody joins, moves and watches the others.
#[derive(Debug, Clone, Args)]
pub(crate) struct SteadyOptions {
    /// The server, as http://host:port
    #[arg(long, required = true)]
    pub(crate) url: Option<String>,
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
    /// How poses are asked for
    #[arg(long, value_enum, default_value_t = Encoding::Json)]
    pub(crate) encoding: Encoding,
    /// How to get in
    #[arg(long, value_enum, default_value_t = Auth::Login)]
    pub(crate) auth: Auth,
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
    /// The relay that it is compared with; it needs no login and takes its port from PORT
    #[arg(long)]
    pub(crate) naive_bin: PathBuf,
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
    /// The least median ratio of poses per CPU second
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
}

impl Encoding {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Batch => "batch",
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
    }
}
