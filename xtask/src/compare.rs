//! `cargo xtask compare`: this server beside others, on this machine, into the documents.
//!
//! It builds, installs, notes versions, and leaves the rest to `loadtest survey`, which it becomes: so that a signal
//! reaches whoever has to end the servers.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

use crate::packages::npm_ci;
use crate::programs::NODE;
use crate::run::replace_this_process;
use crate::workspace::{release_dir, root, shell, succeeds, without_server_settings};

const NODE_RELAY: &str = "loadtest/relays/node";
const BUN: &str = "loadtest/relays/bun";
const COLYSEUS: &str = "loadtest/relays/colyseus";
/// Below Bun's folder.
const BUN_PROGRAM: &str = "node_modules/.bin/bun";
/// What gets the findings.
const DOCUMENT: &str = "docs/PERFORMANCE.md";
const CHARTS: &str = "docs/charts";
const FINDINGS: &str = "docs/charts/comparison.json";

/// How long and how often. The quick one takes about six minutes with both of its cores to itself: it begins nothing
/// after `--within`, and what has begun by then ends soon after even if a server hangs. Whoever is half a second late is
/// not tried with more, for it is time that others need.
const QUICK: &str = "--sizes 25,100,200,1000 --warmup 2s --duration 2s --hopeless 500ms --steps 6 --precision 0.2 --within 335s";
const FULL: &str = "--warmup 3s --duration 8s --rounds 3";
/// The same for both: people spread as in a crowd, of whom everybody hears of everybody within about a second.
const LOAD: &str = "--area 200 --hz 20 --max-gap 1500ms";

/// What the others need is installed, or why they are left out.
struct Others {
    options: Vec<String>,
    facts: Vec<String>,
}

impl Others {
    fn fact(&mut self, name: &str, text: impl AsRef<str>) {
        self.facts.push(format!("{name}: {}", text.as_ref().trim()));
    }

    fn take(&mut self, option: &str, value: impl Into<String>) {
        self.options.extend([option.to_owned(), value.into()]);
    }

    /// Takes somebody in who is ready, or says why not.
    fn take_or_leave(&mut self, name: &str, option: &str, ready: Result<String>) {
        match ready {
            Ok(command) => self.take(option, command),
            Err(error) => {
                println!("{name} is left out: {error:#}");
                // The last line of what a program has said is enough for a document.
                let why = format!("{error:#}").lines().last().unwrap_or_default().to_owned();
                self.take("--left-out", format!("{name}: {why}"));
            }
        }
    }
}

/// Builds all that takes part and has it measured.
///
/// # Errors
/// If this server or the load cannot be built. Others that are not there are left out.
pub(crate) fn compare(quick: bool) -> Result<()> {
    let shell = shell()?;
    build(&shell)?;
    let mut others = Others { options: Vec::new(), facts: Vec::new() };
    note_machine(&shell, &mut others, quick)?;
    gather(&shell, &mut others);
    let release = release_dir()?;
    let mut survey = Command::new(release.join("loadtest"));
    survey.current_dir(root()).arg("survey");
    for (option, program) in
        [("--server-bin", "copresence"), ("--naive-bin", "examples/naive_relay"), ("--bare-bin", "bare_loop")]
    {
        survey.arg(option).arg(release.join(program));
    }
    survey.args(others.options);
    for fact in others.facts {
        survey.args(["--fact", &fact]);
    }
    survey.args(if quick { QUICK } else { FULL }.split(' ')).args(LOAD.split(' '));
    survey.args(["--json", FINDINGS, "--document", DOCUMENT, "--charts", CHARTS]);
    for setting in crate::workspace::SERVER_SETTINGS {
        survey.env_remove(setting);
    }
    replace_this_process(survey)
}

fn build(shell: &Shell) -> Result<()> {
    let programs = "-p server --bin copresence -p loadtest --bin loadtest --example naive_relay -p benches --bin bare_loop";
    let programs = programs.split(' ');
    without_server_settings(cmd!(shell, "cargo build --release --locked {programs...}")).run()?;
    Ok(())
}

/// What this runs on, and what it is.
fn note_machine(shell: &Shell, others: &mut Others, quick: bool) -> Result<()> {
    let quick = if quick { " --quick" } else { "" };
    others.fact("command", format!("cargo xtask compare{quick}"));
    let commit = cmd!(shell, "git describe --always --dirty --abbrev=12").quiet().ignore_stderr().read();
    let commit = commit.map_or_else(|_| "unknown".to_owned(), |commit| commit.replace("-dirty", ", changed"));
    others.fact("Copresence", format!("{} (commit {commit})", env!("CARGO_PKG_VERSION")));
    let cores = std::thread::available_parallelism()?;
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| cpu_model(&text));
    others.fact("machine", format!("{cores} cores of {}", model.as_deref().unwrap_or("an unknown CPU")));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| "unknown".to_owned());
    others.fact("kernel", format!("{} {}", std::env::consts::OS, kernel.trim()));
    others.fact("rustc", cmd!(shell, "rustc --version").quiet().read()?);
    let lock = fs::read_to_string(root().join("Cargo.lock")).context("Cargo.lock cannot be read")?;
    others.fact("socketioxide", locked_version(&lock, "socketioxide").unwrap_or("unknown"));
    Ok(())
}

