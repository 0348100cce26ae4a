//! The engine's ports in memory: a clock, outboxes that behave and misbehave, a store that does.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, ready};
use std::time::Duration;

use engine::ports::{
    CloseReason, Outbox, OutboxError, RoomStore, RoomWrite, StoreError, StoreFuture, StoredObject,
    StoredRoom, TickOutcome, TickView,
};
use engine::{Clock, Time};
use protocol::Outgoing;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, timeout};

use super::viewer::Viewer;

/// Lets `duration` of the paused clock go by. It moves on only when nothing else has anything to do.
pub(crate) async fn pass(duration: Duration) {
    timeout(duration, pending::<()>()).await.unwrap_err();
}

/// Runs `work` on a core that stands still for some milliseconds at random moments, if there is a seed for them.
pub(crate) async fn lagging(work: impl Future<Output = ()>, seed: Option<u64>) {
    let Some(seed) = seed else { return work.await };
    let mut random = SmallRng::seed_from_u64(seed);
    let mut work = pin!(work);
    let mut stop: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    poll_fn(|context| {
        if stop.is_none() && random.random_bool(0.05) {
            stop = Some(Box::pin(pass(Duration::from_millis(random.random_range(1..20)))));
        }
        if let Some(pause) = &mut stop {
            ready!(pause.as_mut().poll(context));
            stop = None;
        }
        work.as_mut().poll(context)
    })
    .await;
}

/// Runs `work` on a core that needs so many milliseconds each time before it gets on with its work.
pub(crate) async fn slowed(work: impl Future<Output = ()>, delay_ms: Arc<AtomicU64>) {
    let mut work = pin!(work);
    let mut stop: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    poll_fn(|context| {
        if let Some(pause) = &mut stop {
            ready!(pause.as_mut().poll(context));
            stop = None;
            return work.as_mut().poll(context);
        }
        let delay = Duration::from_millis(delay_ms.load(Ordering::Relaxed));
        if delay.is_zero() {
            return work.as_mut().poll(context);
        }
        stop = Some(Box::pin(pass(delay)));
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The paused clock of the runtime.
pub(crate) struct PausedClock(Instant);

impl PausedClock {
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Time {
        Time::from_micros(1_700_000_000_000_000) + self.0.elapsed()
    }
}

/// How a client takes what is sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// At once.
    Prompt,
    /// Not at all at present: this many packets fit into its queue.
    Stalled(usize),
    /// Never again: the connection is gone.
    Gone,
}

/// An outbox with a [`Viewer`] at its other end.
pub(crate) struct MemoryOutbox {
    state: Mutex<Client>,
    clock: Arc<PausedClock>,
}

pub(crate) struct Client {
    pub(crate) viewer: Viewer,
    pub(crate) reading: Reading,
    /// Reliable packets that it has not read yet.
    pub(crate) queue: Vec<String>,
    /// Acks and errors are read and everything else is passed over: for crowds, whose pictures are costly.
    pub(crate) answers_only: bool,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) closed_at: Time,
    pub(crate) close_calls: usize,
    /// When reliable packets came, each time once.
    pub(crate) arrivals: Vec<Time>,
    /// When ticks came.
    pub(crate) ticks: Vec<Time>,
    pub(crate) ticks_skipped: usize,
}

impl Client {
    fn read(&mut self, text: &str) {
        if !self.answers_only || text.starts_with('3') || text.starts_with("2[\"error\"") {
            self.viewer.packet(text);
        }
    }
}

impl MemoryOutbox {
    pub(crate) fn new(socket_id: &str, clock: &Arc<PausedClock>) -> Arc<Self> {
        let client = Client {
            viewer: Viewer::new(socket_id),
            reading: Reading::Prompt,
            queue: Vec::new(),
            answers_only: false,
            closed: None,
            closed_at: Time::default(),
            close_calls: 0,
            arrivals: Vec::new(),
            ticks: Vec::new(),
            ticks_skipped: 0,
        };
        Arc::new(Self { state: Mutex::new(client), clock: clock.clone() })
    }

    pub(crate) fn client(&self) -> MutexGuard<'_, Client> {
        self.state.lock().unwrap()
    }

    /// The client reads again, first what has gathered.
    pub(crate) fn resume(&self) {
        let mut client = self.client();
        client.reading = Reading::Prompt;
        for text in std::mem::take(&mut client.queue) {
            client.read(&text);
        }
    }
}

impl Outbox for MemoryOutbox {
    fn send(&self, packet: &Outgoing) -> Result<(), OutboxError> {
        let mut client = self.client();
        match client.reading {
            Reading::Gone => return Err(OutboxError::Closed),
            Reading::Stalled(capacity) if client.queue.len() >= capacity => return Err(OutboxError::Full),
            Reading::Stalled(_) => client.queue.push(packet.text().to_owned()),
            Reading::Prompt => client.read(packet.text()),
        }
        let now = self.clock.now();
        if client.arrivals.last() != Some(&now) {
            client.arrivals.push(now);
        }
        Ok(())
    }

