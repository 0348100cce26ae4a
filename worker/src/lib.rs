//! The worker: geometry tasks over HTTP, for a Copresence server to hand over.
//!
//! A request becomes a [`task::Task`], checked before it is accepted; [`tasks::Tasks`] queues it, runs it on a thread
//! of its pool and keeps what came of it for a while; [`http::Api`] speaks both protocols. [`limits`] has every bound.

pub mod config;
pub mod http;
pub mod limits;
mod metrics;
mod pool;
pub mod run;
pub mod task;
pub mod tasks;
