//! The project's commands, run as `cargo xtask <command>`.
//!
//! `run` builds and starts the server; `test` installs what the checks need and runs every one of them;
//! `instructions` counts what the server's hot parts take, `compare` measures the server beside others.
//! The rules that hold for the source itself are the module `tidy`, an ordinary test of this crate.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks through them")]

mod compare;
mod instructions;
mod packages;
mod page;
mod programs;
mod run;
mod test;
#[cfg(test)]
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Copresence's commands", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the page and the server, and start the server.
    Run {
        /// Arguments for the server: `cargo xtask run -- --help` lists them.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Install what the checks need, then run every check and test.
    Test {
        /// List the steps instead of running them.
        #[arg(long)]
        list: bool,
        /// Run this step and the ones it needs; may be given more than once.
        #[arg(long, value_name = "STEP")]
        only: Vec<String>,
    },
    /// Run one step of the test without those that it needs.
    #[command(hide = true)]
    Step { name: String },
    /// Count the instructions of the server's hot parts and compare them with benches/instructions.txt.
    Instructions {
        /// Write the counts into the file instead.
        #[arg(long)]
        accept: bool,
    },
    /// Measure the server beside others, and write tables and charts into docs/. Wants two idle cores.
    Compare {
        /// Fewer sizes and shorter windows: less than six minutes after the build, where all of it takes most of an hour.
        #[arg(long)]
        quick: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run { args } => run::run(&args),
        Command::Test { list: true, .. } => {
            test::list();
            Ok(())
        }
        Command::Test { list: false, only } => test::test(&only),
        Command::Step { name } => test::step(&name),
        Command::Compare { quick } => compare::compare(quick),
        Command::Instructions { accept } => instructions::instructions(accept),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