    fn send_tick(&self, tick: &TickView<'_>) -> Result<TickOutcome, OutboxError> {
        let mut client = self.client();
        match client.reading {
            Reading::Gone => return Err(OutboxError::Closed),
            Reading::Stalled(_) => {
                client.ticks_skipped += 1;
                return Ok(TickOutcome::Skipped);
            }
            Reading::Prompt => client.ticks.push(self.clock.now()),
        }
        match tick {
            TickView::Single(_) if client.answers_only => {}
            TickView::Single(packet) => client.viewer.outgoing(packet),
            TickView::Packets { buffer, spans, own } => {
                for (_, span) in spans.iter().enumerate().filter(|(index, _)| Some(*index) != *own) {
                    client.read(std::str::from_utf8(&buffer[span.text()]).unwrap());
                }
            }
        }
        Ok(TickOutcome::Sent)
    }

    fn is_idle(&self) -> bool {
        !matches!(self.client().reading, Reading::Stalled(_))
    }

    fn close(&self, reason: CloseReason) {
        let now = self.clock.now();
        let mut client = self.client();
        client.close_calls += 1;
        client.closed = Some(reason);
        client.closed_at = now;
        client.reading = Reading::Gone;
    }
}

/// A store in memory. What is written takes effect at once and is answered after `delay`.
#[derive(Default)]
pub(crate) struct MemoryStore {
    pub(crate) delay: Duration,
    state: Mutex<Stored>,
}

#[derive(Default)]
struct Stored {
    rooms: BTreeMap<String, StoredRoom>,
    objects: BTreeMap<(String, String), StoredObject>,
    /// Calls that fail, counted from 0 over all kinds of calls.
    failing: BTreeSet<usize>,
    /// Writes of this object fail, with whatever comes in the same call.
    refused: Option<String>,
    calls: usize,
    answered: usize,
}

impl MemoryStore {
    pub(crate) fn new(delay: Duration, failing: impl IntoIterator<Item = usize>) -> Arc<Self> {
        let state = Stored { failing: failing.into_iter().collect(), ..Stored::default() };
        Arc::new(Self { delay, state: Mutex::new(state) })
    }

    /// Ids and versions of what is stored of a room.
    pub(crate) fn versions(&self, room: &str) -> BTreeMap<String, u64> {
        let state = self.state.lock().unwrap();
        let of_room = state.objects.iter().filter(|((of, _), _)| of == room);
        of_room.map(|((_, id), object)| (id.clone(), object.version)).collect()
    }

    /// The options of a room become what nobody understands, and when it was made what no clock shows.
    pub(crate) fn spoil_room(&self, id: &str) {
        let mut state = self.state.lock().unwrap();
        let room = state.rooms.get_mut(id).unwrap();
        (room.options, room.created_ms) = ("{".into(), u64::MAX);
    }

    /// An object comes from elsewhere.
    pub(crate) fn put(&self, room: &str, object: StoredObject) {
        self.state.lock().unwrap().objects.insert((room.to_owned(), object.id.clone()), object);
    }

    /// From now on no object of this id can be stored.
    pub(crate) fn refuse_object(&self, id: &str) {
        self.state.lock().unwrap().refused = Some(id.to_owned());
    }

    /// Calls that have not been answered yet.
    pub(crate) fn unanswered(self: &Arc<Self>) -> usize {
        let state = self.state.lock().unwrap();
        state.calls - state.answered
    }

    pub(crate) fn calls(&self) -> usize {
        self.state.lock().unwrap().calls
    }
}

/// The store as a port.
pub(crate) struct StorePort(pub(crate) Arc<MemoryStore>);

impl StorePort {
    fn answer<T: Send + 'static>(
        &self,
        done: impl FnOnce(&mut Stored) -> Result<T, StoreError>,
    ) -> StoreFuture<T> {
        let store = self.0.clone();
        let answer = {
            let mut state = store.state.lock().unwrap();
            let call = state.calls;
            state.calls += 1;
            if state.failing.contains(&call) {
                Err(StoreError(format!("call {call} was to fail")))
            } else {
                done(&mut state)
            }
        };
        Box::pin(async move {
            if !store.delay.is_zero() {
                pass(store.delay).await;
            }
            store.state.lock().unwrap().answered += 1;
            answer
        })
    }
}

impl RoomStore for StorePort {
    fn rooms(&self) -> StoreFuture<Vec<StoredRoom>> {
        self.answer(|state| Ok(state.rooms.values().cloned().collect()))
    }

    fn objects(&self, room: &str) -> StoreFuture<Vec<StoredObject>> {
        let room = room.to_owned();
        self.answer(move |state| {
            let of_room = state.objects.iter().filter(|((of, _), _)| *of == room);
            Ok(of_room.map(|(_, object)| object.clone()).collect())
        })
    }

    fn write(&self, writes: Vec<RoomWrite>) -> StoreFuture<()> {
        self.answer(move |state| {
            let is_refused = |write: &RoomWrite| match write {
                RoomWrite::PutObject { object, .. } => state.refused.as_ref() == Some(&object.id),
                _ => false,
            };
            if writes.iter().any(is_refused) {
                return Err(StoreError("this object cannot be stored".into()));
            }
            for write in writes {
                match write {
                    RoomWrite::CreateRoom(room) => {
                        state.rooms.insert(room.id.clone(), room);
                    }
                    RoomWrite::PutObject { room, object } => {
                        state.objects.insert((room, object.id.clone()), object);
                    }
                    RoomWrite::DeleteObject { room, id } => {
                        state.objects.remove(&(room, id));
                    }
                }
            }
            Ok(())
        })
    }
}
