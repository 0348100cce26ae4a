//! How everything stood at some moment of a recording.

use std::collections::VecDeque;
use std::sync::Arc;
use std::vec::IntoIter;

use engine::room::Step;
use replay::timeline::LOOK_AHEAD_MS;
use replay::{
    Content, Filter, Keyframe, Moment, Objects, RecordId, RecordKind, StoredRecord, Timeline, World, decode,
};

use super::READ_AHEAD_BYTES;
use super::steps::{self, Disguise};
use crate::replay::recordings::{ReadError, Recordings};

/// Keyframes that cannot be read, before it is given up to find a good one.
const DAMAGED_MAX: usize = 8;

/// From how long before the moment records are read if there is no keyframe: twice as long as from one to the next.
const WITHOUT_KEYFRAME_MS: u64 = 60_000;

/// Bytes of a page in which all objects are looked for. They stand near its beginning.
const OBJECTS_PAGE_BYTES: usize = 64 * 1024;

/// Pages that are searched for them: with more records than that in the time that it took to write the keyframe down,
/// the room is shown without its objects until the next keyframe that has all.
const OBJECTS_PAGES_MAX: usize = 64;

/// A moment of a recording, and how it goes on from there.
pub(super) struct Found {
    /// How everything stood.
    pub(super) world: World,
    /// What leads there from where one came from.
    pub(super) steps: Vec<Step>,
    /// What comes after it.
    pub(super) timeline: Timeline,
    /// What the timeline has given already.
    pub(super) ready: VecDeque<Moment>,
    /// What was read and not yet looked into.
    pub(super) page: IntoIter<StoredRecord>,
    /// Where the page after that begins.
    pub(super) next: RecordId,
    pub(super) is_over: bool,
    pub(super) until_ms: u64,
}

/// Where a search comes from and goes to.
pub(super) struct Goal {
    /// How everything stands so far.
    pub(super) from: Arc<World>,
    /// For whom the way is.
    pub(super) disguise: Disguise,
    /// The moment, Unix ms.
    pub(super) at_ms: u64,
    /// Where what is played ends, Unix ms.
    pub(super) to_ms: u64,
}

/// How everything stood in `room` at the goal, when all that happened then had happened, the way there, and how it goes
/// on. Waits for the disk; and to compare all objects takes long enough by itself that it is no work for a core.
///
/// # Errors
/// [`ReadError`]
pub(super) fn find(recordings: &dyn Recordings, room: &str, goal: &Goal) -> Result<Found, ReadError> {
    let Goal { at_ms, to_ms, .. } = *goal;
    let (world, next, from_ms) = match keyframe(recordings, room, at_ms)? {
        Some((id, taken_ms, keyframe)) => {
            let objects = objects(recordings, room, &keyframe, id)?;
            let objects = objects.as_deref().unwrap_or("[]");
            (World::from_keyframe(&keyframe, objects).unwrap_or_default(), id, taken_ms)
        }
        None => {
            let from_ms = at_ms.saturating_sub(WITHOUT_KEYFRAME_MS);
            (World::default(), RecordId::at(from_ms), from_ms)
        }
    };
    // Of what leads to the moment only where everybody was last is of interest, of what follows everything.
    let all = Filter { openings: true, ..Filter::default() };
    let before = Filter { from_ms, to_ms: at_ms, only_last_moves: true, ..all.clone() };
    let after = Filter { from_ms: at_ms + 1, to_ms, ..all };
    let mut found = Found {
        world,
        steps: Vec::new(),
        timeline: Timeline::new(after),
        ready: VecDeque::new(),
        page: Vec::new().into_iter(),
        next,
        is_over: false,
        until_ms: to_ms.saturating_add(LOOK_AHEAD_MS),
    };
    found.go_on_to(Timeline::new(before), recordings, room)?;
    found.steps = steps::between(&goal.from, &found.world, &goal.disguise);
    Ok(found)
}

impl Found {
    /// Lets everything happen that `before` tells of.
    fn go_on_to(
        &mut self,
        mut before: Timeline,
        recordings: &dyn Recordings,
        room: &str,
    ) -> Result<(), ReadError> {
        while !before.is_over() && !self.is_over {
            match self.page.next() {
                Some(record) => {
                    before.push(&record);
                    self.timeline.push(&record);
                }
                None => self.turn_page(recordings, room)?,
            }
            if self.is_over {
                before.finish();
            }
            while let Some(moment) = before.next() {
                self.world.apply(&moment);
            }
            self.ready.extend(std::iter::from_fn(|| self.timeline.next()));
        }
        Ok(())
    }

    fn turn_page(&mut self, recordings: &dyn Recordings, room: &str) -> Result<(), ReadError> {
        let page = recordings.page(room, self.next, self.until_ms, READ_AHEAD_BYTES)?;
        match page.last() {
            Some(last) => {
                self.next = last.id.next();
                self.page = page.into_iter();
            }
            None => {
                self.timeline.finish();
                self.is_over = true;
            }
        }
        Ok(())
    }
}

/// The newest good keyframe that is not later than `at_ms`: its place, when it was taken, and what it says.
fn keyframe(
    recordings: &dyn Recordings,
    room: &str,
    mut at_ms: u64,
) -> Result<Option<(RecordId, u64, Keyframe)>, ReadError> {
    for _ in 0..DAMAGED_MAX {
        let Some(stored) = recordings.keyframe_before(room, at_ms)? else { return Ok(None) };
        if let Some((taken_ms, keyframe)) = read(&stored) {
            return Ok(Some((stored.id, taken_ms, keyframe)));
        }
        match stored.id.ms.checked_sub(1) {
            Some(before) => at_ms = before,
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// All objects as of a keyframe, which stands at `id`. `None`: nobody knows.
fn objects(
    recordings: &dyn Recordings,
    room: &str,
    keyframe: &Keyframe,
    id: RecordId,
) -> Result<Option<String>, ReadError> {
    let since_ms = match &keyframe.objects {
        Objects::All(objects) => return Ok(Some(objects.clone())),
        Objects::UnchangedSince(since_ms) => *since_ms,
    };
    // It was taken then, and written down then or a little later.
    let mut next = RecordId::at(since_ms);
    for _ in 0..OBJECTS_PAGES_MAX {
        let page = recordings.page(room, next, id.ms, OBJECTS_PAGE_BYTES)?;
        let Some(last) = page.last() else { return Ok(None) };
        next = last.id.next();
        for stored in page.iter().filter(|stored| stored.kind == RecordKind::Keyframe) {
            match read(stored) {
                Some((taken_ms, Keyframe { objects: Objects::All(objects), .. })) if taken_ms == since_ms => {
                    return Ok(Some(objects));
                }
                _ => {}
            }
        }
    }
    Ok(None)
}

fn read(stored: &StoredRecord) -> Option<(u64, Keyframe)> {
    match decode(stored.kind, &stored.payload) {
        Ok(replay::Record { at_ms, content: Content::Keyframe(keyframe) }) => Some((at_ms, keyframe)),
        _ => None,
    }
}
