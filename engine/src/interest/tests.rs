//! Who is chosen, by whose turn it is and by what fits.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use protocol::Pose;
use protocol::frame::{GROUP_HEADER_BYTES, entry_bytes};

use super::*;
use crate::options::{ViewOptions, ViewPeriods};

const ENTRY: usize = 13;

fn periods(periods: &[u8]) -> ViewOptions {
    ViewOptions { periods: ViewPeriods::new(periods).unwrap(), ..ViewOptions::default() }
}

fn cell(x: i32, z: i32) -> Cell {
    Cell { x, z, layer: 0 }
}

fn shown(slot: u16, cell: Cell, bytes: u8) -> Shown {
    Shown { cell, age: 0, slot, bytes, is_news: true }
}

/// One member without hands in each of these cells, in slots of their order.
fn one_in_each(cells: &[Cell]) -> Grid {
    Grid::new((0..).zip(cells).map(|(slot, cell)| shown(slot, *cell, ENTRY as u8)).collect())
}

fn slots(grid: &Grid, runs: Vec<Run>) -> Vec<u16> {
    let entries = runs.into_iter().flat_map(Run::entries);
    let mut slots: Vec<u16> = entries.map(|index| grid.entries()[index].slot).collect();
    slots.sort_unstable();
    slots
}

fn unlimited() -> Viewpoint {
    Viewpoint::new(cell(0, 0), None)
}

fn select(grid: &Grid, options: &ViewOptions, tick: u32, budget: usize) -> Vec<u16> {
    slots(grid, select_near(grid, unlimited(), options, tick, budget))
}

#[test]
fn far_rings_give_way_first() {
    // Rings 0, 1, 2, 3; and 4, which has no period.
    let grid = one_in_each(&[cell(0, 0), cell(1, 1), cell(-2, 1), cell(0, 3), cell(4, 0)]);
    let options = periods(&[1, 1, 1]);
    let each = GROUP_HEADER_BYTES + ENTRY;
    for (budget, expected) in [
        (100 * each, &[0, 1, 2, 3][..]),
        (4 * each, &[0, 1, 2, 3]),
        (4 * each - 1, &[0, 1, 2]),
        (3 * each, &[0, 1, 2]),
        (3 * each - 1, &[0, 1]),
        (2 * each, &[0, 1]),
    ] {
        assert_eq!(select(&grid, &options, 1, budget), expected, "{budget} bytes");
    }
    assert_eq!(select(&grid, &options, 1, 2 * each - 1).len(), 1, "one of the two nearest, in turns");
    assert!(select(&grid, &options, 1, each - 1).is_empty());
}

#[test]
fn each_ring_comes_in_its_period() {
    let grid = one_in_each(&[cell(0, 0), cell(0, -1), cell(2, 0), cell(0, -3), cell(4, 4)]);
    let options = periods(&[1, 2, 4, 8]);
    let mut seen = [0; 5];
    for tick in 100..116 {
        select(&grid, &options, tick, 10_000).into_iter().for_each(|slot| seen[usize::from(slot)] += 1);
    }
    assert_eq!(seen, [16, 16, 8, 4, 2]);
}

#[test]
fn who_has_not_moved_since_its_ring_was_due_is_left_out() {
    let old = |slot, cell, age| Shown { age, ..shown(slot, cell, ENTRY as u8) };
    let grid = Grid::new(vec![
        old(0, cell(0, 0), 0),
        old(1, cell(0, 0), 1),
        old(2, cell(0, 2), 1),
        old(3, cell(0, 2), 2),
    ]);
    let due = (0..2).map(|tick| select(&grid, &periods(&[1, 2]), tick, 10_000));
    assert!(due.clone().any(|slots| slots == [0, 2]) && due.clone().any(|slots| slots == [0]));
}

#[test]
fn a_radius_and_a_storey_end_what_is_near() {
    let above = |layer| Cell { layer, ..cell(0, 0) };
    let grid = one_in_each(&[cell(0, 0), cell(1, 0), cell(2, 0), above(1), above(2)]);
    let options = periods(&[1, 1, 1]);
    let within = |radius_m| {
        let from = Viewpoint::new(cell(0, 0), radius_m);
        slots(&grid, select_near(&grid, from, &options, 1, 10_000))
    };
    assert_eq!(within(None), [0, 1, 2, 3]);
    assert_eq!(within(Some(8.0)), [0, 1, 3]);
    assert_eq!(within(Some(0.0)), [0], "a cell is the least that can be told apart");
    let (everybody, from) = (Grid::coarse(grid.entries().to_vec()), Viewpoint::new(cell(0, 0), Some(8.0)));
    assert_eq!(slots(&everybody, select_within(&everybody, from)), [0, 1, 3]);
    assert_eq!(slots(&everybody, select_within(&everybody, unlimited())), [0, 1, 2, 3, 4]);
}

