//! A server that runs for the time of one measurement.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};

use crate::process::{Process, pin};

/// How long a server may take until it accepts connections, and until it has ended when told to.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often is looked whether it has.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A server that is stopped when this goes, whatever happens.
pub(super) struct Running {
    child: Child,
    pub(super) port: u16,
    data: PathBuf,
}

impl Running {
    /// Starts `program` with `args` and `environment` on `core`, with a free port in `PORT` and an empty folder in
    /// `DATA_DIR`, and waits until it accepts connections.
    ///
    /// # Errors
    /// If it does not start.
    pub(super) fn start(
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
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A child inherits the cores of the thread that starts it, before it runs a single instruction.
        let starter = thread::spawn(move || {
            pin(core)?;
            Ok::<_, anyhow::Error>(command.spawn()?)
        });
        let child = starter.join().map_err(|_| anyhow!("the starting thread has panicked"))??;
        let mut server = Self { child, port, data };
        server.wait_until_open()?;
        Ok(server)
    }

    /// The process that runs.
    pub(super) fn process(&self) -> Process {
        Process(self.child.id())
    }

    fn wait_until_open(&mut self) -> Result<()> {
        let give_up = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once: {status}");
            }
            ensure!(Instant::now() < give_up, "it accepts no connections");
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.process().terminate()?;
        let give_up = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < give_up, "the server does not end when asked to");
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_start_is_told() {
        assert!(Running::start(Path::new("no-such-server"), &[], Vec::new(), 0).is_err());
        let ends_at_once = Running::start(Path::new("/bin/false"), &[], Vec::new(), 0);
        assert!(ends_at_once.is_err_and(|error| error.to_string().contains("ended at once")));
    }

    #[test]
    fn it_gets_its_environment() {
        let says = ["-c".to_owned(), "exit $STATUS".to_owned()];
        let status = vec![("STATUS", "7".to_owned())];
        let ended = Running::start(Path::new("/bin/sh"), &says, status, 0);
        assert!(ended.is_err_and(|error| error.to_string().contains('7')));
    }
}
