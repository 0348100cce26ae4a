//! Recordings as moments in the order of time.

use std::collections::HashSet;

use protocol::{Part, Pose, Rotation};
use replay::timeline::{Counts, LOOK_AHEAD_MS};
use replay::{
    Action, Content, Event, Filter, Keyframe, MemberId, Moment, Objects, PoseSample, PoseSamples, Record,
    RecordId, StoredRecord, Timeline, Types, What, World, encode, json,
};

const START_MS: u64 = 1_700_000_000_000;

/// Times are in ms since the start.
fn stored(id_ms: u64, seq: u32, at_ms: u64, content: Content) -> StoredRecord {
    let kind = content.kind();
    let payload = encode(&Record { at_ms: START_MS + at_ms, content }).expect("small enough");
    StoredRecord { id: RecordId { ms: START_MS + id_ms, seq }, kind, payload }
}

fn user(member: u64) -> String {
    format!(r#"{{"id":"user_{member}","socketId":"s{member}","position":{{"x":0,"y":0,"z":0}}}}"#)
}

fn event(at_ms: u64, member: u64, action: Action) -> StoredRecord {
    event_of(at_ms, member, member, action)
}

fn event_of(at_ms: u64, member: u64, name: u64, action: Action) -> StoredRecord {
    let content = Content::Event(Event {
        member: MemberId(member),
        user_id: format!("user_{name}").into(),
        socket_id: format!("s{name}").into(),
        action,
    });
    stored(at_ms, member as u32, at_ms, content)
}

fn join(at_ms: u64, member: u64) -> StoredRecord {
    event(at_ms, member, Action::Join { user: user(member) })
}

fn leave(at_ms: u64, member: u64) -> StoredRecord {
    event(at_ms, member, Action::Leave)
}

fn delete(at_ms: u64, member: u64, id: u64) -> StoredRecord {
    event(at_ms, member, Action::ObjectDelete { id: id.to_string() })
}

fn keyframe(at_ms: u64, opens: bool, members: &[u64]) -> StoredRecord {
    let members = members.iter().map(|member| (MemberId(*member), user(*member))).collect();
    let objects = Objects::All("[]".into());
    stored(at_ms, 0, at_ms, Content::Keyframe(Keyframe { opens, max_users: 50, members, objects }))
}

fn keyframe_of(at_ms: u64, opens: bool, objects: Objects) -> StoredRecord {
    let members = vec![(MemberId(3), user(3))];
    stored(at_ms, 0, at_ms, Content::Keyframe(Keyframe { opens, max_users: 50, members, objects }))
}

fn poses(id_ms: u64, instants: &[u64], members: &[u64]) -> StoredRecord {
    let instants_ms: Vec<u64> = instants.iter().map(|ms| START_MS + ms).collect();
    let mut samples = Vec::new();
    for (instant, ms) in instants.iter().enumerate() {
        for member in members {
            let head =
                Part { position: [*ms as f32 / 1_000.0, 0.0, 0.0], rotation: Rotation::Euler([0.0; 3]) };
            let pose = Pose { head, left_hand: None, right_hand: None };
            samples.push(PoseSample { instant: instant as u16, member: MemberId(*member), pose });
        }
    }
    let last = instants.last().copied().unwrap_or(0);
    stored(id_ms, 9, last, Content::Poses(PoseSamples { instants_ms, samples }))
}

fn damaged(mut record: StoredRecord) -> StoredRecord {
    let mut payload = record.payload.to_vec();
    payload[10] ^= 1;
    record.payload = payload.into();
    record
}

fn moments(filter: Filter, records: &[StoredRecord]) -> (Vec<Moment>, Counts) {
    let mut timeline = Timeline::new(filter);
    let mut moments = Vec::new();
    for record in records {
        timeline.push(record);
        moments.extend(std::iter::from_fn(|| timeline.next()));
    }
    timeline.finish();
    moments.extend(std::iter::from_fn(|| timeline.next()));
    (moments, timeline.counts())
}

/// What happened in few letters: the time, what, who.
fn brief(moments: &[Moment]) -> Vec<String> {
    let text = |moment: &Moment| {
        let ms = moment.at_ms - START_MS;
        match &moment.what {
            What::Move { who, pose, .. } => {
                assert_eq!((pose.head.position[0] * 1_000.0).round() as u64, ms, "the pose of that time");
                format!("{ms} move {}", who.socket_id)
            }
            What::Event { who, action, .. } => {
                let mut out = Vec::new();
                json::write(moment, &mut out);
                let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
                assert_eq!(value["timestamp"], moment.at_ms);
                assert_eq!(
                    Types::from_name(value["type"].as_str().expect("a type")),
                    Some(Types::of(action))
                );
                format!("{ms} {} {}", value["type"].as_str().expect("a type"), who.socket_id)
            }
            What::Objects(objects) => format!("{ms} objects {objects}"),
            What::Gap => format!("{ms} gap"),
        }
    };
    moments.iter().map(text).collect()
}

fn told(filter: Filter, records: &[StoredRecord]) -> Vec<String> {
    let (moments, counts) = moments(filter, records);
    assert_eq!(counts, Counts::default());
    brief(&moments)
}

/// Two people, of whom one comes later and goes again.
fn recording() -> Vec<StoredRecord> {
    vec![
        keyframe(0, true, &[]),
        join(100, 1),
        join(500, 2),
        delete(700, 2, 5),
        poses(1_000, &[200, 400, 600, 800], &[1]),
        leave(1_500, 2),
        poses(2_000, &[1_100, 1_300], &[1, 2]),
    ]
}

#[test]
fn events_and_moves_come_in_the_order_of_time() {
    assert_eq!(
        told(Filter::default(), &recording()),
        [
            "100 join s1",
            "200 move s1",
            "400 move s1",
            "500 join s2",
            "600 move s1",
            "700 object-delete s2",
            "800 move s1",
            "1100 move s1",
            "1100 move s2",
            "1300 move s1",
            "1300 move s2",
            "1500 leave s2",
        ]
    );
}

#[test]
fn nothing_is_told_before_all_that_is_earlier_is_known() {
    let mut timeline = Timeline::new(Filter::default());
    timeline.push(&join(100, 1));
    assert_eq!(timeline.next(), None);
    timeline.push(&delete(99 + LOOK_AHEAD_MS, 1, 1));
    assert_eq!(timeline.next(), None);
    timeline.push(&delete(100 + LOOK_AHEAD_MS, 1, 1));
    assert_eq!(timeline.next().map(|moment| moment.at_ms), Some(START_MS + 100));
    assert_eq!(timeline.next(), None);
}

#[test]
fn time_types_and_users_are_filtered() {
    let records = recording();
    let (from_ms, to_ms) = (START_MS + 500, START_MS + 1_100);
    let filter = Filter { from_ms, to_ms, types: Types::MOVE | Types::JOIN, ..Filter::default() };
    assert_eq!(
        told(filter, &records),
        ["500 join s2", "600 move s1", "800 move s1", "1100 move s1", "1100 move s2"]
    );
    let filter = Filter { users: Some(HashSet::from(["user_2".into()])), ..Filter::default() };
    assert_eq!(
        told(filter, &records),
        ["500 join s2", "700 object-delete s2", "1100 move s2", "1300 move s2", "1500 leave s2"]
    );
    let mut timeline = Timeline::new(Filter { to_ms, ..Filter::default() });
    timeline.push(&delete(1_100 + LOOK_AHEAD_MS, 1, 1));
    assert!(!timeline.is_over());
    timeline.push(&delete(1_101 + LOOK_AHEAD_MS, 1, 1));
    assert!(timeline.is_over());
}

#[test]
fn the_last_moves_are_enough_to_know_how_everything_stands() {
    let records = recording();
    for to in [0, 100, 399, 400, 401, 500, 1_000, 1_100, 1_299, 1_300, 1_499, 2_000] {
        let filter = |only_last_moves| Filter { to_ms: START_MS + to, only_last_moves, ..Filter::default() };
        let world = |only_last_moves| {
            let mut world = World::default();
            let (moments, _) = moments(filter(only_last_moves), &records);
            moments.iter().for_each(|moment| world.apply(moment));
            (world.members().values().map(|member| member.to_json()).collect::<Vec<_>>(), moments.len())
        };
        let ((all, count), (last, fewer)) = (world(false), world(true));
        assert_eq!(all, last, "at {to}");
        assert!(fewer <= count && (to < 400 || fewer < count), "{fewer} of {count} at {to}");
    }
}

#[test]
fn moves_are_thinned_alike_wherever_reading_begins() {
    let mut records = vec![keyframe(0, false, &[1])];
    for second in 0..10 {
        let instants: Vec<u64> = (0..10).map(|tenth| second * 1_000 + tenth * 100 + 50).collect();
        records.push(poses(second * 1_000 + 1_000, &instants, &[1]));
    }
    let thinned = |from_ms| {
        let from_ms = START_MS + from_ms;
        told(Filter { hz: Some(0.4), from_ms, ..Filter::default() }, &records)
    };
    let all = thinned(0);
    assert_eq!(all, ["50 move s1", "2550 move s1", "5050 move s1", "7550 move s1"]);
    for from in [0, 49, 51, 600, 1_000, 4_999] {
        let time = |text: &String| text.split_once(' ').map(|(ms, _)| ms.parse::<u64>().expect("a time"));
        let later: Vec<_> = all.iter().filter(|text| time(text) >= Some(from)).cloned().collect();
        assert_eq!(thinned(from), later, "from {from}");
    }
}

#[test]
fn whoever_was_in_when_a_server_died_leaves_with_its_last_trace() {
    let records = [
        keyframe(0, true, &[]),
        join(100, 1),
        join(200, 2),
        poses(1_000, &[900], &[1, 2]),
        leave(950, 2),
        keyframe(60_000, true, &[3]),
        join(60_100, 1),
        poses(61_000, &[60_500], &[1, 2]),
    ];
    let (moments, counts) = moments(Filter::default(), &records);
    assert_eq!(
        brief(&moments),
        [
            "100 join s1",
            "200 join s2",
            "900 move s1",
            "900 move s2",
            "950 leave s2",
            "950 leave s1",
            "60000 join s3",
            "60100 join s1",
            "60500 move s1",
        ]
    );
    assert_eq!(counts, Counts { unknown_moves: 1, ..Counts::default() });
}

#[test]
fn a_number_given_anew_is_somebody_else() {
    let records = [
        keyframe(0, true, &[]),
        join(100, 1),
        poses(1_000, &[900], &[1]),
        keyframe(1_500, true, &[]),
        event_of(1_600, 1, 7, Action::Join { user: user(7) }),
        poses(2_000, &[1_700], &[1]),
    ];
    assert_eq!(
        told(Filter::default(), &records),
        ["100 join s1", "900 move s1", "900 leave s1", "1600 join s7", "1700 move s7"]
    );
}

#[test]
fn a_room_may_be_joined_before_a_keyframe_says_that_it_is_open() {
    let members = vec![(MemberId(3), user(8))];
    let objects = Objects::All("[]".into());
    let opening = Keyframe { opens: true, max_users: 50, members, objects };
    let records = [
        keyframe(0, true, &[]),
        join(100, 1),
        join(200, 2),
        event_of(60_100, 1, 7, Action::Join { user: user(7) }),
        keyframe(61_000, true, &[]),
        event_of(120_000, 3, 8, Action::Join { user: user(8) }),
        stored(121_000, 0, 121_000, Content::Keyframe(opening)),
        poses(122_000, &[121_500], &[3]),
    ];
    assert_eq!(
        told(Filter::default(), &records),
        [
            "100 join s1",
            "200 join s2",
            "200 leave s1",
            "200 leave s2",
            "60100 join s7",
            "60100 leave s7",
            "120000 join s8",
            "121500 move s8",
        ]
    );
}

#[test]
fn what_stands_in_a_room_that_is_opened_anew_is_told_if_it_is_wanted() {
    let all = |objects: &str| Objects::All(objects.into());
    let records = [
        keyframe(0, true, &[]),
        join(100, 1),
        leave(200, 1),
        keyframe_of(5_000, true, all(r#"[{"id":7}]"#)),
        delete(5_000, 3, 7),
        poses(6_000, &[4_900, 5_500], &[3]),
        keyframe_of(35_000, false, all("[]")),
        leave(40_000, 3),
        keyframe_of(60_000, true, Objects::UnchangedSince(35_000)),
    ];
    let openings = |openings, types| Filter { openings, types, ..Filter::default() };
    let events = Types::OBJECT_DELETE | Types::LEAVE;
    assert_eq!(
        brief(&moments(openings(true, events), &records).0),
        [
            "0 objects []",
            "200 leave s1",
            r#"5000 objects [{"id":7}]"#,
            "5000 object-delete s3",
            "40000 leave s3",
        ]
    );
    assert_eq!(
        brief(&moments(openings(false, events), &records).0),
        ["200 leave s1", "5000 object-delete s3", "40000 leave s3"]
    );
}

#[test]
fn whoever_comes_again_is_told_of_again() {
    let records =
        [join(100, 1), leave(200, 1), join(200, 1), poses(1_000, &[150, 300], &[1]), leave(1_100, 1)];
    assert_eq!(
        told(Filter::default(), &records),
        ["100 join s1", "150 move s1", "200 leave s1", "200 join s1", "300 move s1", "1100 leave s1"]
    );
}

#[test]
fn a_keyframe_tells_who_is_in_without_their_joins() {
    let records = [keyframe(30_000, false, &[1, 2]), poses(31_000, &[30_100], &[1, 2, 3])];
    let (moments, counts) = moments(Filter::default(), &records);
    assert_eq!(brief(&moments), ["30100 move s1", "30100 move s2"]);
    assert_eq!(counts.unknown_moves, 1);
}

#[test]
fn what_was_lost_is_made_up_for_at_the_next_keyframe() {
    let records = [
        keyframe(0, false, &[1, 2]),
        damaged(join(100, 3)),
        damaged(leave(200, 2)),
        damaged(poses(1_000, &[400], &[1])),
        keyframe(30_000, false, &[1, 3]),
        poses(31_000, &[30_500], &[1, 3]),
    ];
    let (moments, counts) = moments(Filter::default(), &records);
    assert_eq!(
        brief(&moments),
        [
            "100 gap",
            "200 gap",
            "1000 gap",
            "30000 leave s2",
            "30000 join s3",
            "30500 move s1",
            "30500 move s3",
        ]
    );
    assert_eq!(counts, Counts { damaged: 3, ..Counts::default() });
}

#[test]
fn what_comes_too_late_is_told_and_counted() {
    let records = [join(100, 1), delete(20_000, 1, 1), delete(30_000, 1, 1), poses(30_001, &[10_000], &[1])];
    let mut timeline = Timeline::new(Filter::default());
    let mut times = Vec::new();
    for record in &records {
        timeline.push(record);
        times.extend(std::iter::from_fn(|| timeline.next()).map(|moment| moment.at_ms - START_MS));
    }
    timeline.finish();
    times.extend(std::iter::from_fn(|| timeline.next()).map(|moment| moment.at_ms - START_MS));
    assert_eq!(times, [100, 20_000, 20_000, 30_000]);
    assert_eq!(timeline.counts(), Counts { late: 1, ..Counts::default() });
}
