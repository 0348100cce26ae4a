//! One reading of a recording, from a beginning to an end, in steps.

use std::sync::Arc;
use std::vec;

use replay::limits::CHUNK_SPAN_MAX_MS;
use replay::timeline::LOOK_AHEAD_MS;
use replay::{Filter, Moment, RecordId, StoredRecord, Timeline, What, json};

use super::query::{Cursor, Query};
use super::recordings::{ReadError, Recordings};

/// Bytes of records that are read at once.
const PAGE_BYTES: usize = 256 * 1024;

/// Bytes of text after which a step ends. It may be more by one event.
pub const STEP_BYTES: usize = 64 * 1024;

/// What happened longer ago than this has been written down: poses wait for up to a second in their room, and then for
/// the journal. A reading that ends for its limit ends there at the latest, so that whoever reads on from its end
/// misses nothing.
pub const SETTLED_AFTER_MS: u64 = 5_000;

/// What happened later from now than this did not happen here, so nothing comes in before it any more: an import may
/// have any dates. In between lie clocks that were set back, and what is written down after the time was looked at.
pub const SETTLED_AHEAD_MS: u64 = 5_000;

/// Bytes of text, and of records, that are gone through before it is known whether they may be told. Full: the reading
/// ends before them, as it would for its limit.
pub const OPEN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How events become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The items of a JSON array, with commas between them. Gaps are counted only.
    Items,
    /// A JSON object per line, gaps as well.
    Lines,
}

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There may be more.
    More,
    /// Everything that was asked for has been told.
    Whole,
    /// As much as may be told at once has been told; the rest comes after this.
    Cut(Cursor),
}

/// A reading that has begun.
pub struct Walk {
    recordings: Arc<dyn Recordings>,
    room: Arc<str>,
    form: Form,
    bytes_max: usize,
    /// From this time on something may come in later, after it was read; how far, only the time at which it was read
    /// tells. None for a reading without a limit, which goes to the end in any case.
    open_from_ms: Option<u64>,
    clock: Box<dyn Fn() -> u64 + Send>,
    left: Option<u64>,
    after: Cursor,
    /// What was told last.
    cursor: Cursor,
    /// What was come upon last, told or not.
    here: Cursor,
    next: RecordId,
    until_ms: u64,
    page: vec::IntoIter<StoredRecord>,
    timeline: Timeline,
    is_finished: bool,
    told: u64,
    gaps: u64,
}

/// What comes next.
enum Next {
    Moment(Moment),
    /// A page was read. It is a good time for a pause.
    Page,
    End,
}

/// From where on something may come in between later.
struct Open {
    /// How long the text was.
    length: usize,
    cursor: Cursor,
    /// Pages that may be read yet before this reading ends here.
    pages_left: usize,
}

impl Walk {
    /// Begins to read what `query` asks of a room; `None` if there are no records of it. At most about
    /// `bytes_max` bytes are told. `clock` says what time it is, Unix ms: a reading may take as long as its reader likes.
    ///
    /// # Errors
    /// [`ReadError`]
    pub fn begin(
        recordings: Arc<dyn Recordings>,
        room: Arc<str>,
        query: &Query,
        form: Form,
        bytes_max: usize,
        clock: impl Fn() -> u64 + Send + 'static,
    ) -> Result<Option<Self>, ReadError> {
        let begun_ms = clock();
        let Some(span) = recordings.span(&room)? else { return Ok(None) };
        let after = query.after.unwrap_or_default();
        let from_ms = query.from_ms.max(after.at_ms);
        // Whoever moves in a chunk that reaches back this far is known by then; so is who moves in the part of time, of
        // whose moves only one is told, that `from_ms` is in.
        let part_ms = query.hz.map_or(0, |hz| (1_000.0 / hz).ceil() as u64);
        let known_ms = from_ms.saturating_sub(CHUNK_SPAN_MAX_MS + part_ms);
        let keyframe = recordings.keyframe_before(&room, known_ms)?;
        let filter = Filter {
            from_ms,
            to_ms: query.to_ms,
            types: query.types,
            users: (!query.users.is_empty()).then(|| query.users.iter().cloned().collect()),
            hz: query.hz,
            ..Filter::default()
        };
        let has_limit = query.limit.is_some() || bytes_max < usize::MAX;
        Ok(Some(Self {
            recordings,
            room,
            form,
            bytes_max,
            open_from_ms: has_limit.then(|| (begun_ms + 1).saturating_sub(SETTLED_AFTER_MS)),
            clock: Box::new(clock),
            left: query.limit,
            after,
            cursor: after.max(Cursor { at_ms: query.from_ms, seen: 0 }),
            here: Cursor::default(),
            next: keyframe.map_or(span.first, |keyframe| keyframe.id),
            until_ms: query.to_ms.saturating_add(LOOK_AHEAD_MS),
            page: Vec::new().into_iter(),
            timeline: Timeline::new(filter),
            is_finished: false,
            told: 0,
            gaps: 0,
        }))
    }

