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
    views: Vec<SharedView>,
    /// Which view a slot's member has. Empty: all have the first.
    view_of: Vec<u16>,
}

/// Viewers who see the same. Boxed is what few of a crowd's many views have.
#[derive(Debug, Default)]
struct SharedView {
    /// From where; `None`: from anywhere, which is all there is to see.
    from: Option<Viewpoint>,
    json: OnceLock<Option<Box<JsonShare>>>,
    batch: OnceLock<Option<Box<BatchShare>>>,
    binary: OnceLock<Option<Box<BinaryShare>>>,
}

/// Stands for no view: nobody is in that slot.
const NO_VIEW: u16 = u16::MAX;

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
            views: Vec::new(),
            view_of: Vec::new(),
        };
        // Whoever sees as far as the room reaches, where nothing is left for near, sees the same from anywhere.
        let has_near = !poses.near.grid().is_empty();
        let from = |viewpoint: Viewpoint| (has_near || !viewpoint.is_unlimited()).then_some(viewpoint);
        if viewpoints.iter().all(|(viewpoint, _)| from(*viewpoint).is_none()) {
            poses.views.push(SharedView::default());
            return poses;
        }
        let mut viewers: Vec<(Option<Viewpoint>, u16)> =
            viewpoints.iter().map(|(viewpoint, slot)| (from(*viewpoint), *slot)).collect();
        viewers.sort_unstable();
        let slots = viewers.iter().map(|(_, slot)| usize::from(*slot) + 1).max().unwrap_or(0);
        poses.view_of.resize(slots, NO_VIEW);
        for viewers in viewers.chunk_by(|(one, _), (other, _)| one == other) {
            let view = poses.views.len() as u16;
            poses.views.push(SharedView { from: viewers[0].0, ..SharedView::default() });
            for (_, slot) in viewers {
                poses.view_of[usize::from(*slot)] = view;
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

    /// Whether all of it is for everybody within whose radius it is: nothing was left for those near, since everything
    /// fits into the budget.
    pub fn is_for_all(&self) -> bool {
        self.near.grid().is_empty()
    }

    /// What the member in `slot` gets as a `user-moved` for each pose: all that it sees but its own. `None` if that
    /// is nobody.
    pub fn json(&self, slot: u16) -> Option<TickView<'_>> {
        let view = self.view(slot)?;
        let share = view.json.get_or_init(|| match view.from {
            None if !self.base.has_repeated_text() => JsonShare::whole(&self.base).map(Box::new),
            _ => JsonShare::of(&self.parts_of(view)).map(Box::new),
        });
        share.as_ref()?.view(slot)
    }

    /// What the member in `slot` gets as one `users-moved`: all that it sees but its own. `None` if that is nobody.
    pub fn batch(&self, slot: u16) -> Option<Cow<'_, Outgoing>> {
        let view = self.view(slot)?;
        view.batch
            .get_or_init(|| BatchShare::of(self.header, &self.parts_of(view)).map(Box::new))
            .as_ref()?
            .view(slot)
    }

    /// What the member in `slot` gets as one `pose-frame`, which may have its own pose in it. `None` if there is
    /// nobody else.
    pub fn binary(&self, slot: u16) -> Option<&Outgoing> {
        let view = self.view(slot)?;
        view.binary
            .get_or_init(|| BinaryShare::of(&self.frames, self.header, &self.parts_of(view)).map(Box::new))
            .as_ref()?
            .view(slot)
    }

    fn view(&self, slot: u16) -> Option<&SharedView> {
        let view = if self.view_of.is_empty() { 0 } else { *self.view_of.get(usize::from(slot))? };
        self.views.get(usize::from(view))
    }

    fn parts_of(&self, view: &SharedView) -> Vec<Part<'_>> {
        match view.from {
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
