//! A body that is handed over little by little.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes of a body that are handed over at once. hyper takes the next ones when nearly all of these are written, so this
/// is also how much may be under way that nobody here knows of any more.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// A text, and something that is kept until all of it is taken, or nobody takes it any more.
pub(super) struct Pieces<K> {
    left: Bytes,
    _kept: K,
}

impl<K> Pieces<K> {
    pub(super) fn new(text: impl Into<Bytes>, kept: K) -> Self {
        Self { left: text.into(), _kept: kept }
    }
}

impl<K: Unpin> Body for Pieces<K> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = self.left.len().min(PIECE_BYTES);
        Poll::Ready((bytes > 0).then(|| Ok(Frame::data(self.left.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
