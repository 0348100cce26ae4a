//! Chunks of poses: what comes back is what went in, within the precision that is promised, and small.

use std::f32::consts::{FRAC_PI_2, PI};

use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;
use protocol::limits::MAX_POSITION_M;
use protocol::{Part, Pose, Rotation};
use replay::{
    Content, Damaged, Encoder, MemberId, PoseSample, PoseSamples, Record, RecordKind, decode, encode,
};

mod people;

const ROTATION_ERROR_DEGREES_MAX: f64 = 0.25;

/// Two members, one of them absent from the second instant, the other with a left hand.
const CHUNK: &str = "01028090fd4ec8d195ffbc3180d095ffbc31c80103646402050401050004020503030000000002904e9003c03ec8010000801900000000009f1f000000000000000000000000000000000000000000000300000200c7010000af09000000f30300000000000000cc09000000000000";

fn record(poses: PoseSamples) -> Record {
    Record { at_ms: poses.last_ms(), content: Content::Poses(poses) }
}

fn read_again(poses: &PoseSamples) -> PoseSamples {
    let payload = encode(&record(poses.clone())).expect("small enough");
    let read = decode(RecordKind::Poses, &payload).expect("what was written can be read");
    assert_eq!(read.at_ms, poses.last_ms());
    let Content::Poses(read) = read.content else { panic!("poses are poses") };
    read
}

fn degrees_between(a: Rotation, b: Rotation) -> f64 {
    let (a, b) = (a.to_quaternion().map(f64::from), b.to_quaternion().map(f64::from));
    let chord = |sign: f64| a.iter().zip(b).map(|(a, b)| (a - sign * b).powi(2)).sum::<f64>().sqrt();
    (4.0 * (chord(1.0).min(chord(-1.0)) / 2.0).min(1.0).asin()).to_degrees()
}

fn check_part(sent: &Part, got: &Part) {
    for (sent, got) in sent.position.iter().zip(got.position) {
        // Up to 1 km a millimetre; beyond that float32 itself has no finer steps.
        let step = f64::from(sent.abs()) * f64::from(f32::EPSILON);
        let off = (f64::from(*sent) - f64::from(got)).abs();
        assert!(off <= 0.000_501 + step, "{sent} came back as {got}");
    }
    let is_euler = |part: &Part| matches!(part.rotation, Rotation::Euler(_));
    assert_eq!(is_euler(sent), is_euler(got), "the sender's form");
    let degrees = degrees_between(sent.rotation, got.rotation);
    assert!(degrees <= ROTATION_ERROR_DEGREES_MAX, "{degrees}°: {:?} {:?}", sent.rotation, got.rotation);
}

fn check(sent: &PoseSamples, got: &PoseSamples) {
    assert_eq!(got.instants_ms, sent.instants_ms);
    let who_and_when = |poses: &PoseSamples| -> Vec<_> {
        let list = poses.samples.iter().map(|sample| (sample.instant, sample.member));
        list.collect()
    };
    assert_eq!(who_and_when(got), who_and_when(sent));
    for (sent, got) in sent.samples.iter().zip(&got.samples) {
        assert_eq!(got.pose.left_hand.is_some(), sent.pose.left_hand.is_some());
        assert_eq!(got.pose.right_hand.is_some(), sent.pose.right_hand.is_some());
        for (sent, got) in sent.pose.parts().zip(got.pose.parts()) {
            check_part(sent, got);
        }
    }
}

fn metres() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -20.0f32..20.0,
        1 => -1_000.0f32..1_000.0,
        1 => -MAX_POSITION_M..=MAX_POSITION_M,
        1 => prop::sample::select(&[0.0f32, MAX_POSITION_M, -MAX_POSITION_M, 0.000_5][..]),
    ]
}

