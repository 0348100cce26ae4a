//! All of the server, put together: storage, engine, one thread per core, and the wait for the end.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ::http::HeaderMap;
use engine::journal::{Journal, NoJournal};
use engine::ports::{RoomStore, StoreError};
use engine::{Clock, Core, Engine, EngineConfig, RoomDefaults};
use hyper::body::Incoming;
use prometheus_client::registry::Registry;
use tokio::runtime::{Builder, Handle};
use tokio::sync::Semaphore;

use crate::app::App;
use crate::auth::Auth;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::drain;
use crate::http::{Api, ApiParts};
use crate::journal::RoomJournal;
use crate::journal::backend::{Backend, Condition};
use crate::journal::folder::{Folder, HOUR_MS};
use crate::journal::hours::{Hours, HoursSettings};
use crate::journal::leftovers;
use crate::net::serve::{Body, Services, Site, accept};
use crate::net::{cores, descriptors, listen};
use crate::redis::{self, Redis, RedisConfig, SpoolBackend};
use crate::replay::Replays;
use crate::replay::both::Both;
use crate::replay::playback::Playbacks;
use crate::replay::recordings::Recordings;
use crate::replay::sqlite::SqliteRecordings;
use crate::storage::{OUTBOX_ROWS_MAX, OpenError, SqliteStore};
use crate::transport::{SocketIo, TransportConfig};
use crate::workers::{self, Workers};

/// The path of Socket.IO.
const SOCKET_IO_PATH: &str = "/socket.io";

/// How long a connection may be open without a CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(45);

/// Why the server did not come up.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {0}: {1}")]
    Listen(std::net::SocketAddr, io::Error),
    /// The data folder cannot be used.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The store cannot be read.
    #[error("cannot read the persistent rooms: {0}")]
    Rooms(#[from] StoreError),
    /// What is kept on disk for Redis cannot be used.
    #[error(transparent)]
    Redis(#[from] redis::StartError),
    /// The folder of replay cannot be used.
    #[error("cannot keep replay in DATA_DIR: {0}")]
    Replay(io::Error),
    /// There are workers, but no way to call them.
    #[error(transparent)]
    Workers(#[from] workers::StartError),
    /// The system gives no thread, runtime or signal.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Says on standard error why the server did not come up.
#[expect(
    clippy::print_stderr,
    reason = "whoever typed the command reads it there, whatever the log's format"
)]
pub fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("copresence: {error}");
    ExitCode::FAILURE
}

/// Runs the server until it is asked to end, and drains it.
///
/// # Errors
/// [`RunError`], before anybody is served.
pub fn run(config: Config) -> Result<(), RunError> {
    let config = Arc::new(config);
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    descriptors::raise_limit(config.max_connections);
    let listeners = listen::bind(config.address, config.cores)
        .map_err(|error| RunError::Listen(config.address, error))?;
    let address = listeners[0].local_addr()?;
    let main = Builder::new_current_thread().enable_all().build()?;

    let mut registry = Registry::with_prefix("copresence");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let Storage { store, rooms, redis, spool } = main.block_on(storage(&config, &mut registry))?;
    let (journal, folder) = journal(&config, spool, &clock, &mut registry, main.handle())?;
    let parts = engine_config(&config, rooms, journal.clone(), clock);
    let (engine, engine_cores) = Engine::new(parts, &mut registry);
    let rooms = main.block_on(load_rooms(&engine))?;
    let auth = Arc::new(Auth::new(config.jwt_secret.expose().as_bytes()));
    let workers = Workers::start(config.workers.clone(), &mut registry)?;
    let recordings = recordings(folder, redis.as_deref(), &mut registry);
    let replays = Arc::new(Replays::start(recordings.clone(), &mut registry)?);
    let playbacks = Playbacks::new(engine.clone(), recordings, &mut registry);
    let app =
        App::new(engine.clone(), auth.clone(), workers.clone(), &mut registry).with_playbacks(playbacks);
    let app = Arc::new(app);
    let api = Api::new(ApiParts {
        engine: engine.clone(),
        auth,
        config: config.clone(),
        registry: Arc::new(registry),
        store: store.clone(),
        redis: redis.clone(),
        replays,
        journal: journal.clone(),
        workers: workers.clone(),
        started: Instant::now(),
    });
    let upper = Arc::new(SocketIo::new(app, CONNECT_TIMEOUT));
    let connections = Arc::new(Semaphore::new(config.max_connections));
    let times = transport_config(&config);
    let services = Services::new(SOCKET_IO_PATH, upper, Arc::new(api), config.cores, times, connections);
    for (index, (core, listener)) in engine_cores.into_iter().zip(listeners).enumerate() {
        spawn_core((index, config.cores), core, listener, services.clone())?;
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        cores = config.cores,
        tick_hz = %config.tick_hz,
        persistent_rooms = rooms,
        "Copresence is ready: open http://localhost:{}/",
        address.port(),
    );
    main.block_on(async {
        let signal = tokio::select! {
            signal = drain::asked_to_end() => signal?,
            never = take_in_rooms(&engine, redis.as_deref()) => match never {},
        };
        tracing::info!(signal, "asked to end");
        let end = drain::drain(&engine, &workers, &config).await;
        close(journal.as_deref(), redis.as_deref(), &store, end).await;
        Ok::<_, RunError>(())
    })?;
    tracing::info!("stopped");
    Ok(())
}

