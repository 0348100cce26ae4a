use proptest::prelude::*;

use super::*;

const START: Time = Time::from_micros(1_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
const QUICK: Duration = Duration::from_micros(200);

fn at(seconds: f64) -> Time {
    START + Duration::from_secs_f64(seconds)
}

/// What a tick costs, given the moment, the rate and the number of members.
type Cost<'a> = &'a mut dyn FnMut(Time, u32, usize) -> Duration;

/// A room on a server: ticks when they are due, and says when one is due that has to wait.
struct World {
    pace: Pace,
    now: Time,
    changes: Vec<(Time, RateChange)>,
}

impl World {
    fn new(rate: TickRate) -> Self {
        Self { pace: Pace::new(rate, START), now: START, changes: Vec::new() }
    }

    /// Goes on with `members` for so long. Changes since then.
    fn run(&mut self, length: Duration, members: usize, cost: Cost<'_>) -> Vec<RateChange> {
        let (until, seen) = (self.now + length, self.changes.len());
        self.note(|pace, now| pace.members_changed(now, members));
        while self.now < until {
            let (due, hz) = (self.now, self.pace.hz());
            let busy = cost(due, hz, members);
            let mut next = due + self.pace.period();
            while next < due + busy {
                self.now = next;
                self.note(|pace, now| pace.overrun(now, members));
                next = next + self.pace.period();
            }
            self.now = due + busy;
            self.note(|pace, now| pace.tick_done(now, busy, members));
            self.now = next;
        }
        self.changes[seen..].iter().map(|(_, change)| *change).collect()
    }

    fn note(&mut self, tell: impl FnOnce(&mut Pace, Time) -> Option<RateChange>) {
        let before = self.pace.hz();
        let change = tell(&mut self.pace, self.now);
        assert_eq!(change.map_or(before, |change| change.hz), self.pace.hz(), "a change is told");
        assert!(change.is_none_or(|change| change.hz != before), "and only a change");
        self.changes.extend(change.map(|change| (self.now, change)));
    }
}

/// A server that sends so many poses a second, more or less: each tick by up to 30 % more or less than that.
fn capacity(sends_per_second: u32) -> impl FnMut(Time, u32, usize) -> Duration {
    let mut random = 1u64;
    move |_, _, members| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let luck = 0.7 + 0.6 * (random >> 11) as f64 / (1u64 << 53) as f64;
        QUICK + Duration::from_secs_f64(luck * members as f64 / f64::from(sends_per_second))
    }
}

fn quick(_: Time, _: u32, _: usize) -> Duration {
    QUICK
}

fn rates(changes: &[RateChange]) -> Vec<u32> {
    changes.iter().map(|change| change.hz).collect()
}

