//! Texts as Socket.IO packets: what is accepted is what the stock parser would accept, and comes out of our
//! encoder as it went in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::packet::check_depth;
use protocol::{DecodeError, Outgoing, Packet, PacketKind};
use serde_json::value::RawValue;

const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

fuzz_target!(|text: &str| {
    let header = Packet::decode_header(text);
    let whole = Packet::decode(text);
    if let Ok(packet) = whole {
        assert_eq!(header, Ok(packet), "both decoders read the same header");
        check_accepted(text, &packet);
    }
    if let Ok(packet) = header {
        check_stepwise(&packet, whole);
    }
});

/// The invariants of the stock JavaScript parser on everything that it emits.
fn check_accepted(text: &str, packet: &Packet<'_>) {
    assert_eq!(text.as_bytes()[0], packet.kind.digit());
    assert!(packet.attachments <= 10 && (packet.kind.is_binary() || packet.attachments == 0));
    assert!(packet.namespace.starts_with('/') && !packet.namespace.contains([',', '?']));
    let value =
        packet.data.map(|data| serde_json::from_str::<&RawValue>(data).expect("accepted as JSON").get());
    if let Some(data) = packet.data {
        assert!(check_depth(data, 32).is_ok());
    }
    match packet.kind {
        PacketKind::Connect => assert!(value.is_none_or(|json| json.starts_with('{'))),
        PacketKind::Disconnect => assert_eq!(value, None),
        PacketKind::ConnectError => assert!(value.is_none_or(|json| json.starts_with(['{', '"']))),
        PacketKind::Event | PacketKind::BinaryEvent => check_event(packet),
        PacketKind::Ack | PacketKind::BinaryAck => check_ack(packet),
    }
}

fn check_event(packet: &Packet<'_>) {
    let event = packet.event().expect("accepted as an event");
    assert!(!RESERVED.contains(&&*event.name));
    // The whole array read at once holds what reading it step by step gave.
    let array: Vec<&RawValue> =
        serde_json::from_str(packet.data.expect("events have data")).expect("an array");
    assert_eq!(serde_json::from_str::<String>(array[0].get()).expect("led by a name"), event.name);
    let args: Vec<&str> = event.raw_args().map(|arg| arg.expect("accepted as JSON")).collect();
    assert!(args.iter().copied().eq(array[1..].iter().map(|raw| raw.get())));
    assert_eq!(event.first_raw(), args.first().copied().unwrap_or_default());

    let again = Outgoing::event_raw_in(packet.namespace, &event.name, event.args, Vec::new());
    let read = Packet::decode(again.text()).expect("what we send can be read");
    assert_eq!((read.namespace, read.event()), (packet.namespace, Ok(event)));
}

fn check_ack(packet: &Packet<'_>) {
    let args = packet.ack_args().expect("accepted as an ack");
    let again = Outgoing::ack_raw(packet.namespace, packet.id.unwrap_or(0), args, Vec::new());
    let read = Packet::decode(again.text()).expect("what we send can be read");
    assert_eq!(
        (read.namespace, read.id, read.ack_args()),
        (packet.namespace, packet.id.or(Some(0)), Ok(args))
    );
}

/// Reading an event in steps accepts exactly what checking it whole accepts, but for the depth.
fn check_stepwise(packet: &Packet<'_>, whole: Result<Packet<'_>, DecodeError>) {
    match packet.event() {
        Err(DecodeError::NotAnEvent) => {}
        Ok(event) if event.raw_args().all(|arg| arg.is_ok()) => {
            assert!(matches!(whole, Ok(_) | Err(DecodeError::TooDeep)));
        }
        _ => assert!(whole.is_err()),
    }
}
