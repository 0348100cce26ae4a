//! What a survey has found, as it is kept in a file.

use serde::{Deserialize, Serialize};

use crate::compare::contender::Kind;
use crate::compare::median;
use crate::options::Note;
use crate::report::{Report, ratio};

/// Above this share of its core a server has nothing left.
const CORE_FULL: f64 = 0.95;
/// Above this share it has nothing left either if its poses are too old.
const CORE_NEARLY_FULL: f64 = 0.9;

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Survey {
    pub(crate) sizes: Vec<u32>,
    pub(crate) rounds: u32,
    pub(crate) hz: u32,
    pub(crate) area_m: f32,
    pub(crate) warmup_s: f64,
    pub(crate) window_s: f64,
    /// What the p99 pose age may be in the largest room.
    pub(crate) p99_ms: f64,
    /// For how long somebody near may go unheard of there.
    pub(crate) max_gap_ms: f64,
    pub(crate) rows: Vec<Row>,
    pub(crate) left_out: Vec<Note>,
    /// Versions and the like.
    pub(crate) facts: Vec<Note>,
}

/// One of those who took part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) encoding: String,
    /// How it was started, and how it was loaded.
    pub(crate) command: String,
    pub(crate) load: String,
    /// One for each size.
    pub(crate) cells: Vec<Cell>,
    /// `None` where ages are not known.
    pub(crate) room: Option<Room>,
}

/// Somebody with so many users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) users: u32,
    /// Medians over the rounds.
    pub(crate) figures: Option<Figures>,
    /// Why there are none.
    pub(crate) missing: Option<Missing>,
}

/// Why there are no figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Missing {
    pub(crate) why: String,
    /// Whether it was tried and failed.
    pub(crate) failed: bool,
}

/// The figures of one run, or the medians of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// `None` if poses are not judged, or none arrived.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    /// Poses that arrived, of those that would have if everybody got all of everybody else.
    pub(crate) arrived: Option<f64>,
    pub(crate) cpu_us_per_user_tick: f64,
    pub(crate) cores: f64,
    pub(crate) kib_per_user_s: f64,
    /// Whether the load was at its own limit in one of the rounds.
    pub(crate) load_is_the_limit: bool,
    /// What was wrong in any of the rounds, ages not among it.
    pub(crate) faults: Vec<String>,
    /// What makes the figures doubtful, though the server may be right.
    #[serde(default)]
    pub(crate) doubts: Vec<String>,
}

/// How large a room may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Room {
    /// The most users that were tried and well, and the fewest that were not.
    pub(crate) limit: Option<u32>,
    pub(crate) broken_at: Option<u32>,
    /// Whether it was the load that could do no more.
    pub(crate) load_is_the_limit: bool,
    /// What was wrong with the fewest that were not well, in a few words.
    pub(crate) why: Option<String>,
    /// How the search has ended; `None` if that was not written down.
    pub(crate) end: Option<End>,
}

/// How a search for the largest room has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum End {
    /// The bounds are as near as was asked for, or there is nothing more to try.
    Found,
    /// As many numbers were tried as was allowed.
    Steps,
    /// The time was up.
    Time,
}

impl Room {
    /// Whether the two bounds have come as near as was asked for. If not, all that is known is that the largest room is
    /// between them.
    pub(crate) fn is_found(&self) -> bool {
        self.end == Some(End::Found)
    }
}

impl Figures {
    /// Of one run; `None` if the server's process was not measured.
    pub(crate) fn of(report: &Report) -> Option<Self> {
        let cost = report.server.as_ref()?;
        let poses = report.poses.as_ref();
        // Of nothing that arrived there is no age.
        let ages = poses.filter(|poses| poses.poses_received > 0).map(|poses| &poses.pose_age_ms);
        Some(Self {
            p50_ms: ages.map(|ages| ages.p50),
            p99_ms: ages.map(|ages| ages.p99),
            arrived: poses.map(|poses| ratio(poses.poses_received as f64, poses.poses_expected as f64)),
            cpu_us_per_user_tick: cost.cpu_us_per_user_tick,
            cores: cost.cores,
            kib_per_user_s: report.bytes_per_user_s / 1_024.0,
            // Where both are, the server is what is to be measured.
            load_is_the_limit: report.load_is_the_limit() && cost.cores <= CORE_FULL,
            // The bare loop's poses are made up.
            faults: if poses.is_some() { report.faults() } else { Vec::new() },
            doubts: report.doubts(),
        })
    }

