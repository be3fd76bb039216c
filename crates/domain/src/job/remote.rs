//! What a backend says about a request, whichever backend it is.
//!
//! Owns the words. The calls, and how each service's own answers become these words, belong to the
//! adapters; what follows from them is decided by [`super::flow`].

use crate::time::WallTime;

/// The state of a request, as the backend reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The request waits in the queue.
    Queued {
        /// How many requests are ahead of this one. Starts at 0; many answers do not contain it.
        position: Option<u64>,
    },
    /// A machine is running the request.
    Running,
    /// The request has ended. Only the result says how.
    Ended,
}

/// The backend's own timestamps of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTimes {
    /// When the backend accepted the request.
    pub created_at: Option<WallTime>,
    /// When the run ended.
    pub finished_at: Option<WallTime>,
}

/// The outcome of a cancel call. The request may still run for a while, so it is followed to its
/// end in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReply {
    /// The backend will stop the run.
    Requested,
    /// The run is already over, or cannot be stopped.
    TooLate,
}

/// What a fault means for the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The workflow or its input is wrong: never retried with the same input.
    Workflow,
    /// The account, the deployment or the token is wrong. A person must act; other jobs will
    /// fail too.
    Account,
    /// The token was rejected. A running job is suspended until there is a valid token.
    Token,
    /// The service itself has a problem, which may be temporary.
    Service,
    /// The service does not know the request or the deployment, or no longer knows it.
    Gone,
}
