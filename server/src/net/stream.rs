//! An accepted connection.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// How long what was sent may stay unacknowledged, or unsendable because the client does not read, before the
/// kernel ends the connection. Whoever reads nothing is gone after this time at the latest, whatever it says.
pub const UNREAD_TIMEOUT: Duration = Duration::from_secs(20);

/// A TCP connection that can also be ended from outside, by a [`StreamHandle`].
#[derive(Debug)]
pub struct Stream {
    tcp: Arc<TcpStream>,
    /// Its place among the connections that the server takes.
    _permit: OwnedSemaphorePermit,
}

/// The way to end a [`Stream`] that somebody else reads and writes.
#[derive(Debug, Clone)]
pub struct StreamHandle(Weak<TcpStream>);

impl Stream {
    /// Takes an accepted connection and sets its options.
    pub fn new(tcp: TcpStream, permit: OwnedSemaphorePermit) -> io::Result<Self> {
        // A tick is one small write that must leave at once.
        tcp.set_nodelay(true)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        SockRef::from(&tcp).set_tcp_user_timeout(Some(UNREAD_TIMEOUT))?;
        Ok(Self { tcp: Arc::new(tcp), _permit: permit })
    }

    /// A handle to end it by.
    pub fn handle(&self) -> StreamHandle {
        StreamHandle(Arc::downgrade(&self.tcp))
    }
}

impl StreamHandle {
    /// Ends the connection in both directions: whoever reads or writes it finds that out.
    pub fn shut_down(&self) {
        if let Some(tcp) = self.0.upgrade() {
            // Fails only if the other side has ended it before.
            let _ = SockRef::from(&*tcp).shutdown(Shutdown::Both);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            match self.tcp.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done.map(|_| ())),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |tcp| tcp.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |tcp| tcp.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.tcp).shutdown(Shutdown::Write))
    }
}

impl Stream {
    fn poll_try(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match write(&self.tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}
