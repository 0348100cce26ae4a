//! `copresence replay`: recordings into a file and out of one.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::both::Both;
use super::recordings::Recordings;
use super::sqlite::SqliteRecordings;
use super::transfer::{self, TransferError, Transferred};
use crate::config::{ReplayAction, ReplayCommand};
use crate::redis::RedisRecordings;
use crate::run::fail;

/// How often it is said how far it has come.
const TOLD_EVERY: Duration = Duration::from_millis(500);

/// Does what was asked for, and tells on standard error how it goes. The exit code is 1 if it did not work out.
pub fn run(command: &ReplayCommand) -> ExitCode {
    let mut teller = Teller::new();
    let done = match &command.action {
        ReplayAction::Export { room, from, to, force, file } => {
            let span_ms = (from.unwrap_or(0), to.unwrap_or(u64::MAX));
            export(command, room, span_ms, file, *force, &mut teller)
                .map(|done| (room.clone(), "exported", done))
        }
        ReplayAction::Import { room, force, file } => {
            import(command, room.as_deref(), file, *force, &mut teller)
                .map(|(room, done)| (room, "imported", done))
        }
    };
    match done {
        Ok((room, verb, done)) => {
            teller.end(&format!("{verb} {} of the room {room:?}", sum(&done)));
            ExitCode::SUCCESS
        }
        Err(error) => {
            teller.end("");
            fail(&*error)
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn export(
    command: &ReplayCommand,
    room: &str,
    span_ms: (u64, u64),
    file: &Path,
    force: bool,
    teller: &mut Teller,
) -> Result<Transferred, Failure> {
    let files = SqliteRecordings::in_data_dir(&command.data_dir);
    let recordings: &dyn Recordings = match &command.redis {
        None => &files,
        Some(nodes) => &Both(files, RedisRecordings::alone(nodes.clone(), &command.data_dir)?),
    };
    let progress = |done: &Transferred| teller.progress(done);
    if file != Path::new("-") {
        return Ok(transfer::export_to_file(recordings, room, span_ms, file, force, progress)?);
    }
    let mut to = BufWriter::new(io::stdout().lock());
    let done = transfer::export(recordings, room, span_ms, (file, &mut to), progress)?;
    to.flush().map_err(|error| TransferError::File(file.to_owned(), error))?;
    Ok(done)
}

fn import(
    command: &ReplayCommand,
    room: Option<&str>,
    file: &Path,
    force: bool,
    teller: &mut Teller,
) -> Result<(String, Transferred), Failure> {
    let progress = |done: &Transferred| teller.progress(done);
    Ok(transfer::import(file, room, &command.data_dir, force, progress)?)
}

/// Says how far it has come, in one line that is written anew if somebody looks on.
struct Teller {
    is_terminal: bool,
    told_at: Instant,
    has_told: bool,
}

impl Teller {
    fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), told_at: Instant::now(), has_told: false }
    }

    fn progress(&mut self, done: &Transferred) {
        if self.is_terminal && self.told_at.elapsed() >= TOLD_EVERY {
            self.told_at = Instant::now();
            self.has_told = true;
            // That nobody hears it is no reason to stop.
            let _ = write!(io::stderr(), "\r{}\u{1b}[K", sum(done));
        }
    }

    fn end(&mut self, line: &str) {
        let begin = if self.has_told { "\r\u{1b}[K" } else { "" };
        let end = if line.is_empty() { "" } else { "\n" };
        let _ = write!(io::stderr(), "{begin}{line}{end}");
    }
}

fn sum(done: &Transferred) -> String {
    let span_s = done.last_ms.saturating_sub(done.first_ms.unwrap_or(done.last_ms)) / 1_000;
    let mib = done.bytes as f64 / f64::from(1 << 20);
    format!("{} records, {mib:.1} MiB, {span_s} s", done.records)
}
