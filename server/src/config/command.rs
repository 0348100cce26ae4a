//! What else the program does than to serve.

use std::path::PathBuf;

use clap::{ArgMatches, Command, FromArgMatches as _, Subcommand};

use super::check::redis;
use super::{Config, ConfigError, clap_error};
use crate::redis::Nodes;
use crate::replay::query::unix_ms;

/// What a process is to do.
#[derive(Debug, Clone)]
pub enum Invocation {
    /// Serve.
    Serve(Box<Config>),
    /// Something with recordings, and then to end.
    Replay(ReplayCommand),
}

/// Something to do with recordings.
#[derive(Debug, Clone)]
pub struct ReplayCommand {
    /// Where a server keeps what it keeps.
    pub data_dir: PathBuf,
    /// The Redis server that recordings are in, if one is named.
    pub redis: Option<Nodes>,
    /// What.
    pub action: ReplayAction,
}

/// What is done with recordings.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ReplayAction {
    /// Write a room's recording into one file; a server may be running meanwhile
    Export {
        /// The room
        #[arg(long, value_name = "ID")]
        room: String,
        /// From this time on, and up to an hour before it, so that it can be told from the file alone: Unix milliseconds or a time in UTC [default: all there is]
        #[arg(long, value_name = "TIME", value_parser = unix_ms)]
        from: Option<u64>,
        /// Up to this time, and what belongs to it of the 5 s after [default: all there is]
        #[arg(long, value_name = "TIME", value_parser = unix_ms)]
        to: Option<u64>,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
        /// Where to; - is the standard output
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Keep the recording in a file, beside what a server records itself and without an end
    Import {
        /// The room that it shall be of [default: the one that it was of]
        #[arg(long, value_name = "ID")]
        room: Option<String>,
        /// Replace an earlier import for the same room
        #[arg(long)]
        force: bool,
        /// Where from; - is the standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// The settings that the commands below have in common with the server.
const SHARED: [&str; 3] = ["data_dir", "redis_url", "redis_ca_file"];

/// Adds the commands to the one that serves.
pub(super) fn add_to(command: Command) -> Command {
    let replay = ReplayAction::augment_subcommands(Command::new("replay"))
        .about("Take recordings of rooms out of the server, or in")
        .subcommand_required(true)
        .disable_help_subcommand(true);
    SHARED
        .into_iter()
        .fold(command, |command, name| command.mut_arg(name, |argument| argument.global(true)))
        .subcommand(replay)
        .disable_help_subcommand(true)
}

/// The command among `matches`, if there is one.
pub(super) fn find(matches: &ArgMatches) -> Result<Option<ReplayCommand>, ConfigError> {
    let Some(("replay", replay)) = matches.subcommand() else { return Ok(None) };
    let action = ReplayAction::from_arg_matches(replay).map_err(|error| clap_error(&error))?;
    // What is given behind the action is known only there.
    let given = replay.subcommand().map_or(replay, |(_, given)| given);
    let authorities = given.get_one::<PathBuf>("redis_ca_file").cloned();
    let redis = redis(given.get_one::<String>("redis_url").cloned(), authorities)?;
    let data_dir = given.get_one::<PathBuf>("data_dir").cloned().unwrap_or_default();
    Ok(Some(ReplayCommand { data_dir, redis, action }))
}
