//! The golden vectors in `vectors/`, which `js/` puts through JavaScript too.
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use bytes::Bytes;
use protocol::attachments::{AssembleError, AssembleLimits, Assembler, Begin};
use protocol::frame::{self, Cell32, FrameHeader, FrameReader, FrameWriter};
use protocol::{Outgoing, Packet, PacketKind, Part, Pose, Rotation};
use serde::Deserialize;
use serde_json::Value;

/// What a reader may be off by: the vectors are decimal, positions are float32.
const TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
struct File<T> {
    vectors: Vec<T>,
}

fn load<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = format!("{}/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn from_hex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[derive(Deserialize, Debug, PartialEq)]
struct PacketVector {
    #[serde(rename = "type")]
    kind: u8,
    namespace: String,
    id: Option<Value>,
    data: Option<Value>,
}

#[derive(Deserialize)]
struct PacketCase {
    name: String,
    text: String,
    attachments: Option<Vec<String>>,
    packet: Option<PacketVector>,
    error: Option<String>,
    canonical: Option<bool>,
}

/// Feeds a packet to an assembler as a connection would; gives the packet or the error's name.
fn receive(text: &str, attachments: &[String]) -> Result<PacketVector, String> {
    let mut assembler = Assembler::new(AssembleLimits::default());
    let mut complete = match assembler.begin(text, 0).map_err(error_name)? {
        Begin::Complete(_) => Some(text.to_owned()),
        Begin::Waiting(_) => None,
    };
    for attachment in attachments {
        if let Some(text) = attachment.strip_prefix("text:") {
            assembler.begin(text, 0).map_err(error_name)?;
        } else {
            let bytes = Bytes::from(from_hex(attachment));
            complete = assembler.push(bytes, 0).map_err(error_name)?.map(|packet| packet.text).or(complete);
        }
    }
    let text = complete.ok_or("Incomplete")?;
    let packet = Packet::decode(&text).map_err(|error| format!("{error:?}"))?;
    Ok(PacketVector {
        kind: packet.kind as u8,
        namespace: packet.namespace.to_owned(),
        id: packet.id.map(Value::from),
        data: packet.data.map(|json| {
            let data = serde_json::from_str(json).unwrap();
            if packet.kind.is_binary() { bare_placeholders(data) } else { data }
        }),
    })
}

/// Placeholders without anything else in them: all that a receiver can see of them.
fn bare_placeholders(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(bare_placeholders).collect(),
        Value::Object(members) if members.get("_placeholder") == Some(&Value::Bool(true)) => {
            serde_json::json!({"_placeholder": true, "num": members["num"]})
        }
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| (key, bare_placeholders(value))).collect()
        }
        other => other,
    }
}

fn error_name(error: AssembleError) -> String {
    match error {
        AssembleError::Decode(error) => format!("{error:?}"),
        error => format!("{error:?}"),
    }
}

/// The text of the packet built anew from what its decoder says.
fn encode_again(text: &str, attachments: &[String]) -> String {
    let packet = Packet::decode(text).unwrap();
    let attachments: Vec<Bytes> = attachments.iter().map(|hex| from_hex(hex).into()).collect();
    let outgoing = match packet.kind {
        PacketKind::Event | PacketKind::BinaryEvent if packet.id.is_none() => {
            let event = packet.event().unwrap();
            Outgoing::event_raw_in(packet.namespace, &event.name, event.args, attachments)
        }
        PacketKind::Ack | PacketKind::BinaryAck if packet.id.is_some() => {
            Outgoing::ack_raw(packet.namespace, packet.id.unwrap(), packet.ack_args().unwrap(), attachments)
        }
        PacketKind::Disconnect => Outgoing::disconnect(packet.namespace),
        PacketKind::ConnectError if packet.data.unwrap().starts_with('{') => {
            let data: Value = serde_json::from_str(packet.data.unwrap()).unwrap();
            Outgoing::connect_error(packet.namespace, data["message"].as_str().unwrap())
        }
        // A server sends none of the others.
        _ => return text.to_owned(),
    };
    outgoing.text().to_owned()
}

