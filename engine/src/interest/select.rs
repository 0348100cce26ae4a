//! What one viewer sees of those around it in one tick.

use std::ops::Range;

use protocol::frame::GROUP_HEADER_BYTES;

use super::cell::{CELLS_PER_BLOCK, Cell, layers_within, rings_within};
use super::grid::Grid;
use crate::options::{MAX_VIEW_PERIODS, ViewOptions};

/// Layers above and below a viewer's own that count as being as near as what is beside it.
const NEAR_LAYERS: u16 = 1;

/// Where somebody looks from, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Viewpoint {
    cell: Cell,
    /// Rings and layers within the radius; `None` if there is none.
    reach: Option<(u32, u16)>,
}

impl Viewpoint {
    /// A viewpoint in a cell, with a radius in metres if there is a limit.
    pub fn new(cell: Cell, radius_m: Option<f32>) -> Self {
        Self { cell, reach: radius_m.map(|radius| (rings_within(radius), layers_within(radius))) }
    }

    /// Whether it sees as far as the room reaches.
    pub fn is_unlimited(self) -> bool {
        self.reach.is_none()
    }
}

/// Entries of a grid, all of one of its cells.
pub type Run = Range<u32>;

/// Those of `near` that a viewer gets at `tick`: by rings, each in its turn, until `budget` bytes are used. Far rings
/// give way first. Of the first ring that does not fit whole, some come each time, in turns.
pub fn select_near(
    near: &Grid,
    from: Viewpoint,
    options: &ViewOptions,
    tick: u32,
    budget: usize,
) -> Vec<Run> {
    let periods = options.periods.as_slice();
    let mut due: Vec<(usize, Run)> = Vec::new();
    let mut bytes = [0; MAX_VIEW_PERIODS];
    let at = from.cell;
    let (rings, layers) = from.reach.unwrap_or((u32::MAX, u16::MAX));
    // The first period is that of ring 0 and 1.
    near.around(at, rings.min(periods.len() as u32), layers.min(NEAR_LAYERS), |run| {
        let class = (at.ring(run.cell) as usize).saturating_sub(1);
        if run.cell.is_due(tick, periods[class]) {
            let entries = near.moved_within(run, periods[class]);
            if !entries.is_empty() {
                bytes[class] += GROUP_HEADER_BYTES + near.bytes(entries.clone());
                due.push((class, entries));
            }
        }
    });
    let mut left = budget;
    let mut whole = 0;
    while whole < periods.len() && bytes[whole] <= left {
        left -= bytes[whole];
        whole += 1;
    }
    if whole == periods.len() {
        return due.into_iter().map(|(_, run)| run).collect();
    }
    let in_part: Vec<Run> =
        due.iter().filter(|(class, _)| *class == whole).map(|(_, run)| run.clone()).collect();
    let mut runs: Vec<Run> =
        due.into_iter().filter(|(class, _)| *class < whole).map(|(_, run)| run).collect();
    let turn = tick / u32::from(periods[whole]);
    take_turns(near, &in_part, turn, left, &mut runs);
    runs
}

/// Cuts `from` into parts, each as much as fits into `budget`, and takes the one whose turn it is.
fn take_turns(grid: &Grid, from: &[Run], turn: u32, budget: usize, runs: &mut Vec<Run>) {
    let mut pieces: Vec<(u32, Run)> = Vec::new();
    let (mut part, mut left) = (0, budget);
    for run in from {
        let mut start = run.start;
        while start < run.end {
            let room = left.saturating_sub(GROUP_HEADER_BYTES);
            let end = grid.end_within(start..run.end, room);
            if end > start {
                left = room - grid.bytes(start..end);
                pieces.push((part, start..end));
                start = end;
            } else if left == budget {
                // Not even one fits.
                return;
            } else {
                (part, left) = (part + 1, budget);
            }
        }
    }
    let parts = part + 1;
    runs.extend(pieces.into_iter().filter(|(part, _)| *part == turn % parts).map(|(_, run)| run));
}

/// Those of `base`, whose cells are blocks, that are within a viewer's radius.
pub fn select_within(base: &Grid, from: Viewpoint) -> Vec<Run> {
    let Some((rings, layers)) = from.reach else {
        return base.cells().iter().map(|run| run.start..run.end).collect();
    };
    let mut runs: Vec<Run> = Vec::new();
    let blocks = rings.div_ceil(CELLS_PER_BLOCK) + 1;
    base.around(from.cell.block(), blocks, layers, |run| {
        for index in run.start..run.end {
            if from.cell.ring(base.entries()[index as usize].cell) > rings {
                continue;
            }
            match runs.last_mut() {
                Some(last) if last.end == index && index > run.start => last.end = index + 1,
                _ => runs.push(index..index + 1),
            }
        }
    });
    runs
}
