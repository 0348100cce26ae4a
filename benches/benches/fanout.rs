//! What a tick costs after it has been encoded: putting together what viewers share, each viewer's own part, and the whole
//! fan-out of an engine.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use benches::{FullRoom, Hall, crowd_side_m};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::broadcast::TickPoses;
use protocol::event::Encoding;

/// A room of people close together, all of whom have moved, at its tick.
fn encoded(members: u16, encoding: Encoding) -> TickPoses {
    let mut room = FullRoom::new(members, encoding);
    room.move_all();
    room.tick_poses()
}

/// What one viewer costs where another has had what both share put together.
fn viewer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan-out/one viewer");
    for members in [50_u16, 200] {
        let poses = encoded(members, Encoding::Json);
        group.bench_function(format!("json of {members}"), |bencher| {
            bencher.iter(|| poses.json(black_box(members / 2)).is_some());
        });
        let poses = encoded(members, Encoding::Batch);
        group.bench_function(format!("batch of {members}"), |bencher| {
            bencher.iter(|| poses.batch(black_box(members / 2)).is_some());
        });
        let poses = encoded(members, Encoding::Binary);
        group.bench_function(format!("binary of {members}"), |bencher| {
            bencher.iter(|| poses.binary(black_box(members / 2)).is_some());
        });
    }
    group.finish();
}

/// What all viewers of a crowd share is put together, once for each cell of them.
fn shares(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan-out/all shares");
    group.sample_size(30);
    for members in [50_u16, 1_000, 4_000] {
        group.throughput(Throughput::Elements(members.into()));
        let room = RefCell::new(FullRoom::new(members, Encoding::Binary));
        let prepare = || {
            let mut room = room.borrow_mut();
            room.move_crowd(crowd_side_m(members));
            room.tick_poses()
        };
        let all = |poses: TickPoses| {
            let packets = (0..members).filter_map(|slot| poses.binary(slot));
            packets.map(protocol::Outgoing::wire_bytes).sum::<usize>()
        };
        group.bench_function(format!("{members}"), |bencher| {
            bencher.iter_batched(prepare, all, BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// All turns of an engine's fan-out for one tick: the above, and handing it to every viewer's outbox.
fn engine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan-out/engine");
    group.sample_size(30);
    for members in [50_u16, 1_000] {
        group.throughput(Throughput::Elements(members.into()));
        let spent_ns = Arc::new(AtomicU64::new(0));
        let spent = spent_ns.clone();
        let mut hall = Hall::new(members, crowd_side_m(members), move |turn| {
            let begun = Instant::now();
            turn();
            spent.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        });
        group.bench_function(format!("{members}"), |bencher| {
            bencher.iter_custom(|times| {
                let before = spent_ns.load(Ordering::Relaxed);
                for _ in 0..times {
                    hall.move_all();
                    hall.tick();
                }
                Duration::from_nanos(spent_ns.load(Ordering::Relaxed) - before)
            });
        });
    }
    group.finish();
}

criterion_group!(all, viewer, shares, engine);
criterion_main!(all);
