//! Runs `loadtest` against a server of this process.

use std::net::Ipv4Addr;
use std::process::{Command, Output};

use serde_json::Value;
use tokio::net::TcpListener;

pub(crate) const USERS: u64 = 6;
const HZ: u64 = 10;
/// Ten poses of each user count.
pub(crate) const POSES: u64 = 10;

pub(crate) fn loadtest(port: u16, more: &[&str]) -> Output {
    let url = format!("http://{}:{port}", Ipv4Addr::LOCALHOST);
    let users = USERS.to_string();
    let hz = HZ.to_string();
    let fixed = [
        "--url",
        &url,
        "--users",
        &users,
        "--hz",
        &hz,
        "--duration",
        "1s",
        "--warmup",
        "200ms",
        "--auth",
        "none",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(fixed).arg("--json").args(more).output().expect("loadtest runs")
}

/// Runs `loadtest` against a server on a thread of its own and gives its exit status and report.
pub(crate) async fn judged(port: u16, more: &'static [&'static str]) -> (Option<i32>, Value) {
    let output = tokio::task::spawn_blocking(move || loadtest(port, more)).await.expect("loadtest ends");
    let report = serde_json::from_slice(&output.stdout);
    let report =
        report.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

pub(crate) async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}
