//! What a fan-out does with a room's effects, as plainly as it can be said.

use std::collections::BTreeMap;

use engine::broadcast::TickPoses;
use engine::ports::TickView;
use engine::room::{Audience, Entry, Flush};
use protocol::event::Encoding;

use super::operation::SESSIONS;
use super::run::TICK_HZ;
use crate::common::viewer::Viewer;

/// Viewers by slot, and every session's picture.
pub(crate) struct Fan {
    viewers: BTreeMap<u16, (u64, Encoding)>,
    pub(crate) pictures: Vec<Viewer>,
    /// For each session that takes frames: how many ticks ago it was last shown each of the other slots.
    unseen: BTreeMap<u64, BTreeMap<u16, u32>>,
}

impl Fan {
    pub(crate) fn new() -> Self {
        let pictures = (0..SESSIONS).map(|session| Viewer::new(&format!("s{session}"))).collect();
        Self { viewers: BTreeMap::new(), pictures, unseen: BTreeMap::new() }
    }

    pub(crate) fn flush(&mut self, flush: &Flush<u64>) {
        for (session, slot) in &flush.left {
            let viewer = self.viewers.remove(slot);
            assert!(viewer.is_none_or(|(viewer, _)| viewer == *session), "slot {slot} was somebody else's");
            self.pictures[*session as usize].step_out();
            self.unseen.remove(session);
        }
        for entry in &flush.entries {
            for (session, _) in
                self.viewers.iter().filter(|(slot, _)| concerns(entry, **slot)).map(|(_, viewer)| *viewer)
            {
                self.pictures[session as usize].packet(entry.packet.text());
            }
        }
        for joined in &flush.joined {
            let picture = &mut self.pictures[joined.session as usize];
            let welcome = [joined.reply.as_ref(), flush.users.as_ref(), flush.objects.as_ref()];
            welcome.into_iter().flatten().for_each(|packet| picture.packet(packet.text()));
            self.unseen.remove(&joined.session);
            let before = self.viewers.insert(joined.slot, (joined.session, joined.encoding));
            assert!(before.is_none_or(|(viewer, _)| viewer == joined.session), "two in slot {}", joined.slot);
            if before.is_none() {
                let heard = flush.missed.iter().chain(&flush.entries).skip(joined.since);
                for entry in heard.filter(|entry| !entry.in_welcome) {
                    if concerns(entry, joined.slot) {
                        picture.packet(entry.packet.text());
                    }
                }
            }
        }
        for (session, packet) in &flush.replies {
            self.pictures[*session as usize].packet(packet.text());
        }
    }

    pub(crate) fn tick(&mut self, poses: &TickPoses) {
        let viewers: Vec<_> = self.viewers.iter().map(|(slot, viewer)| (*slot, *viewer)).collect();
        for (slot, (session, encoding)) in viewers {
            let picture = &mut self.pictures[session as usize];
            match encoding {
                Encoding::Binary => self.binary_tick(Some(poses), slot, session),
                Encoding::Json => {
                    let Some(TickView::Packets { buffer, spans, own }) = poses.json(slot) else { continue };
                    for (_, span) in spans.iter().enumerate().filter(|(index, _)| Some(*index) != own) {
                        picture.packet(std::str::from_utf8(&buffer[span.text()]).unwrap());
                    }
                }
                Encoding::Batch => {
                    if let Some(packet) = poses.batch(slot) {
                        picture.outgoing(&packet);
                    }
                }
            }
        }
    }

    /// A tick in which nobody is shown to anybody.
    pub(crate) fn still_tick(&mut self) {
        let viewers: Vec<_> = self.viewers.iter().map(|(slot, viewer)| (*slot, *viewer)).collect();
        for (slot, (session, _)) in
            viewers.into_iter().filter(|(_, (_, encoding))| *encoding == Encoding::Binary)
        {
            self.binary_tick(None, slot, session);
        }
    }

    fn binary_tick(&mut self, poses: Option<&TickPoses>, slot: u16, session: u64) {
        let picture = &mut self.pictures[session as usize];
        picture.frames.clear();
        if let Some(packet) = poses.and_then(|poses| poses.binary(slot)) {
            picture.outgoing(packet);
        }
        let shown = |slot: &u16| picture.frames.iter().any(|frame| frame.slots.contains(slot));
        let unseen = self.unseen.entry(session).or_default();
        *unseen = picture
            .users
            .keys()
            .map(|other| picture.slot_of(other))
            .filter(|other| *other != slot)
            .map(|other| (other, if shown(&other) { 0 } else { unseen.get(&other).unwrap_or(&0) + 1 }))
            .collect();
        let missing = unseen.iter().find(|(_, ticks)| **ticks >= TICK_HZ);
        assert_eq!(missing, None, "s{session} is not shown everybody within a second");
    }
}

fn concerns(entry: &Entry, slot: u16) -> bool {
    match entry.audience {
        Audience::All => true,
        Audience::Others(sender) => sender != slot,
        Audience::One(receiver) => receiver == slot,
    }
}
