//! Every bound of the bridge, and what happens at it.

use std::time::Duration;

/// Workers that may be named. More: the server does not start.
pub const MAX_WORKERS: usize = 16;

/// Bytes of a worker's name. More: the server does not start.
pub const MAX_NAME_BYTES: usize = 32;

/// Tasks that are waiting or being done, of everybody. Above: refused at once, to be tried again.
pub const MAX_TASKS: usize = 2_048;

/// Bytes of the payloads of all these tasks. Above: refused at once, to be tried again.
pub const MAX_TASK_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a task's name. More: the task is refused.
pub const MAX_TASK_NAME_BYTES: usize = 128;

/// Bytes of the client's own name for a task, which comes back with the answer. More: the task is refused.
pub const MAX_TASK_ID_BYTES: usize = 128;

/// Tasks of one user at once. Above: refused.
pub const MAX_TASKS_OF_USER: u32 = 16;

/// Tasks that one user may ask for at once after a rest. Above: refused until there is allowance again.
pub const USER_BURST: u32 = 100;

/// How much of that allowance comes back in a second.
pub const USER_TASKS_PER_S: u32 = 50;

/// Users whose allowances are remembered. Full: whoever has been known longest and has no task under way is forgotten,
/// and has a new allowance with the next one.
pub const MAX_USERS: usize = 10_000;

/// Bytes of a result. More: the task has failed.
pub const MAX_RESULT_BYTES: usize = 1024 * 1024;

/// Bytes that a worker's answer may have around its result. Reading stops where both together end.
pub const MAX_ENVELOPE_BYTES: usize = 16 * 1024;

/// How deep a result may nest: it must not overflow the stack of any client's parser. Deeper: the task has failed.
pub const MAX_RESULT_DEPTH: usize = 64;

/// Bytes of the name that a worker gives to a task. More: the answer counts as nonsense.
pub const MAX_REMOTE_ID_BYTES: usize = 128;

/// Characters of what a worker says of a failure that are passed on. The rest is cut off.
pub const MAX_REASON_CHARS: usize = 200;

/// Workers that a task is brought to, one after the other. After the last the task has failed.
pub const MAX_ATTEMPTS: u32 = 3;

/// Questions for a task's state that may fail one after the other. Then the task counts as lost.
pub const MAX_POLL_FAILURES: u32 = 3;

/// Bad answers one after the other that open a worker's circuit. A worker that does not answer at all needs only one.
pub const FAULTS_TO_OPEN: u32 = 3;

/// How long a connection that nobody uses is kept. Node.js closes such ones after five seconds, and a request that
/// meets the closing would have to go elsewhere.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// How long things may take. The defaults are for workers across the internet; tests have less patience.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// For a task in all, from when it was asked for. Over: it has failed.
    pub task: Duration,
    /// For a connection to a worker. Over: the worker counts as dead, and the task goes to another.
    pub connect: Duration,
    /// For the answer to `POST /tasks`. Over: the worker counts as dead, and the task goes to another.
    pub accept: Duration,
    /// For the answer to one question for a task's state. Over: it is asked again, [`MAX_POLL_FAILURES`] times.
    pub poll: Duration,
    /// For the answer to `GET /health`. Over: the worker is not healthy.
    pub health: Duration,
    /// Between two looks at a healthy worker, more or less: it varies by a fifth, so that several servers do not look
    /// at one moment.
    pub health_interval: Duration,
    /// How long a worker that has failed is left alone, at first. Doubles with each failure after that.
    pub rest: Duration,
    /// The longest such rest.
    pub rest_max: Duration,
    /// Before the first question for a task's state. Each further pause is half as long again.
    pub poll_pause: Duration,
    /// The longest such pause.
    pub poll_pause_max: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            task: Duration::from_secs(30),
            connect: Duration::from_secs(3),
            accept: Duration::from_secs(10),
            poll: Duration::from_secs(5),
            health: Duration::from_secs(5),
            health_interval: Duration::from_secs(30),
            rest: Duration::from_secs(1),
            rest_max: Duration::from_secs(30),
            poll_pause: Duration::from_millis(20),
            poll_pause_max: Duration::from_secs(1),
        }
    }
}

// A set of workers is a 64-bit number.
const _: () = assert!(MAX_WORKERS <= 64);
// Whoever may not even have one full payload waiting could never be served.
const _: () = assert!(MAX_TASK_BYTES > 16 * protocol::limits::MAX_PACKET_BYTES);
