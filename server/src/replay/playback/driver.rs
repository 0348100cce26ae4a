//! What happens in a playback, and when.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use engine::limits::MAX_PLAY_STEPS;
use engine::private::ViewerGone;
use engine::room::{AckId, Step, error_packet, ok_packet};
use engine::Stage;
use protocol::Outgoing;
use protocol::error::ClientError;
use protocol::playback::{Control, Replay, ReplayState};
use replay::MemberId;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::find::{Found, find};
use super::reader::{Reader, Source};
use super::scene::{Disguise, Scene, Shown};
use super::{PlaybackMetrics, unreadable};
use crate::replay::recordings::ReadError;

/// Events that go to the room in one tick, without poses. More wait for the next, and the clock waits with them.
pub const MAX_EVENTS_PER_PUSH: usize = 1_024;

/// The least time from one beginning to the next of a part that is played again and again.
pub const MIN_LOOP: Duration = Duration::from_secs(1);

/// Reading that takes longer stops the playback's clock.
const STALL: Duration = Duration::from_millis(100);

/// The part of a recording that is played, both ends included, in Unix ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
}

/// See the [module](self).
pub(super) struct Driver {
    source: Source,
    part: Part,
    disguise: Disguise,
    metrics: PlaybackMetrics,
    /// How everything stands in the room.
    scene: Scene,
    reader: Reader,
    clock: Clock,
    looping: bool,
    /// When the part began last.
    began: Instant,
    ended: bool,
    /// It is known that what comes next has been deleted or not.
    end_is_known: bool,
    /// What the room is still to be told.
    queue: VecDeque<Step>,
}

/// The moment that is shown.
#[derive(Debug)]
struct Clock {
    /// Unix ms.
    position: f64,
    /// When that was.
    at: Instant,
    speed: f64,
    is_paused: bool,
}

impl Clock {
    /// Goes on to now.
    fn settle(&mut self, end: f64) {
        let now = Instant::now();
        if !self.is_paused {
            let passed_ms = now.duration_since(self.at).as_secs_f64() * 1_000.0;
            self.position = (self.position + passed_ms * self.speed).min(end);
        }
        self.at = now;
    }

    fn set(&mut self, position: f64) {
        self.position = position;
        self.at = Instant::now();
    }
}

impl Driver {
    /// A playback of `part`, at its beginning.
    pub(super) async fn open(
        source: Source,
        part: Part,
        replay: Replay,
        disguise: Disguise,
        metrics: PlaybackMetrics,
    ) -> Result<Self, ClientError> {
        let mut found = locate(&source, part, part.from_ms, &metrics).await.map_err(|_| unreadable())?;
        let now = Instant::now();
        Ok(Self {
            scene: std::mem::take(&mut found.scene),
            reader: Reader::new(source.clone(), found),
            source,
            part,
            disguise,
            metrics,
            clock: Clock {
                position: part.from_ms as f64,
                at: now,
                speed: replay.speed.unwrap_or(1.0),
                is_paused: false,
            },
            looping: replay.looping.unwrap_or(false),
            began: now,
            ended: false,
            end_is_known: false,
            queue: VecDeque::new(),
        })
    }

    pub(super) fn part(&self) -> Part {
        self.part
    }

    /// What the viewer finds.
    pub(super) fn opening(&self) -> Vec<Step> {
        Scene::default().steps_to(&self.scene, &self.disguise)
    }

    /// Plays until it is dropped, or the viewer goes.
    pub(super) async fn run(
        &mut self,
        stage: &Stage,
        mut controls: mpsc::Receiver<(Control, AckId)>,
    ) -> Result<(), ViewerGone> {
        let mut due = Instant::now();
        self.clock.at = due;
        self.began = due;
        self.tell_state();
        loop {
            let has_more = !self.queue.is_empty() || self.is_running();
            tokio::select! {
                biased;
                () = sleep_until(due), if has_more => {
                    if self.queue.is_empty() {
                        self.advance().await;
                    }
                    self.push(stage).await?;
                    due = Instant::now() + Duration::from_secs(1) / stage.tick_hz();
                }
                Some(control) = controls.recv() => self.obey(control, &mut controls).await,
                // The session has another playback by now, and this one is about to end.
                else => std::future::pending::<()>().await,
            }
        }
    }

    fn is_running(&self) -> bool {
        !self.clock.is_paused && !self.ended
    }

    /// Hands the room what is due, as much as it may take at once.
    async fn push(&mut self, stage: &Stage) -> Result<(), ViewerGone> {
        let (mut count, mut events) = (0, 0);
        for step in self.queue.iter().take(MAX_PLAY_STEPS) {
            events += usize::from(!matches!(step, Step::Move(..)));
            if events > MAX_EVENTS_PER_PUSH {
                break;
            }
            count += 1;
        }
        let steps: Vec<Step> = self.queue.drain(..count).collect();
        if steps.is_empty() { Ok(()) } else { stage.play(steps).await }
    }

