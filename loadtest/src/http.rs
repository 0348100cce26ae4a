//! What is said over HTTP: logging in, creating rooms, and the upgrade to a WebSocket.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::colyseus::{MATCHMAKE_BODY, ROOM, Seat, matchmake_path};
use crate::options::RoomOptions;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The longest body that a poll may bring, in bytes: a room of thousands tells of all its members at once.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest recording, or other text, that is read as a whole, in bytes.
const RECORDING_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A server to be measured.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    host: String,
    port: u16,
}

impl Target {
    /// The server at `url`, of the form `http://host[:port]`.
    ///
    /// # Errors
    /// If it is of another form.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("`{url}` is not a URL"))?;
        ensure!(uri.scheme_str() == Some("http"), "only http:// can be measured, not `{url}`");
        ensure!(matches!(uri.path(), "" | "/"), "a server's URL has no path: `{url}`");
        let host = uri.host().context("a server's URL names its host")?.to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(80) })
    }

    /// Logs in and gives the token.
    ///
    /// # Errors
    /// If the server does not answer with one.
    pub(crate) async fn login(&self, username: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Login {
            token: String,
        }
        let body = serde_json::json!({ "username": username }).to_string();
        let (status, answer) = self.post("/api/auth/login", None, body).await?;
        ensure!(
            status == StatusCode::OK,
            "login answered {status}; a server without logins takes `--auth none`"
        );
        let login: Login = serde_json::from_slice(&answer).context("login answered without a token")?;
        Ok(login.token)
    }

    /// Creates a room for `users`, with what else was asked for.
    ///
    /// # Errors
    /// If the server refuses.
    pub(crate) async fn create_room(
        &self,
        token: &str,
        room: &str,
        users: u32,
        options: &RoomOptions,
    ) -> Result<()> {
        let mut body = serde_json::to_value(options)?;
        body["roomId"] = room.into();
        body["maxUsers"] = users.into();
        let body = body.to_string();
        let (status, answer) = self.post("/api/rooms", Some(token), body).await?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(status.is_success(), "creating a room for {users} answered {status}: {answer}");
        Ok(())
    }

    /// What the server says at `path`; with `token`, as whoever that is. With `accept`, in that form.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) async fn get(&self, path: &str, token: Option<&str>, accept: Option<&str>) -> Result<Answer> {
        let mut request = Request::get(path).header(HOST, self.authority());
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        Answer::read(self.send(request.body(Full::default())?).await?, RECORDING_BYTES_MAX).await
    }

    async fn post(&self, path: &str, token: Option<&str>, body: String) -> Result<(StatusCode, Bytes)> {
        let mut request =
            Request::post(path).header(HOST, self.authority()).header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = self.send(request.body(Full::from(body))?).await?;
        let answer = Answer::read(response, ANSWER_BYTES_MAX).await.with_context(|| path.to_owned())?;
        Ok((answer.status, answer.body))
    }

    /// A connection for one request after the other.
    ///
    /// # Errors
    /// If there is none to be had.
    pub(crate) async fn connect(&self) -> Result<Requests> {
        let stream = self.connect_tcp(None).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(Requests { sender, authority: self.authority() })
    }

    /// Asks Colyseus for a seat in the room.
    ///
    /// # Errors
    /// If the server offers none.
    pub(crate) async fn seat(&self) -> Result<Seat> {
        let (status, answer) = self.post(&matchmake_path(ROOM), None, MATCHMAKE_BODY.to_owned()).await?;
        ensure!(
            status == StatusCode::OK,
            "the request for a seat answered {status}: {}",
            String::from_utf8_lossy(&answer)
        );
        Seat::parse(&answer)
    }

    /// Opens a WebSocket at `path`. What the server has sent already comes along.
    ///
    /// # Errors
    /// If the server does not switch protocols.
    pub(crate) async fn open_websocket(&self, path: &str) -> Result<(TcpStream, Bytes)> {
        let stream = self.connect_tcp(None).await?;
        self.upgrade(stream, path).await
    }

    /// The same, but that the kernel takes no more than about `buffer_bytes` that nobody reads.
    ///
    /// # Errors
    /// If the server does not switch protocols.
    pub(crate) async fn open_small_websocket(
        &self,
        path: &str,
        buffer_bytes: u32,
    ) -> Result<(TcpStream, Bytes)> {
        let stream = self.connect_tcp(Some(buffer_bytes)).await?;
        self.upgrade(stream, path).await
    }

    async fn upgrade(&self, stream: TcpStream, path: &str) -> Result<(TcpStream, Bytes)> {
        let key = generate_key();
        let request = Request::get(path)
            .header(HOST, self.authority())
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .body(Full::default())?;
        let response = send_on(stream, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            bail!("the WebSocket handshake answered {}", response.status());
        }
        let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        let accepted = accept.is_some_and(|value| *value == derive_accept_key(key.as_bytes()));
        ensure!(accepted, "the WebSocket handshake answered another key");
        let upgraded = hyper::upgrade::on(response).await.context("the upgrade failed")?;
        let parts = upgraded.downcast::<TokioIo<TcpStream>>();
        let parts = parts.map_err(|_| anyhow::anyhow!("the upgraded connection is of another type"))?;
        Ok((parts.io.into_inner(), parts.read_buf))
    }

    /// Sends one request on a connection of its own. Needs a `LocalSet`, on which the connection runs.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        send_on(self.connect_tcp(None).await?, request).await
    }

    /// A TCP connection. `buffer_bytes` is about how much the kernel takes that nobody reads; its own choice if absent.
    async fn connect_tcp(&self, buffer_bytes: Option<u32>) -> Result<TcpStream> {
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let mut outcome = Err(anyhow::anyhow!("{} has no address", self.host));
        for address in addresses.context("cannot connect")? {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            if let Some(bytes) = buffer_bytes {
                // Only before it connects does this limit the window.
                socket.set_recv_buffer_size(bytes)?;
            }
            match socket.connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => outcome = Err(error.into()),
            }
        }
        outcome.context("cannot connect")
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

