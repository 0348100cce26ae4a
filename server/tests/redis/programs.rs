//! Redis servers, started for one test each.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is tried whether an answer waits for a server that is a little slow.
pub(crate) const ROUNDS: usize = 10;

/// Attempts to begin on a free port: another program may take it in between.
const ATTEMPTS: usize = 10;

/// A server on a port of its own, which it keeps over restarts.
pub(crate) struct RedisServer {
    pub(crate) port: u16,
    pub(crate) directory: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    pub(crate) fn start(options: &[&str]) -> Self {
        for _ in 0..ATTEMPTS {
            let mut server = Self::stopped(options);
            if server.begin() {
                return server;
            }
        }
        panic!("no redis-server comes up");
    }

    /// A server that is not there yet.
    pub(crate) fn stopped(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { port: free_port(), directory, options, child: None }
    }

    /// Whether it came up.
    fn begin(&mut self) -> bool {
        let mut child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--loglevel", "notice"])
            .args(["--port", &self.port.to_string()])
            .arg("--dir")
            .arg(self.directory.path())
            .args(&self.options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let is_up = lines.any(|line| line.contains("Ready to accept connections"));
        // Nobody may have to wait until its output is read.
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
        if !is_up {
            self.kill();
        }
        is_up
    }

    pub(crate) fn restart(&mut self) {
        assert!(self.begin(), "it was on this port before");
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it ends");
        }
    }

    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("it is ours");
    }

    /// Lets what is written wait for a moment that is shorter than anybody waits for it, while reading goes on.
    pub(crate) fn hold_writes(&self) {
        self.command::<()>(&["CLIENT", "PAUSE", "60", "WRITE"]);
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection beside the one that is tested.
    pub(crate) fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("a URL");
        client.get_connection_with_timeout(PATIENCE).expect("it runs")
    }

    /// Has a command carried out.
    pub(crate) fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query(&mut self.connection()).expect("it does as told")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
