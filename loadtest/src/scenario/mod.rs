//! Scenarios: what servers of this kind live through besides a steady load. Each keeps books of what was done and what
//! was seen, and every difference between the two is a fault.

pub(crate) mod churn;
mod entrance;
mod guests;
mod ledger;
pub(crate) mod malformed;
pub(crate) mod objects;
pub(crate) mod replay;
pub(crate) mod slow;
pub(crate) mod storm;
mod view;

use std::future::Future;

use anyhow::Result;
use tokio::task::LocalSet;

/// Runs a scenario's sessions on this thread.
fn on_this_thread<T>(scenario: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, scenario)
}
