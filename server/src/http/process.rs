//! What `/metrics` says of the process, under the names that Prometheus' own clients give.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

/// The process's figures, read when they are asked for.
#[derive(Debug)]
struct Process;

/// A registry of the process's figures. Their names have no prefix.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Process));
    registry
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let cpu = ConstCounter::new(cpu_s());
        let help = "User and system CPU time of all threads";
        let metric =
            encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), cpu.metric_type())?;
        cpu.encode(metric)?;
        if let Some(bytes) = resident_bytes() {
            let resident = ConstGauge::new(bytes);
            let help = "Resident memory";
            let unit = Some(&Unit::Bytes);
            let metric =
                encoder.encode_descriptor("process_resident_memory", help, unit, resident.metric_type())?;
            resident.encode(metric)?;
        }
        Ok(())
    }
}

fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// `None` where the system does not tell it in `/proc`.
fn resident_bytes() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse::<u64>().ok()?;
    Some(pages * page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text;

    #[test]
    fn the_process_has_used_its_processor_and_takes_memory() {
        let figure = |name: &str| {
            let mut body = String::new();
            text::encode(&mut body, &registry()).unwrap();
            let line =
                body.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
            line.map(|value| value.parse::<f64>().unwrap())
        };
        let before = figure("process_cpu_seconds_total").unwrap();
        assert!((0..1_000_000_u64).map(std::hint::black_box).sum::<u64>() > 0);
        assert!(figure("process_cpu_seconds_total").unwrap() > before);
        #[cfg(target_os = "linux")]
        assert!(figure("process_resident_memory_bytes").unwrap() > 100_000.0);
    }
}
