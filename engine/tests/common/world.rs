//! A whole engine on one paused runtime, and the people in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use engine::journal::{Journal, NoJournal};
use engine::{Engine, EngineConfig, RoomDefaults, RoomRequest, Session, User};
use prometheus_client::registry::Registry;
use protocol::ClientEvent;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::ports::{MemoryOutbox, MemoryStore, PausedClock, Reading, StorePort, lagging, slowed};
use super::poses::{pose_json, pose_numbered};
use super::replayed::Replayed;

/// Shards and fan-outs of an engine under test.
pub(crate) const CORES: usize = 3;

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) registry: Registry,
    clock: Arc<PausedClock>,
    tasks: Vec<JoinHandle<()>>,
    /// Milliseconds that every fan-out needs before it gets on with its work.
    pub(crate) fanout_delay_ms: Arc<AtomicU64>,
    pub(crate) people: Vec<Person>,
    /// The objects of each room, as they should be: value and version by id.
    pub(crate) objects: BTreeMap<String, BTreeMap<String, (u64, Value)>>,
}

/// A client, and the truth about it.
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) session: Arc<Session>,
    pub(crate) outbox: Arc<MemoryOutbox>,
    /// Where it is once everything has been carried out.
    pub(crate) room: Option<String>,
    pub(crate) alive: bool,
    last_room: String,
    /// Its newest pose since it came into its room.
    pose: Option<u32>,
    next_ack: u64,
    pub(crate) next_message: u64,
}

impl World {
    pub(crate) fn new(rooms: RoomDefaults, store: &Arc<MemoryStore>) -> Self {
        Self::with_lag(rooms, store, None)
    }

    /// As [`World::new`]; with a seed, each core now and then stands still for a moment, so that what happens on
    /// different cores meets in orders in which it would not meet otherwise.
    pub(crate) fn with_lag(rooms: RoomDefaults, store: &Arc<MemoryStore>, lag: Option<u64>) -> Self {
        Self::with_journal(rooms, store, Arc::new(NoJournal), lag)
    }

    pub(crate) fn with_journal(
        rooms: RoomDefaults,
        store: &Arc<MemoryStore>,
        journal: Arc<dyn Journal>,
        lag: Option<u64>,
    ) -> Self {
        let clock = PausedClock::start();
        let store = Arc::new(StorePort(store.clone()));
        let config = EngineConfig { cores: CORES, rooms, store, journal, clock: clock.clone() };
        let mut registry = Registry::default();
        let (engine, cores) = Engine::new(config, &mut registry);
        let mut tasks = Vec::new();
        let fanout_delay_ms = Arc::new(AtomicU64::new(0));
        for (core, index) in cores.into_iter().zip(0..) {
            let seed = |half: u64| lag.map(|seed| seed.wrapping_mul(100).wrapping_add(2 * index + half));
            tasks.push(tokio::spawn(lagging(core.shard.run(), seed(0))));
            tasks.push(tokio::spawn(lagging(slowed(core.fanout.run(), fanout_delay_ms.clone()), seed(1))));
        }
        Self { engine, registry, clock, tasks, fanout_delay_ms, people: Vec::new(), objects: BTreeMap::new() }
    }

    pub(crate) fn with_users(max_users: usize) -> Self {
        let defaults = RoomDefaults { max_users, ..RoomDefaults::default() };
        Self::new(defaults, &MemoryStore::new(std::time::Duration::ZERO, []))
    }

    /// A new client; its connection lives on whichever core comes next.
    pub(crate) fn connect(&mut self) -> usize {
        let index = self.people.len();
        let name = format!("s{index}");
        let outbox = MemoryOutbox::new(&name, &self.clock);
        let user = User {
            id: format!("u{index}").into(),
            socket_id: name.as_str().into(),
            username: format!("person {index}").into(),
        };
        let session = self.engine.open_session(user, outbox.clone(), index % CORES, Arc::default());
        self.people.push(Person {
            name,
            session,
            outbox,
            room: None,
            alive: true,
            last_room: String::new(),
            pose: None,
            next_ack: 0,
            next_message: 0,
        });
        index
    }

    /// Lets `count` new clients into `room`.
    pub(crate) fn connect_into(&mut self, count: usize, room: &str) -> Vec<usize> {
        self.connect_all(&vec!["json"; count], room)
    }

    /// Lets a new client into `room` for each of these encodings.
    pub(crate) fn connect_all(&mut self, encodings: &[&str], room: &str) -> Vec<usize> {
        encodings
            .iter()
            .map(|encoding| {
                let person = self.connect();
                self.people[person].join(room, encoding);
                person
            })
            .collect()
    }

    pub(crate) async fn create_room(&self, id: &str, request: RoomRequest) {
        self.engine.create_room(id, &request).await.unwrap();
    }