    /// Goes on, and writes what it comes upon to the end of `out`.
    ///
    /// # Errors
    /// [`ReadError`]. What was written to `out` is right, and goes as far as [`cursor`](Self::cursor).
    pub fn step(&mut self, out: &mut Vec<u8>) -> Result<Progress, ReadError> {
        let begin = out.len();
        let mut open: Option<Open> = None;
        loop {
            if open.is_none() && out.len() - begin >= STEP_BYTES {
                return Ok(Progress::More);
            }
            let moment = match self.advance()? {
                Next::Moment(moment) => moment,
                Next::Page => match &mut open {
                    None => return Ok(Progress::More),
                    Some(Open { pages_left: 0, .. }) => return Ok(self.cut(out, open)),
                    Some(open) => {
                        open.pages_left -= 1;
                        continue;
                    }
                },
                Next::End => return Ok(Progress::Whole),
            };
            let Some(seen) = self.place(&moment) else { continue };
            if open.is_none() && self.is_open(moment.at_ms) {
                let pages_left = OPEN_BYTES_MAX / PAGE_BYTES;
                open = Some(Open { length: out.len(), cursor: self.cursor, pages_left });
            }
            let is_too_much = open.as_ref().is_some_and(|open| out.len() - open.length >= OPEN_BYTES_MAX);
            if self.left == Some(0) || out.len() >= self.bytes_max || is_too_much {
                return Ok(self.cut(out, open));
            }
            self.tell(&moment, out);
            self.cursor = seen;
        }
    }

    /// Whether something may still come in at that time. What has been read until now happened until now.
    fn is_open(&self, at_ms: u64) -> bool {
        self.open_from_ms.is_some_and(|from_ms| at_ms >= from_ms)
            && at_ms < (self.clock)().saturating_add(SETTLED_AHEAD_MS)
    }

    /// Ends here, or where it came upon what is not settled.
    fn cut(&mut self, out: &mut Vec<u8>, open: Option<Open>) -> Progress {
        if let Some(Open { length, cursor, .. }) = open {
            out.truncate(length);
            self.cursor = cursor;
        }
        Progress::Cut(self.cursor)
    }

    /// What has been told so far is what comes before this.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Damaged records so far.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }
}

impl Walk {
    /// What comes next, whether it is to be told or not.
    fn advance(&mut self) -> Result<Next, ReadError> {
        loop {
            if let Some(moment) = self.timeline.next() {
                return Ok(Next::Moment(moment));
            }
            if self.is_finished {
                return Ok(Next::End);
            }
            if let Some(record) = self.page.next() {
                self.next = record.id.next();
                self.timeline.push(&record);
                continue;
            }
            let page = match self.timeline.is_over() {
                true => Vec::new(),
                false => self.recordings.page(&self.room, self.next, self.until_ms, PAGE_BYTES)?,
            };
            if page.is_empty() {
                self.timeline.finish();
                self.is_finished = true;
            } else {
                self.page = page.into_iter();
                return Ok(Next::Page);
            }
        }
    }

    /// Where `moment` stands; `None` if it is not to be told.
    fn place(&mut self, moment: &Moment) -> Option<Cursor> {
        if matches!(moment.what, What::Gap) {
            if moment.at_ms < self.after.at_ms {
                return None;
            }
            self.gaps += 1;
            return (self.form == Form::Lines).then_some(self.cursor);
        }
        // Never back, whatever a recording says.
        self.here = match moment.at_ms > self.here.at_ms {
            true => Cursor { at_ms: moment.at_ms, seen: 1 },
            false => Cursor { seen: self.here.seen + 1, ..self.here },
        };
        (self.here > self.after).then_some(self.here)
    }

    fn tell(&mut self, moment: &Moment, out: &mut Vec<u8>) {
        if self.form == Form::Items && self.told > 0 {
            out.push(b',');
        }
        json::write(moment, out);
        if self.form == Form::Lines {
            out.push(b'\n');
        }
        if !matches!(moment.what, What::Gap) {
            self.told += 1;
            self.left = self.left.map(|left| left - 1);
        }
    }
}
