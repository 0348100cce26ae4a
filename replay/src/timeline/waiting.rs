//! What waits for its turn.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Action, MemberId, PoseSample, PoseSamples, Who};

/// Something that waits for its turn. The greatest is the next, as a heap wants it.
pub(super) struct Waiting {
    pub(super) at_ms: u64,
    pub(super) rank: Rank,
    pub(super) sequence: u64,
    /// What it counts for in the limit.
    pub(super) bytes: usize,
    pub(super) body: Body,
}

/// What comes first of that which has one time: somebody joins before it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Event,
    Move,
    /// Those whom nobody has seen leave.
    Last,
}

pub(super) enum Body {
    Event {
        epoch: u32,
        member: MemberId,
        who: Arc<Who>,
        action: Action,
    },
    /// All that stands there from now on.
    Objects(String),
    Gap,
    /// A chunk is decoded when its first pose's turn has come: most never overlap.
    Sealed {
        payload: Bytes,
        epoch: u32,
    },
    Chunk(Box<Chunk>),
}

/// A chunk of which some poses have been told.
pub(super) struct Chunk {
    pub(super) epoch: u32,
    poses: PoseSamples,
    told: usize,
}

impl Chunk {
    pub(super) fn new(poses: PoseSamples, epoch: u32) -> Self {
        Self { epoch, poses, told: 0 }
    }

    /// When the next pose is.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let sample = self.poses.samples.get(self.told)?;
        self.poses.instants_ms.get(usize::from(sample.instant)).copied()
    }

    pub(super) fn next(&mut self) -> Option<PoseSample> {
        let sample = self.poses.samples.get(self.told).copied();
        self.told += 1;
        sample
    }
}

impl Waiting {
    fn key(&self) -> (u64, Rank, u64) {
        (self.at_ms, self.rank, self.sequence)
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}
