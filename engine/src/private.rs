//! Private rooms: one viewer, and what is played to it.
//!
//! Such a room is in no directory, so nobody else finds it. It lives as long as its viewer is in it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::error::ClientError;
use tokio::sync::oneshot;

use crate::directory::{Lease, Recorded, RoomShared};
use crate::engine::{Engine, Inner, draining};
use crate::limits::{MAX_PLAY_STEPS, MAX_PRIVATE_USERS};
use crate::options::RoomOptions;
use crate::room::Step;
use crate::shard::ShardMessage;

/// A private room that waits for its viewer. Dropped: there will be none.
#[derive(Debug)]
pub struct PrivateRoom(Lease);

impl PrivateRoom {
    pub(crate) fn into_lease(self) -> Lease {
        self.0
    }
}

/// Whoever plays in a private room has this end of it.
pub struct Stage {
    room: Arc<RoomShared>,
    engine: Arc<Inner>,
}

/// The viewer's departure from a private room, to be waited for.
#[derive(Debug)]
pub struct Departure(oneshot::Receiver<()>);

impl Departure {
    /// Waits until the viewer has gone.
    pub async fn wait(self) {
        // Nothing is ever sent: the other end is dropped.
        let _ = self.0.await;
    }
}

/// The viewer of a private room has gone, and the room with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the viewer has gone")]
pub struct ViewerGone;

/// A private room's place on its shard, and among the private rooms. Dropped with the room's lease.
pub(crate) struct PrivatePlace {
    /// What happens in the room before its viewer comes.
    pub(crate) opening: Vec<Step>,
    shard: usize,
    engine: Arc<Inner>,
    _present: oneshot::Sender<()>,
}

impl Drop for PrivatePlace {
    fn drop(&mut self) {
        self.engine.unplace(self.shard);
        self.engine.private_rooms.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for PrivatePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrivatePlace").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Engine {
    /// A private room of that id, which may be any other room's too, on the core of its viewer. `opening` is what its
    /// viewer finds. Of `options`, how many may be in it and whether it is stored or recorded do not count.
    ///
    /// # Errors
    /// `draining` if the engine is going down.
    pub fn open_private(
        &self,
        id: &str,
        options: &RoomOptions,
        recorded: Recorded,
        core: usize,
        opening: Vec<Step>,
    ) -> Result<(PrivateRoom, Stage, Departure), ClientError> {
        let inner = &self.0;
        if inner.is_draining() {
            return Err(draining());
        }
        let options = RoomOptions {
            max_users: MAX_PRIVATE_USERS,
            persistent: false,
            record: false,
            password: None,
            ..options.clone()
        };
        let shard = core % inner.shards.len();
        let now = inner.clock.now();
        let room = RoomShared::private(id, inner.directory.key(), shard, options, now, recorded);
        let (present, gone) = oneshot::channel();
        inner.shards[shard].load.fetch_add(1, Ordering::Relaxed);
        inner.private_rooms.fetch_add(1, Ordering::Relaxed);
        let place = PrivatePlace { opening, shard, engine: inner.clone(), _present: present };
        let lease = Lease::private(&room, place);
        Ok((PrivateRoom(lease), Stage { room, engine: inner.clone() }, Departure(gone)))
    }

    /// The options of a room that nobody has chosen any for.
    pub fn default_options(&self) -> RoomOptions {
        self.0.defaults.options()
    }

    /// How many private rooms there are.
    pub fn private_room_count(&self) -> usize {
        self.0.private_rooms.load(Ordering::Relaxed)
    }
}

impl Stage {
    /// The room.
    pub fn room(&self) -> &Arc<RoomShared> {
        &self.room
    }

    /// How many ticks a second the room has at present.
    pub fn tick_hz(&self) -> u32 {
        self.room.tick_hz()
    }

    /// Has `steps` carried out, at most [`MAX_PLAY_STEPS`], and waits until they are.
    ///
    /// # Errors
    /// [`ViewerGone`]
    pub async fn play(&self, steps: Vec<Step>) -> Result<(), ViewerGone> {
        debug_assert!(steps.len() <= MAX_PLAY_STEPS, "{} steps", steps.len());
        let (done, carried_out) = oneshot::channel();
        let message = ShardMessage::Play { room: self.room.clone(), steps, done };
        self.engine.shards[self.room.shard].mailbox.send(message).await.map_err(|_| ViewerGone)?;
        carried_out.await.map_err(|_| ViewerGone)
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("room", &self.room.id).finish_non_exhaustive()
    }
}
