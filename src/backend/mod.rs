//! The port: where GPU work happens, seen from the daemon.
//!
//! Owns the trait [`Backend`] (submit, observe, fetch, cancel) and the errors that every adapter sorts its
//! own troubles into. An adapter sends exactly what it is told, once; it never decides to try again, never
//! touches a file and never knows a budget. What is sent is [`work`]'s.

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

pub use self::work::{Submission, Work};
use crate::domain::{
    job::{RequestId, artifact::RemoteFile, progress::Progress},
    machines::deployment::Facts,
    time::WallTime,
};

/// Where a request stands, as the backend says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits; the position counts from 0 and is often absent.
    Queued {
        /// Requests before this one.
        position: Option<u64>,
    },
    /// A machine works on it.
    Running,
    /// It ended; how, only [`Backend::result`] says.
    Ended,
}

/// An answer to [`Backend::observe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Where the request stands.
    pub phase: Phase,
    /// The machine that has it, once the backend tells.
    pub instance: Option<String>,
    /// A word that no reference knows, kept to be logged once. It counts as queued.
    pub unknown_word: Option<String>,
    /// How far the run is, where the backend tells.
    pub progress: Option<Progress>,
}

/// An answer to [`Backend::result`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunResult {
    /// Not yet: asking early is allowed.
    Pending(Phase),
    /// The run succeeded; these are the files it lists.
    Succeeded {
        /// Every object with a URL, in any channel of any node.
        files: Vec<RemoteFile>,
        /// The backend's own times, where it gives them.
        times: RunTimes,
    },
    /// The run failed for the reason given.
    Failed {
        /// The verdict.
        fault: ServiceFault,
        /// Files that were made before the fault.
        files: Vec<RemoteFile>,
        /// The backend's own times, where it gives them.
        times: RunTimes,
    },
    /// The run was cancelled.
    Cancelled {
        /// The backend's own times, where it gives them.
        times: RunTimes,
    },
}

/// The backend's own times of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTimes {
    /// When the request was taken in.
    pub created_at: Option<WallTime>,
    /// When it ended.
    pub finished_at: Option<WallTime>,
}

/// What a cancel achieved. The request may still run on for a while, so it is followed to its end all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReply {
    /// The backend will stop it.
    Requested,
    /// It is over already, or cannot be stopped.
    TooLate,
}

/// A fault the service itself reported: its words, a code where it gave one, and what to make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFault {
    /// The service's code (`10011`, `422001`, …).
    pub code: Option<u32>,
    /// The HTTP status it came with; 200 for faults inside a result.
    pub status: u16,
    /// The service's own words, cut to a readable length, free of secrets.
    pub words: String,
    /// What it means and what a person can do, in one or two sentences of ours.
    pub advice: &'static str,
    /// What to do with the job.
    pub verdict: Verdict,
}

/// What a fault means for the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The workflow or its input is at fault: never tried again with the same input.
    Workflow,
    /// The account, the deployment or the token is at fault: a person must act; other jobs will fail too.
    Account,
    /// The token was refused: a job in flight is parked until there is a good one.
    Token,
    /// The service is at fault: its own business, may pass.
    Service,
    /// The request or the deployment is not known (any more).
    Gone,
}

/// Why a submit has no request id to show.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It surely did not arrive: nothing was charged, and it may be sent again.
    #[error("the request did not reach the service: {reason}")]
    NotSent {
        /// What happened.
        reason: String,
        /// The wait that the service asked for.
        retry_after: Option<Duration>,
    },
    /// The service said no: nothing runs.
    #[error("the service refused the request: {}", .0.words)]
    Refused(ServiceFault),
    /// Nobody knows whether the service has it: it is never sent again by itself.
    #[error("it is not known whether the service took the request: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
}

/// Why a call that costs nothing brought no answer. Neither form ends a job by itself.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer, or one that says "later": worth trying again.
    #[error("{reason}")]
    Passing {
        /// What happened.
        reason: String,
        /// The wait that the service asked for.
        retry_after: Option<Duration>,
    },
    /// The service answered with a fault that will not pass by itself: token, account, address or request. What is
    /// the service's own trouble ([`Verdict::Service`]) is [`Self::Passing`] instead.
    #[error("{}", .0.words)]
    Fault(ServiceFault),
}

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL is not one we may talk to. Nothing was sent.
    #[error("refused to download from {host}: {reason}")]
    Forbidden {
        /// The host, or the whole of a URL that has none.
        host: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The file is larger than allowed.
    #[error("the file is larger than the {limit_mb} MB that `placement.max_artifact_mb` allows")]
    TooLarge {
        /// The limit.
        limit_mb: u64,
    },
    /// The storage says the file is gone (403, 404, 410): the result may list a fresh URL.
    #[error("the storage answered HTTP {status}")]
    Gone {
        /// The HTTP status.
        status: u16,
    },
    /// The storage says when to come back.
    #[error("{reason}")]
    Busy {
        /// What happened.
        reason: String,
        /// The wait that it asks for.
        retry_after: Duration,
    },
    /// Cut, stalled or refused: worth trying again.
    #[error("{reason}")]
    Passing {
        /// What happened.
        reason: String,
    },
}

/// A download under way. `start` is 0 when the storage does not do ranges: what was received before is void then.
pub struct Download {
    /// The offset of the first byte to come.
    pub start: u64,
    /// The whole file's size, where the storage tells.
    pub total: Option<u64>,
    /// The bytes, from `start`. An error ends it.
    pub chunks: futures_util::stream::BoxStream<'static, Result<Bytes, FetchError>>,
}

/// A place where GPU work happens.
pub trait Backend: std::fmt::Debug + Send + Sync {
    /// Returns the name that status and ledger show (`serverless`, `comfyui`, …).
    fn name(&self) -> &'static str;

    /// Tells whether the same [`Submission`] may be sent again after a lost answer, because that neither costs anything nor
    /// makes a second run that would stay unnoticed: where the client names the request ([`Submission::key`]) it can be looked
    /// up, and where runs are free one of them may be lost. RunComfy's queue has no such thing.
    fn is_repeatable(&self) -> bool {
        false
    }

    /// Opens a connection while there is time and asks something that costs nothing; tells the balance where there is one.
    fn warm_up(&self) -> BoxFuture<'_, Result<Option<crate::domain::money::MicroUsd>, CallError>>;

    /// Asks what kind of deployment it is; `None` where the backend has no such thing. Costs nothing.
    fn facts(&self) -> BoxFuture<'_, Result<Option<Facts>, CallError>> {
        Box::pin(async { Ok(None) })
    }

    /// Sends one request, exactly once.
    fn submit<'a>(
        &'a self,
        submission: &'a Submission,
    ) -> BoxFuture<'a, Result<RequestId, SubmitError>>;

    /// Asks where a request stands.
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

    /// Begins to download `file` from byte `from` on.
    fn open<'a>(
        &'a self,
        file: &'a RemoteFile,
        from: u64,
    ) -> BoxFuture<'a, Result<Download, FetchError>>;
}
