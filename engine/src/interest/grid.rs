//! The members that a tick shows, in the order of their cells.

use std::ops::Range;

use protocol::frame::Cell32;

use super::cell::Cell;

/// Empty cells that a row is expected to have at most before a place in it.
const GAPS_EXPECTED: usize = 4;

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

/// The members of one cell, those that moved last first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellRun {
    /// Which cell of the grid.
    pub cell: Cell,
    /// All its entries.
    pub all: Run,
    /// The age of the one that has not moved for longest.
    oldest: u8,
}

/// Entries of a grid that stand together, all in one of the frame's cells. Has what it takes to put them into a frame, so that
/// nobody has to look at them for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The frame's cell that they are in.
    pub block: Cell32,
    /// The first entry.
    pub start: u32,
    /// One past the last entry.
    pub end: u32,
    /// Where the first one's bytes begin, if all of the grid's are written one behind the other.
    pub bytes_start: u32,
    /// Where the last one's bytes end.
    pub bytes_end: u32,
}

impl Run {
    /// The entries.
    pub fn entries(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// How many there are.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether the two can be one.
    pub fn is_followed_by(self, next: Self) -> bool {
        self.end == next.start && self.block == next.block
    }

    /// Where their bytes are, if all of the grid's are written one behind the other.
    pub fn byte_range(self) -> Range<usize> {
        self.bytes_start as usize..self.bytes_end as usize
    }

    /// How many bytes they take in a frame, without their group's header.
    pub fn bytes(self) -> usize {
        (self.bytes_end - self.bytes_start) as usize
    }
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
            let bytes_start = bytes;
            bytes += u32::from(entry.bytes);
            grid.ends.push(bytes);
            match grid.cells.last_mut() {
                Some(run) if run.cell == place(entry.cell) => {
                    (run.all.end, run.all.bytes_end) = (index + 1, bytes);
                    run.oldest = entry.age;
                }
                _ => {
                    let block = entry.cell.frame_cell();
                    let all = Run { block, start: index, end: index + 1, bytes_start, bytes_end: bytes };
                    grid.cells.push(CellRun { cell: place(entry.cell), all, oldest: entry.age });
                }
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

    /// Bytes that all entries take in a frame, without their groups' headers.
    pub fn bytes(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    /// A part of a run.
    pub fn part(&self, run: Run, start: u32, end: u32) -> Run {
        let bytes_at = |entry: u32| if entry == 0 { 0 } else { self.ends[entry as usize - 1] };
        Run { start, end, bytes_start: bytes_at(start), bytes_end: bytes_at(end), ..run }
    }

    /// As many entries of a run, from its first one on, as take no more than `bytes`.
    pub fn within(&self, run: Run, bytes: usize) -> Run {
        let limit = run.bytes_start as usize + bytes;
        let count = self.ends[run.entries()].partition_point(|end| *end as usize <= limit);
        self.part(run, run.start, run.start + count as u32)
    }

    /// Those of a cell's entries that moved within the last `period` ticks.
    pub fn moved_within(&self, cell: CellRun, period: u8) -> Run {
        // Nearly always: who moves at all moves all the time.
        if cell.oldest < period {
            return cell.all;
        }
        let count = self.entries[cell.all.entries()].partition_point(|entry| entry.age < period);
        self.part(cell.all, cell.all.start, cell.all.start + count as u32)
    }

    /// Calls `each` with the cells up to `rings` around `at` and up to `layers` above and below it, in order.
    pub fn around(&self, at: Cell, rings: u32, layers: u16, mut each: impl FnMut(&CellRun)) {
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
            let first = first_from(cells, first_x);
            cells[first..].iter().take_while(|run| run.cell.x <= last_x).for_each(&mut each);
            index += 1;
        }
    }
}

/// The first of a row's cells that is not before `x`. Where a crowd is few cells are empty, so it is looked for where it
/// would be if none were, and only then among all.
fn first_from(row: &[CellRun], x: i32) -> usize {
    let Some(first) = row.first() else { return 0 };
    let mut index = usize::try_from(i64::from(x) - i64::from(first.cell.x)).unwrap_or(0).min(row.len());
    for _ in 0..GAPS_EXPECTED {
        if index == 0 || row[index - 1].cell.x < x {
            return index;
        }
        index -= 1;
    }
    row[..index].partition_point(|run| run.cell.x < x)
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
            grid.around(at, rings, layers, |run| found.push(*run));
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
                let moved = grid.moved_within(*run, period);
                let entries = &grid.entries()[moved.entries()];
                prop_assert!(entries.iter().all(|entry| entry.age < period && entry.cell == run.cell));
                let bytes: usize = entries.iter().map(|entry| usize::from(entry.bytes)).sum();
                prop_assert_eq!(moved.bytes(), bytes);
            }
        }
    }
}