/// Has everybody who is not Rust installed.
fn gather(shell: &Shell, others: &mut Others) {
    let there = || -> Result<()> {
        ensure!(NODE.is_there(shell), "{}", NODE.advice());
        Ok(())
    };
    let install = |folder: &str| there().and_then(|()| npm_ci(shell, folder));
    if let Ok(version) = cmd!(shell, "node --version").quiet().ignore_stderr().read() {
        others.fact("Node.js", version);
    }
    let relay = || install(NODE_RELAY).map(|()| format!("{NODE_RELAY}/relay.js"));
    let node = relay().map(|relay| format!("node {relay}"));
    if node.is_ok() {
        note_package(others, NODE_RELAY, "socket.io");
    }
    others.take_or_leave("the naive relay on Node.js", "--node-cmd", node);
    others.take_or_leave(
        "the naive relay on Bun",
        "--bun-cmd",
        relay().and_then(|relay| with_bun(shell, &relay)),
    );
    if let Ok(version) = cmd!(shell, "{BUN}/{BUN_PROGRAM} --version").quiet().ignore_stderr().read() {
        others.fact("Bun", version);
    }
    let colyseus = install(COLYSEUS).map(|()| format!("node {COLYSEUS}/index.js"));
    if colyseus.is_ok() {
        for package in ["@colyseus/core", "@colyseus/schema", "@colyseus/ws-transport"] {
            note_package(others, COLYSEUS, package);
        }
    }
    others.take_or_leave("Colyseus", "--colyseus-cmd", colyseus);
}

fn with_bun(shell: &Shell, relay: &str) -> Result<String> {
    npm_ci(shell, BUN).context("npm does not install Bun")?;
    let bun = format!("{BUN}/{BUN_PROGRAM}");
    ensure!(
        succeeds(cmd!(shell, "{bun} --version")),
        "npm's package `bun` is there, but its program does not run here"
    );
    Ok(format!("{bun} {relay}"))
}

/// The version of an installed package.
fn note_package(others: &mut Others, folder: &str, name: &str) {
    let file = root().join(folder).join("node_modules").join(name).join("package.json");
    let text = fs::read_to_string(Path::new(&file)).unwrap_or_default();
    others.fact(name, package_version(&text).unwrap_or("unknown"));
}

/// The version in a `package.json`. npm writes a member on a line of its own.
fn package_version(package: &str) -> Option<&str> {
    let line = package.lines().find_map(|line| line.trim().strip_prefix("\"version\":"))?;
    Some(line.trim().trim_end_matches(',').trim_matches('"'))
}

/// The version of a package in `Cargo.lock`.
fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    after.split('"').next()
}

/// What `/proc/cpuinfo` calls the first core.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_where_they_are_written() {
        let package = "{\n  \"name\": \"socket.io\",\n  \"version\": \"4.8.4\",\n  \"main\": \"x\"\n}\n";
        assert_eq!(package_version(package), Some("4.8.4"));
        assert_eq!(package_version("{}"), None);
        let lock = "[[package]]\nname = \"socketioxide-core\"\nversion = \"0.17.0\"\n\n[[package]]\nname = \"socketioxide\"\nversion = \"0.18.9\"\n";
        assert_eq!(locked_version(lock, "socketioxide"), Some("0.18.9"));
        assert_eq!(locked_version(lock, "tokio"), None);
    }

    #[test]
    fn a_processor_has_a_name_if_the_kernel_knows_one() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 207\nmodel name\t: A CPU @ 2 GHz\n\nprocessor\t: 1\n";
        assert_eq!(cpu_model(cpuinfo).as_deref(), Some("A CPU @ 2 GHz"));
        assert_eq!(cpu_model("processor: 0\n"), None);
    }

    #[test]
    fn whoever_is_not_there_is_left_out_with_a_reason_on_one_line() {
        let mut others = Others { options: Vec::new(), facts: Vec::new() };
        others.take_or_leave("Bun", "--bun-cmd", Err(anyhow::anyhow!("npm says\nit has it not")));
        others.take_or_leave("Colyseus", "--colyseus-cmd", Ok("node c.js".to_owned()));
        assert_eq!(others.options, ["--left-out", "Bun: it has it not", "--colyseus-cmd", "node c.js"]);
        others.fact("rustc", "rustc 1.96.0\n");
        assert_eq!(others.facts, ["rustc: rustc 1.96.0"]);
    }

    #[test]
    fn the_document_has_a_place_for_the_findings() {
        let document = fs::read_to_string(root().join(DOCUMENT)).unwrap();
        let markers = document.lines().filter(|line| line.starts_with("<!-- survey: "));
        assert_eq!(markers.count(), 2, "loadtest/src/survey/document.rs has them");
    }
}
