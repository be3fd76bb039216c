//! What this session has seen of an accepted request: the answers to its status calls, folded into
//! one value.
//!
//! Owns the times that a bill is computed from, and what the newest answer says. A request that
//! another session sent continues by the wall clock once; from then on only moments count, so a
//! clock that is set changes nothing.

use std::time::Duration;

use super::record::{AttemptRecord, JobRecord};
use crate::{
    job::{
        cancel::{CancelOutcome, CancelReason, CancelSent},
        control::JobControl,
        remote::{FaultKind, Phase, RunTimes},
    },
    money::{
        MicroUsd,
        job_cost::{self, Booking, DurationRange, EXACT_TOLERANCE, ObservedTimes},
    },
    time::{Moment, Now},
};

/// After this many failed calls in a row, about twenty seconds, a free backend counts as gone, for
/// example a server that was closed. If it comes back, its work is found again by our id; if not,
/// nothing was charged.
pub const MAX_SILENT_CALLS: u32 = 6;

/// How long the daemon keeps asking for a request that the service does not know: a status may lag
/// behind the submit, and a failing gateway answers 404 as well.
pub const UNKNOWN_REQUEST_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// How long a cancelled request is followed to see it end.
pub const CANCEL_PATIENCE: Duration = Duration::from_secs(120);

/// What this session has seen of an accepted request.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestSeen {
    /// When it was accepted.
    pub submitted: Moment,
    /// Whether this session sent it: only then has our clock counted all of it.
    pub sent_here: bool,
    /// When it was last seen in the queue.
    pub waiting: Option<Moment>,
    /// When it was last seen unfinished.
    pub unfinished: Option<Moment>,
    /// The bounds of its time in the queue, as far as they are known.
    pub waited: Option<DurationRange>,
    /// When it was first seen running.
    pub running: Option<Moment>,
    /// When the newest cancel was sent.
    pub cancel_at: Option<Moment>,
    /// A cancel is not sent again before this moment.
    pub cancel_after: Option<Moment>,
    /// Failed calls in a row.
    pub failures: u32,
    /// Since when the service does not know the request.
    pub gone_since: Option<Moment>,
    /// Since when the service does not know its result.
    pub result_gone_since: Option<Moment>,
    /// When the next call is made.
    pub next_call: Moment,
    /// What that call waits for is a token, not its turn.
    pub token_refused: bool,
    /// What the newest call brought.
    pub newest: Newest,
}

/// What the newest call about a request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newest {
    /// Nothing yet.
    Nothing,
    /// It has not ended.
    Unfinished,
    /// It has ended; the result says how.
    Ended,
    /// The result was asked for, and the service says that the request has not ended.
    Pending,
    /// No answer, or one that says "later".
    Silent,
    /// An answer that says nothing about the request.
    Fault(FaultKind),
    /// The run failed; what the service says about its times, and when it said so.
    Failed(FaultKind, RunTimes, Now),
    /// The run was cancelled at the service; likewise.
    Cancelled(RunTimes, Now),
}

impl RequestSeen {
    /// Begins with a request that was accepted now.
    pub const fn accepted(now: Moment) -> Self {
        Self {
            submitted: now,
            sent_here: true,
            waiting: Some(now),
            unfinished: Some(now),
            waited: None,
            running: None,
            cancel_at: None,
            cancel_after: None,
            failures: 0,
            gone_since: None,
            result_gone_since: None,
            next_call: now,
            token_refused: false,
            newest: Newest::Nothing,
        }
    }

    /// Begins with a request that another session sent.
    pub fn resumed(now: Now, attempt: &AttemptRecord, observed: &ObservedTimes) -> Self {
        // A time-out that began in another session continues by the wall clock.
        let then = |at: crate::time::WallTime| now.moment.minus(now.wall.since(at));
        Self {
            submitted: attempt.submitted_at.map_or(now.moment, then),
            sent_here: false,
            waiting: None,
            unfinished: None,
            waited: observed.waited,
            running: attempt.running_at.map(then),
            cancel_at: attempt.cancel.map(|cancel| then(cancel.at)),
            ..Self::accepted(now.moment)
        }
    }

    /// Returns how long the request was queued, if it is first seen running at `now`.
    pub fn waited_until(&self, now: Moment) -> Option<DurationRange> {
        let waiting = self.waiting?;
        Some(DurationRange { min: waiting.since(self.submitted), max: now.since(self.submitted) })
    }

    /// Folds a status call that was answered. `stopped`: a cancel is on its way that did not come
    /// too late.
    pub fn polled(&mut self, now: Moment, phase: &Phase, stopped: bool) {
        self.answered();
        self.gone_since = None;
        self.newest = match phase {
            Phase::Ended => Newest::Ended,
            Phase::Queued { .. } | Phase::Running => Newest::Unfinished,
        };
        if *phase != Phase::Ended {
            self.unfinished = Some(now);
        }
        match phase {
            Phase::Queued { .. } => self.waiting = Some(now),
            // A request that ends after a cancel need not have reached a machine.
            Phase::Ended if stopped => {}
            Phase::Running | Phase::Ended => {
                if self.running.is_none() {
                    self.waited = self.waited_until(now);
                    self.running = Some(now);
                }
            }
        }
    }

