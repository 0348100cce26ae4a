//! Real connections over loopback; what one read brings is given as the bytes that came with the request.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use protocol::Outgoing;
use protocol::websocket::{OPCODE_PING, OPCODE_PONG};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::*;

const TIMES: Times = Times { ping_interval_ms: 60_000, ping_timeout_ms: 60_000 };

/// Longer than anything here takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers every text with the same; panics at "panic".
#[derive(Default)]
struct Ear {
    heard: AtomicUsize,
    closed: AtomicUsize,
    /// For each text, whether its answer was still queued after it had been flushed.
    held_back: Mutex<Vec<bool>>,
}

impl Upper for Ear {
    type Connection = Link;

    fn open(&self, link: Link) -> Arc<Link> {
        Arc::new(link)
    }

    fn text(&self, link: &Arc<Link>, text: &str) {
        self.heard.fetch_add(1, Ordering::SeqCst);
        assert_ne!(text, "panic");
        link.outbox.send(&Outgoing::message(text)).unwrap();
        link.outbox.flush();
        self.held_back.lock().unwrap().push(!link.outbox.is_idle());
    }

    fn binary(&self, _: &Arc<Link>, _: &[u8]) {}

    fn closed(&self, _: &Arc<Link>) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

struct Client {
    tcp: TcpStream,
    ear: Arc<Ear>,
    task: JoinHandle<()>,
}

impl Client {
    /// A client of which `early` has come before anything is read. It has read the handshake.
    async fn open(early: Vec<u8>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tcp, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let stream = Stream::new(accepted.unwrap().0, permit).unwrap();
        let ear = Arc::new(Ear::default());
        let upper = ear.clone();
        let task = tokio::spawn(async move {
            drive(stream, early.into(), upper, "".into(), TIMES, &Arc::default()).await;
        });
        let mut client = Self { tcp: tcp.unwrap(), ear, task };
        assert_eq!(client.frame().await.0, OPCODE_TEXT);
        client
    }

    /// The next frame's opcode and payload, of fewer than 64 KiB.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let [first, second] = [self.tcp.read_u8().await.unwrap(), self.tcp.read_u8().await.unwrap()];
            let bytes = match second {
                126 => usize::from(self.tcp.read_u16().await.unwrap()),
                short => usize::from(short),
            };
            let mut payload = vec![0; bytes];
            self.tcp.read_exact(&mut payload).await.unwrap();
            (first & 0x0f, payload)
        };
        tokio::time::timeout(PATIENCE, read).await.expect("a frame comes")
    }
}

/// A client's frame, masked with zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let bytes = u8::try_from(payload.len()).ok().filter(|bytes| *bytes < 126).unwrap();
    [&[0x80 | opcode, 0x80 | bytes, 0, 0, 0, 0], payload].concat()
}

fn text(message: &str) -> Vec<u8> {
    frame(OPCODE_TEXT, format!("4{message}").as_bytes())
}

#[tokio::test]
async fn of_many_pings_in_one_read_the_newest_is_answered() {
    let pings = (0..100).flat_map(|n| frame(OPCODE_PING, &[n]));
    let mut client = Client::open(pings.chain(text("last")).collect()).await;
    let mut answers = [client.frame().await, client.frame().await];
    answers.sort();
    assert_eq!(answers, [(OPCODE_TEXT, b"4last".to_vec()), (OPCODE_PONG, vec![99])]);
    // A ping that comes alone is answered as ever, with what it carries.
    client.tcp.write_all(&frame(OPCODE_PING, b"alone")).await.unwrap();
    assert_eq!(client.frame().await, (OPCODE_PONG, b"alone".to_vec()));
}

#[tokio::test]
async fn answers_to_one_read_leave_together_and_the_answer_to_one_message_at_once() {
    let mut client = Client::open([text("a"), text("b"), text("c")].concat()).await;
    for answer in ["4a", "4b", "4c"] {
        assert_eq!(client.frame().await.1, answer.as_bytes());
    }
    client.tcp.write_all(&text("d")).await.unwrap();
    assert_eq!(client.frame().await.1, b"4d");
    assert_eq!(*client.ear.held_back.lock().unwrap(), [true, true, true, false]);
}

#[tokio::test]
async fn a_flood_lets_others_go_on() {
    const FRAMES: usize = 20 * FRAMES_PER_WAKE;
    let client = Client::open(Vec::new()).await;
    let (ear, mut tcp) = (client.ear.clone(), client.tcp);
    let flood = tokio::spawn(async move {
        tcp.write_all(&text("x").repeat(FRAMES)).await.unwrap();
        // The answers need not be read; the connection stays open until all has been heard.
        tcp
    });
    let others = async {
        let mut before = 0;
        while before < FRAMES {
            tokio::task::yield_now().await;
            let heard = ear.heard.load(Ordering::SeqCst);
            assert!(heard - before <= FRAMES_PER_WAKE, "{} frames without a break", heard - before);
            before = heard;
        }
    };
    tokio::time::timeout(PATIENCE, others).await.expect("the flood is heard to its end");
    drop(flood.await.unwrap());
}

#[tokio::test]
async fn a_flood_that_came_with_the_request_lets_others_go_on_too() {
    const FRAMES: usize = 5 * FRAMES_PER_WAKE + 3;
    let mut client = Client::open(text("x").repeat(FRAMES)).await;
    // The handshake can only be read once the flood has paused.
    assert!(client.ear.heard.load(Ordering::SeqCst) < FRAMES);
    for _ in 0..FRAMES {
        assert_eq!(client.frame().await.1, b"4x");
    }
}

#[tokio::test]
async fn a_frame_in_pieces_is_put_together_and_what_follows_it_is_heard() {
    let whole = "y".repeat(100);
    let mut client = Client::open(text(&whole)[..1].to_vec()).await;
    let rest = [&text(&whole)[1..], &text("z")[..]].concat();
    for piece in rest.chunks(9) {
        client.tcp.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(client.frame().await.1, format!("4{whole}").as_bytes());
    assert_eq!(client.frame().await.1, b"4z");
}

#[tokio::test]
async fn a_panic_above_closes_the_connection_and_is_told_above() {
    let mut client = Client::open([text("a"), text("panic"), text("b")].concat()).await;
    assert_eq!(client.frame().await.1, b"4a");
    assert_eq!(client.frame().await, (0x8, INTERNAL_ERROR.to_be_bytes().to_vec()));
    drop(client.tcp);
    tokio::time::timeout(PATIENCE, client.task).await.expect("the connection ends").unwrap();
    assert_eq!(client.ear.heard.load(Ordering::SeqCst), 2);
    assert_eq!(client.ear.closed.load(Ordering::SeqCst), 1);
}
