//! Poses as JSON and as binary, in and out.

use std::hint::black_box;

use benches::{UPDATE_HANDS, UPDATE_HEAD};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::frame::{decode_pose, encode_pose};
use protocol::{Packet, Pose};

fn payload(text: &str) -> &str {
    let packet = Packet::decode(text).expect("a legal packet");
    packet.event().expect("an event").first_raw()
}

fn poses(criterion: &mut Criterion) {
    for (name, text) in [("head", UPDATE_HEAD), ("hands", UPDATE_HANDS)] {
        let json = payload(text);
        let pose = Pose::from_json(json).expect("a legal pose");
        let mut binary = Vec::new();
        encode_pose(&pose, &mut binary);
        let mut out = Vec::with_capacity(1_024);

        let mut group = criterion.benchmark_group(format!("pose/{name}"));
        group.throughput(Throughput::Elements(1));
        group
            .bench_function("read JSON", |bencher| bencher.iter(|| Pose::from_json(black_box(json)).is_ok()));
        group.bench_function("write JSON", |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&pose).write_json_members(&mut out);
                out.len()
            });
        });
        group.bench_function("read binary", |bencher| {
            bencher.iter(|| decode_pose(black_box(&binary)).is_ok());
        });
        group.bench_function("write binary", |bencher| {
            bencher.iter(|| {
                out.clear();
                encode_pose(black_box(&pose), &mut out);
                out.len()
            });
        });
        group.finish();
    }
}

criterion_group!(all, poses);
criterion_main!(all);
