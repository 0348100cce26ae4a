//! A POST's body, handed to engineioxide in small pieces.

use std::fmt::Debug;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame};

use super::SEPARATOR;

/// Packets of a POST in a row before it lets the others of its core go on: they may be as small as two bytes, so that
/// a payload holds hundreds of thousands. What is left waits for the request's next turn.
pub(super) const PACKETS_PER_WAKE: usize = 256;

/// A body whose frames hold one packet each, or a piece of one. engineioxide asks for a frame before each packet that
/// it takes, and once it has them all takes what is left without a pause; so this says when it pauses.
#[derive(Debug)]
pub(super) struct Paced<B> {
    body: B,
    /// What has come and has not been handed over.
    rest: Bytes,
    /// Packets that may still be handed over before the next pause.
    packets_left: usize,
}

impl<B> Paced<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, rest: Bytes::new(), packets_left: PACKETS_PER_WAKE }
    }

    /// What is left, up to the end of its first packet.
    fn next_piece(&mut self) -> Bytes {
        match self.rest.iter().position(|byte| *byte == SEPARATOR) {
            Some(end) => {
                self.packets_left -= 1;
                self.rest.split_to(end + 1)
            }
            None => std::mem::take(&mut self.rest),
        }
    }
}

impl<B: Body + Unpin> Body for Paced<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.packets_left == 0 {
            self.packets_left = PACKETS_PER_WAKE;
            // Unlike waking oneself, this also lets those go on for whom something has come in the meantime.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
            return Poll::Pending;
        }
        while self.rest.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)?) else {
                return Poll::Ready(None);
            };
            match frame.into_data() {
                Ok(mut data) => self.rest = data.copy_to_bytes(data.remaining()),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers.map_data(|_| Bytes::new())))),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.next_piece()))))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;

    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    async fn pieces(body: &[&'static str]) -> Vec<String> {
        let frames: Vec<_> = body
            .iter()
            .map(|bytes| Ok::<_, Infallible>(Frame::data(Bytes::from_static(bytes.as_bytes()))))
            .collect();
        let mut paced = Paced::new(StreamBody::new(stream::iter(frames)));
        let mut pieces = Vec::new();
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut paced).poll_frame(cx)).await {
            pieces.push(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap());
        }
        pieces
    }

    #[tokio::test]
    async fn a_piece_holds_no_more_than_a_packet_and_nothing_is_lost_between_them() {
        assert_eq!(pieces(&["4a\x1e4b\x1e4c"]).await, ["4a\x1e", "4b\x1e", "4c"]);
        assert_eq!(
            pieces(&["4a", "b\x1e", "", "\x1e4", "c\x1e"]).await,
            ["4a", "b\x1e", "\x1e", "4", "c\x1e"]
        );
        assert_eq!(pieces(&[]).await, [""; 0]);
        let many = "2\x1e".repeat(3 * PACKETS_PER_WAKE + 1).leak();
        assert_eq!(pieces(&[many]).await.concat(), *many);
    }
}
