//! The backend interface: submitting GPU jobs and getting their results, as the daemon sees it.
//!
//! Owns the trait [`Backend`] (submit, observe, fetch, cancel) and the error types that every
//! adapter maps its own errors to. An adapter sends exactly what it is given, once. It never
//! decides to retry, never touches a file and knows nothing about budgets. What is sent is defined
//! in [`work`].

pub mod http;
pub mod comfyui;
pub mod download;
pub mod reachability;
pub mod huggingface;
pub mod runcomfy;
pub mod work;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use self::work::{Payload, Submission};
pub use crate::domain::job::remote::{CancelReply, FaultKind, Phase, RunTimes};
use crate::domain::{
    job::{RequestId, artifact::RemoteFile, progress::Progress},
    machines::deployment::DeploymentFacts,
};

/// The answer to [`Backend::observe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The state of the request.
    pub phase: Phase,
    /// The machine that runs the request, once the backend names it.
    pub instance: Option<String>,
    /// A state that no reference documents, kept so that it can be logged once. It counts
    /// as queued.
    pub unknown_status: Option<String>,
    /// The progress of the run, if the backend reports it.
    pub progress: Option<Progress>,
}

/// The answer to [`Backend::result`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunResult {
    /// The request has not ended. Asking early is allowed.
    Pending(Phase),
    /// The run succeeded and produced these files.
    Succeeded {
        /// Every object with a URL, in any channel of any node.
        files: Vec<RemoteFile>,
        /// The backend's own timestamps, if it reports them.
        times: RunTimes,
    },
    /// The run failed.
    Failed {
        /// Why it failed.
        fault: ServiceFault,
        /// Files that were made before the failure.
        files: Vec<RemoteFile>,
        /// The backend's own timestamps, if it reports them.
        times: RunTimes,
    },
    /// The run was cancelled.
    Cancelled {
        /// The backend's own timestamps, if it reports them.
        times: RunTimes,
    },
}

/// An error that the service itself reported: its text, its code if there is one, and what
/// it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFault {
    /// The service's code (`10011`, `422001`, …).
    pub code: Option<u32>,
    /// The HTTP status of the answer; 200 for faults inside a result.
    pub status: u16,
    /// The service's own text, shortened to a readable length and free of secrets.
    pub message: String,
    /// Our explanation: what the fault means and what a person can do, in one or two sentences.
    pub advice: &'static str,
    /// What to do with the job.
    pub kind: FaultKind,
}

/// Why a submit returned no request id.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The request certainly did not arrive: nothing was charged, and it may be sent again.
    #[error("not submitted, nothing was charged: {reason}")]
    NotSent {
        /// What happened.
        reason: String,
        /// The delay that the service asked for.
        retry_after: Option<Duration>,
    },
    /// The service rejected the request: nothing runs.
    #[error("the service refused the request: {}", .0.message)]
    Refused(ServiceFault),
    /// It is unknown whether the service has the request. It is never resent automatically.
    #[error("it is unknown whether the service accepted the request: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
}

/// Why a free call returned no usable answer. Neither variant alone ends a job.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There was no answer, or one that says "later": worth a retry.
    #[error("{reason}")]
    Transient {
        /// What happened.
        reason: String,
        /// The delay that the service asked for.
        retry_after: Option<Duration>,
    },
    /// The service answered with a permanent fault: token, account, address or request. A problem
    /// of the service itself ([`FaultKind::Service`]) is [`Self::Transient`] instead.
    #[error("{}", .0.message)]
    Fault(ServiceFault),
}

/// Why a file could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL is not allowed. Nothing was sent.
    #[error("download from {host} is not allowed: {reason}")]
    Forbidden {
        /// The host, or the whole URL if it has no host.
        host: String,
        /// The rule that the URL breaks.
        reason: &'static str,
    },
    /// The file is larger than allowed.
    #[error("the file is larger than the {limit_mb} MB that `placement.max_artifact_mb` allows")]
    TooLarge {
        /// The limit in MB.
        limit_mb: u64,
    },
    /// The storage says that the file is gone (403, 404, 410). The result may list a fresh URL.
    #[error("the storage answered HTTP {status}")]
    Gone {
        /// The HTTP status.
        status: u16,
    },
    /// The storage asks to wait before the next try.
    #[error("{reason}")]
    Busy {
        /// What happened.
        reason: String,
        /// The delay that the storage asked for.
        retry_after: Duration,
    },
    /// The download was cut, stalled or refused: worth a retry.
    #[error("{reason}")]
    Transient {
        /// What happened.
        reason: String,
    },
}

/// A download in progress. `start` is 0 if the storage does not support ranges; bytes received
/// earlier are then void.
pub struct Download {
    /// The offset of the first byte in `chunks`.
    pub start: u64,
    /// The size of the whole file, if the storage reports it.
    pub total: Option<u64>,
    /// The bytes from `start` on. An error ends the stream.
    pub chunks: futures_util::stream::BoxStream<'static, Result<Bytes, FetchError>>,
}

/// A service that runs GPU jobs.
pub trait Backend: std::fmt::Debug + Send + Sync {
    /// Opens a connection ahead of time with a call that costs nothing. Returns the balance, if
    /// there is one.
    fn warm_up(&self) -> BoxFuture<'_, Result<Option<crate::domain::money::MicroUsd>, CallError>>;

    /// Asks for the kind of the deployment. Returns `None` if the backend has no deployments.
    /// Costs nothing.
    fn facts(&self) -> BoxFuture<'_, Result<Option<DeploymentFacts>, CallError>> {
        Box::pin(async { Ok(None) })
    }

    /// Sends one request, exactly once.
    fn submit<'a>(
        &'a self,
        submission: &'a Submission,
    ) -> BoxFuture<'a, Result<RequestId, SubmitError>>;

    /// Asks for the state of a request.
    fn observe<'a>(
        &'a self,
        request: &'a RequestId,
    ) -> BoxFuture<'a, Result<Observation, CallError>>;

    /// Asks how a request ended. Asking early is allowed.
    fn result<'a>(&'a self, request: &'a RequestId) -> BoxFuture<'a, Result<RunResult, CallError>>;

    /// Asks the backend to stop a request.
    fn cancel<'a>(
        &'a self,
        request: &'a RequestId,
    ) -> BoxFuture<'a, Result<CancelReply, CallError>>;

    /// Starts the download of `file` at byte `from`.
    fn open<'a>(
        &'a self,
        file: &'a RemoteFile,
        from: u64,
    ) -> BoxFuture<'a, Result<Download, FetchError>>;
}
