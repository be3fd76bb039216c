//! The flow of a job, from its release to its end: what to do next, as one pure function of what
//! the ledger stores and what is true today.
//!
//! Owns every rule about sending, failing over, following, cancelling, fetching and placing one
//! job, and what each end books. It performs nothing, reads no clock and no text. The driver
//! performs one [`Do`], records it in the transaction that makes it true, and asks again; a job
//! that is resumed after a crash is asked the same question about the same record.
//!
//! - `unsent`: until the request may leave, and what follows from the answer to a submit;
//! - `sent`: from the backend's id to the end of the run;
//! - `artifacts`: from the run's files to the public names and CONJURE;
//! - [`record`], [`world`], [`request_seen`]: what is decided from.
//!
//! A reason in here is a code; the sentence that a person reads is made where the step is
//! performed.
//!
//! Rules that hold in every state: at most one paid request may be unaccounted for; after one that
//! may have been taken none follows for the same work; nothing of a cancelled job is placed; what
//! was paid for is kept; a job ends, or says what it waits for.

pub mod record;
pub mod world;
pub mod request_seen;
mod unsent;
mod sent;
mod artifacts;

pub use self::{record::JobRecord, world::World};
use self::{
    record::Origin,
    world::{Access, CacheFault, FetchFault, PlaceFault, WaitFor},
};
use crate::{
    fingerprint::Fingerprint,
    job::{
        JobId, JobState,
        artifact::ArtifactKind,
        attempt::AttemptEnd,
        cancel::CancelReason,
        choose_backend::{AttemptOutcome, BackendKind, PastAttempt, Route, Skipped, route},
        control::JobControl,
    },
    money::job_cost::Booking,
    time::{Moment, Now},
};

/// The next step of a job. Performing it changes the record, the world, or both; then the flow is
/// asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// Show the artifacts of an earlier job of the same work.
    UseCached(JobId),
    /// Send the job to another backend: record that, and build the request for it.
    ChooseBackend(Switch),
    /// Ask a backend that failed before whether it is back, with a call that costs nothing.
    Probe(BackendKind),
    /// Build the request from the inputs in history.
    Prepare,
    /// Wait for a rented machine, or for the one that the job was sent to.
    AcquireServer,
    /// Record that the request may leave. `max_in_flight`, the rate limit, the project's lock and the
    /// budget are asked on the way; each of them may refuse.
    MarkSubmitting,
    /// Send the request, once.
    Submit,
    /// Record that the backend accepted the request.
    RecordAccepted,
    /// Record that the request certainly did not arrive.
    RecordNotSent,
    /// Record that the answer was lost on a backend that can be asked for the request.
    RecordAnswerLost,
    /// Ask for the state of the request.
    Poll,
    /// Ask how the run ended, or for fresh URLs of its files.
    AskResult,
    /// Ask the backend to stop the request.
    Cancel(CancelReason),
    /// Fetch an artifact into history.
    Fetch(ArtifactKind),
    /// Fetch the image that a failed run made before it failed; one try.
    KeepImage,
    /// Record that every artifact is in history.
    RecordFetched,
    /// Record that the artifacts are being placed.
    MarkPlacing,
    /// Make the artifacts visible.
    Place,
    /// Give the mesh to CONJURE.
    HandOff,
    /// Wait until a moment, or until something changes.
    Wait(Option<Moment>, WaitFor),
    /// Leave the job to the next session.
    Suspend,
    /// End the job.
    End(End),
    /// The job has ended.
    Ended(JobState),
}

/// A change of backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The new backend. It may be the same one, for a free backend that lost the request.
    pub backend: BackendKind,
    /// The backends that were passed over.
    pub skipped: Skipped,
    /// How the attempt before ended.
    pub end: AttemptEnd,
    /// What is booked for that attempt.
    pub booking: Booking,
}

/// The end of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The final state.
    pub state: JobState,
    /// Why; `None` for a job that succeeded.
    pub reason: Option<EndReason>,
    /// What happens to its money.
    pub booking: Booking,
}

impl End {
    /// Ends a job without a mesh.
    pub const fn failed(reason: EndReason, booking: Booking) -> Do {
        Do::End(Self { state: JobState::Failed, reason: Some(reason), booking })
    }

    /// Ends a job that a person cancelled, or that belongs to another process.
    pub const fn cancelled(reason: EndReason, booking: Booking) -> Do {
        Do::End(Self { state: JobState::Cancelled, reason: Some(reason), booking })
    }

    /// Ends a job that a newer snapshot replaced.
    pub const fn replaced(booking: Booking) -> Do {
        let reason = Some(EndReason::Replaced);
        Do::End(Self { state: JobState::Replaced, reason, booking })
    }
}