    /// Folds a call that was not answered. `of_result`: the call asked for the result.
    pub fn silent(&mut self, of_result: bool) {
        self.failures = self.failures.saturating_add(1);
        self.token_refused = false;
        if of_result {
            self.result_gone_since = None;
        }
        self.newest = Newest::Silent;
    }

    /// Folds an answer that says nothing about the request. `of_result`: as for [`Self::silent`].
    pub fn fault(&mut self, now: Moment, kind: FaultKind, of_result: bool) {
        self.token_refused = kind == FaultKind::Token;
        self.newest = Newest::Fault(kind);
        if kind != FaultKind::Token {
            self.failures = self.failures.saturating_add(1);
        }
        if kind == FaultKind::Gone {
            let since = if of_result { &mut self.result_gone_since } else { &mut self.gone_since };
            since.get_or_insert(now);
        } else if of_result {
            self.result_gone_since = None;
        }
    }

    /// Folds an answer about the result.
    pub fn result(&mut self, answer: Newest) {
        self.answered();
        self.result_gone_since = None;
        self.newest = answer;
    }

    /// Folds the end of a round of cancel calls. `after`: when another round may begin, if this
    /// one counts as not sent.
    pub fn cancelled(&mut self, now: Moment, after: Option<Moment>) {
        self.token_refused = false;
        // Whatever was answered before the cancel says nothing about what it achieved.
        self.newest = Newest::Nothing;
        match after {
            Some(after) => self.cancel_after = Some(after),
            None => {
                self.cancel_at = Some(now);
                self.cancel_after = None;
            }
        }
    }

    fn answered(&mut self) {
        self.failures = 0;
        self.token_refused = false;
    }

    /// Returns how long ago the newest cancel was sent.
    pub fn since_cancel(&self, now: Moment) -> Option<Duration> {
        self.cancel_at.map(|at| now.since(at))
    }

    /// Returns whether a cancel came too late, so that the run continues as if nobody had asked:
    /// its result is paid for.
    pub fn is_too_late(&self, now: Moment, cancel: Option<CancelSent>, is_paid: bool) -> bool {
        match cancel.map(|cancel| cancel.reply) {
            Some(CancelOutcome::TooLate) => true,
            Some(CancelOutcome::Refused) => {
                is_paid && self.since_cancel(now).is_some_and(|since| since >= CANCEL_PATIENCE)
            }
            Some(CancelOutcome::Requested | CancelOutcome::NoAnswer) | None => false,
        }
    }

    /// Returns everything known about a run that is seen finished at `now`.
    pub fn observed_times(&self, times: RunTimes, now: Now) -> ObservedTimes {
        // Where its start was not seen, it came after the request was last seen in the queue.
        let waited = self.waited.or_else(|| self.waited_until(now.moment));
        let lasted = DurationRange {
            min: self.unfinished.map_or(Duration::ZERO, |at| at.since(self.submitted)),
            max: now.moment.since(self.submitted),
        };
        let reported = times
            .created_at
            .zip(times.finished_at)
            .filter(|(created, finished)| created <= finished)
            .map(|(created, finished)| finished.since(created));
        // Across sessions our own span follows the wall clock, which may have been set; it cannot
        // contradict the service.
        let reported = reported.and_then(|span| {
            if self.sent_here { job_cost::plausible(span, lasted) } else { Some(span) }
        });
        ObservedTimes { waited, lasted: Some(lasted), reported }
    }

    /// Returns what is booked for a job that ends here, with or without a run.
    pub fn booking(&self, record: &JobRecord, times: RunTimes, now: Now) -> Booking {
        if record.terms.hourly == MicroUsd::ZERO {
            return Booking::Nothing;
        }
        if self.running.is_some() || self.may_have_run(now.moment) {
            let observed = self.observed_times(times, now);
            return job_cost::job_cost(&record.terms, &observed)
                .map_or(Booking::Reserved, Booking::from);
        }
        let waited = now.moment.since(self.submitted);
        let followed = record.cancel().map(|cancel| cancel.why) == Some(CancelReason::Superseded);
        match job_cost::cost_without_run(&record.terms, waited, followed, record.reserved) {
            MicroUsd::ZERO => Booking::Nothing,
            most => Booking::AtMost(most),
        }
    }

    /// Returns whether the request, never seen running, may have run while nobody looked: since it
    /// was last seen in the queue, or since it was sent, if another session sent it.
    fn may_have_run(&self, now: Moment) -> bool {
        now.since(self.waiting.unwrap_or(self.submitted)) > EXACT_TOLERANCE
    }

    /// Returns the reason for which a cancel is to be sent now because of `control`.
    pub fn due_cancel(
        &self,
        now: Moment,
        control: JobControl,
        sent: Option<CancelSent>,
    ) -> Option<CancelReason> {
        let done = sent.map_or(JobControl::Continue, |cancel| cancel.why.control());
        let wait = self.cancel_after.is_some_and(|after| now < after);
        CancelReason::of(control).filter(|_| control > done && !wait)
    }
}
