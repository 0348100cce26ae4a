//! `cargo xtask instructions`: how many instructions the server's hot parts take, against `benches/instructions.txt`.
//!
//! Times say little on a shared machine; counts are the same each time.

mod counts;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use xshell::{Shell, cmd};

use crate::programs::{self, VALGRIND};
use crate::workspace::{release_dir, root, shell, target_dir};
use counts::{Change, Counts, compare};

/// What `benches/src/bin/instructions.rs` calls the function whose instructions count. It may have a suffix.
const COUNTED: &str = "*instructions::counted*";

const ADVICE: &str = "if that is meant, `cargo xtask instructions --accept` writes the new counts; commit them with the change";

/// Counts, and compares with the file or, with `accept`, writes it.
///
/// # Errors
/// When valgrind is missing, the parts cannot be built or counted, or a count is not the file's.
pub(crate) fn instructions(accept: bool) -> Result<()> {
    let shell = shell()?;
    programs::install(&shell, &[&VALGRIND])?;
    build(&shell)?;
    if accept { write(&count(&shell)?) } else { check(&shell) }
}

/// Compares the parts as they are built with the file.
///
/// # Errors
/// When they cannot be counted, or a count is not the file's.
pub(crate) fn check(shell: &Shell) -> Result<()> {
    let path = file();
    let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let before = Counts::parse(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let now = count(shell)?;
    judge(&before, &now)
}

/// Builds what is counted just as the tests build the server, in one go with it: all that both use is built once, and
/// with the same features.
pub(crate) fn build(shell: &Shell) -> Result<()> {
    let packages = ["--package", "server", "--package", "benches"];
    let targets = ["--bin", "copresence", "--bin", "instructions", "--example", "echo"];
    Ok(cmd!(shell, "cargo build --release --locked {packages...} {targets...}").run()?)
}

fn file() -> PathBuf {
    root().join("benches").join("instructions.txt")
}

fn write(counts: &Counts) -> Result<()> {
    let (path, text) = (file(), counts.to_text());
    print!("{text}");
    fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
}

fn judge(before: &Counts, now: &Counts) -> Result<()> {
    let verdicts = compare(before, now);
    println!("{:<16} {:>12} {:>12}", "instructions", "file", "now");
    verdicts.iter().for_each(|verdict| println!("{verdict}"));
    let differences = before.differences(now);
    differences.iter().for_each(|difference| println!("{difference}"));
    if !before.is_comparable(now) {
        println!("not compared: the file's counts are another platform's");
        return Ok(());
    }
    if !verdicts.iter().any(counts::Verdict::is_bad) {
        return Ok(());
    }
    if !differences.is_empty() {
        println!("other programs may be all there is to it: then accept the counts in a commit of their own");
    }
    if verdicts.iter().any(|verdict| verdict.change == Change::Shrunk) {
        println!("something takes less than before: accept it, so that it stays so");
    }
    let bad: Vec<_> = verdicts.iter().filter(|it| it.is_bad()).map(|it| it.name.as_str()).collect();
    bail!("{} took another number of instructions; {ADVICE}", bad.join(", "))
}

fn count(shell: &Shell) -> Result<Counts> {
    let program = release_dir()?.join("instructions");
    let names = cmd!(shell, "{program}").quiet().read()?;
    let out = target_dir()?.join("instructions");
    fs::create_dir_all(&out).with_context(|| format!("{} cannot be made", out.display()))?;
    let mut counts = Counts { with: versions(shell)?, ..Counts::default() };
    for name in names.lines() {
        let profile = out.join(format!("{}.out", name.replace('/', "-")));
        counts.parts.insert(name.to_owned(), count_part(shell, &program, name, &profile)?);
    }
    ensure!(!counts.parts.is_empty(), "{} has no parts", program.display());
    Ok(counts)
}

/// Instructions of one call of a part. Each part has a process of its own, so that what one leaves behind, in the heap above
/// all, does not change what the next one counts.
fn count_part(shell: &Shell, program: &Path, name: &str, profile: &Path) -> Result<u64> {
    let counted = format!("--toggle-collect={COUNTED}");
    let to = format!("--callgrind-out-file={}", profile.display());
    // The allocator gives memory back by the clock, and what that takes would be counted now and then.
    let calls = cmd!(shell, "valgrind --quiet --tool=callgrind {counted} {to} {program} {name}")
        .env("MIMALLOC_PURGE_DELAY", "-1")
        .quiet()
        .read()?;
    let calls: u64 = calls.trim().parse().with_context(|| format!("`{calls}` is no number of calls"))?;
    let text = fs::read_to_string(profile).with_context(|| format!("{} is missing", profile.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total.context("callgrind has written no total")?.trim().parse()?;
    ensure!(total > 0 && calls > 0, "nothing of {name} was counted");
    Ok(total / calls)
}

/// What counts depend on: the platform, the compilers of Rust and of C (the allocator's and zstd's), the C library, whose
/// `memcpy` and `sincos` are counted too, and valgrind, which says what processor there seems to be.
fn versions(shell: &Shell) -> Result<std::collections::BTreeMap<String, String>> {
    let rustc = cmd!(shell, "rustc --version").quiet().read()?;
    let valgrind = cmd!(shell, "valgrind --version").quiet().read()?;
    let libc = cmd!(shell, "getconf GNU_LIBC_VERSION").quiet().ignore_stderr().read();
    let versions = [
        (Counts::HOST, cmd!(shell, "rustc --print host-tuple").quiet().read()?),
        ("rustc", rustc.trim_start_matches("rustc ").to_owned()),
        ("cc", cmd!(shell, "cc -dumpversion").quiet().read()?),
        ("libc", libc.unwrap_or_else(|_| "not glibc".to_owned())),
        ("valgrind", valgrind.trim_start_matches("valgrind-").to_owned()),
    ];
    Ok(versions.map(|(program, version)| (program.to_owned(), version.trim().to_owned())).into())
}
