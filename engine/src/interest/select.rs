//! What one viewer sees of those around it in one tick.

use protocol::frame::GROUP_HEADER_BYTES;

use super::cell::{CELLS_PER_BLOCK, Cell, layers_within, rings_within};
use super::grid::{Grid, Run, Shown};
use crate::options::{MAX_VIEW_PERIODS, ViewOptions};

/// Layers above and below a viewer's own that count as being as near as what is beside it.
const NEAR_LAYERS: u16 = 1;

/// About how many cells are due around a viewer at once.
const CELLS_EXPECTED: usize = 64;

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
    let mut due: Vec<(u8, Run)> = Vec::with_capacity(CELLS_EXPECTED);
    let mut bytes = [0; MAX_VIEW_PERIODS];
    let at = from.cell;
    let (rings, layers) = from.reach.unwrap_or((u32::MAX, u16::MAX));
    near.around(at, rings.min(periods.len() as u32), layers.min(NEAR_LAYERS), |cell| {
        // The first period is that of ring 0 and 1.
        let class = (at.ring(cell.cell) as usize).saturating_sub(1);
        if cell.cell.is_due(tick, periods[class]) {
            let run = near.moved_within(*cell, periods[class]);
            match due.last_mut() {
                _ if run.is_empty() => {}
                Some((of_last, last)) if usize::from(*of_last) == class && last.is_followed_by(run) => {
                    bytes[class] += run.bytes();
                    (last.end, last.bytes_end) = (run.end, run.bytes_end);
                }
                _ => {
                    bytes[class] += GROUP_HEADER_BYTES + run.bytes();
                    due.push((class as u8, run));
                }
            }
        }
    });
    let mut left = budget;
    let mut whole = 0;
    while whole < periods.len() && bytes[whole] <= left {
        left -= bytes[whole];
        whole += 1;
    }
    let runs_of = |kind: &dyn Fn(usize) -> bool| {
        due.iter().filter(|(class, _)| kind(usize::from(*class))).map(|(_, run)| *run).collect::<Vec<Run>>()
    };
    let mut runs = runs_of(&|class| class < whole);
    if whole < periods.len() {
        let in_part = runs_of(&|class| class == whole);
        take_turns(near, &in_part, tick / u32::from(periods[whole]), left, &mut runs);
    }
    runs
}

/// Cuts `from` into parts, each as much as fits into `budget`, and takes the one whose turn it is. Where the number of
/// parts changes from turn to turn one may be passed over; the base brings its members all the same.
fn take_turns(grid: &Grid, from: &[Run], turn: u32, budget: usize, runs: &mut Vec<Run>) {
    let mut pieces: Vec<(u32, Run)> = Vec::new();
    let (mut part, mut left) = (0, budget);
    for run in from {
        let mut rest = *run;
        while !rest.is_empty() {
            let room = left.saturating_sub(GROUP_HEADER_BYTES);
            let piece = grid.within(rest, room);
            if !piece.is_empty() {
                left = room - piece.bytes();
                pieces.push((part, piece));
                rest = grid.part(rest, piece.end, rest.end);
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
    let Some((rings, layers)) = from.reach else { return base.cells().iter().map(|cell| cell.all).collect() };
    let mut runs: Vec<Run> = Vec::new();
    let blocks = rings.div_ceil(CELLS_PER_BLOCK) + 1;
    base.around(from.cell.block(), blocks, layers, |cell| {
        let mut index = cell.all.start;
        for together in base.entries()[cell.all.entries()]
            .chunk_by(|one, other| is_within(from, one, rings) == is_within(from, other, rings))
        {
            let end = index + together.len() as u32;
            if is_within(from, &together[0], rings) {
                runs.push(base.part(cell.all, index, end));
            }
            index = end;
        }
    });
    runs
}

fn is_within(from: Viewpoint, entry: &Shown, rings: u32) -> bool {
    from.cell.ring(entry.cell) <= rings
}
