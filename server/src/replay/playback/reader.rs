//! Where a playback's moments come from: pages of records, read a little ahead.

use std::collections::VecDeque;
use std::sync::Arc;
use std::vec::IntoIter;

use replay::{Moment, RecordId, StoredRecord, Timeline};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::READ_AHEAD_BYTES;
use super::find::Found;
use crate::replay::recordings::{ReadError, Recordings};

/// The recording of one room.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) room: Arc<str>,
    pub(super) recordings: Arc<dyn Recordings>,
    /// The server's turns at reading.
    pub(super) reads: Arc<Semaphore>,
}

impl Source {
    /// Does `work`, which may wait for a disk, on a thread that may, when it is its turn.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Recordings, &str) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let Self { room, recordings, reads } = self.clone();
        let given_up = |error: &dyn std::fmt::Display| ReadError(error.to_string());
        let turn = reads.acquire_owned().await.map_err(|error| given_up(&error))?;
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&*recordings, &room)
        });
        let read = reading.await.unwrap_or_else(|error| Err(given_up(&error)));
        if let Err(error) = &read {
            tracing::warn!(%error, "a recording cannot be read");
        }
        read
    }
}

/// Moments of a recording in their order, from some moment on.
pub(super) struct Reader {
    source: Source,
    /// The time of the last record to be read, Unix ms.
    until_ms: u64,
    /// Where the page after the next begins.
    next: RecordId,
    timeline: Timeline,
    /// What is read and not yet looked into.
    page: IntoIter<StoredRecord>,
    /// The page that is being read.
    ahead: Option<JoinHandle<Result<Vec<StoredRecord>, ReadError>>>,
    /// What the timeline has given, and whose time has not come.
    ready: VecDeque<Moment>,
    is_over: bool,
}

impl Reader {
    /// Goes on where `found` ends.
    pub(super) fn new(source: Source, found: Found) -> Self {
        let Found { timeline, ready, page, next, is_over, until_ms, .. } = found;
        let mut reader = Self { source, until_ms, next, timeline, page, ahead: None, ready, is_over };
        if !reader.is_over {
            reader.read_ahead();
        }
        reader
    }

    /// The next moment, if it is not later than `until_ms`. Waits for the disk where it was not read ahead.
    ///
    /// # Errors
    /// [`ReadError`]
    pub(super) async fn next(&mut self, until_ms: u64) -> Result<Option<Moment>, ReadError> {
        loop {
            if self.ready.is_empty() {
                self.ready.extend(self.timeline.next());
            }
            if !self.ready.is_empty() || self.is_over {
                return Ok(self.ready.pop_front_if(|moment| moment.at_ms <= until_ms));
            }
            match self.page.next() {
                Some(record) => self.timeline.push(&record),
                None => self.turn_page().await?,
            }
        }
    }

    /// Whether there is nothing more to come.
    pub(super) fn is_over(&self) -> bool {
        self.is_over && self.ready.is_empty()
    }

    async fn turn_page(&mut self) -> Result<(), ReadError> {
        if self.ahead.is_none() {
            self.read_ahead();
        }
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        let page = ahead.await.unwrap_or_else(|error| Err(ReadError(error.to_string())));
        self.ahead = None;
        let page = page?;
        match page.last() {
            Some(last) => {
                self.next = last.id.next();
                self.page = page.into_iter();
                self.read_ahead();
            }
            None => {
                self.timeline.finish();
                self.is_over = true;
            }
        }
        Ok(())
    }

    fn read_ahead(&mut self) {
        let (source, next, until_ms) = (self.source.clone(), self.next, self.until_ms);
        self.ahead = Some(tokio::spawn(async move {
            source.read(move |recordings, room| recordings.page(room, next, until_ms, READ_AHEAD_BYTES)).await
        }));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(ahead) = &self.ahead {
            ahead.abort();
        }
    }
}
