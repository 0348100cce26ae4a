//! A hall as it goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use engine::broadcast::{FRAME_ENVELOPE_BYTES, TickPoses};
use engine::interest::Cell;
use engine::limits::REFRESH_INTERVAL;
use engine::room::{Command, Effect, Flush, Room};
use engine::{RoomDefaults, RoomOptions, RoomShared, SessionId, TickRate, Time};
use protocol::Pose;
use protocol::event::Encoding;
use protocol::frame::GROUP_HEADER_BYTES;

use super::person::{Person, pose_at, user, view};
use super::script::{Act, Look, Setup};
use super::watch::{About, Position, Watch, shown};

/// People in a hall at once.
pub(crate) const PEOPLE_MAX: usize = 120;
/// One of so many is watched: reading everything that everybody is shown takes long.
const WATCHED: u64 = 8;
/// Of a tick's budget, what repeating everybody once a second may take; if it is not enough, a turn takes longer.
const REPEAT_SHARE: (usize, usize) = (3, 4);

pub(crate) struct Hall {
    pub(crate) setup: Setup,
    shared: Arc<RoomShared>,
    room: Room<u64>,
    now: Time,
    pub(crate) tick: u32,
    pub(crate) people: BTreeMap<u64, Person>,
    next_session: u64,
    /// Slots that have ever been in use.
    slots: usize,
    /// Stands for a random number.
    steps: u64,
    /// People who may be in it at once.
    pub(crate) people_max: usize,
}

impl Hall {
    pub(crate) fn new(setup: Setup) -> Self {
        let options = RoomOptions {
            max_users: PEOPLE_MAX,
            persistent: false,
            tick_hz: TickRate::Fixed(setup.hz),
            view: setup.view,
            ..RoomDefaults::default().options()
        };
        let now = Time::from_micros(1_000_000_000);
        let shared = RoomShared::detached("hall", options, now);
        let room = Room::new(shared.clone(), 1, Vec::new());
        Self {
            setup,
            shared,
            room,
            now,
            tick: 0,
            people: BTreeMap::new(),
            next_session: 0,
            slots: 0,
            steps: 0,
            people_max: PEOPLE_MAX,
        }
    }

    pub(crate) fn act(&mut self, act: &Act) {
        match *act {
            Act::Join { encoding, at, look } if self.people.len() < self.people_max => {
                let session = self.join(encoding, look);
                self.put(session, self.setup.point(at));
            }
            Act::Tick { times } => (0..times).for_each(|_| self.step()),
            Act::Settle => self.settle(),
            _ => self.act_of_member(act),
        }
    }

    fn act_of_member(&mut self, act: &Act) {
        let (Act::Leave { who }
        | Act::Halt { who }
        | Act::Teleport { who, .. }
        | Act::JoinAgain { who, .. }
        | Act::Look { who, .. }) = *act
        else {
            return;
        };
        let Some(session) = self.people.keys().nth(who % self.people.len().max(1)).copied() else { return };
        match *act {
            Act::Leave { .. } => {
                self.command(session, Command::Leave);
                self.people.remove(&session);
                for other in self.people.values_mut().filter_map(|person| person.watch.as_mut()) {
                    other.picture.remove(&session);
                    other.shown_at.remove(&session);
                }
            }
            Act::Halt { .. } => {
                let person = self.person(session);
                person.is_moving = !person.is_moving;
            }
            Act::Teleport { to, .. } => self.put(session, self.setup.point(to)),
            Act::JoinAgain { encoding, look, .. } => {
                self.ask_in(session, encoding, look);
                self.refresh();
            }
            Act::Look { look, .. } => {
                self.command(session, Command::View(view(look, &self.setup)));
                let setup = self.setup.clone();
                self.person(session).look(look, &setup);
                self.refresh();
            }
            _ => {}
        }
    }

    /// Life goes on until the next refresh: who looks farther than before is told again what it has missed.
    fn refresh(&mut self) {
        let ticks = (REFRESH_INTERVAL * self.setup.hz).as_secs_f64().ceil() as u32;
        (0..ticks).for_each(|_| self.step());
    }

    pub(crate) fn person(&mut self, session: u64) -> &mut Person {
        self.people.get_mut(&session).unwrap()
    }

