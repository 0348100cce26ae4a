//! The folder of hours: what its files are called, and how they come and go while others read them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::database_files::{self, ASIDE, COMPANIONS, FINISHED, UNFINISHED, with_companions};

/// Milliseconds of an hour.
pub const HOUR_MS: u64 = 3_600_000;

/// The folder's name in `DATA_DIR`.
const NAME: &str = "replay";

/// An hour of UTC, counted from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(pub u64);

impl Hour {
    /// The hour of that time.
    pub fn of(unix_ms: u64) -> Self {
        Self((unix_ms / HOUR_MS).min(LAST_HOUR))
    }

    /// When it is over, Unix ms.
    pub fn end_ms(self) -> u64 {
        (self.0 + 1) * HOUR_MS
    }

    /// Whether it has been over for `ttl_ms` milliseconds.
    pub(super) fn is_too_old(self, ttl_ms: u64, now_ms: u64) -> bool {
        self.end_ms().saturating_add(ttl_ms) <= now_ms
    }

    /// The one before.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// `YYYYMMDDHH`
    fn name(self) -> String {
        let (mut day, mut year) = (self.0 / 24, 1970);
        while day >= days_of_year(year) {
            day -= days_of_year(year);
            year += 1;
        }
        let mut month = 1;
        while day >= days_of_month(year, month) {
            day -= days_of_month(year, month);
            month += 1;
        }
        format!("{year:04}{month:02}{:02}{:02}", day + 1, self.0 % 24)
    }

    fn from_name(name: &str) -> Option<Self> {
        if name.len() != 10 || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let part = |from: usize, to: usize| name[from..to].parse::<u64>().ok();
        let (year, month, day, hour) = (part(0, 4)?, part(4, 6)?, part(6, 8)?, part(8, 10)?);
        if !(1..=12).contains(&month) || day == 0 || day > days_of_month(year, month) || hour > 23 {
            return None;
        }
        let years: u64 = (1970..year).map(days_of_year).sum();
        let months: u64 = (1..month).map(|month| days_of_month(year, month)).sum();
        (year >= 1970).then_some(Self((years + months + day - 1) * 24 + hour))
    }
}

/// The last hour of the year 9999: names have four digits for it.
const LAST_HOUR: u64 = 70_389_527;

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The folder, as those who write there and those who read share it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held to write while files change their names: who opened one in between would give a new file the
    /// companions of an old one.
    names: RwLock<()>,
    /// Hours of which readers have found that they are damaged, until the writer looks after them.
    damaged: Mutex<BTreeSet<Hour>>,
}

/// What lies in the folder for an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourFile {
    /// Which one.
    pub hour: Hour,
    /// Whether it was damaged and has been moved out of the way.
    pub is_aside: bool,
    /// Where.
    pub path: PathBuf,
    /// Bytes, its companions' included.
    pub bytes: u64,
}

