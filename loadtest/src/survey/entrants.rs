//! Who takes part in a survey, and how that is told.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::compare::contender::{Contender, Kind, words};
use crate::options::{Auth, Encoding, LoadOptions, Phases, SurveyOptions};

/// Receivers that are judged pose by pose if nothing else is asked for: with everybody alike, so that reading costs the
/// load the same.
const JUDGES: u32 = 100;

/// The server with each of its encodings, then the others. Their loads are the same but for what each of them knows.
///
/// # Errors
/// If a command is empty, or there is no server.
pub(super) fn all(options: &SurveyOptions) -> Result<Vec<Contender>> {
    let SurveyOptions { server_bin, naive_bin, node_cmd, bun_cmd, colyseus_cmd, bare_bin, load, .. } =
        options;
    let judges = Some(load.judges.unwrap_or(JUDGES));
    let server = LoadOptions { ack_every: Some(Duration::ZERO), judges, ..load.clone() };
    let open = LoadOptions { auth: Auth::None, encoding: Encoding::Json, ..server.clone() };
    let new = |kind, name: &str, program: &Path, args: &[&str], load: &LoadOptions| Contender {
        kind,
        name: name.to_owned(),
        program: program.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        load: load.clone(),
    };
    let server_bin = server_bin.as_deref().context("no --server-bin")?;
    let mut all = Vec::new();
    for (name, encoding) in [
        ("Copresence, binary", Encoding::Binary),
        ("Copresence, batch", Encoding::Batch),
        ("Copresence, stock JSON", Encoding::Json),
    ] {
        all.push(new(Kind::Server, name, server_bin, &[], &LoadOptions { encoding, ..server.clone() }));
    }
    if let Some(program) = naive_bin {
        all.push(new(Kind::Relay, "naive relay, socketioxide", program, &[], &open));
    }
    for (name, command, kind) in [
        ("naive relay, Node.js", node_cmd, Kind::Relay),
        ("naive relay, Bun", bun_cmd, Kind::Relay),
        ("Colyseus, Node.js", colyseus_cmd, Kind::Colyseus),
    ] {
        if let Some(command) = command {
            let (program, args) = words(command).with_context(|| format!("{name}: an empty command"))?;
            all.push(new(kind, name, program, &args, &open));
        }
    }
    if let Some(program) = bare_bin {
        let binary = LoadOptions { encoding: Encoding::Binary, ..open };
        all.push(new(Kind::Bare, "bare loop", program, &[], &binary));
    }
    ensure!(options.sizes.is_sorted(), "the numbers of users must ascend");
    Ok(all)
}

/// How it is started, as somebody else would write it: programs where a build puts them, and what is measured before
/// that as a word in capitals.
pub(super) fn command(contender: &Contender, core: usize) -> String {
    let environment: String = contender
        .environment(None)
        .into_iter()
        .chain(
            (contender.kind == Kind::Bare)
                .then(|| ("TICK_HZ=20 ENCODING=binary FRAME_BYTES", "B".to_owned())),
        )
        .map(|(name, value)| format!("{name}={value} "))
        .collect();
    let args: String = contender.args.iter().map(|arg| format!(" {arg}")).collect();
    format!("PORT=P {environment}taskset -c {core} {}{args}", shown(&contender.program))
}

/// A program of this build's without the folders of this machine before it.
fn shown(program: &Path) -> String {
    let parts: Vec<_> = program.iter().map(|part| part.to_string_lossy()).collect();
    match parts.iter().rposition(|part| part == "release") {
        Some(at) => format!("target/{}", parts[at..].join("/")),
        None => program.display().to_string(),
    }
}

