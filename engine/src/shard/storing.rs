//! What a shard has the store do for it.

use std::cmp::Reverse;
use std::collections::HashMap;

use protocol::error::{ClientError, ErrorCode};

use super::{Hosted, JobDone, Pending, Shard, Wake};
use crate::limits::STORE_RETRY;
use crate::ports::{StoreError, StoredObject};
use crate::room::{Command, Nothing, error_packet, ok_packet};
use crate::time::Time;

/// Which of `pending` go to the store together, where they succeed or fail together: those of one room. What has
/// failed once goes alone, so that what can never be stored does not keep its neighbours out of the store.
fn apart(pending: Vec<Pending>) -> Vec<Vec<Pending>> {
    let mut writes: Vec<Vec<Pending>> = Vec::new();
    let mut places = HashMap::new();
    for (key, effect) in pending {
        let place = match effect.again {
            true => writes.len(),
            false => *places.entry(key).or_insert(writes.len()),
        };
        if place == writes.len() {
            writes.push(Vec::new());
        }
        writes[place].push((key, effect));
    }
    writes
}

impl Shard {
    pub(super) fn submit_writes(&mut self) {
        if self.writes.is_empty() {
            return;
        }
        for effects in apart(std::mem::take(&mut self.writes)) {
            let writes = effects.iter().map(|(_, effect)| effect.write.clone()).collect();
            let stored = self.engine.store.write(writes);
            self.jobs.spawn(async move { JobDone::Stored(effects, stored.await) });
        }
    }

    pub(super) async fn job_done(&mut self, job: Option<JobDone>) {
        let now = self.engine.clock.now();
        match job {
            Some(JobDone::Loaded(key, objects)) => self.loaded(now, key, objects).await,
            Some(JobDone::Stored(effects, result)) => {
                self.unstored -= effects.len();
                if result.is_err() {
                    self.engine.metrics.store_failures.inc();
                }
                for (key, effect) in effects {
                    let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { continue };
                    open.room.stored(effect, result.is_ok());
                    self.touched.push(key);
                    if result.is_err() {
                        self.wakes.push(Reverse((now + STORE_RETRY, Wake::StoreAgain(key))));
                    }
                }
            }
            // A job neither panics nor is aborted.
            None => {}
        }
    }

    async fn loaded(&mut self, now: Time, key: u64, objects: Result<Vec<StoredObject>, StoreError>) {
        let Some(Hosted::Loading(shared, deferred)) = self.rooms.remove(&key) else { return };
        match objects {
            Ok(objects) => {
                self.open(now, shared, objects);
                for command in deferred {
                    self.command_open(now, key, command).await;
                }
            }
            Err(_) => {
                self.engine.metrics.store_failures.inc();
                let error = ClientError::new(ErrorCode::Overloaded, "the room could not be read, try again");
                for (session, command, ack, joining) in deferred {
                    if let Some((_, turn)) = joining {
                        session.refused(turn);
                    }
                    // A departure is never refused: who wanted to be out is out.
                    let answer = match command {
                        Command::Leave => ok_packet(ack, Nothing {}),
                        _ => error_packet(ack, &error),
                    };
                    self.answer(&session, answer).await;
                }
            }
        }
    }
}
