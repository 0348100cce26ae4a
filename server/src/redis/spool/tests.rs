//! Spools that are damaged, without a Redis: what the thread that ships would say is said here.

use std::fs;

use bytes::Bytes;
use prometheus_client::registry::Registry;
use replay::RecordKind;
use tempfile::TempDir;

use super::super::repair::SPOOL;
use super::*;

/// A spool that has records of a room.
struct Rig {
    outer: TempDir,
    backend: SpoolBackend,
    status: Arc<Status>,
    written: u64,
}

impl Rig {
    fn with(records: u64) -> Self {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("data");
        fs::create_dir(&directory).unwrap();
        let (status, queue) = (Arc::new(Status::new(&mut Registry::default())), Arc::new(Queue::default()));
        let table = repair::open(&directory).unwrap();
        let (waiting, _) = mpsc::channel(RECEIPTS_WAITING);
        let backend =
            SpoolBackend::new((&directory, table), u64::MAX, queue, status.clone(), waiting).unwrap();
        let mut rig = Self { outer, backend, status, written: 0 };
        for _ in 0..records {
            rig.write().unwrap();
        }
        rig
    }

    fn write(&mut self) -> Result<(), BackendError> {
        let id = RecordId::at(self.written + 1);
        let payload = Bytes::from_static(b"payload");
        self.backend.write(&[Entry { room: "a".into(), id, kind: RecordKind::Event, payload }])?;
        self.written += 1;
        Ok(())
    }

    /// Redis is there and has taken everything up to that row of that spool.
    fn take(&self, spool: u64, row: i64) {
        self.status.set_healthy();
        self.status.reach(spool, row);
    }

    fn report_damage(&self) {
        self.status.report(TableError::damage("a page is not what was written there"));
    }

    /// What is on the disk, whatever the backend has.
    fn rows(&self) -> Option<(i64, i64)> {
        Table::open_to_read(&self.backend.directory.join(SPOOL)).unwrap().rows().unwrap()
    }

    /// Damaged ones that have been moved out of the way, without what lies beside them.
    fn spools_aside(&self) -> usize {
        let files = fs::read_dir(&self.backend.directory).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let times = names.filter_map(|name| Some(name.strip_prefix("spool.db.corrupt-")?.to_owned()));
        times.filter(|time| time.parse::<u64>().is_ok()).count()
    }
}

#[test]
fn nothing_is_taken_while_a_repair_comes_to_nothing() {
    let mut rig = Rig::with(3);
    let (directory, away) = (rig.backend.directory.clone(), rig.outer.path().join("away"));
    fs::rename(&directory, &away).unwrap();
    rig.report_damage();
    for attempt in 0..3 {
        assert!(rig.write().is_err(), "attempt {attempt}");
        assert!(rig.backend.last_id("a").is_err());
        rig.backend.tend(attempt);
    }
    assert_eq!(rig.backend.losses(), 0, "nothing is lost either");
    fs::rename(&away, &directory).unwrap();
    rig.write().unwrap();
    assert_eq!(rig.rows(), Some((1, 4)));
    assert_eq!(rig.backend.last_id("a").unwrap(), Some(RecordId::at(4)));
    assert_eq!((rig.status.spool(), rig.status.health().waiting_records), (1, 4), "all of it is for Redis");
}

#[test]
fn a_spool_that_cannot_be_saved_yet_stays_where_it_is() {
    let mut rig = Rig::with(3);
    // What is found can be written nowhere.
    let obstacle = rig.backend.directory.join("spool.db.found");
    fs::create_dir(&obstacle).unwrap();
    rig.report_damage();
    assert!(rig.write().is_err());
    assert_eq!((rig.spools_aside(), rig.rows()), (0, Some((1, 3))));
    // Its end may be sound: then it is gone on with, until a reader finds the damage again.
    rig.write().unwrap();
    fs::remove_dir(&obstacle).unwrap();
    rig.report_damage();
    rig.write().unwrap();
    assert_eq!((rig.spools_aside(), rig.rows()), (1, Some((1, 5))));
}

#[test]
fn what_was_saved_before_is_not_thrown_away_by_the_next_attempt() {
    let mut rig = Rig::with(3);
    rig.backend.close();
    // The old one had been moved aside, and the new one could not be put in its place.
    let path = rig.backend.directory.join(SPOOL);
    fs::rename(&path, rig.backend.directory.join("spool.db.new")).unwrap();
    rig.report_damage();
    rig.write().unwrap();
    assert_eq!(rig.rows(), Some((1, 4)));
}

#[test]
fn after_a_repair_nothing_goes_that_was_not_shipped_since() {
    let mut rig = Rig::with(100);
    let kept_ms = KEPT_AFTER_SHIPPING.as_millis() as u64;
    rig.take(0, 100);
    rig.backend.tend(1);
    rig.report_damage();
    rig.backend.tend(2);
    assert_eq!((rig.rows(), rig.status.health().waiting_records), (Some((1, 100)), 100));
    // A batch of the old one was on its way.
    rig.take(0, 100);
    for later in 1..=3 {
        rig.backend.tend(2 + later * 2 * kept_ms);
        assert_eq!((rig.rows(), rig.status.health().waiting_records), (Some((1, 100)), 100));
    }
    rig.take(1, 60);
    rig.backend.tend(8 * kept_ms);
    rig.backend.tend(9 * kept_ms);
    assert_eq!(rig.rows(), Some((1, 100)), "not before its time");
    rig.backend.tend(10 * kept_ms);
    assert_eq!(rig.rows(), Some((61, 100)));
}
