//! The command line, read.

use super::*;
use clap::CommandFactory;

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
    let cli = Cli::parse_from("loadtest --url http://127.0.0.1:1 --users 7 --pin 0,1".split(' '));
    let steady = cli.steady;
    assert_eq!((steady.load.users, steady.pin), (7, vec![0, 1]));
    let cli = Cli::parse_from("loadtest idle --url http://127.0.0.1:1 --pid 1".split(' '));
    assert!(matches!(cli.command, Some(Command::Idle(_))));
    assert!(Cli::try_parse_from(["loadtest"]).is_err(), "which server?");
    assert!(Cli::try_parse_from("loadtest compare --server-bin a".split(' ')).is_err(), "with what?");
    for other in ["--naive-bin b", "--naive-cmd b", "--colyseus-cmd b", "--bare-bin b"] {
        let line = format!("loadtest compare --server-bin a {other}");
        assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{other} is enough");
    }
}

#[test]
fn receivers_are_judged_by_the_encoding_or_as_asked_for() {
    for (options, judges) in [
        ("--users 5000", 5_000),
        ("--users 5000 --encoding binary", 200),
        ("--users 50 --server-encoding binary", 50),
        ("--users 5000 --protocol colyseus", 200),
        ("--users 5000 --judges 7", 7),
    ] {
        let line = format!("loadtest --url http://127.0.0.1:1 {options}");
        let steady = Cli::parse_from(line.split(' ')).steady;
        assert_eq!(steady.load.judges(steady.protocol), judges, "{options}");
    }
    for wrong in ["--hands 1.5", "--hands x", "--near -1", "--area nan", "--tick-hz fast"] {
        let line = format!("loadtest --url http://127.0.0.1:1 {wrong}");
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{wrong}");
    }
}

#[test]
fn rooms_are_created_with_what_was_asked_for_and_no_more() {
    for (options, expected) in [
        ("", serde_json::json!({})),
        (" --tick-hz auto", serde_json::json!({ "tickHz": "auto" })),
        (
            " --tick-hz 30 --view-budget 4096 --view-radius 40",
            serde_json::json!({ "tickHz": 30, "viewBudget": 4096, "viewRadius": 40.0 }),
        ),
    ] {
        let line = format!("loadtest --url http://127.0.0.1:1{options}");
        let room = Cli::parse_from(line.split(' ')).steady.load.room;
        assert_eq!(serde_json::to_value(room).unwrap(), expected, "{options}");
    }
}
