//! The people in a hall.

use engine::User;
use engine::interest::Cell;
use protocol::event::{Encoding, View};
use protocol::frame::entry_bytes;
use protocol::view::Point;
use protocol::{Part, Pose, Rotation};

use super::script::{Look, Setup};
use super::watch::Watch;

/// One member, as it is in truth.
pub(crate) struct Person {
    pub(crate) session: u64,
    pub(crate) slot: u16,
    pub(crate) generation: u32,
    pub(crate) pose: Pose,
    /// As of its newest welcome.
    pub(crate) encoding: Encoding,
    pub(crate) is_moving: bool,
    /// Where it looks from, if not from where it stands.
    pub(crate) looks_from: Option<[f32; 3]>,
    /// How far it sees, in metres.
    pub(crate) radius_m: Option<f32>,
    /// What it has been shown since its welcome, if it is watched.
    pub(crate) watch: Option<Watch>,
}

impl Person {
    pub(crate) fn position(&self) -> [f32; 3] {
        self.pose.head.position
    }

    pub(crate) fn viewpoint(&self) -> [f32; 3] {
        self.looks_from.unwrap_or_else(|| self.position())
    }

    /// Bytes of its entry in a frame.
    pub(crate) fn bytes(&self) -> usize {
        entry_bytes(&self.pose)
    }

    pub(crate) fn look(&mut self, look: Look, setup: &Setup) {
        self.looks_from = look.from.map(|place| setup.point(place));
        self.radius_m = match (look.radius_m, setup.view.radius_m) {
            (Some(own), Some(of_room)) => Some(own.min(of_room)),
            (own, of_room) => own.or(of_room),
        };
    }

    /// Whether it is to see what is there: all that is within its radius in each direction.
    pub(crate) fn must_see(&self, position: [f32; 3]) -> bool {
        self.radius_m.is_none_or(|radius| distances(self.viewpoint(), position).iter().all(|m| *m <= radius))
    }

    /// Whether it may be shown what is there. Its viewpoint may be anywhere in its cell and its radius may end
    /// anywhere in one, so that on the ground up to two cells more are shown, and two layers up and down.
    pub(crate) fn may_see(&self, position: [f32; 3]) -> bool {
        let more = [2.0 * engine::interest::CELL_EDGE_M, 64.0, 2.0 * engine::interest::CELL_EDGE_M];
        self.radius_m.is_none_or(|radius| {
            distances(self.viewpoint(), position).iter().zip(more).all(|(m, more)| *m <= radius + more)
        })
    }

    /// How many cells lie between where it looks from and somebody, if that is at about the same height.
    pub(crate) fn ring(&self, other: &Person) -> Option<u32> {
        let (from, to) = (Cell::of(self.viewpoint()), Cell::of(other.position()));
        (from.layer.abs_diff(to.layer) <= 1).then(|| from.ring(to))
    }
}

fn distances(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    [0, 1, 2].map(|axis| (a[axis] - b[axis]).abs())
}

pub(crate) fn user(session: u64) -> User {
    let name = |kind: &str| format!("{kind}{session}").as_str().into();
    User { id: name("u"), socket_id: name("s"), username: name("name ") }
}

pub(crate) fn view(look: Look, setup: &Setup) -> View {
    let position = look.from.map(|place| {
        let [x, y, z] = setup.point(place);
        Point { x, y, z }
    });
    View { position, radius: look.radius_m }
}

/// Somebody there, with as many hands.
pub(crate) fn pose_at(position: [f32; 3], hands: u32) -> Pose {
    let rotation = Rotation::Euler([0.0, 0.5, 0.0]);
    let hand = Part { position, rotation };
    Pose {
        head: Part { position, rotation },
        left_hand: (hands > 0).then_some(hand),
        right_hand: (hands > 1).then_some(hand),
    }
}
