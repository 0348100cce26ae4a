//! Logs: for people in development, one JSON object per line in production. Times are UTC.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _};
use std::panic::PanicHookInfo;

use tracing::{Dispatch, Level, Metadata, error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, Environment};

/// Libraries that show in their finer levels what clients send, and so passwords and tokens.
const TALKATIVE: [&str; 4] = ["tungstenite", "tokio_tungstenite", "hyper", "engineioxide"];

/// The finest level that they may log at, whatever the filter says.
const TALKATIVE_LEVEL_MAX: Level = Level::INFO;

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error("LOG is no filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody else logs already.
    #[error("logging is set up already: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the logs of this process to standard error, and panics with them.
///
/// # Errors
/// [`LoggingError`]; without it, nothing has changed.
pub fn init(config: &Config) -> Result<(), LoggingError> {
    let is_terminal = io::stderr().is_terminal();
    dispatch(config.environment, &config.log, io::stderr, is_terminal)?.try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn dispatch<W>(
    environment: Environment,
    filter: &str,
    writer: W,
    is_terminal: bool,
) -> Result<Dispatch, LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match environment {
        Environment::Production => {
            builder.json().flatten_event(true).finish().with(filter_fn(keeps_secrets)).into()
        }
        Environment::Development | Environment::Test => {
            builder.with_ansi(is_terminal).finish().with(filter_fn(keeps_secrets)).into()
        }
    })
}

/// Not a matter of the filter, whose more specific directives would win over any that is added to it.
fn keeps_secrets(metadata: &Metadata<'_>) -> bool {
    let library = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= TALKATIVE_LEVEL_MAX || !TALKATIVE.contains(&library)
}

/// A panic is a bug; whoever collects the logs must see it where the rest is.
fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let text = info.payload_as_str().unwrap_or("(not a text)");
    // Captured only if the operator asks for it in the usual way.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    error!(panic = text, place, thread = thread.name().unwrap_or("?"), backtrace, "a thread panicked");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged in `environment` while `act` runs.
    fn logged(environment: Environment, filter: &str, act: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let dispatch = dispatch(environment, filter, move || writer.clone(), false).unwrap();
        tracing::dispatcher::with_default(&dispatch, act);
        String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap()
    }

    #[test]
    fn production_logs_one_json_object_per_line() {
        let text = logged(Environment::Production, "info", || tracing::info!(port = 3001, "up"));
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(
            (&line["message"], &line["port"], &line["level"]),
            (&"up".into(), &3001.into(), &"INFO".into())
        );
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn development_logs_for_people_and_the_filter_holds() {
        let text = logged(Environment::Development, "warn", || {
            tracing::info!("not this");
            tracing::warn!("but this");
        });
        assert!(text.contains("WARN") && text.contains("but this") && !text.contains("not this"), "{text}");
    }

    #[test]
    fn libraries_do_not_tell_what_clients_send_whatever_the_filter_says() {
        for filter in ["trace", "info,tungstenite::protocol=trace,hyper=debug", "tungstenite[]=trace"] {
            for environment in [Environment::Production, Environment::Development] {
                let text = logged(environment, filter, || {
                    tracing::trace!(target: "tungstenite::protocol", "Received message hunter2");
                    tracing::debug!(target: "tokio_tungstenite", "hunter2");
                    tracing::debug!(target: "hyper::proto", "hunter2");
                    tracing::trace!(target: "engineioxide::socket", "hunter2");
                    tracing::info!(target: "tungstenite::protocol", "a warning");
                    tracing::info!(target: "hypersonic", "another crate");
                });
                assert!(!text.contains("hunter2"), "{filter}: {text}");
                assert!(text.contains("a warning") || !filter.contains("info"), "{filter}: {text}");
            }
        }
        let text = logged(Environment::Test, "trace", || tracing::trace!(target: "hypersonic", "ours"));
        assert!(text.contains("ours"));
    }

    #[test]
    fn a_panic_is_logged() {
        let text = logged(Environment::Production, "error", || {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(log_panic));
            let panicked = std::panic::catch_unwind(|| panic!("number {}", 7));
            std::panic::set_hook(hook);
            assert!(panicked.is_err());
        });
        assert!(text.contains("number 7") && text.contains("logging.rs:"), "{text}");
    }

    #[test]
    fn a_wrong_filter_is_an_error() {
        assert!(dispatch(Environment::Test, "server=loud", io::sink, false).is_err());
    }
}