fn rotation() -> impl Strategy<Value = Rotation> {
    let angle = || {
        prop_oneof![
            3 => -3.2f32..3.2,
            1 => -10_000.0f32..10_000.0,
            1 => prop::sample::select(&[0.0f32, FRAC_PI_2, -FRAC_PI_2, PI][..]),
        ]
    };
    let quaternion = [-1.0f32..1.0, -1.0f32..1.0, -1.0f32..1.0, -1.0f32..1.0]
        .prop_filter("not near zero", |q| q.iter().map(|c| c * c).sum::<f32>() > 1e-3);
    prop_oneof![
        [angle(), angle(), angle()].prop_map(Rotation::Euler),
        quaternion.prop_map(Rotation::Quaternion),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    ([metres(), metres(), metres()], rotation()).prop_map(|(position, rotation)| Part { position, rotation })
}

fn pose() -> impl Strategy<Value = Pose> {
    (part(), option::of(part()), option::of(part())).prop_map(|(head, left_hand, right_hand)| Pose {
        head,
        left_hand,
        right_hand,
    })
}

fn poses() -> impl Strategy<Value = PoseSamples> {
    let members = prop_oneof![0..6u64, any::<u64>()].prop_map(MemberId);
    let instants = btree_set(0..3_000u64, 1..12);
    let samples = btree_map((0..1_000usize, members), pose(), 0..60);
    (0..u64::MAX / 2, instants, samples).prop_map(|(first, instants, samples)| {
        let instants_ms: Vec<u64> = instants.into_iter().map(|ms| first + ms).collect();
        let of = |at: usize| (at % instants_ms.len()) as u16;
        let mut samples: Vec<_> = samples
            .into_iter()
            .map(|((at, member), pose)| PoseSample { instant: of(at), member, pose })
            .collect();
        samples.sort_by_key(|sample| (sample.instant, sample.member));
        samples.dedup_by_key(|sample| (sample.instant, sample.member));
        PoseSamples { instants_ms, samples }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_poses_come_back(poses in poses()) {
        check(&poses, &read_again(&poses));
    }

    #[test]
    fn what_has_been_read_is_written_as_it_is(poses in poses()) {
        let once = read_again(&poses);
        let twice = read_again(&once);
        check(&once, &twice);
        for (once, twice) in once.samples.iter().zip(&twice.samples) {
            for (once, twice) in once.pose.parts().zip(twice.pose.parts()) {
                prop_assert_eq!(once.position, twice.position);
            }
        }
    }

    #[test]
    fn a_flipped_byte_is_told(poses in poses(), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let mut payload = encode(&record(poses)).expect("small enough").to_vec();
        let at = at.index(payload.len());
        payload[at] ^= flip;
        prop_assert_eq!(decode(RecordKind::Poses, &payload), Err(Damaged));
        prop_assert_eq!(decode(RecordKind::Poses, &payload[..at]), Err(Damaged));
    }
}

#[test]
fn every_single_flipped_bit_of_a_chunk_of_people_is_told() {
    let payload = encode(&record(people::People::new(8, 3).second(5))).expect("small enough").to_vec();
    for at in 0..payload.len() {
        for bit in 0..8 {
            let mut flipped = payload.clone();
            flipped[at] ^= 1 << bit;
            assert_eq!(decode(RecordKind::Poses, &flipped), Err(Damaged), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_room_of_fifty_takes_few_bytes() {
    let mut people = people::People::new(50, 7);
    let mut encoder = Encoder::new();
    let (mut bytes, mut samples) = (0, 0);
    for _ in 0..60 {
        let poses = people.second(10);
        samples += people::parts(&poses);
        let payload = encoder.encode(&record(poses.clone())).expect("small enough");
        bytes += payload.len();
        check(&poses, &read_again(&poses));
    }
    let each = bytes as f64 / samples as f64;
    println!("{each:.2} bytes a sample, {samples} samples");
    assert!(each <= 8.5, "{each} bytes a sample");
}

#[test]
fn angles_beyond_a_quarter_turn_come_back_as_they_were() {
    for angles in [[0.0, 2.4, 0.0], [0.1, -2.9, 0.2], [0.3, 0.4, -0.5], [0.0, 3.1, 0.0], [0.2, -1.5, 0.0]] {
        let head = Part { position: [0.0; 3], rotation: Rotation::Euler(angles) };
        let pose = Pose { head, left_hand: None, right_hand: None };
        let samples = vec![PoseSample { instant: 0, member: MemberId(1), pose }];
        let read = read_again(&PoseSamples { instants_ms: vec![1], samples });
        let Rotation::Euler(got) = read.samples[0].pose.head.rotation else { panic!("the sender's form") };
        for (sent, got) in angles.iter().zip(got) {
            assert!((sent - got).abs() < 0.03, "{angles:?} came back as {got:?}");
        }
    }
}

#[test]
fn what_is_out_of_order_or_too_much_is_not_written() {
    let sample = |instant| PoseSample { instant, member: MemberId(1), pose: Pose::INITIAL };
    let is_written =
        |instants_ms: Vec<u64>, samples| encode(&record(PoseSamples { instants_ms, samples })).is_ok();
    assert!(is_written(vec![], vec![]));
    assert!(is_written(vec![5, 6], vec![sample(0), sample(1)]));
    assert!(!is_written(vec![6, 5], vec![sample(0)]));
    assert!(!is_written(vec![5, 5], vec![sample(0)]));
    assert!(!is_written(vec![5], vec![sample(1)]));
    assert!(!is_written(vec![5, 6 + replay::limits::CHUNK_SPAN_MAX_MS], vec![sample(0)]));
    assert!(!is_written((0..2_000).collect(), vec![sample(0)]));
    assert!(!is_written(vec![5], vec![sample(0); replay::limits::CHUNK_SAMPLES_MAX + 1]));
}

#[test]
fn of_two_samples_at_one_instant_the_last_counts() {
    let mut last = Pose::INITIAL;
    last.head.position = [7.0, 8.0, 9.0];
    let of = |pose| PoseSample { instant: 0, member: MemberId(1), pose };
    let read = read_again(&PoseSamples { instants_ms: vec![1], samples: vec![of(Pose::INITIAL), of(last)] });
    assert_eq!(read.samples.len(), 1);
    assert_eq!(read.samples[0].pose.head.position, [7.0, 8.0, 9.0]);
}

#[test]
fn the_layout_stays_as_it_is() {
    let mut samples = Vec::new();
    for instant in 0..3 {
        for member in [5, 9] {
            let mut pose = Pose::INITIAL;
            pose.head.position = [f32::from(instant) * 0.1 + member as f32, 1.6, -2.0];
            let rotation = Rotation::Quaternion([0.0, 0.6, 0.0, 0.8]);
            pose.left_hand = (member == 9).then_some(Part { position: [9.0, 1.0, -2.25], rotation });
            samples.push(PoseSample { instant, member: MemberId(member), pose });
        }
    }
    samples.remove(2);
    let instants_ms = vec![1_700_000_000_000, 1_700_000_000_100, 1_700_000_000_200];
    let payload = encode(&record(PoseSamples { instants_ms, samples })).expect("small enough");
    let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, CHUNK);
}