    fn command(&mut self, session: u64, command: Command) {
        let mut effects = Vec::new();
        self.room.handle_command(self.now, SessionId(session), &session, command, None, &mut effects);
        self.apply(effects);
    }

    pub(crate) fn join(&mut self, encoding: Encoding, look: Look) -> u64 {
        let session = self.next_session;
        self.next_session += 1;
        self.ask_in(session, encoding, look);
        session
    }

    fn ask_in(&mut self, session: u64, encoding: Encoding, look: Look) {
        let view = view(look, &self.setup);
        self.command(session, Command::Join { user: user(session), encoding, password: None, view });
        let setup = self.setup.clone();
        self.person(session).look(look, &setup);
    }

    /// Somebody is there from now on, with as many hands as come next.
    fn put(&mut self, session: u64, position: [f32; 3]) {
        self.steps += 1;
        let hands = (session + self.steps / 64) % 3;
        self.show(session, pose_at(position, hands as u32));
    }

    pub(crate) fn show(&mut self, session: u64, pose: Pose) {
        let person = self.people.get_mut(&session).unwrap();
        person.pose = pose;
        self.shared.table.store(person.slot, person.generation, &pose).unwrap();
    }

    /// Everybody who moves takes a step.
    pub(crate) fn walk(&mut self) {
        let moving: Vec<u64> =
            self.people.iter().filter(|(_, person)| person.is_moving).map(|(session, _)| *session).collect();
        for session in moving {
            let [x, y, z] = self.people[&session].position();
            // Not far, in a direction that is never twice the same; far from the origin at least a step of float32.
            let turn = self.steps as f32;
            let stride = 0.5 + x.abs().max(z.abs()) * f32::EPSILON * 4.0;
            self.put(session, [x + stride * turn.cos(), y, z + stride * turn.sin()]);
        }
    }

    /// One tick, before which everybody who moves takes a step.
    fn step(&mut self) {
        self.walk();
        self.tick();
    }

    /// One tick. What it shows, if anything.
    pub(crate) fn tick(&mut self) -> Option<TickPoses> {
        self.tick += 1;
        self.now = self.now + Duration::from_secs(1) / self.setup.hz;
        let mut effects = Vec::new();
        self.room.handle_tick(self.now, &mut effects);
        let poses = self.apply(effects);
        self.watch(poses.as_ref());
        poses
    }

    fn apply(&mut self, effects: Vec<Effect<u64>>) -> Option<TickPoses> {
        let mut poses = None;
        for effect in effects {
            match effect {
                Effect::Admit { session, slot, generation } => {
                    let person = Person {
                        session,
                        slot,
                        generation,
                        pose: Pose::INITIAL,
                        encoding: Encoding::Json,
                        is_moving: true,
                        looks_from: None,
                        radius_m: None,
                        watch: None,
                    };
                    self.people.entry(session).or_insert(person);
                    self.slots = self.slots.max(usize::from(slot) + 1);
                }
                Effect::Flush(flush) => self.welcome(&flush),
                Effect::Tick(tick) => poses = Some(*tick),
                Effect::Store(_) | Effect::Record(_) => panic!("nothing is to be kept"),
            }
        }
        poses
    }

    /// Who is welcomed knows where everybody is; who was there before hears of those who come.
    fn welcome(&mut self, flush: &Flush<u64>) {
        let everybody: BTreeMap<u64, Position> = self
            .people
            .iter()
            .map(|(session, person)| (*session, Position::exact(person.position())))
            .collect();
        for joined in &flush.joined {
            self.person(joined.session).encoding = joined.encoding;
        }
        for joined in flush.joined.iter().filter(|joined| joined.session % WATCHED == 0) {
            // What is said in a tick is said before its poses.
            let watch = Watch::new(joined.encoding, self.tick.saturating_sub(1), everybody.clone());
            self.person(joined.session).watch = Some(watch);
        }
        for watch in self.people.values_mut().filter_map(|person| person.watch.as_mut()) {
            for session in everybody.keys() {
                let initial = Position::exact(Pose::INITIAL.head.position);
                watch.picture.entry(*session).or_insert(initial);
            }
        }
    }

