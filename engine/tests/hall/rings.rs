//! How often people are shown to each other who move all the time without leaving their cells.

use std::collections::{BTreeMap, BTreeSet};

use engine::broadcast::TickPoses;
use engine::interest::{CELL_EDGE_M, Cell};
use protocol::event::Encoding;
use protocol::frame::{CELL_M, ENTRY_BYTES_MAX, FRAME_HEADER_BYTES, GROUP_HEADER_BYTES};

use super::person::{Person, pose_at};
use super::run::Hall;
use super::script::{Act, Look, Setup};

/// So far away from everybody that nobody is near: what it is shown is what is shown to all.
const FAR_M: f32 = 900_000.0;

pub(crate) struct Rings {
    pub(crate) hall: Hall,
    observer: u64,
    /// Where each stands: the middle of its cell.
    places: BTreeMap<u64, [f32; 3]>,
    /// For each that is watched, by how far it is: what all who are near take, and since which tick that has fitted.
    near: BTreeMap<u64, Vec<(usize, u32)>>,
}

impl Rings {
    /// These people, each in the middle of a cell, and one who looks from far away.
    pub(crate) fn new(setup: Setup, joins: &[Act]) -> Self {
        let mut hall =
            Hall::new(Setup { view: engine::ViewOptions { radius_m: None, ..setup.view }, ..setup });
        let mut places = BTreeMap::new();
        for join in joins {
            let Act::Join { encoding, at, look } = join else { unreachable!("only joins") };
            let session = hall.join(*encoding, Look { radius_m: None, ..*look });
            places.insert(session, middle_of_cell(hall.setup.point(*at)));
        }
        let observer = hall.join(Encoding::Binary, Look::default());
        places.insert(observer, [FAR_M, 0.0, FAR_M]);
        let mut rings = Self { hall, observer, places, near: BTreeMap::new() };
        // Until all have been welcomed.
        (0..=rings.hall.setup.hz / 20 + 1).for_each(|_| {
            rings.sway();
            rings.hall.tick();
        });
        let (hall, first) = (&rings.hall, rings.hall.tick + 1);
        let classes = 0..hall.setup.view.periods.as_slice().len();
        let watched = hall.people.values().filter(|person| person.watch.is_some());
        let near = |viewer| classes.clone().map(|class| (bytes_within(hall, viewer, class), first)).collect();
        rings.near = watched.map(|viewer| (viewer.session, near(viewer))).collect();
        rings
    }

    /// Everybody moves, and stays in its cell.
    fn sway(&mut self) {
        for (session, [x, y, z]) in &self.places {
            let sway = if self.hall.tick.is_multiple_of(2) { 1.0 } else { -1.0 };
            self.hall.show(*session, pose_at([x + sway, *y, z - sway], (session % 3) as u32));
        }
    }

    /// A tick, and whoever is due is shown.
    pub(crate) fn tick(&mut self) {
        self.sway();
        let poses = self.hall.tick().expect("everybody has moved");
        let base = self.base_bytes(&poses);
        let left = self.hall.tick_budget().saturating_sub(base);
        let (tick, second) = (self.hall.tick, self.hall.turn_ticks());
        let periods = self.hall.setup.view.periods;
        for (viewer, near) in &mut self.near {
            let viewer = &self.hall.people[viewer];
            let watch = viewer.watch.as_ref().unwrap();
            near.iter_mut().filter(|(bytes, _)| *bytes > left).for_each(|(_, since)| *since = tick + 1);
            let others = self.hall.people.values().filter(|other| other.session != viewer.session);
            for other in others {
                let shown_at = watch.shown_at.get(&other.session).copied().unwrap_or(watch.since);
                let what = || {
                    format!(
                        "s{} last at tick {shown_at} to s{} ({:?}) at tick {tick} of {} Hz, in ring {:?}",
                        other.session,
                        viewer.session,
                        watch.encoding,
                        self.hall.setup.hz,
                        viewer.ring(other)
                    )
                };
                assert!(shown_at + second >= tick, "not within a second: {}", what());
                let Some(class) = class_of(viewer, other) else { continue };
                let Some(period) = periods.as_slice().get(class).copied().map(u32::from) else { continue };
                let has_fitted = near[class].1 + period <= tick + 1;
                assert!(!has_fitted || shown_at + period > tick, "not within {period} ticks: {}", what());
            }
        }
    }

    /// Bytes of what everybody is shown at this tick.
    fn base_bytes(&self, poses: &TickPoses) -> usize {
        let packet = poses.binary(self.hall.people[&self.observer].slot);
        let bytes = packet.map(|packet| packet.attachments()[0].len() - FRAME_HEADER_BYTES);
        // Nobody, or nobody but itself.
        bytes.unwrap_or(GROUP_HEADER_BYTES + ENTRY_BYTES_MAX)
    }
}

/// The number of the period that holds for `other`. Rings 0 and 1 share the first.
fn class_of(viewer: &Person, other: &Person) -> Option<usize> {
    viewer.ring(other).map(|ring| ring.saturating_sub(1) as usize)
}

/// Bytes of all members that are at most so far, if all came at once.
fn bytes_within(hall: &Hall, viewer: &Person, class: usize) -> usize {
    let near: Vec<&Person> = hall
        .people
        .values()
        .filter(|other| class_of(viewer, other).is_some_and(|found| found <= class))
        .collect();
    let cells: BTreeSet<Cell> = near.iter().map(|person| Cell::of(person.position())).collect();
    near.iter().map(|person| person.bytes()).sum::<usize>() + cells.len() * GROUP_HEADER_BYTES
}

fn middle_of_cell([x, y, z]: [f32; 3]) -> [f32; 3] {
    let middle = |metres: f32| (metres / CELL_EDGE_M).floor() * CELL_EDGE_M + CELL_EDGE_M / 2.0;
    [middle(x), (y / CELL_M as f32).round() * CELL_M as f32, middle(z)]
}
