//! Against the real server: what `loadtest` says that it sent is what the server says that it got.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Bytes;

/// How long the server may take until it accepts connections, or has read what it was sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// The server's program beside ours, built if it is not there.
fn program() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_loadtest"));
    let program = beside.with_file_name("copresence");
    if !program.exists() {
        let profile = beside.parent().expect("it is in a folder");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "-p", "server", "--bin", "copresence", "--target-dir"]);
        build.arg(profile.parent().expect("that is in the target folder"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "the server cannot be built");
    }
    program
}

/// A server that ends with this.
struct Server {
    child: Child,
    port: u16,
    _data: TempDir,
}

impl Server {
    async fn start() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let data = tempfile::tempdir().expect("a folder");
        let mut server = Command::new(program());
        server.env("PORT", port.to_string()).env("DATA_DIR", data.path()).env("HOST", "127.0.0.1");
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = server.spawn().expect("the server starts");
        let mut looks = tokio::time::interval(LOOK);
        let open = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                looks.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, open).await.expect("the server accepts connections");
        Self { child, port, _data: data }
    }

    /// The sum of a counter over its labels.
    async fn metric(&self, name: &str) -> f64 {
        let stream =
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.expect("it is open");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
        tokio::spawn(connection);
        let request = Request::get("/metrics").header("host", "localhost").body(Empty::<Bytes>::new());
        let answer = sender.send_request(request.expect("it is a request")).await.expect("there are metrics");
        let text = answer.into_body().collect().await.expect("they are whole").to_bytes();
        let text = String::from_utf8_lossy(&text).into_owned();
        let of_name = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next())?
        });
        of_name.map(|value| value.parse::<f64>().expect("a metric is a number")).sum()
    }

    async fn load(&self, line: &str) -> (Option<i32>, Value) {
        let line = format!("{line} --json --url http://{}:{}", Ipv4Addr::LOCALHOST, self.port);
        let run = move || Command::new(env!("CARGO_BIN_EXE_loadtest")).args(line.split(' ')).output();
        let ran = tokio::task::spawn_blocking(run).await.expect("it does not panic").expect("loadtest runs");
        let report = serde_json::from_slice(&ran.stdout);
        let report =
            report.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ran.stderr)));
        (ran.status.code(), report)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail where there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_is_sent_is_what_the_server_gets_over_both_transports() {
    let server = Server::start().await;
    let mut poses = 0.0;
    for more in ["--encoding json", "--encoding batch", "--encoding binary", "--transport polling"] {
        let line = format!("--users 8 --hz 10 --duration 1s --warmup 200ms --ack-every 200ms {more}");
        let (status, report) = server.load(&line).await;
        assert_eq!(status, Some(0), "{more}: {report:#}");
        let sent = report["poses_sent_in_all"].as_f64().unwrap();
        assert!(sent > report["poses_sent"].as_f64().unwrap(), "{report:#}");
        let mut now = poses;
        let mut looks = tokio::time::interval(LOOK);
        let all = async {
            while now - poses < sent {
                looks.tick().await;
                now = server.metric("copresence_poses_total").await;
            }
        };
        // What a socket has taken may not have been read yet.
        let _ = tokio::time::timeout(PATIENCE, all).await;
        assert_eq!(now - poses, sent, "{more}: {report:#}");
        poses = now;
        assert_eq!(report["acks_answered"], report["acks_asked"], "{report:#}");
        assert!(report["acks_asked"].as_u64() > Some(0), "{report:#}");
    }
}

#[tokio::test]
async fn the_real_server_stands_the_scenarios() {
    let server = Server::start().await;
    for line in [
        "churn --users 6 --duration 2s --rate 8 --check-every 1s",
        "objects --users 4 --duration 1s",
        "storm --users 20",
        "malformed --users 4 --duration 2s --warmup 200ms --guests 2 --rate 20 --users-p99 60s --users-gap 60s",
    ] {
        let (status, report) = server.load(line).await;
        assert_eq!((status, &report["faults"]), (Some(0), &serde_json::json!([])), "{line}: {report:#}");
    }
}
