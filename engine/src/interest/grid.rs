//! The members that a tick shows, in the order of their cells.

use std::ops::Range;

use super::cell::Cell;

/// One member that a tick shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Where it is.
    pub cell: Cell,
    /// How many ticks ago it last moved; 255 stands for longer.
    pub age: u8,
    /// Its slot.
    pub slot: u16,
    /// Bytes of its entry in a frame.
    pub bytes: u8,
    /// Not everybody has been shown this pose. What is no news is repeated for those whose frames may have got lost.
    pub is_news: bool,
}

/// The members of one cell: `entries` of the grid, those that moved last first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellRun {
    /// Which cell of the grid.
    pub cell: Cell,
    /// Its first entry.
    pub start: u32,
    /// One past its last entry.
    pub end: u32,
}

/// The cells of one row (of one height and z): `start..end` of the grid's cells.
#[derive(Debug, Clone, Copy)]
struct Row {
    layer: i16,
    z: i32,
    start: u32,
    end: u32,
}

/// Some of a room's members by cell. Within a cell those that moved last come first, so that who has moved within any
/// number of ticks is a beginning of the cell's entries.
#[derive(Debug, Default)]
pub struct Grid {
    entries: Vec<Shown>,
    /// Bytes of all entries up to and with each.
    ends: Vec<u32>,
    cells: Vec<CellRun>,
    rows: Vec<Row>,
}

impl Grid {
    /// Puts `entries` in order of their cells.
    pub fn new(entries: Vec<Shown>) -> Self {
        Self::of(entries, |cell| cell)
    }

    /// Puts `entries` in order of the blocks that their cells lie in: those of the frame's cells.
    pub fn coarse(entries: Vec<Shown>) -> Self {
        Self::of(entries, Cell::block)
    }

    fn of(mut entries: Vec<Shown>, place: impl Fn(Cell) -> Cell) -> Self {
        // Cached, for the key takes longer to make than to compare. Where keys are the same, slots stay in order.
        entries.sort_by_cached_key(|entry| (place(entry.cell).key() << 8) | u64::from(entry.age));
        let mut grid = Self { ends: Vec::with_capacity(entries.len()), ..Self::default() };
        let mut bytes = 0;
        for (index, entry) in (0..).zip(&entries) {
            bytes += u32::from(entry.bytes);
            grid.ends.push(bytes);
            match grid.cells.last_mut() {
                Some(run) if run.cell == place(entry.cell) => run.end = index + 1,
                _ => grid.cells.push(CellRun { cell: place(entry.cell), start: index, end: index + 1 }),
            }
        }
        for (index, CellRun { cell, .. }) in (0..).zip(&grid.cells) {
            match grid.rows.last_mut() {
                Some(row) if (row.layer, row.z) == (cell.layer, cell.z) => row.end = index + 1,
                _ => grid.rows.push(Row { layer: cell.layer, z: cell.z, start: index, end: index + 1 }),
            }
        }
        Self { entries, ..grid }
    }

    /// All entries in order.
    pub fn entries(&self) -> &[Shown] {
        &self.entries
    }

