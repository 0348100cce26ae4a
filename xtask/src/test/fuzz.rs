//! Short runs of the fuzz targets, on the stable compiler.

use std::fs;

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

use crate::workspace::root;

/// How long each target runs. Enough to see that it works and to find what a change broke at the surface; a
/// search in depth is a matter of hours, and of fuzz/README.md.
const SECONDS_PER_TARGET: u32 = 10;

/// What `cargo fuzz` passes to the compiler, except for the address sanitizer, which only nightly has: counters
/// and comparisons for libFuzzer to steer by, and the checks of a debug build.
const RUSTFLAGS: &[&str] = &[
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Ccodegen-units=1",
];

/// Builds all fuzz targets and runs each for [`SECONDS_PER_TARGET`].
pub(super) fn run(shell: &Shell) -> Result<()> {
    let targets = targets()?;
    // With the platform named, build scripts and macros are built without the counters, which they cannot link.
    let host = cmd!(shell, "rustc --print host-tuple").quiet().read()?;
    let fuzz = root().join("fuzz");
    let built = fuzz.join("target");
    let _there = shell.push_dir(&fuzz);
    cmd!(shell, "cargo build --release --locked --bins --target {host}")
        .env("RUSTFLAGS", RUSTFLAGS.join(" "))
        .env("CARGO_TARGET_DIR", &built)
        .run()?;
    for target in targets {
        let program = built.join(&host).join("release").join(&target);
        let corpus = fuzz.join("corpus").join(&target);
        let artifacts = fuzz.join("artifacts").join(&target);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        let limit = format!("-max_total_time={SECONDS_PER_TARGET}");
        let prefix = format!("-artifact_prefix={}/", artifacts.display());
        let dictionary = format!("-dict={}", fuzz.join("json.dict").display());
        let seeds = fuzz.join("seeds").join(&target);
        let options = ["-rss_limit_mb=512", "-timeout=5", "-print_final_stats=1"];
        cmd!(shell, "{program} {limit} {prefix} {dictionary} {options...} {corpus} {seeds}").run()?;
    }
    Ok(())
}

/// The names of the fuzz targets: one file each.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz").join("fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let mut targets: Vec<String> =
        rust.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    targets.sort();
    ensure!(!targets.is_empty(), "{} has no targets", folder.display());
    Ok(targets)
}
