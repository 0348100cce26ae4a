//! What recording costs, and how fast a recording is read.

use std::hint::black_box;

// For its allocator, the server's.
use benches as _;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use replay::{
    Content, Decoder, Encoder, Filter, Keyframe, MemberId, Objects, Record, RecordId, RecordKind,
    StoredRecord, Timeline, Types, World, json,
};

#[path = "../../replay/tests/people/mod.rs"]
mod people;

use people::{People, parts};

const START_MS: u64 = 1_700_000_000_000;
const HZ: u32 = 10;

fn chunk(people: &mut People) -> Record {
    let poses = people.second(HZ);
    Record { at_ms: poses.last_ms(), content: Content::Poses(poses) }
}

/// A keyframe with everybody in it.
fn keyframe(members: u32) -> Record {
    let user = |member: u32| {
        format!(
            r#"{{"id":"user_{member:012}","socketId":"s{member:019}","username":"Visitor {member}","slot":{member},"position":{{"x":1,"y":1.6,"z":2}},"rotation":{{"x":0,"y":0,"z":0}}}}"#
        )
    };
    let members: Vec<_> = (0..members).map(|member| (MemberId(u64::from(member)), user(member))).collect();
    let max_users = members.len() as u32;
    let objects = Objects::All("[]".into());
    Record {
        at_ms: START_MS,
        content: Content::Keyframe(Keyframe { opens: false, max_users, members, objects }),
    }
}

/// So many seconds of a room, with the number of moves in it.
fn recording(members: u32, seconds: u32) -> (Vec<StoredRecord>, u64) {
    let mut encoder = Encoder::new();
    let mut stored = |record: &Record| StoredRecord {
        id: RecordId::at(record.at_ms),
        kind: record.content.kind(),
        payload: encoder.encode(record).expect("small enough"),
    };
    let mut people = People::new(members, 7);
    let mut records = vec![stored(&keyframe(members))];
    records.extend((0..seconds).map(|_| stored(&chunk(&mut people))));
    (records, u64::from(members * HZ * seconds))
}

/// All moments of the records, which `take` is given.
fn read(filter: Filter, records: &[StoredRecord], mut take: impl FnMut(&replay::Moment)) {
    let mut timeline = Timeline::new(filter);
    for record in records {
        timeline.push(record);
        while let Some(moment) = timeline.next() {
            take(&moment);
        }
    }
    timeline.finish();
    while let Some(moment) = timeline.next() {
        take(&moment);
    }
}

fn chunks(criterion: &mut Criterion) {
    for members in [50, 1_000] {
        let record = chunk(&mut People::new(members, 7));
        let Content::Poses(poses) = &record.content else { return };
        let samples = parts(poses) as u64;
        let mut encoder = Encoder::new();
        let payload = encoder.encode(&record).expect("small enough");
        let mut group = criterion.benchmark_group(format!("chunk/{members}"));
        group.throughput(Throughput::Elements(samples));
        group.bench_function("encode", |bencher| bencher.iter(|| encoder.encode(black_box(&record)).is_ok()));
        let mut decoder = Decoder::new();
        group.bench_function("decode", |bencher| {
            bencher.iter(|| decoder.decode(RecordKind::Poses, black_box(&payload)).is_ok());
        });
        group.finish();
    }
}

fn reading(criterion: &mut Criterion) {
    let (records, moves) = recording(50, 60);
    let mut group = criterion.benchmark_group("recording/read, 50 people");
    group.throughput(Throughput::Elements(moves));
    let mut out = Vec::with_capacity(1 << 20);
    group.bench_function("to JSON", |bencher| {
        bencher.iter(|| {
            let mut bytes = 0;
            read(Filter::default(), &records, |moment| {
                out.clear();
                json::write(moment, &mut out);
                out.push(b'\n');
                bytes += out.len();
            });
            bytes
        });
    });
    group.bench_function("without moves", |bencher| {
        bencher.iter(|| {
            let filter = Filter { types: Types::JOIN | Types::LEAVE, ..Filter::default() };
            let mut count = 0;
            read(filter, &records, |_| count += 1);
            count
        });
    });
    group.finish();
}

fn seeking(criterion: &mut Criterion) {
    let (records, moves) = recording(1_000, 30);
    let Content::Keyframe(keyframe) = keyframe(1_000).content else { return };
    let mut group = criterion.benchmark_group("recording/seek, 1000 people");
    group.sample_size(10).throughput(Throughput::Elements(moves));
    group.bench_function("30 seconds", |bencher| {
        bencher.iter_batched(
            || World::from_keyframe(&keyframe, "[]").expect("a legal keyframe"),
            |mut world| {
                let filter = Filter { only_last_moves: true, ..Filter::default() };
                read(filter, &records, |moment| world.apply(moment));
                world
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(all, chunks, reading, seeking);
criterion_main!(all);