/// Why a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// A newer snapshot replaced it.
    Replaced,
    /// A person cancelled it before it was sent.
    CancelledUnsent,
    /// A person cancelled it, and the service stopped the request.
    Cancelled,
    /// The request was cancelled at the service, and nothing says that we asked for that.
    CancelledElsewhere,
    /// A person cancelled it, but the run had finished.
    CancelledTooLate,
    /// Its change belongs to another process.
    LeftToOther,
    /// The artifacts of the earlier job cannot be shown again.
    Cache(CacheFault),
    /// Its inputs in history cannot be used.
    Inputs,
    /// No backend may make it.
    Nowhere,
    /// The budget has no room for it.
    Budget,
    /// No backend could be reached.
    NotSent,
    /// The backend refused it.
    Refused,
    /// The token was refused.
    TokenRefused,
    /// Its answer was lost, and it may have been charged.
    AnswerLost,
    /// A backend that can be asked for the request never confirmed it.
    NeverConfirmed,
    /// There is no rented machine for it.
    NoServer,
    /// The rented machine that it ran on is gone.
    ServerGone,
    /// The ledger has no id for its request.
    NoRequest,
    /// A free backend no longer answers.
    NoAnswer,
    /// A free backend no longer knows the request.
    Forgotten,
    /// The service has not known the request for too long.
    RequestUnknown,
    /// No machine started the run in time; it was cancelled.
    QueueTimeout,
    /// The run took too long; it was cancelled.
    RunTimeout,
    /// The request timed out, and the service neither finished nor cancelled it.
    Unresolved(CancelReason),
    /// The run failed.
    RunFailed,
    /// The run listed no mesh.
    NoMesh,
    /// An artifact cannot be fetched.
    Artifact(ArtifactKind, FetchFault),
    /// Its artifacts are not in history any more.
    HistoryLost,
    /// Its artifacts can never be placed.
    Place(PlaceFault),
}

/// Decides the next step of a job.
pub fn next(now: Now, record: &JobRecord, world: &World) -> Do {
    match record.state {
        JobState::Prepared => unsent::prepared(now.moment, record, world),
        JobState::Submitting => unsent::submitting(record, world),
        JobState::Submitted | JobState::Running if record.outputs_known => {
            artifacts::fetch(now.moment, record, world)
        }
        JobState::Submitted | JobState::Running => sent::next(now, record, world),
        JobState::Fetched | JobState::Placing => artifacts::place(now.moment, record, world),
        JobState::Placed | JobState::HandingOver => artifacts::hand_over(record, world),
        state @ (JobState::Done
        | JobState::Failed
        | JobState::Cancelled
        | JobState::Replaced
        | JobState::Unknown) => Do::Ended(state),
    }
}

/// Returns what the attempts of a job say about the next one, and where each comes from.
/// [`super::choose_backend::Skip::Attempt`] counts in this list.
pub fn past_attempts(record: &JobRecord, world: &World) -> Vec<(PastAttempt, Origin)> {
    let mut past = record.past_attempts(world.seen.earlier_attempts);
    past.extend(world.seen.over_budget.iter().map(|&backend| {
        let workflow = workflow_at(record, world, backend);
        let outcome = AttemptOutcome::Refused;
        (PastAttempt { backend, workflow, outcome }, Origin::OverBudget)
    }));
    past
}

fn workflow_at(record: &JobRecord, world: &World, backend: BackendKind) -> Fingerprint {
    let known = world.candidates.iter().find(|candidate| candidate.backend == backend);
    known.map_or(record.workflow, |candidate| candidate.workflow)
}

/// What was decided about a job from outside, recorded or not.
fn control(record: &JobRecord, world: &World) -> JobControl {
    world.control.max(record.control)
}

/// Returns a wait if nothing is to be tried yet.
fn retry_wait(now: Moment, world: &World) -> Option<Do> {
    let (at, what) = world.seen.retry?;
    (now < at).then_some(Do::Wait(Some(at), what))
}

/// Chooses the backend after an attempt that ends now, with `end`. Returns `None` if no backend may
/// make the job.
fn fail_over(
    record: &JobRecord,
    world: &World,
    end: AttemptEnd,
    outcome: AttemptOutcome,
    booking: Booking,
) -> Option<Do> {
    let mut past: Vec<PastAttempt> =
        past_attempts(record, world).into_iter().map(|(attempt, _)| attempt).collect();
    let newest = record.newest();
    let workflow = newest.map_or(record.workflow, |attempt| attempt.workflow);
    past.push(PastAttempt { backend: record.backend, workflow, outcome });
    let switch =
        |backend, skipped| Some(Do::ChooseBackend(Switch { backend, skipped, end, booking }));
    match route(&world.candidates, &past, world.after_unknown) {
        Route::Use { backend, skipped } => switch(backend, skipped),
        // The job waits for that backend as a prepared one, and can be controlled there.
        Route::Probe { backend } | Route::Wait { backend, .. } => switch(backend, Vec::new()),
        Route::Unroutable { .. } => None,
    }
}

/// Returns what has to be done before the backend of a sent job can be called.
fn reach(now: Moment, world: &World) -> Option<Do> {
    match world.access {
        Access::Usable => None,
        Access::Unconfigured => Some(Do::Wait(None, WaitFor::Config)),
        Access::NeedsServer => retry_wait(now, world).or(Some(Do::AcquireServer)),
        // Its cost is booked on the machine.
        Access::ServerGone => Some(End::failed(EndReason::ServerGone, Booking::Nothing)),
    }
}
