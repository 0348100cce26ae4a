//! Persistent rooms on this machine's disk, with a copy in Redis.

use std::sync::Arc;
use std::time::Duration;

use engine::ports::{RoomStore, RoomWrite, StoreFuture, StoredObject, StoredRoom};
use tokio::time::timeout;

use super::status::Status;
use crate::storage::SqliteStore;

/// How long what is on the disk waits for Redis as well, if Redis is there.
pub const COPY_WAIT: Duration = Duration::from_millis(250);

/// The store of a server with Redis. What it answers with comes from the disk, and has always reached the disk.
#[derive(Debug, Clone)]
pub struct RedisStore {
    local: Arc<SqliteStore>,
    status: Arc<Status>,
}

impl RedisStore {
    pub(super) fn new(local: Arc<SqliteStore>, status: Arc<Status>) -> Self {
        Self { local, status }
    }
}

impl RoomStore for RedisStore {
    fn rooms(&self) -> StoreFuture<Vec<StoredRoom>> {
        self.local.rooms()
    }

    fn objects(&self, room: &str) -> StoreFuture<Vec<StoredObject>> {
        self.local.objects(room)
    }

    fn write(&self, writes: Vec<RoomWrite>) -> StoreFuture<()> {
        let written = self.local.write(writes);
        let (counted, mut progress) = (self.local.watch(), self.status.progress.subscribe());
        Box::pin(async move {
            written.await?;
            let count = *counted.borrow();
            let copied = progress.wait_for(|progress| !progress.is_healthy || progress.change >= count);
            // Late or not: it is on this disk, and on its way.
            let _ = timeout(COPY_WAIT, copied).await;
            Ok(())
        })
    }
}