    /// Medians of several runs; `None` of none.
    pub(crate) fn medians(runs: &[Self]) -> Option<Self> {
        let of = |figure: fn(&Self) -> f64| median(runs.iter().map(figure).collect());
        let known = |figure: fn(&Self) -> Option<f64>| {
            runs.iter().map(figure).collect::<Option<Vec<f64>>>().map(median)
        };
        let told = |told: fn(&Self) -> &Vec<String>| {
            let mut told: Vec<String> = runs.iter().flat_map(told).cloned().collect();
            told.dedup();
            told
        };
        (!runs.is_empty()).then(|| Self {
            p50_ms: known(|run| run.p50_ms),
            p99_ms: known(|run| run.p99_ms),
            arrived: known(|run| run.arrived),
            cpu_us_per_user_tick: of(|run| run.cpu_us_per_user_tick),
            cores: of(|run| run.cores),
            kib_per_user_s: of(|run| run.kib_per_user_s),
            load_is_the_limit: runs.iter().any(|run| run.load_is_the_limit),
            faults: told(|run| &run.faults),
            doubts: told(|run| &run.doubts),
        })
    }

    /// Whether its core was full, so that its CPU time says no more what the work costs. A core that is nearly full over
    /// the window, and whose poses are older than `p99_ms`, has been full for some of it.
    pub(crate) fn is_overloaded(&self, p99_ms: f64) -> bool {
        let is_late = self.p99_ms.is_some_and(|found| found > p99_ms);
        self.cores > CORE_FULL || (is_late && self.cores > CORE_NEARLY_FULL)
    }
}

