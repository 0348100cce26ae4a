//! A receiver that is judged: which poses of whom it has had, how old they were, and how long it went without.

use std::time::{Duration, Instant};

use crate::crowd::{Board, Crowd};
use crate::schedule::{Moment, Schedule};
use crate::tally::Tally;
use crate::walk::SPEED_M_PER_S;

/// How often is looked who is near.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// How far a pose may be from where its sender can have been when it sent it, in metres: several steps.
const MISPLACED_M: f32 = 0.5;

/// What stays the same for all receivers of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) crowd: &'a Crowd,
    pub(crate) board: &'a Board,
    pub(crate) schedule: &'a Schedule,
    /// Up to how many metres away somebody is near.
    pub(crate) near_m: f32,
}

/// A pose that has arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) from: u32,
    pub(crate) number: u32,
    /// x and z in metres, if they could be read cheaply. If not, where the sender is at the moment will do.
    pub(crate) place: Option<[f32; 2]>,
}

/// A moment of the run, as [`Moment::stamp`] gives it.
type Stamp = u32;

/// "Not near at present."
const FAR: Stamp = Stamp::MAX;

/// What a receiver knows of one member of its room.
#[derive(Debug, Clone, Copy)]
struct Pair {
    /// One more than the number of the latest pose that arrived.
    next: u32,
    /// When it arrived.
    last: Stamp,
    /// Since when the member has been near, or [`FAR`].
    near_since: Stamp,
}

/// The eyes of one receiver.
#[derive(Debug)]
pub(crate) struct Witness {
    /// The receiver's index among all users.
    index: u32,
    /// By place in the room.
    pairs: Box<[Pair]>,
    swept: Option<Instant>,
    /// Poses that count.
    received: u64,
    /// The measured span of time; nothing before it is known.
    window: Option<(Stamp, Stamp)>,
}

impl Witness {
    /// The eyes of the user `index`.
    pub(crate) fn new(index: u32, crowd: &Crowd) -> Self {
        let pair = Pair { next: 0, last: 0, near_since: FAR };
        let pairs = vec![pair; crowd.room_size(index) as usize].into();
        Self { index, pairs, swept: None, received: 0, window: None }
    }

    /// Gets ready for what has arrived at `now`.
    pub(crate) fn look(&mut self, scene: &Scene<'_>, now: Instant) {
        let schedule = scene.schedule;
        if schedule.has_window() {
            let (start, end) = schedule.window();
            self.window = Some((schedule.moment(start).stamp(), schedule.moment(end).stamp()));
        }
        if self.swept.is_none_or(|swept| now - swept >= SWEEP_INTERVAL) {
            self.sweep(scene, now);
        }
    }

    /// Takes note of who is near.
    fn sweep(&mut self, scene: &Scene<'_>, now: Instant) {
        self.swept = Some(now);
        let now = scene.schedule.moment(now).stamp();
        let own = scene.board.place(self.index);
        let room = scene.crowd.room(self.index);
        for (place, pair) in (0..).zip(&mut self.pairs) {
            let member = scene.board.place(scene.crowd.at_place(room, place));
            if !is_within(own, member, scene.near_m) {
                pair.near_since = FAR;
            } else if pair.near_since == FAR {
                pair.near_since = now;
            }
        }
    }

