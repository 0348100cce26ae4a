//! `loadtest survey` with programs that are no servers: what is written down of them, and that none is left behind.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(30);
const DOCUMENT: &str = "# Figures\n\n<!-- survey: what follows is written by `cargo xtask compare` -->\nold\n\
                        <!-- survey: end -->\n\nThe rest.\n";

fn survey(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.arg("survey").args(options);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(options: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = survey(options).output().expect("it starts");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn who_fails_has_a_row_that_says_so_and_the_document_keeps_its_rest() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (json, document, charts) = (file("found.json"), file("doc.md"), file("charts"));
    fs::write(&document, DOCUMENT).unwrap();
    let written = ["--document", &document, "--charts", &charts];
    let entrants = ["--server-bin", "false", "--naive-bin", "no-such-relay", "--node-cmd", "false relay.js"];
    let more = ["--sizes", "2,4", "--left-out", "Bun: not here", "--fact", "rustc: 1", "--json", &json];
    let (status, told) = run(&[&entrants[..], &more, &written].concat());
    assert_eq!(status, Some(1), "the server itself has failed: {told}");
    let text = fs::read_to_string(&document).unwrap();
    assert!(text.starts_with("# Figures\n") && text.ends_with("\n\nThe rest.\n"), "{text}");
    for part in [
        "- Copresence, binary from 2 on: failed with 2: ",
        "- naive relay, socketioxide from 2 on: failed with 2: ",
        "- naive relay, Node.js from 2 on: failed with 2: ",
        "it ended at once",
        "- Bun left out: not here",
        "- rustc: 1\n",
    ] {
        assert!(text.contains(part), "no {part}: {text}");
    }
    assert!(!text.contains("old\n") && fs::read_dir(&charts).unwrap().next().is_none(), "{text}");

    fs::write(&document, DOCUMENT).unwrap();
    let (status, told) = run(&[&["--from", &json][..], &written].concat());
    assert_eq!((status, fs::read_to_string(&document).unwrap()), (Some(1), text), "{told}");
}

/// Waits for what a program says through a pipe that has a name.
fn hear(pipe: &Path, of: &mut Child) -> String {
    let (tell, told) = sync_channel(1);
    let pipe = pipe.to_owned();
    thread::spawn(move || tell.send(fs::read_to_string(pipe)));
    match told.recv_timeout(PATIENCE) {
        Ok(text) => text.expect("the pipe can be read"),
        Err(error) => {
            of.kill().expect("it runs");
            panic!("nothing was started: {error}");
        }
    }
}

#[test]
fn a_signal_ends_what_has_been_started() {
    let folder = tempfile::tempdir().unwrap();
    let (script, pipe) = (folder.path().join("relay.sh"), folder.path().join("started"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // It never listens, and for a minute only a signal that cannot be refused ends it.
    let text = format!("trap '' TERM INT HUP\necho $$ \"$DATA_DIR\" > {}\nexec sleep 60\n", pipe.display());
    fs::write(&script, text).unwrap();
    let relay = format!("sh {}", script.display());
    for signal in [Signal::TERM, Signal::INT] {
        let mut loadtest =
            survey(&["--server-bin", "false", "--node-cmd", &relay, "--sizes", "2"]).spawn().unwrap();
        let told = hear(&pipe, &mut loadtest);
        let (id, data) = told.trim().split_once(' ').unwrap();
        assert!(Path::new(data).exists() && Path::new(&format!("/proc/{id}")).exists(), "{told}");
        let own = Pid::from_raw(i32::try_from(loadtest.id()).unwrap()).unwrap();
        kill_process(own, signal).unwrap();
        assert_eq!(loadtest.wait().unwrap().code(), Some(130));
        assert!(!Path::new(&format!("/proc/{id}")).exists(), "{told} is still there");
        assert!(!Path::new(data).exists(), "{data} is still there");
    }
}