impl Survey {
    /// What went wrong with the server itself, each in a sentence.
    pub(crate) fn shortfalls(&self) -> Vec<String> {
        let mut shortfalls = Vec::new();
        for row in self.rows.iter().filter(|row| row.kind == Kind::Server) {
            for Cell { users, figures, missing } in &row.cells {
                // Whom a load at its limit reads too slowly may be cut off for it.
                let judged = figures.iter().filter(|figures| !figures.load_is_the_limit);
                let faults = judged.flat_map(|figures| &figures.faults);
                let failed = missing.iter().filter(|missing| missing.failed).map(|missing| &missing.why);
                shortfalls
                    .extend(faults.chain(failed).map(|why| format!("{}, {users} users: {why}", row.name)));
            }
        }
        shortfalls
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn figures(p99_ms: Option<f64>, cpu_us: f64, cores: f64) -> Figures {
        Figures {
            p50_ms: p99_ms.map(|p99_ms| p99_ms / 2.0),
            p99_ms,
            arrived: p99_ms.map(|_| 1.0),
            cpu_us_per_user_tick: cpu_us,
            cores,
            kib_per_user_s: 53.0,
            load_is_the_limit: false,
            faults: Vec::new(),
            doubts: Vec::new(),
        }
    }

    pub(in super::super) fn row(name: &str, kind: Kind, cells: Vec<Result<Figures, &str>>) -> Row {
        let cells = cells.into_iter().zip([25, 1_000]).map(|(figures, users)| {
            let missing = figures.as_ref().err().map(|why| Missing { why: (*why).to_owned(), failed: false });
            Cell { users, figures: figures.ok(), missing }
        });
        Row {
            name: name.to_owned(),
            kind,
            encoding: "json".to_owned(),
            command: format!("target/release/{name}"),
            load: "loadtest --users N".to_owned(),
            cells: cells.collect(),
            room: Some(room(Some(1_200), 1_300, "p99 113 ms")),
        }
    }

    /// A room that has been found.
    fn room(limit: Option<u32>, broken_at: u32, why: &str) -> Room {
        let (broken_at, why) = (Some(broken_at), Some(why.to_owned()));
        Room { limit, broken_at, load_is_the_limit: false, why, end: Some(End::Found) }
    }

    /// The server, a relay that can do no more, and the bare loop.
    pub(in super::super) fn survey() -> Survey {
        let note = |name: &str, text: &str| Note { name: name.to_owned(), text: text.to_owned() };
        let mut bare =
            row("bare loop", Kind::Bare, vec![Ok(figures(None, 11.0, 0.01)), Ok(figures(None, 8.0, 0.2))]);
        bare.room = None;
        let mut relay =
            row("relay", Kind::Relay, vec![Ok(figures(Some(9_000.0), 250.0, 0.99)), Err("too slow with 25")]);
        relay.room = Some(room(None, 25, "p99 9000 ms"));
        let served = vec![Ok(figures(Some(51.25), 22.5, 0.1)), Ok(figures(Some(60.0), 11.0, 0.3))];
        Survey {
            sizes: vec![25, 1_000],
            rounds: 1,
            hz: 20,
            area_m: 200.0,
            warmup_s: 1.0,
            window_s: 3.0,
            p99_ms: 100.0,
            max_gap_ms: 1_500.0,
            rows: vec![row("Copresence", Kind::Server, served), relay, bare],
            left_out: vec![note("Bun", "npm has it not")],
            facts: vec![note("rustc", "1.96.0")],
        }
    }

    #[test]
    fn it_comes_back_from_its_file_as_it_was() {
        let survey = survey();
        let json = serde_json::to_string(&survey).unwrap();
        assert_eq!(serde_json::from_str::<Survey>(&json).unwrap(), survey);
    }

    #[test]
    fn medians_are_of_each_figure_and_faults_of_all_rounds() {
        let mut runs = [10.0, 30.0, 20.0].map(|p99_ms| figures(Some(p99_ms), 100.0 - p99_ms, 0.5));
        runs[1].faults = vec!["1 sessions ended: gone".to_owned()];
        runs[2].load_is_the_limit = true;
        let medians = Figures::medians(&runs).unwrap();
        assert_eq!((medians.p99_ms, medians.cpu_us_per_user_tick), (Some(20.0), 80.0));
        assert!(medians.load_is_the_limit && medians.faults.len() == 1 && !medians.is_overloaded(1.0));
        assert_eq!(Figures::medians(&[]), None);
        assert_eq!(Figures::medians(&[figures(None, 1.0, 0.5)]).map(|f| f.p99_ms), Some(None));
    }

    #[test]
    fn a_core_is_full_earlier_if_poses_are_late() {
        for (p99_ms, cores, expected) in [
            (None, 0.94, false),
            (None, 0.96, true),
            (Some(99.0), 0.94, false),
            (Some(1_070.0), 0.93, true),
            (Some(1_070.0), 0.89, false),
        ] {
            assert_eq!(figures(p99_ms, 1.0, cores).is_overloaded(100.0), expected, "{p99_ms:?} {cores}");
        }
    }

    #[test]
    fn only_the_servers_own_failures_count() {
        let mut survey = survey();
        assert_eq!(survey.shortfalls(), [""; 0], "a relay that is too slow is a finding");
        let missing = |failed| Some(Missing { why: "it ended at once".to_owned(), failed });
        survey.rows[0].cells[1] = Cell { users: 1_000, figures: None, missing: missing(false) };
        assert_eq!(survey.shortfalls(), [""; 0], "what was not tried has not failed");
        survey.rows[0].cells[1].missing = missing(true);
        assert_eq!(survey.shortfalls(), ["Copresence, 1000 users: it ended at once"]);
    }
}
