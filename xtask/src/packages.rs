//! Installs the packages of npm and Python that a folder asks for, once per version of its lock file.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::workspace::{root, without_server_settings};

/// The folder of a virtual environment below the folder that asks for it.
const VENV: &str = ".venv";
/// The copy of the lock file that the installed packages came from; it lies among them, so that it goes
/// when they go.
const STAMP: &str = ".installed-from";

/// Installs what `folder`'s `package-lock.json` lists, unless that very list is installed already.
pub(crate) fn npm_ci(shell: &Shell, folder: &str) -> Result<()> {
    let folder = root().join(folder);
    once_per_lock(&folder.join("package-lock.json"), &folder.join("node_modules"), || {
        let _there = shell.push_dir(&folder);
        without_server_settings(cmd!(shell, "npm ci --no-audit --no-fund")).run()?;
        Ok(())
    })
}

/// Makes `folder/.venv` with what `folder/requirements.txt` lists, unless it is there already.
pub(crate) fn python_venv(shell: &Shell, folder: &str) -> Result<()> {
    let folder = root().join(folder);
    let venv = folder.join(VENV);
    let requirements = folder.join("requirements.txt");
    once_per_lock(&requirements, &venv, || {
        let python = venv.join("bin").join("python");
        cmd!(shell, "python3 -m venv --clear {venv}").run()?;
        cmd!(shell, "{python} -m pip install --quiet --disable-pip-version-check -r {requirements}").run()?;
        Ok(())
    })
}

/// Runs `install` unless `installed` is stamped with the text that `lock` has now, and stamps it afterwards.
fn once_per_lock(lock: &Path, installed: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let wanted = fs::read_to_string(lock).with_context(|| format!("{} cannot be read", lock.display()))?;
    let stamp = installed.join(STAMP);
    if fs::read_to_string(&stamp).is_ok_and(|present| present == wanted) {
        return Ok(());
    }
    install()?;
    // A list without packages leaves no folder behind.
    fs::create_dir_all(installed)?;
    fs::write(&stamp, wanted).with_context(|| format!("{} cannot be written", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_installed_once_per_lock_file() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("package-lock.json");
        let installed = folder.path().join("node_modules");
        let installs = || {
            let mut installs = 0;
            let install = || {
                installs += 1;
                Ok(())
            };
            once_per_lock(&lock, &installed, install).map(|()| installs)
        };
        assert!(installs().is_err(), "a folder without a lock file is an error, not nothing to do");
        fs::write(&lock, "one").unwrap();
        assert_eq!(installs().unwrap(), 1, "never installed");
        assert_eq!(installs().unwrap(), 0, "installed from this lock file");
        fs::write(&lock, "two").unwrap();
        assert_eq!(installs().unwrap(), 1, "the lock file changed");
        fs::remove_dir_all(&installed).unwrap();
        assert_eq!(installs().unwrap(), 1, "the packages went away");
    }

    #[test]
    fn a_failed_installation_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("package-lock.json");
        fs::write(&lock, "one").unwrap();
        let installed = folder.path().join("node_modules");
        assert!(once_per_lock(&lock, &installed, || anyhow::bail!("no network")).is_err());
        let mut tried_again = false;
        once_per_lock(&lock, &installed, || {
            tried_again = true;
            Ok(())
        })
        .unwrap();
        assert!(tried_again);
    }
}
