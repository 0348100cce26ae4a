//! Guests who misbehave, on a thread of their own, beside users who move and must not notice.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::ledger::{Ledger, ScenarioReport};
use super::on_this_thread;
use crate::client::Client;
use crate::http::Target;
use crate::live::Live;
use crate::options::{GuestOptions, Protocol, Transport};
use crate::process::Process;
use crate::report::Report;
use crate::steady::{self, Run};

/// How long a guest who was thrown out may find its former place taken, since the server first ends a session and then
/// has it leave, and how often it looks.
const LEAVING_MOST: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What the server answers meanwhile.
const ROOM_FULL: &str = "\"room_full\"";

/// What the guests know.
#[derive(Debug, Clone)]
pub(super) struct Guests {
    target: Target,
    tokens: Arc<[String]>,
    rooms: Vec<String>,
    /// How many there are.
    pub(super) count: u32,
    pub(super) seed: u64,
    /// When the users are measured.
    pub(super) window: (Instant, Instant),
}

impl Guests {
    /// Connects the guest `index`, and joins.
    ///
    /// # Errors
    /// If that fails.
    pub(super) async fn enter(&self, index: u32, buffer_bytes: Option<u32>) -> Result<Client> {
        let token = self.tokens.first().map(String::as_str);
        let mut client = Client::connect(&self.target, Transport::Websocket, token, buffer_bytes).await?;
        let room = &self.rooms[index as usize % self.rooms.len()];
        let give_up = Instant::now() + LEAVING_MOST;
        loop {
            match client.join(room).await {
                Ok(_) => return Ok(client),
                Err(refusal) if refusal.contains(ROOM_FULL) && Instant::now() < give_up => {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
                Err(refusal) => bail!(refusal),
            }
        }
    }
}

/// Has `misbehave` done on a thread of its own while users move, and adds whether those have noticed.
///
/// # Errors
/// If the run cannot be completed.
pub(super) fn beside<F>(
    options: &GuestOptions,
    live: &Live,
    misbehave: impl FnOnce(Guests) -> F + Send + 'static,
) -> Result<ScenarioReport>
where
    F: Future<Output = Result<Ledger>>,
{
    let run = Run {
        url: &options.url,
        load: &options.load,
        protocol: Protocol::Socketio,
        judged: true,
        server: options.pid.map(Process),
        cores: &options.pin,
        guests: options.guests,
    };
    let going = steady::begin(&run, live)?;
    let guests = Guests {
        target: going.target.clone(),
        tokens: going.tokens.clone(),
        rooms: (0..going.crowd.rooms).map(|room| going.crowd.room_name(room)).collect(),
        count: options.guests,
        seed: options.load.seed,
        window: going.window(),
    };
    let thread = thread::Builder::new().name("guests".into()).spawn(|| on_this_thread(misbehave(guests)))?;
    let report = going.measure(live)?;
    let ledger = thread.join().map_err(|_| anyhow!("the guests' thread has panicked"))?;
    let mut ledger = ledger.context("the guests")?;
    notice(&mut ledger, options, &report);
    Ok(ledger.close(&options.url, options.load.users, Some(report)))
}

/// Whether the users have noticed.
fn notice(ledger: &mut Ledger, options: &GuestOptions, report: &Report) {
    let Some(poses) = &report.poses else { return };
    for (what, found, limit) in [
        ("the p99 age of poses of those near by", poses.pose_age_near_ms.p99, options.users_p99),
        (
            "the longest time without an update of somebody near",
            poses.update_gap_near_ms.max,
            options.users_gap,
        ),
    ] {
        if found > limit.as_secs_f64() * 1_000.0 {
            ledger.blame(&format!("the users noticed: {what} was {found:.0} ms"));
        }
    }
}
