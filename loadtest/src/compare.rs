//! Two servers under the same load on the same core, one after the other and in turns.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;

use crate::options::{Auth, CompareOptions, Encoding, LoadOptions};
use crate::process::{Process, pin};
use crate::report::{Cost, Report, ratio};
use crate::steady::{self, Run};

/// How long a server may take until it accepts connections, and until it has ended when told to.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often is looked whether it has.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A server that takes part.
#[derive(Debug, Clone)]
struct Contender {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    load: LoadOptions,
}

impl Contender {
    /// The server first, then the relays in the order of the command line: programs, then commands.
    fn all(options: &CompareOptions) -> Result<Vec<Self>> {
        // Relays know one encoding and no logins.
        let relay_load = LoadOptions { auth: Auth::None, encoding: Encoding::Json, ..options.load.clone() };
        let relay = |program: &Path, args: Vec<String>, number: usize| {
            let name = if number == 0 { "relay".to_owned() } else { format!("relay {}", number + 1) };
            Self { name, program: program.to_owned(), args, load: relay_load.clone() }
        };
        let mut contenders = vec![Self {
            name: "server".to_owned(),
            program: options.server_bin.clone(),
            args: Vec::new(),
            load: options.load.clone(),
        }];
        for program in &options.naive_bin {
            contenders.push(relay(program, Vec::new(), contenders.len() - 1));
        }
        for command in &options.naive_cmd {
            let mut words = command.split_whitespace().map(str::to_owned);
            let program = words.next().context("an empty --naive-cmd")?;
            contenders.push(relay(Path::new(&program), words.collect(), contenders.len() - 1));
        }
        Ok(contenders)
    }
}

/// One measured run of one of them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) server: String,
    pub(crate) report: Report,
}

/// Medians of one of them over the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Medians {
    pub(crate) name: String,
    pub(crate) program: String,
    pub(crate) encoding: &'static str,
    pub(crate) poses_per_cpu_s: f64,
    pub(crate) cpu_us_per_user_tick: f64,
    pub(crate) p99_ms: f64,
    pub(crate) kib_per_user_s: f64,
    pub(crate) rss_mib: f64,
    /// Poses per CPU second of the server by those of this one, round by round, and their median; 1 for the server.
    pub(crate) ratios: Vec<f64>,
    pub(crate) ratio: f64,
}

/// What the comparison has found.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) rounds: Vec<Round>,
    /// Medians over the rounds: of the server first, then of each relay.
    pub(crate) medians: Vec<Medians>,
    /// What was asked for and not reached; empty if all was.
    pub(crate) shortfalls: Vec<String>,
}

/// Measures both in turns. `progress` gets each round as it ends.
///
/// # Errors
/// If one of them does not start, or a run cannot be completed.
pub(crate) fn run(options: &CompareOptions, mut progress: impl FnMut(&Round)) -> Result<Comparison> {
    ensure!(options.server_core != options.load_core, "the server and the load need a core each");
    let contenders = Contender::all(options)?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        for contender in &contenders {
            let round = Round { server: contender.name.clone(), report: measure(contender, options)? };
            progress(&round);
            rounds.push(round);
        }
    }
    Ok(judge(rounds, &contenders, options))
}

fn measure(contender: &Contender, options: &CompareOptions) -> Result<Report> {
    let mut server = Running::start(&contender.program, &contender.args, options.server_core)
        .with_context(|| format!("{} does not start", contender.program.display()))?;
    let url = format!("http://{}:{}", Ipv4Addr::LOCALHOST, server.port);
    let process = Process(server.child.id());
    let run = Run { url: &url, load: &contender.load, server: Some(process), cores: &[options.load_core] };
    let report = steady::run(&run).with_context(|| contender.name.clone())?;
    server.stop()?;
    Ok(report)
}