fn crowd() -> impl Strategy<Value = Vec<Shown>> {
    let one = (-4..5_i32, -4..5_i32, prop_oneof![Just(13_u8), Just(23), Just(33)]);
    vec(one, 1..80).prop_map(|people| {
        (0..).zip(people).map(|(slot, (x, z, bytes))| shown(slot, cell(x, z), bytes)).collect()
    })
}

fn some_periods() -> impl Strategy<Value = ViewOptions> {
    vec(1..6_u8, 1..5).prop_map(|mut some| {
        some.sort_unstable();
        periods(&some)
    })
}

/// Bytes that some runs take in a frame, at most.
fn bytes(grid: &Grid, runs: &[Run]) -> usize {
    let entries = runs.iter().flat_map(|run| &grid.entries()[run.entries()]);
    entries.map(|entry| usize::from(entry.bytes)).sum::<usize>() + GROUP_HEADER_BYTES * runs.len()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_near_is_within_the_budget_and_nobody_comes_twice(
        people in crowd(), options in some_periods(), tick in 0..1_000_u32, part in 0.0..1.0_f64
    ) {
        let grid = Grid::new(people);
        let all = select_near(&grid, unlimited(), &options, tick, usize::MAX);
        let budget = (bytes(&grid, &all) as f64 * part) as usize;
        let runs = select_near(&grid, unlimited(), &options, tick, budget);
        prop_assert!(bytes(&grid, &runs) <= budget, "{} bytes of {budget}", bytes(&grid, &runs));
        let chosen = slots(&grid, runs);
        prop_assert!(chosen.windows(2).all(|pair| pair[0] != pair[1]), "somebody comes twice: {:?}", chosen);
        let all = slots(&grid, all);
        prop_assert!(chosen.iter().all(|slot| all.contains(slot)), "somebody comes whose turn it is not");
    }

    /// In the first ring that does not fit, if one of its members fits at all: when as many turns have passed as it
    /// has members, each has had one.
    #[test]
    fn all_have_their_turns_in_the_ring_that_does_not_fit(
        people in crowd(), period in 1..4_u8, part in 0.0..1.0_f64
    ) {
        let near: Vec<Shown> = people.into_iter().filter(|shown| cell(0, 0).ring(shown.cell) <= 1).collect();
        let grid = Grid::new(near);
        let whole: Vec<Run> = grid.cells().iter().map(|cell| cell.all).collect();
        let budget = ((bytes(&grid, &whole) as f64 * part) as usize).max(GROUP_HEADER_BYTES + 33);
        let turns = grid.entries().len() as u32 * u32::from(period);
        let mut times = BTreeMap::<u16, u32>::new();
        for tick in 0..turns {
            let chosen = select(&grid, &periods(&[period]), tick, budget);
            prop_assert!(chosen.windows(2).all(|pair| pair[0] != pair[1]), "twice at once: {:?}", chosen);
            chosen.into_iter().for_each(|slot| *times.entry(slot).or_default() += 1);
        }
        prop_assert_eq!(times.len(), grid.entries().len(), "somebody never has a turn: {:?}", times);
    }
}

#[test]
fn taking_turns_covers_everybody_as_soon_as_it_can() {
    // All of the same length in one cell: exactly as many turns as parts.
    for (people, share) in [(10_u16, 3_usize), (10, 5), (7, 1), (9, 8), (100, 30)] {
        let grid = Grid::new((0..people).map(|slot| shown(slot, cell(0, 0), ENTRY as u8)).collect());
        // What is cut in two at the end of the list needs a second header.
        let budget = 2 * GROUP_HEADER_BYTES + share * ENTRY;
        let turns = u32::from(people).div_ceil(share as u32);
        for first in [0, 1, 1_000] {
            let mut seen: Vec<u16> =
                (first..first + turns).flat_map(|tick| select(&grid, &periods(&[1]), tick, budget)).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), usize::from(people), "{people} in parts of {share} from turn {first}");
        }
    }
}

/// Members in these places, who have all moved at tick 1.
fn tracks(places: impl IntoIterator<Item = [f32; 3]>) -> Tracks {
    let mut tracks = Tracks::default();
    for (slot, place) in (0..).zip(places) {
        tracks.enter(slot, 0);
        tracks.moved(slot, pose(place), 1);
    }
    tracks
}

fn pose(place: [f32; 3]) -> Pose {
    let mut pose = Pose::INITIAL;
    pose.head.position = place;
    pose
}

fn slots_of(shown: &[Shown]) -> Vec<u16> {
    let mut slots: Vec<u16> = shown.iter().map(|shown| shown.slot).collect();
    slots.sort_unstable();
    slots
}

