//! `copresence-worker`: geometry tasks over HTTP.

use std::process::ExitCode;

use clap::Parser as _;
use worker::config::Config;

fn main() -> ExitCode {
    match worker::run::run(Config::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => worker::run::fail(&error),
    }
}