/// Brings what is written down to where it is kept, each before what it is kept by.
async fn close(
    journal: Option<&RoomJournal>,
    redis: Option<&Redis>,
    store: &SqliteStore,
    end: tokio::time::Instant,
) {
    let closing = async {
        if let Some(journal) = journal {
            journal.close(drain::closed_by(end)).await;
        }
    };
    drain::close_journal(closing, end).await;
    if let Some(redis) = redis {
        // What is not there by then stays on the disk, which needs its own time to close.
        let _ = tokio::time::timeout_at(drain::closed_by(end).into(), redis.close()).await;
    }
    drain::close_store(store.close(), end).await;
}

/// Where rooms and what happens in them are kept.
struct Storage {
    store: Arc<SqliteStore>,
    /// The same as the engine sees it.
    rooms: Arc<dyn RoomStore>,
    redis: Option<Arc<Redis>>,
    /// What the journal writes to, if there is Redis.
    spool: Option<SpoolBackend>,
}

async fn storage(config: &Config, registry: &mut Registry) -> Result<Storage, RunError> {
    let Some(nodes) = &config.redis else {
        let store = Arc::new(SqliteStore::open(&config.data_dir)?);
        return Ok(Storage { rooms: store.clone(), store, redis: None, spool: None });
    };
    let store = Arc::new(SqliteStore::open_with_outbox(&config.data_dir, OUTBOX_ROWS_MAX)?);
    let settings = RedisConfig {
        nodes: nodes.clone(),
        directory: config.data_dir.clone(),
        ttl: Duration::from_millis(config.replay_ttl_hours * HOUR_MS),
        spool_bytes_max: config.replay_max_bytes,
    };
    let (redis, spool) = Redis::start(settings, store.clone(), registry)?;
    // Redis may have rooms that this machine's disk lacks. If it is away, they come later.
    redis.first_attempt().await;
    let rooms = Arc::new(redis.room_store());
    Ok(Storage { store, rooms, redis: Some(Arc::new(redis)), spool: Some(spool) })
}

/// Makes the stored rooms known, and says which cannot be. How many are.
async fn load_rooms(engine: &Engine) -> Result<usize, StoreError> {
    let loaded = engine.load_rooms().await?;
    for room in &loaded.unreadable {
        tracing::error!(room, "a stored room has options that cannot be understood; it is left out");
    }
    Ok(loaded.rooms)
}

/// Makes rooms known that come from Redis while the server is up.
async fn take_in_rooms(engine: &Engine, redis: Option<&Redis>) -> Infallible {
    let Some(redis) = redis else { return std::future::pending().await };
    loop {
        redis.rooms_arrived().await;
        if let Err(error) = load_rooms(engine).await {
            tracing::error!(%error, "rooms that came from Redis are known after the next start only");
        }
    }
}

/// What is read of recordings: the folder, where those that were imported are in any case, and Redis if there is one.
fn recordings(folder: Arc<Folder>, redis: Option<&Redis>, registry: &mut Registry) -> Arc<dyn Recordings> {
    let files = SqliteRecordings::new(folder);
    files.register(registry);
    match redis {
        Some(redis) => Arc::new(Both(files, redis.recordings())),
        None => Arc::new(files),
    }
}

