//! Cells: where somebody is, as coarsely as interest needs it.

use protocol::frame::{CELL_M, Cell32};

/// Edge of a cell on the ground, in metres.
pub const CELL_EDGE_M: f32 = 8.0;

/// How many cells stand side by side in a block, which is one of the frame's cells.
pub(super) const CELLS_PER_BLOCK: u32 = 4;

/// Bits of a cell's number along x or z in its key: positions end at 1,000 km, which is 125,000 cells.
const AXIS_BITS: u32 = 18;
const AXIS_OFFSET: i32 = 1 << (AXIS_BITS - 1);

/// 8 m × 8 m of ground, 32 m high: people look around them more than up and down, and a storey above is near.
/// Heights are those of the frame's cells, so that each cell lies in exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cell {
    /// Along x.
    pub x: i32,
    /// Along z.
    pub z: i32,
    /// Along y.
    pub layer: i16,
}

impl Cell {
    /// The cell of a position in metres.
    pub fn of(position: [f32; 3]) -> Self {
        let [x, _, z] = position.map(|metres| (metres / CELL_EDGE_M).floor() as i32);
        Self { x, z, layer: Cell32::nearest(position).y }
    }

    /// The frame's cell that this one lies in.
    pub fn frame_cell(self) -> Cell32 {
        // The frame's cells reach from half an edge before their origin to half an edge after it.
        let cells = CELLS_PER_BLOCK as i32;
        let nearest = |index: i32| (index + cells / 2).div_euclid(cells) as i16;
        Cell32 { x: nearest(self.x), y: self.layer, z: nearest(self.z) }
    }

    /// The block of cells that this one lies in, one of the frame's cells, among blocks.
    pub fn block(self) -> Self {
        let Cell32 { x, y, z } = self.frame_cell();
        Self { x: x.into(), z: z.into(), layer: y }
    }

    /// How many cells lie between this and another of about the same height: 0 for itself, 1 for its neighbours.
    pub fn ring(self, other: Cell) -> u32 {
        self.x.abs_diff(other.x).max(self.z.abs_diff(other.z))
    }

    /// Orders cells by height, then row by row, so that neighbours along x stand together.
    pub fn key(self) -> u64 {
        let axis = |index: i32| (index + AXIS_OFFSET) as u64 & ((1 << AXIS_BITS) - 1);
        let layer = (i32::from(self.layer) - i32::from(i16::MIN)) as u64;
        (layer << (2 * AXIS_BITS)) | (axis(self.z) << AXIS_BITS) | axis(self.x)
    }

    /// Whether it is this cell's turn at `tick`, where cells of its kind take turns of `period` ticks. Neighbours
    /// have different turns, so that a viewer's ticks are about equally long.
    pub fn is_due(self, tick: u32, period: u8) -> bool {
        let (place, period) = (self.x + 3 * self.z, u32::from(period));
        if period.is_power_of_two() {
            // Nearly always, and for every cell around every viewer: without a division.
            return tick.wrapping_add(place as u32) & (period - 1) == 0;
        }
        (tick % period + place.rem_euclid(period as i32) as u32).is_multiple_of(period)
    }
}

/// How many rings of cells a radius in metres reaches into: whoever is within it is in one of them.
pub fn rings_within(radius_m: f32) -> u32 {
    (radius_m / CELL_EDGE_M).ceil() as u32
}

/// How many layers up and down a radius in metres reaches into.
pub fn layers_within(radius_m: f32) -> u16 {
    (f64::from(radius_m) / CELL_M).ceil() as u16
}

#[cfg(all(test, not(loom_model)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_frame_cell_says_every_position_of_its_cells(
            position in prop::array::uniform3(prop_oneof![-1e6_f32..1e6, -100.0_f32..100.0, Just(-16.0), Just(16.0)])
        ) {
            let cell = Cell::of(position);
            let origin = cell.frame_cell();
            for (metres, index) in position.iter().zip([origin.x, origin.y, origin.z]) {
                let distance = (f64::from(*metres) - f64::from(index) * CELL_M).abs();
                prop_assert!(distance <= CELL_M / 2.0, "{position:?} is {distance} m from {origin:?}");
            }
        }

        #[test]
        fn keys_order_cells_row_by_row(a in prop::array::uniform3(-1e6_f32..1e6), b in prop::array::uniform3(-1e6_f32..1e6)) {
            let (a, b) = (Cell::of(a), Cell::of(b));
            prop_assert_eq!(a.key().cmp(&b.key()), (a.layer, a.z, a.x).cmp(&(b.layer, b.z, b.x)));
        }

        #[test]
        fn whoever_is_within_a_radius_is_in_its_rings(
            at in prop::array::uniform2(-1e4_f32..1e4), off in prop::array::uniform2(-1.0_f32..1.0), radius in 0.0_f32..200.0
        ) {
            let other = [at[0] + off[0] * radius, at[1] + off[1] * radius];
            let (one, other) = (Cell::of([at[0], 0.0, at[1]]), Cell::of([other[0], 0.0, other[1]]));
            // One ring more where float32 rounds the sum over a border.
            prop_assert!(one.ring(other) <= rings_within(radius + 0.01));
        }
    }

    #[test]
    fn every_cell_has_its_turn_once_in_a_period_and_neighbours_share_the_ticks() {
        for period in [1_u8, 2, 4, 8, 20] {
            let mut due_at = vec![0_usize; usize::from(period)];
            for (x, z) in (-20..20).flat_map(|x| (-20..20).map(move |z| (x, z))) {
                let cell = Cell { x, z, layer: 0 };
                let turns: Vec<u32> =
                    (100..100 + u32::from(period)).filter(|tick| cell.is_due(*tick, period)).collect();
                assert_eq!(turns.len(), 1, "{cell:?} at a period of {period}");
                due_at[(turns[0] - 100) as usize] += 1;
            }
            let even = 1600 / usize::from(period);
            assert!(due_at.iter().all(|due| due.abs_diff(even) <= even / 10), "{period}: {due_at:?}");
        }
    }
}
