//! Pose slots: what a pose costs on its way in, and a tick on its way through the table.

use std::hint::black_box;

use benches::{FullRoom, Hall, crowd_side_m, pose};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::slot::PoseSlot;
use protocol::Pose;
use protocol::event::Encoding;

fn slot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slot");
    let slot = PoseSlot::default();
    let generation = slot.generation();
    let head = pose(17, 3);
    let hands = Pose { left_hand: Some(head.head), right_hand: Some(head.head), ..head };
    for (name, pose) in [("head", head), ("head with hands", hands)] {
        group.bench_function(format!("store a {name}"), |bencher| {
            bencher.iter(|| slot.store(generation, black_box(&pose)).is_ok());
        });
        group.bench_function(format!("load a {name}"), |bencher| bencher.iter(|| black_box(&slot).load()));
    }
    group.finish();
}

fn table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slot/table");
    let room = FullRoom::new(1_000, Encoding::Json);
    let (table, seats) = (&room.shared.table, &room.seats);
    group.throughput(Throughput::Elements(seats.len() as u64));
    group.bench_function("store 1000", |bencher| {
        let pose = pose(17, 3);
        bencher.iter(|| {
            seats.iter().all(|&(slot, generation)| table.store(slot, generation, black_box(&pose)).is_ok())
        });
    });
    group.bench_function("load 1000", |bencher| {
        bencher.iter(|| seats.iter().filter_map(|&(slot, _)| table.load(slot)).count());
    });
    group.finish();
}

/// A pose's way from a client's WebSocket frame into its slot, for everybody in a room.
fn way_in(criterion: &mut Criterion) {
    const MEMBERS: u16 = 1_000;
    let mut group = criterion.benchmark_group("slot/way in");
    group.throughput(Throughput::Elements(MEMBERS.into()));
    let mut hall = Hall::new(MEMBERS, crowd_side_m(MEMBERS), |turn| turn());
    for (name, is_binary) in [("json", false), ("binary", true)] {
        // Reading takes the mask off in place, so each time needs frames of its own.
        let frames = hall.frames(is_binary);
        group.bench_function(format!("1000 in {name}"), |bencher| {
            let take = |frames: &mut Vec<Vec<u8>>| assert_eq!(hall.take(frames), usize::from(MEMBERS));
            bencher.iter_batched_ref(|| frames.clone(), take, BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(slots, slot, table, way_in);
criterion_main!(slots);
