//! A crowd's tick with everybody moving, at the density of 2,000 people in a square of 200 m: who sees whom, each pose
//! encoded once, and a frame put together for every viewer.

use std::cell::RefCell;

use benches::FullRoom;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use protocol::event::Encoding;

/// People per square metre.
const DENSITY: f32 = 2_000.0 / (200.0 * 200.0);

/// Of a room as most are.
const TICKS_PER_SECOND: usize = 20;

fn crowd(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crowd");
    group.sample_size(30);
    for members in [250_u16, 1_000, 4_000] {
        let side_m = (f32::from(members) / DENSITY).sqrt();
        group.throughput(Throughput::Elements(members.into()));
        let room = RefCell::new(FullRoom::new(members, Encoding::Binary));
        let prepare = || room.borrow_mut().move_crowd(side_m);
        group.bench_function(format!("{members} encode"), |bencher| {
            bencher.iter_batched(prepare, |()| room.borrow_mut().tick().len(), BatchSize::PerIteration);
        });
        // A second's ticks of a room that is written down, with what that takes once a second.
        let recorded = RefCell::new(FullRoom::new(members, Encoding::Binary));
        recorded.borrow_mut().record(10);
        for (name, room) in [("a second", &room), ("a second, recorded", &recorded)] {
            group.bench_function(format!("{members} encode {name}"), |bencher| {
                bencher.iter(|| {
                    for _ in 0..TICKS_PER_SECOND {
                        room.borrow_mut().move_crowd(side_m);
                        room.borrow_mut().tick();
                    }
                });
            });
        }
        let encoded = || {
            prepare();
            room.borrow_mut().tick_poses()
        };
        group.bench_function(format!("{members} put together"), |bencher| {
            let all = |poses: engine::broadcast::TickPoses| {
                (0..members)
                    .filter_map(|slot| poses.binary(slot))
                    .map(|packet| packet.wire_bytes())
                    .sum::<usize>()
            };
            bencher.iter_batched(encoded, all, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(all, crowd);
criterion_main!(all);
