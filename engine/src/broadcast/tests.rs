use super::*;
use crate::interest::{Cell, Grid, Shown};
use protocol::frame::{FrameReader, entry_bytes};
use protocol::{Packet, Pose};
use serde_json::Value;

const HEADER: FrameHeader = FrameHeader { flags: 0, tick: 7, time_ms: 350 };
const EVERYTHING: Wanted = Wanted { json: true, batch: true, binary: true, repeated_text: false };

/// Members by slot, each with its position.
struct Crowd(Vec<(u16, Pose, String)>);

impl Crowd {
    /// One of each slot, so far to the right of the origin.
    fn new(members: &[(u16, f32)]) -> Self {
        let member = |(slot, x): &(u16, f32)| {
            let mut pose = Pose::INITIAL;
            pose.head.position[0] = *x;
            (*slot, pose, format!("\"id\":\"u{slot}\",\"socketId\":\"s{slot}\","))
        };
        Self(members.iter().map(member).collect())
    }

    fn section(&self, slots: &[u16], make: fn(Vec<Shown>) -> Grid) -> Section {
        self.section_of(slots.iter().map(|slot| (*slot, true)), make)
    }

    fn section_of(&self, slots: impl Iterator<Item = (u16, bool)>, make: fn(Vec<Shown>) -> Grid) -> Section {
        self.section_wanted(slots, make, EVERYTHING)
    }

    fn section_wanted(
        &self,
        slots: impl Iterator<Item = (u16, bool)>,
        make: fn(Vec<Shown>) -> Grid,
        wanted: Wanted,
    ) -> Section {
        let shown = slots.map(|(slot, is_news)| {
            let pose = self.pose(slot);
            let cell = Cell::of(pose.head.position);
            Shown { cell, age: 0, slot, bytes: entry_bytes(pose) as u8, is_news }
        });
        Section::encode(make(shown.collect()), self, wanted)
    }

    /// A tick that shows `base` to everybody and `near` to those around; all look as far as they like.
    fn tick(&self, base: &[u16], near: &[u16], budget: usize) -> TickPoses {
        let viewpoints = self.0.iter().map(|(slot, pose, _)| (looks_from(pose, None), *slot)).collect();
        self.tick_seen_from(base, near, budget, viewpoints)
    }

    fn tick_seen_from(
        &self,
        base: &[u16],
        near: &[u16],
        budget: usize,
        viewpoints: Vec<(Viewpoint, u16)>,
    ) -> TickPoses {
        let (base, near) = (self.section(base, Grid::coarse), self.section(near, Grid::new));
        TickPoses::new(HEADER, ViewOptions::default(), budget, base, near, &viewpoints)
    }
}

impl Members for Crowd {
    fn pose(&self, slot: u16) -> &Pose {
        &self.0.iter().find(|(other, ..)| *other == slot).unwrap().1
    }

    fn ids_json(&self, slot: u16) -> &str {
        &self.0.iter().find(|(other, ..)| *other == slot).unwrap().2
    }
}

fn looks_from(pose: &Pose, radius_m: Option<f32>) -> Viewpoint {
    Viewpoint::new(Cell::of(pose.head.position), radius_m)
}

fn payload(text: &str) -> Value {
    let packet = Packet::decode(text).unwrap();
    serde_json::from_str::<Value>(packet.data.unwrap()).unwrap()[1].clone()
}

