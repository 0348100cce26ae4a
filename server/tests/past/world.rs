//! A server without its sockets.

use std::sync::Arc;
use std::time::Duration;

use engine::journal::{Journal, NoJournal};
use engine::ports::NoStore;
use engine::{Clock, Engine, EngineConfig, RoomDefaults, Time};
use prometheus_client::registry::Registry;
use replay::StoredRecord;
use serde_json::{Value, json};
use server::app::App;
use server::auth::Auth;
use server::replay::playback::Playbacks;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::client::{Client, pass};
use crate::recording::{Memory, MemoryJournal};

pub(crate) const ROOM: &str = "lobby";
pub(crate) const ENCODINGS: [&str; 3] = ["json", "batch", "binary"];
const CORES: usize = 2;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// The clock of the runtime.
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> Time {
        Time::from_micros(1_700_100_000_000_000) + self.0.elapsed()
    }
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) playbacks: Arc<Playbacks>,
    pub(crate) recordings: Arc<Memory>,
    auth: Arc<Auth>,
    app: Arc<App>,
    connected: usize,
}

impl World {
    /// A server on which these records are all that there is, and there will be no more.
    pub(crate) fn new(records: Vec<StoredRecord>) -> Self {
        Self::with_journal(Memory::new(ROOM, records), |_| Arc::new(NoJournal))
    }

    /// A server that writes down what happens.
    pub(crate) fn recording() -> Self {
        Self::with_journal(Memory::new(ROOM, Vec::new()), |recordings| Arc::new(MemoryJournal(recordings)))
    }

    fn with_journal(recordings: Memory, journal: impl FnOnce(Arc<Memory>) -> Arc<dyn Journal>) -> Self {
        let recordings = Arc::new(recordings);
        let mut registry = Registry::default();
        let config = EngineConfig {
            cores: CORES,
            rooms: RoomDefaults::default(),
            store: Arc::new(NoStore),
            journal: journal(recordings.clone()),
            clock: Arc::new(RuntimeClock(Instant::now())),
        };
        let (engine, cores) = Engine::new(config, &mut registry);
        for core in cores {
            tokio::spawn(core.shard.run());
            tokio::spawn(core.fanout.run());
        }
        let auth = Arc::new(Auth::new(SECRET));
        let playbacks = Playbacks::new(engine.clone(), recordings.clone(), &mut registry);
        let app = App::new(engine.clone(), auth.clone(), &mut registry).with_playbacks(playbacks.clone());
        Self { engine, playbacks, recordings, auth, app: Arc::new(app), connected: 0 }
    }

    /// A client of a new user.
    pub(crate) fn connect(&mut self) -> Client {
        self.connected += 1;
        let now_s = self.engine.now().as_millis() / 1000;
        let login = self.auth.login(&format!("visitor {}", self.connected), now_s).unwrap();
        Client::connect(&self.app, &login.token, self.connected % CORES)
    }

    /// A new client that watches this part.
    pub(crate) async fn watch(&mut self, encoding: &str, replay: Value) -> Client {
        let mut client = self.connect();
        let join = json!({ "roomId": ROOM, "encoding": encoding, "replay": replay });
        let answer = client.call("join-room", &join).await;
        assert_eq!(answer["ok"], true, "{answer}");
        client.until(|inbox| !inbox.states.is_empty()).await;
        client
    }

    /// Tasks that there are, once those that watch over a connection's beginning have ended.
    pub(crate) fn tasks(&self) -> usize {
        Handle::current().metrics().num_alive_tasks()
    }

    /// Everybody goes; afterwards nothing is left.
    pub(crate) async fn close(&self, clients: impl IntoIterator<Item = Client>) {
        for client in clients {
            client.disconnect();
            assert_eq!(client.inbox().errors, [] as [Value; 0]);
        }
        pass(Duration::from_secs(60)).await;
        assert_eq!((self.playbacks.count(), self.engine.private_room_count()), (0, 0));
        assert_eq!((self.engine.session_count(), self.engine.room_count()), (0, 0));
    }
}