impl Folder {
    /// The folder in `data_dir`, whether it is there or not.
    pub fn in_data_dir(data_dir: &Path) -> Self {
        Self { path: data_dir.join(NAME), names: RwLock::default(), damaged: Mutex::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where an hour is, or would be.
    pub fn file(&self, hour: Hour) -> PathBuf {
        self.path.join(format!("{}.db", hour.name()))
    }

    /// Where a new form of an hour is put together.
    pub(super) fn unfinished(&self, hour: Hour) -> PathBuf {
        database_files::unfinished(&self.file(hour))
    }

    /// The hours of which a new form was begun, whatever became of the old one.
    pub(super) fn all_unfinished(&self) -> io::Result<BTreeSet<Hour>> {
        let hours = self.names()?.into_iter().filter_map(|name| {
            let (hour, rest) = name.split_once(".db")?;
            // One of its companions may be all that there is.
            Hour::from_name(hour).filter(|_| rest.starts_with(UNFINISHED))
        });
        Ok(hours.collect())
    }

    /// The hours of which a new form is whole and not in its place yet.
    pub(super) fn all_finished(&self) -> io::Result<BTreeSet<Hour>> {
        let names = self.names()?.into_iter();
        let hours =
            names.filter_map(|name| Hour::from_name(name.strip_suffix(FINISHED)?.strip_suffix(".db")?));
        Ok(hours.collect())
    }

    /// The hours that are there, from the oldest.
    ///
    /// # Errors
    /// The folder cannot be read. That it is not there is none.
    pub fn hours(&self) -> io::Result<BTreeSet<Hour>> {
        let hours = self.names()?.into_iter().filter_map(|name| Hour::from_name(name.strip_suffix(".db")?));
        Ok(hours.collect())
    }

    /// Everything that counts, from the oldest; of one hour what is aside comes first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn files(&self) -> io::Result<Vec<HourFile>> {
        let files = self.names()?.into_iter().filter_map(|name| {
            let is_companion = COMPANIONS.iter().any(|end| name.ends_with(end));
            if is_companion {
                return None;
            }
            let (hour, rest) = name.split_once(".db")?;
            let path = self.path.join(&name);
            let bytes = with_companions(&path).map(|part| size(&part)).sum();
            let is_aside = rest.starts_with(ASIDE);
            let hour = Hour::from_name(hour).filter(|_| rest.is_empty() || is_aside)?;
            Some(HourFile { hour, is_aside, path, bytes })
        });
        let mut files: Vec<_> = files.collect();
        files.sort_by_key(|file| (file.hour, !file.is_aside));
        Ok(files)
    }

    /// Held by whoever opens an hour to read.
    pub fn opening(&self) -> RwLockReadGuard<'_, ()> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by whoever makes, moves or unlinks files.
    pub(super) fn changing(&self) -> RwLockWriteGuard<'_, ()> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlinks a file and its companions. Who is reading it may go on.
    pub(super) fn unlink(&self, path: &Path) -> io::Result<()> {
        let _changing = self.changing();
        database_files::remove(path)
    }

    /// Unlinks whatever there is of the hours that are meant. How many files that is.
    ///
    /// # Errors
    /// The system's last one; the others are gone all the same.
    pub(super) fn unlink_hours(&self, is_meant: impl Fn(Hour) -> bool) -> io::Result<usize> {
        let hour_of = |name: &String| Hour::from_name(name.split_once(".db")?.0);
        let mut names = self.names()?;
        names.retain(|name| hour_of(name).is_some_and(&is_meant));
        // So that a database comes before what is beside it: nobody is to find it without its log.
        names.sort_unstable();
        let _changing = self.changing();
        let mut unlinked = Ok(names.len());
        for name in names {
            if let Err(error) = fs::remove_file(self.path.join(name)) {
                unlinked = Err(error);
            }
        }
        unlinked
    }

    /// Puts a new form of an hour, if one is finished, into its place. Where the old one is then.
    pub(super) fn put_in_place(&self, hour: Hour) -> io::Result<Option<PathBuf>> {
        let _changing = self.changing();
        database_files::put_in_place(&self.file(hour))
    }

    /// Moves an hour out of the way, with nothing in its place.
    pub(super) fn move_aside(&self, hour: Hour, now_ms: u64) -> io::Result<PathBuf> {
        let _changing = self.changing();
        database_files::move_aside(&self.file(hour), now_ms)
    }

    /// Unlinks what was put together of an hour, be it finished or not.
    pub(super) fn discard(&self, hour: Hour) -> io::Result<()> {
        self.unlink(&self.unfinished(hour))?;
        self.unlink(&database_files::finished(&self.file(hour)))
    }

    /// Says that an hour cannot be read as a whole.
    pub fn report_damage(&self, hour: Hour) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(hour);
    }

    /// What was reported since the last call.
    pub(super) fn take_damaged(&self) -> BTreeSet<Hour> {
        std::mem::take(&mut *self.damaged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_found_by_its_name() {
        for (unix_ms, name) in [
            (0, "1970010100"),
            (951_782_400_000, "2000022900"),
            (1_709_164_800_000 - 1, "2024022823"),
            (1_709_164_800_000, "2024022900"),
            (1_735_689_599_999, "2024123123"),
            (4_107_542_400_000, "2100030100"),
            (u64::MAX, "9999123123"),
        ] {
            assert_eq!(Hour::of(unix_ms).name(), name);
            assert_eq!(Hour::from_name(name), Some(Hour::of(unix_ms)));
        }
        for hour in (0..3_000_000).step_by(997).map(Hour) {
            assert_eq!(Hour::from_name(&hour.name()), Some(hour));
        }
        for name in ["", "2024022924", "2023022900", "2024130100", "2024010000", "20240101000", "202401010é"]
        {
            assert_eq!(Hour::from_name(name), None, "{name}");
        }
    }
}