fn names<'a>(users: impl Iterator<Item = &'a Value>) -> String {
    let mut names: Vec<&str> = users.map(|user| user["id"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.join(" ")
}

fn json(tick: &TickPoses, viewer: u16) -> String {
    let Some(TickView::Packets { buffer, spans, own }) = tick.json(viewer) else { return String::new() };
    let others = spans.iter().enumerate().filter(|(index, _)| Some(*index) != own);
    let users: Vec<Value> =
        others.map(|(_, span)| payload(std::str::from_utf8(&buffer[span.text()]).unwrap())).collect();
    names(users.iter())
}

fn batch(tick: &TickPoses, viewer: u16) -> String {
    let Some(packet) = tick.batch(viewer) else { return String::new() };
    let payload = payload(packet.text());
    assert_eq!((payload["tick"].as_u64(), payload["time"].as_u64()), (Some(7), Some(350)));
    names(payload["users"].as_array().unwrap().iter())
}

/// Slots with where they are, in order, and how many groups they are in.
fn frame(tick: &TickPoses, viewer: u16) -> (Vec<(u16, f32)>, usize) {
    let Some(packet) = tick.binary(viewer) else { return (Vec::new(), 0) };
    assert_eq!(packet.text(), r#"51-["pose-frame",{"_placeholder":true,"num":0}]"#);
    let frame = FrameReader::new(&packet.attachments()[0]).unwrap();
    assert_eq!(frame.header(), HEADER);
    let mut seen: Vec<_> = frame.entries().map(|entry| (entry.slot, entry.pose.head.position[0])).collect();
    seen.sort_by_key(|(slot, _)| *slot);
    (seen, frame.groups().count())
}

#[test]
fn everybody_sees_everybody_else_once() {
    let crowd = Crowd::new(&[(0, 0.5), (3, 500.0), (5, 5.0), (9, 9.5)]);
    let tick = crowd.tick(&[0, 3, 9], &[], 10_000);
    for (viewer, expected) in [(0, "u3 u9"), (3, "u0 u9"), (9, "u0 u3"), (5, "u0 u3 u9")] {
        assert_eq!(json(&tick, viewer), expected, "viewer {viewer}");
        assert_eq!(batch(&tick, viewer), expected, "viewer {viewer}");
    }
    assert_eq!(tick.len(), 3);
}

#[test]
fn it_is_for_all_unless_something_was_left_for_those_near() {
    let crowd = Crowd::new(&[(0, 0.5), (3, 500.0), (5, 5.0)]);
    let viewpoints =
        |radius| crowd.0.iter().map(|(slot, pose, _)| (looks_from(pose, radius), *slot)).collect();
    for radius in [None, Some(20.0)] {
        assert!(crowd.tick_seen_from(&[0, 3, 5], &[], 10_000, viewpoints(radius)).is_for_all());
        assert!(!crowd.tick_seen_from(&[0, 3], &[5], 10_000, viewpoints(radius)).is_for_all());
    }
}

#[test]
fn a_frame_has_everybody_in_its_cell() {
    let crowd = Crowd::new(&[(0, 0.5), (3, 500.0), (9, 9.5)]);
    let tick = crowd.tick(&[0, 3, 9], &[], 10_000);
    assert_eq!(frame(&tick, 3), (vec![(0, 0.5), (3, 500.0), (9, 9.5)], 2));
}

#[test]
fn who_moves_alone_is_told_nothing() {
    let crowd = Crowd::new(&[(4, 0.0), (5, 1.0)]);
    // It makes no difference by which of the two it comes.
    for (base, near) in [(&[4][..], &[][..]), (&[], &[4])] {
        let tick = crowd.tick(base, near, 10_000);
        assert_eq!((json(&tick, 4), batch(&tick, 4), frame(&tick, 4).0.len()), <_>::default());
        assert_eq!((json(&tick, 5), batch(&tick, 5)), ("u4".into(), "u4".into()));
        assert_eq!(frame(&tick, 5).0, [(4, 0.0)]);
    }
}

#[test]
fn who_is_near_comes_along_only_to_those_around() {
    let crowd = Crowd::new(&[(0, 4.0), (1, 5.0), (2, 12.0), (3, 1_000.0), (4, 2_000.0)]);
    let tick = crowd.tick(&[4], &[1, 2, 3], 10_000);
    for (viewer, expected) in [(0, "u1 u2 u4"), (1, "u2 u4"), (2, "u1 u4"), (3, "u4"), (4, "")] {
        assert_eq!(json(&tick, viewer), expected, "viewer {viewer}");
        assert_eq!(batch(&tick, viewer), expected, "viewer {viewer}");
    }
    assert_eq!(frame(&tick, 0), (vec![(1, 5.0), (2, 12.0), (4, 2_000.0)], 2));
    assert_eq!(frame(&tick, 2), frame(&tick, 0), "its own pose may come along");
    assert_eq!(frame(&tick, 3).0, [(3, 1_000.0), (4, 2_000.0)]);
    assert_eq!(tick.views.len(), 4, "those who stand in one cell share what they see");
    assert!(std::ptr::eq(tick.binary(0).unwrap(), tick.binary(1).unwrap()));
}

#[test]
fn what_is_near_takes_what_the_base_leaves_of_the_budget() {
    let crowd = Crowd::new(&[(0, 4.0), (1, 5.0), (2, 6.0), (3, 7.0), (4, 2_000.0)]);
    let entry = entry_bytes(&Pose::INITIAL);
    let group = protocol::frame::GROUP_HEADER_BYTES;
    let seen = |budget| frame(&crowd.tick(&[4], &[1, 2, 3], budget), 0).0.len();
    assert_eq!(seen(2 * group + 4 * entry), 4);
    // The first of those who do not all fit, or the last.
    assert!((2..=3).contains(&seen(2 * group + 4 * entry - 1)));
    assert_eq!(seen(2 * group + 2 * entry), 2);
    assert_eq!(seen(2 * group + 2 * entry - 1), 1);
    assert_eq!(seen(0), 1, "what everybody gets was counted by whoever chose it");
}

#[test]
fn who_limits_how_far_it_sees_is_shown_no_more() {
    let crowd = Crowd::new(&[(0, 4.0), (1, 5.0), (2, 60.0), (3, 1_000.0)]);
    let radii = [Some(20.0), None, Some(2_000.0), Some(5.0)];
    let viewpoints =
        || crowd.0.iter().zip(radii).map(|((slot, pose, _), radius)| (looks_from(pose, radius), *slot));
    for (base, near) in [(&[0, 1, 2, 3][..], &[][..]), (&[2, 3], &[0, 1])] {
        let tick = crowd.tick_seen_from(base, near, 10_000, viewpoints().collect());
        for (viewer, expected) in [(0, "u1"), (1, "u0 u2 u3"), (3, "")] {
            assert_eq!(json(&tick, viewer), expected, "viewer {viewer}");
            assert_eq!(batch(&tick, viewer), expected, "viewer {viewer}");
        }
        assert_eq!(frame(&tick, 0).0, [(0, 4.0), (1, 5.0)]);
        assert!(tick.binary(3).is_none(), "there is nobody but itself");
    }
}

#[test]
fn what_is_no_news_is_only_for_those_who_take_frames() {
    let crowd = Crowd::new(&[(0, 0.0), (1, 1.0), (2, 2.0)]);
    let base = crowd.section_of([(0, false), (1, true)].into_iter(), Grid::coarse);
    let near = crowd.section_of([(2, false)].into_iter(), Grid::new);
    let viewpoints: Vec<_> = crowd.0.iter().map(|(slot, pose, _)| (looks_from(pose, None), *slot)).collect();
    let tick = TickPoses::new(HEADER, ViewOptions::default(), 10_000, base, near, &viewpoints);
    assert_eq!((json(&tick, 2), batch(&tick, 2)), ("u1".into(), "u1".into()));
    assert_eq!((json(&tick, 1), batch(&tick, 1)), <_>::default());
    assert_eq!(frame(&tick, 1).0.len(), 3);
}

#[test]
fn a_slot_that_nobody_has_gets_nothing() {
    let crowd = Crowd::new(&[(0, 0.0), (2, 2.0)]);
    let tick = crowd.tick(&[0], &[2], 10_000);
    for slot in [1, 3, u16::MAX] {
        assert!(tick.json(slot).is_none() && tick.batch(slot).is_none() && tick.binary(slot).is_none());
    }
}

#[test]
fn what_nobody_wanted_is_not_there() {
    let crowd = Crowd::new(&[(0, 0.0), (1, 1.0)]);
    let wanted = Wanted { batch: true, ..Wanted::default() };
    let base = crowd.section_wanted([(0, true), (1, true)].into_iter(), Grid::coarse, wanted);
    let tick = TickPoses::new(HEADER, ViewOptions::default(), 10_000, base, Section::default(), &[]);
    assert!(tick.json(0).is_none() && tick.binary(0).is_none() && tick.batch(0).is_some());
}