    /// Everybody who is watched looks.
    fn watch(&mut self, poses: Option<&TickPoses>) {
        let (hz, budget) = (self.setup.hz, self.setup.view.budget);
        let by_slot: BTreeMap<u16, u64> =
            self.people.values().map(|person| (person.slot, person.session)).collect();
        let watching: Vec<u64> = self
            .people
            .values()
            .filter(|person| person.watch.is_some())
            .map(|person| person.session)
            .collect();
        for viewer in watching {
            let mut watch = self.person(viewer).watch.take().unwrap();
            let slot = self.people[&viewer].slot;
            let (seen, bytes) = poses.map(|poses| shown(poses, slot, watch.encoding)).unwrap_or_default();
            for (about, position) in seen {
                let session = match about {
                    About::Session(session) => session,
                    About::Slot(slot) => *by_slot.get(&slot).unwrap_or_else(|| panic!("empty slot {slot}")),
                };
                self.check_shown(viewer, session, about, position);
                watch.picture.insert(session, position);
                let before = watch.shown_at.insert(session, self.tick);
                assert_ne!(before, Some(self.tick), "s{viewer} is shown s{session} twice at once");
            }
            watch.count(bytes, hz, budget);
            self.person(viewer).watch = Some(watch);
        }
    }

    fn check_shown(&self, viewer: u64, session: u64, about: About, position: Position) {
        let other = self
            .people
            .get(&session)
            .unwrap_or_else(|| panic!("s{viewer} is shown s{session}, who has left"));
        assert!(about != About::Session(viewer), "s{viewer} is shown itself");
        assert!(position.is(other.position()), "s{viewer} is shown {position:?} of {:?}", other.position());
        let viewer = &self.people[&viewer];
        assert!(
            session == viewer.session || viewer.may_see(other.position()),
            "s{} sees {:?} m around {:?} and is shown {:?}",
            viewer.session,
            viewer.radius_m,
            viewer.viewpoint(),
            other.position()
        );
    }

    /// Bytes for one viewer in one tick, without what surrounds a frame's groups.
    pub(crate) fn tick_budget(&self) -> usize {
        ((self.setup.view.budget / self.setup.hz) as usize).saturating_sub(FRAME_ENVELOPE_BYTES)
    }

    /// How many ticks it takes until everybody has been repeated: a second's, unless that does not fit, with the
    /// headers of the groups that a second's part of all slots may need.
    pub(crate) fn turn_ticks(&self) -> u32 {
        let hz = self.setup.hz as usize;
        let entries: usize = self.people.values().map(Person::bytes).sum();
        let blocks: BTreeSet<Cell> =
            self.people.values().map(|person| Cell::of(person.position()).block()).collect();
        let headers = GROUP_HEADER_BYTES * blocks.len().min(self.slots.div_ceil(hz));
        let allowed = (self.tick_budget() * REPEAT_SHARE.0 / REPEAT_SHARE.1).max(1);
        (hz * (entries.div_ceil(hz) + headers)).div_ceil(allowed).max(hz) as u32
    }

    /// Everybody stands still until everybody must see the truth, and does.
    pub(crate) fn settle(&mut self) {
        let turn = self.turn_ticks();
        (0..turn).for_each(|_| {
            self.tick();
        });
        for viewer in self.people.values() {
            let Some(watch) = &viewer.watch else { continue };
            let others = self.people.values().filter(|other| other.session != viewer.session);
            for other in others.filter(|other| viewer.must_see(other.position())) {
                let seen = watch.picture[&other.session];
                let what = format!(
                    "s{} ({:?}) after {turn} ticks at {} Hz: s{} in slot {} is at {:?}, seen at {seen:?}",
                    viewer.session,
                    watch.encoding,
                    self.setup.hz,
                    other.session,
                    other.slot,
                    other.position()
                );
                assert!(seen.is(other.position()), "{what}");
                if watch.encoding == Encoding::Binary && watch.since + turn <= self.tick {
                    // Its frames may be lost, so that they are to come again.
                    let shown_at = watch.shown_at.get(&other.session).copied().unwrap_or(0);
                    assert!(shown_at + turn > self.tick, "not repeated: {what}");
                }
            }
        }
    }
}
