//! What is said over HTTP: logging in, creating rooms, and the upgrade to a WebSocket.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::colyseus::{MATCHMAKE_BODY, ROOM, Seat, matchmake_path};
use crate::options::RoomOptions;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

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

    async fn post(&self, path: &str, token: Option<&str>, body: String) -> Result<(StatusCode, Bytes)> {
        let mut request =
            Request::post(path).header(HOST, self.authority()).header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = self.send(request.body(Full::from(body))?).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer to {path} broke off: {error}"))?;
        Ok((status, body.to_bytes()))
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
        let key = generate_key();
        let request = Request::get(path)
            .header(HOST, self.authority())
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .body(Full::default())?;
        let response = self.send(request).await?;
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
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<hyper::body::Incoming>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its errors reach the request too.
        tokio::task::spawn_local(connection.with_upgrades());
        sender.send_request(request).await.context("no answer")
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
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
