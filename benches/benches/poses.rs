//! Poses as JSON and as binary, in and out.

use std::hint::black_box;

use benches::{UPDATE_HANDS, UPDATE_HEAD, crowd_side_m, pose_in_crowd};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::frame::{Cell32, FrameHeader, FrameReader, FrameWriter, decode_pose, encode_pose};
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

/// A frame of a crowd of 200, in the order of their cells.
fn frames(criterion: &mut Criterion) {
    const MEMBERS: u16 = 200;
    let pose = |slot| pose_in_crowd(slot, 1, crowd_side_m(MEMBERS));
    let mut poses: Vec<_> = (0..MEMBERS).map(|slot| (slot, pose(slot))).collect();
    let cell = |pose: &Pose| Cell32::nearest(pose.head.position);
    poses.sort_by_key(|(_, pose)| (cell(pose).z, cell(pose).x));
    let write = |out: &mut Vec<u8>| {
        let mut frame = FrameWriter::new(FrameHeader::default(), out);
        for together in poses.chunk_by(|(_, one), (_, other)| cell(one) == cell(other)) {
            let mut group = frame.group(cell(&together[0].1));
            together.iter().for_each(|(slot, pose)| group.entry(*slot, pose));
            group.finish();
        }
        frame.finish()
    };
    let mut out = Vec::new();
    write(&mut out);
    let frame = out.clone();

    let mut group = criterion.benchmark_group("pose-frame");
    group.throughput(Throughput::Elements(MEMBERS.into()));
    group.bench_function("write 200", |bencher| {
        bencher.iter(|| {
            out.clear();
            write(&mut out)
        });
    });
    group.bench_function("read 200", |bencher| {
        bencher.iter(|| FrameReader::new(black_box(&frame)).map(|frame| frame.entries().count()));
    });
    group.finish();
}

criterion_group!(all, poses, frames);
criterion_main!(all);
