//! Hours that nobody writes any more: from before recordings went to Redis, or before nothing was to be recorded.
//!
//! Who writes hours unlinks those that are too old. Where nobody does, this is what keeps them from being there, and being
//! read, for ever. Imports have no age, and stay.

use std::sync::Arc;
use std::time::Duration;

use engine::Clock;
use tokio::runtime::Handle;
use tracing::{error, info};

use super::folder::Folder;

/// How often it is looked whether there is anything too old. An hour stays no longer than that beyond its time.
pub const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Unlinks the hours of `folder` that have been over for `ttl_ms`, with 0 all that there are: once before it returns, and
/// then as long as `runtime` runs. What cannot be unlinked is told in the log, and tried again.
pub fn start(folder: Arc<Folder>, ttl_ms: u64, clock: Arc<dyn Clock>, runtime: &Handle) {
    let unlink = move || unlink(&folder, ttl_ms, clock.now().as_millis());
    unlink();
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // What is large takes a while.
            let unlink = unlink.clone();
            if let Err(error) = tokio::task::spawn_blocking(unlink).await {
                error!(%error, "hours of replay that nobody writes could not be looked after");
            }
        }
    });
}

fn unlink(folder: &Folder, ttl_ms: u64, now_ms: u64) {
    // The present hour is not over, and a clock that was ahead may have left later ones.
    match folder.unlink_hours(|hour| ttl_ms == 0 || hour.is_too_old(ttl_ms, now_ms)) {
        Ok(0) => {}
        Ok(files) => info!(files, "hours of replay that nobody writes any more are too old and unlinked"),
        Err(error) => error!(%error, "hours of replay that are too old cannot be unlinked"),
    }
}
