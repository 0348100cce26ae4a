//! Who takes part in a comparison, and how each is started and measured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::options::{Auth, CompareOptions, Encoding, LoadOptions, Protocol, TickHz};
use crate::report::{Report, ratio};
use crate::stamp::SENDERS_MAX;

/// The server's ticks per second if nothing else is asked for.
const DEFAULT_TICK_HZ: f64 = 20.0;

/// What somebody takes part as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// What is to be judged.
    Server,
    /// A naive relay.
    Relay,
    /// A room of Colyseus.
    Colyseus,
    /// The bare loop, whose poses are made up.
    Bare,
}

/// A server that takes part.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) load: LoadOptions,
}

impl Contender {
    /// The server first, then the relays in the order of the command line (programs, then commands), Colyseus, and
    /// the bare loop.
    ///
    /// # Errors
    /// If one of them cannot take part in what is asked for.
    pub(crate) fn all(options: &CompareOptions) -> Result<Vec<Self>> {
        // Nobody is asked for answers, which not all of them know. Neither the bare loop nor a relay knows logins, and
        // relays know one encoding.
        let server = LoadOptions { ack_every: Some(Duration::ZERO), ..options.load.clone() };
        let open = LoadOptions { auth: Auth::None, ..server.clone() };
        let json = LoadOptions { encoding: Encoding::Json, ..open.clone() };
        let new = |kind, name: &str, program: &Path, args: &[&str], load: &LoadOptions| Self {
            kind,
            name: name.to_owned(),
            program: program.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            load: load.clone(),
        };
        let relay = |number: usize| match number {
            0 => "relay".to_owned(),
            _ => format!("relay {}", number + 1),
        };
        let mut all = vec![new(Kind::Server, "server", &options.server_bin, &[], &server)];
        for program in &options.naive_bin {
            all.push(new(Kind::Relay, &relay(all.len() - 1), program, &[], &json));
        }
        for command in &options.naive_cmd {
            let (program, args) = words(command).context("an empty --naive-cmd")?;
            all.push(new(Kind::Relay, &relay(all.len() - 1), program, &args, &json));
        }
        if let Some(command) = &options.colyseus_cmd {
            let (program, args) = words(command).context("an empty --colyseus-cmd")?;
            all.push(new(Kind::Colyseus, "colyseus", program, &args, &json));
        }
        if let Some(program) = &options.bare_bin {
            match (options.load.encoding, options.load.room.tick_hz) {
                (Encoding::Batch, _) => {
                    bail!("the bare loop knows no batches: take `--encoding binary` or `json`")
                }
                (Encoding::Json, Some(TickHz::Auto)) => {
                    bail!("ticks cannot be counted in JSON: give the bare loop's as `--tick-hz`")
                }
                _ => {}
            }
            all.push(new(Kind::Bare, "bare loop", program, &[], &open));
        }
        Ok(all)
    }

    pub(crate) fn protocol(&self) -> Protocol {
        if self.kind == Kind::Colyseus { Protocol::Colyseus } else { Protocol::Socketio }
    }

    /// Whether its poses are judged.
    pub(crate) fn is_judged(&self) -> bool {
        self.kind != Kind::Bare
    }

