//! What happens in a playback, and when.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use engine::Stage;
use engine::limits::MAX_PLAY_STEPS;
use engine::private::ViewerGone;
use engine::room::{AckId, Step, error_packet, ok_packet};
use protocol::error::ClientError;
use protocol::playback::{Control, Replay, ReplayState};
use protocol::{Outgoing, Pose};
use replay::{Action, MemberId, Moment, What, World};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::find::{Found, Goal, find};
use super::reader::{Reader, Source};
use super::steps::{self, Disguise};
use super::{MAX_CONTROLS, MAX_EVENTS_PER_PUSH, MAX_STEP, MIN_LOOP, PlaybackMetrics, STALL, unreadable};
use crate::replay::recordings::{ReadError, Recordings};

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
    /// How everything stands in the room. Shared only while a reading thread compares it with another moment.
    world: Arc<World>,
    reader: Reader,
    clock: Clock,
    looping: bool,
    /// When the part began last.
    began: Instant,
    ended: bool,
    /// It is known whether the rest has been deleted.
    end_is_known: bool,
    /// What the room is still to be told.
    queue: VecDeque<Step>,
    asked: Asked,
}

/// What the client has asked for and is not answered yet.
#[derive(Debug, Default)]
struct Asked {
    /// The moment to go to, Unix ms.
    seek: Option<u64>,
    seek_acks: Vec<AckId>,
    acks: Vec<AckId>,
}

