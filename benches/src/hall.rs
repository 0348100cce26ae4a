//! A whole engine with one room full of people, driven by hand: from the frames that clients send to the outboxes of all
//! viewers. Nothing in it depends on how fast the machine is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use engine::journal::NoJournal;
use engine::ports::{CloseReason, NoStore, Outbox, OutboxError, TickOutcome, TickView};
use engine::{Clock, Engine, EngineConfig, RoomDefaults, Session, Time, User};
use prometheus_client::registry::Registry;
use protocol::frame::{decode_pose, encode_pose};
use protocol::outgoing::{OPCODE_BINARY, OPCODE_TEXT};
use protocol::websocket::{Message, Reader, Step};
use protocol::{ClientEvent, Outgoing, Pose};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use crate::pose_in_crowd;

/// How many join at a time, so that no mailbox overflows.
const JOINS_AT_ONCE: u16 = 64;

/// When the runtime has gone round so many times without a turn of the fan-out, that has nothing to do.
const IDLE_TURNS: usize = 3;

const TICK: Duration = Duration::from_millis(50);

/// What announces a pose as an attachment, as Engine.IO's text message.
const ENCODED_POSE: &str = r#"451-["update-position",{"_placeholder":true,"num":0}]"#;
const POSE_PREFIX: &str = r#"42["update-position","#;

/// An engine with people in one room, whose clock is turned by hand.
pub struct Hall {
    runtime: Runtime,
    engine: Engine,
    clock: Arc<HandClock>,
    /// Turns of the fan-out.
    turns: Arc<AtomicUsize>,
    sent: Arc<Sent>,
    sessions: Vec<Arc<Session>>,
    side_m: f32,
    step: u32,
}

