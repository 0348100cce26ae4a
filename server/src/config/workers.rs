//! Who the workers are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::{in_range, invalid};
use super::{ConfigError, Secret};
use crate::workers::limits::{MAX_WORKERS, Times};
use crate::workers::settings::is_name;
use crate::workers::{BridgeSettings, Origin, WorkerSettings};

/// Bytes of a worker's secret. More than any header should carry is a mistake.
const MAX_SECRET_BYTES: usize = 4_096;

/// The longest time that a task or the pause between two looks at a worker's health may be set to, in milliseconds.
const MAX_TIME_MS: u64 = 600_000;

/// Settings about workers, as they are given.
#[derive(Debug, clap::Args)]
pub(super) struct GivenWorkers {
    /// Workers as NAME=URL, with commas between them
    #[arg(long, value_name = "LIST")]
    workers: Option<String>,
    /// URL of a worker named railway
    #[arg(long, value_name = "URL")]
    railway_worker_url: Option<String>,
    /// URL of a worker named koyeb
    #[arg(long, value_name = "URL")]
    koyeb_worker_url: Option<String>,
    /// How often a worker is asked whether it is well, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    worker_health_interval: u64,
    /// How long a task may take in all, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    worker_timeout: u64,
    /// How long some workers may have a task, as NAME=MS, with commas between them
    #[arg(long, value_name = "LIST")]
    worker_timeouts: Option<String>,
    /// Tasks that one worker has at once
    #[arg(long, value_name = "NUMBER", default_value_t = 32)]
    worker_concurrency: usize,
    /// Bearer token for every worker that has none of its own
    #[arg(long, value_name = "TEXT")]
    worker_secret: Option<String>,
    /// Bearer tokens of some workers as NAME=TEXT, with commas between them
    #[arg(long, value_name = "LIST")]
    worker_secrets: Option<String>,
    /// Certificate authorities to trust for workers over https, a PEM file [default: the system's]
    #[arg(long, value_name = "PATH")]
    worker_ca_file: Option<PathBuf>,
}

/// The workers that `given` names, each with what is its own.
pub(super) fn accept(given: GivenWorkers, notes: &mut Vec<String>) -> Result<BridgeSettings, ConfigError> {
    in_range("WORKER_HEALTH_INTERVAL", given.worker_health_interval, 100, MAX_TIME_MS)?;
    in_range("WORKER_TIMEOUT", given.worker_timeout, 1, MAX_TIME_MS)?;
    in_range("WORKER_CONCURRENCY", given.worker_concurrency as u64, 1, 1_000)?;
    let mut workers = Vec::new();
    for (name, url) in pairs("WORKERS", given.workers.as_deref())? {
        add(&mut workers, "WORKERS", name, url)?;
    }
    for (variable, name, url) in [
        ("RAILWAY_WORKER_URL", "railway", given.railway_worker_url),
        ("KOYEB_WORKER_URL", "koyeb", given.koyeb_worker_url),
    ] {
        if let Some(url) = url {
            add(&mut workers, variable, name, &url)?;
        }
    }
    if let Some(text) = given.worker_secret {
        let common = secret("WORKER_SECRET", &text)?;
        workers.iter_mut().for_each(|worker| worker.secret = Some(common.clone()));
    }
    for (name, text) in pairs("WORKER_SECRETS", given.worker_secrets.as_deref())? {
        let own = secret("WORKER_SECRETS", text)?;
        find(&mut workers, "WORKER_SECRETS", name)?.secret = Some(own);
    }
    for (name, text) in pairs("WORKER_TIMEOUTS", given.worker_timeouts.as_deref())? {
        let Ok(ms) = text.parse() else {
            return invalid(format!("WORKER_TIMEOUTS: {name} must have a number of milliseconds"));
        };
        in_range("WORKER_TIMEOUTS", ms, 1, MAX_TIME_MS)?;
        find(&mut workers, "WORKER_TIMEOUTS", name)?.timeout = Some(Duration::from_millis(ms));
    }
    for worker in workers.iter().filter(|worker| worker.origin.is_plain()) {
        let what =
            if worker.secret.is_some() { "tasks, results and its secret" } else { "tasks and results" };
        let (name, url) = (&worker.name, worker.origin.as_str());
        notes.push(format!(
            "the worker {name} is called at {url}, without encryption: {what} can be read on their way"
        ));
    }
    let times = Times {
        task: Duration::from_millis(given.worker_timeout),
        health_interval: Duration::from_millis(given.worker_health_interval),
        ..Times::default()
    };
    let authorities = given.worker_ca_file.as_deref().map(authorities).transpose()?;
    Ok(BridgeSettings { workers, concurrency: given.worker_concurrency, times, authorities })
}

fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, ConfigError> {
    let pem = match std::fs::read(path) {
        Ok(pem) => pem,
        Err(error) => return invalid(format!("WORKER_CA_FILE {}: {error}", path.display())),
    };
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => invalid(format!("WORKER_CA_FILE {}: there is no certificate in it", path.display())),
    }
}

/// The pairs of `list`. What stands behind a name is never part of a message: it may be a secret.
fn pairs<'a>(variable: &str, list: Option<&'a str>) -> Result<Vec<(&'a str, &'a str)>, ConfigError> {
    let mut pairs = Vec::new();
    for entry in list.unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match entry.split_once('=') {
            Some((name, value)) if is_name(name.trim()) && !value.trim().is_empty() => {
                pairs.push((name.trim(), value.trim()));
            }
            _ => {
                return invalid(format!(
                    "{variable} must be NAME=VALUE with commas between; a name has 1 to 32 letters, digits, - or _"
                ));
            }
        }
    }
    Ok(pairs)
}

fn add(workers: &mut Vec<WorkerSettings>, variable: &str, name: &str, url: &str) -> Result<(), ConfigError> {
    let Some(origin) = Origin::parse(url) else {
        return invalid(format!(
            "{variable}: the URL of {name} must be http:// or https:// with a host, and a port if need be, and no more"
        ));
    };
    if workers.iter().any(|worker| worker.name == name) {
        return invalid(format!("{variable}: there are two workers named {name}"));
    }
    if workers.len() >= MAX_WORKERS {
        return invalid(format!("{variable}: there are more than {MAX_WORKERS} workers"));
    }
    workers.push(WorkerSettings { name: name.to_owned(), origin, secret: None, timeout: None });
    Ok(())
}

fn find<'a>(
    workers: &'a mut [WorkerSettings],
    variable: &str,
    name: &str,
) -> Result<&'a mut WorkerSettings, ConfigError> {
    match workers.iter_mut().find(|worker| worker.name == name) {
        Some(worker) => Ok(worker),
        None => invalid(format!("{variable}: there is no worker named {name}")),
    }
}

