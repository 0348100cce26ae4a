//! The directory: which rooms there are, and on which shard each of them lives.
//!
//! A session touches it once, when it joins. From then on it holds the room's handle.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use protocol::error::{ClientError, ErrorCode};
use serde::Serialize;

use crate::limits::{MAX_PERSISTENT_ROOMS, MAX_ROOMS, UNENTERED_ROOM_TTL};
use crate::options::RoomOptions;
use crate::private::PrivatePlace;
use crate::room::{Step, Suspended};
use crate::table::SlotTable;
use crate::time::Time;
use crate::tries::Tries;

/// What everybody who has to do with a room shares: its identity, its options, its pose slots.
#[derive(Debug)]
pub struct RoomShared {
    /// The room's id.
    pub id: Arc<str>,
    /// Tells this room from any other, also from an earlier one of the same id.
    pub key: u64,
    /// Index of the shard that owns it.
    pub shard: usize,
    /// How it was created.
    pub options: RoomOptions,
    /// When it was created.
    pub created: Time,
    /// From when its ticks count their milliseconds. Differs from `created` for a room read from the store.
    pub epoch: Time,
    /// Where its members' poses are.
    pub table: SlotTable,
    /// The wrong passwords that were given for it. Whoever checks them counts them here, so that the count lasts as long
    /// as the room, whatever happens elsewhere.
    pub wrong_passwords: Tries,
    /// What part of a recording it shows, if it does. Such a room is [private](RoomShared::is_private).
    pub recorded: Option<Recorded>,
    members: AtomicUsize,
    tick_hz: AtomicU32,
    entered: AtomicBool,
    refresh_wanted: AtomicBool,
    /// It is not in the store yet, where it belongs: nobody may enter, for what it holds could not be stored.
    unstored: AtomicBool,
    leases: AtomicUsize,
    /// Its recording, while it is not in memory.
    suspended: Mutex<Option<Box<Suspended>>>,
}

impl RoomShared {
    fn new(id: &str, key: u64, shard: usize, options: RoomOptions, created: Time, epoch: Time) -> Self {
        Self {
            id: id.into(),
            key,
            shard,
            table: SlotTable::new(options.max_users),
            wrong_passwords: Tries::default(),
            recorded: None,
            members: AtomicUsize::new(0),
            tick_hz: AtomicU32::new(options.tick_hz.initial_hz()),
            options,
            created,
            epoch,
            entered: AtomicBool::new(false),
            refresh_wanted: AtomicBool::new(false),
            unstored: AtomicBool::new(false),
            leases: AtomicUsize::new(0),
            suspended: Mutex::default(),
        }
    }

    /// A room that is in no directory, for tests of what happens inside one.
    pub fn detached(id: &str, options: RoomOptions, now: Time) -> Arc<Self> {
        Arc::new(Self::new(id, 0, 0, options, now, now))
    }

    /// A room that is in no directory, and shows this part of a recording.
    pub fn private(
        id: &str,
        key: u64,
        shard: usize,
        options: RoomOptions,
        now: Time,
        recorded: Recorded,
    ) -> Arc<Self> {
        Arc::new(Self { recorded: Some(recorded), ..Self::new(id, key, shard, options, now, now) })
    }

    /// Whether it is in no directory, so that nobody else finds it: it shows a recording to one viewer, who cannot change
    /// it. Nothing of it is stored or recorded.
    pub fn is_private(&self) -> bool {
        self.recorded.is_some()
    }

    /// How many are in it.
    pub fn members(&self) -> usize {
        self.members.load(Ordering::Relaxed)
    }

    pub(crate) fn set_members(&self, members: usize) {
        self.members.store(members, Ordering::Relaxed);
        self.entered.store(true, Ordering::Relaxed);
    }

    /// Whether anybody has ever been in it.
    pub(crate) fn was_entered(&self) -> bool {
        self.entered.load(Ordering::Relaxed)
    }

    /// Ticks per second at present.
    pub fn tick_hz(&self) -> u32 {
        self.tick_hz.load(Ordering::Relaxed)
    }

    pub(crate) fn set_tick_hz(&self, hz: u32) {
        self.tick_hz.store(hz, Ordering::Relaxed);
    }

    pub(crate) fn is_unstored(&self) -> bool {
        self.unstored.load(Ordering::Acquire)
    }

    /// The store has the room: from now on it is there for everybody.
    pub(crate) fn set_stored(&self) {
        self.unstored.store(false, Ordering::Release);
    }

