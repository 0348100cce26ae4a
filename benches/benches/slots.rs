//! Pose slots: what a pose costs on its way in, and a tick on its way through the table.

use std::hint::black_box;

use benches::{FullRoom, UPDATE_HEAD, pose};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::slot::PoseSlot;
use protocol::event::Encoding;
use protocol::{Packet, Pose};

fn slot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slot");
    let slot = PoseSlot::default();
    let generation = slot.generation();
    let head = pose(17, 3);
    let hands = Pose { left_hand: Some(head.head), right_hand: Some(head.head), ..head };
    for (name, pose) in [("head", head), ("hands", hands)] {
        group.bench_function(format!("store {name}"), |bencher| {
            bencher.iter(|| slot.store(generation, black_box(&pose)).is_ok());
        });
        group.bench_function(format!("load {name}"), |bencher| bencher.iter(|| black_box(&slot).load()));
    }
    group.finish();
}

fn table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
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
    group.throughput(Throughput::Elements(1));
    group.bench_function("from the packet's text into the slot", |bencher| {
        let (slot, generation) = seats[500];
        bencher.iter(|| {
            let packet = Packet::decode_header(black_box(UPDATE_HEAD)).ok()?;
            let pose = Pose::from_json(packet.event().ok()?.first_raw()).ok()?;
            table.store(slot, generation, &pose).ok()
        });
    });
    group.finish();
}

criterion_group!(slots, slot, table);
criterion_main!(slots);
