//! From the wish to watch a recording to the playback of it.

use std::sync::Arc;

use engine::room::AckId;
use engine::{Recorded, RoomOptions, Session, Standing};
use protocol::error::{ClientError, ErrorCode};
use protocol::event::{Encoding, View};
use protocol::playback::Replay;
use tokio::sync::OwnedSemaphorePermit;

use super::driver::{Driver, Part};
use super::reader::Source;
use super::seats::Preparing;
use super::steps::Disguise;
use super::{Playbacks, unreadable};

/// What a client wants to watch, and how.
pub(super) struct Wish {
    pub(super) room: Arc<str>,
    /// As the room is now, or as any room would be.
    pub(super) options: RoomOptions,
    pub(super) replay: Replay,
    pub(super) encoding: Encoding,
    pub(super) view: View,
    pub(super) standing: Standing,
    /// One of all playbacks' places. Given back when it is dropped.
    pub(super) place: OwnedSemaphorePermit,
}

/// Prepares the playback, lets the viewer in and plays until it goes.
pub(super) async fn start(
    playbacks: Arc<Playbacks>,
    session: Arc<Session>,
    wish: Wish,
    preparing: Preparing,
    ack: AckId,
) {
    let prepared = prepare(&playbacks, &session, &wish).await;
    drop(preparing);
    if let Err(error) = play(&playbacks, &session, wish, prepared, ack).await {
        session.refuse(ack, &error);
    }
}

/// The part that there is, and its beginning.
async fn prepare(playbacks: &Arc<Playbacks>, session: &Session, wish: &Wish) -> Result<Driver, ClientError> {
    let source = Source {
        room: wish.room.clone(),
        recordings: playbacks.recordings.clone(),
        reads: playbacks.reads.clone(),
    };
    let part = effective(&source, &wish.replay).await.inspect_err(|error| {
        if error.code == ErrorCode::Storage {
            playbacks.metrics.failed_reads.inc();
        }
    })?;
    let disguise = Disguise::of(&session.user().socket_id);
    Driver::open(source, part, wish.replay, disguise, playbacks.metrics.clone()).await
}

/// The part of the recording that is within what was asked for.
async fn effective(source: &Source, replay: &Replay) -> Result<Part, ClientError> {
    let span = source.read(|recordings, room| recordings.span(room)).await.map_err(|_| unreadable())?;
    let not_found = || ClientError::new(ErrorCode::NotFound, "nothing is recorded of that");
    let span = span.ok_or_else(not_found)?;
    let from_ms = replay.from.max(span.first.ms);
    let to_ms = replay.to.map_or(span.last.ms, |to| to.min(span.last.ms));
    if from_ms > to_ms {
        return Err(not_found());
    }
    Ok(Part { from_ms, to_ms })
}

async fn play(
    playbacks: &Arc<Playbacks>,
    session: &Arc<Session>,
    wish: Wish,
    prepared: Result<Driver, ClientError>,
    ack: AckId,
) -> Result<(), ClientError> {
    let mut driver = prepared?;
    let Part { from_ms, to_ms } = driver.part();
    let recorded = Recorded { from: from_ms, to: to_ms };
    let opening = driver.opening();
    let engine = &playbacks.engine;
    let (room, stage, departure) =
        engine.open_private(&wish.room, &wish.options, recorded, session.core(), opening)?;
    session.enter_private(wish.standing, room, (wish.encoding, wish.view), ack)?;
    let (seat, controls) = playbacks.seats.seat(session.id());
    tokio::select! {
        biased;
        () = departure.wait() => {}
        _ = driver.run(&stage, controls) => {}
    }
    drop(seat);
    drop(wish.place);
    // It holds some mebibytes in small pieces.
    tokio::task::spawn_blocking(move || drop(driver));
    Ok(())
}