    /// All cells in order.
    pub fn cells(&self) -> &[CellRun] {
        &self.cells
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that these entries take in a frame, without their groups' headers.
    pub fn bytes(&self, entries: Range<u32>) -> usize {
        let range = self.byte_range(entries);
        range.end - range.start
    }

    /// Where these entries lie if all are written one behind the other.
    pub fn byte_range(&self, entries: Range<u32>) -> Range<usize> {
        let end_of = |count: u32| if count == 0 { 0 } else { self.ends[count as usize - 1] as usize };
        end_of(entries.start)..end_of(entries.end)
    }

    /// The end of as many of these entries, from the first one on, as take no more than `bytes`.
    pub fn end_within(&self, entries: Range<u32>, bytes: usize) -> u32 {
        let limit = self.byte_range(0..entries.start).end + bytes;
        let ends = &self.ends[entries.start as usize..entries.end as usize];
        entries.start + ends.partition_point(|end| *end as usize <= limit) as u32
    }

    /// Those of a cell's entries that moved within the last `period` ticks.
    pub fn moved_within(&self, run: CellRun, period: u8) -> Range<u32> {
        let entries = &self.entries[run.start as usize..run.end as usize];
        let count = match entries.last() {
            // Nearly always: who moves at all moves all the time.
            Some(last) if last.age < period => entries.len(),
            _ => entries.partition_point(|entry| entry.age < period),
        };
        run.start..run.start + count as u32
    }

    /// Calls `each` with the cells up to `rings` around `at` and up to `layers` above and below it, in order.
    pub fn around(&self, at: Cell, rings: u32, layers: u16, mut each: impl FnMut(CellRun)) {
        let reach = i32::try_from(rings).unwrap_or(i32::MAX);
        let (first_z, last_z) = (at.z.saturating_sub(reach), at.z.saturating_add(reach));
        let (first_x, last_x) = (at.x.saturating_sub(reach), at.x.saturating_add(reach));
        let (layer, layers) = (i32::from(at.layer), i32::from(layers));
        let mut index =
            self.rows.partition_point(|row| (i32::from(row.layer), row.z) < (layer - layers, first_z));
        while let Some(row) = self.rows.get(index) {
            if i32::from(row.layer) > layer + layers {
                break;
            }
            if row.z > last_z {
                // On to the next layer's first row in reach.
                let next = (i32::from(row.layer) + 1, first_z);
                index += self.rows[index..].partition_point(|row| (i32::from(row.layer), row.z) < next);
                continue;
            }
            if row.z < first_z {
                index +=
                    self.rows[index..].partition_point(|other| (other.layer, other.z) < (row.layer, first_z));
                continue;
            }
            let cells = &self.cells[row.start as usize..row.end as usize];
            let first = cells.partition_point(|run| run.cell.x < first_x);
            cells[first..].iter().take_while(|run| run.cell.x <= last_x).for_each(|run| each(*run));
            index += 1;
        }
    }
}

#[cfg(all(test, not(loom_model)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown() -> impl Strategy<Value = Shown> {
        let cell = (-9..9_i32, -9..9_i32, -3..3_i16).prop_map(|(x, z, layer)| Cell { x, z, layer });
        (cell, 0..12_u8, 0..500_u16, prop_oneof![Just(13_u8), Just(33)])
            .prop_map(|(cell, age, slot, bytes)| Shown { cell, age, slot, bytes, is_news: true })
    }

    proptest! {
        #[test]
        fn around_finds_the_cells_that_are_near_and_no_others(
            entries in prop::collection::vec(shown(), 0..200), x in -12..12_i32, z in -12..12_i32, layer in -4..4_i16,
            rings in 0..6_u32, layers in 0..3_u16,
        ) {
            let grid = Grid::new(entries);
            let at = Cell { x, z, layer };
            let mut found = Vec::new();
            grid.around(at, rings, layers, |run| found.push(run));
            let near = |run: &&CellRun| at.ring(run.cell) <= rings && layer.abs_diff(run.cell.layer) <= layers;
            let expected: Vec<CellRun> = grid.cells().iter().filter(near).copied().collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn who_has_moved_within_a_period_is_a_beginning_of_its_cell(
            entries in prop::collection::vec(shown(), 0..200), period in 1..12_u8
        ) {
            let grid = Grid::new(entries.clone());
            let moved: usize =
                grid.cells().iter().map(|run| grid.moved_within(*run, period).len()).sum();
            prop_assert_eq!(moved, entries.iter().filter(|entry| entry.age < period).count());
            for run in grid.cells() {
                let range = grid.moved_within(*run, period);
                let entries = &grid.entries()[range.start as usize..range.end as usize];
                prop_assert!(entries.iter().all(|entry| entry.age < period && entry.cell == run.cell));
                let bytes: usize = entries.iter().map(|entry| usize::from(entry.bytes)).sum();
                prop_assert_eq!(grid.bytes(range), bytes);
            }
        }
    }
}
