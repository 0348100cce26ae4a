//! A room's tick with everybody moving: taking the dirty slots, reading them, encoding them once.

use benches::FullRoom;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use protocol::event::Encoding;

fn tick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("room/tick");
    group.sample_size(50);
    for members in [50, 1_000] {
        group.throughput(Throughput::Elements(members.into()));
        for (name, encoding) in [("json", Encoding::Json), ("batch", Encoding::Batch)] {
            let room = std::cell::RefCell::new(FullRoom::new(members, encoding));
            group.bench_function(format!("{members} {name}"), |bencher| {
                // Each tick has an input of its own: everybody's next pose.
                let prepare = || room.borrow_mut().move_all();
                bencher.iter_batched(prepare, |()| room.borrow_mut().tick().len(), BatchSize::PerIteration);
            });
        }
        let mut still = FullRoom::new(members, Encoding::Json);
        group.bench_function(format!("{members} standing still"), |bencher| {
            bencher.iter(|| still.tick().len());
        });
    }
    group.finish();
}

fn fill(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("room/fill");
    group.sample_size(10);
    group.throughput(Throughput::Elements(1_000));
    group
        .bench_function("1000 join at once", |bencher| bencher.iter(|| FullRoom::new(1_000, Encoding::Json)));
    group.finish();
}

criterion_group!(room, tick, fill);
criterion_main!(room);
