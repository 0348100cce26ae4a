//! All of the worker, put together: threads, the listener, and the wait for the end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::http::Api;
use crate::limits::{HEADER_TIMEOUT, MAX_CONNECTIONS, MAX_HEAD_BYTES};
use crate::tasks::Tasks;

/// Threads that read requests. Two, so that `/health` is answered while a large body is taken apart.
const HTTP_THREADS: usize = 2;

/// How long accepting rests after the system had no socket to give.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How often it is looked whether all results have been fetched.
const LOOK: Duration = Duration::from_millis(10);

/// How long answers that are being written get when the rest is done.
const GOODBYE: Duration = Duration::from_millis(100);

/// Why the worker did not come up.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The filter cannot be read.
    #[error("LOG is no filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The system gives no thread, runtime or signal.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Says on standard error why the worker did not come up.
#[expect(clippy::print_stderr, reason = "whoever typed the command reads it there")]
pub fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("copresence-worker: {error}");
    ExitCode::FAILURE
}

/// Runs the worker until it is asked to end, and lets it finish what it has accepted.
///
/// # Errors
/// [`RunError`], before anybody is served.
pub fn run(config: Config) -> Result<(), RunError> {
    let filter = EnvFilter::builder().parse(&config.log)?;
    // Whoever logs already, in a test for instance, goes on.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).try_init();
    let tasks = Tasks::start(config.threads())?;
    Builder::new_multi_thread()
        .worker_threads(HTTP_THREADS)
        .enable_all()
        .build()?
        .block_on(serve(config, tasks))
}

async fn serve(config: Config, tasks: Arc<Tasks>) -> Result<(), RunError> {
    let address = SocketAddr::new(config.host, config.port);
    let listener = TcpListener::bind(address).await.map_err(|error| RunError::Listen(address, error))?;
    let address = listener.local_addr()?;
    let api = Arc::new(Api::new(tasks.clone(), config.secret.expose()));
    let ended = asked_to_end()?;
    if config.secret.expose().is_empty() && !address.ip().is_loopback() {
        tracing::warn!("WORKER_SECRET is not set: everybody who reaches this address may run tasks");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        threads = config.threads(),
        "the worker is ready: http://{address}"
    );
    let accepting = tokio::spawn(accept(listener, api.clone()));
    tracing::info!(signal = ended.await, "asked to end");
    // Results are fetched over new connections too, so these are still taken.
    api.begin_drain();
    let settled = async {
        while !tasks.is_settled() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(Duration::from_millis(config.drain_ms), settled).await.is_err() {
        tracing::warn!("some results were not ready, or not fetched yet");
    }
    accepting.abort();
    tokio::time::sleep(GOODBYE).await;
    tracing::info!("stopped");
    Ok(())
}

/// Resolves when the process is asked to end. Signals are caught from now on.
fn asked_to_end() -> io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

async fn accept(listener: TcpListener, api: Arc<Api>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        // Full: the connection is closed at once, which tells a client to go elsewhere.
        if let Ok(permit) = connections.clone().try_acquire_owned() {
            tokio::spawn(connection(stream, api.clone(), permit));
        }
    }
}

async fn connection(stream: TcpStream, api: Arc<Api>, _permit: OwnedSemaphorePermit) {
    // Answers are written whole; there is nothing to gather.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.handle(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended badly");
    }
}