#[test]
fn packets() {
    let file: File<PacketCase> = load("packets.json");
    for case in &file.vectors {
        let attachments = case.attachments.as_deref().unwrap_or_default();
        let got = receive(&case.text, attachments);
        match (&case.packet, &case.error) {
            (Some(expected), None) => {
                assert_eq!(got.as_ref(), Ok(expected), "{}", case.name);
                if case.canonical != Some(false) {
                    assert_eq!(encode_again(&case.text, attachments), case.text, "{}", case.name);
                }
            }
            (None, Some(expected)) => assert_eq!(got.as_ref(), Err(expected), "{}", case.name),
            _ => panic!("{}: either packet or error", case.name),
        }
    }
}

#[derive(Deserialize)]
struct Differences {
    differences: Vec<Difference>,
}

#[derive(Deserialize)]
struct Difference {
    id: String,
    reason: String,
    cases: Vec<DifferenceCase>,
}

#[derive(Deserialize)]
struct DifferenceCase {
    text: String,
    attachments: Option<Vec<String>>,
    ours: Side,
    theirs: Side,
}

#[derive(Deserialize, Debug)]
struct Side {
    packet: Option<PacketVector>,
    error: Option<String>,
    throws: Option<bool>,
    incomplete: Option<bool>,
}

impl Side {
    /// Whether a peer can tell this outcome from the other.
    fn differs_from(&self, other: &Side) -> bool {
        let refuses = |side: &Side| side.error.is_some() || side.throws == Some(true);
        if refuses(self) || refuses(other) {
            return refuses(self) != refuses(other);
        }
        self.incomplete != other.incomplete || self.packet != other.packet
    }
}

#[test]
fn differences() {
    let file: Differences = load("differences.json");
    for difference in &file.differences {
        assert!(!difference.reason.is_empty(), "{}", difference.id);
        for case in &difference.cases {
            let got = receive(&case.text, case.attachments.as_deref().unwrap_or_default());
            let expected = match (&case.ours.packet, &case.ours.error) {
                (Some(packet), None) => Ok(packet),
                (None, Some(error)) => Err(error),
                _ => panic!("{}: ours is either packet or error", difference.id),
            };
            assert_eq!(got.as_ref(), expected, "{}: {}", difference.id, case.text);
            assert!(
                case.ours.differs_from(&case.theirs),
                "{}: {} is no difference",
                difference.id,
                case.text
            );
        }
    }
}

#[derive(Deserialize, Clone, Debug)]
struct PartVector {
    position: [f64; 3],
    rotation: Vec<f64>,
}

impl PartVector {
    fn to_part(&self) -> Part {
        let rotation: Vec<f32> = self.rotation.iter().map(|c| *c as f32).collect();
        let rotation = match rotation[..] {
            [x, y, z] => Rotation::Euler([x, y, z]),
            [x, y, z, w] => Rotation::Quaternion([x, y, z, w]),
            _ => panic!("a rotation has three or four components"),
        };
        Part { position: self.position.map(|c| c as f32), rotation }
    }

    #[track_caller]
    fn check(&self, part: &Part, name: &str) {
        let Rotation::Quaternion(rotation) = part.rotation else {
            panic!("{name}: a reader gives quaternions")
        };
        let got = part.position.iter().chain(&rotation);
        for (got, expected) in got.zip(self.position.iter().chain(&self.rotation)) {
            let scale = expected.abs().max(1.0);
            assert!(
                (f64::from(*got) - expected).abs() <= TOLERANCE * scale,
                "{name}: {part:?}, not {self:?}"
            );
        }
    }
}

#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
struct PoseVector {
    head: PartVector,
    left_hand: Option<PartVector>,
    right_hand: Option<PartVector>,
}

impl PoseVector {
    fn to_pose(&self) -> Pose {
        Pose {
            head: self.head.to_part(),
            left_hand: self.left_hand.as_ref().map(PartVector::to_part),
            right_hand: self.right_hand.as_ref().map(PartVector::to_part),
        }
    }

