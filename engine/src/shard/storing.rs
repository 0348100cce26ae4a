//! What a shard has the store do for it.

use std::cmp::Reverse;
use std::collections::HashMap;

use protocol::error::{ClientError, ErrorCode};

use super::recording::Awaited;
use super::{Hosted, JobDone, Pending, Shard, Wake};
use crate::limits::{COMMANDS_PER_WAKE, STORE_RETRY};
use crate::ports::{StoreError, StoredObject};
use crate::room::{Command, Nothing, error_packet, ok_packet};
use crate::time::Time;

/// Which of `pending` go to the store together, where they succeed or fail together: those of one room. What has
/// failed once goes alone, so that what can never be stored does not keep its neighbours out of the store. What comes after
/// it goes after it: it may be of the same object.
fn apart(pending: Vec<Pending>) -> Vec<Vec<Pending>> {
    let mut writes: Vec<Vec<Pending>> = Vec::new();
    let mut places = HashMap::new();
    for change in pending {
        let (key, effect, _) = &change;
        let place = match effect.again {
            true => {
                places.remove(key);
                writes.len()
            }
            false => *places.entry(*key).or_insert(writes.len()),
        };
        if place == writes.len() {
            writes.push(Vec::new());
        }
        writes[place].push(change);
    }
    writes
}

impl Shard {
    pub(super) fn submit_writes(&mut self) {
        if self.writes.is_empty() {
            return;
        }
        for effects in apart(std::mem::take(&mut self.writes)) {
            let writes = effects.iter().map(|(_, effect, _)| effect.write.clone()).collect();
            let stored = self.engine.store.write(writes);
            self.jobs.spawn(async move { JobDone::Stored(effects, stored.await) });
        }
    }

    /// This job is done, and others may be: what they let go then goes out together.
    pub(super) async fn jobs_done(&mut self, job: Option<JobDone>) {
        self.job_done(job).await;
        for _ in 1..COMMANDS_PER_WAKE {
            let Some(job) = self.jobs.try_join_next() else { break };
            self.job_done(job.ok()).await;
        }
    }

    async fn job_done(&mut self, job: Option<JobDone>) {
        let now = self.engine.clock.now();
        match job {
            Some(JobDone::Loaded(key, objects)) => self.loaded(now, key, objects).await,
            Some(JobDone::Stored(effects, result)) => {
                self.unstored -= effects.len();
                if result.is_err() {
                    self.engine.metrics.store_failures.inc();
                }
                for (key, effect, promise) in effects {
                    if let Some(promise) = promise
                        && result.is_ok()
                    {
                        self.await_record(key, Awaited::Change(Box::new(effect)), promise);
                        continue;
                    }
                    let Some(Hosted::Open(open)) = self.rooms.get_mut(&key) else { continue };
                    open.room.stored(effect, result.is_ok());
                    self.touched.push(key);
                    if result.is_err() {
                        self.wakes.push(Reverse((now + STORE_RETRY, Wake::StoreAgain(key))));
                    }
                }
            }
            Some(JobDone::Recorded(key, awaited, is_durable)) => self.recorded(key, awaited, is_durable),
            // A job neither panics nor is aborted.
            None => {}
        }
    }

    async fn loaded(&mut self, now: Time, key: u64, objects: Result<Vec<StoredObject>, StoreError>) {
        let Some(Hosted::Loading(shared, deferred)) = self.rooms.remove(&key) else { return };
        match objects {
            Ok(objects) => {
                self.open(now, shared, objects).await;
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

#[cfg(all(test, not(loom_model)))]
mod tests {
    use super::*;
    use crate::ports::RoomWrite;
    use crate::room::StoreEffect;

    #[test]
    fn what_is_stored_again_goes_alone_and_what_follows_it_goes_after_it() {
        let pending = |(key, id, again): (u64, &str, bool)| -> Pending {
            let write = RoomWrite::DeleteObject { room: String::new(), id: id.to_owned() };
            let effect = StoreEffect { write, object_id: id.to_owned(), reply: None, again, record: None };
            (key, effect, None)
        };
        let changes = [
            (1, "b", false),
            (2, "x", false),
            (1, "a", true),
            (1, "a", false),
            (2, "y", false),
            (1, "c", false),
        ];
        let batches = apart(changes.map(pending).into());
        let ids: Vec<Vec<_>> = batches
            .iter()
            .map(|batch| batch.iter().map(|(key, effect, _)| (*key, &*effect.object_id)).collect())
            .collect();
        let expected: [&[_]; 4] = [&[(1, "b")], &[(2, "x"), (2, "y")], &[(1, "a")], &[(1, "a"), (1, "c")]];
        assert_eq!(ids, expected);
    }
}
