//! `loadtest`: an independent judge of multiplayer servers.
//!
//! It drives real Socket.IO sessions over websocket and counts what arrives, on any server that speaks the
//! events of `docs/PROTOCOL.md` marked *seed*, and that contract's pose frames if asked to; or, to compare with,
//! sessions of a Colyseus room. It shares no code with the server that it was made for, but for the contract itself. How it measures is written in
//! `docs/PERFORMANCE.md`.
//!
//! Exit status: 0 if all is well; 1 if the server has a fault or misses what was asked for; 2 if the run could
//! not be completed.

mod binary;
mod capacity;
mod client;
mod colyseus;
mod compare;
mod crowd;
mod figures;
mod html;
mod http;
mod idle;
mod live;
mod meter;
mod objective;
mod options;
mod output;
mod pacer;
mod polling;
mod process;
mod report;
mod scenario;
mod schedule;
mod sender;
mod session;
mod stamp;
mod steady;
mod survey;
mod tally;
mod timeline;
mod walk;
mod websocket;
mod witness;
mod worker;
mod workers;

use std::fmt::Display;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;

use crate::live::Live;
use crate::options::{Cli, Command, SteadyOptions};
use crate::process::Process;
use crate::scenario::{churn, malformed, objects, replay, slow, storm};
use crate::steady::Run;

/// The same allocator as the servers that are compared.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // There is nobody to tell if this fails.
            let _ = writeln!(stderr(), "loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Does what was asked for; `false` if the server has a fault.
fn run(cli: Cli) -> Result<bool> {
    match cli.command {
        Some(Command::Idle(options)) => {
            let report = idle::run(&options)?;
            print(&report, options.json)?;
            Ok(report.disconnects.is_empty())
        }
        Some(Command::Compare(options)) => {
            compare::running::end_with_this_process()?;
            let comparison = compare::run(&options, |round| drop(writeln!(stderr(), "{round}")))?;
            print(&comparison, options.json)?;
            Ok(comparison.shortfalls.is_empty())
        }
        Some(Command::Survey(options)) => survey::run(&options),
        Some(Command::Figures) => {
            write!(stdout(), "{}", figures::list())?;
            Ok(true)
        }
        Some(Command::Churn(options)) => {
            let output = &options.scene.output;
            output::check(output, "churn")?;
            output::deliver(&churn::run(&options, &Live::new())?, output)
        }
        Some(Command::Storm(options)) => {
            let output = &options.scene.output;
            output::check(output, "storm")?;
            output::deliver(&storm::run(&options, &Live::new())?, output)
        }
        Some(Command::SlowReaders(options)) => {
            let output = &options.guest.output;
            output::check(output, "slow-readers")?;
            output::deliver(&slow::run(&options, &Live::new())?, output)
        }
        Some(Command::Malformed(options)) => {
            let output = &options.guest.output;
            output::check(output, "malformed")?;
            output::deliver(&malformed::run(&options, &Live::new())?, output)
        }
        Some(Command::Objects(options)) => {
            let output = &options.scene.output;
            output::check(output, "objects")?;
            output::deliver(&objects::run(&options, &Live::new())?, output)
        }
        Some(Command::Replay(options)) => {
            let output = &options.scene.output;
            output::check(output, "replay")?;
            output::deliver(&replay::run(&options, &Live::new())?, output)
        }
        Some(Command::Steady(options)) => run_steady(&options),
        None => run_steady(&cli.steady),
    }
}

fn run_steady(options: &SteadyOptions) -> Result<bool> {
    let SteadyOptions { url, protocol, load, pid, pin, capacity, output } = options;
    let run = Run {
        url: url.as_deref().context("no --url")?,
        load,
        protocol: *protocol,
        judged: true,
        server: pid.map(Process),
        cores: pin,
        guests: 0,
    };
    output::check(output, if capacity.find_capacity { "--find-capacity" } else { "steady" })?;
    if capacity.find_capacity {
        return output::deliver(&capacity::run(&run, capacity, &Live::new())?, output);
    }
    output::deliver(&steady::run(&run, &Live::new())?, output)
}

fn print<T: Display + Serialize>(report: &T, json: bool) -> Result<()> {
    if json {
        writeln!(stdout(), "{}", serde_json::to_string_pretty(report)?)?;
    } else {
        write!(stdout(), "{report}")?;
    }
    Ok(())
}