    /// Judges a pose of somebody else in the room that arrived at `moment`.
    #[inline]
    pub(crate) fn take(&mut self, scene: &Scene<'_>, moment: Moment, pose: Received, tally: &mut Tally) {
        let now = moment.stamp();
        let Received { from, number, place } = pose;
        let Scene { crowd, board, schedule, near_m } = *scene;
        let Some(pair) = self.pairs.get_mut(crowd.place_in_room(from) as usize) else { return };
        let counts = schedule.counts(number);
        let Some(skipped) = number.checked_sub(pair.next) else {
            let again = number + 1 == pair.next;
            *(if again { &mut tally.repeated } else { &mut tally.behind }) += u64::from(counts);
            return;
        };
        let current = board.place(from);
        let place = place.unwrap_or(current);
        let near = is_within(board.place(self.index), place, near_m);
        if let Some((start, end)) = self.window {
            let begun = pair.last.max(start);
            if begun < end && now > start {
                tally.gaps.record(elapsed(begun, now));
                if near && pair.near_since != FAR {
                    tally.gaps_near.record(elapsed(begun.max(pair.near_since), now));
                }
            }
        }
        *pair = Pair { next: number + 1, last: now, ..*pair };
        if !counts {
            return;
        }
        let age = schedule.age(from, number, moment);
        self.received += 1;
        tally.received += 1;
        (if near { &mut tally.age_near } else { &mut tally.age_far }).record(age);
        tally.longest_gap = tally.longest_gap.max(skipped.min(number - schedule.first_counted()));
        if !is_within(current, place, MISPLACED_M + SPEED_M_PER_S * age.as_secs_f32()) {
            tally.misplaced += 1;
        }
    }

    /// Adds what is known only at the end: who has not been heard of since when.
    pub(crate) fn settle(&mut self, scene: &Scene<'_>, tally: &mut Tally) {
        tally.count_receiver(self.received);
        let Scene { crowd, schedule, .. } = *scene;
        if !schedule.has_window() {
            return;
        }
        let (_, window_end) = schedule.window();
        self.look(scene, window_end);
        self.sweep(scene, window_end);
        let Some((start, end)) = self.window else { return };
        let own = crowd.place_in_room(self.index) as usize;
        for (_, pair) in self.pairs.iter().enumerate().filter(|(place, _)| *place != own) {
            let missing = (schedule.last_counted() + 1).saturating_sub(pair.next);
            tally.longest_gap = tally.longest_gap.max(missing.min(schedule.poses_counted()));
            tally.gaps.record_if_longest(elapsed(pair.last.max(start), end));
            if pair.near_since != FAR {
                tally.gaps_near.record_if_longest(elapsed(pair.last.max(start).max(pair.near_since), end));
            }
        }
    }
}

fn elapsed(from: Stamp, to: Stamp) -> Duration {
    Duration::from_micros(u64::from(to.saturating_sub(from)) * 100)
}

