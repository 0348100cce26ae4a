//! A room's tick with everybody moving: taking the dirty slots, reading them, who sees whom, encoding each pose once.
//!
//! People stand as close together as a crowd does, so fifty all see each other and of thousands everybody sees a part.

use std::cell::RefCell;

use benches::{FullRoom, crowd_side_m};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use protocol::event::Encoding;

const SIZES: [u16; 3] = [50, 1_000, 4_000];

/// Of a room as most are.
const TICKS_PER_SECOND: usize = 20;

fn one(criterion: &mut Criterion) {
    for members in SIZES {
        let side_m = crowd_side_m(members);
        let mut group = criterion.benchmark_group(format!("tick/{members}"));
        group.sample_size(30).throughput(Throughput::Elements(members.into()));
        for (name, encoding) in
            [("json", Encoding::Json), ("batch", Encoding::Batch), ("binary", Encoding::Binary)]
        {
            let room = RefCell::new(FullRoom::new(members, encoding));
            // Each tick has an input of its own: everybody's next pose.
            let prepare = || room.borrow_mut().move_crowd(side_m);
            group.bench_function(name, |bencher| {
                bencher.iter_batched(prepare, |()| room.borrow_mut().tick().len(), BatchSize::PerIteration);
            });
        }
        let mut still = FullRoom::new(members, Encoding::Json);
        group.bench_function("standing still", |bencher| bencher.iter(|| still.tick().len()));
        group.finish();
    }
}

/// A second's ticks with the moves between them, without and with what it takes to write them down.
fn second(criterion: &mut Criterion) {
    for members in SIZES {
        let side_m = crowd_side_m(members);
        let mut group = criterion.benchmark_group(format!("tick/{members}/a second"));
        group.sample_size(10).throughput(Throughput::Elements(members.into()));
        for (name, is_recorded) in [("not recorded", false), ("recorded", true)] {
            let mut room = FullRoom::new(members, Encoding::Binary);
            if is_recorded {
                room.record(10);
            }
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    for _ in 0..TICKS_PER_SECOND {
                        room.move_crowd(side_m);
                        room.tick();
                    }
                });
            });
        }
        group.finish();
    }
}

fn fill(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("room");
    group.sample_size(10).throughput(Throughput::Elements(1_000));
    group
        .bench_function("1000 join at once", |bencher| bencher.iter(|| FullRoom::new(1_000, Encoding::Json)));
    group.finish();
}

criterion_group!(all, one, second, fill);
criterion_main!(all);