    /// Lets everything happen that is due by the clock.
    async fn advance(&mut self) {
        let end = self.part.to_ms as f64;
        self.clock.settle(end);
        let began = Instant::now();
        if let Err(ReadError(_)) = self.play_to(self.clock.position).await {
            self.metrics.failed_reads.inc();
            return self.end();
        }
        if began.elapsed() > STALL {
            self.clock.at = Instant::now();
        }
        if self.clock.position >= end || self.is_cut_off().await {
            self.at_end().await;
        }
    }

    async fn play_to(&mut self, position: f64) -> Result<(), ReadError> {
        let mut moves: HashMap<MemberId, Step> = HashMap::new();
        let mut events = 0;
        while events < MAX_EVENTS_PER_PUSH {
            let Some(moment) = self.reader.next(position as u64).await? else { break };
            match self.scene.play(&moment, &self.disguise) {
                Shown::Move(member, pose) => {
                    moves.insert(member, Step::Move(member, pose));
                }
                Shown::Steps(steps) => {
                    events += 1;
                    self.queue.extend(steps);
                }
            }
            if events == MAX_EVENTS_PER_PUSH {
                // There may be more of this moment. The clock waits for what comes after it.
                self.clock.set((moment.at_ms as f64).max(self.part.from_ms as f64));
            }
        }
        // Of each member the newest only, as in any tick. A pose of one that has gone is left out by the room.
        self.queue.extend(moves.into_values());
        Ok(())
    }

    /// Whether the rest of the part has been deleted meanwhile.
    async fn is_cut_off(&mut self) -> bool {
        if !self.reader.is_over() || self.end_is_known {
            return false;
        }
        self.end_is_known = true;
        let position = self.clock.position as u64;
        let span = self.source.read(|recordings, room| recordings.span(room)).await;
        !matches!(span, Ok(Some(span)) if span.first.ms <= position)
    }

    async fn at_end(&mut self) {
        if !self.looping {
            return self.end();
        }
        if self.began.elapsed() < MIN_LOOP {
            return;
        }
        match self.seek(self.part.from_ms).await {
            Ok(()) => {
                self.began = Instant::now();
                self.tell_state();
            }
            Err(ReadError(_)) => self.end(),
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.tell_state();
    }

    /// Does what the client asks for, and all else that it has asked for meanwhile: of several moments to go to, it goes
    /// to the last.
    async fn obey(&mut self, first: (Control, AckId), controls: &mut mpsc::Receiver<(Control, AckId)>) {
        self.clock.settle(self.part.to_ms as f64);
        let (mut seek, mut seek_acks, mut acks) = (None, Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some((control, ack)) = next {
            match control {
                Control::Seek(time) => {
                    seek = Some(time.clamp(self.part.from_ms, self.part.to_ms));
                    seek_acks.push(ack);
                }
                Control::Pause(is_paused) => {
                    self.clock.is_paused = is_paused;
                    acks.push(ack);
                }
                Control::Speed(speed) => {
                    self.clock.speed = speed;
                    acks.push(ack);
                }
            }
            next = controls.try_recv().ok();
        }
        let sought = match seek {
            Some(time) => self.seek(time).await.map_err(|ReadError(_)| unreadable()),
            // What is shown is what the state says.
            None if self.queue.is_empty() && !self.ended => {
                self.advance().await;
                Ok(())
            }
            None => Ok(()),
        };
        self.tell_state();
        let state = self.state();
        let done = acks.iter().map(|ack| ok_packet(*ack, state));
        let sought = seek_acks.iter().map(|ack| match &sought {
            Ok(()) => ok_packet(*ack, state),
            Err(error) => error_packet(*ack, error),
        });
        self.queue.extend(sought.chain(done).flatten().map(Step::Answer));
    }

    /// Goes to another moment of the part.
    async fn seek(&mut self, time_ms: u64) -> Result<(), ReadError> {
        let mut found = locate(&self.source, self.part, time_ms, &self.metrics).await?;
        let scene = std::mem::take(&mut found.scene);
        self.queue.extend(self.scene.steps_to(&scene, &self.disguise));
        self.scene = scene;
        self.reader = Reader::new(self.source.clone(), found);
        self.clock.set(time_ms as f64);
        (self.ended, self.end_is_known) = (false, false);
        Ok(())
    }

    fn state(&self) -> ReplayState {
        let Part { from_ms, to_ms } = self.part;
        let Clock { position, speed, is_paused, .. } = self.clock;
        let time = (position as u64).clamp(from_ms, to_ms);
        ReplayState { time, from: from_ms, to: to_ms, speed, paused: is_paused, ended: self.ended }
    }

    fn tell_state(&mut self) {
        self.queue.push_back(Step::Tell(Outgoing::event("replay-state", &self.state())));
    }
}

async fn locate(
    source: &Source,
    part: Part,
    at_ms: u64,
    metrics: &PlaybackMetrics,
) -> Result<Found, ReadError> {
    metrics.seeks.inc();
    let to_ms = part.to_ms;
    let found = source.read(move |recordings, room| find(recordings, room, at_ms, to_ms)).await;
    if found.is_err() {
        metrics.failed_reads.inc();
    }
    found
}
