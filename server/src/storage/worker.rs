//! The thread that owns the database.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::ports::{RoomWrite, StoreError, StoredObject, StoredRoom};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::database::{Batch, Database};
use super::outbox::{self, Changes, Found};
use super::{BATCH_REQUESTS, Shared};

/// Where the answer to a request goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the thread is asked for.
pub(super) enum Work {
    Request(Request),
    /// Tell when everything before is on the disk.
    Flush(oneshot::Sender<()>),
    /// The same, and stop.
    Close(oneshot::Sender<()>),
}

/// What is carried out in a transaction.
pub(super) enum Request {
    Rooms(Answer<Vec<StoredRoom>>),
    Objects(String, Answer<Vec<StoredObject>>),
    Write(Vec<RoomWrite>, Answer<()>),
    /// What has changed since a number, that many rows at most.
    Changes(u64, usize, Answer<Changes>),
    /// Everything up to a number is elsewhere too.
    Copied(u64, Answer<()>),
    /// What was found elsewhere.
    Merge(Vec<Found>, Answer<usize>),
}

impl Request {
    /// Bytes that the request holds while it waits, near enough for a limit.
    pub(super) fn bytes(&self) -> usize {
        let of = |write: &RoomWrite| match write {
            RoomWrite::CreateRoom(room) => room.id.len() + room.options.len(),
            RoomWrite::PutObject { room, object } => {
                room.len() + object.id.len() + object.owner.len() + object.json.len()
            }
            RoomWrite::DeleteObject { room, id } => room.len() + id.len(),
        };
        match self {
            Self::Rooms(_) | Self::Changes(..) | Self::Copied(..) => 0,
            Self::Objects(room, _) => room.len(),
            Self::Merge(found, _) => found.iter().map(Found::bytes).sum(),
            Self::Write(writes, _) => writes.iter().map(|write| of(write) + size_of::<RoomWrite>()).sum(),
        }
    }
}

/// What a request came to, before it is known whether the batch stays.
enum Outcome {
    Rooms(Result<Vec<StoredRoom>, StoreError>),
    Objects(Result<Vec<StoredObject>, StoreError>),
    Write(Result<(), StoreError>),
    Changes(Result<Changes, StoreError>),
    Merge(Result<usize, StoreError>),
}

impl Outcome {
    fn error(&self) -> Option<&StoreError> {
        match self {
            Self::Rooms(result) => result.as_ref().err(),
            Self::Objects(result) => result.as_ref().err(),
            Self::Write(result) => result.as_ref().err(),
            Self::Changes(result) => result.as_ref().err(),
            Self::Merge(result) => result.as_ref().err(),
        }
    }
}

/// The thread's state.
pub(super) struct Worker {
    database: Database,
    /// Released after the database is closed: fields are dropped in their order.
    _lock: File,
    work: mpsc::Receiver<Work>,
    shared: Arc<Shared>,
}

impl Worker {
    pub(super) fn new(
        database: Database,
        lock: File,
        work: mpsc::Receiver<Work>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { database, _lock: lock, work, shared }
    }

