//! What the operator chooses: flags, and environment variables behind them.
//!
//! This is the only place that reads the environment. Everything is checked before a port is bound, so that a
//! server with a wrong setting never looks as if it were up.

mod check;
mod command;
#[cfg(test)]
mod tests;
mod workers;

use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args as _, Command, FromArgMatches as _};
use engine::TickRate;

use crate::redis::Nodes;
use crate::workers::BridgeSettings;

pub use check::{
    MAX_CORES, MAX_REPLAY_HZ, MAX_REPLAY_TTL_HOURS, MAX_USERS_PER_ROOM_LIMIT, MIN_REPLAY_BYTES,
    MIN_SECRET_BYTES,
};
pub use command::{Invocation, ReplayAction, ReplayCommand};

/// The settings that a server runs with, all of them valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens. Port 0 takes any free one.
    pub address: SocketAddr,
    /// What tokens are signed with.
    pub jwt_secret: Secret,
    /// Whether the secret was made up at this start, so that no token outlives the process.
    pub jwt_secret_is_random: bool,
    /// A Redis server or cluster, if one is named.
    pub redis: Option<Nodes>,
    /// What kind of place this is.
    pub environment: Environment,
    /// How many cores, and so threads, the engine uses.
    pub cores: usize,
    /// Ticks per second of a room that does not choose.
    pub tick_hz: TickRate,
    /// The most users that a room's creator may ask for.
    pub max_users_per_room: usize,
    /// Where persistent rooms and replay are kept.
    pub data_dir: PathBuf,
    /// Samples of poses that are recorded a second; 0 for none.
    pub replay_hz: u32,
    /// How many hours replay is kept; 0 if nothing is recorded.
    pub replay_ttl_hours: u64,
    /// How many bytes replay may take. Beyond, the oldest hours go.
    pub replay_max_bytes: u64,
    /// How long a drain may take, in milliseconds.
    pub drain_ms: u64,
    /// Over how long clients spread their return after a drain, in milliseconds.
    pub reconnect_spread_ms: u64,
    /// The origin whose pages may call the HTTP API, or `*`.
    pub cors_origin: String,
    /// The built page, if there is one.
    pub web_dir: Option<PathBuf>,
    /// What is logged, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// Connections at once. Above: a new one is closed at once.
    pub max_connections: usize,
    /// How often a client is asked whether it is there, in milliseconds.
    pub ping_interval_ms: u64,
    /// How long it may take to answer, in milliseconds.
    pub ping_timeout_ms: u64,
    /// Who does heavy work, and how it is asked.
    pub workers: BridgeSettings,
    /// What the operator should know about these settings, to be logged once logging works.
    pub notes: Vec<String>,
}

/// What kind of place a server runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Somebody's own machine.
    Development,
    /// Where others depend on it.
    Production,
    /// Under test.
    Test,
}

/// A text that no log may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--help` or `--version` was asked for; this is the answer.
    #[error("{0}")]
    Answer(String),
    /// A setting is not valid. One line that says which and why.
    #[error("{0}")]
    Invalid(String),
}

impl ConfigError {
    /// Tells the operator and ends the process: 0 after an answer, 2 after an error.
    pub fn exit(&self) -> ! {
        // Nothing is left to do if even this cannot be written.
        let _ = match self {
            Self::Answer(text) => std::io::stdout().write_all(text.as_bytes()),
            Self::Invalid(line) => writeln!(std::io::stderr(), "copresence: {line}"),
        };
        std::process::exit(match self {
            Self::Answer(_) => 0,
            Self::Invalid(_) => 2,
        })
    }
}

