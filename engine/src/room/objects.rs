//! The things that stand in a room.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use protocol::error::{ClientError, ErrorCode};
use protocol::event::{ObjectUpdate, object_id};
use protocol::members::{json_number, json_string};
use protocol::{Members, Outgoing};
use replay::{Action, Record};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{AckId, Audience, Effect, Room, StoreEffect, error_packet, ok_packet};
use crate::limits::{MAX_OBJECT_BYTES, MAX_ROOM_OBJECT_BYTES};
use crate::ports::{RoomWrite, StoredObject};

struct Object {
    version: u64,
    owner: Arc<str>,
    members: Members,
}

/// A room's objects by id, within their limits.
pub(super) struct Objects {
    by_id: BTreeMap<String, Object>,
    bytes: usize,
    count_max: usize,
    /// `room-objects` as of the last change, if anybody has wanted it since.
    packet: Option<Outgoing>,
    /// Counts changes.
    revision: u64,
}

#[derive(Serialize)]
struct ObjectAnswer<'a> {
    id: &'a str,
    version: u64,
}

#[derive(Serialize)]
struct ObjectId<'a> {
    id: &'a str,
}

impl Objects {
    pub(super) fn new(count_max: usize, stored: Vec<StoredObject>) -> Self {
        let mut objects = Self { by_id: BTreeMap::new(), bytes: 0, count_max, packet: None, revision: 0 };
        for object in stored {
            // What the store gives was checked when it came in. Should it be unreadable, the rest still counts.
            if let Ok(members) = serde_json::from_str::<Members>(&object.json) {
                objects.bytes += members.json_bytes();
                let value = Object { version: object.version, owner: object.owner.into(), members };
                objects.by_id.insert(object.id, value);
            }
        }
        objects
    }

    /// Puts `members` in place of the object `id`, or beside the others; checks the limits first.
    fn put(&mut self, id: &str, owner: &Arc<str>, members: Members) -> Result<u64, ClientError> {
        let version = self.by_id.get(id).map_or(0, |object| object.version) + 1;
        self.put_version(id, owner, members, version)
    }

    fn put_version(
        &mut self,
        id: &str,
        owner: &Arc<str>,
        members: Members,
        version: u64,
    ) -> Result<u64, ClientError> {
        let bytes = members.json_bytes();
        if bytes > MAX_OBJECT_BYTES {
            return Err(ClientError::new(ErrorCode::Limit, "an object is at most 64 KiB"));
        }
        let old = self.by_id.get(id);
        let old_bytes = old.map_or(0, |object| object.members.json_bytes());
        if old.is_none() && self.by_id.len() >= self.count_max {
            return Err(ClientError::new(ErrorCode::Limit, "the room has as many objects as it may have"));
        }
        if self.bytes - old_bytes + bytes > MAX_ROOM_OBJECT_BYTES {
            return Err(ClientError::new(ErrorCode::Limit, "the room's objects are at most 4 MiB together"));
        }
        self.bytes = self.bytes - old_bytes + bytes;
        self.changed();
        self.by_id.insert(id.to_owned(), Object { version, owner: owner.clone(), members });
        Ok(version)
    }

    fn remove(&mut self, id: &str) -> Option<Object> {
        let object = self.by_id.remove(id)?;
        self.bytes -= object.members.json_bytes();
        self.changed();
        Some(object)
    }

    /// Puts in an object as it was somewhere else. `false`: it is more than may be, or no object.
    pub(super) fn restore(&mut self, object: StoredObject) -> bool {
        let Ok(members) = serde_json::from_str::<Members>(&object.json) else { return false };
        self.put_version(&object.id, &object.owner.into(), members, object.version).is_ok()
    }

    /// Takes an object out. `false`: there is none.
    pub(super) fn forget(&mut self, id: &str) -> bool {
        self.remove(id).is_some()
    }

    fn changed(&mut self) {
        self.packet = None;
        self.revision += 1;
    }

    /// Another number after each change.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Changes so far count as so many.
    pub(super) fn count_from(&mut self, revision: u64) {
        self.revision = revision;
    }