    /// Works until it is told to stop or everybody who could ask is gone.
    pub(super) fn run(mut self) {
        let mut requests = Vec::with_capacity(BATCH_REQUESTS);
        let mut done = None;
        while let Some(first) = self.work.blocking_recv() {
            let control = self.gather(first, &mut requests);
            let bytes = requests.iter().map(Request::bytes).sum();
            self.carry_out(&mut requests);
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match control {
                None | Some(Work::Request(_)) => {}
                Some(Work::Flush(flushed)) => {
                    let _ = flushed.send(());
                }
                Some(Work::Close(closed)) => {
                    done = Some(closed);
                    break;
                }
            }
        }
        if let Err(error) = self.database.checkpoint() {
            // Nothing is lost: the log is read at the next start.
            warn!(%error, "the database's log stays as it is");
        }
        // Whoever waits for the end may open the same directory next.
        drop(self);
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    /// Takes what waits, up to a batch or to a control, which is returned.
    fn gather(&mut self, first: Work, requests: &mut Vec<Request>) -> Option<Work> {
        let mut next = Some(first);
        loop {
            match next {
                Some(Work::Request(request)) => requests.push(request),
                control => return control,
            }
            if requests.len() >= BATCH_REQUESTS {
                return None;
            }
            next = self.work.try_recv().ok();
        }
    }

    /// Carries out `requests` together. If the batch as a whole fails, each gets a transaction of its own, so
    /// that one which cannot be stored does not take the others with it.
    fn carry_out(&mut self, requests: &mut Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        match together(&mut self.database, requests) {
            Ok(outcomes) => {
                self.count_changes(requests);
                for (request, outcome) in requests.drain(..).zip(outcomes) {
                    self.answer(request, outcome);
                }
            }
            Err(error) if requests.len() == 1 => self.refuse(requests.remove(0), error),
            Err(_) => {
                for request in requests.drain(..) {
                    match together(&mut self.database, std::slice::from_ref(&request)) {
                        Ok(mut outcomes) => {
                            self.count_changes(std::slice::from_ref(&request));
                            let outcome = outcomes.remove(0);
                            self.answer(request, outcome);
                        }
                        Err(error) => self.refuse(request, error),
                    }
                }
            }
        }
    }

    /// Before the answers: whoever has one can tell from the count when the change is elsewhere too.
    fn count_changes(&self, requests: &[Request]) {
        if requests.iter().any(|request| matches!(request, Request::Write(..))) {
            self.shared.changes.send_modify(|count| *count += 1);
        }
    }

    fn answer(&self, request: Request, outcome: Outcome) {
        self.note(outcome.error());
        // Whoever asked may be gone; what was asked for is done all the same.
        match (request, outcome) {
            (Request::Rooms(answer), Outcome::Rooms(result)) => drop(answer.send(result)),
            (Request::Objects(_, answer), Outcome::Objects(result)) => drop(answer.send(result)),
            (Request::Write(_, answer) | Request::Copied(_, answer), Outcome::Write(result)) => {
                drop(answer.send(result));
            }
            (Request::Changes(.., answer), Outcome::Changes(result)) => drop(answer.send(result)),
            (Request::Merge(_, answer), Outcome::Merge(result)) => drop(answer.send(result)),
            _ => unreachable!("an outcome is of its request's kind"),
        }
    }

    fn refuse(&self, request: Request, error: StoreError) {
        let outcome = match request {
            Request::Rooms(_) => Outcome::Rooms(Err(error)),
            Request::Objects(..) => Outcome::Objects(Err(error)),
            Request::Write(..) | Request::Copied(..) => Outcome::Write(Err(error)),
            Request::Changes(..) => Outcome::Changes(Err(error)),
            Request::Merge(..) => Outcome::Merge(Err(error)),
        };
        self.answer(request, outcome);
    }

    /// Only a change of state is logged: a full disk fails every write until somebody has made room.
    fn note(&self, error: Option<&StoreError>) {
        let text = error.map(ToString::to_string);
        let mut last_error = self.shared.last_error();
        if *last_error != text {
            match &text {
                Some(text) => error!(error = text, "the store fails"),
                None => warn!("the store works again"),
            }
            *last_error = text;
        }
    }
}

/// Carries out `requests` in one transaction and puts it on the disk. An error means that none of it happened.
fn together(database: &mut Database, requests: &[Request]) -> Result<Vec<Outcome>, StoreError> {
    let mut batch = database.batch()?;
    let mut outcomes = Vec::with_capacity(requests.len());
    for request in requests {
        let outcome = one(&mut batch, request);
        if batch.is_lost() {
            let lost = || StoreError("the transaction was taken back".into());
            return Err(outcome.error().cloned().unwrap_or_else(lost));
        }
        outcomes.push(outcome);
    }
    batch.commit()?;
    Ok(outcomes)
}

fn one(batch: &mut Batch<'_>, request: &Request) -> Outcome {
    match request {
        Request::Rooms(_) => Outcome::Rooms(batch.rooms()),
        Request::Objects(room, _) => Outcome::Objects(batch.objects(room)),
        Request::Write(writes, _) => Outcome::Write(batch.write(writes)),
        Request::Changes(after, rows_max, _) => {
            Outcome::Changes(outbox::changes(batch.transaction(), *after, *rows_max))
        }
        Request::Copied(until, _) => Outcome::Write(outbox::forget(batch.transaction(), *until)),
        Request::Merge(found, _) => Outcome::Merge(outbox::merge(batch.transaction(), found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(id: usize, bytes: usize) -> (Request, oneshot::Receiver<Result<(), StoreError>>) {
        let json = "x".repeat(bytes);
        let object = StoredObject { id: id.to_string(), version: 1, owner: "a".into(), json };
        let (answer, answered) = oneshot::channel();
        (Request::Write(vec![RoomWrite::PutObject { room: "a".into(), object }], answer), answered)
    }

    #[test]
    fn a_full_disk_fails_what_does_not_fit_and_passes() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("rooms.db"), None).unwrap();
        let lock = File::create(directory.path().join("lock")).unwrap();
        let (_queue, work) = mpsc::channel(1);
        let mut worker = Worker::new(database, lock, work, Arc::default());
        let (answer, mut answered) = oneshot::channel();
        let room = StoredRoom { id: "a".into(), options: "{}".into(), created_ms: 1 };
        worker.carry_out(&mut vec![Request::Write(vec![RoomWrite::CreateRoom(room)], answer)]);
        answered.try_recv().unwrap().unwrap();

        worker.database.limit_pages(64);
        let (mut requests, answers): (Vec<_>, Vec<_>) =
            [(1, 100), (2, 1_000_000), (3, 100)].into_iter().map(|(id, bytes)| write(id, bytes)).unzip();
        worker.carry_out(&mut requests);
        let results: Vec<_> =
            answers.into_iter().map(|mut answer| answer.try_recv().unwrap().is_ok()).collect();
        assert_eq!(results, [true, false, true]);

        let (request, mut answer) = write(4, 1_000_000);
        worker.carry_out(&mut vec![request]);
        let error = answer.try_recv().unwrap().unwrap_err();
        assert!(error.to_string().contains("full"), "{error}");
        assert_eq!(worker.shared.last_error().as_deref(), Some(&*error.to_string()));

        worker.database.limit_pages(1_000_000);
        let (request, mut answer) = write(4, 1_000_000);
        worker.carry_out(&mut vec![request]);
        answer.try_recv().unwrap().unwrap();
        assert!(worker.shared.last_error().is_none());
        let batch = worker.database.batch().unwrap();
        let ids: Vec<_> = batch.objects("a").unwrap().into_iter().map(|object| object.id).collect();
        assert_eq!(ids, ["1", "3", "4"]);
    }
}
