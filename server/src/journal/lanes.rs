//! What waits to be written down.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::journal::{NotRecorded, Receipt};
use replay::{Action, Content, Event, Keyframe, Objects, PoseSample, Record};
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::backend::Backend;
use super::counts::{Counts, Dropped, Lane};
use super::pace::Pace;
use super::{BATCH_BYTES, BATCH_RECORDS, GATHER, LOSSY_BYTES, RELIABLE_BYTES};

/// Both lanes, shared by the rooms and the journal's thread. The lock is held for moments only.
#[derive(Debug)]
pub(super) struct Lanes {
    state: Mutex<State>,
    wake: Condvar,
    pub(super) counts: Counts,
    pub(super) pose_hz_max: u32,
    pose_hz: AtomicU32,
    /// Whether poses pile up behind the backend.
    is_backend_behind: AtomicBool,
    /// How often the backend has lost something.
    losses: AtomicU64,
    problem: Mutex<Option<String>>,
}

#[derive(Debug)]
struct State {
    reliable: Queue,
    lossy: Queue,
    /// Records given so far: in this order they are written.
    given: u64,
    /// Records in the lanes that somebody waits for.
    awaited: usize,
    pace: Pace,
    closing: Option<Closing>,
    /// The thread is no more.
    has_ended: bool,
}

/// No more is taken.
#[derive(Debug)]
struct Closing {
    by: Instant,
    closed: Vec<oneshot::Sender<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// A record on its way.
#[derive(Debug)]
pub(super) struct Waiting {
    order: u64,
    pub(super) room: Arc<str>,
    pub(super) record: Record,
    pub(super) receipt: Option<Receipt>,
    bytes: usize,
}

/// What the thread is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Write what has been taken.
    Write,
    /// Look after the backend: it is time.
    Tend,
    /// Write what has been taken; if that is nothing, end. It must be done by then.
    Close(Instant),
}

impl Queue {
    fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes;
        self.waiting.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= waiting.bytes;
        Some(waiting)
    }

    /// Whether what comes next here was given before what comes next there.
    fn is_before(&self, other: &Self) -> bool {
        let next = |queue: &Self| queue.waiting.front().map_or(u64::MAX, |waiting| waiting.order);
        next(self) < next(other)
    }
}

