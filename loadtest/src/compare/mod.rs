//! Servers under the same load on the same core, one after the other and in turns.

pub(crate) mod contender;
pub(crate) mod running;
mod text;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::compare::contender::{Contender, Kind};
use crate::compare::running::{Deadline, Running};
use crate::live::Live;
use crate::options::CompareOptions;
use crate::report::{Cost, Report, ratio};
use crate::steady::{self, Run};

/// Who sends its users fewer ticks per second than this does less than the others for its CPU time, and is marked.
const TICKS_PER_S_MIN: f64 = 18.0;

/// One measured run of one of them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) server: String,
    pub(crate) report: Report,
}

/// How two of them compare in one figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    /// Turn by turn.
    pub(crate) rounds: Vec<f64>,
}

/// Medians of one of them over the rounds; `None` where a figure is not known.
#[derive(Debug, Serialize)]
pub(crate) struct Medians {
    pub(crate) name: String,
    pub(crate) program: String,
    pub(crate) encoding: &'static str,
    pub(crate) poses_per_cpu_s: Option<f64>,
    pub(crate) cpu_us_per_user_tick: Option<f64>,
    pub(crate) cpu_us_per_delivered_tick: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) ticks_per_user_s: Option<f64>,
    /// Whether these are too few.
    pub(crate) misses_ticks: bool,
    pub(crate) kib_per_user_s: Option<f64>,
    pub(crate) rss_mib: Option<f64>,
    /// Poses per CPU second: the server's by this one's.
    pub(crate) poses_ratio: Option<Ratio>,
    /// CPU time per user-tick: this one's by the server's.
    pub(crate) cpu_ratio: Option<Ratio>,
    /// The same per delivered user-tick.
    pub(crate) delivered_cpu_ratio: Option<Ratio>,
    /// Bytes per user: this one's by the server's.
    pub(crate) bytes_ratio: Option<Ratio>,
    /// CPU time per user-tick: the server's by that of the bare loop; `None` for everybody else.
    pub(crate) bare_ratio: Option<Ratio>,
}

/// What the comparison has found.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) rounds: Vec<Round>,
    /// Medians over the rounds: of the server first, then of each of the others.
    pub(crate) medians: Vec<Medians>,
    /// What was asked for and not reached; empty if all was.
    pub(crate) shortfalls: Vec<String>,
}

/// Measures all in turns. `progress` gets each round as it ends.
///
/// # Errors
/// If one of them does not start, or a run cannot be completed.
pub(crate) fn run(options: &CompareOptions, mut progress: impl FnMut(&Round)) -> Result<Comparison> {
    ensure!(options.server_core != options.load_core, "the server and the load need a core each");
    let contenders = Contender::all(options)?;
    let mut rounds: Vec<Round> = Vec::new();
    for turn in 0..options.rounds as usize {
        for contender in &contenders {
            // The server comes first in each turn.
            let server = rounds.get(turn * contenders.len()).map(|round| &round.report);
            let cores = Cores { server: options.server_core, load: options.load_core };
            let report = measure(contender, cores, server, None)?;
            let round = Round { server: contender.name.clone(), report };
            progress(&round);
            rounds.push(round);
        }
    }
    Ok(judge(rounds, &contenders, options))
}

/// Where each of the two runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) load: usize,
}

/// Starts it, measures it, and ends it. `server` is what the server has just been found to do, and `patience` how long
/// it may take at most.
///
/// # Errors
/// If it does not start, does not end, or cannot be measured.
pub(crate) fn measure(
    contender: &Contender,
    cores: Cores,
    server: Option<&Report>,
    patience: Option<Duration>,
) -> Result<Report> {
    let environment = contender.environment(server);
    let told = format!("{} {environment:?}", contender.command());
    let running = Running::start(&contender.program, &contender.args, environment, cores.server)
        .with_context(|| format!("{told} does not start"))?;
    let mut deadline = patience.map(|patience| running.deadline(patience));
    let url = format!("http://{}:{}", Ipv4Addr::LOCALHOST, running.port);
    let run = Run {
        url: &url,
        load: &contender.load,
        protocol: contender.protocol(),
        judged: contender.is_judged(),
        server: Some(running.process()),
        cores: &[cores.load],
        guests: 0,
    };
    let report = steady::run(&run, &Live::new()).with_context(|| contender.name.clone());
    if deadline.as_mut().is_some_and(Deadline::is_over) {
        bail!("{} took longer than {patience:?}", contender.name);
    }
    let report = report?;
    running.stop()?;
    Ok(report)
}

