//! The bare loop: the least that one user-tick can cost on this runtime, to hold the server's cost against.
//!
//! It does what no server of this kind gets around, in the way the server does it: one current-thread tokio
//! runtime; a task per connection, which reads into a buffer shared by all of them and finds where each WebSocket
//! frame ends; and a tick that writes to every socket in one call, and yields to the readers on its way. It uses
//! nothing that the server could not: no batching across sockets, no other system calls, the same allocator.
//!
//! It leaves out everything else: logins (any token will do), rooms (everybody is in one, and each hears of nobody
//! but themselves), unmasking, parsing and checking what comes in, limits per client, interest, encoding (all get
//! the same frame, built once before anybody is there), heartbeats, goodbyes. A client that does not read in time
//! misses frames, as at the server; it is never disconnected for that.
//!
//! `loadtest` drives it like any other server. Its frames show a crowd that nobody belongs to, so the run reports
//! faults among the poses; its bytes, frames and CPU time are what counts. Both servers in one run, in turns on one
//! core, with as many bytes per frame as the server has been found to send per user and tick:
//!
//! ```text
//! cargo build --release --bins
//! target/release/loadtest compare --server-bin target/release/copresence \
//!     --bare-bin target/release/bare_loop --encoding binary --users 2000 --area 200 --rounds 5
//! ```
//!
//! or by hand, which leaves every choice:
//!
//! ```text
//! taskset -c 0 target/release/bare_loop --port 3005 --encoding binary --frame-bytes 3200
//! target/release/loadtest --url http://127.0.0.1:3005 --users 200 --auth none --pin 1 --pid <pid>
//! ```

mod connection;
mod enter;
mod frames;

use std::io::{ErrorKind, Write, stdout};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Parser;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::MissedTickBehavior;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 16_384;
/// Clients that have joined and that the tick has not taken in yet; more wait.
const JOINED_MAX: usize = 1_024;
/// Sends of one tick before those are heard who have sent something.
const SENDS_PER_YIELD: usize = 256;
/// How long accepting rests when it fails, for instance because there are too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Reads, and writes one frame per client and tick. Nothing else.
#[derive(Debug, Parser)]
struct Options {
    /// The port on 127.0.0.1; 0 for any that is free
    #[arg(long, env = "PORT", default_value_t = 3005)]
    port: u16,
    /// Ticks per second
    #[arg(long, env = "TICK_HZ", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=90))]
    hz: u32,
    /// Bytes that each client gets per tick, WebSocket's headers included
    #[arg(long, env = "FRAME_BYTES", default_value_t = 4_096)]
    frame_bytes: usize,
    /// What they consist of
    #[arg(long, env = "ENCODING", value_enum, default_value_t = frames::Encoding::Json)]
    encoding: frames::Encoding,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let frame = frames::build(options.encoding, options.frame_bytes)?;
    allow_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(&options, frame))
}

/// Raises the limit on open files as far as it goes. Where that is too little, accepting will say so.
fn allow_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

async fn serve(options: &Options, frame: Bytes) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await.context("cannot listen")?;
    writeln!(stdout(), "bare loop on http://{}", listener.local_addr()?)?;
    let (join, joined) = mpsc::channel(JOINED_MAX);
    tokio::spawn(tick(joined, frame, options.hz));
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = permits.clone().acquire_owned().await?;
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        let entry = enter::Entry { join: join.clone(), hz: options.hz };
        // Whatever goes wrong with one connection is its own matter.
        tokio::spawn(async move {
            let _ = entry.take(tcp, permit).await;
        });
    }
}

/// A client that gets frames.
#[derive(Debug)]
struct Member {
    output: OwnedWriteHalf,
    /// How much of a frame the socket has taken that did not take all of it; 0 between frames.
    begun: usize,
}

/// Sends everybody one frame per tick.
async fn tick(mut joined: mpsc::Receiver<OwnedWriteHalf>, frame: Bytes, hz: u32) {
    let mut members: Vec<Member> = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / hz);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        while let Ok(output) = joined.try_recv() {
            members.push(Member { output, begun: 0 });
        }
        let mut sends = 0;
        let mut at = 0;
        while at < members.len() {
            if members[at].send(&frame) {
                at += 1;
            } else {
                members.swap_remove(at);
            }
            sends += 1;
            if sends % SENDS_PER_YIELD == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Member {
    /// Sends a frame, or what is left of the one before. `false` if the client is gone.
    fn send(&mut self, frame: &[u8]) -> bool {
        let rest = self.begun;
        if rest > 0 && !self.write(&frame[rest..], frame.len()) {
            return false;
        }
        // What the socket did not take last time it takes now, or this frame is left out.
        self.begun > 0 || self.write(frame, frame.len())
    }

    fn write(&mut self, bytes: &[u8], whole: usize) -> bool {
        match self.output.try_write(bytes) {
            Ok(written) => {
                self.begun = (self.begun + written) % whole;
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}