/// How often the rate turned from falling to rising, or back.
fn turns(from: u32, changes: &[RateChange]) -> usize {
    let rates: Vec<u32> = std::iter::once(from).chain(rates(changes)).collect();
    let rises: Vec<bool> = rates.windows(2).map(|pair| pair[1] > pair[0]).collect();
    rises.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[test]
fn three_late_ticks_of_eight_halve_the_rate() {
    let mut pace = Pace::new(TickRate::Fixed(20), START);
    let (late, in_time) = (Duration::from_millis(51), Duration::from_millis(50));
    let mut tick = |busy| pace.tick_done(START, busy, 1);
    for _ in 0..3 {
        assert_eq!((tick(late), tick(late)), (None, None));
        (0..7).for_each(|_| assert_eq!(tick(in_time), None));
    }
    assert_eq!((tick(late), tick(late)), (None, None));
    (0..5).for_each(|_| assert_eq!(tick(in_time), None));
    assert_eq!(tick(late), Some(RateChange { hz: 10, reason: RateReason::Overload }));
    assert_eq!((tick(late), tick(late), tick(late)), (None, None, None), "that is in time now");
    let later = Duration::from_millis(101);
    assert_eq!((tick(later), tick(later)), (None, None), "counted anew");
    assert_eq!(tick(later), Some(RateChange { hz: 5, reason: RateReason::Overload }));
}

#[test]
fn one_long_delay_is_one_late_tick() {
    let mut pace = Pace::new(TickRate::Fixed(20), START);
    for second in 0..2 {
        (0..40).for_each(|_| assert_eq!(pace.overrun(at(f64::from(second)), 1), None));
        assert_eq!(pace.tick_done(at(f64::from(second)), SECOND * 2, 1), None);
    }
    assert_eq!(pace.overrun(at(3.0), 1).unwrap(), RateChange { hz: 10, reason: RateReason::Overload });
    assert_eq!(pace.tick_done(at(3.0), SECOND, 1), None);
}

#[test]
fn no_room_is_slower_than_once_a_second() {
    let mut world = World::new(TickRate::Fixed(20));
    let changes = world.run(SECOND * 600, 1, &mut |_, _, _| SECOND * 7);
    assert_eq!(rates(&changes), [10, 5, 2, MIN_HZ]);
    // Too much for 32 Hz, but that is not where it goes back to.
    let back = world.run(SECOND * 60, 1, &mut |_, _, _| Duration::from_millis(15));
    assert_eq!(rates(&back), [2, 4, 8, 16, 20]);
    assert!(back.iter().all(|change| change.reason == RateReason::Recovered));
}

#[test]
fn a_recovery_waits_until_every_tick_has_been_quick_for_long_enough() {
    let mut world = World::new(TickRate::Fixed(20));
    let mut slow = |_, _, _| Duration::from_millis(60);
    assert_eq!(rates(&world.run(SECOND, 1, &mut slow)), [10]);
    let limit = Duration::from_secs(1) / 20 * CALM_PERCENT / 100;
    assert_eq!(world.run(SECOND * 60, 1, &mut |_, _, _| limit), [], "twice the rate would be too much");
    let mut count = 0;
    let mut mixed = |_, _, _| {
        count += 1;
        if count % 45 == 0 { limit } else { QUICK }
    };
    assert_eq!(world.run(SECOND * 60, 1, &mut mixed), [], "not quick for long enough");
    world.run(SECOND / 10, 1, &mut |_, _, _| limit);
    let since = world.now;
    assert_eq!(rates(&world.run(SECOND * 6, 1, &mut quick)), [20]);
    assert!(world.changes.last().unwrap().0.since(since) >= RECOVERY_AFTER);
}

#[test]
fn a_relapse_makes_the_next_recovery_wait_longer_and_is_forgotten() {
    let mut pace = Pace::new(TickRate::Fixed(20), START);
    let mut now = START;
    // Overloads it, then lets it rest; how many seconds until it recovers.
    let mut cycle = |pace: &mut Pace, healthy: u32| {
        now = now + SECOND * healthy;
        (0..2).for_each(|_| assert_eq!(pace.tick_done(now, SECOND, 1), None));
        assert_eq!(pace.tick_done(now, SECOND, 1).unwrap().hz, 10);
        let overload = now;
        while pace.tick_done(now, QUICK, 1).is_none() {
            now = now + SECOND;
        }
        assert_eq!(pace.hz(), 20);
        now.since(overload).as_secs()
    };
    assert_eq!(cycle(&mut pace, 0), 5);
    assert_eq!([(); 5].map(|()| cycle(&mut pace, 9)), [10, 20, 40, 60, 60]);
    assert_eq!(cycle(&mut pace, 10), 60, "no relapse, but not forgotten either");
    assert_eq!(cycle(&mut pace, 59), 60);
    assert_eq!(cycle(&mut pace, 60), 5);
    assert_eq!(cycle(&mut pace, 9), 10);
}

#[test]
fn members_who_come_slow_an_auto_room_at_once_and_those_who_go_speed_it_up_later() {
    let mut pace = Pace::new(TickRate::Auto, START);
    assert_eq!(pace.hz(), 90);
    let members = |hz| Some(RateChange { hz, reason: RateReason::Members });
    assert_eq!(pace.members_changed(at(0.0), 18), None);
    assert_eq!(pace.members_changed(at(0.0), 19), members(72));
    assert_eq!(pace.members_changed(at(0.0), 500), members(20));
    assert_eq!(pace.members_changed(at(1.0), 56), None);
    assert_eq!(pace.members_changed(at(2.9), 1), None);
    assert_eq!(pace.tick_done(at(3.0), QUICK, 1), members(30), "what was allowed all the time");
    assert_eq!(pace.tick_done(at(4.9), QUICK, 1), None);
    assert_eq!(pace.members_changed(at(4.9), 70), members(24), "which ends the wait");
    assert_eq!(pace.tick_done(at(5.0), QUICK, 1), None);
    assert_eq!(pace.tick_done(at(7.0), QUICK, 1), members(90));
    assert_eq!(Pace::new(TickRate::Fixed(60), START).members_changed(START, 10_000), None);
}

#[test]
fn one_who_comes_and_goes_does_not_take_the_rate_along() {
    let mut world = World::new(TickRate::Auto);
    for _ in 0..100 {
        world.run(SECOND, 18, &mut quick);
        world.run(SECOND, 19, &mut quick);
    }
    assert_eq!(world.changes.len(), 1);
}

#[test]
fn an_overload_holds_although_members_go() {
    let mut world = World::new(TickRate::Auto);
    let mut slow = |_, hz, _| if hz > 20 { Duration::from_millis(45) } else { Duration::from_millis(40) };
    assert_eq!(rates(&world.run(SECOND, 28, &mut slow)), [60, 30, 15], "the first for the members");
    assert_eq!(world.run(SECOND * 10, 500, &mut slow), [], "what they want does not matter now");
    assert_eq!(world.run(SECOND * 10, 1, &mut slow), []);
    let back = world.run(SECOND * 30, 1, &mut quick);
    assert_eq!(rates(&back), [30, 60, 90]);
}

#[test]
fn an_overload_holds_while_the_members_rate_is_below_it_until_it_has_recovered() {
    let overloaded = || {
        let mut world = World::new(TickRate::Auto);
        assert_eq!(rates(&world.run(SECOND, 1, &mut |_, hz, _| SECOND / (hz.min(46)))), [45]);
        world
    };
    let mut world = overloaded();
    assert_eq!(rates(&world.run(SECOND, 56, &mut quick)), [30]);
    assert_eq!(rates(&world.run(SECOND * 3, 1, &mut quick)), [45], "and no more before it has recovered");
    assert_eq!(rates(&world.run(SECOND * 6, 1, &mut quick)), [90]);
    let mut world = overloaded();
    assert_eq!(rates(&world.run(SECOND * 10, 56, &mut quick)), [30]);
    assert_eq!(rates(&world.run(SECOND * 3, 1, &mut quick)), [90], "it has recovered by now");
    // It went nowhere by that, so an overload that follows is no relapse.
    let mut world = overloaded();
    assert_eq!(rates(&world.run(SECOND * 8, 56, &mut quick)), [30]);
    assert_eq!(rates(&world.run(SECOND, 56, &mut |_, hz, _| SECOND / (hz.min(25)))), [15]);
    assert_eq!(rates(&world.run(SECOND * 7, 56, &mut quick)), [30]);
}

#[test]
fn a_crowd_that_grows_and_shrinks_gets_a_rate_that_the_server_can_keep() {
    let mut world = World::new(TickRate::Fixed(20));
    let mut cost = capacity(10_000);
    for members in [10, 100, 200, 300] {
        assert_eq!(world.run(SECOND * 60, members, &mut cost), [], "{members}");
    }
    for (members, expected) in [(700, vec![10]), (1_400, vec![5]), (3_500, vec![2]), (9_000, vec![1])] {
        assert_eq!(rates(&world.run(SECOND * 120, members, &mut cost)), expected, "{members}");
    }
    for (members, expected) in [(1_400, vec![2, 4]), (700, vec![8]), (200, vec![16, 20]), (10, vec![])] {
        assert_eq!(rates(&world.run(SECOND * 120, members, &mut cost)), expected, "{members}");
    }
}

#[test]
fn an_auto_room_on_a_small_server_does_not_flap() {
    let mut world = World::new(TickRate::Auto);
    let mut cost = capacity(900);
    let crowd = (1..=200).chain((1..200).rev());
    for members in crowd {
        world.run(SECOND, members, &mut cost);
    }
    let changes: Vec<RateChange> = world.changes.iter().map(|(_, change)| *change).collect();
    assert!(changes.len() <= 20, "{changes:?}");
    world.run(SECOND * 60, 1, &mut cost);
    assert_eq!(world.pace.hz(), 90);
}

#[test]
fn a_server_that_only_seems_to_recover_is_tried_less_and_less() {
    let mut world = World::new(TickRate::Fixed(20));
    let mut deceptive = |_, hz, _| if hz > 10 { Duration::from_millis(90) } else { QUICK };
    let changes = world.run(SECOND * 600, 1, &mut deceptive);
    assert!(changes.len() <= 28, "every minute in the long run, not {} times", changes.len());
    world.run(SECOND * 61, 1, &mut quick);
    assert_eq!(world.pace.hz(), 20);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_wanted_rate_comes_back(
        rate in prop_oneof![(1..=90u32).prop_map(TickRate::Fixed), Just(TickRate::Auto)],
        phases in prop::collection::vec((1..90u32, 0..3_000usize, 50..50_000u32), 1..8),
    ) {
        let mut world = World::new(rate);
        for (seconds, members, sends_per_second) in phases {
            let from = world.pace.hz();
            let changes = world.run(SECOND * seconds, members, &mut capacity(sends_per_second));
            prop_assert!(turns(from, &changes) <= 2, "{members} members, {from} Hz: {changes:?}");
            prop_assert!(world.pace.hz() >= MIN_HZ && world.pace.hz() <= rate.hz_for(0));
        }
        // The longest way back: from the slowest rate, each step after the longest wait.
        world.run(MAX_RECOVERY_AFTER * 7 + SECOND * 20, 3, &mut quick);
        prop_assert_eq!(world.pace.hz(), rate.hz_for(3));
    }
}
