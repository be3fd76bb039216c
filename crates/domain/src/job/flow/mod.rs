//! The flow of a job, from its release to its end: what to do next, as one pure function of what
//! the ledger stores and what is true today.
//!
//! Owns every rule about sending, failing over, following, cancelling, fetching and placing one
//! job, and what each end books. It performs nothing, reads no clock and no text. The driver
//! performs one [`Do`], records it in the transaction that makes it true, and asks again; a job
//! that is resumed after a crash is asked the same question about the same record.
//!
//! - [`unsent`]: until the request may leave, and what follows from the answer to a submit;
//! - [`sent`]: from the backend's id to the end of the run;
//! - [`artifacts`]: from the run's files to the public names and CONJURE;
//! - [`record`], [`world`], [`request_seen`]: what is decided from; [`step`]: what is decided.
//!
//! Rules that hold in every state: at most one paid request may be unaccounted for; after one that
//! may have been taken none follows for the same work; nothing of a cancelled job is placed; what
//! was paid for is kept; a job ends, or says what it waits for.

pub mod record;
pub mod world;
pub mod request_seen;
pub mod step;
mod unsent;
mod sent;
mod artifacts;

pub use self::{
    record::JobRecord,
    step::{Do, End, EndReason, Switch},
    world::World,
};
use self::{
    record::Origin,
    world::{Access, WaitFor},
};
use crate::{
    fingerprint::Fingerprint,
    job::{
        JobState,
        attempt::AttemptEnd,
        choose_backend::{AttemptOutcome, BackendKind, PastAttempt, Route, route},
        control::JobControl,
    },
    money::job_cost::Booking,
    time::{Moment, Now},
};

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

#[cfg(test)]
mod tests;
