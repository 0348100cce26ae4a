//! The steady load: everybody joins, then everybody moves at a fixed rate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::LocalSet;

use crate::crowd::{Board, Crowd};
use crate::http::Target;
use crate::live::Live;
use crate::meter::{Meter, Usage};
use crate::options::{Auth, Encoding, LoadOptions, Protocol, RoomOptions, Transport};
use crate::process::Process;
use crate::report::{Cost, Report, ratio};
use crate::schedule::Schedule;
use crate::session::Stage;
use crate::tally::Durations;
use crate::timeline::Second;
use crate::walk::SIDE_M;
use crate::worker::{Plan, Ramp};
use crate::workers::Workers;

/// Between the last arrival and the first pose.
const LEAD_IN: Duration = Duration::from_millis(300);
/// After the end of a second, until every thread has told of it.
const TELLING: Duration = Duration::from_millis(50);

/// One run.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) url: &'a str,
    pub(crate) load: &'a LoadOptions,
    pub(crate) protocol: Protocol,
    /// Whether poses are judged. If not, messages and bytes are counted.
    pub(crate) judged: bool,
    /// The server's process; what its `/metrics` tell if absent.
    pub(crate) server: Option<Process>,
    /// A thread for each; one thread anywhere if empty.
    pub(crate) cores: &'a [usize],
    /// How many there will be in each room besides the users.
    pub(crate) guests: u32,
}

/// CPU times at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    server: Option<Usage>,
    own: Duration,
}

impl Sample {
    fn take(server: Option<&Meter>) -> Result<Self> {
        let server = server.map(Meter::read).transpose()?;
        Ok(Self { at: Instant::now(), server, own: Process::own().cpu_time()? })
    }
}

/// A run in which everybody is in.
pub(crate) struct Going<'a> {
    run: &'a Run<'a>,
    pub(crate) target: Target,
    pub(crate) tokens: Arc<[String]>,
    pub(crate) crowd: Crowd,
    schedule: Schedule,
    meter: Option<Meter>,
    resident_before: Option<u64>,
    workers: Workers,
}

/// Runs the load and reports.
///
/// # Errors
/// If the run could not be completed. Faults that it found are in the report.
pub(crate) fn run(run: &Run<'_>, live: &Live) -> Result<Report> {
    begin(run, live)?.measure(live)
}

/// Has everybody come in, and sets what counts.
///
/// # Errors
/// If somebody does not get in, or it makes no sense.
pub(crate) fn begin<'a>(run: &'a Run<'a>, live: &Live) -> Result<Going<'a>> {
    let load = run.load;
    check(run)?;
    let LoadOptions { users, rooms, .. } = *load;
    let room_prefix = format!("load-{:08x}", rand::random::<u32>());
    let judges = if run.judged { load.judges(run.protocol) } else { 0 };
    let crowd = Crowd { users, rooms, room_prefix, judges };
    let target = Target::new(run.url)?;
    let auth = if run.protocol == Protocol::Colyseus { Auth::None } else { load.auth };
    let tokens = log_in(&target, auth, &crowd, Some(&load.room), run.guests)?;
    let meter = match run.server {
        Some(process) => Some(Meter::Process(process)),
        None if run.protocol == Protocol::Socketio => Meter::find(&target, None),
        None => None,
    };
    let resident_before = meter.as_ref().map(Meter::read).transpose()?.map(|usage| usage.resident_bytes);
    let begin = Instant::now() + LEAD_IN;
    let plan = Plan {
        target: target.clone(),
        tokens: tokens.clone(),
        protocol: run.protocol,
        transport: load.transport,
        encoding: load.encoding,
        asks_each: if run.protocol == Protocol::Socketio { load.asks_each() } else { None },
        board: Board::new(&crowd, load.encoding == Encoding::Binary),
        crowd: crowd.clone(),
        stage: Stage::Joined,
        hz: load.hz,
        ramp: load.ramp.map(|length| Ramp { start: begin, length }),
        seed: load.seed,
        side_m: load.area.filter(|side| *side > 0.0).unwrap_or(SIDE_M),
        hands: load.hands,
        near_m: load.near,
    };
    live.begin("coming in", users.into());
    let workers = Workers::launch(&plan, run.cores)?;
    let schedule = gather(&workers, load, begin, || live.at(plan.board.entered().into()))?;
    Ok(Going { run, target, tokens, crowd, schedule, meter, resident_before, workers })
}

/// Whether the run makes sense.
fn check(run: &Run<'_>) -> Result<()> {
    let LoadOptions { users, rooms, hands, encoding, transport, .. } = *run.load;
    ensure!(
        users >= 2 * rooms,
        "{users} users in {rooms} rooms: at least two in each, so that somebody watches"
    );
    if run.protocol == Protocol::Colyseus {
        ensure!(rooms == 1, "a Colyseus server has one room for everybody");
        ensure!(encoding == Encoding::Json, "Colyseus has an encoding of its own");
        ensure!(transport == Transport::Websocket, "Colyseus is spoken over websocket only");
    }
    ensure!(encoding == Encoding::Binary || hands == 0.0, "tracked hands are sent in binary only");
    Ok(())
}

