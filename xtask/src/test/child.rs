//! A step in a process of its own, so that what it prints passes through here.

use std::collections::VecDeque;
use std::env;
use std::io::{self, BufReader, IsTerminal as _, Write as _};
use std::process::Command;

use anyhow::{Context as _, anyhow};

use super::Failure;

/// How many of a step's last lines are kept: more than a test runner's list of what failed.
const TAIL_LINES: usize = 60;

/// Bytes of a line that are kept of it.
const LINE_BYTES: usize = 1_000;

/// Runs the step of that name and passes on what it prints.
pub(super) fn run(name: &str) -> Result<(), Failure> {
    let this = env::current_exe().context("cannot tell where this program lies")?;
    let mut command = Command::new(this);
    command.args(["step", name]);
    if io::stdout().is_terminal() {
        // The pipe hides the terminal from it.
        command.envs([("CARGO_TERM_COLOR", "always"), ("FORCE_COLOR", "1")]);
    }
    watch(command)
}

/// Runs a command, passes on what it prints, and keeps the end of that if it fails.
fn watch(mut command: Command) -> Result<(), Failure> {
    let (reader, writer) = io::pipe()?;
    let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // It holds the writing ends, which would keep the pipe open.
    drop(command);
    let tail = pass_on(BufReader::new(reader))?;
    match child.wait()? {
        status if status.success() => Ok(()),
        status => Err(Failure { error: anyhow!("it did not pass ({status})"), tail }),
    }
}

/// Prints lines as they come. The last ones.
fn pass_on(mut lines: impl io::BufRead) -> io::Result<String> {
    let mut tail = VecDeque::with_capacity(TAIL_LINES);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        io::stdout().write_all(&line)?;
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        line.truncate(LINE_BYTES);
        tail.push_back(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
        line.clear();
    }
    Ok(tail.make_contiguous().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_failed_is_told_with_its_last_lines_of_both_streams() {
        let failure = watch(shell("seq 100; echo broken >&2; exit 3")).unwrap_err();
        assert!(failure.error.to_string().contains("exit status: 3"), "{}", failure.error);
        let lines: Vec<&str> = failure.tail.lines().collect();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!((lines[0], lines[TAIL_LINES - 1]), ("42", "broken"));
    }

    #[test]
    fn what_passed_leaves_nothing() {
        watch(shell("echo fine")).unwrap();
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure() {
        assert!(watch(Command::new("/nonexistent/program")).is_err());
    }

    #[test]
    fn long_and_broken_lines_are_kept_in_part() {
        let mut long = vec![b'x'; 3 * LINE_BYTES];
        long.extend(b"\n\xff end");
        let tail = pass_on(&long[..]).unwrap();
        assert_eq!(tail, format!("{}\n\u{fffd} end", "x".repeat(LINE_BYTES)));
    }
}
