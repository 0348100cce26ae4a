//! Every bound of the worker, and what happens at it.

use std::time::Duration;

/// Connections at once. Above: a new one is closed at once.
pub const MAX_CONNECTIONS: usize = 256;

/// How long a client may take to send a request's head, and how long a connection may idle. Longer: it is closed.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes that are kept of a request's head. Above: 431.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Bytes of a request's body. Above: 413.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of all bodies that are being read at once. Above: 503.
pub const MAX_BODY_MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// How long a body may take to come. Longer: 408.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Tasks that wait for a thread. Above: 503 with a `Retry-After`.
pub const MAX_QUEUED: usize = 64;

/// Threads that run tasks. More cannot be asked for.
pub const MAX_THREADS: usize = 64;

/// Bytes of a task thread's stack, of which only what is used takes memory. The hull's library walks from facet to
/// facet by recursion, in the worst case through all of them, and a stack that runs over ends the process.
pub const STACK_BYTES: usize = 256 * 1024 * 1024;

/// How long `POST /tasks` waits for the result. Longer: the answer is `pending`, and the result is fetched.
pub const INLINE_WAIT: Duration = Duration::from_millis(200);

/// How long `POST /execute` waits for the result. Longer: 503; the task goes on, and under the same
/// `Idempotency-Key` its result can still be had.
pub const EXECUTE_WAIT: Duration = Duration::from_secs(30);

/// How long a result is kept. Longer: its task is unknown, and its key may be used anew.
pub const RESULT_TTL: Duration = Duration::from_secs(5 * 60);

/// Results kept. Above: the oldest is forgotten.
pub const MAX_RESULTS: usize = 1024;

/// Bytes of all results kept. Above: the oldest are forgotten.
pub const MAX_RESULTS_BYTES: usize = 64 * 1024 * 1024;

/// How long somebody who does not ask for a result may still come, when the worker is going down. Servers ask once a
/// second. Longer: nobody waits for that result any more.
pub const ASKER_PATIENCE: Duration = Duration::from_secs(3);

/// Bytes of one result, chosen so that it goes through a server that passes on 1 MiB. Above: the task fails.
pub const MAX_RESULT_BYTES: usize = 1_000_000;

/// Bytes of an `Idempotency-Key`. Above: 400.
pub const MAX_KEY_BYTES: usize = 128;

/// Bytes of an error's text. What is beyond is cut off: it may quote what the client sent.
pub const MAX_ERROR_BYTES: usize = 300;

/// The farthest from zero that a coordinate or an extent may be. Above: 400.
pub const MAX_COORDINATE: f64 = 1e6;

/// The smallest radius or half extent. Below: 400.
pub const MIN_EXTENT: f64 = 1e-6;

/// Bodies of a collision task. Above: 400.
pub const MAX_BODIES: usize = 10_000;

/// Pairs of bodies whose bounding boxes overlap, all of which must be looked at. Above: the task fails.
pub const MAX_CANDIDATES: usize = 1_000_000;

/// Touching pairs that a collision task tells. Above: the first of them, and `truncated`.
pub const MAX_PAIRS: usize = 4_000;

/// Points of a hull task. Above: 400.
pub const MAX_POINTS: usize = 50_000;

/// Faces of a hull. Above: the task fails. Every point is held against every face, so this also bounds the time.
pub const MAX_FACES: usize = 20_000;

/// Thickness of a cloud of points in parts of its diagonal. Thinner: 400, for it is as good as flat.
pub const MIN_THICKNESS: f64 = 1e-3;

/// Cells along one side of a grid. Above: 400.
pub const MAX_GRID_SIDE: usize = 1024;
