//! Socket.IO packets, in and out.

use std::hint::black_box;

use benches::{JOIN, MESSAGE, UPDATE_HANDS, UPDATE_HEAD, UPDATE_OBJECT, event};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::attachments::{AssembleLimits, Assembler};
use protocol::{Outgoing, Packet};
use serde_json::json;

const ACK: &str = r#"317[{"ok":true,"roomId":"lobby-of-the-gallery","slot":17}]"#;
const BINARY: &str = r#"51-["update-position",{"_placeholder":true,"num":0}]"#;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet/decode");
    for (name, text) in [
        ("update-position", UPDATE_HEAD),
        ("update-position with hands", UPDATE_HANDS),
        ("object-update", UPDATE_OBJECT),
        ("room-message", MESSAGE),
        ("join-room", JOIN),
    ] {
        assert!(event(text).is_some(), "{name}");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| event(black_box(text)).is_some()));
    }
    group.bench_function("header of update-position", |bencher| {
        bencher.iter(|| Packet::decode_header(black_box(UPDATE_HEAD)).is_ok());
    });
    group.bench_function("ack", |bencher| bencher.iter(|| Packet::decode(black_box(ACK)).is_ok()));
    group.bench_function("binary update-position", |bencher| {
        let attachment = Bytes::from_static(&[0; 33]);
        let mut assembler = Assembler::new(AssembleLimits::default());
        bencher.iter(|| {
            let begun = assembler.begin(black_box(BINARY), 0).is_ok();
            begun && assembler.push(attachment.clone(), 0).is_ok_and(|packet| packet.is_some())
        });
    });
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet/encode");
    let user =
        json!({ "id": "user_000000000017", "socketId": "s0000000000000000017", "username": "Visitor 17" });
    group.bench_function("user-joined", |bencher| {
        bencher.iter(|| Outgoing::event("user-joined", black_box(&user)));
    });
    group.bench_function("user-left", |bencher| {
        bencher.iter(|| Outgoing::event("user-left", black_box("user_000000000017")));
    });
    group.bench_function("ack", |bencher| bencher.iter(|| Outgoing::ack("/", 17, black_box(&user))));
    let frame = Bytes::from(vec![7; 650]);
    group.bench_function("pose-frame", |bencher| {
        bencher.iter(|| {
            let attachments = vec![black_box(&frame).clone()];
            Outgoing::binary_event_raw("pose-frame", r#"{"_placeholder":true,"num":0}"#, attachments)
        });
    });
    group.finish();
}

criterion_group!(packets, decode, encode);
criterion_main!(packets);