/// A figure of a report, if it is known.
type Figure = fn(&Report) -> Option<f64>;

fn cost(report: &Report, figure: impl Fn(&Cost) -> Option<f64>) -> Option<f64> {
    report.server.as_ref().and_then(figure)
}

const POSES_PER_CPU_S: Figure = |report| cost(report, |cost| cost.poses_per_cpu_s);
const CPU_PER_TICK: Figure = |report| cost(report, |cost| Some(cost.cpu_us_per_user_tick));
const CPU_PER_DELIVERED: Figure = |report| cost(report, |cost| cost.cpu_us_per_delivered_tick);
const KIB_PER_USER_S: Figure = |report| Some(report.bytes_per_user_s / 1024.0);

impl Medians {
    /// Of the contender that comes at `at` in each of the turns.
    fn new(contender: &Contender, at: usize, turns: &[&[Round]]) -> Self {
        let of = |figure: Figure| {
            let figures: Option<Vec<f64>> = turns.iter().map(|turn| figure(&turn[at].report)).collect();
            figures.map(median)
        };
        // Of one of a turn by another of the same turn.
        let compare = |figure: Figure, above: usize, below: usize| {
            let of_turn =
                |turn: &&[Round]| Some(ratio(figure(&turn[above].report)?, figure(&turn[below].report)?));
            let rounds: Vec<f64> = turns.iter().map(of_turn).collect::<Option<_>>()?;
            Some(Ratio { median: median(rounds.clone()), rounds })
        };
        let ticks_per_user_s = of(|report| report.ticks_per_user_s);
        Self {
            name: contender.name.clone(),
            program: contender.command(),
            encoding: contender.encoding(),
            poses_per_cpu_s: of(POSES_PER_CPU_S),
            cpu_us_per_user_tick: of(CPU_PER_TICK),
            cpu_us_per_delivered_tick: of(CPU_PER_DELIVERED),
            p99_ms: of(|report| report.poses.as_ref().map(|poses| poses.pose_age_ms.p99)),
            ticks_per_user_s,
            misses_ticks: ticks_per_user_s.is_some_and(|ticks| ticks < TICKS_PER_S_MIN),
            kib_per_user_s: of(KIB_PER_USER_S),
            rss_mib: of(|report| cost(report, |cost| Some(cost.rss_mib))),
            poses_ratio: compare(POSES_PER_CPU_S, 0, at),
            cpu_ratio: compare(CPU_PER_TICK, at, 0),
            delivered_cpu_ratio: compare(CPU_PER_DELIVERED, at, 0),
            bytes_ratio: compare(KIB_PER_USER_S, at, 0),
            bare_ratio: if contender.kind == Kind::Bare { compare(CPU_PER_TICK, 0, at) } else { None },
        }
    }
}

