//! A merge of one large object into another: what a single `object-update` can cost a core.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use protocol::Members;
use protocol::limits::MAX_OBJECT_BYTES;

/// As many tiny members as fit into one payload, named from `first` on.
fn full(first: usize) -> Members {
    let count = MAX_OBJECT_BYTES / "\"m100000\":1,".len();
    let list: Vec<_> = (first..first + count).map(|index| format!("\"m{:06}\":1", 100_000 + index)).collect();
    serde_json::from_str(&format!("{{{}}}", list.join(","))).expect("a JSON object")
}

fn members_merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("object/merge");
    let object = full(0);
    let small: Members = serde_json::from_str(r#"{"m100001":2,"colour":"red"}"#).expect("a JSON object");
    for (name, changes) in [("all new", full(object.len())), ("none new", full(0)), ("two", small)] {
        group.throughput(Throughput::Elements(changes.len() as u64));
        group.bench_function(name, |bencher| {
            let merge = |object: &mut Members| object.merge(&changes);
            bencher.iter_batched_ref(|| object.clone(), merge, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(members, members_merge);
criterion_main!(members);