impl Asked {
    /// How many controls.
    fn count(&self) -> usize {
        self.seek_acks.len() + self.acks.len()
    }
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
            let passed = now.duration_since(self.at).min(MAX_STEP);
            self.position = (self.position + passed.as_secs_f64() * 1_000.0 * self.speed).min(end);
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
        let goal =
            Goal { from: Arc::default(), disguise: disguise.clone(), at_ms: part.from_ms, to_ms: part.to_ms };
        let mut found = locate(&source, goal, &metrics).await.map_err(|_| unreadable())?;
        let now = Instant::now();
        Ok(Self {
            queue: std::mem::take(&mut found.steps).into(),
            world: Arc::new(std::mem::take(&mut found.world)),
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
            asked: Asked::default(),
        })
    }

    pub(super) fn part(&self) -> Part {
        self.part
    }

    /// What the viewer finds. To be taken before anything is played.
    pub(super) fn opening(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.queue).into()
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
            // Not before: a seek may be some thousand steps, and many seeks may come while the room takes these.
            if self.queue.is_empty() && self.asked.count() > 0 {
                self.answer().await;
            }
            let has_more = !self.queue.is_empty() || self.is_running();
            let has_place = self.asked.count() < MAX_CONTROLS;
            tokio::select! {
                biased;
                () = sleep_until(due), if has_more => {
                    if self.queue.is_empty() {
                        self.advance().await;
                    }
                    self.push(stage).await?;
                    due = Instant::now() + Duration::from_secs(1) / stage.tick_hz();
                }
                Some(control) = controls.recv(), if has_place => self.note(control, &mut controls),
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
        if self.ended {
            return;
        }
        let began = Instant::now();
        if let Err(ReadError(_)) = self.play_to(self.clock.position).await {
            self.metrics.failed_reads.inc();
            return self.end();
        }
        if began.elapsed() > STALL {
            self.clock.at = Instant::now();
        }
        if self.clock.position >= end {
            self.at_end().await;
        } else if self.is_cut_off().await {
            self.end();
        }
    }

    async fn play_to(&mut self, position: f64) -> Result<(), ReadError> {
        let mut moves: HashMap<MemberId, Pose> = HashMap::new();
        let mut events = 0;
        while events < MAX_EVENTS_PER_PUSH {
            let Some(moment) = self.reader.next(position as u64).await? else { break };
            let at_ms = moment.at_ms;
            events += self.happen(moment, &mut moves).await?;
            if events >= MAX_EVENTS_PER_PUSH {
                // There may be more of this moment. The clock waits for what comes after it.
                self.clock.set((at_ms as f64).max(self.part.from_ms as f64));
            }
        }
        // Of each member the newest only, as in any tick.
        self.queue.extend(moves.into_iter().map(|(member, pose)| Step::Move(member, pose)));
        Ok(())
    }

    /// Lets one moment happen, and says how many events the room is to be told of it. Moves are only noted.
    async fn happen(
        &mut self,
        moment: Moment,
        moves: &mut HashMap<MemberId, Pose>,
    ) -> Result<usize, ReadError> {
        if let What::Objects(_) = moment.what {
            return self.change_objects(moment).await;
        }
        Arc::make_mut(&mut self.world).apply(&moment);
        match &moment.what {
            What::Move { member, pose, .. } => {
                moves.insert(*member, *pose);
                Ok(0)
            }
            What::Event { member, action, .. } => {
                if matches!(action, Action::Join { .. } | Action::Leave) {
                    // Where it was before it came or went is no more of interest.
                    moves.remove(member);
                }
                self.queue.extend(steps::of_moment(&moment, &self.world, &self.disguise));
                Ok(1)
            }
            What::Objects(_) | What::Gap => Ok(0),
        }
    }

    /// The objects are others from that moment on. To compare them all is no work for a core.
    async fn change_objects(&mut self, moment: Moment) -> Result<usize, ReadError> {
        let (from, disguise) = (self.world.clone(), self.disguise.clone());
        let work = move |_: &dyn Recordings, _: &str| {
            let mut world = World::clone(&from);
            world.apply(&moment);
            let steps = steps::between(&from, &world, &disguise);
            Ok((world, steps))
        };
        let (world, steps) = self.source.read(work).await?;
        self.stand_like(world);
        let count = steps.len();
        self.queue.extend(steps);
        Ok(count)
    }

    /// Everything stands like this from now on.
    fn stand_like(&mut self, world: World) {
        let before = std::mem::replace(&mut self.world, Arc::new(world));
        // To give back the memory of some thousand objects takes a while too.
        tokio::task::spawn_blocking(move || drop(before));
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

    /// Notes what the client asks for, and all else that it has asked for meanwhile. The clock obeys at once.
    fn note(&mut self, first: (Control, AckId), controls: &mut mpsc::Receiver<(Control, AckId)>) {
        self.clock.settle(self.part.to_ms as f64);
        let mut next = Some(first);
        while let Some((control, ack)) = next {
            match control {
                Control::Seek(time) => {
                    self.asked.seek = Some(time.clamp(self.part.from_ms, self.part.to_ms));
                    self.asked.seek_acks.push(ack);
                }
                Control::Pause(is_paused) => {
                    self.clock.is_paused = is_paused;
                    self.asked.acks.push(ack);
                }
                Control::Speed(speed) => {
                    self.clock.speed = speed;
                    self.asked.acks.push(ack);
                }
            }
            next = if self.asked.count() < MAX_CONTROLS { controls.try_recv().ok() } else { None };
        }
    }

    /// Does what the client has asked for, now that the room knows all else: of several moments to go to, it goes to the
    /// last.
    async fn answer(&mut self) {
        let Asked { seek, seek_acks, acks } = std::mem::take(&mut self.asked);
        let sought = match seek {
            Some(time) => self.seek(time).await.map_err(|ReadError(_)| unreadable()),
            // What is shown is what the state says.
            None => {
                self.advance().await;
                Ok(())
            }
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
        let goal = Goal {
            from: self.world.clone(),
            disguise: self.disguise.clone(),
            at_ms: time_ms,
            to_ms: self.part.to_ms,
        };
        let mut found = locate(&self.source, goal, &self.metrics).await?;
        self.queue.extend(std::mem::take(&mut found.steps));
        self.stand_like(std::mem::take(&mut found.world));
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

async fn locate(source: &Source, goal: Goal, metrics: &PlaybackMetrics) -> Result<Found, ReadError> {
    metrics.seeks.inc();
    let found = source.read(move |recordings, room| find(recordings, room, &goal)).await;
    if found.is_err() {
        metrics.failed_reads.inc();
    }
    found
}