#[test]
fn what_fits_comes_at_once_and_no_more() {
    let mut tracks = tracks([[0.0; 3]; 10]);
    let plan = tracks.plan(1, 20, 1_000, 8, false);
    assert_eq!((slots_of(&plan.base), plan.near.len()), ((0..10).collect(), 0));
    assert!(plan.is_full && plan.base.iter().all(|shown| shown.is_news && shown.age == 0));
    assert_eq!(tracks.plan(2, 20, 1_000, 8, false), Plan::default(), "there is no news");
    tracks.moved(7, pose([1.0; 3]), 3);
    let plan = tracks.plan(3, 20, 1_000, 8, false);
    assert_eq!((slots_of(&plan.base), plan.is_full), (vec![7], false));
    tracks.leave(7);
    tracks.refresh();
    let plan = tracks.plan(4, 20, 1_000, 8, false);
    assert_eq!(slots_of(&plan.base), [0, 1, 2, 3, 4, 5, 6, 8, 9]);
    assert!(plan.is_full, "who has left is not missing");
}

#[test]
fn repeats_are_spread_over_a_second() {
    const HZ: u32 = 20;
    let mut tracks = tracks([[0.0; 3]; 50]);
    tracks.plan(1, HZ, 10_000, 8, true);
    let mut seen = vec![0; 50];
    for tick in 2..2 + HZ {
        let plan = tracks.plan(tick, HZ, 10_000, 8, true);
        assert!((2..=3).contains(&plan.base.len()) && plan.near.is_empty() && !plan.is_full);
        assert!(plan.base.iter().all(|shown| !shown.is_news), "nobody has moved");
        slots_of(&plan.base).into_iter().for_each(|slot| seen[usize::from(slot)] += 1);
    }
    assert_eq!(seen, [1; 50]);
}

#[test]
fn who_is_repeated_too_often_for_the_budget_is_repeated_less_often() {
    const HZ: u32 = 10;
    // Ten entries a tick would be 130 bytes and a header, of which three quarters of the budget hold a half.
    let mut tracks = tracks([[0.0; 3]; 100]);
    let budget = 100;
    let mut seen = vec![0; 100];
    for tick in 2..2 + 2 * HZ {
        let plan = tracks.plan(tick, HZ, budget, 1, true);
        assert!(plan.base.len() <= 8, "{} at once", plan.base.len());
        slots_of(&plan.base).into_iter().for_each(|slot| seen[usize::from(slot)] += 1);
    }
    assert!(seen.iter().all(|times| *times >= 1), "{seen:?}");
}

#[test]
fn the_sweep_shows_all_who_move_to_everybody_in_turns() {
    let budget = 10 * ENTRY;
    // Far apart, so that each needs a group of its own, or all in one.
    for apart in [0.0, 100.0] {
        let place = |slot: u16, tick: u32| [f32::from(slot) * apart, 0.0, tick as f32 * 0.01];
        let mut tracks = tracks((0..60).map(|slot| place(slot, 0)));
        let mut seen = vec![0; 60];
        for tick in 2..200 {
            (0..60).for_each(|slot| tracks.moved(slot, pose(place(slot, tick)), tick));
            let plan = tracks.plan(tick, 1_000, budget, 8, false);
            assert_eq!(
                plan.base.len() + plan.near.len(),
                60,
                "who is not shown to all is shown to those near it"
            );
            assert!(plan.base.len() * (ENTRY + GROUP_HEADER_BYTES) <= budget + ENTRY || apart == 0.0);
            assert!(plan.base.iter().all(|shown| !slots_of(&plan.near).contains(&shown.slot)));
            slots_of(&plan.base).into_iter().for_each(|slot| seen[usize::from(slot)] += 1);
        }
        let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
        assert!(*least >= 1 && most - least <= 2, "{apart} m apart: {seen:?}");
    }
}

#[test]
fn who_moved_too_long_ago_for_any_ring_waits_for_its_turn() {
    let mut tracks = tracks([[0.0; 3]; 60]);
    let near = |tracks: &mut Tracks, tick| tracks.plan(tick, 1_000, 10 * ENTRY, 4, false).near;
    assert!(near(&mut tracks, 4).iter().all(|shown| shown.age == 3));
    assert_eq!(near(&mut tracks, 5), [], "they are news to some, but came by when they were due");
}

#[test]
fn whoever_comes_and_goes_leaves_nothing_behind() {
    let mut tracks = tracks([[0.0; 3]; 3]);
    tracks.plan(1, 20, 1_000, 8, true);
    tracks.leave(1);
    assert!(!tracks.is_present(1) && tracks.is_present(2) && !tracks.is_present(3));
    let seen = |tracks: &mut Tracks| {
        (2..22).flat_map(|tick| slots_of(&tracks.plan(tick, 20, 1_000, 8, true).base)).collect::<Vec<_>>()
    };
    let mut after = seen(&mut tracks);
    after.sort_unstable();
    assert_eq!(after, [0, 2]);
    tracks.enter(1, 30);
    assert_eq!(*tracks.pose(1), Pose::INITIAL, "not the pose of whoever had the slot before");
    assert_eq!(tracks.cell(1), Cell::of(Pose::INITIAL.head.position));
    let of_all = tracks.bytes();
    assert!(of_all >= 3 * entry_bytes(&Pose::INITIAL));
    tracks.leave(1);
    assert!(tracks.bytes() < of_all);
}
