//! What a tick costs after it has been encoded: putting together what viewers share, and each viewer's own part.

use std::hint::black_box;

use benches::FullRoom;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::broadcast::TickPoses;
use protocol::event::Encoding;

/// A room of people close together, all of whom have moved, at its tick.
fn tick(members: u16, encoding: Encoding) -> TickPoses {
    let mut room = FullRoom::new(members, encoding);
    room.move_all();
    room.tick_poses()
}

fn broadcast(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast");
    for members in [50_u16, 200] {
        group.throughput(Throughput::Elements(1));
        let poses = tick(members, Encoding::Json);
        group.bench_function(format!("view json of {members}"), |bencher| {
            bencher.iter(|| poses.json(black_box(members / 2)).is_some());
        });
        let poses = tick(members, Encoding::Batch);
        group.bench_function(format!("view batch of {members}"), |bencher| {
            bencher.iter(|| poses.batch(black_box(members / 2)).is_some());
        });
        let poses = tick(members, Encoding::Binary);
        group.bench_function(format!("view binary of {members}"), |bencher| {
            bencher.iter(|| poses.binary(black_box(members / 2)).is_some());
        });
    }
    group.finish();
}

criterion_group!(all, broadcast);
criterion_main!(all);
