//! Surveys of runs that are made up.

use std::cell::RefCell;

use anyhow::bail;
use clap::Parser;

use super::*;
use crate::crowd::Crowd;
use crate::meter::Usage;
use crate::options::{Cli, Command, Phases};
use crate::report::Cost;
use crate::schedule::Schedule;
use crate::steady::Run;
use crate::tally::Tally;

/// The server in its three encodings, a relay, and the bare loop.
const BINARY: &str = "Copresence, binary";
const RELAY: &str = "naive relay, socketioxide";
const BARE: &str = "bare loop";

fn options(more: &str) -> SurveyOptions {
    let line = format!(
        "loadtest survey --server-bin s --naive-bin n --bare-bin b --sizes 25,100,200 --rounds 2 {more}"
    );
    let Some(Command::Survey(options)) = Cli::parse_from(line.split(' ')).command else { panic!("{line}") };
    *options
}

/// Two seconds in which all poses were as old.
fn report(contender: &Contender, age: Duration) -> Report {
    let load = &contender.load;
    let (protocol, judged) = (contender.protocol(), contender.is_judged());
    let run = Run { url: "", load, protocol, judged, server: None, cores: &[], guests: 0 };
    let crowd = Crowd { users: load.users, rooms: 1, room_prefix: String::new(), judges: load.users };
    let window = Duration::from_secs(2);
    let schedule =
        Schedule::new(Instant::now(), 20, load.users, Phases::Spread).counting(0, Duration::ZERO, window);
    let mut tally = Tally::new();
    (tally.sent, tally.received, tally.frames) = (100, 100, 100);
    tally.age_near.record(age);
    let used = |cpu_ms| Usage { cpu: Duration::from_millis(cpu_ms), waiting: None, resident_bytes: 0 };
    let cost = Cost::new(&run, &tally, [used(0), used(100)], window, 0.0);
    Report::new(&run, &crowd, &schedule, &tally, Some(cost), 0.0)
}

/// What came of a survey, and who was run with how many, in this order. `age_ms` is of a name, how many, and how often
/// this has been asked before.
fn surveyed(
    options: &SurveyOptions,
    age_ms: impl Fn(&str, u32, usize) -> Result<u64>,
) -> (Survey, Vec<(String, u32)>) {
    let runs: RefCell<Vec<(String, u32)>> = RefCell::default();
    let measure = |contender: &Contender, _, _: Option<&Report>, _| {
        let run = (contender.name.clone(), contender.load.users);
        let before = runs.borrow().iter().filter(|other| **other == run).count();
        runs.borrow_mut().push(run);
        let age = Duration::from_millis(age_ms(&contender.name, contender.load.users, before)?);
        Ok(report(contender, age))
    };
    let survey = Surveyor::new(options, &measure).unwrap().survey();
    (survey, runs.into_inner())
}

fn sizes_of(runs: &[(String, u32)], name: &str) -> Vec<u32> {
    runs.iter().filter(|(of, _)| of == name).map(|(_, users)| *users).collect()
}

fn row<'a>(survey: &'a Survey, name: &str) -> &'a findings::Row {
    survey.rows.iter().find(|row| row.name == name).unwrap()
}

#[test]
fn whoever_is_given_up_with_some_goes_on_with_fewer() {
    let (survey, runs) = surveyed(&options("--steps 0"), |name, users, _| match name {
        RELAY if users >= 100 => Ok(5_000),
        _ => Ok(50),
    });
    assert_eq!(sizes_of(&runs, RELAY), [25, 100, 25]);
    let relay = row(&survey, RELAY);
    assert!(relay.cells[1].figures.is_some() && relay.cells[1].missing.is_none(), "{relay:?}");
    assert_eq!(relay.cells[2].missing.as_ref().unwrap().why, "not measured: p99 5.0 s with 100");
    let room = relay.room.as_ref().unwrap();
    assert_eq!((room.limit, room.broken_at, room.end), (Some(25), Some(100), Some(findings::End::Steps)));
    assert!(room.why.as_ref().is_some_and(|why| why.starts_with("p99 ")), "{room:?}");
    assert_eq!(survey.shortfalls(), [""; 0]);
}

#[test]
fn what_has_failed_once_has_failed() {
    let (survey, runs) = surveyed(&options("--steps 0"), |name, users, before| match (name, users, before) {
        (BINARY, 100, 0) => bail!("it has gone"),
        _ => Ok(50),
    });
    assert_eq!(sizes_of(&runs, BINARY), [25, 100, 25]);
    assert_eq!(sizes_of(&runs, BARE), [25, 25], "nobody knows the server's bytes with more");
    let shortfalls = survey.shortfalls();
    assert_eq!(shortfalls, ["Copresence, binary, 100 users: failed with 100: it has gone"]);
    let room = row(&survey, BINARY).room.as_ref().unwrap();
    assert_eq!(room.why.as_deref(), Some("the run failed: it has gone"));
}

#[test]
fn a_later_failure_lowers_both_bounds_and_takes_nothing_from_others() {
    let (survey, runs) = surveyed(&options("--steps 0"), |name, users, before| match (name, users, before) {
        (BINARY, 100, 1) => bail!("it has gone"),
        (RELAY, 200, _) | (RELAY, 100, 1) => Ok(150),
        _ => Ok(50),
    });
    for name in [BINARY, RELAY] {
        let room = row(&survey, name).room.as_ref().unwrap();
        assert_eq!((room.limit, room.broken_at), (Some(25), Some(100)), "{name}");
    }
    assert_eq!(sizes_of(&runs, BINARY), [25, 100, 200, 25, 100]);
    assert_eq!(sizes_of(&runs, BARE), [25, 100, 200, 25, 100, 200], "its bytes are known of the first round");
}

#[test]
fn the_search_goes_where_least_is_known() {
    let (survey, runs) = surveyed(&options("--steps 2 --most 400"), |name, users, _| match name {
        RELAY => Ok(if users > 60 { 150 } else { 50 }),
        BINARY if users > 200 => bail!("it has gone"),
        _ => Ok(50),
    });
    let searched = &runs[runs.len() - 6..];
    let expected = [
        (BINARY, 400),
        ("Copresence, batch", 400),
        ("Copresence, stock JSON", 400),
        (RELAY, 50),
        (BINARY, 280),
    ];
    let expected = expected.map(|(name, users)| (name.to_owned(), users));
    assert_eq!(searched[..5], expected, "{searched:?}");
    assert_eq!(searched[5], (RELAY.to_owned(), 70));
    let room = row(&survey, BINARY).room.as_ref().unwrap();
    assert_eq!((room.limit, room.broken_at, room.end), (Some(200), Some(280), Some(findings::End::Steps)));
    assert_eq!(row(&survey, "Copresence, batch").room.as_ref().unwrap().end, Some(findings::End::Found));
}

#[test]
fn a_silence_can_only_be_told_in_a_window_that_is_longer() {
    let options = options("--duration 2s --max-gap 2s");
    let refused = Surveyor::new(&options, &measure).err().expect("it is refused");
    assert!(refused.to_string().contains("--max-gap"), "{refused}");
}