#[inline]
fn is_within(a: [f32; 2], b: [f32; 2], metres: f32) -> bool {
    let (dx, dz) = (a[0] - b[0], a[1] - b[1]);
    dx * dx + dz * dz <= metres * metres
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Phases;

    /// Two people 5 m apart and a third 100 m away, at 10 Hz; the first watches. Numbers 10 to 29 count.
    struct Three {
        crowd: Crowd,
        board: Board,
        schedule: Schedule,
        witness: Witness,
        tally: Tally,
    }

    impl Three {
        fn new() -> Self {
            let crowd = Crowd { users: 3, rooms: 1, room_prefix: "test".to_owned(), judges: 3 };
            let board = Board::new(&crowd, false);
            board.put(1, [3.0, 4.0]);
            board.put(2, [100.0, 0.0]);
            let schedule = Schedule::new(Instant::now(), 10, 3, Phases::Together);
            let schedule = schedule.counting(0, Duration::from_secs(1), Duration::from_secs(2));
            Self { witness: Witness::new(0, &crowd), crowd, board, schedule, tally: Tally::new() }
        }

        fn see(&mut self, act: impl FnOnce(&mut Witness, &Scene<'_>, &mut Tally)) {
            let Self { crowd, board, schedule, witness, tally } = self;
            act(witness, &Scene { crowd, board, schedule, near_m: 8.0 }, tally);
        }

        /// The pose `number` of `from` arrives `age_ms` after it was due.
        fn arrives(&mut self, from: u32, number: u32, age_ms: u64) {
            let now = self.schedule.due(from, number) + Duration::from_millis(age_ms);
            let moment = self.schedule.moment(now);
            self.see(|witness, scene, tally| {
                witness.look(scene, now);
                witness.take(scene, moment, Received { from, number, place: None }, tally);
            });
        }

        fn settle(&mut self) {
            self.see(|witness, scene, tally| witness.settle(scene, tally));
        }
    }

    /// To the nearest ten: the histogram's buckets are a thousandth wide.
    fn max_ms(durations: &crate::tally::Durations) -> f64 {
        (durations.max_ms() / 10.0).round() * 10.0
    }

    #[test]
    fn near_and_far_are_told_apart() {
        let mut three = Three::new();
        for number in 0..30 {
            three.arrives(1, number, 20);
            if number % 5 == 0 {
                three.arrives(2, number, 70);
            }
        }
        three.settle();
        let tally = &three.tally;
        assert_eq!((tally.received, tally.age_near.count(), tally.age_far.count()), (24, 20, 4));
        assert_eq!((max_ms(&tally.age_near), max_ms(&tally.age_far)), (20.0, 70.0));
        assert_eq!((max_ms(&tally.gaps_near), max_ms(&tally.gaps)), (100.0, 500.0));
        assert_eq!((tally.longest_gap, tally.misplaced), (4, 0));
    }

    #[test]
    fn whoever_falls_silent_shows_even_if_nothing_of_it_comes_again() {
        let mut three = Three::new();
        for number in 0..30 {
            three.arrives(2, number, 0);
            if number < 13 {
                three.arrives(1, number, 0);
            }
        }
        three.settle();
        assert_eq!((max_ms(&three.tally.gaps_near), three.tally.longest_gap), (1_800.0, 17));
    }

    #[test]
    fn a_silence_counts_as_near_only_from_when_both_were_near() {
        let mut three = Three::new();
        three.board.put(1, [50.0, 0.0]);
        for number in 0..30 {
            if number == 20 {
                three.board.put(1, [5.0, 0.0]);
            }
            three.arrives(2, number, 0);
        }
        three.arrives(1, 29, 0);
        three.settle();
        let near = max_ms(&three.tally.gaps_near);
        assert!((600.0..=900.0).contains(&near), "{near} ms, seen within a sweep");
        assert_eq!(max_ms(&three.tally.gaps), 1_900.0);
    }

    #[test]
    fn a_silence_while_away_does_not_count_as_near() {
        let mut three = Three::new();
        for number in 0..30 {
            match number {
                12 => three.board.put(1, [50.0, 0.0]),
                26 => three.board.put(1, [5.0, 0.0]),
                _ => {}
            }
            three.arrives(2, number, 0);
            if !(12..29).contains(&number) {
                three.arrives(1, number, 0);
            }
        }
        three.settle();
        let near = max_ms(&three.tally.gaps_near);
        assert!((100.0..=400.0).contains(&near), "{near} ms: it is near again since number 26");
        assert_eq!(max_ms(&three.tally.gaps), 1_800.0);
    }

    #[test]
    fn a_pose_where_its_sender_cannot_have_been_is_misplaced() {
        let mut three = Three::new();
        let schedule = three.schedule;
        for (number, x, misplaced) in [(10, 100.4, 0), (11, 101.0, 1)] {
            let now = schedule.due(2, number);
            three.see(|witness, scene, tally| {
                witness.look(scene, now);
                let pose = Received { from: 2, number, place: Some([x, 0.0]) };
                witness.take(scene, schedule.moment(now), pose, tally);
            });
            assert_eq!(three.tally.misplaced, misplaced);
        }
    }

    #[test]
    fn repeats_and_what_comes_late_are_told_apart_from_news() {
        let mut three = Three::new();
        for number in [10, 11, 11, 15, 14] {
            three.arrives(1, number, 500);
        }
        let Tally { received, repeated, behind, longest_gap, .. } = three.tally;
        assert_eq!((received, repeated, behind, longest_gap), (3, 1, 1, 3));
    }
}
