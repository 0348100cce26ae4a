//! A worker's process, and a client that is as simple as can be.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is ended when this is dropped.
pub(crate) struct Worker {
    child: Child,
    address: SocketAddr,
    /// What it logs.
    lines: Mutex<Receiver<String>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

/// The binary, without what this process' environment would tell it.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_copresence-worker"));
    for variable in ["PORT", "HOST", "WORKER_SECRET", "THREADS", "DRAIN_MS", "LOG"] {
        command.env_remove(variable);
    }
    command
}

impl Worker {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    pub(crate) fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.args(["--port", "0"]).args(arguments).envs(variables.iter().copied());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let stderr = child.stderr.take().expect("it is piped");
        let (sender, lines) = sync_channel(1000);
        std::thread::spawn(move || {
            // Ends when nobody listens any more, or with the process.
            let _ =
                BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| sender.send(line));
        });
        let mut worker =
            Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), lines: Mutex::new(lines) };
        let line = worker.wait_for("ready: http://");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
        worker.address = address.and_then(|address| address.parse().ok()).expect("it says its address");
        worker
    }

    /// The next line of its log that has this in it.
    pub(crate) fn wait_for(&self, part: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .lock()
                .expect("nobody panicked")
                .recv_timeout(left)
                .expect("it logs what is waited for");
            if line.contains(part) {
                return line;
            }
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send("POST", path, headers, &body.to_string())
    }

    /// What a task came to, asked for until it has ended.
    pub(crate) fn result(&self, id: &Value) -> Value {
        let id = id.as_str().expect("a task has an id");
        let end = Instant::now() + PATIENCE;
        loop {
            let told = self.get(&format!("/tasks/{id}")).json();
            match told["status"].as_str() {
                Some("pending" | "running") if Instant::now() < end => std::thread::yield_now(),
                _ => return told,
            }
        }
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Content-Length") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer comes");
        let (head, body) = answer.split_once("\r\n\r\n").expect("it has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("it has a status");
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) fn terminate(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it can be told");
    }

    pub(crate) fn exit(&mut self) -> ExitStatus {
        self.wait_for("stopped");
        self.child.wait().expect("it ends")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
