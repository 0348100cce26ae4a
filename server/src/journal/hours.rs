//! The journal's backend by default: a file for each hour.

mod upkeep;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use replay::RecordId;
use tracing::{error, warn};

use super::backend::{Backend, BackendError, Entry};
use super::folder::{Folder, Hour};
use super::salvage::{self, SalvageError};
use super::table::{Table, TableError};
use crate::database_files::finish;

pub use upkeep::HoursCondition;

/// Hours that are open at once: the present one, the one before, and one for whatever a wrong clock brings.
const OPEN_MAX: usize = 3;

/// Damaged files that one process puts together anew. Beyond, the disk is at fault: what it damages is left alone.
const REPAIRS_MAX: u32 = 16;

/// How long an hour that was found to be sound is not looked through again, whatever readers say: everything that is
/// to be written waits for that.
const CHECK_AGAIN_MS: u64 = 10 * 60 * 1000;

/// What an operator chooses.
#[derive(Debug, Clone, Copy)]
pub struct HoursSettings {
    /// How long an hour is kept after it is over, in milliseconds.
    pub ttl_ms: u64,
    /// How large all hours together may be. Beyond, the oldest go, but never the newest one.
    pub bytes_max: u64,
}

/// Records in one file per hour of their ids, in a folder of `DATA_DIR`.
#[derive(Debug)]
pub struct Hours {
    folder: Arc<Folder>,
    settings: HoursSettings,
    /// From the oldest.
    open: Vec<(Hour, Table)>,
    now_ms: u64,
    repairs: u32,
    /// When hours were last looked through.
    checked_ms: BTreeMap<Hour, u64>,
    /// How often a file went of which rooms do not know that they cannot refer to it any more.
    losses: u64,
    condition: Arc<HoursCondition>,
}

impl Hours {
    /// The hours in `data_dir`, where a folder is made for them if there is none. What is there is looked at: an hour
    /// that is damaged is put together anew of what can be read, and the damaged one moved aside.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(
        data_dir: &Path,
        settings: HoursSettings,
        now_ms: u64,
        registry: &mut Registry,
    ) -> io::Result<Self> {
        let folder = Arc::new(Folder::in_data_dir(data_dir));
        fs::create_dir_all(folder.path())?;
        let condition = Arc::new(HoursCondition::new(registry));
        let mut hours = Self {
            folder,
            settings,
            open: Vec::new(),
            now_ms,
            repairs: 0,
            checked_ms: BTreeMap::new(),
            losses: 0,
            condition,
        };
        for hour in hours.folder.all_unfinished()? {
            // Whoever stopped while one was put together has left the old one in its place.
            hours.folder.unlink(&hours.folder.unfinished(hour))?;
        }
        hours.put_all_in_place()?;
        hours.clear_out();
        for hour in hours.folder.hours()? {
            // Closing it writes its log back, so that there is one file for each hour that is over.
            if let Err(error) = hours.with_table(hour, |_| Ok(())) {
                error!(%error, hour = %hours.folder.file(hour).display(), "an hour of replay cannot be opened");
            }
            hours.close_except(&[]);
        }
        hours.clear_out();
        Ok(hours)
    }

    /// The folder, for those who read.
    pub fn folder(&self) -> Arc<Folder> {
        self.folder.clone()
    }

    /// How it is, for those who ask.
    pub fn condition(&self) -> Arc<HoursCondition> {
        self.condition.clone()
    }

    /// Does `work` on the hour's table. If that finds damage, the hour is put together anew and `work` done again.
    fn with_table<T>(
        &mut self,
        hour: Hour,
        mut work: impl FnMut(&mut Table) -> Result<T, TableError>,
    ) -> Result<T, BackendError> {
        match self.table(hour).and_then(&mut work) {
            Err(error) if self.wants_repair(&error) => {
                self.repair(hour, &error)?;
                self.table(hour).and_then(work).map_err(backend_error)
            }
            result => result.map_err(backend_error),
        }
    }

    fn table(&mut self, hour: Hour) -> Result<&mut Table, TableError> {
        let at = match self.open.iter().position(|(open, _)| *open == hour) {
            Some(at) => at,
            None => {
                // Were anything written to the old one now, it would go with it.
                self.put_in_place(hour, salvage::Salvaged::default())?;
                if self.open.len() >= OPEN_MAX {
                    self.open.remove(0);
                }
                let table = {
                    // Nobody sees a file that has no tables yet.
                    let _changing = self.folder.changing();
                    Table::open(&self.folder.file(hour))?
                };
                let at = self.open.partition_point(|(open, _)| *open < hour);
                self.open.insert(at, (hour, table));
                at
            }
        };
        Ok(&mut self.open[at].1)
    }

    fn wants_repair(&self, error: &TableError) -> bool {
        (error.is_damage() || matches!(error, TableError::TooNew { .. })) && self.repairs < REPAIRS_MAX
    }

    /// Puts an hour together anew of what can be read, and moves the old one aside. A crash in between leaves
    /// either the old one as it was, or one that is finished and has yet to be put in its place.
    fn repair(&mut self, hour: Hour, reason: &TableError) -> Result<(), BackendError> {
        self.repairs += 1;
        self.close(hour);
        let path = self.folder.file(hour);
        error!(%reason, path = %path.display(), "an hour of replay is damaged and is put together anew");
        let unfinished = self.folder.unfinished(hour);
        let salvaged = self
            .folder
            .discard(hour)
            .map_err(SalvageError::Io)
            .and_then(|()| salvage_into(&path, &unfinished))
            .and_then(|salvaged| Ok(finish(&path).map(|()| salvaged)?));
        match salvaged {
            Ok(salvaged) => self.put_in_place(hour, salvaged).map_err(io_error),
            // A file of another format, or no disk space left: the records are in what is moved aside.
            Err(error) => {
                error!(%error, "nothing could be saved of a damaged hour");
                self.folder.discard(hour).map_err(io_error)?;
                let aside = self.folder.move_aside(hour, self.now_ms).map_err(io_error)?;
                self.note_repair(&aside, salvage::Salvaged::default());
                Ok(())
            }
        }
    }

    /// Puts every hour into its place that was put together anew and is not there yet.
    fn put_all_in_place(&mut self) -> io::Result<()> {
        for hour in self.folder.all_finished()? {
            self.close(hour);
            self.put_in_place(hour, salvage::Salvaged::default())?;
        }
        Ok(())
    }

    /// The same for one that is not open, if it was put together anew: `salvaged`, as far as that is known.
    fn put_in_place(&mut self, hour: Hour, salvaged: salvage::Salvaged) -> io::Result<()> {
        if let Some(aside) = self.folder.put_in_place(hour)? {
            self.note_repair(&aside, salvaged);
        }
        Ok(())
    }

    fn note_repair(&mut self, aside: &Path, salvaged: salvage::Salvaged) {
        self.losses += 1;
        warn!(
            moved_to = %aside.display(), kept = salvaged.records, lost = salvaged.lost,
            "another file is in the place of a damaged hour of replay"
        );
        self.condition.note_repair(aside, salvaged);
    }

    /// Closes an hour without touching its files any more.
    fn close(&mut self, hour: Hour) {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == hour) {
            self.open.remove(at).1.abandon();
        }
    }

    fn close_except(&mut self, kept: &[Hour]) {
        self.open.retain(|(hour, _)| kept.contains(hour));
    }
}

