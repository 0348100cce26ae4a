//! Bodies that go out as their clients take them: one is read from a recording meanwhile, the other is read already.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{debug, error};

use super::Reading;
use crate::net::serve::BrokenOff;
use crate::replay::ReplayCounts;
use crate::replay::readers::Place;
use crate::replay::walk::{Progress, STEP_BYTES};

/// How long a client may take nothing of a body before its reading is given up for others. With the length of a step
/// it is also how slowly a body may be read: at a few KiB a second.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Pieces of a body that are ready before they are wanted, of a step's length each.
const PIECES_AHEAD: usize = 2;

/// A part of a body.
enum Piece {
    Text(Bytes),
    /// The body is whole.
    End,
}

/// A body whose pieces come from somebody else.
struct Pumped {
    pieces: mpsc::Receiver<Piece>,
    /// Bytes that are still to come, if that is known.
    left: Option<u64>,
    is_whole: bool,
}

impl Body for Pumped {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.is_whole {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.pieces.poll_recv(cx)) {
            Some(Piece::Text(text)) => {
                self.left = self.left.map(|left| left.saturating_sub(text.len() as u64));
                self.is_whole = self.left == Some(0);
                Some(Ok(Frame::data(text)))
            }
            Some(Piece::End) => {
                self.is_whole = true;
                None
            }
            None => Some(Err(BrokenOff)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_whole
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The body that begins with `text` and goes on with the rest of `reading`, whose last step came to `progress`.
pub(super) fn start(
    reading: Reading,
    text: Vec<u8>,
    progress: Progress,
    counts: ReplayCounts,
) -> impl Body<Data = Bytes, Error = BrokenOff> + Send + 'static {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    tokio::spawn(async move {
        if pump(reading, text, progress, &sender, &counts).await == End::Abandoned {
            abandoned(&counts);
        }
    });
    Pumped { pieces, left: None, is_whole: false }
}

/// The body `text`, which was read in `place`. As long as the text is in memory nobody else reads there, so no more
/// texts are in memory than there are places.
pub(super) fn start_read(
    place: Place,
    text: Vec<u8>,
    counts: ReplayCounts,
) -> impl Body<Data = Bytes, Error = BrokenOff> + Send + 'static {
    // Nothing is read any more, so nothing needs to be ready beforehand.
    let (sender, pieces) = mpsc::channel(1);
    let left = Some(text.len() as u64);
    tokio::spawn(async move {
        for piece in text.chunks(STEP_BYTES) {
            // Copied: whoever holds a part of the text itself would hold all of it.
            if !send(&sender, Piece::Text(Bytes::copy_from_slice(piece))).await {
                abandoned(&counts);
                break;
            }
        }
        drop((text, place));
    });
    Pumped { pieces, left, is_whole: false }
}

fn abandoned(counts: &ReplayCounts) {
    counts.abandoned.inc();
    debug!("nobody takes what was read of a recording");
}

/// How a body has ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
    Abandoned,
}

async fn pump(
    mut reading: Reading,
    mut text: Vec<u8>,
    mut progress: Progress,
    sender: &mpsc::Sender<Piece>,
    counts: &ReplayCounts,
) -> End {
    let mut gaps = 0;
    loop {
        counts.damaged.inc_by(reading.walk.gaps() - gaps);
        gaps = reading.walk.gaps();
        if let Progress::Cut(cursor) = progress {
            line(&mut text, &json!({"type": "more", "cursor": cursor.to_string()}));
        }
        if !text.is_empty() && !send(sender, Piece::Text(text.into())).await {
            return End::Abandoned;
        }
        if progress != Progress::More {
            // Whether somebody still hears this does not matter any more.
            send(sender, Piece::End).await;
            return End::Whole;
        }
        // A step may come to nothing, and then nothing else shows that the client has gone.
        if sender.is_closed() {
            return End::Abandoned;
        }
        let stepped = match reading.step(Vec::with_capacity(STEP_BYTES + STEP_BYTES / 8)).await {
            Ok(stepped) => stepped,
            Err(error) => {
                counts.failed.inc();
                error!(%error, "a recording is not read to its end");
                return End::Broken;
            }
        };
        (reading, text) = (stepped.0, stepped.1);
        progress = match stepped.2 {
            Ok(progress) => progress,
            Err(error) => {
                counts.failed.inc();
                error!(%error, "a recording is not read to its end");
                let cursor = reading.walk.cursor().to_string();
                let message = "The recording cannot be read now";
                line(&mut text, &json!({"type": "error", "error": message, "cursor": cursor}));
                send(sender, Piece::Text(text.into())).await;
                return End::Broken;
            }
        };
    }
}

/// Whether the piece was taken in time.
async fn send(sender: &mpsc::Sender<Piece>, piece: Piece) -> bool {
    matches!(tokio::time::timeout(READ_TIMEOUT, sender.send(piece)).await, Ok(Ok(())))
}

fn line(text: &mut Vec<u8>, value: &serde_json::Value) {
    text.extend_from_slice(value.to_string().as_bytes());
    text.push(b'\n');
}
