//! A client that listens: one session whose events are looked at one by one. Scenarios are played by these; for great
//! numbers there are [`crate::session`]s, which are far cheaper and judge poses only.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use protocol::{Packet, PacketKind};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

use crate::http::Target;
use crate::options::Transport;
use crate::polling::{self, Polling};
use crate::sender::{Sender, Way};
use crate::session::SOCKETIO_PATH;
use crate::websocket::{opcode, read_frame};

/// Bytes that are read at a time, and how many frames' bytes a client may hold that are not whole.
const READ_BYTES: usize = 16 * 1024;

/// How long a session that polls may take to end.
const GOING: Duration = Duration::from_secs(5);

/// What comes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Incoming {
    /// An event: its name, and the text of its arguments, comma-separated.
    Event(String, String),
    /// The answer to what was asked with this id, and the text of its arguments.
    Ack(u64, String),
    /// Socket.IO's CONNECT, with our id; or why not.
    Connected(Result<String, String>),
    /// A WebSocket's pong, or an Engine.IO packet that is of no interest.
    Other,
}

/// The first argument of an event or an ack, if it is of that form.
pub(crate) fn first<'a, T: Deserialize<'a>>(args: &'a str) -> Option<T> {
    T::deserialize(&mut serde_json::Deserializer::from_str(args)).ok()
}

/// Whether an ack says `ok: true`; or else its code.
pub(crate) fn granted(args: &str) -> Result<(), String> {
    let ack: Value = first(args).unwrap_or_default();
    match ack["ok"].as_bool() {
        Some(true) => Ok(()),
        _ => Err(ack["error"]["code"].as_str().unwrap_or("no code").to_owned()),
    }
}

#[derive(Debug)]
enum Link {
    Socket(OwnedReadHalf),
    Polling(Polling),
}

/// One session.
#[derive(Debug)]
pub(crate) struct Client {
    sender: Rc<Sender>,
    link: Link,
    buffer: Vec<u8>,
    waiting: VecDeque<Incoming>,
    /// Binary messages that belong to an event whose text has come, and are left out.
    attachments: usize,
    next_ack: u64,
    /// The session's id, which is its `socketId` in a room.
    pub(crate) id: String,
}

impl Client {
    /// Connects, with `token` if the server wants one. `buffer_bytes` is about how much the kernel takes that this does
    /// not read; its own choice if absent.
    ///
    /// # Errors
    /// Why that is not possible.
    pub(crate) async fn connect(
        target: &Target,
        transport: Transport,
        token: Option<&str>,
        buffer_bytes: Option<u32>,
    ) -> Result<Self> {
        let (way, link, first) = match transport {
            Transport::Websocket => {
                let (stream, first) = match buffer_bytes {
                    Some(bytes) => target.open_small_websocket(SOCKETIO_PATH, bytes).await?,
                    None => target.open_websocket(SOCKETIO_PATH).await?,
                };
                let (socket, write_half) = stream.into_split();
                (Way::Socket(write_half), Link::Socket(socket), first)
            }
            Transport::Polling => {
                let (outbox, polling) = polling::open(target).await?;
                (Way::Polling(outbox), Link::Polling(polling), Default::default())
            }
        };
        let mut client = Self {
            sender: Rc::new(Sender::new(0, way)),
            link,
            buffer: first.to_vec(),
            waiting: VecDeque::new(),
            attachments: 0,
            next_ack: 0,
            id: String::new(),
        };
        client.take_frames().map_err(anyhow::Error::msg)?;
        // Engine.IO's handshake comes first.
        while !matches!(client.next().await.map_err(anyhow::Error::msg)?, Incoming::Other) {}
        let connect = match token {
            Some(token) => format!("40{}", serde_json::json!({ "token": token })),
            None => "40".to_owned(),
        };
        client.sender.send(opcode::TEXT, connect.as_bytes())?;
        loop {
            match client.next().await.map_err(anyhow::Error::msg)? {
                Incoming::Connected(Ok(id)) => client.id = id,
                Incoming::Connected(Err(reason)) => bail!("CONNECT was refused: {reason}"),
                _ => continue,
            }
            return Ok(client);
        }
    }

    /// The way out.
    pub(crate) fn sender(&self) -> &Rc<Sender> {
        &self.sender
    }

    /// Sends an event.
    ///
    /// # Errors
    /// If the session has ended.
    pub(crate) fn emit(&self, event: &str, payload: &Value) -> Result<(), String> {
        self.say(&format!("42{}", event_text(event, payload)))
    }

    /// Sends an event that wants an answer, and gives the answer's id.
    ///
    /// # Errors
    /// If the session has ended.
    pub(crate) fn ask(&mut self, event: &str, payload: &Value) -> Result<u64, String> {
        let id = self.next_ack;
        self.next_ack += 1;
        self.say(&format!("42{id}{}", event_text(event, payload)))?;
        Ok(id)
    }

    /// Sends a text as it is, Engine.IO's type in front.
    ///
    /// # Errors
    /// If the session has ended.
    pub(crate) fn say(&self, text: &str) -> Result<(), String> {
        self.sender.send(opcode::TEXT, text.as_bytes()).map_err(|error| format!("writing failed: {error}"))
    }

    /// Sends an event and waits for its answer. What comes meanwhile is kept.
    ///
    /// # Errors
    /// If the session ends.
    pub(crate) async fn call(&mut self, event: &str, payload: &Value) -> Result<String, String> {
        let id = self.ask(event, payload)?;
        let found = |incoming: &Incoming| match incoming {
            Incoming::Ack(of, args) if *of == id => Some(args.clone()),
            _ => None,
        };
        self.wait(found).await
    }

