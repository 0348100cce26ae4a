//! What the kernel knows of a process, and where this one runs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Resource, Signal, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Ticks per second in which Linux reports CPU time. It has been 100 to programs on every architecture since
/// 2.6, whatever the kernel's own rate is.
const CLOCK_TICKS_PER_SECOND: u32 = 100;

/// Fields of a thread's `schedstat`, in nanoseconds: for how long it ran, and was ready and waited for a core.
const RUNNING: usize = 0;
const WAITING: usize = 1;

/// A process whose cost is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    pub(crate) fn own() -> Self {
        Self(std::process::id())
    }

    /// CPU time of all its threads since it began.
    ///
    /// The kernel tells the sum in steps of 10 ms, and of each thread that still runs to the nanosecond. Both leave out
    /// something, of which the first is never more than two steps and the second nothing as long as no thread ends: the
    /// larger is nearer to what is true.
    pub(crate) fn cpu_time(self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // The program's name is in brackets and may contain anything; fields are counted after it.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).context("no CPU times in /proc/<pid>/stat")?;
        let in_steps = Duration::from_secs((user + system).into()) / CLOCK_TICKS_PER_SECOND;
        Ok(in_steps.max(self.of_threads(RUNNING)?))
    }

    /// For how long its threads together were ready to run and had to wait for a core, since each of them began.
    pub(crate) fn waiting_time(self) -> Result<Duration> {
        self.of_threads(WAITING)
    }

    /// The sum over all threads of a field of their scheduling statistics.
    fn of_threads(self, field: usize) -> Result<Duration> {
        let mut total = Duration::ZERO;
        let threads = format!("/proc/{}/task", self.0);
        for thread in fs::read_dir(&threads).with_context(|| threads.clone())? {
            // A thread may have ended meanwhile.
            let Ok(stat) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            let nanoseconds = stat.split_whitespace().nth(field).and_then(|field| field.parse().ok());
            total += Duration::from_nanos(nanoseconds.context("too little in schedstat")?);
        }
        Ok(total)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(self) -> Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.context("no VmRSS in /proc/<pid>/status")? * 1024)
    }

    /// Asks it to end.
    pub(crate) fn terminate(self) -> Result<()> {
        rustix::process::kill_process(self.pid()?, Signal::TERM).context("cannot signal the server")
    }

    /// Sends a signal to all of the process group that it leads.
    pub(crate) fn signal_group(self, signal: Signal) -> Result<()> {
        rustix::process::kill_process_group(self.pid()?, signal).context("cannot signal the server")
    }

    /// What it has started and what else is in the process group that it leads.
    pub(crate) fn others_of_its_group(self) -> Result<Vec<u32>> {
        let mut others = Vec::new();
        for entry in fs::read_dir("/proc").context("/proc")? {
            let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // It may have ended meanwhile.
            let Ok(stat) = Self(id).read("stat") else { continue };
            let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
            // After its state come its parent and its group.
            let is_of_it = fields.by_ref().skip(1).take(2).any(|field| field.parse() == Ok(self.0));
            if is_of_it && id != self.0 {
                others.push(id);
            }
        }
        Ok(others)
    }

    fn pid(self) -> Result<Pid> {
        i32::try_from(self.0).ok().and_then(Pid::from_raw).context("no process of that number")
    }

    fn read(self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).with_context(|| format!("{path}: is the server still running?"))
    }
}

/// Keeps this thread, and what it starts, on one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    ensure!(core < CpuSet::MAX_CPU, "there is no core {core}");
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("cannot run on core {core}"))
}

/// Raises the limit on open files as far as allowed and says whether `connections` will fit.
pub(crate) fn allow_connections(connections: u32) -> Result<()> {
    /// Files that are open besides the connections.
    const OTHER_FILES: u64 = 64;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit on open files")?;
    let needed = u64::from(connections) + OTHER_FILES;
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= needed),
        "{connections} connections need more open files than are allowed: raise `ulimit -Hn`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_this_process() {
        let own = Process::own();
        assert!(own.resident_bytes().unwrap() > 100_000);
        own.waiting_time().unwrap();
        let before = own.cpu_time().unwrap();
        let mut waste = 0_u64;
        while own.cpu_time().unwrap() == before {
            waste = waste.wrapping_mul(31).wrapping_add(7);
        }
        assert!(own.cpu_time().unwrap() > before, "{waste}");
        let threads = own.of_threads(RUNNING).unwrap();
        let steps = Duration::from_secs(2) / CLOCK_TICKS_PER_SECOND;
        assert!(!threads.is_zero() && own.cpu_time().unwrap() + steps >= threads);
    }

    #[test]
    fn nobody_has_the_largest_number() {
        assert!(Process(u32::MAX).cpu_time().is_err());
    }
}
