//! Recordings into a file and out of one.

use std::process::ExitCode;

use crate::config::ReplayCommand;

/// Does what was asked for, and tells on standard error how it goes.
pub fn run(_command: &ReplayCommand) -> ExitCode {
    ExitCode::FAILURE
}
