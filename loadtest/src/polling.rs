//! Engine.IO over HTTP long polling: one request waits for packets, another brings ours, and both start anew when they
//! have been answered.
//!
//! Each session has two connections that stay open, as a browser would have them, and two small tasks. What has come
//! goes to the session as whole bodies; what is to be sent waits in the [`Outbox`] while a request is on its way, and
//! that waiting counts into the age of a pose like any other.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::http::{Answer, Requests, Target};
use crate::websocket::opcode;

/// Where a session is opened; its id follows in later requests.
const PATH: &str = "/socket.io/?EIO=4&transport=polling";
/// What stands between two packets of a body.
const SEPARATOR: u8 = 0x1E;
/// What a binary packet begins with, before its Base64.
const BINARY: u8 = b'b';
/// Bytes that may wait to be sent. Poses are left out while more than [`VOLATILE_BYTES_MAX`] wait; a session with more
/// than this ends.
const OUTBOX_BYTES_MAX: usize = 64 * 1024;
/// A server that answers a request only after this many bytes of poses does not read.
const VOLATILE_BYTES_MAX: usize = 16 * 1024;
/// Bodies that wait for the session to look at them. The next request is made when there is room.
const BODIES: usize = 1;

/// What one request has brought.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) packets: Bytes,
    /// Bytes of the whole answer, its headers included.
    pub(crate) wire_bytes: usize,
}

/// The way in of a session that polls. Its requests end when this goes.
#[derive(Debug)]
pub(crate) struct Polling {
    pub(crate) bodies: mpsc::Receiver<Result<Body, String>>,
    _tasks: JoinSet<()>,
}

/// The way out: packets that wait for the next request.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: RefCell<Vec<u8>>,
    filled: Notify,
    /// Whether a request is on its way.
    busy: Cell<bool>,
    broken: Cell<bool>,
}

impl Outbox {
    /// Whether the server has answered for everything that was to be sent.
    pub(crate) fn is_idle(&self) -> bool {
        !self.busy.get() && self.waiting.borrow().is_empty()
    }

    /// Puts packets behind those that wait, all or none. `false` if they may be left out and too much waits already.
    ///
    /// # Errors
    /// If the session is broken, or the server takes nothing.
    pub(crate) fn push(&self, packets: &[(u8, &[u8])], volatile: bool) -> io::Result<bool> {
        if self.broken.get() {
            return Err(io::Error::other("the session's requests fail"));
        }
        let mut waiting = self.waiting.borrow_mut();
        if volatile && waiting.len() > VOLATILE_BYTES_MAX {
            return Ok(false);
        }
        let more: usize = packets.iter().map(|(_, payload)| payload.len()).sum();
        if waiting.len() + more > OUTBOX_BYTES_MAX {
            return Err(io::Error::other("the server does not read"));
        }
        for (kind, payload) in packets {
            if !waiting.is_empty() {
                waiting.push(SEPARATOR);
            }
            if *kind == opcode::BINARY {
                waiting.push(BINARY);
                waiting.extend_from_slice(BASE64.encode(payload).as_bytes());
            } else {
                waiting.extend_from_slice(payload);
            }
        }
        self.filled.notify_one();
        Ok(true)
    }
}

/// Opens a session and keeps asking for what comes. The first body holds Engine.IO's handshake. Needs a `LocalSet`.
///
/// # Errors
/// If the server does not answer as Engine.IO does.
pub(crate) async fn open(target: &Target) -> Result<(Rc<Outbox>, Polling)> {
    #[derive(Deserialize)]
    struct Handshake {
        sid: String,
    }
    let mut asking = target.connect().await?;
    let telling = target.connect().await?;
    let answer = asking.get(PATH).await?;
    ensure!(answer.status.is_success(), "the polling handshake answered {}", answer.status);
    let handshake = answer.body.strip_prefix(b"0").and_then(|json| {
        let json = json.split(|byte| *byte == SEPARATOR).next()?;
        serde_json::from_slice::<Handshake>(json).ok()
    });
    let path = format!("{PATH}&sid={}", handshake.context("the polling handshake has no id")?.sid);
    let (found, bodies) = mpsc::channel(BODIES);
    found.try_send(Ok(answer.into())).expect("it is empty");
    let outbox = Rc::new(Outbox::default());
    let mut tasks = JoinSet::new();
    tasks.spawn_local(ask(asking, path.clone(), found.clone()));
    tasks.spawn_local(tell(telling, path, outbox.clone(), found));
    Ok((outbox, Polling { bodies, _tasks: tasks }))
}

