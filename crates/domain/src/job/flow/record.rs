//! A job as the ledger stores it, reduced to what its flow depends on.
//!
//! Owns the types, and what the attempts so far say about the next one. Nothing in here is parsed
//! from a text; the ledger reads it from typed columns (`Reader::job_record`), so a job that is
//! resumed after a crash and a job that never stopped look the same.

use crate::{
    fingerprint::Fingerprint,
    job::{
        Cause, JobId, JobState, RequestId,
        attempt::AttemptEnd,
        cancel::CancelSent,
        choose_backend::{AttemptOutcome, BackendKind, PastAttempt},
        control::JobControl,
    },
    money::{
        MicroUsd,
        job_cost::{self, Booking, ObservedTimes, PriceTerms},
    },
    time::WallTime,
};

/// How often a backend is asked for a request whose answer was lost before the job goes elsewhere.
pub const MAX_LOST_ANSWERS: usize = 5;

/// A job in the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// Its state.
    pub state: JobState,
    /// What started it.
    pub cause: Cause,
    /// What was decided about it from outside, as far as that is recorded.
    pub control: JobControl,
    /// The backend of its newest attempt, or of the one that comes next.
    pub backend: BackendKind,
    /// The version of the workflow that runs there.
    pub workflow: Fingerprint,
    /// Whether its artifacts go into a folder of its own, not under the project's public names.
    pub own_folder: bool,
    /// The job whose lost answer it stands in for.
    pub stands_in_for: Option<JobId>,
    /// The earlier job whose artifacts it shows again. It is never sent.
    pub cached_from: Option<JobId>,
    /// The money reserved for it.
    pub reserved: MicroUsd,
    /// The terms of its newest submit.
    pub terms: PriceTerms,
    /// What the ledger knows about the newest attempt's run.
    pub observed: ObservedTimes,
    /// Its attempts, oldest first.
    pub attempts: Vec<AttemptRecord>,
    /// Whether the ledger lists the files of its run.
    pub outputs_known: bool,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// The backend.
    pub backend: BackendKind,
    /// The version of the workflow that it sent.
    pub workflow: Fingerprint,
    /// The backend's id, once it accepted the request.
    pub request: Option<RequestId>,
    /// When it was accepted.
    pub submitted_at: Option<WallTime>,
    /// When it was first seen running.
    pub running_at: Option<WallTime>,
    /// The newest cancel that was sent for it.
    pub cancel: Option<CancelSent>,
    /// How it ended.
    pub end: Option<AttemptEnd>,
}

/// Where a [`PastAttempt`] comes from, for the words about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The attempt at this place in [`JobRecord::attempts`].
    Attempt(usize),
    /// The job whose lost answer this one stands in for.
    StandsInFor(JobId),
    /// The budget had no room for this backend.
    OverBudget,
}

impl JobRecord {
    /// Returns the newest attempt.
    pub fn newest(&self) -> Option<&AttemptRecord> {
        self.attempts.last()
    }

    /// Returns the id of the newest attempt's request.
    pub fn request(&self) -> Option<&RequestId> {
        self.newest()?.request.as_ref()
    }

    /// Returns the newest cancel that was sent for the newest attempt.
    pub fn cancel(&self) -> Option<CancelSent> {
        self.newest()?.cancel
    }

    /// Returns what the attempts so far say about the next one. Those before `earlier` were made by
    /// other sessions: a backend that was not reached or that refused then is asked again, because
    /// that may be why a person restarted the daemon.
    pub fn past_attempts(&self, earlier: usize) -> Vec<(PastAttempt, Origin)> {
        let mut past: Vec<(PastAttempt, Origin)> = Vec::new();
        let mut lost = Vec::new();
        for (index, attempt) in self.attempts.iter().enumerate() {
            let Some(end) = attempt.end else { continue };
            let (backend, workflow) = (attempt.backend, attempt.workflow);
            // Asked again, the backend confirmed the request: what is known about it is in that
            // attempt.
            let is_confirmed = self.attempts[index..]
                .iter()
                .any(|later| later.backend == backend && later.request.is_some());
            let outcome = if end == AttemptEnd::AnswerLost && is_confirmed {
                None
            } else if end == AttemptEnd::AnswerLost {
                if index >= earlier {
                    lost.push(backend);
                }
                let times = lost.iter().filter(|other| **other == backend).count();
                if times == MAX_LOST_ANSWERS {
                    Some(AttemptOutcome::Unknown)
                } else {
                    // It may run there, and a paid one is not made twice.
                    backend.is_paid().then_some(AttemptOutcome::Askable)
                }
            } else if index < earlier {
                end.restricts()
            } else {
                end.restricts_now()
            };
            if let Some(outcome) = outcome {
                past.push((PastAttempt { backend, workflow, outcome }, Origin::Attempt(index)));
            }
        }
        if let Some(lost) = self.stands_in_for {
            // Only RunComfy's queue loses an answer that may have been charged: every other backend
            // can be asked for the request again.
            let (backend, workflow) = (BackendKind::Serverless, self.workflow);
            let attempt = PastAttempt { backend, workflow, outcome: AttemptOutcome::Unknown };
            past.push((attempt, Origin::StandsInFor(lost)));
        }
        past
    }

    /// Returns how many tries in a row did not reach a backend, or lost its answer. Those before
    /// `earlier` were made by other sessions.
    pub fn unreached(&self, earlier: usize) -> u32 {
        let own = self.attempts.iter().skip(earlier).rev();
        let unreached = own.take_while(|attempt| {
            matches!(attempt.end, Some(AttemptEnd::NotSent | AttemptEnd::AnswerLost))
        });
        u32::try_from(unreached.count()).unwrap_or(u32::MAX)
    }

    /// Returns what is booked for a run that has ended, from what the ledger knows.
    pub fn booking_of_run(&self) -> Booking {
        job_cost::booking(&self.terms, &self.observed, self.reserved)
    }
}