    /// A number that other objects do not have, except by a chance that is next to none.
    pub(super) fn fingerprint(&self, keys: &impl BuildHasher) -> u64 {
        let mut hasher = keys.build_hasher();
        for (id, Object { version, owner, members }) in &self.by_id {
            (id, version, owner, members.len()).hash(&mut hasher);
            members.iter().for_each(|(name, value)| (name, value.get()).hash(&mut hasher));
        }
        hasher.finish()
    }

    /// `room-objects`: every object with its `version` and `owner`.
    pub(super) fn packet(&mut self) -> Outgoing {
        let Self { by_id, packet, .. } = self;
        let encode = || Outgoing::event("room-objects", &by_id.values().collect::<Vec<_>>());
        packet.get_or_insert_with(encode).clone()
    }

    fn stored(&self, id: &str) -> Option<StoredObject> {
        let object = self.by_id.get(id)?;
        Some(StoredObject {
            id: id.to_owned(),
            version: object.version,
            owner: object.owner.to_string(),
            json: to_json(&object.members),
        })
    }
}

/// As `room-objects` shows it: `version` and `owner` stand in place of own members of these names.
impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let (mut has_version, mut has_owner) = (false, false);
        for (name, value) in self.members.iter() {
            match name {
                "version" => {
                    has_version = true;
                    map.serialize_entry(name, &self.version)?;
                }
                "owner" => {
                    has_owner = true;
                    map.serialize_entry(name, &*self.owner)?;
                }
                _ => map.serialize_entry(name, value)?,
            }
        }
        if !has_version {
            map.serialize_entry("version", &self.version)?;
        }
        if !has_owner {
            map.serialize_entry("owner", &*self.owner)?;
        }
        map.end()
    }
}

pub(super) fn to_json(members: &Members) -> String {
    serde_json::to_string(members).expect("members are JSON texts under string keys")
}

fn not_found() -> ClientError {
    ClientError::new(ErrorCode::NotFound, "there is no such object in the room")
}

impl<S: Clone> Room<S> {
    pub(super) fn object_create(
        &mut self,
        slot: u16,
        mut members: Members,
        fresh_id: String,
        ack: AckId,
        effects: &mut Vec<Effect<S>>,
    ) -> Result<(), ClientError> {
        let id = match object_id(&members)? {
            Some(id) => id,
            None => {
                members.set("id", json_string(&fresh_id));
                fresh_id
            }
        };
        let owner = self.member(slot).user.id.clone();
        if self.objects.by_id.get(&id).is_some_and(|object| object.owner != owner) {
            return Err(ClientError::new(ErrorCode::Exists, "the object exists and is somebody else's"));
        }
        let packet = Outgoing::event("object-created", &members);
        let object = self.is_recorded().then(|| to_json(&members));
        let version = self.objects.put(&id, &owner, members)?;
        self.announce(Audience::Others(slot), packet);
        let action = object.map(|object| Action::ObjectCreate { object, version });
        self.changed(slot, &id, version, action, ack, effects);
        Ok(())
    }

    pub(super) fn object_update(
        &mut self,
        slot: u16,
        update: ObjectUpdate,
        ack: AckId,
        effects: &mut Vec<Effect<S>>,
    ) -> Result<(), ClientError> {
        let ObjectUpdate { id, version: known, changes } = update;
        let object = self.objects.by_id.get(&id).ok_or_else(not_found)?;
        if known.is_some_and(|known| known != object.version) {
            let message = format!("the object is at version {}", object.version);
            return Err(ClientError::new(ErrorCode::StaleVersion, message));
        }
        let (owner, mut members) = (object.owner.clone(), object.members.clone());
        members.merge(&changes);
        let own_id = members.value("id").map(ToOwned::to_owned).unwrap_or_else(|| json_string(&id));
        let version = self.objects.put(&id, &owner, members)?;
        let mut announced = Members::default();
        announced.set("id", own_id);
        announced.set("version", json_number(version));
        announced.merge(&changes);
        self.announce(Audience::Others(slot), Outgoing::event("object-updated", &announced));
        let action = self.is_recorded().then(|| Action::ObjectUpdate { update: to_json(&announced) });
        self.changed(slot, &id, version, action, ack, effects);
        Ok(())
    }

