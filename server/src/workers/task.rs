//! What is asked of a worker, and what comes of it.

use std::convert::Infallible;

use ::http::StatusCode;
use protocol::error::{ClientError, ErrorCode};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::limits::{MAX_RESULT_BYTES, MAX_TASK_NAME_BYTES, MAX_TASKS_OF_USER};

/// Something for a worker to do.
#[derive(Debug, Clone)]
pub struct Task {
    /// Who asks. Limits are per user.
    pub user: String,
    /// Which task.
    pub name: String,
    /// Its input; `null` if there is none.
    pub payload: Box<RawValue>,
}

impl Task {
    /// The task `name` with `payload`, asked for by `user`.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] if the name is none.
    pub fn new(user: &str, name: &str, payload: Option<&RawValue>) -> Result<Self, TaskError> {
        if name.is_empty() {
            return Err(TaskError::Invalid("task required"));
        }
        if name.len() > MAX_TASK_NAME_BYTES {
            return Err(TaskError::Invalid("the name of a task is at most 128 bytes"));
        }
        let payload = payload.unwrap_or(RawValue::NULL).to_owned();
        Ok(Self { user: user.to_owned(), name: name.to_owned(), payload })
    }

    /// Bytes that it holds while it waits, near enough for a limit.
    pub(super) fn bytes(&self) -> usize {
        self.user.len() + self.name.len() + self.payload.get().len()
    }
}

/// What a task comes to: its result as JSON, or why there is none.
pub type Outcome = Result<Box<RawValue>, TaskError>;

/// Why a task has no result. The text is for the client, and never says more of a worker than that worker meant for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// It is no task.
    #[error("{0}")]
    Invalid(&'static str),
    /// There is no worker, or none that could be reached of late.
    #[error("No healthy workers available")]
    NoWorkers,
    /// Too much waits already here.
    #[error("Too many tasks are waiting, try again later")]
    Busy,
    /// The workers say that they take nothing now: they have too much to do, or are going down.
    #[error("The workers take no tasks now, try again later")]
    NotTaken,
    /// The user asks for more than it may.
    #[error("too many tasks, slow down")]
    RateLimited,
    /// The user has as many tasks under way as it may.
    #[error("at most {MAX_TASKS_OF_USER} tasks of one user at once")]
    TooManyAtOnce,
    /// The server is going down.
    #[error("the server is restarting")]
    Draining,
    /// The worker has looked at it and says that it cannot be done. These are its words, shortened and cleaned.
    #[error("{0}")]
    Failed(String),
    /// The worker's answer makes no sense.
    #[error("The worker failed")]
    Broken,
    /// The worker took the task and was not heard of again.
    #[error("The worker was lost while it had the task")]
    Lost,
    /// The result is larger than any may be.
    #[error("The result is larger than {} MiB", MAX_RESULT_BYTES / 1024 / 1024)]
    TooLarge,
    /// Its time is over.
    #[error("The task took too long")]
    Late,
}

impl TaskError {
    /// As an ack tells it.
    pub fn to_client_error(&self) -> ClientError {
        let code = match self {
            Self::Invalid(_) => ErrorCode::BadRequest,
            Self::NoWorkers => ErrorCode::Unavailable,
            Self::Busy | Self::NotTaken => ErrorCode::Overloaded,
            Self::RateLimited => ErrorCode::RateLimited,
            Self::TooManyAtOnce => ErrorCode::Limit,
            Self::Draining => ErrorCode::Draining,
            Self::Failed(_) | Self::Broken | Self::Lost | Self::TooLarge | Self::Late => {
                ErrorCode::WorkerFailed
            }
        };
        ClientError::new(code, self.to_string())
    }

    /// As HTTP tells it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::NoWorkers | Self::Busy | Self::NotTaken | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::RateLimited | Self::TooManyAtOnce => StatusCode::TOO_MANY_REQUESTS,
            Self::Failed(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Broken | Self::Lost | Self::TooLarge => StatusCode::BAD_GATEWAY,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// For metrics.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::NoWorkers => "no_workers",
            Self::Busy => "busy",
            Self::NotTaken => "not_taken",
            Self::RateLimited => "rate_limited",
            Self::TooManyAtOnce => "too_many_at_once",
            Self::Draining => "draining",
            Self::Failed(_) => "failed",
            Self::Broken => "broken",
            Self::Lost => "lost",
            Self::TooLarge => "too_large",
            Self::Late => "late",
        }
    }
}

/// The asker's side of a task: when this is dropped, nobody wants the answer any more, and the task is given up.
#[derive(Debug)]
pub struct Ticket {
    _gone: oneshot::Sender<Infallible>,
}

/// The bridge's side of a [`Ticket`].
#[derive(Debug)]
pub struct Gone(oneshot::Receiver<Infallible>);

impl Ticket {
    /// A ticket, and what learns of its end.
    pub fn issue() -> (Self, Gone) {
        let (sender, receiver) = oneshot::channel();
        (Self { _gone: sender }, Gone(receiver))
    }
}

impl Gone {
    /// Resolves when the asker has gone.
    pub(super) async fn happens(&mut self) {
        // Nothing can be sent; it ends when the sender is dropped.
        let _ = (&mut self.0).await;
    }
}

/// Gives a task's answer, once, whatever happens.
pub(super) struct Reply(Option<Box<dyn FnOnce(Outcome) + Send>>);

impl Reply {
    pub(super) fn new(answer: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Self(Some(Box::new(answer)))
    }

    pub(super) fn send(mut self, outcome: Outcome) {
        if let Some(answer) = self.0.take() {
            answer(outcome);
        }
    }

    /// Nobody wants it, or the caller has been told otherwise.
    pub(super) fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Reply {
    /// Whatever became of the task, its asker does not wait for ever.
    fn drop(&mut self) {
        if let Some(answer) = self.0.take() {
            answer(Err(TaskError::Broken));
        }
    }
}