/// The load that it gets, as a command.
pub(super) fn load(contender: &Contender, core: usize) -> String {
    let LoadOptions { hz, duration, warmup, area, judges, phases, auth, .. } = &contender.load;
    let mut command =
        format!("target/release/loadtest --url http://127.0.0.1:P --pid PID --pin {core} --users N");
    match contender.kind {
        Kind::Colyseus => command += " --protocol colyseus",
        _ if *auth == Auth::None => command += &format!(" --auth none --encoding {}", contender.encoding()),
        _ => command += &format!(" --ack-every 0s --encoding {}", contender.encoding()),
    }
    if let Some(area) = area {
        command += &format!(" --area {area}");
    }
    if let Some(judges) = judges {
        command += &format!(" --judges {judges}");
    }
    if *phases == Phases::Together {
        command += " --phases together";
    }
    let [warmup, duration] = [warmup, duration].map(|span| humantime::format_duration(*span));
    command + &format!(" --hz {hz} --warmup {warmup} --duration {duration}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Cli, Command, Protocol};
    use clap::Parser;

    fn entrants(options: &[&str]) -> Result<Vec<Contender>> {
        let line = ["loadtest", "survey", "--server-bin", "/a/b/release/copresence"].iter().chain(options);
        let Some(Command::Survey(options)) = Cli::parse_from(line).command else { panic!("{options:?}") };
        all(&options)
    }

    const EVERYBODY: [&str; 10] = [
        "--naive-bin",
        "/a/b/release/examples/naive_relay",
        "--node-cmd",
        "node r.js",
        "--bun-cmd",
        "bun r.js",
        "--colyseus-cmd",
        "node c.js",
        "--bare-bin",
        "/a/b/release/bare_loop",
    ];

    #[test]
    fn everybody_gets_the_same_load_in_a_way_that_they_know() {
        let all = entrants(&[&EVERYBODY[..], &["--hz", "10", "--area", "50"]].concat()).unwrap();
        let told: Vec<_> =
            all.iter().map(|one| (one.kind, one.encoding(), one.load.auth == Auth::Login)).collect();
        let relay = (Kind::Relay, "json", false);
        assert_eq!(
            told,
            [
                (Kind::Server, "binary", true),
                (Kind::Server, "batch", true),
                (Kind::Server, "json", true),
                relay,
                relay,
                relay,
                (Kind::Colyseus, "schema", false),
                (Kind::Bare, "binary", false)
            ]
        );
        assert!(all.iter().all(|one| one.load.hz == 10 && one.load.area == Some(50.0)));
        assert!(all.iter().all(|one| one.load.judges(Protocol::Socketio) == JUDGES));
    }

    #[test]
    fn commands_are_told_without_this_machines_folders_and_can_be_read_back() {
        let all = entrants(&EVERYBODY).unwrap();
        let commands: Vec<_> = all.iter().map(|one| command(one, 0)).collect();
        assert_eq!(commands[0], "PORT=P MAX_USERS_PER_ROOM=10000 taskset -c 0 target/release/copresence");
        assert_eq!(
            commands[3],
            "PORT=P NODE_ENV=production taskset -c 0 target/release/examples/naive_relay"
        );
        assert_eq!(commands[6], "PORT=P NODE_ENV=production taskset -c 0 node c.js");
        assert!(commands[7].contains("FRAME_BYTES=B taskset"), "{}", commands[7]);
        for one in &all {
            let line = load(one, 1).replace(" N", " 9").replace(":P", ":1").replace("PID", "2");
            let steady = Cli::parse_from(line.split(' ')).steady;
            assert_eq!(steady.load.encoding, one.load.encoding, "{line}");
            // Colyseus knows no logins, whatever is asked for.
            let is_open = steady.load.auth == Auth::None || steady.protocol == Protocol::Colyseus;
            assert_eq!(is_open, one.load.auth == Auth::None, "{line}");
            assert_eq!(
                (steady.protocol, steady.load.duration),
                (one.protocol(), one.load.duration),
                "{line}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(entrants(&["--node-cmd", " "]).is_err());
        assert!(entrants(&["--sizes", "50,25"]).is_err());
    }
}
