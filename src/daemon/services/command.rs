//! What a person wants of a running daemon, as values: the commands, what they carry, and why one is refused.
//!
//! Owns the types and their JSON. How they arrive is [`crate::daemon::api::routes`]'.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::domain::job::JobId;

/// How many commands may wait for the loop; more are refused with "busy".
pub const COMMANDS: usize = 16;

/// A job that a person asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnceRequest {
    /// Which project, by name; may be left out where there is only one.
    pub project: Option<String>,
    /// Words instead of the project's prompt.
    pub prompt: Option<String>,
    /// An absolute path of a picture instead of the project's render.
    pub render: Option<PathBuf>,
    /// A seed instead of the configured choice.
    pub seed: Option<u64>,
    /// An absolute path of a folder for the artifacts instead of the project's public names.
    pub out: Option<PathBuf>,
    /// The work of an earlier job instead of all the above but `project`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
}

/// An earlier job whose work is wanted again, as a new job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Again {
    /// Which.
    pub job: JobId,
    /// In which way.
    pub kind: AgainKind,
    /// The person knows that the work of an `unknown` job may be charged twice.
    #[serde(default)]
    pub may_charge_twice: bool,
}

/// In which way a job's work is wanted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgainKind {
    /// It did not succeed: its inputs and seeds under today's settings.
    Retry,
    /// Exactly the same request, whether or not its result is still in history.
    Rerun,
    /// As [`Self::Retry`], by itself after a lost answer; nobody outside can ask for it.
    #[serde(skip)]
    Resubmit,
    /// As [`Self::Retry`], by itself after a lost answer that may have been charged, where it costs nothing; nobody outside can
    /// ask for it.
    #[serde(skip)]
    Free,
}

/// How an artist liked a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// 1 to 5.
    pub stars: u8,
    /// Words; may be empty.
    #[serde(default)]
    pub note: String,
}

/// An earlier job's artifacts are under the public names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// What happened, in a sentence.
    pub said: String,
    /// The public files, image before mesh.
    pub files: Vec<PathBuf>,
}

/// What a person wants from the loop; each is answered exactly once.
#[derive(Debug)]
pub enum Command {
    /// A job at once.
    Once {
        /// What of.
        request: OnceRequest,
        /// The job's id once it is in the ledger.
        reply: oneshot::Sender<Result<JobId, Refused>>,
    },
    /// The end of a job.
    Cancel {
        /// Which.
        job: JobId,
        /// What was achieved, in a sentence.
        reply: oneshot::Sender<Result<String, Refused>>,
    },
    /// An earlier job's artifacts under the public names again.
    Restore {
        /// Which.
        job: JobId,
        /// What was placed.
        reply: oneshot::Sender<Result<Restored, Refused>>,
    },
    /// How the artist liked a result.
    Rate {
        /// Of which job.
        job: JobId,
        /// How much.
        rate: Rate,
        /// A sentence.
        reply: oneshot::Sender<Result<String, Refused>>,
    },
    /// A fresh look at the configuration.
    Reload {
        /// What changed, in a sentence.
        reply: oneshot::Sender<Result<String, Refused>>,
    },
    /// The daemon's end, where there are no signals to ask for it.
    Stop {
        /// What becomes of the jobs, in a sentence.
        reply: oneshot::Sender<Result<String, Refused>>,
    },
}

/// A person's request on its way.
pub(crate) struct Asked {
    pub(crate) request: OnceRequest,
    pub(crate) reply: oneshot::Sender<Result<JobId, Refused>>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// What kind of reason it is.
    pub kind: RefusedKind,
    /// What happened, whether money was involved, and what to do.
    pub message: String,
}

impl Refused {
    /// Makes a refusal.
    pub fn new(kind: RefusedKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// The kinds of refusal; each has an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedKind {
    /// The request itself makes no sense.
    Usage,
    /// An input or a workflow cannot be used.
    BadInput,
    /// A file that was named is not there.
    MissingInput,
    /// Not now: the budget, a limit, or too many requests.
    TryAgain,
    /// No backend can serve.
    Unavailable,
    /// The token is missing or was refused.
    Token,
    /// The configuration does not allow it.
    Configuration,
    /// There is no such job or project.
    NotFound,
    /// A public file cannot be written.
    CannotWrite,
}
