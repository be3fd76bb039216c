//! Commands to a running daemon as values: the commands, what they carry, and why one is refused.
//!
//! Owns the types and their JSON. They arrive through [`crate::daemon::api::routes`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::domain::job::JobId;

/// How many commands may wait for the loop; more are refused with "busy".
pub const COMMANDS: usize = 16;

/// Where a command is answered. It is passed on by value, so each command is answered once only.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, CommandError>>;

/// A manual request for a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnceRequest {
    /// The project's name; optional if there is only one.
    pub project: Option<String>,
    /// A text instead of the project's prompt.
    pub prompt: Option<String>,
    /// The absolute path of a picture instead of the project's render.
    pub render: Option<PathBuf>,
    /// A seed instead of the configured choice.
    pub seed: Option<u64>,
    /// The absolute path of a folder for the artifacts instead of the project's public names.
    pub out: Option<PathBuf>,
    /// The work of an earlier job instead of all the above except `project`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<Repeat>,
}

/// An earlier job whose work is requested again, as a new job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// The earlier job.
    pub job: JobId,
    /// How to repeat it.
    pub kind: RepeatKind,
    /// The person accepts that the work of an `unknown` job may be charged twice.
    #[serde(default)]
    pub may_charge_twice: bool,
}

/// How to repeat a job's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatKind {
    /// After a failure: its inputs and seeds with the current settings.
    Retry,
    /// Exactly the same request, whether or not its result is still in history.
    Rerun,
    /// Like [`Self::Retry`], but started automatically after a lost answer; not available
    /// through the API.
    #[serde(skip)]
    Resubmit,
    /// Like [`Self::Retry`], but started automatically on a free backend after a lost answer that
    /// may have been charged; not available through the API.
    #[serde(skip)]
    Free,
}

/// The artist's rating of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatingRequest {
    /// 1 to 5.
    pub stars: u8,
    /// A comment; may be empty.
    #[serde(default)]
    pub note: String,
}

/// The result of a restore: an earlier job's artifacts are public again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// What happened, as a sentence.
    pub said: String,
    /// The public files, image before mesh.
    pub files: Vec<PathBuf>,
}

/// A person's command to the loop; each is answered exactly once.
#[derive(Debug)]
pub enum Command {
    /// Start a job now.
    Once {
        /// What to make it from.
        request: OnceRequest,
        /// The job's id once it is in the ledger.
        reply: oneshot::Sender<Result<JobId, CommandError>>,
    },
    /// Cancel a job.
    Cancel {
        /// The job.
        job: JobId,
        /// What was achieved, as a sentence.
        reply: oneshot::Sender<Result<String, CommandError>>,
    },
    /// Make an earlier job's artifacts public again.
    Restore {
        /// The job.
        job: JobId,
        /// What was placed.
        reply: oneshot::Sender<Result<Restored, CommandError>>,
    },
    /// Rate a result.
    Rate {
        /// The job.
        job: JobId,
        /// The rating.
        rate: RatingRequest,
        /// The answer, as a sentence.
        reply: oneshot::Sender<Result<String, CommandError>>,
    },
    /// Read the configuration again.
    Reload {
        /// What changed, as a sentence.
        reply: oneshot::Sender<Result<String, CommandError>>,
    },
    /// Stop the daemon, for systems without signals.
    Stop {
        /// What happens to the jobs, as a sentence.
        reply: oneshot::Sender<Result<String, CommandError>>,
    },
}

/// A person's request on its way.
#[derive(Debug)]
pub(crate) struct UserRequest {
    pub(crate) request: OnceRequest,
    pub(crate) reply: Reply<JobId>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// The kind of reason.
    pub kind: CommandErrorKind,
    /// What happened, whether money was involved, and what to do.
    pub message: String,
}

impl CommandError {
    /// Creates a refusal.
    pub fn new(kind: CommandErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// The kinds of refusal; each has its own exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandErrorKind {
    /// The request itself is invalid.
    Usage,
    /// An input or a workflow cannot be used.
    BadInput,
    /// A given file does not exist.
    MissingInput,
    /// Not possible now: the budget, a limit, or too many requests.
    TryAgain,
    /// No backend can serve.
    Unavailable,
    /// The token is missing or was rejected.
    Token,
    /// The configuration does not allow it.
    Configuration,
    /// There is no such job or project.
    NotFound,
    /// A public file cannot be written.
    CannotWrite,
}
