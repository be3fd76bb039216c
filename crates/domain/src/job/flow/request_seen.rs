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
    /// Why the newest cancel was sent, answered or not.
    pub cancel_tried: Option<CancelReason>,
    /// Whether the newest status says that it has ended: there is nothing to cancel then.
    pub has_ended: bool,
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
            cancel_tried: None,
            has_ended: false,
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

    /// Folds a status call that was answered.
    pub fn polled(&mut self, now: Moment, phase: &Phase) {
        self.token_refused = false;
        self.gone_since = None;
        self.has_ended = *phase == Phase::Ended;
        // What is wanted then is the result: the calls for it are spaced by their own failures.
        if !self.has_ended {
            self.failures = 0;
        }
        self.newest = match phase {
            Phase::Ended => Newest::Ended,
            Phase::Queued { .. } | Phase::Running => Newest::Unfinished,
        };
        if *phase != Phase::Ended {
            self.unfinished = Some(now);
        }
        match phase {
            Phase::Queued { .. } => self.waiting = Some(now),
            Phase::Running => self.seen_running(now),
            // Only the result says whether it ever reached a machine.
            Phase::Ended => {}
        }
    }

    /// Folds that the request runs, or has run.
    pub fn seen_running(&mut self, now: Moment) {
        if self.running.is_none() {
            self.waited = self.waited_until(now);
            self.running = Some(now);
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
    pub fn result(&mut self, now: Moment, answer: Newest) {
        (self.failures, self.token_refused) = (0, false);
        self.result_gone_since = None;
        if matches!(answer, Newest::Ended | Newest::Failed(..)) {
            self.seen_running(now);
        }
        self.newest = answer;
    }

    /// Folds the end of a round of cancel calls. `after`: when another round may begin, if this
    /// one counts as not sent.
    pub fn cancelled(&mut self, now: Moment, why: CancelReason, after: Option<Moment>) {
        (self.token_refused, self.cancel_tried) = (false, Some(why));
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
        let observed = self.observed_times(times, now);
        let cost = job_cost::job_cost(&record.terms, &observed);
        if self.running.is_some() {
            return cost.map_or(Booking::Reserved, Booking::from);
        }
        let waited = now.moment.since(self.submitted);
        let followed = record.cancel().map(|cancel| cancel.why) == Some(CancelReason::Superseded);
        let queued = job_cost::cost_without_run(&record.terms, waited, followed, record.reserved);
        let unseen = cost.filter(|_| self.may_have_run(now.moment));
        match unseen.map_or(queued, |unseen| queued.max(unseen.total())) {
            MicroUsd::ZERO => Booking::Nothing,
            most => Booking::AtMost(most),
        }
    }

    /// Returns whether the request, never seen running, may have run while nobody looked: since it
    /// was last seen in the queue, or at any time, if another session sent it and this one has not
    /// seen it there.
    fn may_have_run(&self, now: Moment) -> bool {
        self.waiting.is_none_or(|waiting| now.since(waiting) > EXACT_TOLERANCE)
    }

    /// Returns the reason for which a cancel is to be sent now because of `control`.
    pub fn due_cancel(
        &self,
        now: Moment,
        control: JobControl,
        sent: Option<CancelSent>,
    ) -> Option<CancelReason> {
        let done = sent.map_or(JobControl::Continue, |cancel| cancel.why.control());
        let wait = self.has_ended || self.cancel_after.is_some_and(|after| now < after);
        CancelReason::of(control).filter(|_| control > done && !wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fingerprint::Fingerprint,
        job::{Cause, JobState, choose_backend::BackendKind},
        money::job_cost::PriceTerms,
        time::WallTime,
    };

    fn at(seconds: u64) -> Now {
        Now {
            moment: Moment::from_millis(1_000_000 + seconds * 1000),
            wall: WallTime::from_unix_millis(1_700_000_000_000).plus(Duration::from_secs(seconds)),
        }
    }

    /// A job on a machine that costs a cent a second, asleep when the request was sent.
    fn cold() -> JobRecord {
        JobRecord {
            state: JobState::Submitted,
            cause: Cause::Prompt,
            control: JobControl::Continue,
            backend: BackendKind::Serverless,
            workflow: Fingerprint::of(b"graph"),
            own_folder: false,
            stands_in_for: None,
            cached_from: None,
            reserved: MicroUsd::from_cents(1000),
            terms: PriceTerms {
                cold_start: Some(Duration::from_secs(240)),
                keep_warm: Duration::from_secs(60),
                hourly: MicroUsd::from_cents(3600),
            },
            observed: ObservedTimes::default(),
            attempts: Vec::new(),
            outputs_known: false,
        }
    }

    #[test]
    fn a_result_that_does_not_come_is_asked_for_less_and_less_often() {
        let mut seen = RequestSeen::accepted(at(0).moment);
        for failed in 1..=4 {
            seen.polled(at(failed).moment, &Phase::Ended);
            seen.silent(true);
            assert_eq!(seen.failures, u32::try_from(failed).expect("few"));
        }
        seen.polled(at(9).moment, &Phase::Running);
        assert_eq!(seen.failures, 0, "it runs after all");
    }

    #[test]
    fn a_request_that_ended_unseen_books_at_least_what_it_would_have_cost_in_the_queue() {
        let record = cold();
        let booked = |last_seen: u64, ended: u64| {
            let mut seen = RequestSeen::accepted(at(0).moment);
            seen.polled(at(last_seen).moment, &Phase::Queued { position: None });
            match seen.booking(&record, RunTimes::default(), at(ended)) {
                Booking::AtMost(most) => most,
                other => panic!("{other:?} is no bound"),
            }
        };
        let asleep = MicroUsd::from_cents(240 + 60);
        assert_eq!(booked(10, 12), asleep, "it woke the machine");
        assert_eq!(booked(10, 60), asleep, "a gap makes it no cheaper");
        assert_eq!(booked(10, 600), MicroUsd::from_cents(600 + 60), "all of it may have run");
    }

    #[test]
    fn a_request_of_another_session_that_nobody_saw_waiting_may_have_run() {
        let mut record = cold();
        record.terms.cold_start = None;
        let attempt = AttemptRecord {
            backend: record.backend,
            workflow: record.workflow,
            request: None,
            submitted_at: Some(at(0).wall),
            running_at: None,
            cancel: None,
            end: None,
        };
        let mut seen = RequestSeen::resumed(at(8), &attempt, &record.observed);
        let most = Booking::AtMost(MicroUsd::from_cents(10 + 60));
        assert_eq!(seen.booking(&record, RunTimes::default(), at(10)), most);
        seen.polled(at(10).moment, &Phase::Queued { position: None });
        assert_eq!(seen.booking(&record, RunTimes::default(), at(12)), Booking::Nothing);
    }

    #[test]
    fn a_request_that_ended_in_the_queue_of_a_machine_that_was_awake_costs_nothing() {
        let mut record = cold();
        record.terms.cold_start = None;
        let mut seen = RequestSeen::accepted(at(0).moment);
        seen.polled(at(10).moment, &Phase::Queued { position: None });
        seen.polled(at(12).moment, &Phase::Ended);
        assert_eq!(seen.booking(&record, RunTimes::default(), at(12)), Booking::Nothing);
        let most = MicroUsd::from_cents(50 + 60);
        assert_eq!(seen.booking(&record, RunTimes::default(), at(60)), Booking::AtMost(most));
    }
}