impl Lanes {
    pub(super) fn new(pose_hz: u32, counts: Counts) -> Self {
        counts.pose_hz.set(pose_hz.into());
        let state = State {
            reliable: Queue::default(),
            lossy: Queue::default(),
            given: 0,
            awaited: 0,
            pace: Pace::new(pose_hz),
            closing: None,
            has_ended: false,
        };
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            counts,
            pose_hz_max: pose_hz,
            pose_hz: pose_hz.into(),
            is_backend_behind: AtomicBool::new(false),
            losses: AtomicU64::new(0),
            problem: Mutex::default(),
        }
    }

    pub(super) fn pose_hz(&self) -> u32 {
        self.pose_hz.load(Ordering::Relaxed)
    }

    /// Queues a record, or refuses it if its lane is full of what must not be lost.
    pub(super) fn push(
        &self,
        room: &Arc<str>,
        record: Record,
        receipt: Option<Receipt>,
    ) -> Result<(), NotRecorded> {
        let lane = if record.content.kind().is_reliable() { Lane::Reliable } else { Lane::Lossy };
        let bytes = size_of::<Waiting>() + room.len() + content_bytes(&record.content);
        let at_ms = record.at_ms;
        let is_awaited = receipt.is_some();
        let waiting = Waiting { order: 0, room: room.clone(), record, receipt, bytes };
        let mut new_hz = None;
        let mut state = self.state();
        if state.closing.is_some() {
            drop(state);
            self.counts.drop(lane, Dropped::Closed, 1);
            return Err(NotRecorded);
        }
        let was_idle = state.reliable.bytes + state.lossy.bytes == 0;
        let was_awaited = state.awaited > 0;
        match lane {
            Lane::Reliable => {
                let before = state.reliable.bytes;
                // One that is larger than the lane has it for itself.
                if before > 0 && before + bytes > RELIABLE_BYTES {
                    drop(state);
                    self.counts.drop(lane, Dropped::Full, 1);
                    return Err(NotRecorded);
                }
                state.push_reliable(waiting);
                self.counts.set_waiting(lane, state.reliable.bytes);
            }
            Lane::Lossy => {
                let dropped = state.push_lossy(waiting);
                if dropped > 0 {
                    self.counts.drop(lane, Dropped::Full, dropped);
                }
                self.counts.set_waiting(lane, state.lossy.bytes);
                new_hz = self.keep_pace(&mut state, at_ms);
            }
        }
        let is_much = state.is_much();
        drop(state);
        tell_pace(new_hz);
        if was_idle || (is_awaited && !was_awaited) || is_much {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Answers how many poses a second are asked for, if that is news.
    fn keep_pace(&self, state: &mut State, now_ms: u64) -> Option<u32> {
        let is_behind =
            state.lossy.bytes * 2 >= LOSSY_BYTES || self.is_backend_behind.load(Ordering::Relaxed);
        let hz = state.pace.note(now_ms, is_behind);
        let is_news = self.pose_hz.swap(hz, Ordering::Relaxed) != hz;
        is_news.then(|| {
            self.counts.pose_hz.set(hz.into());
            hz
        })
    }

    /// Waits until there is something to do, and takes what is to be written, in the order in which it was given.
    pub(super) fn next(&self, batch: &mut Vec<Waiting>, tend_at: Instant) -> Task {
        let mut gather_until = None;
        let mut state = self.state();
        loop {
            if let Some(closing) = &state.closing {
                let by = closing.by;
                self.take(&mut state, batch);
                return Task::Close(by);
            }
            let now = Instant::now();
            if state.reliable.bytes + state.lossy.bytes > 0 {
                let until = *gather_until.get_or_insert(now + GATHER);
                if state.awaited > 0 || state.is_much() || now >= until {
                    self.take(&mut state, batch);
                    return Task::Write;
                }
            }
            if now >= tend_at {
                return Task::Tend;
            }
            let until = gather_until.unwrap_or(tend_at).min(tend_at);
            state = self.wait(state, until.saturating_duration_since(now));
        }
    }

    fn take(&self, state: &mut State, batch: &mut Vec<Waiting>) {
        let mut bytes = 0;
        // Also of a long queue: poses that were written long after what happened meanwhile would be read too late.
        while let Some(next) = state.next_lane().waiting.front()
            && batch.len() < BATCH_RECORDS
            && (bytes == 0 || bytes + next.bytes <= BATCH_BYTES)
        {
            bytes += next.bytes;
            batch.extend(state.next_lane().pop());
        }
        state.awaited -= batch.iter().filter(|waiting| waiting.receipt.is_some()).count();
        self.counts.set_waiting(Lane::Reliable, state.reliable.bytes);
        self.counts.set_waiting(Lane::Lossy, state.lossy.bytes);
    }

    /// Waits for that long, or less if the journal is being closed. Answers when that must be done.
    pub(super) fn pause(&self, duration: Duration) -> Option<Instant> {
        let end = Instant::now() + duration;
        let mut state = self.state();
        loop {
            let now = Instant::now();
            if now >= end || state.closing.as_ref().is_some_and(|closing| now >= closing.by) {
                return state.closing.as_ref().map(|closing| closing.by);
            }
            let until = state.closing.as_ref().map_or(end, |closing| closing.by.min(end));
            state = self.wait(state, until - now);
        }
    }

    /// Takes no more. `closed` is told when the thread has ended.
    pub(super) fn close(&self, by: Instant, closed: oneshot::Sender<()>) {
        let mut state = self.state();
        if state.has_ended {
            // Who waits hears of it by the drop.
            return;
        }
        match &mut state.closing {
            Some(closing) => closing.closed.push(closed),
            None => state.closing = Some(Closing { by, closed: vec![closed] }),
        }
        drop(state);
        self.wake.notify_one();
    }

    /// The thread has ended: what is left is lost.
    pub(super) fn end(&self) {
        let mut state = self.state();
        let reliable = (Lane::Reliable, std::mem::take(&mut state.reliable));
        let lossy = (Lane::Lossy, std::mem::take(&mut state.lossy));
        state.has_ended = true;
        // Also one that has panicked takes no more.
        let closing = state.closing.get_or_insert_with(|| Closing { by: Instant::now(), closed: Vec::new() });
        let closed = std::mem::take(&mut closing.closed);
        drop(state);
        for (lane, queue) in [reliable, lossy] {
            let lost = queue.waiting.len();
            if lost > 0 {
                error!(?lane, records = lost, "the journal has ended before it could write all that waited");
            }
            self.counts.drop(lane, Dropped::Closed, lost);
            self.counts.set_waiting(lane, 0);
        }
        // Whoever waits is told by the drop as well.
        for closed in closed {
            let _ = closed.send(());
        }
    }

    pub(super) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    pub(super) fn note_backend(&self, backend: &dyn Backend) {
        self.is_backend_behind.store(backend.is_behind(), Ordering::Relaxed);
        self.losses.store(backend.losses(), Ordering::Relaxed);
    }

    /// The time is now this: rates recover also when no poses come.
    pub(super) fn note_time(&self, now_ms: u64) {
        let new_hz = self.keep_pace(&mut self.state(), now_ms);
        tell_pace(new_hz);
    }

    /// Notes how a write went. Only a change is logged: a full disk fails every write until somebody has made room.
    pub(super) fn note_problem(&self, problem: Option<String>) {
        let mut last = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *last, problem.clone());
        drop(last);
        match problem {
            problem if problem == before => {}
            Some(text) => error!(error = text, "the journal fails; it tries again"),
            None => warn!("the journal works again"),
        }
    }

    /// Why the last write failed, if it did.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, duration: Duration) -> MutexGuard<'a, State> {
        self.wake.wait_timeout(state, duration).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    fn is_much(&self) -> bool {
        self.reliable.bytes + self.lossy.bytes >= BATCH_BYTES
            || self.reliable.waiting.len() + self.lossy.waiting.len() >= BATCH_RECORDS
    }

    /// The lane of what was given first.
    fn next_lane(&mut self) -> &mut Queue {
        if self.lossy.is_before(&self.reliable) { &mut self.lossy } else { &mut self.reliable }
    }

    fn stamp(&mut self, waiting: Waiting) -> Waiting {
        self.given += 1;
        self.awaited += usize::from(waiting.receipt.is_some());
        Waiting { order: self.given, ..waiting }
    }

    fn push_reliable(&mut self, waiting: Waiting) {
        let waiting = self.stamp(waiting);
        self.reliable.push(waiting);
    }

    /// Makes room by dropping the oldest; answers how many those were.
    fn push_lossy(&mut self, waiting: Waiting) -> usize {
        let mut dropped = 0;
        while self.lossy.bytes > 0 && self.lossy.bytes + waiting.bytes > LOSSY_BYTES {
            let oldest = self.lossy.pop();
            self.awaited -= usize::from(oldest.is_some_and(|oldest| oldest.receipt.is_some()));
            dropped += 1;
        }
        let waiting = self.stamp(waiting);
        self.lossy.push(waiting);
        dropped
    }
}

