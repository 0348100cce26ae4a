//! Members' poses, each encoded once, in the order of a grid.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use protocol::Pose;
use protocol::frame::{FrameWriter, GROUP_HEADER_BYTES, GroupWriter, encode_entry};
use protocol::outgoing::{FrameSpan, TextFrames};

use crate::interest::{Grid, Run, Shown};

/// About how long one user's pose is as JSON, with its envelope; only a hint for buffers.
pub(super) const POSE_JSON_BYTES: usize = 200;

/// Which encodings somebody in the room takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// A `user-moved` for each pose.
    pub json: bool,
    /// A `users-moved` for all.
    pub batch: bool,
    /// A `pose-frame` for all.
    pub binary: bool,
    /// Somebody who takes text sees less than all of the room. It may come upon people who have long stood still, so that
    /// text has repetitions for it too.
    pub repeated_text: bool,
}

/// What is known of the members that a section shows.
pub trait Members {
    /// The member's pose.
    fn pose(&self, slot: u16) -> &Pose;
    /// `"id":"…","socketId":"…",`
    fn ids_json(&self, slot: u16) -> &str;
}

/// The members of a grid in every encoding that is wanted.
#[derive(Debug, Default)]
pub struct Section {
    grid: Grid,
    /// Their entries in a frame.
    binary: Option<Vec<u8>>,
    /// Whole groups of all of them, and how many these are.
    groups: OnceLock<(u16, Vec<u8>)>,
    json: Option<JsonTexts>,
    batch: Option<Texts>,
    has_repeated_text: bool,
}

/// A packet for each entry, framed; an empty span for those that text leaves out.
#[derive(Debug)]
pub(super) struct JsonTexts {
    pub(super) buffer: Bytes,
    pub(super) spans: Vec<FrameSpan>,
}

/// `{…},` for each entry, one behind the other; nothing for those that text leaves out.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Texts {
    /// Where the text of an entry lies.
    pub(super) fn range(&self, entry: usize) -> Range<usize> {
        let start = if entry == 0 { 0 } else { self.ends[entry - 1] };
        start as usize..self.ends[entry] as usize
    }
}

impl Section {
    /// Encodes the members of `grid`.
    pub fn encode(grid: Grid, members: &impl Members, wanted: Wanted) -> Self {
        let mut section = Self { grid, has_repeated_text: wanted.repeated_text, ..Self::default() };
        section.binary = wanted.binary.then(|| section.encode_binary(members));
        let has_text = |entry: &Shown| entry.is_news || wanted.repeated_text;
        section.json = wanted.json.then(|| section.encode_json(members, has_text));
        section.batch = wanted.batch.then(|| section.encode_batch(members, has_text));
        section
    }

    fn encode_binary(&self, members: &impl Members) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.grid.bytes());
        for entry in self.grid.entries() {
            encode_entry(entry.cell.frame_cell(), entry.slot, members.pose(entry.slot), &mut out);
        }
        debug_assert_eq!(out.len(), self.grid.bytes(), "entries are as long as the grid takes them for");
        out
    }

    fn encode_json(&self, members: &impl Members, has_text: impl Fn(&Shown) -> bool) -> JsonTexts {
        let mut frames = TextFrames::with_capacity(self.grid.entries().len() * POSE_JSON_BYTES);
        let mut spans = Vec::with_capacity(self.grid.entries().len());
        for entry in self.grid.entries() {
            if !has_text(entry) {
                let end = frames.len() as u32;
                spans.push(FrameSpan { start: end, end, text_start: end });
                continue;
            }
            let out = frames.begin(POSE_JSON_BYTES);
            out.extend_from_slice(b"2[\"user-moved\",{");
            out.extend_from_slice(members.ids_json(entry.slot).as_bytes());
            members.pose(entry.slot).write_json_members(out);
            out.extend_from_slice(b"}]");
            spans.push(frames.end());
        }
        JsonTexts { buffer: frames.finish(), spans }
    }

    fn encode_batch(&self, members: &impl Members, has_text: impl Fn(&Shown) -> bool) -> Texts {
        let entries = self.grid.entries();
        let mut texts = Texts {
            bytes: Vec::with_capacity(entries.len() * POSE_JSON_BYTES),
            ends: Vec::with_capacity(entries.len()),
        };
        for entry in entries {
            if has_text(entry) {
                texts.bytes.push(b'{');
                texts.bytes.extend_from_slice(members.ids_json(entry.slot).as_bytes());
                members.pose(entry.slot).write_json_members(&mut texts.bytes);
                texts.bytes.extend_from_slice(b"},");
            }
            texts.ends.push(texts.bytes.len() as u32);
        }
        texts
    }

    /// Where everybody is in it.
    pub(super) fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The slot of an entry.
    pub(super) fn slot(&self, entry: usize) -> u16 {
        self.grid.entries()[entry].slot
    }

    /// Whether there may be text of what is no news.
    pub(super) fn has_repeated_text(&self) -> bool {
        self.has_repeated_text
    }

    pub(super) fn json(&self) -> Option<&JsonTexts> {
        self.json.as_ref()
    }

    pub(super) fn batch(&self) -> Option<&Texts> {
        self.batch.as_ref()
    }

    /// Appends `runs` to a frame, or everything; runs that follow each other in one of the frame's cells share a
    /// group.
    pub(super) fn write(&self, runs: Option<&[Run]>, frame: &mut FrameWriter<'_>) {
        match runs {
            Some(runs) => grouped(runs).for_each(|together| {
                let mut group = frame.group(together[0].block);
                self.write_group(together, &mut group);
                group.finish();
            }),
            None => {
                let (groups, bytes) = self.groups.get_or_init(|| self.all_groups());
                frame.encoded_groups(*groups, bytes);
            }
        }
    }

    fn all_groups(&self) -> (u16, Vec<u8>) {
        let runs: Vec<Run> = self.grid.cells().iter().map(|cell| cell.all).collect();
        let mut bytes = Vec::with_capacity(self.whole_bytes());
        let mut groups = 0;
        for together in grouped(&runs) {
            let mut group = GroupWriter::new(together[0].block, &mut bytes);
            self.write_group(together, &mut group);
            group.finish();
            groups += 1;
        }
        (groups, bytes)
    }

    fn write_group(&self, runs: &[Run], group: &mut GroupWriter<'_>) {
        let entries = self.binary.as_deref().unwrap_or_default();
        for run in runs {
            group.encoded(run.len() as u16, &entries[run.byte_range()]);
        }
    }

    /// Whether it can be written to frames.
    pub(super) fn has_binary(&self) -> bool {
        self.binary.is_some()
    }

    /// How many bytes everything takes in a frame.
    pub(super) fn whole_bytes(&self) -> usize {
        self.grid.bytes() + self.grid.cells().len() * GROUP_HEADER_BYTES
    }
}

fn grouped(runs: &[Run]) -> impl Iterator<Item = &[Run]> {
    runs.chunk_by(|one, other| one.block == other.block)
}

/// At most how many bytes `runs` take in a frame.
pub(super) fn frame_bytes(runs: &[Run]) -> usize {
    runs.iter().map(|run| GROUP_HEADER_BYTES + run.bytes()).sum()
}
