//! A relay that does exactly what it is told: it delays, loses, repeats or hangs up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_async};

use futures_util::{SinkExt, StreamExt};

/// Messages that wait for one client. Full: the test is broken.
const QUEUE: usize = 4_096;

/// What happens to poses.
#[derive(Clone, Copy)]
pub(crate) struct Behaviour {
    /// How long each is held back.
    pub(crate) delay: Duration,
    /// Which numbers of each sender's poses are passed on.
    pub(crate) keep: fn(u64) -> bool,
    /// How often each is passed on.
    pub(crate) copies: usize,
    /// Whether it also goes to whom it came from.
    pub(crate) to_sender: bool,
    /// After how many poses of a client its connection is closed.
    pub(crate) hang_up_after: Option<u64>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { delay: Duration::ZERO, keep: |_| true, copies: 1, to_sender: false, hang_up_after: None }
    }
}

/// The relay. Everybody is in one room.
#[derive(Clone)]
pub(crate) struct Scripted {
    behaviour: Behaviour,
    members: Arc<Mutex<Vec<mpsc::Sender<String>>>>,
}

impl Scripted {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, members: Arc::default() }
    }

    pub(crate) async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(self.clone().session(stream));
        }
    }

    async fn session(self, stream: TcpStream) {
        let Ok(mut socket) = accept_async(stream).await else { return };
        let (queue, mut queued) = mpsc::channel(QUEUE);
        let own = self.members.lock().expect("no test panics with it").len();
        self.members.lock().expect("no test panics with it").push(queue);
        let mut poses = 0;
        say(
            &mut socket,
            r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#,
        )
        .await;
        // A ping of each kind, which a client must take in its stride.
        say(&mut socket, "2").await;
        let _ = socket.send(Message::Ping(Bytes::from_static(b"hello"))).await;
        loop {
            tokio::select! {
                Some(text) = queued.recv() => say(&mut socket, &text).await,
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) if text.starts_with("40") => say(&mut socket, r#"40{"sid":"y"}"#).await,
                    Some(Ok(Message::Text(text))) if text.starts_with("42[\"join-room\"") => {
                        say(&mut socket, r#"42["room-users",[]]"#).await;
                    }
                    Some(Ok(Message::Text(text))) if text.starts_with("42[\"update-position\"") => {
                        if self.behaviour.hang_up_after == Some(poses) {
                            return;
                        }
                        self.relay(own, poses, &text);
                        poses += 1;
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
            }
        }
    }

    fn relay(&self, own: usize, number: u64, text: &str) {
        let Behaviour { delay, keep, copies, to_sender, .. } = self.behaviour;
        if !keep(number) {
            return;
        }
        let text = text.replace("update-position", "user-moved");
        let members = self.members.lock().expect("no test panics with it").clone();
        // Each pose has a task of its own, and its sender may have left by then.
        tokio::spawn(async move {
            if !delay.is_zero() {
                let mut held = tokio::time::interval_at(tokio::time::Instant::now() + delay, delay);
                held.tick().await;
            }
            for (_, member) in members.iter().enumerate().filter(|(member, _)| to_sender || *member != own) {
                for _ in 0..copies {
                    let _ = member.try_send(text.clone());
                }
            }
        });
    }
}

async fn say(socket: &mut WebSocketStream<TcpStream>, text: &str) {
    let _ = socket.send(Message::text(text)).await;
}
