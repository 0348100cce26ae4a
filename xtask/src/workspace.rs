//! Where things are, and the shell that commands run in.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::{Cmd, Shell};

/// Settings of the server, which a developer may have set for their own use. A check must not pick up their
/// Redis or their secret, and npm leaves out the development packages when `NODE_ENV` says production.
pub(crate) const SERVER_SETTINGS: [&str; 5] = ["PORT", "JWT_SECRET", "REDIS_URL", "DATA_DIR", "NODE_ENV"];

/// The workspace's root folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// The folder that Cargo builds into, whichever way it was configured: this program lies in its `debug`.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program lies")?;
    let target = program.ancestors().nth(2).context("this program lies outside a target folder")?;
    Ok(target.to_path_buf())
}

/// The folder of what was built in release.
pub(crate) fn release_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("release"))
}

/// A shell in the workspace's root.
pub(crate) fn shell() -> Result<Shell> {
    let shell = Shell::new()?;
    shell.change_dir(root());
    Ok(shell)
}

/// The same command without the server's settings in its environment.
pub(crate) fn without_server_settings(command: Cmd<'_>) -> Cmd<'_> {
    SERVER_SETTINGS.iter().fold(command, |command, name| command.env_remove(name))
}

/// Whether the command starts and succeeds; what it prints is dropped.
pub(crate) fn succeeds(command: Cmd<'_>) -> bool {
    command.quiet().ignore_stdout().ignore_stderr().run().is_ok()
}
