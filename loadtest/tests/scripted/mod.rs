//! A relay that does exactly what it is told: it delays, loses, repeats or hangs up. Whoever joins with the encoding
//! `binary` is served in binary: each pose goes out at once, in a pose frame of its own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::frame::{Cell32, FrameHeader, FrameWriter, decode_pose};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_async};

use futures_util::{SinkExt, StreamExt};

/// Messages that wait for one client. Full: the test is broken.
const QUEUE: usize = 4_096;

/// Bytes of `room-users`: as in a room of thousands, more than a client reads at a time.
const ROOM_USERS_BYTES: usize = 1_200_000;

/// What happens to poses.
#[derive(Clone, Copy)]
pub(crate) struct Behaviour {
    /// How long each is held back.
    pub(crate) delay: Duration,
    /// How much longer that number of each sender's poses is held back.
    pub(crate) held: fn(u64) -> Duration,
    /// How long an answer to `time-sync` is held back.
    pub(crate) answer_delay: Duration,
    /// How often that number of each client's questions is answered.
    pub(crate) answers: fn(u64) -> usize,
    /// Which numbers of each sender's poses are passed on.
    pub(crate) keep: fn(u64) -> bool,
    /// How often each is passed on.
    pub(crate) copies: usize,
    /// Whether it also goes to whom it came from.
    pub(crate) to_sender: bool,
    /// After how many poses of a client its connection is closed.
    pub(crate) hang_up_after: Option<u64>,
    /// The slot that goes out for a slot, in binary.
    pub(crate) slot: fn(u16) -> u16,
    /// What is done to a pose frame before it goes out.
    pub(crate) spoil: fn(&mut Vec<u8>),
    /// A rate that whoever joins is told of.
    pub(crate) rate_hz: Option<u32>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            held: |_| Duration::ZERO,
            answer_delay: Duration::ZERO,
            answers: |_| 1,
            keep: |_| true,
            copies: 1,
            to_sender: false,
            hang_up_after: None,
            slot: |slot| slot,
            spoil: |_| {},
            rate_hz: None,
        }
    }
}

/// The relay. Everybody is in one room.
#[derive(Clone)]
pub(crate) struct Scripted {
    behaviour: Behaviour,
    members: Arc<Mutex<Vec<mpsc::Sender<Vec<Message>>>>>,
    /// Pose frames so far.
    ticks: Arc<AtomicU32>,
    /// Poses so far, and how many of them came before the last to join.
    poses: Arc<AtomicU32>,
    poses_before_last_join: Arc<AtomicU32>,
}

impl Scripted {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            members: Arc::default(),
            ticks: Arc::default(),
            poses: Arc::default(),
            poses_before_last_join: Arc::default(),
        }
    }

    /// How many poses came before the last to join.
    #[allow(dead_code, reason = "not every test that has this server asks")]
    pub(crate) fn poses_before_last_join(&self) -> u32 {
        self.poses_before_last_join.load(Ordering::Relaxed)
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
        let (mut poses, mut questions) = (0, 0);
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
                Some(messages) = queued.recv() => {
                    for message in messages {
                        let _ = socket.send(message).await;
                    }
                }
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) if text.starts_with("40") => say(&mut socket, r#"40{"sid":"y"}"#).await,
                    Some(Ok(Message::Text(text))) if text.contains("[\"join-room\"") => {
                        self.welcome(&mut socket, own, &text).await;
                    }
                    Some(Ok(Message::Text(text))) if text.ends_with("[\"time-sync\"]") => {
                        self.answer(own, questions, &text);
                        questions += 1;
                    }
                    Some(Ok(message)) => {
                        let Some(relayed) = self.relayed(own, &message) else { continue };
                        if self.behaviour.hang_up_after == Some(poses) {
                            return;
                        }
                        self.relay(own, poses, relayed);
                        poses += 1;
                        self.poses.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(Err(_)) | None => return,
                },
            }
        }
    }

    async fn welcome(&self, socket: &mut WebSocketStream<TcpStream>, own: usize, join: &str) {
        self.poses_before_last_join.store(self.poses.load(Ordering::Relaxed), Ordering::Relaxed);
        // Whoever wants an answer asks with this id.
        if join.starts_with("420[") {
            say(socket, &format!(r#"430[{{"ok":true,"slot":{},"epoch":0,"tickHz":20}}]"#, slot_of(own)))
                .await;
        }
        let long_name = "x".repeat(ROOM_USERS_BYTES);
        say(socket, &format!(r#"42["room-users",[{{"id":"{long_name}"}}]]"#)).await;
        if let Some(hz) = self.behaviour.rate_hz {
            say(socket, &format!(r#"42["room-rate",{{"tickHz":{hz}}}]"#)).await;
        }
    }

    /// What goes out for a message, if that is a pose.
    fn relayed(&self, own: usize, message: &Message) -> Option<Vec<Message>> {
        match message {
            Message::Text(text) if text.starts_with("42[\"update-position\"") => {
                Some(vec![Message::text(text.replace("update-position", "user-moved"))])
            }
            // The text before it says only that it comes.
            Message::Binary(bytes) => {
                let pose = decode_pose(bytes).expect("loadtest sends poses");
                let mut frame = Vec::new();
                let tick = self.ticks.fetch_add(1, Ordering::Relaxed);
                let mut writer = FrameWriter::new(FrameHeader { flags: 0, tick, time_ms: 0 }, &mut frame);
                let mut group = writer.group(Cell32::nearest(pose.head.position));
                group.entry((self.behaviour.slot)(slot_of(own)), &pose);
                group.finish();
                writer.finish();
                (self.behaviour.spoil)(&mut frame);
                let announcement = r#"451-["pose-frame",{"_placeholder":true,"num":0}]"#;
                Some(vec![Message::text(announcement), Message::binary(frame)])
            }
            _ => None,
        }
    }

    /// Answers the question of that number, as often as it shall be.
    fn answer(&self, own: usize, question: u64, text: &str) {
        let id: String = text[2..].chars().take_while(char::is_ascii_digit).collect();
        let answer = Message::text(format!(r#"43{id}[{{"ok":true,"time":1}}]"#));
        let (times, delay) = ((self.behaviour.answers)(question), self.behaviour.answer_delay);
        let member = self.members.lock().expect("no test panics with it")[own].clone();
        tokio::spawn(async move {
            pass(delay).await;
            let _ = member.try_send(vec![answer; times]);
        });
    }

    fn relay(&self, own: usize, number: u64, messages: Vec<Message>) {
        let Behaviour { delay, keep, copies, to_sender, .. } = self.behaviour;
        if !keep(number) {
            return;
        }
        let members = self.members.lock().expect("no test panics with it").clone();
        let delay = delay + (self.behaviour.held)(number);
        // Each pose has a task of its own, and its sender may have left by then.
        tokio::spawn(async move {
            pass(delay).await;
            for (_, member) in members.iter().enumerate().filter(|(member, _)| to_sender || *member != own) {
                for _ in 0..copies {
                    let _ = member.try_send(messages.clone());
                }
            }
        });
    }
}

/// Waits that long.
async fn pass(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::interval_at(tokio::time::Instant::now() + delay, delay).tick().await;
    }
}

/// Slots are not the members' numbers in order of arrival, nor small.
fn slot_of(member: usize) -> u16 {
    40_000 - 7 * member as u16
}

async fn say(socket: &mut WebSocketStream<TcpStream>, text: &str) {
    let _ = socket.send(Message::text(text)).await;
}