/// To be called without the lock: rooms wait for it, and the log may be slow.
fn tell_pace(new_hz: Option<u32>) {
    if let Some(hz) = new_hz {
        warn!(hz, "the journal asks for another number of poses a second");
    }
}

/// Bytes that a record holds while it waits, near enough for a limit.
fn content_bytes(content: &Content) -> usize {
    match content {
        Content::Event(Event { user_id, socket_id, action, .. }) => {
            user_id.len() + socket_id.len() + action_bytes(action)
        }
        Content::Keyframe(Keyframe { members, objects, .. }) => {
            let members: usize = members.iter().map(|member| size_of_val(member) + member.1.len()).sum();
            members + if let Objects::All(json) = objects { json.len() } else { 0 }
        }
        Content::Poses(poses) => {
            size_of_val(&*poses.instants_ms) + poses.samples.len() * size_of::<PoseSample>()
        }
    }
}

fn action_bytes(action: &Action) -> usize {
    match action {
        Action::Join { user } => user.len(),
        Action::Leave => 0,
        Action::ObjectCreate { object, .. } => object.len(),
        Action::ObjectUpdate { update } | Action::UserUpdate { update } => update.len(),
        Action::ObjectDelete { id } => id.len(),
        Action::Message { message, attachments } => {
            message.len() + attachments.iter().map(|bytes| bytes.len() + size_of_val(bytes)).sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests;
