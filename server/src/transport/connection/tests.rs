//! The clock is paused: it moves only when nothing else can happen.

use std::sync::atomic::AtomicUsize;

use engine::ports::{Outbox, OutboxError, TickOutcome, TickView};
use tokio::runtime::Handle;

use protocol::packet::Event;

use super::*;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_millis(ATTACHMENT_TIMEOUT_MS);

/// A packet whose attachment is taken where it lies.
const ANNOUNCED: &str = r#"51-["short",{"_placeholder":true,"num":0}]"#;

/// Lets everybody in and counts.
#[derive(Default)]
struct Counter {
    events: AtomicUsize,
    announced: AtomicUsize,
    broken: Mutex<Vec<String>>,
}

impl Application for Counter {
    type Session = ();

    fn connect(&self, _: &str, _: Option<&str>, _: &Link) -> Result<Accepted<()>, Refused> {
        Ok(Accepted { session: (), sid: "x".to_owned() })
    }

    fn announces(&self, text: &str) -> bool {
        text == ANNOUNCED
    }

    fn attachment(&self, _: &Arc<()>, attachment: &[u8]) {
        assert_eq!(attachment, b"attachment");
        self.announced.fetch_add(1, Ordering::SeqCst);
    }

    fn event(&self, _: &Arc<()>, _: &Event<'_>, attachments: Vec<Bytes>, _: Option<u64>) {
        self.events.fetch_add(attachments.len(), Ordering::SeqCst);
    }

    fn disconnected(&self, _: &Arc<()>) {}

    fn broken(&self, error: &ConnectionError) {
        self.broken.lock().unwrap().push(error.to_string());
    }
}

/// Takes everything and sends nothing.
struct Nowhere;

impl Outbox for Nowhere {
    fn send(&self, _: &Outgoing) -> Result<(), OutboxError> {
        Ok(())
    }

    fn send_tick(&self, _: &TickView<'_>) -> Result<TickOutcome, OutboxError> {
        Ok(TickOutcome::Sent)
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn close(&self, _: CloseReason) {}
}

/// A connection to `/` whose CONNECT time-out is over.
async fn open() -> (Arc<Counter>, Arc<Connection<Counter>>) {
    let app = Arc::new(Counter::default());
    let link = Link::new(Arc::new(Nowhere), "".into(), 0);
    let connection = Connection::open(app.clone(), link, CONNECT_TIMEOUT);
    connection.handle_text("0");
    pass(CONNECT_TIMEOUT * 2).await;
    assert_eq!(tasks(), 0);
    (app, connection)
}

/// Lets time pass: whoever was about to wait does so first, and whoever waited does then what it waited to do.
async fn pass(duration: Duration) {
    let settle = async || {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    };
    settle().await;
    tokio::time::advance(duration).await;
    settle().await;
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

fn announce(connection: &Arc<Connection<Counter>>) {
    connection.handle_text(r#"51-["x",{"_placeholder":true,"num":0}]"#);
}

fn complete(connection: &Arc<Connection<Counter>>) {
    connection.handle_binary(b"attachment");
}

#[tokio::test(start_paused = true)]
async fn one_task_watches_all_binary_packets_of_a_connection_and_ends() {
    let (app, connection) = open().await;
    for _ in 0..100 {
        announce(&connection);
        complete(&connection);
        tokio::task::yield_now().await;
        announce(&connection);
        tokio::task::yield_now().await;
        assert_eq!(tasks(), 1);
        complete(&connection);
    }
    assert_eq!(app.events.load(Ordering::SeqCst), 200);
    pass(TIMEOUT * 2).await;
    assert_eq!(tasks(), 0, "nothing is waiting");
    assert!(app.broken.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn attachments_are_due_from_their_own_packet_on() {
    let (app, connection) = open().await;
    announce(&connection);
    pass(TIMEOUT / 2).await;
    complete(&connection);
    announce(&connection);
    // By now the first packet would be due, were it still waiting.
    pass(TIMEOUT * 9 / 10).await;
    assert!(app.broken.lock().unwrap().is_empty());
    pass(TIMEOUT / 5).await;
    assert_eq!(*app.broken.lock().unwrap(), ["attachments did not come in time"]);
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_a_watch_has_ended_the_next_packet_is_watched_again() {
    let (app, connection) = open().await;
    announce(&connection);
    complete(&connection);
    pass(TIMEOUT * 2).await;
    assert_eq!(tasks(), 0);
    announce(&connection);
    pass(TIMEOUT * 2).await;
    assert_eq!(app.broken.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_announced_attachment_is_taken_where_it_lies() {
    let (app, connection) = open().await;
    for round in 1..=3 {
        connection.handle_text(ANNOUNCED);
        complete(&connection);
        assert_eq!(app.announced.load(Ordering::SeqCst), round);
        // Others take the usual way.
        announce(&connection);
        complete(&connection);
        assert_eq!(app.events.load(Ordering::SeqCst), round);
    }
    pass(TIMEOUT * 2).await;
    assert_eq!(tasks(), 0, "nothing is waiting");
    assert!(app.broken.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_announced_attachment_must_come_next_and_in_time() {
    let (app, connection) = open().await;
    connection.handle_text(ANNOUNCED);
    pass(TIMEOUT * 2).await;
    assert_eq!(*app.broken.lock().unwrap(), ["attachments did not come in time"]);
    for text in [ANNOUNCED, r#"2["short"]"#] {
        let (app, connection) = open().await;
        connection.handle_text(ANNOUNCED);
        connection.handle_text(text);
        assert_eq!(
            *app.broken.lock().unwrap(),
            ["a text packet between a binary packet and its attachments"]
        );
    }
}
