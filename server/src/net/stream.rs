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
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::OwnedSemaphorePermit;

/// How long what was sent may stay unacknowledged, or unsendable because the client does not read, before the
/// kernel ends the connection. Whoever reads nothing is gone after this time at the latest, whatever it says.
pub const UNREAD_TIMEOUT: Duration = Duration::from_secs(20);

/// A TCP connection whose writing half can be shared, and that can be ended from outside.
#[derive(Debug)]
pub struct Stream {
    reader: OwnedReadHalf,
    writer: Arc<StreamWriter>,
}

/// The writing half. Whoever holds it writes without waiting, or asks to be woken when that is possible.
#[derive(Debug)]
pub struct StreamWriter {
    tcp: OwnedWriteHalf,
    /// Its place among the connections that the server takes.
    _permit: OwnedSemaphorePermit,
}

/// The way to end a [`Stream`] that somebody else reads and writes.
#[derive(Debug, Clone)]
pub struct StreamHandle(Weak<StreamWriter>);

impl Stream {
    /// Takes an accepted connection and sets its options.
    ///
    /// # Errors
    /// The system's, if the connection is gone already.
    pub fn new(tcp: TcpStream, permit: OwnedSemaphorePermit) -> io::Result<Self> {
        // A tick is one small write that must leave at once.
        tcp.set_nodelay(true)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        SockRef::from(&tcp).set_tcp_user_timeout(Some(UNREAD_TIMEOUT))?;
        let (reader, tcp) = tcp.into_split();
        Ok(Self { reader, writer: Arc::new(StreamWriter { tcp, _permit: permit }) })
    }

    /// A handle to end it by.
    pub fn handle(&self) -> StreamHandle {
        StreamHandle(Arc::downgrade(&self.writer))
    }

    /// Both halves.
    pub fn split(self) -> (OwnedReadHalf, Arc<StreamWriter>) {
        (self.reader, self.writer)
    }
}

impl StreamWriter {
    /// Writes what can be written now.
    ///
    /// # Errors
    /// `WouldBlock` if nothing can, else the system's.
    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match parts {
            // Costs the system less than a list of one.
            [part] => self.tcp.try_write(part),
            parts => self.tcp.try_write_vectored(parts),
        }
    }

    /// Ready when something can be written again.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.as_ref().poll_write_ready(cx)
    }

    /// Says that nothing more will be written.
    pub fn finish(&self) {
        self.shutdown(Shutdown::Write);
    }

    /// Ends the connection in both directions: whoever reads or writes it finds that out.
    pub fn shut_down(&self) {
        self.shutdown(Shutdown::Both);
    }

    fn shutdown(&self, how: Shutdown) {
        // Fails only if the other side has ended the connection before.
        let _ = SockRef::from(self.tcp.as_ref()).shutdown(how);
    }
}

impl StreamHandle {
    /// See [`StreamWriter::shut_down`].
    pub fn shut_down(&self) {
        if let Some(writer) = self.0.upgrade() {
            writer.shut_down();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.writer.poll_ready(cx))?;
            match self.writer.try_write(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.finish();
        Poll::Ready(Ok(()))
    }
}
