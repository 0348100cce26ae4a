//! Whole engines on one paused clock: people come, move, talk, build, switch rooms, stall and vanish at random;
//! whenever it is quiet for a second, everybody's picture must be the truth.
//!
//! A failure prints its seed; `SIM_SEED=<seed>` repeats it.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::journal::{Fate, JournalPort, MemoryJournal};
use common::ports::{MemoryStore, Reading, pass};
use common::world::World;
use engine::RoomDefaults;
use engine::limits::JOURNAL_PATIENCE;
use engine::ports::CloseReason;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

const ROOMS: usize = 4;
const PEOPLE: usize = 220;
const ROUNDS: usize = 3;
const STEPS_PER_ROUND: usize = 200;
/// A journal that works.
const SOON: Fate = Fate::Durable(Duration::from_millis(8));
const ENCODINGS: [&str; 3] = ["json", "batch", "binary"];

#[tokio::test(start_paused = true)]
async fn everybody_sees_the_truth_whatever_happens() {
    for seed in seeds(&[1, 2, rand::random()]) {
        println!("SIM_SEED={seed}");
        Simulation::new(seed, None).run().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_happens_can_be_read_back_and_everybody_sees_the_truth_even_so() {
    for seed in seeds(&[1, rand::random()]) {
        println!("SIM_SEED={seed}");
        Simulation::new(seed, Some(MemoryJournal::new(SOON))).run().await;
    }
}

/// The seed that is asked for, or these.
fn seeds(usual: &[u64]) -> Vec<u64> {
    match std::env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIM_SEED is a number")],
        Err(_) => usual.to_vec(),
    }
}

struct Simulation {
    world: World,
    random: SmallRng,
    /// Numbers poses and objects.
    counter: u32,
    /// Keeps what it is given, but does not always say so.
    journal: Option<Arc<MemoryJournal>>,
}

impl Simulation {
    fn new(seed: u64, journal: Option<Arc<MemoryJournal>>) -> Self {
        let defaults = RoomDefaults { max_users: 1_000, ..RoomDefaults::default() };
        let store = MemoryStore::new(Duration::ZERO, []);
        let world = match journal.clone() {
            Some(journal) => {
                World::with_journal(defaults, &store, Arc::new(JournalPort(journal)), Some(seed))
            }
            None => World::with_lag(defaults, &store, Some(seed)),
        };
        Self { world, random: SmallRng::seed_from_u64(seed), counter: 0, journal }
    }

    async fn run(mut self) {
        // Somebody is always there, so that no room and none of its objects go before the end.
        for room in 0..ROOMS {
            self.world.connect_all(&[ENCODINGS[room % ENCODINGS.len()]], &format!("room {room}"));
        }
        for _ in 0..PEOPLE {
            self.world.connect();
        }
        for _ in 0..ROUNDS {
            for _ in 0..STEPS_PER_ROUND {
                for _ in 0..self.random.random_range(1..8) {
                    self.act();
                }
                self.disturb_journal();
                if self.random.random_bool(0.3) {
                    let wait = Duration::from_millis(self.random.random_range(1..60));
                    pass(wait).await;
                }
            }
            for person in self.world.people.iter().filter(|person| person.alive) {
                person.outbox.resume();
            }
            pass(Duration::from_secs(1)).await;
            if self.journal.is_some() {
                pass(JOURNAL_PATIENCE).await;
            }
            self.world.check();
            self.check_repeats().await;
            self.check_recordings();
            for person in self.world.people.iter().filter(|person| person.alive) {
                assert_eq!(person.outbox.client().viewer.errors, [] as [serde_json::Value; 0]);
                let client = person.outbox.client();
                let is_late = |answer: &Value| self.journal.is_some() && answer["error"]["code"] == "storage";
                let refused =
                    client.viewer.acks.values().find(|answer| answer["ok"] != true && !is_late(answer));
                assert_eq!(refused, None, "{}", person.name);
            }
        }
        let skipped: usize =
            self.world.people.iter().map(|person| person.outbox.client().ticks_skipped).sum();
        assert!(skipped > 0, "nobody had to catch up: the simulation is too tame");
        self.world.close_all().await;
    }

    /// Whoever takes frames is shown everybody again, though nobody moves.
    async fn check_repeats(&self) {
        for person in &self.world.people {
            person.outbox.client().viewer.frames.clear();
        }
        // A second's ticks, which a core that stands still now and then is late with.
        pass(Duration::from_secs(2)).await;
        let mut viewers = 0;
        for person in self.world.people.iter().filter(|person| person.alive && person.room.is_some()) {
            let viewer = &person.outbox.client().viewer;
            if viewer.frames.is_empty() {
                continue;
            }
            viewers += 1;
            for other in viewer.users.keys().filter(|other| **other != person.name) {
                let slot = viewer.slot_of(other);
                let is_shown = viewer.frames.iter().any(|frame| frame.slots.contains(&slot));
                assert!(is_shown, "{} is not shown {other} again", person.name);
            }
        }
        assert!(viewers > 0, "nobody takes frames: the simulation is too tame");
    }

    /// Now and then the journal is slow, loses something, or never answers.
    fn disturb_journal(&mut self) {
        let Some(journal) = &self.journal else { return };
        let random = &mut self.random;
        if random.random_bool(0.3) {
            let delay = Duration::from_millis(random.random_range(0..1_500));
            let fates = [Fate::Durable(delay), Fate::Lost(delay), Fate::Forgotten];
            journal.set_fate(random.random_range(0..4), fates[random.random_range(0..fates.len())]);
        }
    }

    /// What was written down is the truth.
    fn check_recordings(&self) {
        let Some(journal) = &self.journal else { return };
        for room in self.world.engine.rooms() {
            self.world.check_replayed(&room.id, &journal.replayed(&room.id));
        }
        assert!(self.world.metric("late_acks_total") > 0.0, "nothing was late: the journal is too tame");
    }

    fn act(&mut self) {
        let index = self.random.random_range(0..self.world.people.len());
        let person = &self.world.people[index];
        let prompt = person.outbox.client().reading == Reading::Prompt;
        match person.alive {
            false => {}
            // What it was sent before it went would be read after; so a stalled client stays.
            true if !prompt => self.act_stalled(index),
            true => self.act_prompt(index),
        }
    }

    fn act_stalled(&mut self, index: usize) {
        match self.random.random_range(0..10) {
            0..3 => self.world.people[index].outbox.resume(),
            3 if index >= ROOMS => self.world.people[index].disconnect(),
            _ => self.step(index),
        }
    }

    fn act_prompt(&mut self, index: usize) {
        let anchored = index < ROOMS;
        match self.random.random_range(0..100) {
            0..18 if !anchored => self.join(index),
            18..24 if !anchored && self.world.people[index].room.is_some() => {
                self.world.people[index].leave();
            }
            24..27 if !anchored => self.vanish(index),
            27..32 => self.world.people[index].outbox.client().reading = Reading::Stalled(100_000),
            32..42 if self.world.people[index].room.is_some() => {
                self.world.people[index].say();
            }
            42..52 => self.build(index),
            _ => self.step(index),
        }
    }

    fn join(&mut self, index: usize) {
        let room = format!("room {}", self.random.random_range(0..ROOMS));
        let encoding = ENCODINGS[self.random.random_range(0..ENCODINGS.len())];
        self.world.people[index].join(&room, encoding);
        match self.random.random_range(0..10) {
            // In one breath with the join, before any answer:
            0..4 => self.step(index),
            4 => self.vanish(index),
            5 => {
                self.world.people[index].leave();
            }
            _ => {}
        }
    }

    fn step(&mut self, index: usize) {
        self.counter += 1;
        self.world.people[index].move_to(self.counter);
    }

    /// The session ends in one of the ways in which sessions end, and somebody else comes.
    fn vanish(&mut self, index: usize) {
        let person = &mut self.world.people[index];
        match self.random.random_range(0..4) {
            0 => person.disconnect(),
            1 => {
                person.disconnect();
                person.session.closed();
            }
            2 => {
                person.session.end(CloseReason::SlowReader);
                person.session.closed();
                person.gone();
            }
            _ => {
                if person.room.is_some() {
                    person.leave();
                }
                person.disconnect();
            }
        }
        self.world.connect();
    }

    fn build(&mut self, index: usize) {
        let person = &mut self.world.people[index];
        let Some(room) = person.room.clone() else { return };
        let objects = self.world.objects.entry(room).or_default();
        let mine: Vec<String> =
            objects.keys().filter(|id| id.starts_with(&format!("{index}-"))).cloned().collect();
        self.counter += 1;
        let value = json!(self.counter);
        if mine.is_empty() || self.random.random_bool(0.3) {
            let id = format!("{index}-{}", self.counter);
            person.emit("object-create", &json!({ "id": id, "value": value }));
            objects.insert(id, (1, value));
            return;
        }
        let id = &mine[self.random.random_range(0..mine.len())];
        if self.random.random_bool(0.2) {
            person.emit("object-delete", &json!({ "id": id }));
            objects.remove(id);
        } else {
            let version = objects[id].0;
            person.emit("object-update", &json!({ "id": id, "version": version, "value": value }));
            objects.insert(id.clone(), (version + 1, value));
        }
    }
}