    pub(super) fn object_delete(
        &mut self,
        slot: u16,
        id: &str,
        ack: AckId,
        effects: &mut Vec<Effect<S>>,
    ) -> Result<(), ClientError> {
        let object = self.objects.remove(id).ok_or_else(not_found)?;
        let own_id = object.members.value("id").map_or_else(|| json_string(id), ToOwned::to_owned);
        let action = self.is_recorded().then(|| Action::ObjectDelete { id: own_id.get().to_owned() });
        let mut announced = Members::default();
        announced.set("id", own_id);
        self.announce(Audience::Others(slot), Outgoing::event("object-deleted", &announced));
        let answer = ok_packet(ack, ObjectId { id });
        self.store(slot, id, action, answer, ack, effects);
        Ok(())
    }

    fn changed(
        &mut self,
        slot: u16,
        id: &str,
        version: u64,
        action: Option<Action>,
        ack: AckId,
        effects: &mut Vec<Effect<S>>,
    ) {
        let answer = ok_packet(ack, ObjectAnswer { id, version });
        self.store(slot, id, action, answer, ack, effects);
    }

    /// The answer waits until the change is stored, if the room is persistent, and until it is written down, if the
    /// room is recorded; else it goes at once.
    fn store(
        &mut self,
        slot: u16,
        id: &str,
        action: Option<Action>,
        answer: Option<Outgoing>,
        ack: AckId,
        effects: &mut Vec<Effect<S>>,
    ) {
        if !self.shared.options.persistent {
            return self.answer_recorded(slot, action, answer, ack);
        }
        let session = self.member(slot).session.clone();
        let reply = answer.zip(ack).map(|(answer, ack)| (session, answer, ack));
        let again = self.unsaved.contains(id);
        let record = action.and_then(|action| self.event(slot, action));
        self.push_write(id, reply, again, record, effects);
    }

    fn push_write(
        &mut self,
        id: &str,
        reply: Option<(S, Outgoing, u64)>,
        again: bool,
        record: Option<Record>,
        effects: &mut Vec<Effect<S>>,
    ) {
        let room = self.shared.id.to_string();
        let write = match self.objects.stored(id) {
            Some(object) => RoomWrite::PutObject { room, object },
            None => RoomWrite::DeleteObject { room, id: id.to_owned() },
        };
        self.storing += 1;
        // Whatever failed before is part of this write: it carries the object whole.
        self.unsaved.remove(id);
        effects.push(Effect::Store(StoreEffect { write, object_id: id.to_owned(), reply, again, record }));
    }

    /// The store has finished with a [`StoreEffect`]. A change that it could not take is told to who asked for
    /// it, stays in the room, and is tried again by [`Room::store_again`].
    pub fn stored(&mut self, effect: StoreEffect<S>, stored: bool) {
        self.storing -= 1;
        if !stored {
            self.unsaved.insert(effect.object_id);
        }
        self.answer_stored(effect.reply, stored);
    }

    /// The store has a [`StoreEffect`], but the journal has lost its record, or does not say in time that it has it.
    pub fn stored_unrecorded(&mut self, effect: StoreEffect<S>) {
        self.storing -= 1;
        self.answer_stored(effect.reply, false);
    }

    /// Answers one who waits for the disk.
    pub(super) fn answer_stored(&mut self, reply: Option<(S, Outgoing, u64)>, is_durable: bool) {
        let Some((session, answer, ack)) = reply else { return };
        if is_durable {
            self.reply(&session, Some(answer));
        } else {
            let error = ClientError::new(ErrorCode::Storage, "done, but not stored durably yet");
            self.reply(&session, error_packet(Some(ack), &error));
        }
    }

    /// Writes once more what the store could not take.
    pub fn store_again(&mut self, effects: &mut Vec<Effect<S>>) {
        for id in std::mem::take(&mut self.unsaved) {
            self.push_write(&id, None, true, None, effects);
        }
    }
}
