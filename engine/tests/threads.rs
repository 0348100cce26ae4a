//! An engine on real threads, one per core, with clients on threads of their own: whatever the order in which
//! things meet, nobody stays behind in a room and everybody is answered.
#![cfg(not(loom_model))]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::ports::{MemoryOutbox, PausedClock};
use common::poses::pose_numbered;
use engine::journal::NoJournal;
use engine::ports::NoStore;
use engine::{Engine, EngineConfig, RoomDefaults, Session, User};
use prometheus_client::registry::Registry;
use protocol::ClientEvent;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Builder;

const CORES: usize = 3;
const CLIENTS_PER_CORE: usize = 20;
const STEPS: usize = 800;
const ENCODINGS: [&str; 3] = ["json", "batch", "binary"];
/// Only a bound for what hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn nobody_stays_behind_however_the_threads_meet() {
    let clock = PausedClock::start();
    let rooms = RoomDefaults { max_users: 15, ..RoomDefaults::default() };
    let config = EngineConfig {
        cores: CORES,
        rooms,
        store: Arc::new(NoStore),
        journal: Arc::new(NoJournal),
        clock: clock.clone(),
    };
    let (engine, cores) = Engine::new(config, &mut Registry::default());
    for core in cores {
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async move { tokio::join!(core.shard.run(), core.fanout.run()) });
        });
    }
    let clients: Vec<_> = (0..CORES)
        .map(|core| {
            let (engine, clock) = (engine.clone(), clock.clone());
            std::thread::spawn(move || crowd(&engine, &clock, core))
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let empty = async {
            engine.settle().await;
            let mut look = tokio::time::interval(Duration::from_millis(5));
            while engine.room_count() > 0 {
                look.tick().await;
            }
        };
        let emptied = tokio::time::timeout(PATIENCE, empty).await;
        assert!(emptied.is_ok(), "rooms that nobody is in: {:?}", engine.rooms());
    });
    assert_eq!(engine.session_count(), 0);
}

/// The clients whose connections live on one core.
fn crowd(engine: &Engine, clock: &Arc<PausedClock>, core: usize) {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut random = SmallRng::seed_from_u64(core as u64);
        let mut clients: Vec<Client> =
            (0..CLIENTS_PER_CORE).map(|index| Client::connect(engine, clock, core, index)).collect();
        for step in 0..STEPS {
            for client in &mut clients {
                match random.random_range(0..10) {
                    0..3 => client.join(random.random_range(0..4), ENCODINGS[random.random_range(0..3)]),
                    3 => client.emit("leave-room", "{}"),
                    4 => client.emit("user-update", r#"{"username":"x"}"#),
                    _ => {
                        client.session.update_pose(&pose_numbered(step as u32));
                    }
                }
            }
            tokio::task::yield_now().await;
        }
        for client in &clients {
            client.all_answered().await;
            // Both sides may find out at once.
            client.session.closed();
            client.session.end(engine::ports::CloseReason::SlowReader);
        }
    });
}

struct Client {
    session: Arc<Session>,
    outbox: Arc<MemoryOutbox>,
    acks: u64,
}

impl Client {
    fn connect(engine: &Engine, clock: &Arc<PausedClock>, core: usize, index: usize) -> Self {
        let name = format!("{core}-{index}");
        let outbox = MemoryOutbox::new(&name, clock);
        outbox.client().answers_only = true;
        let name: Arc<str> = name.into();
        let user = User { id: name.clone(), socket_id: name.clone(), username: name };
        Self { session: engine.open_session(user, outbox.clone(), core, Arc::default()), outbox, acks: 0 }
    }

    fn emit(&mut self, name: &str, payload: &str) {
        let event = ClientEvent::parse(name, payload).unwrap().unwrap();
        self.acks += 1;
        self.session.handle(event, Vec::new(), Some(self.acks));
    }

    fn join(&mut self, room: u32, encoding: &str) {
        self.emit("join-room", &format!(r#"{{"roomId":"room {room}","encoding":"{encoding}"}}"#));
    }

    async fn all_answered(&self) {
        let answered = async {
            let mut look = tokio::time::interval(Duration::from_millis(5));
            while self.outbox.client().viewer.acks.len() < self.acks as usize {
                look.tick().await;
            }
        };
        let answered = tokio::time::timeout(PATIENCE, answered).await;
        assert!(answered.is_ok(), "{:?} waits for answers", self.session);
    }
}