/// A clock that goes on when it is told to.
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Time {
        Time::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// What all outboxes have been given.
#[derive(Default)]
struct Sent {
    ticks: AtomicUsize,
    bytes: AtomicUsize,
}

/// A viewer that reads whatever it is sent at once.
struct ReadyOutbox(Arc<Sent>);

impl Outbox for ReadyOutbox {
    fn send(&self, packet: &Outgoing) -> Result<(), OutboxError> {
        self.0.bytes.fetch_add(packet.wire_bytes(), Ordering::Relaxed);
        Ok(())
    }

    fn send_tick(&self, tick: &TickView<'_>) -> Result<TickOutcome, OutboxError> {
        let bytes = match tick {
            TickView::Single(packet) => packet.wire_bytes(),
            TickView::Packets { buffer, .. } => buffer.len(),
        };
        self.0.ticks.fetch_add(1, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(TickOutcome::Sent)
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn close(&self, _: CloseReason) {}
}

impl Hall {
    /// A room of `members` who take binary frames, spread over a square of `side_m` metres. Each turn of the fan-out is
    /// handed to `around`, which has to call it, and may count or time it.
    ///
    /// # Panics
    /// If the room does not take them.
    pub fn new(members: u16, side_m: f32, mut around: impl FnMut(&mut dyn FnMut()) + Send + 'static) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let clock = Arc::new(HandClock(AtomicU64::new(1_700_000_000_000_000)));
        let rooms = RoomDefaults { max_users: usize::from(members), ..RoomDefaults::default() };
        let (store, journal) = (Arc::new(NoStore), Arc::new(NoJournal));
        let config = EngineConfig { cores: 1, rooms, store, journal, clock: clock.clone() };
        let (engine, mut cores) = Engine::new(config, &mut Registry::default());
        let core = cores.pop().expect("there is one");
        runtime.spawn(core.shard.run());
        let mut fanout = Box::pin(core.fanout.run());
        let turns = Arc::new(AtomicUsize::new(0));
        let count = turns.clone();
        runtime.spawn(std::future::poll_fn(move |context| {
            count.fetch_add(1, Ordering::Relaxed);
            let mut turn = Poll::Pending;
            around(&mut || turn = Pin::as_mut(&mut fanout).poll(context));
            turn
        }));
        let sent = Arc::new(Sent::default());
        let mut hall = Self { runtime, engine, clock, turns, sent, sessions: Vec::new(), side_m, step: 0 };
        for first in (0..members).step_by(usize::from(JOINS_AT_ONCE)) {
            for member in first..members.min(first + JOINS_AT_ONCE) {
                hall.enter(member);
            }
            hall.settle();
        }
        // What has been gathered for those who came last goes out as well.
        hall.move_all();
        hall.tick();
        hall
    }

    fn enter(&mut self, member: u16) {
        let user = User {
            id: format!("user_{member:012}").into(),
            socket_id: format!("s{member:019}").into(),
            username: format!("Visitor {member}").into(),
        };
        let outbox = Arc::new(ReadyOutbox(self.sent.clone()));
        let session = self.engine.open_session(user, outbox, 0, Arc::default());
        let join = ClientEvent::parse("join-room", r#"{"roomId":"hall","encoding":"binary"}"#);
        session.handle(join.expect("it is legal").expect("it is known"), Vec::new(), None);
        self.sessions.push(session);
    }

    /// Time goes on by a tick, and what is due is done. A tick that were still going out when the next is due would make the
    /// room slow down.
    fn settle(&self) {
        self.clock.0.fetch_add(TICK.as_micros() as u64, Ordering::Relaxed);
        self.runtime.block_on(async {
            self.engine.settle().await;
            let (mut turns, mut idle) = (0, 0);
            while idle < IDLE_TURNS {
                let before = std::mem::replace(&mut turns, self.turns.load(Ordering::Relaxed));
                idle = if turns == before { idle + 1 } else { 0 };
                yield_now().await;
            }
        });
    }

    /// Everybody moves.
    pub fn move_all(&mut self) {
        self.step += 1;
        for (member, session) in (0..).zip(&self.sessions) {
            session.update_pose(&pose_in_crowd(member, self.step, self.side_m));
        }
    }

    /// One tick, until every viewer has its share. Gives the bytes of all shares.
    ///
    /// # Panics
    /// If somebody gets nothing, because nobody has moved.
    pub fn tick(&mut self) -> usize {
        let ticks = self.sent.ticks.load(Ordering::Relaxed);
        let bytes = self.sent.bytes.load(Ordering::Relaxed);
        self.settle();
        let shares = self.sent.ticks.load(Ordering::Relaxed) - ticks;
        assert_eq!(shares, self.sessions.len(), "everybody gets a share");
        self.sent.bytes.load(Ordering::Relaxed) - bytes
    }

    /// Everybody's next pose as the bytes that a client sends, in JSON or binary.
    pub fn frames(&mut self, is_binary: bool) -> Vec<Vec<u8>> {
        self.step += 1;
        let poses =
            (0..self.sessions.len() as u16).map(|member| pose_in_crowd(member, self.step, self.side_m));
        poses.map(|pose| if is_binary { binary_frames(&pose) } else { json_frame(&pose) }).collect()
    }

    /// Does with everybody's `frames` what a connection does with what it reads, and gives how many poses these were.
    pub fn take(&self, frames: &mut [Vec<u8>]) -> usize {
        let takes = |(session, frames): (&Arc<Session>, &mut Vec<u8>)| take(session, frames);
        self.sessions.iter().zip(frames).filter_map(takes).count()
    }
}

/// As the server does it: a stock pose is known by its first bytes, one in an attachment by the text before it.
fn take(session: &Arc<Session>, frames: &mut [u8]) -> Option<()> {
    let mut reader = Reader::new(1 << 20);
    let mut at = 0;
    while at < frames.len() {
        let Ok(Step::Frame(bytes, Some(message))) = reader.step(&mut frames[at..]) else { return None };
        match message {
            Message::Text(ENCODED_POSE) => {}
            Message::Text(text) => {
                let payload = text.strip_prefix(POSE_PREFIX)?.strip_suffix(']')?;
                session.update_pose(&Pose::from_json(payload).ok()?);
            }
            Message::Binary(attachment) => {
                let pose = decode_pose(attachment).ok()?;
                pose.validate().ok()?;
                session.update_pose(&pose);
            }
            _ => return None,
        }
        at += bytes;
    }
    Some(())
}

fn json_frame(pose: &Pose) -> Vec<u8> {
    let mut text = format!("{POSE_PREFIX}{{").into_bytes();
    pose.write_json_members(&mut text);
    text.extend_from_slice(b"}]");
    masked(OPCODE_TEXT, &text)
}

fn binary_frames(pose: &Pose) -> Vec<u8> {
    let mut attachment = Vec::new();
    encode_pose(pose, &mut attachment);
    let mut frames = masked(OPCODE_TEXT, ENCODED_POSE.as_bytes());
    frames.extend(masked(OPCODE_BINARY, &attachment));
    frames
}

/// A WebSocket frame as browsers send it.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x4f, 0xa3, 0x17, 0xd8];
    let length = payload.len() as u16;
    let mut frame = match length {
        0..=125 => vec![0x80 | opcode, 0x80 | length as u8],
        _ => [&[0x80 | opcode, 0x80 | 126][..], &length.to_be_bytes()].concat(),
    };
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_reaches_every_viewer() {
        let turns = Arc::new(AtomicUsize::new(0));
        let counter = turns.clone();
        let mut hall = Hall::new(100, 20.0, move |turn| {
            counter.fetch_add(1, Ordering::Relaxed);
            turn();
        });
        for is_binary in [false, true] {
            let mut frames = hall.frames(is_binary);
            assert_eq!(hall.take(&mut frames), 100);
            let before = turns.load(Ordering::Relaxed);
            let bytes = hall.tick();
            assert!(bytes > 100 * 100 * 13 / 2, "{bytes} bytes for 100 viewers of 100");
            assert!(turns.load(Ordering::Relaxed) > before, "the fan-out's turns are handed over");
        }
    }
}
