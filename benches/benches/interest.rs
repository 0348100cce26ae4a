//! Interest by itself: who is shown in a tick, in which order, and what of it each cell of viewers sees.

use std::hint::black_box;

use benches::{crowd_side_m, pose_in_crowd};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::interest::{Grid, Plan, Tracks, Viewpoint, select_near};
use engine::options::ViewOptions;

const HZ: u32 = 20;

/// A crowd's tracks, and the tick that they have come to.
struct Crowd {
    members: u16,
    tracks: Tracks,
    tick: u32,
    options: ViewOptions,
}

impl Crowd {
    fn new(members: u16) -> Self {
        let mut tracks = Tracks::default();
        (0..members).for_each(|slot| tracks.enter(slot, 0));
        let mut crowd = Self { members, tracks, tick: 0, options: ViewOptions::default() };
        // By then everybody has had its turn, and what comes is like any later tick.
        for _ in 0..HZ {
            crowd.walk();
            crowd.plan();
        }
        crowd
    }

    /// Everybody moves.
    fn walk(&mut self) {
        self.tick += 1;
        for slot in 0..self.members {
            let pose = pose_in_crowd(slot, self.tick, crowd_side_m(self.members));
            self.tracks.moved(slot, pose, self.tick);
        }
    }

    fn budget(&self) -> usize {
        (self.options.budget / HZ) as usize
    }

    fn plan(&mut self) -> Plan {
        let longest = self.options.periods.as_slice().last().copied().unwrap_or(1);
        let budget = self.budget();
        self.tracks.plan(self.tick, HZ, budget, longest, true)
    }
}

fn interest(criterion: &mut Criterion) {
    for members in [50_u16, 1_000, 4_000] {
        let mut group = criterion.benchmark_group(format!("interest/{members}"));
        group.throughput(Throughput::Elements(members.into()));
        let crowd = std::cell::RefCell::new(Crowd::new(members));
        let walk = || crowd.borrow_mut().walk();
        group.bench_function("plan", |bencher| {
            bencher.iter_batched(walk, |()| crowd.borrow_mut().plan(), BatchSize::PerIteration);
        });
        let planned = || {
            walk();
            crowd.borrow_mut().plan()
        };
        group.bench_function("sort into cells", |bencher| {
            let sort = |plan: Plan| (Grid::coarse(plan.base), Grid::new(plan.near));
            bencher.iter_batched(planned, sort, BatchSize::LargeInput);
        });
        let near = Grid::new(planned().near);
        let crowd = crowd.into_inner();
        let mut cells: Vec<_> = (0..members).map(|slot| crowd.tracks.cell(slot)).collect();
        cells.sort_unstable();
        cells.dedup();
        // What the base takes of the budget is about half of it.
        let budget = crowd.budget() / 2;
        group.bench_function("select for each cell of viewers", |bencher| {
            bencher.iter(|| {
                let select = |cell: &_| {
                    let from = Viewpoint::new(*cell, None);
                    select_near(black_box(&near), from, &crowd.options, crowd.tick, budget).len()
                };
                cells.iter().map(select).sum::<usize>()
            });
        });
        group.finish();
    }
}

criterion_group!(all, interest);
criterion_main!(all);
