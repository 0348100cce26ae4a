//! The relay itself; the tests run it too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{Data, SocketRef, State};
use tokio::net::TcpListener;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Join {
    room_id: String,
}

#[derive(Deserialize)]
struct Update {
    position: Value,
    rotation: Value,
}

/// Packets that may wait for one client. The library's default of 128 loses poses as soon as the core is busy for
/// a few milliseconds, and then the relay would be compared by what it did not deliver.
const BUFFERED_PACKETS_MAX: usize = 8_192;

/// Who is in each room, and in which room each socket is.
#[derive(Clone, Default)]
struct Rooms(Arc<Mutex<HashMap<String, Vec<String>>>>);

impl Rooms {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Vec<String>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// The room that a socket has joined.
#[derive(Clone)]
struct Joined(String);

/// Serves until the listener fails.
pub(crate) async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let (service, io) =
        SocketIo::builder().max_buffer_size(BUFFERED_PACKETS_MAX).with_state(Rooms::default()).build_svc();
    io.ns("/", connected);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(connection.with_upgrades());
    }
}

async fn connected(socket: SocketRef) {
    socket.on("join-room", join);
    socket.on("update-position", update);
    socket.on_disconnect(left);
}

async fn join(socket: SocketRef, Data(Join { room_id }): Data<Join>, State(rooms): State<Rooms>) {
    socket.join(room_id.clone());
    socket.extensions.insert(Joined(room_id.clone()));
    let id = socket.id.to_string();
    let _ = socket.to(room_id.clone()).emit("user-joined", &json!({ "id": id, "socketId": id })).await;
    let users: Vec<Value> = rooms.with(|rooms| {
        let members = rooms.entry(room_id).or_default();
        members.push(id);
        members.iter().map(|id| json!({ "id": id, "socketId": id })).collect()
    });
    let _ = socket.emit("room-users", &users);
}

async fn update(socket: SocketRef, Data(Update { position, rotation }): Data<Update>) {
    let Some(Joined(room)) = socket.extensions.get::<Joined>() else { return };
    let id = socket.id.to_string();
    let moved = json!({ "id": id, "socketId": id, "position": position, "rotation": rotation });
    let _ = socket.to(room).emit("user-moved", &moved).await;
}

async fn left(socket: SocketRef, State(rooms): State<Rooms>) {
    let Some(Joined(room)) = socket.extensions.get::<Joined>() else { return };
    let id = socket.id.to_string();
    rooms.with(|rooms| {
        if let Some(members) = rooms.get_mut(&room) {
            members.retain(|member| *member != id);
            if members.is_empty() {
                rooms.remove(&room);
            }
        }
    });
    let _ = socket.to(room).emit("user-left", &id).await;
}
