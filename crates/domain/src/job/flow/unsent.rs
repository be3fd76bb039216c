//! The flow of a job that has no accepted request: until its request may leave, and what follows
//! from the answer to the submit.
//!
//! Owns the promise that a request whose outcome is unknown is never sent a second time: only a
//! request that certainly did not arrive is sent again, or one on a backend that can be asked for
//! it. Nothing has been charged here before [`Do::Submit`], so every control is applied at once.

use super::{
    Do, End, EndReason, JobRecord, Switch, World, control, fail_over, past_attempts, retry_wait,
    world::{Access, PayloadSeen, SubmitSeen, WaitFor},
};
use crate::{
    job::{
        Cause,
        attempt::AttemptEnd,
        choose_backend::{
            AttemptOutcome, Availability, BackendKind, PastAttempt, Route, RouteCandidate, route,
        },
        control::JobControl,
        remote::FaultKind,
    },
    money::job_cost::Booking,
    time::Moment,
};

/// How many tries a job gets that a person asked for.
pub(super) const MAX_PERSON_TRIES: u32 = 4;

/// Decides about a job whose request has not left.
pub(super) fn prepared(now: Moment, record: &JobRecord, world: &World) -> Do {
    match control(record, world) {
        JobControl::Continue => {}
        JobControl::Supersede => return End::replaced(Booking::Nothing),
        JobControl::Cancel => {
            return End::cancelled(EndReason::CancelledUnsent, Booking::Nothing);
        }
    }
    let seen = &world.seen;
    if world.stopping {
        return Do::Suspend;
    }
    // Nothing is reserved for it, so it is never sent.
    if let Some(earlier) = record.cached_from {
        return match seen.cache {
            None => retry_wait(now, world).unwrap_or(Do::UseCached(earlier)),
            Some(fault) => End::failed(EndReason::Cache(fault), Booking::Nothing),
        };
    }
    if seen.left_to_other {
        return End::cancelled(EndReason::LeftToOther, Booking::Nothing);
    }
    if seen.charged_before {
        return End::failed(EndReason::Nowhere, Booking::Nothing);
    }
    if seen.payload == PayloadSeen::Unusable {
        return End::failed(EndReason::Inputs, Booking::Nothing);
    }
    if let Some(other) = backend(now, record, world) {
        return other;
    }
    if let Some(wait) = retry_wait(now, world) {
        return wait;
    }
    if seen.payload == PayloadSeen::Missing {
        return Do::Prepare;
    }
    match world.access {
        Access::NeedsServer | Access::ServerGone if seen.server_refused => {
            End::failed(EndReason::NoServer, Booking::Nothing)
        }
        Access::NeedsServer | Access::ServerGone => Do::AcquireServer,
        Access::Unconfigured => Do::Wait(None, WaitFor::Config),
        Access::Usable => Do::MarkSubmitting,
    }
}