impl Backend for Hours {
    fn write(&mut self, entries: &[Entry]) -> Result<(), BackendError> {
        // Each hour is a transaction. If the second fails, the first is found to be there at the next try.
        for entries in entries.chunk_by(|a, b| Hour::of(a.id.ms) == Hour::of(b.id.ms)) {
            self.with_table(Hour::of(entries[0].id.ms), |table| table.insert(entries))?;
        }
        Ok(())
    }

    /// Only of hours that a new id could be in: any before is smaller in any case.
    fn last_id(&mut self, room: &str) -> Result<Option<RecordId>, BackendError> {
        let from = Hour::of(self.now_ms).before();
        let hours = self.folder.hours().map_err(io_error)?;
        for hour in hours.range(from..).rev() {
            let last = self.with_table(*hour, |table| table.last_id(room))?;
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn losses(&self) -> u64 {
        self.losses
    }

    fn tend(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.checked_ms.retain(|_, checked_ms| now_ms < *checked_ms + CHECK_AGAIN_MS);
        for hour in self.folder.take_damaged() {
            if self.checked_ms.contains_key(&hour) {
                continue;
            }
            let checked = self.with_table(hour, |table| table.check());
            self.checked_ms.insert(hour, now_ms);
            if let Err(error) = checked {
                warn!(%error, "a damaged hour of replay stays as it is");
            }
        }
        self.clear_out();
        let present = Hour::of(now_ms);
        let newest = self.open.last().map_or(present, |(hour, _)| *hour);
        self.close_except(&[present, present.before(), newest]);
    }

    fn close(&mut self) {
        // SQLite writes the logs back into their files.
        self.open.clear();
    }
}

fn salvage_into(path: &Path, unfinished: &Path) -> Result<salvage::Salvaged, SalvageError> {
    let mut table = Table::open(unfinished)?;
    let salvaged = salvage::into_table(path, None, &mut table)?;
    table.checkpoint()?;
    Ok(salvaged)
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
fn backend_error(error: TableError) -> BackendError {
    BackendError(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
fn io_error(error: io::Error) -> BackendError {
    BackendError(error.to_string())
}

#[cfg(test)]
mod tests {
    use replay::RecordKind;

    use super::*;
    use crate::journal::folder::HOUR_MS;

    fn entry(ms: u64, bytes: usize) -> Entry {
        let payload = vec![1; bytes].into();
        Entry { room: format!("room-{ms}").into(), id: RecordId::at(ms), kind: RecordKind::Event, payload }
    }

    #[test]
    fn a_full_disk_fails_a_batch_as_a_whole_and_passes() {
        let data = tempfile::tempdir().unwrap();
        let settings = HoursSettings { ttl_ms: HOUR_MS, bytes_max: u64::MAX };
        let mut hours = Hours::open(data.path(), settings, 5, &mut Registry::default()).unwrap();
        hours.write(&[entry(1, 100)]).unwrap();
        hours.table(Hour(0)).unwrap().limit_pages(64);
        let batch = [entry(2, 100), entry(3, 1_000_000), entry(4, 100)];
        for _ in 0..3 {
            let error = hours.write(&batch).unwrap_err();
            assert!(error.to_string().contains("full"), "{error}");
        }
        assert_eq!(hours.last_id("room-2").unwrap(), None);
        hours.write(&[entry(5, 100)]).unwrap();

        hours.table(Hour(0)).unwrap().limit_pages(1_000_000);
        hours.write(&batch).unwrap();
        let table = hours.table(Hour(0)).unwrap();
        let written = table.after(0, usize::MAX).unwrap();
        let order: Vec<_> = written.iter().map(|(_, entry)| entry.id.ms).collect();
        assert_eq!(order, [1, 5, 2, 3, 4]);
        assert!(written.iter().all(|(_, entry)| *entry.room == *format!("room-{}", entry.id.ms)));
        table.remove_through(i64::MAX).unwrap();
        let left: Vec<_> =
            table.after(0, 1).unwrap().iter().map(|(row, entry)| (*row, entry.id.ms)).collect();
        assert_eq!(left, [(5, 4)], "the newest stays");
        hours.write(&[entry(6, 1)]).unwrap();
        assert_eq!(hours.table(Hour(0)).unwrap().after(5, 1).unwrap()[0].0, 6);
    }

    #[test]
    fn readers_who_find_damage_that_is_none_do_not_keep_it_busy() {
        let data = tempfile::tempdir().unwrap();
        let settings = HoursSettings { ttl_ms: u64::MAX, bytes_max: u64::MAX };
        let mut hours = Hours::open(data.path(), settings, 5, &mut Registry::default()).unwrap();
        hours.write(&[entry(5, 1)]).unwrap();
        for (now_ms, checked_ms) in
            [(1_000, 1_000), (2_000, 1_000), (CHECK_AGAIN_MS + 1_000, CHECK_AGAIN_MS + 1_000)]
        {
            hours.folder.report_damage(Hour(0));
            hours.tend(now_ms);
            assert_eq!(hours.checked_ms, BTreeMap::from([(Hour(0), checked_ms)]));
        }
    }

    #[test]
    fn that_the_present_hour_has_gone_is_a_loss() {
        let data = tempfile::tempdir().unwrap();
        let settings = HoursSettings { ttl_ms: u64::MAX, bytes_max: 0 };
        let mut hours = Hours::open(data.path(), settings, 5 * HOUR_MS, &mut Registry::default()).unwrap();
        for (hour, losses) in [(4, 0), (5, 0), (8, 1)] {
            hours.write(&[entry(hour * HOUR_MS, 1)]).unwrap();
            hours.tend(5 * HOUR_MS);
            let left: Vec<_> = hours.folder.hours().unwrap().into_iter().map(|hour| hour.0).collect();
            assert_eq!(
                (left, hours.losses()),
                (vec![hour], losses),
                "the oldest goes, were it the present one"
            );
        }
    }

    #[test]
    fn only_hours_that_are_written_to_are_open() {
        let data = tempfile::tempdir().unwrap();
        let settings = HoursSettings { ttl_ms: u64::MAX, bytes_max: u64::MAX };
        let mut hours = Hours::open(data.path(), settings, 5, &mut Registry::default()).unwrap();
        for hour in 0..6 {
            hours.tend(hour * HOUR_MS);
            hours.write(&[entry(hour * HOUR_MS, 1)]).unwrap();
            assert!(hours.open.len() <= OPEN_MAX);
        }
        hours.tend(5 * HOUR_MS);
        let open: Vec<_> = hours.open.iter().map(|(hour, _)| hour.0).collect();
        assert_eq!(open, [4, 5]);
        hours.write(&[entry(8 * HOUR_MS, 1)]).unwrap();
        hours.tend(5 * HOUR_MS);
        assert_eq!(hours.open.len(), 3, "a clock that was ahead");
        assert_eq!(hours.last_id(&format!("room-{}", 8 * HOUR_MS)).unwrap(), Some(RecordId::at(8 * HOUR_MS)));
    }
}
