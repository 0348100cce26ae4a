//! The programs that the checks need: how to tell whether one is there, and how to get it.

use std::path::Path;

use anyhow::{Result, bail};
use xshell::{Shell, cmd};

use crate::workspace::succeeds;

/// The oldest versions of Node.js that the page can be built with: of 20, and of 22 and all later ones.
const NODE_20_MIN: (u32, u32) = (20, 19);
const NODE_MIN: (u32, u32) = (22, 12);

/// A program that a check needs.
pub(crate) struct Program {
    /// What people call it.
    pub(crate) name: &'static str,
    probe: fn(&Shell) -> bool,
    source: Source,
}

/// Where a program comes from.
enum Source {
    /// Packages of Debian, which root may install.
    Debian(&'static [&'static str]),
    /// A component of the Rust toolchain.
    Rustup(&'static str),
    /// Something that its user has to choose, with the advice to give.
    User(&'static str),
}

pub(crate) static RUSTFMT: Program = Program {
    name: "rustfmt",
    probe: |shell| succeeds(cmd!(shell, "cargo fmt --version")),
    source: Source::Rustup("rustfmt"),
};

pub(crate) static CLIPPY: Program = Program {
    name: "clippy",
    probe: |shell| succeeds(cmd!(shell, "cargo clippy --version")),
    source: Source::Rustup("clippy"),
};

/// Cargo cannot link without a C compiler, so only the one for C++ may be missing.
pub(crate) static CXX: Program = Program {
    name: "a C++ compiler",
    probe: |shell| succeeds(cmd!(shell, "c++ --version")),
    source: Source::Debian(&["g++"]),
};

pub(crate) static NODE: Program = Program {
    name: "Node.js",
    probe: |shell| {
        let version = cmd!(shell, "node --version").quiet().ignore_stderr().read();
        version.is_ok_and(|version| node_is_new_enough(&version)) && succeeds(cmd!(shell, "npm --version"))
    },
    source: Source::User("install Node.js 20.19 or newer (of 22: 22.12) with npm, from https://nodejs.org"),
};

pub(crate) static REDIS: Program = Program {
    name: "redis-server",
    probe: |shell| succeeds(cmd!(shell, "redis-server --version")),
    source: Source::Debian(&["redis-server"]),
};

pub(crate) static CHROMIUM: Program = Program {
    name: "chromium",
    probe: |shell| succeeds(cmd!(shell, "chromium --version")),
    source: Source::Debian(&["chromium"]),
};

pub(crate) static PYTHON: Program = Program {
    name: "Python 3 with venv",
    probe: |shell| succeeds(cmd!(shell, "python3 -c 'import venv, ensurepip'")),
    source: Source::Debian(&["python3", "python3-venv"]),
};

pub(crate) static VALGRIND: Program = Program {
    name: "valgrind",
    probe: |shell| succeeds(cmd!(shell, "valgrind --version")),
    source: Source::Debian(&["valgrind"]),
};

impl Program {
    /// Whether the program is there and recent enough.
    pub(crate) fn is_there(&self, shell: &Shell) -> bool {
        (self.probe)(shell)
    }

    /// How to get the program, as an order to the reader.
    pub(crate) fn advice(&self) -> String {
        match self.source {
            Source::Debian(packages) => {
                format!("install {} (on Debian, as root: apt-get install {})", self.name, packages.join(" "))
            }
            Source::Rustup(component) => format!("run `rustup component add {component}`"),
            Source::User(advice) => advice.to_owned(),
        }
    }
}

/// Installs those of `programs` that are missing, as far as this machine allows it.
///
/// # Errors
/// When some are missing afterwards; the message names each and says how to get it.
pub(crate) fn install(shell: &Shell, programs: &[&'static Program]) -> Result<()> {
    let is_missing = |program: &&'static Program| !program.is_there(shell);
    let missing: Vec<_> = programs.iter().copied().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let attempts = [install_from_debian(shell, &missing), install_components(shell, &missing)];
    for error in attempts.into_iter().filter_map(Result::err) {
        println!("{error:#}");
    }
    let still_missing: Vec<_> = missing.into_iter().filter(is_missing).collect();
    if still_missing.is_empty() {
        return Ok(());
    }
    bail!("{}", complaint(&still_missing))
}

fn install_from_debian(shell: &Shell, missing: &[&Program]) -> Result<()> {
    let packages: Vec<&str> = missing
        .iter()
        .flat_map(|program| match program.source {
            Source::Debian(packages) => packages,
            Source::Rustup(_) | Source::User(_) => &[],
        })
        .copied()
        .collect();
    let is_debian = Path::new("/etc/debian_version").exists();
    let is_root = cmd!(shell, "id -u").quiet().ignore_stderr().read().is_ok_and(|id| id == "0");
    if packages.is_empty() || !is_debian || !is_root {
        return Ok(());
    }
    // A fresh machine has no package lists, and old lists name files that are gone.
    cmd!(shell, "apt-get update --quiet").run()?;
    cmd!(shell, "apt-get install --quiet --yes --no-install-recommends {packages...}")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()?;
    Ok(())
}

fn install_components(shell: &Shell, missing: &[&Program]) -> Result<()> {
    for program in missing {
        if let Source::Rustup(component) = program.source {
            cmd!(shell, "rustup component add {component}").run()?;
        }
    }
    Ok(())
}

/// What to tell someone who lacks `missing`: one line for each.
fn complaint(missing: &[&Program]) -> String {
    let line = |program: &&Program| format!("\n  {} is missing: {}", program.name, program.advice());
    format!("some programs are missing{}", missing.iter().map(line).collect::<String>())
}

fn node_is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim().trim_start_matches('v').split('.').map_while(|part| part.parse().ok());
    let version = numbers.next().zip(numbers.next());
    version.is_some_and(|version| version >= NODE_MIN || (NODE_20_MIN..(21, 0)).contains(&version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_odd_versions_of_node_are_refused() {
        let enough = ["v20.19.0", "v20.20.2", "v22.12.0", "v24.1.2\n"].map(|version| (version, true));
        let old = ["v18.20.4", "v20.18.3", "v21.7.3", "v22.11.0", "", "v22"].map(|version| (version, false));
        for (version, expected) in enough.into_iter().chain(old) {
            assert_eq!(node_is_new_enough(version), expected, "{version:?}");
        }
    }

    #[test]
    fn a_complaint_names_each_program_and_how_to_get_it() {
        let complaint = complaint(&[&CHROMIUM, &CLIPPY, &NODE]);
        let lines: Vec<_> = complaint.lines().collect();
        assert_eq!(lines.len(), 4, "{complaint}");
        assert!(lines[1].contains("chromium is missing") && lines[1].contains("apt-get install chromium"));
        assert!(lines[2].contains("rustup component add clippy"));
        assert!(lines[3].contains("nodejs.org"));
    }
}
