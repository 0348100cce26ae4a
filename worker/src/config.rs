//! What the operator chooses: flags, and environment variables behind them. Nothing else reads the environment.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use clap::Parser;

use crate::limits::MAX_THREADS;

/// The settings that a worker runs with.
#[derive(Debug, Clone, Parser)]
#[command(name = "copresence-worker", version, about = "Geometry tasks over HTTP, for a Copresence server")]
pub struct Config {
    /// Port to listen on; 0 takes any free one
    #[arg(long, env = "PORT", default_value_t = 5001)]
    pub port: u16,
    /// Address to listen on
    #[arg(long, env = "HOST", value_name = "IP", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// What callers must send as a bearer token; the variable keeps it out of the list of processes
    #[arg(long, env = "WORKER_SECRET", hide_env_values = true, default_value = "")]
    pub secret: Secret,
    /// Tasks that run at once [default: as many as there are cores]
    #[arg(long, env = "THREADS", value_name = "NUMBER", value_parser = thread_count)]
    pub threads: Option<usize>,
    /// How long going down may take, in milliseconds
    #[arg(long, env = "DRAIN_MS", value_name = "MS", default_value_t = 5_000)]
    pub drain_ms: u64,
    /// What to log: a level, or directives such as info,worker=debug
    #[arg(long, env = "LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

impl Config {
    /// Tasks that run at once.
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(cores).clamp(1, MAX_THREADS)
    }
}

/// A text that no log may show; empty if none is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Anything else cannot come in a header, and nobody would get in.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("only visible ASCII characters can be sent as a token");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn thread_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads) if (1..=MAX_THREADS).contains(&threads) => Ok(threads),
        _ => Err(format!("must be a number from 1 to {MAX_THREADS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_checked_and_the_secret_is_not_shown() {
        let config =
            Config::parse_from(["copresence-worker", "--port", "7", "--secret", "hunter2", "--threads", "3"]);
        assert_eq!((config.port, config.threads(), config.secret.expose()), (7, 3, "hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
        for wrong in [["--threads", "0"], ["--threads", "65"], ["--secret", "a b"], ["--host", "here"]] {
            let [flag, value] = wrong;
            assert!(Config::try_parse_from(["copresence-worker", flag, value]).is_err(), "{wrong:?}");
        }
    }
}
