//! Fan-out: a tick encoded once, and what each viewer then costs before its socket is written to.

use std::hint::black_box;

use benches::{ids_json, pose};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::broadcast::{BatchTick, JsonTick, Moved};

fn broadcast(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast");
    for members in [50_u16, 1_000] {
        let ids: Vec<String> = (0..members).map(ids_json).collect();
        let moved: Vec<Moved<'_>> = (0..members)
            .zip(&ids)
            .map(|(slot, ids_json)| Moved { slot, ids_json, pose: pose(slot, 3) })
            .collect();
        group.throughput(Throughput::Elements(members.into()));
        group.bench_function(format!("encode json {members}"), |bencher| {
            bencher.iter(|| JsonTick::encode(black_box(&moved)));
        });
        group.bench_function(format!("encode batch {members}"), |bencher| {
            bencher.iter(|| BatchTick::encode(7, 350, black_box(&moved)));
        });
        let json = JsonTick::encode(&moved);
        let batch = BatchTick::encode(7, 350, &moved);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("view json of {members}"), |bencher| {
            bencher.iter(|| json.view(black_box(members / 2)).is_some());
        });
        group.bench_function(format!("view batch of {members}"), |bencher| {
            bencher.iter(|| batch.view(black_box(members / 2)).is_some());
        });
        group.bench_function(format!("view batch of {members}, standing still"), |bencher| {
            bencher.iter(|| batch.view(black_box(members)).is_some());
        });
    }
    group.finish();
}

criterion_group!(all, broadcast);
criterion_main!(all);
