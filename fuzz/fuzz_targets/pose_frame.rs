//! Bytes as pose frames and as poses: what is read, written again and read again, is the same pose.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::frame::{Entry, FrameReader, FrameWriter, decode_pose, encode_pose};
use protocol::{Part, Pose};

/// Half of the largest step that a float32 takes at the edge of what the format can say (1,049 km), on a head.
const FAR_ERROR_M_MAX: f64 = 0.0625;
const ROTATION_ERROR_DEGREES_MAX: f64 = 0.25;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(pose) = decode_pose(bytes) {
        let mut again = Vec::new();
        encode_pose(&pose, &mut again);
        assert_eq!(again.len(), bytes.len());
        check_same(&pose, &decode_pose(&again).expect("what we write can be read"));
    }
    let Ok(reader) = FrameReader::new(bytes) else { return };
    let again = write_again(&reader);
    assert_eq!(again.len(), bytes.len());
    let read_again = FrameReader::new(&again).expect("what we write can be read");
    assert_eq!(read_again.header(), reader.header());
    let (mut sent, mut got) = (reader.entries(), read_again.entries());
    loop {
        match (sent.next(), got.next()) {
            (Some(sent), Some(got)) => {
                assert_eq!(sent.slot, got.slot);
                check_same(&sent.pose, &got.pose);
            }
            (sent, got) => {
                assert_eq!((sent, got), (None, None), "as many entries as before");
                break;
            }
        }
    }
});

fn write_again(reader: &FrameReader<'_>) -> Vec<u8> {
    let mut again = Vec::new();
    let mut frame = FrameWriter::new(reader.header(), &mut again);
    for group in reader.groups() {
        let mut writer = frame.group(group.cell);
        for Entry { slot, pose } in group.entries() {
            writer.entry(slot, &pose);
        }
        assert_eq!(writer.finish(), group.members());
    }
    frame.finish();
    again
}

fn check_same(sent: &Pose, got: &Pose) {
    assert_eq!(sent.left_hand.is_some(), got.left_hand.is_some());
    assert_eq!(sent.right_hand.is_some(), got.right_hand.is_some());
    for (sent, got) in sent.parts().zip(got.parts()) {
        check_part(sent, got);
    }
}

fn check_part(sent: &Part, got: &Part) {
    for (sent, got) in sent.position.iter().zip(got.position) {
        assert!(
            sent.is_finite() && (f64::from(*sent) - f64::from(got)).abs() <= FAR_ERROR_M_MAX,
            "{sent} {got}"
        );
    }
    let (a, b) = (sent.rotation.to_quaternion().map(f64::from), got.rotation.to_quaternion().map(f64::from));
    let chord = |sign: f64| a.iter().zip(b).map(|(a, b)| (a - sign * b).powi(2)).sum::<f64>().sqrt();
    let degrees = (4.0 * (chord(1.0).min(chord(-1.0)) / 2.0).asin()).to_degrees();
    assert!(degrees <= ROTATION_ERROR_DEGREES_MAX, "{degrees}° between {a:?} and {b:?}");
}
