//! A server that runs for the time of one measurement.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::process::{Process, pin};

/// How long a server may take until it accepts connections, and until it has ended when told to.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often is looked whether it has.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What a shell says of a command that a signal has ended.
const INTERRUPTED: i32 = 130;

/// What runs at the moment, so that a signal can end it: at most one server at a time.
static AT_WORK: Mutex<Vec<(Arc<Mutex<Child>>, PathBuf)>> = Mutex::new(Vec::new());

/// A server that is stopped when this goes, whatever happens.
pub(crate) struct Running {
    child: Arc<Mutex<Child>>,
    id: u32,
    pub(crate) port: u16,
    data: PathBuf,
}

/// A lock whose holder has panicked is as good as any here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on SIGINT, SIGTERM and SIGHUP end whatever has been started here, and then this process.
///
/// # Errors
/// If signals cannot be waited for.
pub(crate) fn end_with_this_process() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .context("cannot wait for signals")?;
    drop(_entered);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let [a, b, c] = &mut signals[..] else { return };
            tokio::select! { _ = a.recv() => {}, _ = b.recv() => {}, _ = c.recv() => {} }
        });
        // Nothing new is started while this is held, and it is held until the end.
        let at_work = locked(&AT_WORK);
        for (child, data) in at_work.iter() {
            end(child, data);
        }
        std::process::exit(INTERRUPTED);
    })?;
    Ok(())
}

/// Ends it at once, with whatever it has started. All of this fails where there is nothing left to do.
fn end(child: &Mutex<Child>, data: &Path) {
    let mut child = locked(child);
    let _ = Process(child.id()).signal_group(Signal::KILL);
    let _ = child.wait();
    let _ = std::fs::remove_dir_all(data);
}

/// Ends a server that takes too long, until this goes.
pub(crate) struct Deadline {
    guard: Option<(SyncSender<()>, thread::JoinHandle<bool>)>,
}

impl Deadline {
    /// Whether the server's time was up. The deadline is off from here on.
    pub(crate) fn is_over(&mut self) -> bool {
        let Some((alive, watcher)) = self.guard.take() else { return false };
        drop(alive);
        watcher.join().unwrap_or(true)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.is_over();
    }
}

impl Running {
    /// Starts `program` with `args` and `environment` on `core`, with a free port in `PORT` and an empty folder in
    /// `DATA_DIR`, and waits until it accepts connections.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn start(
        program: &Path,
        args: &[String],
        environment: Vec<(&'static str, String)>,
        core: usize,
    ) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let data = std::env::temp_dir().join(format!("loadtest-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&data)?;
        let mut command = Command::new(program);
        command.args(args).env("PORT", port.to_string()).env("DATA_DIR", &data).envs(environment);
        // A group of its own: what a wrapper starts ends with it.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A child inherits the cores of the thread that starts it, before it runs a single instruction.
        let starter = thread::spawn(move || {
            pin(core)?;
            Ok::<_, anyhow::Error>(command.spawn()?)
        });
        // A signal that comes in between finds it.
        let mut at_work = locked(&AT_WORK);
        let started = starter.join().map_err(|_| anyhow!("the starting thread has panicked"));
        let child = match started.flatten() {
            Ok(child) => child,
            Err(error) => {
                let _ = std::fs::remove_dir_all(&data);
                return Err(error);
            }
        };
        let id = child.id();
        let child = Arc::new(Mutex::new(child));
        at_work.push((child.clone(), data.clone()));
        drop(at_work);
        let server = Self { child, id, port, data };
        server.wait_until_open()?;
        server.ensure_alone()?;
        Ok(server)
    }

    /// Ends it after `patience`, unless what this gives has gone by then: whoever waits for it then waits no longer.
    pub(crate) fn deadline(&self, patience: Duration) -> Deadline {
        let (alive, ended) = sync_channel(1);
        let child = self.child.clone();
        let watcher = thread::spawn(move || {
            let is_over = ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
            if is_over {
                let _ = Process(locked(&child).id()).signal_group(Signal::KILL);
            }
            is_over
        });
        Deadline { guard: Some((alive, watcher)) }
    }

    /// The process that runs.
    pub(crate) fn process(&self) -> Process {
        Process(self.id)
    }

    fn wait_until_open(&self) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = locked(&self.child).try_wait()? {
                bail!("it ended at once: {status}");
            }
            ensure!(Instant::now() < give_up, "it accepts no connections");
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// What a server has others do for it is not in its CPU time.
    fn ensure_alone(&self) -> Result<()> {
        let others = self.process().others_of_its_group()?;
        ensure!(
            others.is_empty(),
            "it has started other processes ({others:?}), whose CPU time would not be counted: start the server itself"
        );
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn stop(&self) -> Result<()> {
        self.process().signal_group(Signal::TERM)?;
        let give_up = Instant::now() + PATIENCE;
        while locked(&self.child).try_wait()?.is_none() {
            ensure!(Instant::now() < give_up, "the server does not end when asked to");
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut at_work = locked(&AT_WORK);
        end(&self.child, &self.data);
        at_work.retain(|(child, _)| !Arc::ptr_eq(child, &self.child));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn what_does_not_start_is_told() {
        assert!(Running::start(Path::new("no-such-server"), &[], Vec::new(), 0).is_err());
        let ends_at_once = Running::start(Path::new("/bin/false"), &[], Vec::new(), 0);
        assert!(ends_at_once.is_err_and(|error| error.to_string().contains("ended at once")));
    }

    #[test]
    fn whatever_takes_too_long_is_ended() {
        let child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let id = child.id();
        let child = Arc::new(Mutex::new(child));
        let server = Running { child, id, port: 0, data: PathBuf::from("no-such-folder") };
        assert!(!server.deadline(Duration::from_secs(1_000)).is_over());
        let mut deadline = server.deadline(Duration::ZERO);
        // It ends by the signal, and by nothing else: nobody has let the deadline go.
        let status = loop {
            match locked(&server.child).try_wait().unwrap() {
                Some(status) => break status,
                None => thread::yield_now(),
            }
        };
        assert_eq!(status.code(), None);
        assert!(deadline.is_over());
    }

    #[test]
    fn whoever_starts_others_is_refused_and_they_end_with_it() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]).process_group(0).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (id, mut said) = (child.id(), BufReader::new(child.stdout.take().unwrap()));
        let child = Arc::new(Mutex::new(child));
        let server = Running { child, id, port: 0, data: PathBuf::from("no-such-folder") };
        let mut other = String::new();
        said.read_line(&mut other).unwrap();
        assert_eq!(server.process().others_of_its_group().unwrap(), [other.trim().parse::<u32>().unwrap()]);
        assert!(server.ensure_alone().is_err_and(|error| error.to_string().contains(other.trim())));
        drop(server);
        // The pipe's end comes when nobody has it open any more.
        let (tell, told) = sync_channel(1);
        thread::spawn(move || tell.send(said.read_line(&mut other)));
        assert_eq!(told.recv_timeout(PATIENCE).expect("both have ended").unwrap(), 0);
    }

    #[test]
    fn it_gets_its_environment() {
        let says = ["-c".to_owned(), "exit $STATUS".to_owned()];
        let status = vec![("STATUS", "7".to_owned())];
        let ended = Running::start(Path::new("/bin/sh"), &says, status, 0);
        assert!(ended.is_err_and(|error| error.to_string().contains('7')));
    }
}
