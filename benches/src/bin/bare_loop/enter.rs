//! From the TCP connection to the room: what `loadtest` and Socket.IO's clients want to hear before poses come.
//!
//! Nothing here is measured, so it is written to be short.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::outgoing::{OPCODE_TEXT, frame_header};
use protocol::websocket::{Message, Reader, Step};
use protocol::{Outgoing, Packet, PacketKind};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::connection;

/// The longest message that is taken before the room is reached.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How long somebody may take from connecting to joining.
const ENTRY_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes that are read at once until then.
const READ_BYTES: usize = 4 * 1024;

/// What a connection has to know to get in.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) join: mpsc::Sender<OwnedWriteHalf>,
    pub(crate) hz: u32,
}

impl Entry {
    /// Answers requests until one becomes a WebSocket, lets its client in, and reads from it to its end.
    ///
    /// # Errors
    /// Why it did not get in.
    pub(crate) async fn take(self, tcp: TcpStream, _permit: OwnedSemaphorePermit) -> Result<()> {
        // As at the server: a tick is one small write that must leave at once.
        tcp.set_nodelay(true)?;
        let (tell, mut upgrades) = mpsc::channel(1);
        let answer = service_fn(|mut request: Request<Incoming>| {
            let response = respond(&request);
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                // A connection is upgraded once.
                let _ = tell.try_send(hyper::upgrade::on(&mut request));
            }
            async { Ok::<_, Infallible>(response) }
        });
        let http = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(tcp), answer)
            .with_upgrades();
        tokio::time::timeout(ENTRY_TIMEOUT, http).await??;
        let Ok(upgrade) = upgrades.try_recv() else { return Ok(()) };
        let (input, early) = tokio::time::timeout(ENTRY_TIMEOUT, self.enter(upgrade)).await??;
        connection::read_to_end(input, &early).await;
        Ok(())
    }

    /// Greets the client, waits until it has joined, and hands the way to it over to the tick. Gives the way from it
    /// and what it has said meanwhile.
    async fn enter(self, upgrade: OnUpgrade) -> Result<(OwnedReadHalf, Vec<u8>)> {
        let parts = upgrade.await?.downcast::<TokioIo<TcpStream>>();
        let parts = parts.ok().context("the connection is of another type")?;
        let (mut input, mut output) = parts.io.into_inner().into_split();
        let open = json!({
            "sid": "bare", "upgrades": [], "pingInterval": 25_000, "pingTimeout": 20_000, "maxPayload": 1_000_000,
        });
        output.write_all(&text_frame(&format!("0{open}"))).await?;
        let mut came = parts.read_buf.to_vec();
        let mut reader = Reader::new(MESSAGE_BYTES_MAX);
        loop {
            match reader.step(&mut came)? {
                Step::Frame(used, message) => {
                    let joins = match message {
                        Some(Message::Text(text)) => answer(text, self.hz, &mut output).await?,
                        _ => false,
                    };
                    came.drain(..used);
                    if joins {
                        self.join.send(output).await.ok().context("the tick has ended")?;
                        return Ok((input, came));
                    }
                }
                Step::Incomplete(_) => {
                    ensure!(came.len() <= MESSAGE_BYTES_MAX + READ_BYTES, "a client says too much");
                    let mut buffer = [0; READ_BYTES];
                    let count = input.read(&mut buffer).await?;
                    ensure!(count > 0, "the client is gone");
                    came.extend_from_slice(&buffer[..count]);
                }
            }
        }
    }
}

/// Switches to WebSocket, logs anybody in, and makes any room.
fn respond(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        return response;
    }
    let answer = match (request.method(), request.uri().path()) {
        (&Method::POST, "/api/auth/login") => {
            json!({ "token": "bare", "userId": "bare", "username": "bare" })
        }
        (&Method::POST, "/api/rooms") => json!({ "id": "bare", "created": 0 }),
        _ => {
            *response.status_mut() = StatusCode::NOT_FOUND;
            json!({ "error": "the bare loop has no such thing" })
        }
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = answer.to_string().into();
    response
}

/// Answers what a client says before it is in the room. `true` if it asks to be let in.
async fn answer(text: &str, hz: u32, output: &mut OwnedWriteHalf) -> Result<bool> {
    let Some(packet) = text.strip_prefix('4') else { return Ok(false) };
    let packet = Packet::decode(packet)?;
    match packet.kind {
        PacketKind::Connect => output.write_all(&Outgoing::connect("/", "bare").frame()).await?,
        PacketKind::Event => {
            let event = packet.event()?;
            if event.name != "join-room" {
                return Ok(false);
            }
            let asked: serde_json::Value = serde_json::from_str(event.first_raw())?;
            if let Some(id) = packet.id {
                let ack =
                    json!({ "ok": true, "roomId": asked["roomId"], "slot": 0, "epoch": 0, "tickHz": hz });
                output.write_all(&Outgoing::ack("/", id, &ack).frame()).await?;
            }
            let zero = json!({ "x": 0, "y": 0, "z": 0 });
            let oneself = json!({
                "id": "bare", "socketId": "bare", "username": "bare", "slot": 0, "position": zero, "rotation": zero,
            });
            output.write_all(&Outgoing::event("room-users", &[oneself]).frame()).await?;
            return Ok(true);
        }
        _ => {}
    }
    Ok(false)
}

/// A WebSocket frame of Engine.IO's own.
fn text_frame(text: &str) -> Vec<u8> {
    let (header, used) = frame_header(OPCODE_TEXT, text.len());
    [&header[..used], text.as_bytes()].concat()
}
