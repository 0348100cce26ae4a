//! Slow readers: some guests read nothing, others a little now and then. Users must not notice, and whoever reads
//! nothing must be disconnected before it has cost much.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::Value;
use tokio::task::JoinSet;

use super::guests::{Guests, beside};
use super::ledger::{Ledger, ScenarioReport, until};
use crate::live::Live;
use crate::options::SlowOptions;

/// About what the kernel takes for a guest that does not read. Small, so that it is the server that must cope.
const BUFFER_BYTES: u32 = 4_096;
/// How often a guest says something, which is how it finds out that it was cut off.
const SAY_INTERVAL: Duration = Duration::from_millis(500);
/// What a guest reads now and then who reads a little.
const SIP_BYTES: usize = 1_024;

/// Runs the scenario.
///
/// # Errors
/// If it cannot be completed.
pub(crate) fn run(options: &SlowOptions, live: &Live) -> Result<ScenarioReport> {
    let (share, within) = (options.stopped, options.within);
    beside(&options.guest, live, move |guests| misbehave(guests, share, within))
}

async fn misbehave(guests: Guests, share: f64, within: Duration) -> Result<Ledger> {
    let ledger = Rc::new(RefCell::new(Ledger::new("slow-readers", "cut_off")));
    let stopped = (f64::from(guests.count) * share).round() as u32;
    let mut lives = JoinSet::new();
    let guests = Rc::new(guests);
    for index in 0..guests.count {
        lives.spawn_local(dawdle(guests.clone(), index, index < stopped, within, ledger.clone()));
    }
    while let Some(outcome) = lives.join_next().await {
        outcome??;
    }
    let ledger = Rc::into_inner(ledger).ok_or_else(|| anyhow!("a guest has not gone home"))?;
    let mut ledger = ledger.into_inner();
    let cut_off = ledger.counted("cut_off_count");
    ledger.check("guests who read nothing and were cut off", stopped.into(), cut_off);
    Ok(ledger)
}

/// A guest who reads nothing, or a little.
async fn dawdle(
    guests: Rc<Guests>,
    index: u32,
    stopped: bool,
    within: Duration,
    ledger: Rc<RefCell<Ledger>>,
) -> Result<()> {
    let mut client = guests.enter(index, Some(BUFFER_BYTES)).await?;
    let (start, end) = guests.window;
    until(start).await;
    let since = Instant::now();
    // Whoever reads a little may be kept for as long as it likes.
    let give_up = if stopped { since + within } else { end };
    while Instant::now() < give_up {
        tokio::time::sleep(SAY_INTERVAL).await;
        let mut outcome = client.emit("time-sync", &Value::Null);
        if !stopped && outcome.is_ok() {
            let sip = tokio::time::timeout(SAY_INTERVAL, client.waste(SIP_BYTES)).await;
            outcome = sip.unwrap_or(Ok(()));
        }
        if outcome.is_err() {
            let mut ledger = ledger.borrow_mut();
            if stopped {
                ledger.time("cut_off", since);
            }
            ledger.count(if stopped { "cut_off_count" } else { "slow_cut_off" });
            return Ok(());
        }
    }
    ledger.borrow_mut().count(if stopped { "kept" } else { "slow_kept" });
    Ok(())
}