fn judge(rounds: Vec<Round>, contenders: &[Contender], options: &CompareOptions) -> Comparison {
    let turns: Vec<&[Round]> = rounds.chunks_exact(contenders.len()).collect();
    let medians: Vec<Medians> =
        contenders.iter().enumerate().map(|(at, contender)| Medians::new(contender, at, &turns)).collect();
    let mut shortfalls = Vec::new();
    for (contender, Medians { name, poses_ratio, .. }) in contenders.iter().zip(&medians) {
        let ratio = poses_ratio.as_ref().map_or(0.0, |ratio| ratio.median);
        if contender.kind == Kind::Relay && ratio < options.min_ratio {
            shortfalls
                .push(format!("the ratio to {name} is {ratio:.2}, asked for was {}", options.min_ratio));
        }
    }
    let p99_ms = medians[0].p99_ms.unwrap_or_default();
    if p99_ms > options.max_p99.as_secs_f64() * 1e3 {
        let asked = humantime::format_duration(options.max_p99);
        shortfalls.push(format!("the server's p99 is {p99_ms:.1} ms, asked for was {asked}"));
    }
    for round in &rounds {
        shortfalls.extend(round.report.faults().iter().map(|fault| format!("{}: {fault}", round.server)));
    }
    Comparison { rounds, medians, shortfalls }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crowd::Crowd;
    use crate::meter::Usage;
    use crate::options::{Cli, Command, Phases};
    use crate::schedule::Schedule;
    use crate::tally::{Tally, Traffic};
    use clap::Parser;
    use std::time::Instant;

    /// Ten seconds of a contender: two users at 20 Hz, of whom each got so much.
    fn report(contender: &Contender, cpu_ms: u64, traffic: Traffic) -> Report {
        let load = &contender.load;
        let (protocol, judged) = (contender.protocol(), contender.is_judged());
        let run = Run { url: "", load, protocol, judged, server: None, cores: &[], guests: 0 };
        let crowd = Crowd { users: 2, rooms: 1, room_prefix: String::new(), judges: 0 };
        let window = Duration::from_secs(10);
        let schedule =
            Schedule::new(Instant::now(), 20, 2, Phases::Spread).counting(0, Duration::ZERO, window);
        let mut tally = Tally::new();
        (tally.sent, tally.received) = (400, if judged { 400 } else { 0 });
        (0..2).for_each(|_| tally.count_traffic(&traffic, judged));
        let used = |cpu_ms| Usage { cpu: Duration::from_millis(cpu_ms), waiting: None, resident_bytes: 0 };
        let usage = [used(0), used(cpu_ms)];
        let cost = Cost::new(&run, &tally, usage, window, 0.0);
        Report::new(&run, &crowd, &schedule, &tally, Some(cost), 0.0)
    }

    #[test]
    fn whoever_misses_ticks_is_marked_and_ratios_are_of_one_turn() {
        let line = "loadtest compare --server-bin s --encoding binary --colyseus-cmd c --bare-bin b";
        let Some(Command::Compare(options)) = Cli::parse_from(line.split(' ')).command else { panic!() };
        let contenders = Contender::all(&options).unwrap();
        let traffic = |ticks| Traffic { frames: ticks, bytes: 1_024 * ticks, ticks };
        let mut rounds = Vec::new();
        for cpu_ms in [40, 80] {
            for (contender, (times, ticks)) in contenders.iter().zip([(4, 200), (8, 160), (2, 200)]) {
                let report = report(contender, cpu_ms * times, traffic(ticks));
                rounds.push(Round { server: contender.name.clone(), report });
            }
        }
        let comparison = judge(rounds, &contenders, &options);
        assert_eq!(comparison.shortfalls, [""; 0], "poses that nobody can judge are no fault");
        let [server, colyseus, bare] = &comparison.medians[..] else { panic!("three take part") };
        // 160 ms and 320 ms for 400 of them.
        assert_eq!(
            (server.cpu_us_per_user_tick, server.cpu_us_per_delivered_tick),
            (Some(600.0), Some(600.0))
        );
        assert_eq!((bare.poses_per_cpu_s, bare.p99_ms), (None, None));
        let always = |ratio| Some(Ratio { median: ratio, rounds: vec![ratio, ratio] });
        assert_eq!((&colyseus.cpu_ratio, &colyseus.delivered_cpu_ratio), (&always(2.0), &always(2.5)));
        assert_eq!((&colyseus.bytes_ratio, &colyseus.bare_ratio), (&always(0.8), &None));
        assert_eq!((bare.cpu_us_per_user_tick, &bare.bare_ratio), (Some(300.0), &always(2.0)));
        let marked = [server, colyseus, bare].map(|medians| medians.misses_ticks);
        assert_eq!((marked, colyseus.ticks_per_user_s), ([false, true, false], Some(16.0)));
        let text = comparison.to_string();
        assert!(
            text.contains(" colyseus* ") && text.contains("* colyseus falls short of 18 ticks"),
            "{text}"
        );
    }

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in
            [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 2.0], 3.0)]
        {
            assert_eq!(median(values), expected);
        }
    }
}