impl From<Answer> for Body {
    fn from(answer: Answer) -> Self {
        Self { wire_bytes: answer.wire_bytes, packets: answer.body }
    }
}

/// Asks again and again, and passes on what comes.
async fn ask(mut requests: Requests, path: String, found: mpsc::Sender<Result<Body, String>>) {
    loop {
        let outcome = match requests.get(&path).await {
            Ok(answer) if answer.status.is_success() => Ok(answer.into()),
            Ok(answer) => Err(format!("a poll answered {}", answer.status)),
            Err(error) => Err(format!("a poll failed: {error:#}")),
        };
        let over = outcome.is_err();
        if found.send(outcome).await.is_err() || over {
            return;
        }
    }
}

/// Sends what waits, as soon as the request before has been answered.
async fn tell(
    mut requests: Requests,
    path: String,
    outbox: Rc<Outbox>,
    found: mpsc::Sender<Result<Body, String>>,
) {
    loop {
        outbox.filled.notified().await;
        let body = std::mem::take(&mut *outbox.waiting.borrow_mut());
        if body.is_empty() {
            continue;
        }
        outbox.busy.set(true);
        let posted = post(&mut requests, &path, body).await;
        outbox.busy.set(false);
        if let Err(error) = posted {
            outbox.broken.set(true);
            let _ = found.send(Err(format!("{error:#}"))).await;
            return;
        }
    }
}

async fn post(requests: &mut Requests, path: &str, body: Vec<u8>) -> Result<()> {
    let answer = requests.post(path, body).await.context("a POST failed")?;
    if !answer.status.is_success() {
        bail!("a POST answered {}", answer.status);
    }
    Ok(())
}

/// Calls `each` with the packets of a body: opcode and payload, as a WebSocket would have brought them.
///
/// # Errors
/// Those of `each`, and what is wrong with the body.
pub(crate) fn split<E: From<&'static str>>(
    body: &[u8],
    mut each: impl FnMut(u8, &[u8]) -> Result<(), E>,
) -> Result<u64, E> {
    let mut count = 0;
    for packet in body.split(|byte| *byte == SEPARATOR) {
        count += 1;
        match packet {
            [BINARY, base64 @ ..] => {
                let bytes = BASE64.decode(base64).map_err(|_| E::from("binary that is not Base64"))?;
                each(opcode::BINARY, &bytes)?;
            }
            text => each(opcode::TEXT, text)?,
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_split_again() {
        let outbox = Outbox::default();
        let packets: [(u8, &[u8]); 3] =
            [(opcode::TEXT, b"42[\"a\"]"), (opcode::BINARY, &[0, 0x1E, 255]), (opcode::TEXT, b"3")];
        assert!(outbox.is_idle());
        assert!(outbox.push(&packets, false).unwrap());
        assert!(!outbox.is_idle());
        let mut found = Vec::new();
        let body = outbox.waiting.borrow().clone();
        let count = split(&body, |kind, payload| {
            found.push((kind, payload.to_vec()));
            Ok::<_, String>(())
        });
        assert_eq!(count, Ok(3));
        let expected: Vec<_> = packets.iter().map(|(kind, payload)| (*kind, payload.to_vec())).collect();
        assert_eq!(found, expected);
        assert!(split(b"b!", |_, _| Ok::<_, String>(())).is_err());
    }

    #[test]
    fn poses_are_left_out_while_too_much_waits_and_a_session_that_waits_for_more_ends() {
        let outbox = Outbox::default();
        let large = vec![b'4'; VOLATILE_BYTES_MAX + 1];
        assert!(outbox.push(&[(opcode::TEXT, &large)], true).unwrap());
        assert!(!outbox.push(&[(opcode::TEXT, b"4")], true).unwrap());
        assert!(outbox.push(&[(opcode::TEXT, b"4")], false).unwrap());
        assert!(outbox.push(&[(opcode::TEXT, &vec![b'4'; OUTBOX_BYTES_MAX])], false).is_err());
    }
}