/// Settings as they are given. Each has an environment variable of the same name in capitals.
#[derive(Debug, clap::Args)]
struct Given {
    /// Port to listen on; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 3001)]
    port: u16,
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    host: IpAddr,
    /// Secret that tokens are signed with, at least 32 bytes; wanted in production, otherwise random by default
    #[arg(long, value_name = "SECRET")]
    jwt_secret: Option<String>,
    /// Redis server or cluster, redis:// or rediss://; none by default
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// Certificate authorities to trust for rediss://, a PEM file [default: the system's]
    #[arg(long, value_name = "PATH")]
    redis_ca_file: Option<PathBuf>,
    /// development, production or test
    #[arg(long, value_name = "NAME", default_value = "development")]
    node_env: String,
    /// Cores to use [default: those that this process may run on]
    #[arg(long, value_name = "NUMBER")]
    cores: Option<usize>,
    /// Ticks per second of a room that does not choose, 1 to 90, or auto: the fewer are in it, the more
    #[arg(long, value_name = "HZ", default_value = "20")]
    tick_hz: String,
    /// The most users that a room may be made for, 1 to 60000
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    max_users_per_room: usize,
    /// Directory for persistent rooms and replay; made if absent
    #[arg(long, value_name = "PATH", default_value = "./data")]
    data_dir: PathBuf,
    /// Samples of each pose that are recorded per second, 0 to 30; 0 records no poses
    #[arg(long, value_name = "HZ", default_value_t = 10)]
    replay_hz: u32,
    /// Hours that replay is kept; 0 records nothing, and removes what was recorded into files
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    replay_ttl_hours: u64,
    /// Bytes that replay may take, such as 500MB or 8GiB; beyond, the oldest hours go. With Redis, what waits for it on the disk
    #[arg(long, value_name = "BYTES", default_value = "8GiB")]
    replay_max_bytes: String,
    /// How long going down may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    drain_ms: u64,
    /// Over how long clients spread their return after that, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    reconnect_spread_ms: u64,
    /// Origin whose pages may call the HTTP API, or * for any
    #[arg(long, value_name = "ORIGIN", default_value = "*")]
    cors_origin: String,
    /// Directory of the built page [default: web/dist here or above the program]
    #[arg(long, value_name = "PATH")]
    web_dir: Option<PathBuf>,
    /// What to log: a level, or directives such as info,server=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// Connections at once
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000)]
    max_connections: usize,
    /// How often a client is asked whether it is there, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 25_000)]
    ping_interval_ms: u64,
    /// How long a client may take to answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20_000)]
    ping_timeout_ms: u64,
    #[command(flatten)]
    workers: workers::GivenWorkers,
}

impl Config {
    /// The settings of a server that `arguments` (without the program's name) and the variables of `environment` make.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_sources(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        match Invocation::from_sources(arguments, environment)? {
            Invocation::Serve(config) => Ok(*config),
            Invocation::Replay(_) => Err(ConfigError::Invalid("replay is no setting of a server".into())),
        }
    }
}

impl Invocation {
    /// What this process shall do, from its arguments and its environment. An argument wins over a variable; an empty
    /// variable counts as absent.
    ///
    /// # Errors
    /// [`ConfigError`], whose [`exit`](ConfigError::exit) is the right end.
    pub fn load() -> Result<Self, ConfigError> {
        Self::from_sources(std::env::args_os().skip(1), |name| std::env::var_os(name))
    }

    /// What `arguments` (without the program's name) and the variables of `environment` ask for.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_sources(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let command = command();
        // A variable becomes the flag of its name, put before the real ones, the last of which wins. So both
        // are parsed alike, and tests need not change the environment that they share.
        let mut line = vec![OsString::from("copresence")];
        for argument in command.get_arguments() {
            let value = environment(&variable(argument)).filter(|value| !value.is_empty());
            if let (Some(flag), Some(value)) = (argument.get_long(), value) {
                let mut pair = OsString::from(format!("--{flag}="));
                pair.push(value);
                line.push(pair);
            }
        }
        line.extend(arguments);
        let matches = command.try_get_matches_from(line).map_err(|error| clap_error(&error))?;
        if let Some(replay) = command::find(&matches)? {
            return Ok(Self::Replay(replay));
        }
        let given = Given::from_arg_matches(&matches).map_err(|error| clap_error(&error))?;
        Ok(Self::Serve(Box::new(check::accept(given)?)))
    }
}

fn command() -> Command {
    let command = Command::new("copresence").version(env!("CARGO_PKG_VERSION")).args_override_self(true);
    // Set after the arguments, which bring their own comment along.
    let command = Given::augment_args(command).about("The multiplayer server for WebXR");
    let command = command.mut_args(|argument| {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let variable = variable(&argument);
        argument.help(format!("{help} [env: {variable}]"))
    });
    command::add_to(command)
}

fn variable(argument: &clap::Arg) -> String {
    argument.get_id().as_str().to_uppercase()
}

fn clap_error(error: &clap::Error) -> ConfigError {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return ConfigError::Answer(text);
    }
    // What is wrong, perhaps with a list of names; how to do it right follows after a blank line.
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    ConfigError::Invalid(lines.join(" ").trim_start_matches("error: ").to_owned())
}