    /// Joins a room and gives the argument of `room-users`. What comes before that is left out: it says less.
    ///
    /// # Errors
    /// If the session ends, or the server refuses.
    pub(crate) async fn join(&mut self, room: &str) -> Result<String, String> {
        self.emit("join-room", &serde_json::json!({ "roomId": room }))?;
        loop {
            match self.next().await? {
                Incoming::Event(name, args) if name == "room-users" => return Ok(args),
                Incoming::Event(name, args) if name == "error" => return Err(format!("join-room: {args}")),
                _ => {}
            }
        }
    }

    /// Waits until something comes that `found` takes, and keeps all else.
    async fn wait<T>(&mut self, found: impl Fn(&Incoming) -> Option<T>) -> Result<T, String> {
        let mut others = VecDeque::new();
        let outcome = loop {
            match self.next().await {
                Ok(incoming) => match found(&incoming) {
                    Some(wanted) => break Ok(wanted),
                    None => others.push_back(incoming),
                },
                Err(reason) => break Err(reason),
            }
        };
        others.append(&mut self.waiting);
        self.waiting = others;
        outcome
    }

    /// What comes next. Dropping this future loses nothing.
    ///
    /// # Errors
    /// Why the session has ended.
    pub(crate) async fn next(&mut self) -> Result<Incoming, String> {
        loop {
            if let Some(incoming) = self.waiting.pop_front() {
                return Ok(incoming);
            }
            match &mut self.link {
                Link::Socket(socket) => {
                    self.buffer.reserve(READ_BYTES);
                    let read = socket.read_buf(&mut self.buffer).await;
                    if read.map_err(|error| format!("reading failed: {error}"))? == 0 {
                        return Err("the server closed the connection".to_owned());
                    }
                    self.take_frames()?;
                }
                Link::Polling(polling) => {
                    let body = polling.bodies.recv().await;
                    let body = body.unwrap_or_else(|| Err("polling has ended".to_owned()))?;
                    polling::split::<String>(&body.packets, |kind, payload| self.take(kind, payload))?;
                }
            }
        }
    }

    /// Goes without a word to the room. A connection just ends; a session that polls has none, and must say so.
    pub(crate) fn hang_up(mut self) {
        if matches!(self.link, Link::Polling(_)) && self.say("1").is_ok() {
            tokio::task::spawn_local(tokio::time::timeout(GOING, async move {
                while self.next().await.is_ok() {}
            }));
        }
    }

    /// Reads at most `bytes` and throws them away; for those who read slowly.
    ///
    /// # Errors
    /// Why the session has ended.
    pub(crate) async fn waste(&mut self, bytes: usize) -> Result<(), String> {
        let Link::Socket(socket) = &mut self.link else { return Err("only sockets are read slowly".into()) };
        let mut buffer = vec![0; bytes];
        match socket.read(&mut buffer).await {
            Ok(0) => Err("the server closed the connection".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("reading failed: {error}")),
        }
    }

    fn take_frames(&mut self) -> Result<(), String> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut used = 0;
        while let Some(frame) = read_frame(&buffer[used..])? {
            used += frame.bytes;
            self.take(frame.opcode, frame.payload)?;
        }
        self.buffer = buffer;
        self.buffer.drain(..used);
        Ok(())
    }

    fn take(&mut self, kind: u8, payload: &[u8]) -> Result<(), String> {
        match kind {
            opcode::TEXT => {
                let text = std::str::from_utf8(payload).map_err(|_| "text that is not UTF-8".to_owned())?;
                self.take_text(text)?;
            }
            opcode::BINARY if self.attachments == 0 => {
                return Err("a binary message that nothing announced".into());
            }
            opcode::BINARY => self.attachments -= 1,
            opcode::PING => self.sender.send(opcode::PONG, payload).map_err(|error| error.to_string())?,
            opcode::CLOSE => return Err("the server closed the WebSocket".to_owned()),
            _ => self.waiting.push_back(Incoming::Other),
        }
        Ok(())
    }

    fn take_text(&mut self, text: &str) -> Result<(), String> {
        let Some(packet) = text.strip_prefix('4') else {
            match text.as_bytes().first() {
                Some(b'1') => return Err("the server closed the Engine.IO session".to_owned()),
                Some(b'2') => self.say("3")?,
                _ => self.waiting.push_back(Incoming::Other),
            }
            return Ok(());
        };
        let packet = Packet::decode_header(packet).map_err(|error| format!("a packet is wrong: {error}"))?;
        self.attachments = packet.attachments;
        let incoming = match packet.kind {
            PacketKind::Connect => Incoming::Connected(Ok(sid(text).unwrap_or_default())),
            PacketKind::ConnectError => Incoming::Connected(Err(text.to_owned())),
            PacketKind::Disconnect => return Err("the server ended the session".to_owned()),
            PacketKind::Event | PacketKind::BinaryEvent => {
                let event = packet.event().map_err(|error| format!("an event is wrong: {error}"))?;
                Incoming::Event(event.name.to_string(), event.args.to_owned())
            }
            PacketKind::Ack | PacketKind::BinaryAck => {
                let args = packet.ack_args().map_err(|error| format!("an ack is wrong: {error}"))?;
                Incoming::Ack(packet.id.unwrap_or(u64::MAX), args.to_owned())
            }
        };
        self.waiting.push_back(incoming);
        Ok(())
    }
}

fn sid(connected: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Connected {
        sid: String,
    }
    let json = &connected[connected.find('{')?..];
    serde_json::from_str::<Connected>(json).ok().map(|connected| connected.sid)
}

fn event_text(event: &str, payload: &Value) -> String {
    match payload {
        Value::Null => serde_json::json!([event]).to_string(),
        payload => serde_json::json!([event, payload]).to_string(),
    }
}
