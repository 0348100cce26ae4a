//! What some viewers share of a tick: those who see the same.

use std::borrow::Cow;

use bytes::Bytes;
use protocol::Outgoing;
use protocol::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameWriter};
use protocol::outgoing::{AttachmentEvents, FrameSpan};

use super::section::{Section, frame_bytes};
use crate::interest::Run;
use crate::ports::TickView;

/// Some of a section's entries, or all of them.
pub(super) struct Part<'a> {
    pub(super) section: &'a Section,
    /// `None`: all.
    pub(super) runs: Option<Vec<Run>>,
    /// Text has what is no news as well.
    pub(super) repeats_text: bool,
}

impl Part<'_> {
    fn entries(&self) -> impl Iterator<Item = usize> + '_ {
        let runs = self.runs.as_deref().unwrap_or_default().iter().map(|run| run.entries());
        let all = self.runs.is_none().then_some(0..self.section.grid().entries().len());
        runs.chain(all).flatten()
    }

    /// The entries that text has.
    fn text_entries(&self) -> impl Iterator<Item = usize> + '_ {
        let shown = self.section.grid().entries();
        self.entries().filter(move |entry| self.repeats_text || shown[*entry].is_news)
    }

    fn count(&self) -> usize {
        match &self.runs {
            Some(runs) => runs.iter().map(|run| run.len()).sum(),
            None => self.section.grid().entries().len(),
        }
    }

    /// At most how many bytes these take in a frame.
    pub(super) fn frame_bytes(&self) -> usize {
        match &self.runs {
            Some(runs) => frame_bytes(runs),
            None => self.section.whole_bytes(),
        }
    }
}

/// One `user-moved` packet per pose, framed, in one buffer.
#[derive(Debug)]
pub(super) struct JsonShare {
    slots: Vec<u16>,
    spans: Vec<FrameSpan>,
    buffer: Bytes,
}

impl JsonShare {
    /// Everything in a section that has text, where it lies.
    pub(super) fn whole(section: &Section) -> Option<Self> {
        let json = section.json()?;
        let (slots, spans): (Vec<u16>, Vec<FrameSpan>) = (json.spans.iter().enumerate())
            .filter(|(_, span)| span.start < span.end)
            .map(|(entry, span)| (section.slot(entry), *span))
            .unzip();
        (!spans.is_empty()).then(|| Self { slots, spans, buffer: json.buffer.clone() })
    }

    /// Copies of parts, one behind the other.
    pub(super) fn of(parts: &[Part<'_>]) -> Option<Self> {
        let count = parts.iter().map(Part::count).sum();
        let (mut slots, mut spans) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut buffer = Vec::with_capacity(count * super::section::POSE_JSON_BYTES);
        for part in parts {
            let json = part.section.json()?;
            for entry in part.text_entries() {
                let span = json.spans[entry];
                let moved = |at: u32| at - span.start + buffer.len() as u32;
                spans.push(FrameSpan {
                    start: moved(span.start),
                    end: moved(span.end),
                    text_start: moved(span.text_start),
                });
                slots.push(part.section.slot(entry));
                buffer.extend_from_slice(&json.buffer[span.frame()]);
            }
        }
        (!spans.is_empty()).then(|| Self { slots, spans, buffer: buffer.into() })
    }

    /// What the viewer in `slot` gets: everybody but itself. `None` if that is nobody.
    pub(super) fn view(&self, slot: u16) -> Option<TickView<'_>> {
        let own = self.slots.iter().position(|other| *other == slot);
        let others = self.spans.len() - usize::from(own.is_some());
        (others > 0).then_some(TickView::Packets { buffer: &self.buffer, spans: &self.spans, own })
    }
}

/// One `users-moved` packet for all poses.
#[derive(Debug)]
pub(super) struct BatchShare {
    slots: Vec<u16>,
    /// `{"tick":…,"time":…,"users":[`
    head: String,
    /// The users, with a comma after each.
    items: Vec<u8>,
    /// Where each user ends in `items`.
    ends: Vec<usize>,
    whole: Outgoing,
}

impl BatchShare {
    pub(super) fn of(header: FrameHeader, parts: &[Part<'_>]) -> Option<Self> {
        let (mut slots, mut items, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            let batch = part.section.batch()?;
            for entry in part.text_entries() {
                items.extend_from_slice(&batch.bytes[batch.range(entry)]);
                slots.push(part.section.slot(entry));
                ends.push(items.len());
            }
        }
        let FrameHeader { tick, time_ms, .. } = header;
        let head = format!("{{\"tick\":{tick},\"time\":{time_ms},\"users\":[");
        let whole = users_moved(&head, &[&items]);
        (!slots.is_empty()).then_some(Self { slots, head, items, ends, whole })
    }

    /// What the viewer in `slot` gets: everybody but itself. `None` if that is nobody. A viewer that is not in it
    /// shares one packet with all others of its kind; for one that is, a packet is put together.
    pub(super) fn view(&self, slot: u16) -> Option<Cow<'_, Outgoing>> {
        let Some(own) = self.slots.iter().position(|other| *other == slot) else {
            return Some(Cow::Borrowed(&self.whole));
        };
        if self.slots.len() == 1 {
            return None;
        }
        let start = if own == 0 { 0 } else { self.ends[own - 1] };
        let parts = [&self.items[..start], &self.items[self.ends[own]..]];
        Some(Cow::Owned(users_moved(&self.head, &parts)))
    }
}

/// The packet of these users; `parts` end in a comma each, of which the last is taken away.
fn users_moved(head: &str, parts: &[&[u8]]) -> Outgoing {
    let mut args = Vec::with_capacity(head.len() + parts.iter().map(|part| part.len()).sum::<usize>() + 2);
    args.extend_from_slice(head.as_bytes());
    for part in parts {
        args.extend_from_slice(part);
    }
    if args.last() == Some(&b',') {
        args.pop();
    }
    args.extend_from_slice(b"]}");
    let args = String::from_utf8(args).expect("built from JSON texts");
    Outgoing::event_raw("users-moved", &args)
}

/// One `pose-frame` packet, the same for all who share it: it costs less to send each viewer its own pose too than to
/// put a frame together for each.
#[derive(Debug)]
pub(super) struct BinaryShare {
    /// The only member in it, if there is only one.
    alone: Option<u16>,
    packet: Outgoing,
}

impl BinaryShare {
    pub(super) fn of(events: &AttachmentEvents, header: FrameHeader, parts: &[Part<'_>]) -> Option<Self> {
        if parts.iter().any(|part| !part.section.has_binary()) {
            return None;
        }
        let mut entries = parts.iter().flat_map(|part| part.entries().map(|at| part.section.slot(at)));
        let first = entries.next()?;
        let alone = entries.next().is_none().then_some(first);
        let bytes: usize = parts.iter().map(Part::frame_bytes).sum();
        let packet = events.event(FRAME_HEADER_BYTES + bytes, |out| {
            let mut frame = FrameWriter::new(header, out);
            for part in parts {
                part.section.write(part.runs.as_deref(), &mut frame);
            }
            frame.finish();
        });
        Some(Self { alone, packet })
    }

    /// What the viewer in `slot` gets. `None` if there is nobody but itself in it.
    pub(super) fn view(&self, slot: u16) -> Option<&Outgoing> {
        (self.alone != Some(slot)).then_some(&self.packet)
    }
}