fn judge(rounds: Vec<Round>, contenders: &[Contender], options: &CompareOptions) -> Comparison {
    let rate = |report: &Report| report.server.as_ref().map_or(0.0, |cost| cost.poses_per_cpu_s);
    let turns: Vec<&[Round]> = rounds.chunks_exact(contenders.len()).collect();
    let medians: Vec<Medians> = (contenders.iter().enumerate())
        .map(|(at, contender)| {
            let of = |figure: &dyn Fn(&Report) -> f64| {
                median(turns.iter().map(|turn| figure(&turn[at].report)).collect())
            };
            let cost = |figure: fn(&Cost) -> f64| of(&|report| report.server.as_ref().map_or(0.0, figure));
            let ratios: Vec<f64> =
                turns.iter().map(|turn| ratio(rate(&turn[0].report), rate(&turn[at].report))).collect();
            Medians {
                name: contender.name.clone(),
                program: [&[contender.program.display().to_string()], &contender.args[..]].concat().join(" "),
                encoding: contender.load.encoding.as_str(),
                poses_per_cpu_s: of(&rate),
                cpu_us_per_user_tick: cost(|cost| cost.cpu_us_per_user_tick),
                p99_ms: of(&|report| report.pose_age_ms.p99),
                kib_per_user_s: of(&|report| report.bytes_per_user_s / 1024.0),
                rss_mib: cost(|cost| cost.rss_mib),
                ratio: median(ratios.clone()),
                ratios,
            }
        })
        .collect();
    let mut shortfalls = Vec::new();
    for Medians { name, ratio, .. } in &medians[1..] {
        if *ratio < options.min_ratio {
            shortfalls
                .push(format!("the ratio to {name} is {ratio:.2}, asked for was {}", options.min_ratio));
        }
    }
    if medians[0].p99_ms > options.max_p99.as_secs_f64() * 1e3 {
        let asked = humantime::format_duration(options.max_p99);
        shortfalls.push(format!("the server's p99 is {:.1} ms, asked for was {asked}", medians[0].p99_ms));
    }
    for round in &rounds {
        shortfalls.extend(round.report.faults().iter().map(|fault| format!("{}: {fault}", round.server)));
    }
    Comparison { rounds, medians, shortfalls }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

/// A server that is stopped when this goes, whatever happens.
struct Running {
    child: Child,
    port: u16,
    data: PathBuf,
}

impl Running {
    /// Starts `program` with `args` on `core`, with a free port in `PORT` and an empty folder in `DATA_DIR`, and
    /// waits until it accepts connections.
    fn start(program: &Path, args: &[String], core: usize) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let data = std::env::temp_dir().join(format!("loadtest-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&data)?;
        let mut command = Command::new(program);
        command.args(args).env("PORT", port.to_string()).env("DATA_DIR", &data);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A child inherits the cores of the thread that starts it, before it runs a single instruction.
        let starter = thread::spawn(move || {
            pin(core)?;
            Ok::<_, anyhow::Error>(command.spawn()?)
        });
        let child = starter.join().map_err(|_| anyhow!("the starting thread has panicked"))??;
        let mut server = Self { child, port, data };
        server.wait_until_open()?;
        Ok(server)
    }

    fn wait_until_open(&mut self) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once: {status}");
            }
            ensure!(Instant::now() < give_up, "it accepts no connections");
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    fn stop(&mut self) -> Result<()> {
        Process(self.child.id()).terminate()?;
        let give_up = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < give_up, "the server does not end when asked to");
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { pose_age_ms: age, poses_received, poses_expected, load_cores, .. } = &self.report;
        write!(f, "{:<12}", self.server)?;
        if let Some(cost) = &self.report.server {
            let Cost { cores, rss_mib, poses_per_cpu_s, cpu_us_per_user_tick, .. } = cost;
            write!(f, "{poses_per_cpu_s:>9.0} poses/CPU s  {cpu_us_per_user_tick:>6.1} µs/user-tick  ")?;
            write!(f, "{cores:.3} cores  {rss_mib:>5.1} MiB  ")?;
        }
        let share = 100.0 * ratio(*poses_received as f64, *poses_expected as f64);
        write!(
            f,
            "age p50 {:.1} p99 {:.1} ms  arrived {share:.1} %  load {load_cores:.2} cores",
            age.p50, age.p99
        )?;
        self.report.doubts().iter().try_for_each(|doubt| write!(f, "\n  doubtful: {doubt}"))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.medians.first().map_or(0, |medians| medians.ratios.len());
        writeln!(f, "medians of {rounds} rounds")?;
        for medians in &self.medians {
            writeln!(f, "  {:<10}{}, {}", medians.name, medians.program, medians.encoding)?;
        }
        write!(f, "  {:<22}", "")?;
        self.medians.iter().try_for_each(|medians| write!(f, "{:>12}", medians.name))?;
        type Row = (&'static str, fn(&Medians) -> f64, usize);
        let rows: [Row; 5] = [
            ("poses per CPU second", |medians| medians.poses_per_cpu_s, 0),
            ("CPU µs per user-tick", |medians| medians.cpu_us_per_user_tick, 1),
            ("p99 pose age, ms", |medians| medians.p99_ms, 1),
            ("KiB/s per client", |medians| medians.kib_per_user_s, 1),
            ("resident, MiB", |medians| medians.rss_mib, 1),
        ];
        for (name, figure, digits) in rows {
            write!(f, "\n  {name:<22}")?;
            self.medians.iter().try_for_each(|medians| write!(f, "{:>12.digits$}", figure(medians)))?;
        }
        writeln!(f)?;
        for Medians { name, ratios, ratio, .. } in self.medians.iter().skip(1) {
            let rounds: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
            writeln!(
                f,
                "  poses per CPU second, ratio to {name}: {ratio:.2} (rounds: {})",
                rounds.join(", ")
            )?;
        }
        if self.shortfalls.is_empty() {
            return writeln!(f, "  all that was asked for is reached");
        }
        self.shortfalls.iter().try_for_each(|shortfall| writeln!(f, "  NOT REACHED: {shortfall}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in
            [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 2.0], 3.0)]
        {
            assert_eq!(median(values), expected);
        }
    }

    #[test]
    fn what_does_not_start_is_told() {
        assert!(Running::start(Path::new("no-such-server"), &[], 0).is_err());
        let ends_at_once = Running::start(Path::new("/bin/false"), &[], 0);
        assert!(ends_at_once.is_err_and(|error| error.to_string().contains("ended at once")));
    }
}
