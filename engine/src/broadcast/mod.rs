//! One tick's poses: each encoded once, put together once for all who see the same.

mod section;
mod share;

use std::borrow::Cow;
use std::sync::OnceLock;

use protocol::Outgoing;
use protocol::frame::{FRAME_HEADER_BYTES, FrameHeader};
use protocol::outgoing::AttachmentEvents;

use crate::interest::{Viewpoint, select_near, select_within};
use crate::options::ViewOptions;
use crate::ports::TickView;
use share::{BatchShare, BinaryShare, JsonShare, Part};

pub use section::{Members, Section, Wanted};

/// Bytes around a frame's groups on the wire: its header, its packet's text, and the headers of two WebSocket frames.
pub const FRAME_ENVELOPE_BYTES: usize = FRAME_HEADER_BYTES + 64;

/// The poses of one tick, and who sees which of them.
///
/// What viewers share is put together when the first of them asks for it, by whichever core that is.
#[derive(Debug)]
pub struct TickPoses {
    header: FrameHeader,
    frames: AttachmentEvents,
    options: ViewOptions,
    /// Bytes for one viewer.
    budget: usize,
    base: Section,
    near: Section,
    groups: Vec<Group>,
    /// Which group a slot's member is in. Empty: all are in the first.
    group_of: Vec<u16>,
}

/// Viewers who see the same. Boxed is what few of a crowd's many groups have.
#[derive(Debug, Default)]
struct Group {
    /// From where; `None`: from anywhere, which is all there is to see.
    from: Option<Viewpoint>,
    json: OnceLock<Option<Box<JsonShare>>>,
    batch: OnceLock<Option<Box<BatchShare>>>,
    binary: OnceLock<Option<Box<BinaryShare>>>,
}

/// Stands for no group: nobody is in that slot.
const NO_GROUP: u16 = u16::MAX;

impl TickPoses {
    /// A tick of these poses. `base` goes to everybody within whose radius it is, `near` to those around, with
    /// `budget` bytes for both together. `viewpoints` are those of all members, with their slots.
    pub fn new(
        header: FrameHeader,
        options: ViewOptions,
        budget: usize,
        base: Section,
        near: Section,
        viewpoints: &[(Viewpoint, u16)],
    ) -> Self {
        let mut poses = Self {
            header,
            frames: AttachmentEvents::new("pose-frame"),
            options,
            budget,
            base,
            near,
            groups: Vec::new(),
            group_of: Vec::new(),
        };
        // Whoever sees as far as the room reaches, where nothing is left for near, sees the same from anywhere.
        let has_near = !poses.near.grid().is_empty();
        let from = |viewpoint: Viewpoint| (has_near || !viewpoint.is_unlimited()).then_some(viewpoint);
        if viewpoints.iter().all(|(viewpoint, _)| from(*viewpoint).is_none()) {
            poses.groups.push(Group::default());
            return poses;
        }
        let mut viewers: Vec<(Option<Viewpoint>, u16)> =
            viewpoints.iter().map(|(viewpoint, slot)| (from(*viewpoint), *slot)).collect();
        viewers.sort_unstable();
        let slots = viewers.iter().map(|(_, slot)| usize::from(*slot) + 1).max().unwrap_or(0);
        poses.group_of.resize(slots, NO_GROUP);
        for viewers in viewers.chunk_by(|(one, _), (other, _)| one == other) {
            let group = poses.groups.len() as u16;
            poses.groups.push(Group { from: viewers[0].0, ..Group::default() });
            for (_, slot) in viewers {
                poses.group_of[usize::from(*slot)] = group;
            }
        }
        poses
    }

    /// How many poses these are.
    pub fn len(&self) -> usize {
        self.base.grid().entries().len() + self.near.grid().entries().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many different views of them there are.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// What the member in `slot` gets as a `user-moved` for each pose: all that it sees but its own. `None` if that
    /// is nobody.
    pub fn json(&self, slot: u16) -> Option<TickView<'_>> {
        let group = self.group(slot)?;
        let share = group.json.get_or_init(|| match group.from {
            None if !self.base.has_repeated_text() => JsonShare::whole(&self.base).map(Box::new),
            _ => JsonShare::of(&self.parts_of(group)).map(Box::new),
        });
        share.as_ref()?.view(slot)
    }

    /// What the member in `slot` gets as one `users-moved`: all that it sees but its own. `None` if that is nobody.
    pub fn batch(&self, slot: u16) -> Option<Cow<'_, Outgoing>> {
        let group = self.group(slot)?;
        group
            .batch
            .get_or_init(|| BatchShare::of(self.header, &self.parts_of(group)).map(Box::new))
            .as_ref()?
            .view(slot)
    }

    /// What the member in `slot` gets as one `pose-frame`, which may have its own pose in it. `None` if there is
    /// nobody else.
    pub fn binary(&self, slot: u16) -> Option<&Outgoing> {
        let group = self.group(slot)?;
        group
            .binary
            .get_or_init(|| BinaryShare::of(&self.frames, self.header, &self.parts_of(group)).map(Box::new))
            .as_ref()?
            .view(slot)
    }

    fn group(&self, slot: u16) -> Option<&Group> {
        let group = if self.group_of.is_empty() { 0 } else { *self.group_of.get(usize::from(slot))? };
        self.groups.get(usize::from(group))
    }

    fn parts_of(&self, group: &Group) -> Vec<Part<'_>> {
        match group.from {
            None => vec![Part { section: &self.base, runs: None, repeats_text: false }],
            Some(from) => self.parts(from),
        }
    }

    fn parts(&self, from: Viewpoint) -> Vec<Part<'_>> {
        let runs = (!from.is_unlimited()).then(|| select_within(self.base.grid(), from));
        let repeats_text = runs.is_some();
        let base = Part { section: &self.base, runs, repeats_text };
        if self.near.grid().is_empty() {
            return vec![base];
        }
        let budget = self.budget.saturating_sub(base.frame_bytes());
        let near = select_near(self.near.grid(), from, &self.options, self.header.tick, budget);
        vec![base, Part { section: &self.near, runs: Some(near), repeats_text: false }]
    }
}

#[cfg(all(test, not(loom_model)))]
#[allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]
mod tests;