/// What writes down what happens in rooms, unless nothing is to be kept, and the folder that it is read from.
fn journal(
    config: &Config,
    spool: Option<SpoolBackend>,
    clock: &Arc<dyn Clock>,
    registry: &mut Registry,
    runtime: &Handle,
) -> Result<(Option<Arc<RoomJournal>>, Arc<Folder>), RunError> {
    let ttl_ms = config.replay_ttl_hours * HOUR_MS;
    let unwritten = || {
        // What was imported is there in any case, what was recorded as long as it may be.
        let folder = Arc::new(Folder::in_data_dir(&config.data_dir));
        leftovers::start(folder.clone(), ttl_ms, clock.clone(), runtime);
        folder
    };
    if config.replay_ttl_hours == 0 {
        return Ok((None, unwritten()));
    }
    if let Some(spool) = spool {
        let condition = spool.condition();
        let journal = start_journal(config, Box::new(spool), condition, clock, registry)?;
        return Ok((Some(journal), unwritten()));
    }
    let settings = HoursSettings { ttl_ms, bytes_max: config.replay_max_bytes };
    let now_ms = clock.now().as_millis();
    let hours = Hours::open(&config.data_dir, settings, now_ms, registry).map_err(RunError::Replay)?;
    let (folder, condition) = (hours.folder(), hours.condition());
    let journal = start_journal(config, Box::new(hours), condition, clock, registry)?;
    Ok((Some(journal), folder))
}

fn start_journal(
    config: &Config,
    backend: Box<dyn Backend>,
    condition: Arc<dyn Condition>,
    clock: &Arc<dyn Clock>,
    registry: &mut Registry,
) -> Result<Arc<RoomJournal>, RunError> {
    Ok(Arc::new(RoomJournal::start(config.replay_hz, backend, condition, clock.clone(), registry)?))
}

fn engine_config(
    config: &Config,
    store: Arc<dyn RoomStore>,
    journal: Option<Arc<RoomJournal>>,
    clock: Arc<dyn Clock>,
) -> EngineConfig {
    let defaults = RoomDefaults::default();
    let journal: Arc<dyn Journal> = match journal {
        Some(journal) => journal,
        None => Arc::new(NoJournal),
    };
    EngineConfig {
        cores: config.cores,
        rooms: RoomDefaults {
            max_users: defaults.max_users.min(config.max_users_per_room),
            max_users_limit: config.max_users_per_room,
            tick_hz: config.tick_hz,
            ..defaults
        },
        store,
        journal,
        clock,
    }
}

fn transport_config(config: &Config) -> TransportConfig {
    TransportConfig {
        ping_interval: Duration::from_millis(config.ping_interval_ms),
        ping_timeout: Duration::from_millis(config.ping_timeout_ms),
    }
}

/// Starts the thread of one core: its rooms, its viewers, its connections. It ends with the process.
fn spawn_core(
    (index, count): (usize, usize),
    core: Core,
    listener: TcpListener,
    services: Services<SocketIo<App>, Api>,
) -> Result<(), RunError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("core-{index}")).spawn(move || {
        cores::claim(index, count);
        runtime.block_on(async {
            tokio::spawn(or_abort(core.fanout.run()));
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    tokio::spawn(accept(listener, services));
                }
                Err(error) => tracing::error!(%error, "a core cannot listen"),
            }
            or_abort(core.shard.run()).await;
        });
    })?;
    Ok(())
}

/// Does `work`, without which the server would be up and yet of no use to some: should it ever panic, the process ends,
/// and whoever watches over it starts it anew.
async fn or_abort(work: impl Future<Output = ()>) {
    struct Abort;
    impl Drop for Abort {
        fn drop(&mut self) {
            if thread::panicking() {
                tracing::error!("a core has panicked; the process ends");
                std::process::abort();
            }
        }
    }
    let _abort = Abort;
    work.await;
}

impl Site for Api {
    async fn answer(&self, request: ::http::Request<Incoming>) -> ::http::Response<Body> {
        self.handle(request).await
    }

    fn is_open(&self) -> bool {
        !self.engine().is_draining()
    }

    fn add_headers(&self, headers: &mut HeaderMap) {
        self.apply_cors(headers);
    }
}
