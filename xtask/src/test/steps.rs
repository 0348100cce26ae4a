//! The steps, in the order that finds a mistake soonest and compiles everything once.
//!
//! Clippy, the tests and the benches share the `dev` builds of all dependencies, the binaries and what is counted share one
//! `release` build; only loom and the fuzz targets, whose compiler flags differ, have target folders of their own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

use super::{Step, fuzz};
use crate::instructions;
use crate::packages;
use crate::page;
use crate::programs::{CHROMIUM, CLIPPY, CXX, NODE, PYTHON, REDIS, RUSTFMT, VALGRIND};
use crate::workspace::{release_dir, root, succeeds, target_dir, without_server_settings};

/// After this many milliseconds a JavaScript test counts as hung. It is no expectation: a test that can tell sooner does so.
const NODE_TEST_LIMIT: &str = "--test-timeout=600000";

pub(super) static STEPS: &[Step] = &[
    Step { name: "format", about: "rustfmt", needs: &[], programs: &[&RUSTFMT], run: format },
    Step {
        name: "tidy",
        about: "rules for the source and the documents",
        needs: &[],
        programs: &[],
        run: tidy,
    },
    Step { name: "clippy", about: "lints, warnings denied", needs: &[], programs: &[&CLIPPY], run: clippy },
    Step { name: "docs", about: "cargo doc, warnings denied", needs: &[], programs: &[], run: docs },
    Step {
        name: "rust-tests",
        about: "unit and integration tests",
        needs: &[],
        programs: &[&REDIS],
        run: rust_tests,
    },
    Step {
        name: "doc-tests",
        about: "examples in the documentation",
        needs: &[],
        programs: &[],
        run: doc_tests,
    },
    Step {
        name: "web-packages",
        about: "npm ci in web/",
        needs: &[],
        programs: &[&NODE],
        run: |shell| packages::npm_ci(shell, "web"),
    },
    Step {
        name: "web-types",
        about: "the page's types",
        needs: &["web-packages"],
        programs: &[&NODE],
        run: |shell| web_script(shell, "typecheck"),
    },
    Step {
        name: "web-tests",
        about: "the page's unit tests",
        needs: &["web-packages"],
        programs: &[&NODE],
        run: |shell| web_script(shell, "test"),
    },
    Step {
        name: "web-build",
        about: "the page itself",
        needs: &["web-packages"],
        programs: &[&NODE],
        run: page::build,
    },
    Step {
        name: "protocol-js",
        about: "the same packets through the parser of npm",
        needs: &[],
        programs: &[&NODE],
        run: protocol_js,
    },
    Step {
        name: "build",
        about: "the binaries in release: copresence, the echo server, and what is counted",
        needs: &[],
        programs: &[],
        run: instructions::build,
    },
    Step {
        name: "e2e-packages",
        about: "npm ci and a virtual environment in e2e/",
        needs: &[],
        programs: &[&NODE, &PYTHON],
        run: e2e_packages,
    },
    Step {
        name: "conformance",
        about: "Engine.IO and Socket.IO, case by case, against the echo server",
        needs: &["build", "e2e-packages"],
        programs: &[&NODE],
        run: conformance,
    },
    Step {
        name: "e2e",
        about: "the binary with stock clients and in a browser",
        needs: &["build", "e2e-packages", "web-build"],
        programs: &[&NODE, &PYTHON, &CHROMIUM, &REDIS],
        run: e2e,
    },
    Step { name: "benches", about: "every benchmark, once", needs: &[], programs: &[], run: benches },
    Step {
        name: "instructions",
        about: "how many instructions the hot parts take",
        needs: &["build"],
        programs: &[&VALGRIND],
        run: instructions::check,
    },
    Step { name: "loom", about: "all interleavings of the pose slot", needs: &[], programs: &[], run: loom },
    Step {
        name: "fuzz",
        about: "a short run of every fuzz target",
        needs: &[],
        programs: &[&CXX],
        run: fuzz::run,
    },
];

fn format(shell: &Shell) -> Result<()> {
    Ok(cmd!(shell, "cargo fmt --all --check").run()?)
}

fn tidy(shell: &Shell) -> Result<()> {
    Ok(cmd!(shell, "cargo test --quiet --locked --package xtask").run()?)
}

fn clippy(shell: &Shell) -> Result<()> {
    Ok(cmd!(shell, "cargo clippy --workspace --all-targets --locked -- --deny warnings").run()?)
}

/// Private items as well: most of what there is to read in a server is private.
fn docs(shell: &Shell) -> Result<()> {
    cmd!(shell, "cargo doc --workspace --no-deps --document-private-items --locked")
        .env("RUSTDOCFLAGS", "--deny warnings")
        .run()?;
    Ok(())
}

