//! Bytes as a chunk of poses, the checksum made right: what is read, written again and read again, is the same poses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{Part, Rotation};
use replay::limits::{CHUNK_INSTANTS_MAX, CHUNK_SAMPLES_MAX};
use replay::{Content, FORMAT_VERSION, PoseSamples, Record, RecordKind, decode, encode};

/// A rotation is rounded each time; what was read is at most half a step off each component.
const ROTATION_ERROR_DEGREES_MAX: f64 = 0.25;
/// Bytes in front of what the checksum is over, and its own.
const CRC: std::ops::Range<usize> = 2..6;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    // Nothing is garbage here only because of its checksum: what is behind it would never be reached.
    let mut payload = vec![FORMAT_VERSION, RecordKind::Poses as u8 | (kind & 0x80), 0, 0, 0, 0];
    payload.extend_from_slice(rest);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&payload[..CRC.start]);
    hasher.update(&payload[CRC.end..]);
    payload[CRC].copy_from_slice(&hasher.finalize().to_le_bytes());
    let Ok(record) = decode(RecordKind::Poses, &payload) else { return };
    let poses = poses(&record);
    assert!(poses.instants_ms.len() <= CHUNK_INSTANTS_MAX && poses.samples.len() <= CHUNK_SAMPLES_MAX);
    let again = encode(&record).expect("what can be read can be written");
    let record = decode(RecordKind::Poses, &again).expect("what is written can be read");
    check(poses, self::poses(&record));
});

fn poses(record: &Record) -> &PoseSamples {
    let Content::Poses(poses) = &record.content else { panic!("poses are poses") };
    poses
}

fn check(read: &PoseSamples, again: &PoseSamples) {
    assert_eq!(again.instants_ms, read.instants_ms);
    assert_eq!(again.samples.len(), read.samples.len());
    for (read, again) in read.samples.iter().zip(&again.samples) {
        assert_eq!((again.instant, again.member), (read.instant, read.member));
        assert_eq!(again.pose.left_hand.is_some(), read.pose.left_hand.is_some());
        assert_eq!(again.pose.right_hand.is_some(), read.pose.right_hand.is_some());
        for (read, again) in read.pose.parts().zip(again.pose.parts()) {
            check_part(read, again);
        }
    }
}

fn check_part(read: &Part, again: &Part) {
    assert_eq!(again.position, read.position);
    let is_euler = |part: &Part| matches!(part.rotation, Rotation::Euler(_));
    assert_eq!(is_euler(again), is_euler(read));
    let [a, b] = [read, again].map(|part| part.rotation.to_quaternion().map(f64::from));
    let chord = |sign: f64| a.iter().zip(b).map(|(a, b)| (a - sign * b).powi(2)).sum::<f64>().sqrt();
    let degrees = (4.0 * (chord(1.0).min(chord(-1.0)) / 2.0).asin()).to_degrees();
    assert!(degrees <= ROTATION_ERROR_DEGREES_MAX, "{degrees}° between {a:?} and {b:?}");
}