    /// Asks the next tick to bring everyone's pose: some viewer has missed one.
    pub(crate) fn want_refresh(&self) {
        self.refresh_wanted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn refresh_wanted(&self) -> bool {
        self.refresh_wanted.load(Ordering::Relaxed)
    }

    pub(crate) fn take_refresh_wanted(&self) -> bool {
        self.refresh_wanted.swap(false, Ordering::Relaxed)
    }

    /// Keeps what the room's recording goes on from when the room is opened again, or takes it out.
    pub(crate) fn suspend(&self, suspended: Option<Box<Suspended>>) -> Option<Box<Suspended>> {
        std::mem::replace(&mut *self.suspended.lock().unwrap_or_else(PoisonError::into_inner), suspended)
    }
}

/// Which part of a recording is shown, in Unix ms: `replay` in the answer to a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// The first moment.
    pub from: u64,
    /// The last one.
    pub to: u64,
}

/// The right to find a room alive: as long as there is one, the room stays in the directory. A join brings it
/// along, a member keeps it.
#[derive(Debug)]
pub struct Lease {
    room: Arc<RoomShared>,
    /// Whether the room was made for it.
    is_first: bool,
    /// Of a private room, which has one lease in its life.
    private: Option<PrivatePlace>,
}

impl Lease {
    fn new(room: &Arc<RoomShared>) -> Self {
        room.leases.fetch_add(1, Ordering::AcqRel);
        Self { room: room.clone(), is_first: false, private: None }
    }

    pub(crate) fn private(room: &Arc<RoomShared>, place: PrivatePlace) -> Self {
        let mut lease = Self::new(room);
        lease.private = Some(place);
        lease
    }

    /// The room.
    pub fn room(&self) -> &Arc<RoomShared> {
        &self.room
    }

    /// What is to happen in the room before anybody is let in.
    pub(crate) fn take_opening(&mut self) -> Vec<Step> {
        self.private.as_mut().map(|place| std::mem::take(&mut place.opening)).unwrap_or_default()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.room.leases.fetch_sub(1, Ordering::AcqRel);
    }
}

/// All rooms by id.
#[derive(Debug)]
pub struct Directory {
    rooms: DashMap<Arc<str>, Arc<RoomShared>>,
    persistent: AtomicUsize,
    max_rooms: usize,
    max_persistent: usize,
    next_key: AtomicU64,
}

impl Default for Directory {
    fn default() -> Self {
        Self::with_limits(MAX_ROOMS, MAX_PERSISTENT_ROOMS)
    }
}

impl Directory {
    fn with_limits(max_rooms: usize, max_persistent: usize) -> Self {
        Self {
            rooms: DashMap::new(),
            persistent: AtomicUsize::new(0),
            max_rooms,
            max_persistent,
            next_key: AtomicU64::new(0),
        }
    }

    /// The room `id`, made with `options` on the shard that `place` names if there is none, and a lease on it.
    ///
    /// # Errors
    /// `limit` if there are as many rooms as there may be; `overloaded` if the room is on its way to the store.
    pub(crate) fn resolve(
        &self,
        id: &str,
        options: impl FnOnce() -> RoomOptions,
        place: impl FnOnce() -> usize,
        now: Time,
    ) -> Result<Lease, ClientError> {
        if let Some(room) = self.rooms.get(id) {
            return enter(&room);
        }
        self.check_count()?;
        // The lease is taken under the map's own lock, so that the room cannot be closed in between.
        match self.rooms.entry(id.into()) {
            Entry::Occupied(entry) => enter(entry.get()),
            Entry::Vacant(entry) => {
                let room = Arc::new(RoomShared::new(id, self.key(), place(), options(), now, now));
                let mut lease = Lease::new(&entry.insert(room));
                lease.is_first = true;
                Ok(lease)
            }
        }
    }

    /// Makes the room `id` on the shard that `place` names, or gives the one that is there. A new persistent room
    /// is there for nobody else until [`RoomShared::set_stored`].
    ///
    /// # Errors
    /// `limit` if there are as many rooms, or persistent rooms, as there may be.
    pub(crate) fn create(
        &self,
        id: &str,
        options: RoomOptions,
        place: impl FnOnce() -> usize,
        now: Time,
    ) -> Result<Lease, ClientError> {
        // Before the count: what is there already needs no place.
        if let Some(room) = self.rooms.get(id) {
            return Ok(Lease::new(&room));
        }
        self.check_count()?;
        match self.rooms.entry(id.into()) {
            Entry::Occupied(entry) => Ok(Lease::new(entry.get())),
            Entry::Vacant(entry) => {
                let is_persistent = options.persistent;
                if is_persistent {
                    self.take_persistent()?;
                }
                let room = RoomShared::new(id, self.key(), place(), options, now, now);
                room.unstored.store(is_persistent, Ordering::Release);
                Ok(Lease::new(&entry.insert(Arc::new(room))))
            }
        }
    }

