//! What the worker bridge adds: the same task at the same worker, called directly and through the bridge; one after the
//! other for the latency, and 64 at a time for the throughput.
//!
//! The worker answers at once, so all that is measured is the way there and back. It has a thread of its own, as the
//! bridge has, and both share the machine with whoever asks.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use serde_json::value::RawValue;
use server::workers::{BridgeSettings, Origin, Task, WorkerSettings, Workers};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// Tasks at a time where it is about throughput.
const AT_ONCE: u64 = 64;

/// Users among whom the tasks are spread, so that nobody's allowance is used up.
const USERS: u64 = 9_000;

/// What the worker is asked: two boxes and whether they touch.
const PAYLOAD: &str =
    r#"{"bodies":[{"box":[1,1,1],"at":[0.25,1.5,-3.125]},{"box":[2,0.5,1],"at":[1.75,1.25,-2.5]}]}"#;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Starts a worker whose every result has so many bytes.
fn start_worker(result_bytes: usize) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("any socket can");
    let address = listener.local_addr().expect("it is bound");
    let text = format!(r#"{{"status":"completed","result":"{}"}}"#, "x".repeat(result_bytes));
    let text = Bytes::from(text);
    std::thread::spawn(move || runtime().block_on(serve(listener, text)));
    address
}

async fn serve(listener: std::net::TcpListener, text: Bytes) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("it is a socket");
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let text = text.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let text = text.clone();
            async move {
                let _ = request.into_body().collect().await;
                Ok::<_, Infallible>(Response::new(Full::new(text)))
            }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

fn start_bridge(worker: SocketAddr) -> Workers {
    let origin = Origin::parse(&format!("http://{worker}")).expect("it is one");
    let worker = WorkerSettings { name: "bench".to_owned(), origin, secret: None, timeout: None };
    let settings =
        BridgeSettings { workers: vec![worker], concurrency: AT_ONCE as usize, ..Default::default() };
    let workers = Workers::start(settings, &mut Registry::default()).expect("it can be called");
    let end = Instant::now() + Duration::from_secs(10);
    while workers.healthy() == 0 {
        assert!(Instant::now() < end, "the worker is not found");
        std::thread::yield_now();
    }
    workers
}

async fn ask_directly(client: reqwest::Client, url: Arc<str>) -> usize {
    let body = format!(r#"{{"type":"collision-detection","payload":{PAYLOAD}}}"#);
    let answer = client.post(&*url).header("content-type", "application/json").body(body).send();
    answer.await.expect("it answers").bytes().await.expect("it comes whole").len()
}

async fn ask_bridge(workers: Workers, number: u64) -> usize {
    let payload: &RawValue = serde_json::from_str(PAYLOAD).expect("it is JSON");
    let user = format!("user {}", number % USERS);
    let task = Task::new(&user, "collision-detection", Some(payload)).expect("it is a task");
    workers.run(task).await.expect("it is done").get().len()
}

/// Does `count` things, [`AT_ONCE`] at a time.
async fn at_once<F: Future<Output = usize> + Send + 'static>(count: u64, ask: impl Fn(u64) -> F) -> Duration {
    let begun = Instant::now();
    let mut under_way = JoinSet::new();
    for number in 0..count {
        if under_way.len() as u64 >= AT_ONCE {
            under_way.join_next().await;
        }
        under_way.spawn(ask(number));
    }
    while let Some(done) = under_way.join_next().await {
        done.expect("it does not panic");
    }
    begun.elapsed()
}

fn bridge(criterion: &mut Criterion) {
    for (what, result_bytes) in [("small result", 100), ("1 MB result", 1_000_000)] {
        let mut group = criterion.benchmark_group(format!("bridge/{what}"));
        group.throughput(Throughput::Elements(1));
        let worker = start_worker(result_bytes);
        let url: Arc<str> = format!("http://{worker}/tasks").into();
        let workers = start_bridge(worker);
        let runtime = runtime();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
        let mut number = 0;
        group.bench_function("directly, one by one", |bencher| {
            bencher.iter(|| runtime.block_on(ask_directly(client.clone(), url.clone())));
        });
        group.bench_function("through the bridge, one by one", |bencher| {
            bencher.iter(|| {
                number += 1;
                runtime.block_on(ask_bridge(workers.clone(), number))
            });
        });
        group.bench_function("directly, 64 at a time", |bencher| {
            let ask = |_| ask_directly(client.clone(), url.clone());
            bencher.iter_custom(|count| runtime.block_on(at_once(count, ask)));
        });
        group.bench_function("through the bridge, 64 at a time", |bencher| {
            let ask = |number| ask_bridge(workers.clone(), number);
            bencher.iter_custom(|count| runtime.block_on(at_once(count, ask)));
        });
        group.finish();
    }
}

criterion_group!(all, bridge);
criterion_main!(all);
