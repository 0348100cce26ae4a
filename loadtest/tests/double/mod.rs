//! A room that keeps the contract as far as the scenarios look, and breaks it exactly as it is told. There is one room
//! for everybody, and no logins.

mod session;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;

/// Messages that wait for one client. Whoever has so many waiting is cut off.
const QUEUE: usize = 64;
/// What the kernel takes for a client that does not read.
const SEND_BUFFER_BYTES: u32 = 4_096;

/// How it breaks the contract.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Which of all `user-joined` and `user-left` is lost, counted for each receiver, from 0.
    pub(crate) lose_joined: Option<u64>,
    pub(crate) lose_left: Option<u64>,
    /// Which arrival is told twice to everybody.
    pub(crate) twice_joined: Option<u64>,
    /// Which connections are not served, counted from 0.
    pub(crate) refuse: Option<u64>,
    /// Every so many-th stale edit is granted.
    pub(crate) grant_stale: Option<u64>,
    /// Which `object-updated` is lost, counted for each receiver.
    pub(crate) lose_updated: Option<u64>,
    /// Objects are shown to newcomers as they were made.
    pub(crate) old_objects: bool,
    /// Two deletions of an object are granted.
    pub(crate) delete_twice: bool,
    /// Broken input is passed over.
    pub(crate) tolerate: bool,
    /// Broken input ends the session though it was only to be refused.
    pub(crate) end_always: bool,
    /// Whoever does not read is kept.
    pub(crate) keep_slow: bool,
    /// Everybody waits for whoever does not read.
    pub(crate) wait_for_slow: bool,
    /// From which pose of each on they are lost.
    pub(crate) lose_moves_from: Option<u64>,
    /// Bytes that go with each pose, so that whoever does not read is full soon.
    pub(crate) padding: usize,
}

/// One of those connected.
struct Member {
    queue: mpsc::Sender<Message>,
    is_in: bool,
    /// How many of each it was told.
    joined: u64,
    left: u64,
    updated: u64,
}

#[derive(Default)]
struct State {
    members: BTreeMap<String, Member>,
    objects: BTreeMap<String, Object>,
    connections: u64,
    joins: u64,
    stale: u64,
    last_deleted: Option<String>,
}

struct Object {
    version: u64,
    members: Value,
    made: Value,
}

/// The room.
#[derive(Clone)]
pub(crate) struct Double {
    faults: Faults,
    state: Arc<Mutex<State>>,
    /// How often everybody has been thrown out.
    restarts: watch::Sender<u64>,
}

/// A port whose connections take little that is not read.
pub(crate) async fn listener() -> (TcpListener, u16) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_send_buffer_size(SEND_BUFFER_BYTES).expect("it is allowed");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let listener = socket.listen(1_024).expect("it is bound");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

impl Double {
    pub(crate) fn new(faults: Faults) -> Self {
        Self { faults, state: Arc::default(), restarts: watch::channel(0).0 }
    }

    /// Throws everybody out, and forgets all.
    pub(crate) fn restart(&self) {
        let connections = self.state().connections;
        *self.state() = State { connections, ..State::default() };
        self.restarts.send_modify(|restarts| *restarts += 1);
    }

    pub(crate) async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let session = self.clone();
            tokio::spawn(async move {
                let mut restarts = session.restarts.subscribe();
                tokio::select! {
                    () = session.run(stream) => {}
                    _ = restarts.changed() => {}
                }
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    /// Tells everybody in the room but `own`.
    async fn tell(&self, own: &str, event: &str, payload: &Value) {
        let message = Message::text(format!("42{}", json!([event, payload])));
        let mut slow = Vec::new();
        {
            let mut state = self.state();
            for (id, member) in state.members.iter_mut().filter(|(id, member)| *id != own && member.is_in) {
                let (lose, told) = match event {
                    "user-joined" => (self.faults.lose_joined, &mut member.joined),
                    "user-left" => (self.faults.lose_left, &mut member.left),
                    "object-updated" => (self.faults.lose_updated, &mut member.updated),
                    _ => (None, &mut 0),
                };
                *told += 1;
                if lose == Some(*told - 1) {
                    continue;
                }
                if member.queue.try_send(message.clone()).is_err() {
                    slow.push((id.clone(), member.queue.clone()));
                }
            }
        }
        for (id, queue) in slow {
            if self.faults.wait_for_slow {
                let _ = queue.send(message.clone()).await;
            } else if !self.faults.keep_slow {
                // Its session ends with its queue.
                self.state().members.remove(&id);
            }
        }
    }

    /// Whoever is in the room, as `room-users` says it.
    fn users(&self) -> Value {
        let state = self.state();
        let inside = state.members.iter().filter(|(_, member)| member.is_in);
        inside.map(|(id, _)| user(id)).collect::<Vec<_>>().into()
    }

    async fn join(&self, own: &str) {
        let join = {
            let mut state = self.state();
            let Some(member) = state.members.get_mut(own) else { return };
            member.is_in = true;
            state.joins += 1;
            state.joins - 1
        };
        self.tell(own, "user-joined", &user(own)).await;
        if self.faults.twice_joined == Some(join) {
            self.tell(own, "user-joined", &user(own)).await;
        }
        let (users, objects) = (self.users(), self.objects());
        for (event, payload) in [("room-users", users), ("room-objects", objects)] {
            self.answer(own, format!("42{}", json!([event, payload])));
        }
    }

    fn objects(&self) -> Value {
        let state = self.state();
        let shown = state.objects.values().map(|object| {
            let mut shown = if self.faults.old_objects { &object.made } else { &object.members }.clone();
            shown["version"] = if self.faults.old_objects { 1 } else { object.version }.into();
            shown
        });
        shown.collect::<Vec<_>>().into()
    }

    async fn leave(&self, own: &str) {
        let was_in = {
            let mut state = self.state();
            state.members.get_mut(own).is_some_and(|member| std::mem::take(&mut member.is_in))
        };
        if was_in {
            self.tell(own, "user-left", &own.into()).await;
        }
    }

    /// Puts a text into somebody's own queue.
    fn answer(&self, own: &str, text: String) {
        if let Some(member) = self.state().members.get(own) {
            let _ = member.queue.try_send(Message::text(text));
        }
    }
}

fn user(id: &str) -> Value {
    json!({ "id": id, "socketId": id, "username": "somebody" })
}
