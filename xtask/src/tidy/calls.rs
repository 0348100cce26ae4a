//! Calls that the design rules out, by their paths.

use super::Violation;
use super::tokens::{Hit, Source};

/// Something that may not be written in some places.
struct Ban {
    /// Sequences of tokens, with a space between any two.
    patterns: &'static [&'static str],
    applies: fn(path: &str, hit: Hit) -> bool,
    advice: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        patterns: &["unbounded_channel", "mpsc :: channel ( )"],
        applies: |_, _| true,
        advice: "no queue without a limit: take a bounded channel and say what happens when it is full",
    },
    Ban {
        patterns: &["Instant :: now", "SystemTime :: now"],
        applies: |path, _| ["engine/src/", "protocol/src/"].iter().any(|folder| path.starts_with(folder)),
        advice: "no clock in here: take the time as an argument",
    },
    Ban {
        patterns: &["env :: var", "env :: var_os", "env :: vars", "env :: vars_os"],
        applies: |path, hit| {
            let bound = ["protocol/src/", "engine/src/", "server/src/", "worker/src/"];
            let is_config = path.starts_with("server/src/config");
            bound.iter().any(|folder| path.starts_with(folder)) && !is_config && !hit.is_test
        },
        advice: "only `server/src/config` reads the environment: add a setting there and pass its value on",
    },
    Ban {
        // The worker leaves reading to clap.
        patterns: &["env =", "( env )", ", env ,", ", env )"],
        applies: |path, hit| {
            path.starts_with("worker/src/") && path != "worker/src/config.rs" && !hit.is_test
        },
        advice: "only `worker/src/config.rs` reads the environment: add a setting there and pass its value on",
    },
    Ban {
        patterns: &["todo !", "unimplemented !", "dbg !"],
        applies: |_, _| true,
        advice: "not in committed code: finish it, or answer with an error",
    },
    Ban {
        patterns: &["# [ ignore"],
        applies: |_, _| true,
        advice: "a test that nobody runs shows nothing: make it pass or delete it",
    },
    Ban {
        patterns: &["thread :: sleep", "time :: sleep", "time :: sleep_until"],
        applies: |_, hit| hit.is_test,
        advice: "tests do not sleep: wait for the event itself with a time-out, or advance a paused clock",
    },
];

