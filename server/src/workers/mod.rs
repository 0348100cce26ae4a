//! The bridge to workers: heavy work goes to HTTP servers that are made for it.
//!
//! A worker may be slow, dead, lying or overloaded. Whatever it is, each task has exactly one answer, in time, and no
//! client reaches anything through this server but the workers that its operator has named.
//!
//! - [`settings`]: who the workers are
//! - [`limits`]: every bound
//! - `task`: what is asked, and what comes of it
//! - `bridge`: the thread that talks to workers, and the way to it
//! - `pool`, `board`, `breaker`: who is given what; the last two are pure
//! - `attempt`: one task at one worker; `client` and `wire` are the calls and their meaning
//! - `health`: who is well
//! - `quota`: how much each user may ask
//! - `socket`: tasks that come as events

mod attempt;
mod board;
mod breaker;
mod bridge;
mod client;
mod health;
mod latency;
pub mod limits;
mod metrics;
mod pool;
mod quota;
pub mod settings;
mod socket;
mod status;
mod task;
mod wire;

pub use breaker::BreakerState;
pub use bridge::{Held, StartError, Workers};
pub use latency::Percentiles;
pub use settings::{BridgeSettings, Origin, WorkerSettings};
pub use socket::SocketTasks;
pub use status::{LastError, WorkerStatus};
pub use task::{Gone, Outcome, Task, TaskError, Ticket};
