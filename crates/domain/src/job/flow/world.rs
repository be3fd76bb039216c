//! What is true about a job today and is not in the ledger.
//!
//! Owns the types that the flow decides from beside the record. The driver fills them in before
//! each decision; nothing in here outlives the process, and nothing in here is a text.

use std::time::Duration;

use super::request_seen::RequestSeen;
use crate::{
    job::{
        RequestId,
        artifact::ArtifactKind,
        choose_backend::{BackendKind, RouteCandidate},
        control::JobControl,
        remote::FaultKind,
    },
    time::Moment,
};

/// What is true today.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// Whether the daemon stops: nothing new begins, and remote work continues without us.
    pub stopping: bool,
    /// What was decided about the job from outside, recorded or not.
    pub control: JobControl,
    /// The configured backends, in their order.
    pub candidates: Vec<RouteCandidate>,
    /// Whether a free backend may follow a request that may have been charged
    /// (`local.after_unknown`).
    pub after_unknown: bool,
    /// Whether the backend that the job was sent to can be called.
    pub access: Access,
    /// How long a request may wait and run on the job's backend.
    pub limits: Limits,
    /// Where the job's artifacts are.
    pub artifacts: Artifacts,
    /// Whether CONJURE is told of the mesh.
    pub hands_over: bool,
    /// What this session has seen of the job.
    pub seen: Seen,
}

/// Whether the backend that a job was sent to can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It can be called.
    Usable,
    /// Its settings or its token are missing until a person acts.
    Unconfigured,
    /// It is a rented machine that this job has no lease of.
    NeedsServer,
    /// The rented machine that the job was sent to is gone.
    ServerGone,
}

/// Time limits of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest wait for a machine.
    pub queue: Duration,
    /// The longest run.
    pub run: Duration,
}

/// Where a job's artifacts are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Artifacts {
    /// The image.
    pub image: Whereabouts,
    /// The mesh.
    pub mesh: Whereabouts,
}

impl Artifacts {
    /// Returns where an artifact is.
    pub const fn at(self, kind: ArtifactKind) -> Whereabouts {
        match kind {
            ArtifactKind::Image => self.image,
            ArtifactKind::Mesh => self.mesh,
        }
    }
}

/// Where one artifact is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whereabouts {
    /// The run lists no such file.
    #[default]
    Nowhere,
    /// The run lists it, and it is not in history yet.
    Listed,
    /// It is in history, checked.
    InHistory,
    /// The disk does not say whether it is in history.
    Unreadable,
}

/// What this session has seen of a job. It begins empty after each start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// How many attempts of the job were made by earlier sessions.
    pub earlier_attempts: usize,
    /// Nothing is tried before this moment, and what that is waiting for.
    pub retry: Option<(Moment, WaitFor)>,
    /// The backends that the budget had no room for.
    pub over_budget: Vec<BackendKind>,
    /// Whether the project's change belongs to another process by now.
    pub left_to_other: bool,
    /// Whether the ledger refused the backend, because an earlier request may have been charged.
    pub charged_before: bool,
    /// The request as bytes.
    pub payload: PayloadSeen,
    /// The backends that were asked whether they are back, and are not.
    pub unproven: Vec<BackendKind>,
    /// Whether the token of the backend that was asked last was refused.
    pub token_refused: bool,
    /// Whether a machine was asked for and refused for good.
    pub server_refused: bool,
    /// Whether this session marked the job as submitting and has sent nothing yet.
    pub marked: bool,
    /// The outcome of this session's submit, until it is recorded.
    pub submit: Option<SubmitSeen>,
    /// What this session has seen of the newest accepted request.
    pub request: Option<RequestSeen>,
    /// Why the earlier job's artifacts cannot be shown again.
    pub cache: Option<CacheFault>,
    /// The tries to fetch the image and the mesh.
    pub fetch: [FetchSeen; 2],
    /// Whether the image of a failed run was fetched, or cannot be.
    pub image_tried: bool,
    /// Why the artifacts can never be placed.
    pub place: Option<PlaceFault>,
    /// Whether the handoff to CONJURE is over.
    pub handed_over: bool,
}

impl Seen {
    /// Returns the tries to fetch an artifact.
    pub const fn fetch(&self, kind: ArtifactKind) -> &FetchSeen {
        &self.fetch[kind as usize]
    }

    /// Returns the tries to fetch an artifact.
    pub const fn fetch_mut(&mut self, kind: ArtifactKind) -> &mut FetchSeen {
        &mut self.fetch[kind as usize]
    }
}

/// What something waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitFor {
    /// The next status call.
    Poll,
    /// Another try of a request that did not arrive.
    Resend,
    /// The slot of a submit under the rate limit.
    Turn,
    /// Room in the budget.
    Budget,
    /// The project's lock.
    Lock,
    /// A rented machine.
    Server,
    /// The end of a backend's pause.
    Backend,
    /// A usable configuration.
    Config,
    /// A token that the service accepts.
    Token,
    /// A service that does not answer.
    Service,
    /// The storage of a run's files.
    Storage,
    /// Our own disk.
    Disk,
    /// A folder that artifacts are placed in.
    Folder,
    /// The ledger.
    Ledger,
}

/// The request as bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PayloadSeen {
    /// It is built from the inputs in history when it is needed.
    #[default]
    Missing,
    /// It is in memory, for the job's backend.
    Ready,
    /// The inputs in history cannot be used.
    Unusable,
}

/// The outcome of a submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitSeen {
    /// The backend accepted it and returned this id.
    Accepted(RequestId),
    /// It certainly did not arrive.
    NotSent,
    /// The backend refused it; nothing runs.
    Refused(FaultKind),
    /// It is not known whether it arrived.
    Lost,
    /// The daemon stops and could not wait for the answer.
    CutOff,
}

/// Why an earlier job's artifacts cannot be shown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheFault {
    /// They are not in history any more, or were changed.
    Gone,
    /// They could not be copied.
    NotCopied,
}

/// The tries to fetch one artifact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchSeen {
    /// Failed tries of any kind.
    pub failures: u32,
    /// Files that failed their checks.
    pub invalid: u32,
    /// Results whose file was gone from the storage.
    pub gone: u32,
    /// Tries in a row that brought nothing new.
    pub stalled: u32,
    /// When something new was last received.
    pub progress_at: Option<Moment>,
    /// The most bytes that were ever received of it.
    pub farthest: u64,
    /// Whether the result has to be asked for again, for a fresh URL.
    pub stale_url: bool,
    /// Why it is not tried again.
    pub given_up: Option<FetchFault>,
}

/// Why an artifact is not fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchFault {
    /// Its download failed for too long, or the storage no longer has it.
    Download,
    /// It fails its checks, however often it is fetched.
    Invalid,
    /// Its address or its size is not allowed.
    Refused,
}

/// Why artifacts can never be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlaceFault {
    /// They are not in history any more.
    SourceLost,
    /// The job's own folder cannot take them.
    OwnFolder,
    /// The public names do not work together.
    Targets,
}