impl Going<'_> {
    /// The span of time that is measured.
    pub(crate) fn window(&self) -> (Instant, Instant) {
        self.schedule.window()
    }

    /// Measures, to the end.
    ///
    /// # Errors
    /// If the server's process has gone, or a thread has failed.
    pub(crate) fn measure(self, live: &Live) -> Result<Report> {
        let Self { run, crowd, schedule, meter, resident_before, workers, .. } = self;
        let (start, end) = schedule.window();
        let window = end - start;
        live.begin("measuring", window.as_secs());
        sleep_until(start);
        let before = Sample::take(meter.as_ref())?;
        let mut seconds = Seconds { users: crowd.users, told: BTreeMap::new(), samples: vec![before] };
        for second in 1..=window.as_secs() as u32 {
            sleep_until(start + Duration::from_secs(second.into()));
            seconds.samples.push(Sample::take(meter.as_ref())?);
            thread::sleep(TELLING);
            seconds.hear(&workers);
            live.show(&seconds.second(second));
        }
        // What happens after the window's end is not of it, and telling of its last second takes a while.
        let after = match seconds.samples.last().filter(|last| last.at >= end) {
            Some(last) => *last,
            None => {
                sleep_until(end);
                Sample::take(meter.as_ref())?
            }
        };
        live.say("waiting for what is on its way".to_owned());
        workers.wait_for_all()?;
        seconds.hear(&workers);
        let tally = workers.finish()?;
        live.end();

        let elapsed = after.at - before.at;
        let usage = before.server.zip(after.server).zip(resident_before);
        let server = usage.map(|((before, after), resident)| {
            let per_client = (after.resident_bytes as f64 - resident as f64) / f64::from(crowd.users);
            Cost::new(run, &tally, [before, after], elapsed, per_client)
        });
        let load_cores = (after.own - before.own).as_secs_f64() / elapsed.as_secs_f64();
        let mut report = Report::new(run, &crowd, &schedule, &tally, server, load_cores);
        report.timeline = (1..=window.as_secs() as u32).map(|second| seconds.second(second)).collect();
        Ok(report)
    }
}

/// What is known of each second.
struct Seconds {
    users: u32,
    told: BTreeMap<u32, (Durations, u64)>,
    /// At the window's start, and at the end of each second.
    samples: Vec<Sample>,
}

impl Seconds {
    /// Takes in what the threads have told.
    fn hear(&mut self, workers: &Workers) {
        for snapshot in workers.snapshots.try_iter() {
            let (ages, bytes) = self.told.entry(snapshot.second).or_insert_with(|| (Durations::new(), 0));
            ages.merge(&snapshot.ages);
            *bytes += snapshot.bytes;
        }
    }

    fn second(&self, number: u32) -> Second {
        let mut second = match self.told.get(&number) {
            Some((ages, bytes)) => Second {
                bytes_per_user: Some(*bytes as f64 / f64::from(self.users)),
                ..Second::timed(number, ages)
            },
            None => Second { at_s: number, ..Second::default() },
        };
        let samples = self.samples.get(number as usize - 1).zip(self.samples.get(number as usize));
        if let Some((before, after)) = samples {
            let elapsed = (after.at - before.at).as_secs_f64();
            let cores = |before: Duration, after: Duration| {
                ratio(after.saturating_sub(before).as_secs_f64(), elapsed)
            };
            second.load_cores = Some(cores(before.own, after.own));
            let server = before.server.zip(after.server);
            second.server_cores = server.map(|(before, after)| cores(before.cpu, after.cpu));
            second.server_rss_mib = after.server.map(|usage| usage.resident_bytes as f64 / 1_048_576.0);
        }
        second
    }
}

/// Waits until everybody is in, and says what counts. Whoever arrives on a ramp moves from then on; without one
/// all begin together.
fn gather(
    workers: &Workers,
    load: &LoadOptions,
    begin: Instant,
    meanwhile: impl FnMut(),
) -> Result<Schedule> {
    let schedule = |start| Schedule::new(start, load.hz, load.users, load.phases);
    let schedule = if load.ramp.is_some() {
        let schedule = schedule(begin);
        workers.start(schedule);
        workers.wait_with(meanwhile)?;
        // Two on: some are on their way already.
        let from = schedule.moment(Instant::now()).latest() + 2;
        schedule.counting(from, load.warmup, load.duration)
    } else {
        workers.wait_with(meanwhile)?;
        schedule(Instant::now() + LEAD_IN).counting(0, load.warmup, load.duration)
    };
    workers.start(schedule);
    Ok(schedule)
}

/// Users that share a token. Each session is a member of its own all the same.
const USERS_PER_TOKEN: u32 = 100;

/// Logs in and creates rooms that are large enough, if the server is one where that is possible. Gives the tokens.
///
/// # Errors
/// If the server refuses.
pub(crate) fn log_in(
    target: &Target,
    auth: Auth,
    crowd: &Crowd,
    rooms: Option<&RoomOptions>,
    guests: u32,
) -> Result<Arc<[String]>> {
    if auth == Auth::None {
        return Ok(Arc::default());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut tokens = Vec::new();
        for number in 0..crowd.users.div_ceil(USERS_PER_TOKEN) {
            tokens.push(target.login(&format!("load {number}")).await?);
        }
        if let Some(options) = rooms {
            for (room, token) in (0..crowd.rooms).zip(tokens.iter().cycle()) {
                let places = crowd.room_size(room) + guests;
                target.create_room(token, &crowd.room_name(room), places, options).await?;
            }
        }
        Ok(tokens.into())
    })
}

fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}
