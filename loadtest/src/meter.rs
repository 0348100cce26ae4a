//! What the server uses: asked of the kernel if its process id is known, or else of its own `/metrics`.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::LocalSet;

use crate::http::Target;
use crate::process::Process;

/// Where it is read.
#[derive(Debug, Clone)]
pub(crate) enum Meter {
    Process(Process),
    /// A server whose `/metrics` has [`CPU`] and [`RESIDENT`].
    Metrics(Target),
}

/// CPU seconds, as Prometheus' own client libraries call them. OpenMetrics puts `_total` behind a counter's name.
const CPU: [&str; 2] = ["process_cpu_seconds_total", "process_cpu_seconds"];
/// Resident memory in bytes, by the same custom.
const RESIDENT: &str = "process_resident_memory_bytes";

/// What has been used so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// Of all threads, kernel included.
    pub(crate) cpu: Duration,
    /// How long the threads have waited for a core. `/metrics` does not tell.
    pub(crate) waiting: Option<Duration>,
    pub(crate) resident_bytes: u64,
}

impl Meter {
    /// What there is to read: the process if its id is given, the server's metrics if they tell, or nothing.
    pub(crate) fn find(target: &Target, pid: Option<u32>) -> Option<Self> {
        if let Some(pid) = pid {
            return Some(Self::Process(Process(pid)));
        }
        let metrics = Self::Metrics(target.clone());
        metrics.read().is_ok().then_some(metrics)
    }

    /// Reads it.
    ///
    /// # Errors
    /// If the process has gone, or the server does not tell.
    pub(crate) fn read(&self) -> Result<Usage> {
        match self {
            Self::Process(process) => Ok(Usage {
                cpu: process.cpu_time()?,
                waiting: Some(process.waiting_time()?),
                resident_bytes: process.resident_bytes()?,
            }),
            Self::Metrics(target) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let answer = LocalSet::new().block_on(&runtime, async {
                    tokio::time::timeout(PATIENCE, target.get("/metrics", None, None)).await
                });
                usage(&answer??.body).context("/metrics tells neither CPU time nor memory of the process")
            }
        }
    }
}

/// How long `/metrics` may take.
const PATIENCE: Duration = Duration::from_secs(2);

fn usage(text: &[u8]) -> Option<Usage> {
    let text = std::str::from_utf8(text).ok()?;
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.split(' ').next()?.parse().ok())
    };
    let cpu = CPU.iter().find_map(|name| value(name)).and_then(|s| Duration::try_from_secs_f64(s).ok())?;
    Some(Usage { cpu, waiting: None, resident_bytes: value(RESIDENT)? as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_tell_if_they_have_both() {
        let text = "# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total 1.5\n\
                    process_resident_memory_bytes_of_others 7\nprocess_resident_memory_bytes 2.5e+07 1700000000\n";
        let expected = Usage { cpu: Duration::from_millis(1_500), waiting: None, resident_bytes: 25_000_000 };
        assert_eq!(usage(text.as_bytes()), Some(expected));
        assert_eq!(usage(b"process_cpu_seconds_total 1.5\n"), None);
        assert_eq!(usage(b""), None);
    }
}