fn secret(variable: &str, text: &str) -> Result<Secret, ConfigError> {
    if text.len() > MAX_SECRET_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return invalid(format!(
            "{variable} must be printable ASCII without spaces, and no longer than a header"
        ));
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::config::{Config, ConfigError};

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_sources([], |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    fn check_refused(variables: &[(&str, &str)], part: &str) {
        match load(variables) {
            Err(ConfigError::Invalid(line)) => {
                assert!(line.contains(part) && !line.contains('\n'), "{variables:?}: {line}");
                assert!(!line.contains("hunter2"), "{line}");
            }
            other => panic!("{variables:?}: {other:?}"),
        }
    }

    #[test]
    fn workers_come_from_the_list_and_from_their_own_variables() {
        assert!(load(&[]).unwrap().workers.workers.is_empty());
        let config = load(&[
            ("WORKERS", "a=http://127.0.0.1:5001, b = https://b.example/ ,"),
            ("RAILWAY_WORKER_URL", "https://a.up.railway.app"),
            ("KOYEB_WORKER_URL", "http://worker.internal:8080"),
            ("WORKER_HEALTH_INTERVAL", "500"),
            ("WORKER_TIMEOUT", "20000"),
            ("WORKER_TIMEOUTS", "b=2000"),
            ("WORKER_SECRET", "common"),
            ("WORKER_SECRETS", "b=own==,koyeb=hunter2"),
        ])
        .unwrap();
        let shown: Vec<_> = config
            .workers
            .workers
            .iter()
            .map(|worker| {
                let secret = worker.secret.as_ref().map(|secret| secret.expose().to_owned()).unwrap();
                (
                    worker.name.as_str(),
                    worker.origin.as_str(),
                    secret,
                    worker.timeout.map(|time| time.as_secs()),
                )
            })
            .collect();
        let expected = [
            ("a", "http://127.0.0.1:5001", "common".to_owned(), None),
            ("b", "https://b.example", "own==".to_owned(), Some(2)),
            ("railway", "https://a.up.railway.app", "common".to_owned(), None),
            ("koyeb", "http://worker.internal:8080", "hunter2".to_owned(), None),
        ];
        assert_eq!(shown, expected);
        let times = config.workers.times;
        assert_eq!((times.health_interval.as_millis(), times.task.as_secs()), (500, 20));
        let plain: Vec<_> = config.notes.iter().filter(|note| note.contains("without encryption")).collect();
        assert!(plain.len() == 1 && plain[0].contains("koyeb") && plain[0].contains("secret"), "{plain:?}");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn wrong_workers_are_refused_in_one_line() {
        check_refused(&[("WORKERS", "http://127.0.0.1:5001")], "NAME=VALUE");
        check_refused(&[("WORKERS", "a b=http://127.0.0.1")], "NAME=VALUE");
        check_refused(&[("WORKERS", "a=http://me:hunter2@127.0.0.1")], "the URL of a");
        check_refused(&[("WORKERS", "a=http://a.example/path")], "the URL of a");
        check_refused(&[("WORKERS", "a=file:///etc/passwd")], "the URL of a");
        check_refused(&[("WORKERS", "a=http://x,a=http://y")], "two workers named a");
        check_refused(&[("WORKERS", "koyeb=http://x"), ("KOYEB_WORKER_URL", "http://y")], "named koyeb");
        check_refused(&[("RAILWAY_WORKER_URL", "railway.app")], "RAILWAY_WORKER_URL: the URL");
        check_refused(&[("WORKERS", "a=http://x"), ("WORKER_SECRETS", "b=hunter2")], "no worker named b");
        check_refused(&[("WORKERS", "a=http://x"), ("WORKER_SECRETS", "hunter2")], "WORKER_SECRETS must be");
        check_refused(&[("WORKER_SECRET", "hunter2 ü")], "WORKER_SECRET must be");
        check_refused(&[("WORKERS", "a=http://x"), ("WORKER_TIMEOUTS", "a=soon")], "milliseconds");
        check_refused(&[("WORKER_HEALTH_INTERVAL", "99")], "WORKER_HEALTH_INTERVAL must be 100 to");
        check_refused(&[("WORKER_TIMEOUT", "0")], "WORKER_TIMEOUT");
        check_refused(&[("WORKER_CONCURRENCY", "0")], "WORKER_CONCURRENCY");
        check_refused(&[("WORKER_CA_FILE", "nowhere/ca.pem")], "WORKER_CA_FILE nowhere/ca.pem");
        let other = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&other, "hunter2 is no certificate").unwrap();
        let path = other.path().to_str().unwrap();
        check_refused(&[("WORKER_CA_FILE", path)], "there is no certificate in it");
        let many: Vec<_> = (0..17).map(|index| format!("w{index}=http://x:{}", index + 1)).collect();
        check_refused(&[("WORKERS", &many.join(","))], "more than 16 workers");
    }
}