    /// Puts in a room that the store holds, on the shard that `place` names, whatever the limits say: they keep new rooms
    /// out, not old ones. A room that is there already stays as it is.
    pub(crate) fn restore(
        &self,
        id: &str,
        options: RoomOptions,
        place: impl FnOnce() -> usize,
        created: Time,
        now: Time,
    ) {
        if let Entry::Vacant(entry) = self.rooms.entry(id.into()) {
            self.persistent.fetch_add(1, Ordering::Relaxed);
            entry.insert(Arc::new(RoomShared::new(id, self.key(), place(), options, created, now)));
        }
    }

    pub(crate) fn key(&self) -> u64 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    fn check_count(&self) -> Result<(), ClientError> {
        if self.rooms.len() >= self.max_rooms {
            return Err(ClientError::new(ErrorCode::Limit, "the server has as many rooms as it may have"));
        }
        Ok(())
    }

    fn take_persistent(&self) -> Result<(), ClientError> {
        let is_free = |count: usize| (count < self.max_persistent).then_some(count + 1);
        self.persistent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_free).map_err(|_| {
            ClientError::new(ErrorCode::Limit, "the server has as many persistent rooms as it may have")
        })?;
        Ok(())
    }

    /// Takes the room out unless somebody holds a lease on it. Whoever asks for its id next makes a new one.
    pub(crate) fn close(&self, room: &RoomShared) -> bool {
        self.rooms
            .remove_if(&*room.id, |_, found| {
                found.key == room.key && found.leases.load(Ordering::Acquire) == 0
            })
            .is_some()
    }

    /// The lease was of no use. A room that was made for it, and that nobody else has found meanwhile, goes with it:
    /// whether it did.
    pub(crate) fn give_back(&self, lease: Lease) -> bool {
        let (room, is_first) = (lease.room.clone(), lease.is_first);
        drop(lease);
        is_first && !room.was_entered() && self.close(&room)
    }

    /// Takes a room out that could not be stored, unless somebody else is still trying to. Whoever tries holds a
    /// lease and gives it up before this, so that the last one finds none.
    pub(crate) fn revoke(&self, room: &RoomShared) -> bool {
        let is_given_up = |found: &Arc<RoomShared>| {
            found.key == room.key && found.is_unstored() && found.leases.load(Ordering::Acquire) == 0
        };
        let removed = self.rooms.remove_if(&*room.id, |_, found| is_given_up(found)).is_some();
        if removed {
            self.persistent.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// Takes out, and returns, the rooms that were made over HTTP and that nobody has entered in time.
    pub(crate) fn sweep(&self, now: Time) -> Vec<Arc<RoomShared>> {
        let mut swept = Vec::new();
        self.rooms.retain(|_, room| {
            let keep = room.options.persistent
                || room.entered.load(Ordering::Relaxed)
                || room.leases.load(Ordering::Acquire) > 0
                || now.since(room.created) < UNENTERED_ROOM_TTL;
            if !keep {
                swept.push(room.clone());
            }
            keep
        });
        swept
    }

    /// How many rooms there are.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Every room, in no particular order, without those that are on their way to the store.
    pub fn rooms(&self) -> Vec<Arc<RoomShared>> {
        self.rooms.iter().filter(|room| !room.is_unstored()).map(|entry| entry.value().clone()).collect()
    }

    /// The room of that id, unless it is on its way to the store.
    pub fn room(&self, id: &str) -> Option<Arc<RoomShared>> {
        self.rooms.get(id).filter(|room| !room.is_unstored()).map(|room| room.clone())
    }
}

fn enter(room: &Arc<RoomShared>) -> Result<Lease, ClientError> {
    if room.is_unstored() {
        return Err(ClientError::new(ErrorCode::Overloaded, "the room is being made, try again"));
    }
    Ok(Lease::new(room))
}

#[cfg(all(test, not(loom_model)))]
#[allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]
mod tests;
