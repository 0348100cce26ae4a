//! `cargo xtask run`: from a clone to a server that people can visit.

use std::process::Command;

use anyhow::{Context, Result};

use crate::page;
use crate::workspace::{root, shell};

/// Builds the page and the server, and becomes the server.
///
/// It runs in the workspace's root, where its default folders are, and with the environment as it is: every
/// setting means what it means to the binary itself. Signals reach it directly.
pub(crate) fn run(args: &[String]) -> Result<()> {
    page::build_if_stale(&shell()?);
    let mut server = Command::new("cargo");
    server.args(["run", "--release", "--locked", "--package", "server", "--bin", "copresence", "--"]);
    server.args(args).current_dir(root());
    replace_this_process(server)
}

/// Becomes `command`, so that signals reach it directly. Comes back only if that is not possible.
#[cfg(unix)]
pub(crate) fn replace_this_process(mut command: Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    // It only comes back when it could not start.
    let error = command.exec();
    Err(error).with_context(|| format!("{} cannot be started", command.get_program().display()))
}

#[cfg(not(unix))]
pub(crate) fn replace_this_process(mut command: Command) -> Result<()> {
    let status = command.status();
    let status = status.with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    std::process::exit(status.code().unwrap_or(1));
}
