//! A process that is killed while it writes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use engine::journal::Journal as _;
use replay::{Action, Content, RecordId, decode};
use server::replay::sqlite::SqliteRecordings;
use tempfile::tempdir;

use crate::common::{HOUR, event, on_files, poses, read_all, receipt};

/// Where the child is to write. It is the same program, asked for one test.
const DATA: &str = "COPRESENCE_TEST_KILLED_DATA";
const ROUNDS: u64 = 6;
const ROOM: &str = "a";

/// What the child does: it writes, and says of each record that is durable so on its standard output, for ever.
#[tokio::test]
async fn child() {
    let Some(data) = std::env::var_os(DATA) else { return };
    let journal = on_files(Path::new(&data), HOUR);
    let room: Arc<str> = ROOM.into();
    let mut waiting = std::collections::VecDeque::new();
    for index in 0_u64.. {
        let (sender, durable) = receipt();
        let record = event(HOUR + index, &format!("{}-{index}", std::process::id()));
        journal.try_record(&room, record, Some(sender)).unwrap();
        journal.try_record(&room, poses(HOUR + index, 50), None).unwrap();
        waiting.push_back((index, durable));
        // Some of them share a write.
        if waiting.len() >= 8 {
            let (index, durable) = waiting.pop_front().unwrap();
            durable.await.unwrap();
            writeln!(std::io::stdout(), "\ndurable {}-{index}", std::process::id()).unwrap();
        }
    }
}

#[test]
fn what_was_said_to_be_durable_is_there_after_a_kill() {
    let data = tempdir().unwrap();
    let mut durable = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::child", "--nocapture", "--test-threads=1"])
            .env(DATA, data.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = || {
            let mut lines = lines.by_ref().map(|line| line.unwrap());
            lines.find_map(|line| line.strip_prefix("durable ").map(ToOwned::to_owned))
        };
        durable.extend((0..50 + round * 37).map_while(|_| said()));
        child.kill().unwrap();
        // What it had said before it died counts as well, but for a line that was cut off.
        let rest: Vec<_> = std::iter::from_fn(said).collect();
        durable.extend(rest.split_last().map(|(_, whole)| whole.to_vec()).unwrap_or_default());
        child.wait().unwrap();
    }
    let recordings = SqliteRecordings::in_data_dir(data.path());
    let mut found = Vec::new();
    let (mut last, mut chunks) = (RecordId::default(), 0);
    for record in read_all(&recordings, ROOM, 100_000) {
        assert!(record.id > last, "ids go on from one process to the next");
        last = record.id;
        match decode(record.kind, &record.payload).unwrap().content {
            Content::Event(event) => {
                let Action::ObjectUpdate { update } = event.action else { panic!("{event:?}") };
                let update: serde_json::Value = serde_json::from_str(&update).unwrap();
                found.push(update["text"].as_str().unwrap().to_owned());
            }
            _ => chunks += 1,
        }
    }
    assert!(durable.len() as u64 >= ROUNDS * 50 && chunks > 0);
    // In their order and each once; those of which nobody was told may be there too.
    let mut among = found.iter();
    for text in &durable {
        assert!(among.any(|found| found == text), "{text} is not there, or not in its place");
    }
    let mut once = found.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), found.len());
}