    /// Everybody's picture is the truth.
    pub(crate) fn check(&self) {
        assert!(self.tasks.iter().all(|task| !task.is_finished()), "a shard or a fan-out has ended");
        for (index, person) in self.people.iter().enumerate().filter(|(_, person)| person.alive) {
            let client = person.outbox.client();
            if client.reading != Reading::Prompt || client.answers_only {
                continue;
            }
            let Some(room) = &person.room else {
                assert!(!client.viewer.inside, "{} thinks that it is in a room", person.name);
                continue;
            };
            let there: Vec<_> =
                self.people.iter().filter(|other| other.alive && other.room.as_ref() == Some(room)).collect();
            let seen: Vec<&String> = client.viewer.users.keys().collect();
            let mut expected: Vec<&String> = there.iter().map(|other| &other.name).collect();
            expected.sort();
            assert_eq!(seen, expected, "who is in {room}, as {} sees it", person.name);
            for other in there.iter().filter(|other| other.name != person.name) {
                let pose = other.pose.map_or(protocol::Pose::INITIAL, pose_numbered);
                client.viewer.assert_sees(&other.name, &pose);
            }
            // Its own objects a client knows by the answers that it got.
            let mine = format!("{index}-");
            let others = |id: &&String| !id.starts_with(&mine);
            let nothing = BTreeMap::new();
            let truth = self.objects.get(room).unwrap_or(&nothing);
            let ids: Vec<_> = truth.keys().filter(others).collect();
            assert_eq!(
                client.viewer.objects.keys().filter(others).collect::<Vec<_>>(),
                ids,
                "objects of {room}"
            );
            for id in ids {
                let (version, value) = &truth[id];
                assert_eq!(
                    client.viewer.objects[id],
                    (Some(*version), value.clone()),
                    "object {id} of {room}"
                );
            }
        }
    }

    /// What was written down of a room is the truth, its people's poses included.
    pub(crate) fn check_replayed(&self, room: &str, replayed: &Replayed) {
        let mut seen = BTreeMap::new();
        for stay in replayed.members.values() {
            seen.insert(stay.user["socketId"].as_str().unwrap().to_owned(), stay.pose());
        }
        let there = self.people.iter().filter(|person| person.alive && person.room.as_deref() == Some(room));
        let expected: BTreeMap<_, _> = there
            .map(|person| {
                let pose = person.pose.map_or(protocol::Pose::INITIAL, pose_numbered);
                (person.name.clone(), pose_json(&pose))
            })
            .collect();
        assert_eq!(seen, expected, "who is in {room}, and where");
        let objects: BTreeMap<_, _> = replayed
            .objects
            .iter()
            .map(|(id, object)| (id.clone(), (object["version"].as_u64().unwrap(), object["value"].clone())))
            .collect();
        assert_eq!(objects, self.objects.get(room).cloned().unwrap_or_default(), "objects of {room}");
    }

    /// `person` is in its room with this many altogether.
    pub(crate) fn check_people_only(&self, person: usize, count: usize) {
        assert_eq!(self.people[person].outbox.client().viewer.users.len(), count);
    }

    /// Everybody goes; afterwards there is nothing left.
    pub(crate) async fn close_all(&mut self) {
        for person in &mut self.people {
            person.disconnect();
        }
        super::ports::pass(std::time::Duration::from_secs(1)).await;
        assert_eq!(self.engine.session_count(), 0);
        let left: Vec<_> = self.engine.rooms().into_iter().filter(|room| !room.options.persistent).collect();
        assert!(left.is_empty(), "rooms that nobody is in: {left:?}");
        assert!(self.engine.rooms().iter().all(|room| room.members() == 0));
        assert!(self.tasks.iter().all(|task| !task.is_finished()), "a shard or a fan-out has ended");
    }

    /// A counter's value, summed over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

impl Person {
    /// Sends an event that wants an answer, and returns the answer's id.
    pub(crate) fn emit(&mut self, name: &str, payload: &Value) -> u64 {
        let text = payload.to_string();
        self.next_ack += 1;
        let ack = Some(self.next_ack);
        if self.session.pay(0, ack) {
            match ClientEvent::parse(name, &text) {
                Ok(event) => self.session.handle(event.unwrap(), Vec::new(), ack),
                Err(error) => self.session.refuse(ack, &error),
            }
        }
        self.next_ack
    }

    /// Asks for a room that will let it in.
    pub(crate) fn join(&mut self, room: &str, encoding: &str) -> u64 {
        if self.room.as_deref() != Some(room) {
            let viewer = &mut self.outbox.client().viewer;
            viewer.step_out();
            viewer.returning = self.room.is_none() && self.last_room == room;
            self.pose = None;
        }
        self.room = Some(room.to_owned());
        room.clone_into(&mut self.last_room);
        self.emit("join-room", &json!({ "roomId": room, "encoding": encoding }))
    }

    pub(crate) fn leave(&mut self) -> u64 {
        self.outbox.client().viewer.step_out();
        self.room = None;
        self.emit("leave-room", &json!({}))
    }

    /// As [`Person::leave`], without wanting an answer.
    pub(crate) fn leave_silently(&mut self) {
        self.outbox.client().viewer.step_out();
        self.room = None;
        self.session.handle(ClientEvent::LeaveRoom, Vec::new(), None);
    }

    pub(crate) fn move_to(&mut self, number: u32) {
        self.session.update_pose(&pose_numbered(number));
        if self.room.is_some() {
            self.pose = Some(number);
        }
    }

    /// Says the next number to everybody.
    pub(crate) fn say(&mut self) -> u64 {
        self.next_message += 1;
        let message = json!({ "type": "numbered", "data": self.next_message });
        self.emit("room-message", &message)
    }

    /// The connection breaks.
    pub(crate) fn disconnect(&mut self) {
        self.outbox.client().reading = Reading::Gone;
        self.session.closed();
        self.gone();
    }

    /// It is known to be gone.
    pub(crate) fn gone(&mut self) {
        self.alive = false;
        self.room = None;
    }

    /// The answer to an event, if it has come.
    pub(crate) fn answer(&self, ack: u64) -> Option<Value> {
        self.outbox.client().viewer.acks.get(&ack).cloned()
    }

    /// `ok`, or the code of the failure.
    pub(crate) fn outcome(&self, ack: u64) -> String {
        match self.answer(ack) {
            None => "none".to_owned(),
            Some(answer) if answer["ok"] == true => "ok".to_owned(),
            Some(answer) => answer["error"]["code"].as_str().unwrap().to_owned(),
        }
    }
}