    #[track_caller]
    fn check(&self, pose: &Pose, name: &str) {
        self.head.check(&pose.head, name);
        for (expected, got) in [(&self.left_hand, &pose.left_hand), (&self.right_hand, &pose.right_hand)] {
            assert_eq!(expected.is_some(), got.is_some(), "{name}");
            if let (Some(expected), Some(got)) = (expected, got) {
                expected.check(got, name);
            }
        }
    }
}

#[derive(Deserialize)]
struct HexCase<T> {
    name: String,
    hex: String,
    input: Option<T>,
    decoded: Option<T>,
    error: Option<String>,
}

#[test]
fn poses() {
    let file: File<HexCase<PoseVector>> = load("poses.json");
    for HexCase { name, hex, input, decoded, error } in &file.vectors {
        let bytes = from_hex(hex);
        if let Some(input) = input {
            let mut written = vec![7];
            frame::encode_pose(&input.to_pose(), &mut written);
            assert_eq!(written[1..], bytes, "{name}");
        }
        match (frame::decode_pose(&bytes), decoded, error) {
            (Ok(pose), Some(expected), None) => expected.check(&pose, name),
            (Err(got), None, Some(expected)) => assert_eq!(&format!("{got:?}"), expected, "{name}"),
            (got, ..) => panic!("{name}: {got:?}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FrameVector {
    flags: u8,
    tick: u32,
    time_ms: u32,
    groups: Vec<GroupVector>,
}

#[derive(Deserialize)]
struct GroupVector {
    cell: [i16; 3],
    members: Vec<MemberVector>,
}

#[derive(Deserialize)]
struct MemberVector {
    slot: u16,
    #[serde(flatten)]
    pose: PoseVector,
}

impl FrameVector {
    fn header(&self) -> FrameHeader {
        FrameHeader { flags: self.flags, tick: self.tick, time_ms: self.time_ms }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut frame = FrameWriter::new(self.header(), out);
        for group in &self.groups {
            let [x, y, z] = group.cell;
            let mut writer = frame.group(Cell32 { x, y, z });
            for member in &group.members {
                writer.entry(member.slot, &member.pose.to_pose());
            }
            assert_eq!(usize::from(writer.finish()), group.members.len());
        }
        assert_eq!(usize::from(frame.finish()), self.groups.len());
    }

    fn check(&self, reader: &FrameReader<'_>, name: &str) {
        assert_eq!(reader.header(), self.header(), "{name}");
        let groups: Vec<_> = reader.groups().collect();
        assert_eq!(groups.len(), self.groups.len(), "{name}");
        for (got, expected) in groups.iter().zip(&self.groups) {
            assert_eq!([got.cell.x, got.cell.y, got.cell.z], expected.cell, "{name}");
            let entries: Vec<_> = got.entries().collect();
            assert_eq!(entries.len(), expected.members.len(), "{name}");
            for (entry, member) in entries.iter().zip(&expected.members) {
                assert_eq!(entry.slot, member.slot, "{name}");
                member.pose.check(&entry.pose, name);
            }
        }
        let all = self.groups.iter().map(|group| group.members.len()).sum::<usize>();
        assert_eq!(reader.entries().count(), all, "{name}");
    }
}

#[test]
fn frames() {
    let file: File<HexCase<FrameVector>> = load("frames.json");
    for HexCase { name, hex, input, decoded, error } in &file.vectors {
        let bytes = from_hex(hex);
        if let Some(input) = input {
            let mut written = vec![7];
            input.write(&mut written);
            assert_eq!(written[1..], bytes, "{name}");
        }
        match (FrameReader::new(&bytes), decoded, error) {
            (Ok(reader), Some(expected), None) => expected.check(&reader, name),
            (Err(got), None, Some(expected)) => assert_eq!(&format!("{got:?}"), expected, "{name}"),
            (got, ..) => panic!("{name}: {got:?}"),
        }
    }
}