    /// How it encodes poses.
    pub(crate) fn encoding(&self) -> &'static str {
        if self.kind == Kind::Colyseus { Protocol::SCHEMA } else { self.load.encoding.as_str() }
    }

    /// The program with its arguments.
    pub(crate) fn command(&self) -> String {
        [&[self.program.display().to_string()], &self.args[..]].concat().join(" ")
    }

    /// What it finds in its environment, besides the port and the folder for data. `server` is what the server has
    /// just been found to do.
    pub(crate) fn environment(&self, server: Option<&Report>) -> Vec<(&'static str, String)> {
        match (self.kind, server) {
            (Kind::Server, _) => vec![("MAX_USERS_PER_ROOM", SENDERS_MAX.to_string())],
            (Kind::Relay | Kind::Colyseus, _) => vec![("NODE_ENV", "production".to_owned())],
            (Kind::Bare, Some(server)) => {
                self.bare_environment(server.bytes_per_user_s, server.ticks_per_user_s)
            }
            _ => Vec::new(),
        }
    }

    /// As many bytes per tick as each of the server's clients got, at the rate that was asked for.
    fn bare_environment(
        &self,
        bytes_per_user_s: f64,
        ticks_per_user_s: Option<f64>,
    ) -> Vec<(&'static str, String)> {
        let hz = match self.load.room.tick_hz {
            Some(TickHz::Fixed(hz)) => f64::from(hz),
            None => DEFAULT_TICK_HZ,
            Some(TickHz::Auto) => ticks_per_user_s.unwrap_or(DEFAULT_TICK_HZ),
        };
        let frame_bytes = ratio(bytes_per_user_s, ticks_per_user_s.unwrap_or(hz));
        vec![
            ("TICK_HZ", format!("{hz:.0}")),
            ("FRAME_BYTES", format!("{frame_bytes:.0}")),
            ("ENCODING", self.load.encoding.as_str().to_owned()),
        ]
    }
}

/// A command's program and arguments.
pub(crate) fn words(command: &str) -> Option<(&Path, Vec<&str>)> {
    let mut words = command.split_whitespace();
    Some((Path::new(words.next()?), words.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Cli, Command};
    use clap::Parser;

    fn contenders(options: &[&str]) -> Result<Vec<Contender>> {
        let line = ["loadtest", "compare", "--server-bin", "s"].iter().chain(options);
        let Some(Command::Compare(options)) = Cli::parse_from(line).command else { panic!("{options:?}") };
        Contender::all(&options)
    }

    #[test]
    fn everybody_is_asked_in_a_way_that_they_know() {
        let binary = ["--users", "9", "--encoding", "binary", "--naive-bin", "a", "--naive-bin", "b"];
        let peers = ["--colyseus-cmd", "node c.js", "--bare-bin", "d"];
        let all = contenders(&[&binary[..], &peers].concat()).unwrap();
        for (at, name, command, encoding, judged) in [
            (0, "server", "s", "binary", true),
            (1, "relay", "a", "json", true),
            (2, "relay 2", "b", "json", true),
            (3, "colyseus", "node c.js", "schema", true),
            (4, "bare loop", "d", "binary", false),
        ] {
            let one = &all[at];
            assert_eq!((&*one.name, &*one.command()), (name, command));
            assert_eq!((one.encoding(), one.is_judged(), one.load.users), (encoding, judged, 9), "{name}");
            assert_eq!(one.load.auth == Auth::Login, at == 0, "{name}");
        }
        assert_eq!(all[3].protocol(), Protocol::Colyseus);
        assert_eq!(all[3].environment(None), [("NODE_ENV", "production".to_owned())]);
    }

    #[test]
    fn the_bare_loop_sends_what_the_server_has_sent() {
        for (options, ticks_per_s, environment) in [
            (&["--encoding", "binary"][..], Some(19.0), ["20", "1000", "binary"]),
            (&["--encoding", "binary", "--tick-hz", "auto"], Some(38.1), ["38", "499", "binary"]),
            (&["--tick-hz", "40"], None, ["40", "475", "json"]),
        ] {
            let all = contenders(&[&["--bare-bin", "d"], options].concat()).unwrap();
            let told = all[1].bare_environment(19_000.0, ticks_per_s);
            let values: Vec<&str> = told.iter().map(|(_, value)| &**value).collect();
            assert_eq!(values, environment);
            assert_eq!(
                told.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
                ["TICK_HZ", "FRAME_BYTES", "ENCODING"]
            );
        }
    }

    #[test]
    fn what_cannot_take_part_is_told() {
        assert!(contenders(&["--encoding", "batch", "--bare-bin", "d"]).is_err());
        assert!(contenders(&["--tick-hz", "auto", "--bare-bin", "d"]).is_err());
        assert!(contenders(&["--naive-bin", "a", "--colyseus-cmd", " "]).is_err());
    }
}