/// Nothing of [`BANS`] is written where it applies.
pub(super) fn banned(path: &str, text: &str) -> Vec<Violation> {
    let Some(source) = Source::read(path, text) else { return Vec::new() };
    let mut violations = Vec::new();
    for ban in BANS {
        for pattern in ban.patterns {
            let hits = source.find(pattern).into_iter().filter(|hit| (ban.applies)(path, *hit));
            let message = format!("`{}`: {}", pattern.replace(' ', ""), ban.advice);
            violations.extend(hits.map(|hit| Violation::new(path, hit.line, message.clone())));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn queues_without_a_limit_are_caught_everywhere() {
        let text = "fn f() {\n    let (tx, rx) = mpsc::unbounded_channel();\n}";
        check(banned, "server/src/app.rs", text, &[(2, "bounded")]);
        check(
            banned,
            "engine/tests/rooms.rs",
            "use tokio::sync::mpsc::unbounded_channel;",
            &[(1, "bounded")],
        );
        check(banned, "server/src/app.rs", "let (tx, rx) = mpsc::channel();", &[(1, "bounded")]);
        check(banned, "server/src/app.rs", "let a = mpsc::channel(8); let b = oneshot::channel();", &[]);
    }

    #[test]
    fn clocks_are_caught_where_time_is_an_argument() {
        let text = "fn f() {\n    assert!(std::time::Instant::now() > start);\n}";
        check(banned, "engine/src/room/tick.rs", text, &[(2, "argument")]);
        check(banned, "protocol/src/lib.rs", "let now = SystemTime::now();", &[(1, "argument")]);
        check(banned, "server/src/app.rs", text, &[]);
        check(
            banned,
            "engine/src/lib.rs",
            "// Instant::now() is for others\nlet s = \"Instant::now()\";",
            &[],
        );
    }

    #[test]
    fn the_environment_is_read_in_one_place() {
        let text = "fn f() {\n    let port = std::env::var(\"PORT\");\n}";
        check(banned, "server/src/app.rs", text, &[(2, "config")]);
        check(banned, "server/src/http/rooms.rs", "use std::env::{args, vars};", &[(1, "config")]);
        let free = [
            "server/src/config.rs",
            "server/src/config/limits.rs",
            "xtask/src/run.rs",
            "loadtest/src/main.rs",
        ];
        free.into_iter().for_each(|path| check(banned, path, text, &[]));
        check(banned, "server/tests/port.rs", text, &[]);
        check(banned, "worker/src/config.rs", text, &[(2, "pass its value on")]);
        let by_clap = "#[arg(long, env = \"PORT\")]\nport: u16,";
        check(banned, "worker/src/config.rs", by_clap, &[]);
        check(banned, "worker/src/run.rs", by_clap, &[(1, "worker/src/config.rs")]);
        check(banned, "worker/src/run.rs", "#[arg(long, env)]\nport: u16,", &[(1, "worker/src/config.rs")]);
        check(banned, "server/src/app.rs", &format!("#[cfg(test)]\nmod tests {{ {text} }}"), &[]);
    }

    #[test]
    fn unfinished_code_is_caught() {
        let text = "fn f() {\n    todo!();\n    unimplemented!(\"later\");\n    dbg!(1);\n}";
        check(banned, "loadtest/src/main.rs", text, &[(2, "todo!"), (3, "unimplemented!"), (4, "dbg!")]);
        check(banned, "loadtest/src/main.rs", "fn f() { if todo != 1 { todo(); } }", &[]);
    }

    #[test]
    fn ignored_tests_are_caught() {
        check(banned, "engine/tests/rooms.rs", "#[test]\n#[ignore]\nfn f() {}", &[(2, "nobody runs")]);
        check(banned, "engine/tests/rooms.rs", "#[ignore = \"slow\"]\nfn f() {}", &[(1, "nobody runs")]);
    }

    #[test]
    fn sleeping_tests_are_caught() {
        let sleep = "async fn f() {\n    tokio::time::sleep(d).await;\n}\n";
        check(banned, "server/tests/join.rs", sleep, &[(2, "do not sleep")]);
        check(banned, "server/src/room/tests.rs", "use std::thread::sleep;", &[(1, "do not sleep")]);
        check(banned, "server/tests/join.rs", "use tokio::time::{advance, sleep};", &[(1, "do not sleep")]);
        check(banned, "server/src/retry.rs", sleep, &[]);
        check(
            banned,
            "server/tests/join.rs",
            "tokio::time::advance(d).await; timeout(d, joined).await;",
            &[],
        );
    }

    #[test]
    fn items_compiled_for_tests_only_are_told_apart() {
        let sleep = "fn f() { thread::sleep(d); }";
        let caught = [
            format!("#[cfg(test)]\nmod tests {{ {sleep} }}"),
            format!("#[cfg(all(test, not(loom)))]\n#[allow(unused)]\nmod tests {{ {sleep} }}"),
            format!("#[tokio::test(start_paused = true)]\nasync {sleep}"),
            format!("#![cfg(test)]\n{sleep}"),
        ];
        for text in caught {
            let lines = text.lines().count();
            check(banned, "engine/src/clock.rs", &text, &[(lines, "do not sleep")]);
        }
        let free =
            ["#[cfg(not(test))]\n", "#[cfg(test)]\nuse std::{fs, io};\n", "#[cfg(test)]\nmod tests;\n"];
        for before in free {
            check(banned, "engine/src/clock.rs", &format!("{before}{sleep}"), &[]);
        }
    }
}