/// With nextest when it is there. Without it Cargo's own runner does, since building nextest would take
/// longer than it saves.
fn rust_tests(shell: &Shell) -> Result<()> {
    let with_nextest = cmd!(
        shell,
        "cargo nextest run --config-file xtask/nextest.toml --workspace --exclude xtask --no-fail-fast --locked"
    );
    let without = cmd!(
        shell,
        "cargo test --workspace --exclude xtask --lib --bins --tests --examples --no-fail-fast --locked"
    );
    let has_nextest = succeeds(cmd!(shell, "cargo nextest --version"));
    let tests = if has_nextest { with_nextest } else { without };
    Ok(without_server_settings(tests).run()?)
}

fn doc_tests(shell: &Shell) -> Result<()> {
    let tests = cmd!(shell, "cargo test --workspace --doc --no-fail-fast --locked");
    Ok(without_server_settings(tests).run()?)
}

fn web_script(shell: &Shell, script: &str) -> Result<()> {
    let _there = shell.push_dir(root().join("web"));
    Ok(without_server_settings(cmd!(shell, "npm run {script}")).run()?)
}

fn protocol_js(shell: &Shell) -> Result<()> {
    packages::npm_ci(shell, "protocol/js")?;
    node_tests(shell, "protocol/js", &[], &[])
}

fn e2e_packages(shell: &Shell) -> Result<()> {
    packages::npm_ci(shell, "e2e")?;
    packages::python_venv(shell, "e2e")
}

fn conformance(shell: &Shell) -> Result<()> {
    let echo = release_dir()?.join("examples").join("echo");
    node_tests(shell, "e2e/conformance", &[], &[("COPRESENCE_ECHO_BIN", echo)])
}

fn e2e(shell: &Shell) -> Result<()> {
    let server = release_dir()?.join("copresence");
    node_tests(shell, "e2e", &["conformance"], &[("COPRESENCE_BIN", server)])
}

/// For whether they work, once each, in the build that the tests have made: nobody reads the times, and optimising nine programs
/// takes minutes.
fn benches(shell: &Shell) -> Result<()> {
    let benches = cmd!(shell, "cargo test --workspace --exclude xtask --bench '*' --locked --quiet");
    Ok(without_server_settings(benches).run()?)
}

fn loom(shell: &Shell) -> Result<()> {
    let target = target_dir()?.join("loom");
    let loom = |extra: &'static [&'static str]| {
        cmd!(shell, "cargo test --package engine --release --lib --locked loom_ -- {extra...}")
            .env("RUSTFLAGS", "--cfg loom_model")
            .env("CARGO_TARGET_DIR", &target)
    };
    // A filter that matches nothing passes, so the tests are counted first.
    let tests = loom(&["--list"]).read()?;
    ensure!(tests.lines().any(|line| line.ends_with(": test")), "engine has no test named loom_…");
    Ok(loom(&[]).run()?)
}

/// Runs the tests of `folder` and the folders below it, one file at a time: they share two cores with the
/// servers that they start.
fn node_tests(shell: &Shell, folder: &str, except: &[&str], env: &[(&str, PathBuf)]) -> Result<()> {
    let mut files = Vec::new();
    collect_node_tests(&root().join(folder), except, &mut files)
        .with_context(|| format!("{folder} cannot be read"))?;
    ensure!(!files.is_empty(), "{folder} has no *.test.js");
    files.sort();
    let _there = shell.push_dir(folder);
    let options = ["--test-concurrency=1", "--test-reporter=spec", NODE_TEST_LIMIT];
    let tests = cmd!(shell, "node --test {options...} {files...}");
    Ok(without_server_settings(tests).envs(env.iter().cloned()).run()?)
}

fn collect_node_tests(folder: &Path, except: &[&str], files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            let is_ours =
                !name.starts_with('.') && name != "node_modules" && !except.contains(&name.as_str());
            if is_ours {
                collect_node_tests(&entry.path(), except, files)?;
            }
        } else if [".test.js", ".test.mjs"].iter().any(|end| name.ends_with(end)) {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_tests_are_found_below_a_folder_but_not_in_packages() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            "rooms.test.js",
            "deep/poses.test.mjs",
            "helper.js",
            "conformance/ping.test.js",
            "node_modules/x/x.test.js",
            ".venv/y.test.js",
        ];
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let mut found = Vec::new();
        collect_node_tests(folder.path(), &["conformance"], &mut found).unwrap();
        found.sort();
        assert_eq!(found, ["deep/poses.test.mjs", "rooms.test.js"].map(|file| folder.path().join(file)));
        assert!(collect_node_tests(&folder.path().join("absent"), &[], &mut found).is_err());
    }
}
