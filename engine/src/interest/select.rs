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
    take_turns(near, &in_part, turn, bytes[whole], left, &mut runs);
    runs
}

/// Takes as many entries of `from`, which are `bytes` together, as fit into `budget`: others at each turn, until all
/// have had theirs.
fn take_turns(grid: &Grid, from: &[Run], turn: u32, bytes: usize, budget: usize, runs: &mut Vec<Run>) {
    let count: u32 = from.iter().map(|run| run.len() as u32).sum();
    let share = (u64::from(count) * budget as u64 / bytes.max(1) as u64) as u32;
    if share == 0 {
        return;
    }
    let mut skip = (u64::from(turn) * u64::from(share) % u64::from(count)) as u32;
    let (mut wanted, mut left) = (share, budget);
    // Once around, and the beginning again for what was skipped.
    for run in from.iter().chain(from) {
        let length = run.len() as u32;
        if skip >= length {
            skip -= length;
            continue;
        }
        let start = run.start + skip;
        skip = 0;
        let mut end = run.end.min(start + wanted);
        let room = left.saturating_sub(GROUP_HEADER_BYTES);
        while end > start && grid.bytes(start..end) > room {
            end -= 1;
        }
        if end == start {
            return;
        }
        left -= GROUP_HEADER_BYTES + grid.bytes(start..end);
        wanted -= end - start;
        runs.push(start..end);
        if wanted == 0 {
            return;
        }
    }
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