/// Decides whether the job stays with its backend. `None`: it does, and it may be sent there as far
/// as the backend is concerned.
fn backend(now: Moment, record: &JobRecord, world: &World) -> Option<Do> {
    let past: Vec<PastAttempt> =
        past_attempts(record, world).into_iter().map(|(attempt, _)| attempt).collect();
    let here = |attempt: &&PastAttempt| attempt.backend == record.backend;
    let own = world.candidates.iter().find(|candidate| candidate.backend == record.backend);
    let availability = own.map_or(Availability::Unusable, |candidate| candidate.availability);
    let unreached =
        past.iter().filter(here).any(|attempt| attempt.outcome == AttemptOutcome::NotSent);
    let is_open = own.is_some_and(|own| may_use(own, &past, world.after_unknown));
    if is_open && !unreached && availability == Availability::Ready {
        return None;
    }
    let is_person = record.cause == Cause::Person;
    let over_budget = world.seen.over_budget.contains(&record.backend);
    let end = if over_budget { AttemptEnd::OverBudget } else { AttemptEnd::NotSent };
    let switch = |backend, skipped| {
        let booking = Booking::Nothing;
        Some(Do::ChooseBackend(Switch { backend, skipped, end, booking }))
    };
    let chosen = route(&world.candidates, &past, world.after_unknown);
    // Where another job is asking at this moment, its answer is waited for.
    let probe = |backend| match world.seen.retry {
        Some((at, what @ WaitFor::Backend)) if now < at => Some(Do::Wait(Some(at), what)),
        _ => Some(Do::Probe(backend)),
    };
    // Another backend that was not tried is better than another try here.
    let is_fresh = |backend| !past.iter().any(|attempt| attempt.backend == backend);
    let at_once = |backend| !unreached || is_fresh(backend);
    match &chosen {
        Route::Use { backend, skipped } if *backend != record.backend && at_once(*backend) => {
            return switch(*backend, skipped.clone());
        }
        Route::Probe { backend } if at_once(*backend) => return probe(*backend),
        _ => {}
    }
    if unreached {
        // A person is waiting for the result, and gets an error instead of more waiting. The
        // daemon's own jobs keep trying.
        if is_person && record.unreached(world.seen.earlier_attempts) >= MAX_PERSON_TRIES {
            return Some(End::failed(EndReason::NotSent, Booking::Nothing));
        }
        if let Some(wait) = retry_wait(now, world) {
            return Some(wait);
        }
    }
    match chosen {
        Route::Use { backend, skipped } if backend != record.backend => switch(backend, skipped),
        Route::Use { .. } => None,
        Route::Probe { backend } => probe(backend),
        // What has no room in the budget goes where there is room, later if need be.
        Route::Wait { backend, .. } if over_budget && backend != record.backend => {
            switch(backend, Vec::new())
        }
        // Where only our own backend is configured, its pause is waited for too.
        Route::Wait { backend, .. }
            if availability == Availability::Unusable && backend != record.backend =>
        {
            switch(backend, Vec::new())
        }
        Route::Wait { backend, .. } if is_person && world.seen.unproven.contains(&backend) => {
            let refused = world.seen.token_refused;
            let reason = if refused { EndReason::TokenRefused } else { EndReason::NotSent };
            Some(End::failed(reason, Booking::Nothing))
        }
        Route::Wait { until, .. } => Some(Do::Wait(Some(until), WaitFor::Backend)),
        Route::Unroutable { .. } if over_budget && is_person => {
            Some(End::failed(EndReason::Budget, Booking::Nothing))
        }
        // There may be room later, or another backend.
        Route::Unroutable { .. } if over_budget => {
            retry_wait(now, world).or_else(|| match availability {
                Availability::Ready => None,
                Availability::Unproven => probe(record.backend),
                Availability::Paused { until } => Some(Do::Wait(Some(until), WaitFor::Backend)),
                Availability::Unusable => Some(Do::Wait(None, WaitFor::Config)),
            })
        }
        Route::Unroutable { .. } if is_lost(record, &past) => {
            Some(End::failed(EndReason::NeverConfirmed, Booking::Nothing))
        }
        Route::Unroutable { .. } if own.is_some() && !is_open => {
            Some(End::failed(EndReason::Nowhere, Booking::Nothing))
        }
        Route::Unroutable { .. } => Some(Do::Wait(None, WaitFor::Config)),
    }
}

/// Returns whether the attempts so far allow a backend.
fn may_use(candidate: &RouteCandidate, past: &[PastAttempt], after_unknown: bool) -> bool {
    let ready = RouteCandidate { availability: Availability::Ready, ..*candidate };
    matches!(route(&[ready], past, after_unknown), Route::Use { .. })
}

/// Returns whether the job's backend never confirmed a request, however often it was asked.
fn is_lost(record: &JobRecord, past: &[PastAttempt]) -> bool {
    past.iter().any(|attempt| {
        attempt.backend == record.backend && attempt.outcome == AttemptOutcome::Unknown
    })
}

/// Decides about a job whose request may be on its way.
pub(super) fn submitting(record: &JobRecord, world: &World) -> Do {
    match &world.seen.submit {
        Some(SubmitSeen::Accepted(_)) => Do::RecordAccepted,
        Some(SubmitSeen::NotSent) => Do::RecordNotSent,
        Some(SubmitSeen::Refused(kind)) => {
            let (end, outcome) = match kind {
                FaultKind::Workflow => (AttemptEnd::WorkflowFailed, AttemptOutcome::Workflow),
                FaultKind::Account | FaultKind::Token | FaultKind::Service | FaultKind::Gone => {
                    (AttemptEnd::Refused, AttemptOutcome::Refused)
                }
            };
            if world.seen.payload == PayloadSeen::Unusable {
                return End::failed(EndReason::Inputs, Booking::Nothing);
            }
            let refused = || End::failed(EndReason::Refused, Booking::Nothing);
            if world.seen.charged_before {
                return refused();
            }
            fail_over(record, world, end, outcome, Booking::Nothing).unwrap_or_else(refused)
        }
        // The next start finds the job as it is, and treats its answer as lost.
        Some(SubmitSeen::CutOff) => Do::Suspend,
        Some(SubmitSeen::Lost) => lost(record.backend),
        // The ledger has an id, so the answer is not lost, whatever the state says.
        None if !world.seen.marked && record.request().is_some() => Do::RecordAccepted,
        None if !world.seen.marked => lost(record.backend),
        // Nothing has left, so nothing has to be cancelled or followed.
        None if world.stopping || control(record, world) > JobControl::Continue => {
            Do::RecordNotSent
        }
        None => Do::Submit,
    }
}

/// Decides about an answer that is lost: only a backend that can be asked for the request, or that
/// costs nothing, gets it again.
const fn lost(backend: BackendKind) -> Do {
    if backend.is_repeatable() {
        return Do::RecordAnswerLost;
    }
    let (reason, booking) = (Some(EndReason::AnswerLost), Booking::Reserved);
    Do::End(End { state: crate::job::JobState::Unknown, reason, booking })
}
