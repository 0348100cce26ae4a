//! Events and keyframes as bytes.

use super::wire::{Reader, put_bytes, put_varint};
use super::{Damaged, TooLarge};
use crate::limits::{ATTACHMENTS_MAX, MEMBERS_MAX};
use crate::{Action, Event, Keyframe, MemberId, Objects, RecordKind};

const JOIN: u8 = 1;
const LEAVE: u8 = 2;
const OBJECT_CREATE: u8 = 3;
const OBJECT_UPDATE: u8 = 4;
const OBJECT_DELETE: u8 = 5;
const USER_UPDATE: u8 = 6;
const MESSAGE: u8 = 7;

pub(super) fn put_event(event: &Event, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    put_varint(event.member.0, out);
    put_bytes(event.user_id.as_bytes(), out);
    put_bytes(event.socket_id.as_bytes(), out);
    match &event.action {
        Action::Join { user } => put_text(JOIN, user, out),
        Action::Leave => out.push(LEAVE),
        Action::ObjectCreate { object, version } => {
            put_text(OBJECT_CREATE, object, out);
            put_varint(*version, out);
        }
        Action::ObjectUpdate { update } => put_text(OBJECT_UPDATE, update, out),
        Action::ObjectDelete { id } => put_text(OBJECT_DELETE, id, out),
        Action::UserUpdate { update } => put_text(USER_UPDATE, update, out),
        Action::Message { message, attachments } => {
            if attachments.len() > ATTACHMENTS_MAX {
                return Err(TooLarge);
            }
            put_text(MESSAGE, message, out);
            put_varint(attachments.len() as u64, out);
            for attachment in attachments {
                put_bytes(attachment, out);
            }
        }
    }
    Ok(())
}

fn put_text(action: u8, text: &str, out: &mut Vec<u8>) {
    out.push(action);
    put_bytes(text.as_bytes(), out);
}

pub(super) fn read_event(body: &[u8]) -> Result<Event, Damaged> {
    let mut reader = Reader::new(body);
    let member = MemberId(reader.varint()?);
    let user_id = reader.text()?.into();
    let socket_id = reader.text()?.into();
    let action = match reader.byte()? {
        JOIN => Action::Join { user: reader.text()?.to_owned() },
        LEAVE => Action::Leave,
        OBJECT_CREATE => {
            Action::ObjectCreate { object: reader.text()?.to_owned(), version: reader.varint()? }
        }
        OBJECT_UPDATE => Action::ObjectUpdate { update: reader.text()?.to_owned() },
        OBJECT_DELETE => Action::ObjectDelete { id: reader.text()?.to_owned() },
        USER_UPDATE => Action::UserUpdate { update: reader.text()?.to_owned() },
        MESSAGE => {
            let message = reader.text()?.to_owned();
            let count = reader.count(ATTACHMENTS_MAX)?;
            let attachments = (0..count).map(|_| reader.copied()).collect::<Result<_, _>>()?;
            Action::Message { message, attachments }
        }
        _ => return Err(Damaged),
    };
    reader.end()?;
    Ok(Event { member, user_id, socket_id, action })
}

pub(super) fn put_keyframe(keyframe: &Keyframe, out: &mut Vec<u8>) -> Result<(), TooLarge> {
    if keyframe.members.len() > MEMBERS_MAX {
        return Err(TooLarge);
    }
    out.push(u8::from(keyframe.opens));
    put_varint(u64::from(keyframe.max_users), out);
    match &keyframe.objects {
        Objects::All(array) => put_bytes(array.as_bytes(), out),
        Objects::UnchangedSince(ms) => put_varint(*ms, out),
    }
    put_varint(keyframe.members.len() as u64, out);
    for (member, user) in &keyframe.members {
        put_varint(member.0, out);
        put_bytes(user.as_bytes(), out);
    }
    Ok(())
}

pub(super) fn read_keyframe(kind: RecordKind, body: &[u8]) -> Result<Keyframe, Damaged> {
    let mut reader = Reader::new(body);
    let opens = match reader.byte()? {
        0 => false,
        1 => true,
        _ => return Err(Damaged),
    };
    let max_users = u32::try_from(reader.varint()?).map_err(|_| Damaged)?;
    let objects = if kind == RecordKind::Keyframe {
        Objects::All(reader.text()?.to_owned())
    } else {
        Objects::UnchangedSince(reader.varint()?)
    };
    let count = reader.count(MEMBERS_MAX)?;
    let mut members = Vec::with_capacity(count.min(reader.rest().len()));
    for _ in 0..count {
        members.push((MemberId(reader.varint()?), reader.text()?.to_owned()));
    }
    reader.end()?;
    Ok(Keyframe { opens, max_users, members, objects })
}