async fn send_on(stream: TcpStream, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors reach the request too.
    tokio::task::spawn_local(connection.with_upgrades());
    sender.send_request(request).await.context("no answer")
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// Bytes of all of it, as they are on the wire if the body's length stands in a header.
    pub(crate) wire_bytes: usize,
}

impl Answer {
    async fn read(response: Response<Incoming>, bytes_max: usize) -> Result<Self> {
        /// `HTTP/1.1 200 OK`, and the ends of that line and of the headers.
        const FIRST_AND_LAST_LINE_BYTES: usize = 19;
        let status = response.status();
        let headers: usize =
            response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
        Ok(Self { status, wire_bytes: FIRST_AND_LAST_LINE_BYTES + headers + body.len(), body })
    }
}

/// A connection for one request after the other.
#[derive(Debug)]
pub(crate) struct Requests {
    sender: http1::SendRequest<Full<Bytes>>,
    authority: String,
}

impl Requests {
    /// Asks for `path`.
    ///
    /// # Errors
    /// If there is no answer.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer> {
        let request = Request::get(path).header(HOST, &self.authority).body(Full::default())?;
        self.send(request).await
    }

    /// Sends `body` to `path` as text.
    ///
    /// # Errors
    /// If there is no answer.
    pub(crate) async fn post(&mut self, path: &str, body: Vec<u8>) -> Result<Answer> {
        let request = Request::post(path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "text/plain;charset=UTF-8");
        self.send(request.body(Full::from(body))?).await
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer> {
        self.sender.ready().await.context("the connection is closed")?;
        Answer::read(self.sender.send_request(request).await.context("no answer")?, BODY_BYTES_MAX).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_servers_root_over_http_is_taken() {
        assert_eq!(Target::new("http://127.0.0.1:3001").unwrap().authority(), "127.0.0.1:3001");
        assert_eq!(Target::new("http://example.org/").unwrap().authority(), "example.org:80");
        for url in ["https://example.org", "example.org:80", "http://example.org/socket.io", ""] {
            assert!(Target::new(url).is_err(), "{url}");
        }
    }
}
