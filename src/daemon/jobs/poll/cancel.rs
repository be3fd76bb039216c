//! Time-outs and cancellation: sends the cancel to the service and computes what is booked.
//!
//! Owns what a cancel means for the job. What it achieves is seen by polling on, in
//! [`crate::daemon::jobs::poll`]: a run may still complete, and then its result was paid for.

use std::time::Duration;

use super::{Answer, Followed, Following, poll_errors::AFTER_FAILURE};
use crate::{
    backend::{CallError, CancelReply, FaultKind, RunTimes},
    daemon::{
        jobs::{Road, Step},
        services::messages::{JobEnd, Wish},
    },
    domain::{
        job::{JobState, RequestId, backoff::Backoff},
        money::{MicroUsd, job_cost},
    },
    ledger::rows::{AuditRow, Booking, Reason},
};

/// How long a cancelled request is polled to see it end.
pub(in crate::daemon::jobs) const AFTER_CANCEL: Duration = Duration::from_secs(120);

impl Road {
    /// Sends a cancel until the service answers, with a limited number of tries, and remembers that
    /// it was sent.
    pub(in crate::daemon::jobs) async fn cancel_remotely(
        &mut self,
        request: &RequestId,
        wish: Wish,
        following: &mut Following,
    ) -> Step<()> {
        let (id, mut failures) = (self.id, 0);
        if wish == Wish::Cancel {
            // The cancel may be older than the job's row, or be in it already: a cancel is final,
            // across restarts.
            let now = self.tools.clock.now().wall;
            let record = move |ledger: &mut crate::ledger::Ledger| ledger.request_cancel(id, now);
            self.record("that a person cancelled it", record).await?;
        }
        self.say("being cancelled at the service".to_owned()).await;
        let outcome = loop {
            self.tools.wait_for_call(self.place).await;
            let backend = self.backend().await?;
            match backend.cancel(request).await {
                Ok(CancelReply::Requested) => break "requested",
                Ok(CancelReply::TooLate) => {
                    self.too_late = true;
                    break "too late";
                }
                // Suspended until there is another token, with which the cancel is sent again.
                Err(CallError::Fault(fault)) if fault.kind == FaultKind::Token => {
                    self.after_fault(fault, following).await?;
                }
                Err(CallError::Fault(fault)) if fault.kind != FaultKind::Service => {
                    following.refused = true;
                    break "refused";
                }
                Err(error) => {
                    let retry_after = match &error {
                        CallError::Transient { retry_after, .. } => *retry_after,
                        CallError::Fault(_) => None,
                    };
                    failures += 1;
                    if failures >= 5 {
                        tracing::warn!(job = %id, %error, "the service does not answer the cancel");
                        break "no answer";
                    }
                    let backoff = Backoff::new(AFTER_FAILURE.0, AFTER_FAILURE.1);
                    if self.pause(backoff.wait(failures, rand::random(), retry_after), wish).await
                        == Some(Wish::Stop)
                    {
                        return Err(JobEnd::Stopped);
                    }
                }
            }
        };
        tracing::info!(job = %id, outcome, "cancel sent");
        if self.too_late {
            self.say("could not be cancelled any more; it goes on".to_owned()).await;
        }
        let now = self.tools.clock.now();
        let why = match wish {
            Wish::Cancel => "a person wanted it",
            Wish::Replace => "a newer change takes its place",
            Wish::Go | Wish::Stop => "it took too long",
        };
        let record = move |ledger: &mut crate::ledger::Ledger| {
            ledger.audit(&AuditRow {
                at: now.wall,
                what: "cancel".to_owned(),
                job: Some(id),
                outcome: format!("{outcome}: {why}"),
                cost: MicroUsd::ZERO,
            })
        };
        drop(self.tools.store.record("a cancel", record).await);
        // Without an answer the cancel is sent again later, if the backend is paid.
        if outcome != "no answer" || !self.place.is_paid() {
            following.cancelled = Some((wish, now.moment));
        }
        Ok(())
    }

    /// Ends a job whose request was cancelled, with the reason of the cancel.
    pub(in crate::daemon::jobs) async fn ended_by_cancel(
        &mut self,
        following: &Following,
        times: RunTimes,
    ) -> JobEnd {
        let booking = self.booking(following, times);
        let (id, now) = (self.id, self.tools.clock.now().wall);
        let wish = following.cancelled.map(|(wish, _)| wish);
        if let Some((code, _)) = following.timed_out {
            let text = match (code, self.place.is_paid()) {
                ("queue_timeout", true) => {
                    "no machine took the job in time (`serverless.queue_timeout_s`); it was cancelled"
                }
                (_, true) => "the run took too long (`serverless.run_timeout_s`); it was cancelled",
                ("queue_timeout", false) => {
                    "its turn did not come in time (`local.timeout_s`); it was cancelled"
                }
                (_, false) => "the run took too long (`local.timeout_s`); it was cancelled",
            };
            return self.end_failed(Reason::new(code, text), booking).await;
        }
        let replaced = wish == Some(Wish::Replace);
        let state = if replaced { JobState::Replaced } else { JobState::Cancelled };
        let text = match wish {
            Some(_) => "cancelled at a person's request",
            // After a crash it may have been our own cancel, which is sent before it is recorded.
            None => "cancelled at the service; conjured has no record of having asked for it",
        };
        let record = move |ledger: &mut crate::ledger::Ledger| {
            if replaced {
                ledger.replaced(id, None, booking, now)
            } else {
                ledger.cancelled(id, &Reason::new("cancelled", text), booking, now)
            }
        };
        if let Err(end) = self.record("the end of a cancelled job", record).await {
            return end;
        }
        tracing::info!(job = %id, ?booking, "{state}");
        JobEnd::Ended { state, placed: false }
    }

    /// Returns what is booked for a job that ends here, with or without a run.
    pub(in crate::daemon::jobs) fn booking(
        &self,
        following: &Following,
        times: RunTimes,
    ) -> Booking {
        let now = self.tools.clock.now();
        let Some(terms) = self.terms else { return Booking::Reserved };
        if following.running.is_some() {
            let observed = following.seen(times, now);
            return job_cost::job_cost(&terms, &observed).map_or(Booking::Reserved, Booking::from);
        }
        let waited = now.moment.since(following.submitted);
        let followed = matches!(following.cancelled, Some((Wish::Replace, _)));
        match job_cost::cost_without_run(&terms, waited, followed, self.shown.estimate) {
            MicroUsd::ZERO => Booking::Nothing,
            most => Booking::AtMost(most),
        }
    }

    /// Returns what is booked for a job whose run has ended with an unusable result, from what the
    /// ledger holds.
    pub(in crate::daemon::jobs) async fn booking_of_run(&self) -> Booking {
        let id = self.id;
        let row = self.tools.store.with(move |ledger| ledger.job(id)).await;
        row.map_or(Booking::Reserved, |row| row.job_cost().0)
    }

    /// Returns how long the job may be queued, and how long it may run.
    fn patience(&self) -> (Duration, Duration) {
        let config = self.live();
        let (serverless, local) = (&config.settings.serverless, &config.settings.local);
        if self.place.is_paid() {
            (serverless.queue_timeout, serverless.run_timeout)
        } else {
            (local.timeout, local.timeout)
        }
    }

    /// Ends a wait that took too long: asks for the result once more, then cancels the request.
    pub(in crate::daemon::jobs) async fn mind_patience(
        &mut self,
        request: &RequestId,
        following: &mut Following,
    ) -> Step<Option<Followed>> {
        let now = self.tools.clock.now().moment;
        if let Some((_, since)) = following.cancelled.filter(|_| !self.too_late) {
            if now.since(since) < AFTER_CANCEL {
                return Ok(None);
            }
            if following.refused && self.place.is_paid() {
                // The run continues there in any case, and its result is paid for.
                self.too_late = true;
                self.say("the service did not cancel it; it goes on".to_owned()).await;
                return Ok(None);
            }
            // The service accepted the cancel: more waiting brings no more information.
            return match self.ask_result(request, following).await? {
                Answer::Ended(ended) => Ok(Some(Followed::Ended(ended))),
                Answer::Elsewhere(payload) => Ok(Some(Followed::Elsewhere(payload))),
                Answer::Pending => Err(self.ended_by_cancel(following, RunTimes::default()).await),
                Answer::Silence => Ok(None),
            };
        }
        if let Some((code, since)) = following.timed_out {
            let (_, patience) = self.patience();
            if self.too_late && now.since(since) > patience {
                let text = "the service neither ends nor cancels it; it may have been charged";
                return Err(self.end_failed(Reason::new(code, text), Booking::Reserved).await);
            }
            return Ok(None);
        }
        let (queue, run) = self.patience();
        let (code, patience, key) = match following.running {
            None => ("queue_timeout", queue, following.submitted),
            Some(running) => ("run_timeout", run, running),
        };
        if now.since(key) < patience {
            return Ok(None);
        }
        match self.ask_result(request, following).await? {
            Answer::Ended(ended) => return Ok(Some(Followed::Ended(ended))),
            Answer::Elsewhere(payload) => return Ok(Some(Followed::Elsewhere(payload))),
            Answer::Silence => return Ok(None),
            Answer::Pending => {}
        }
        tracing::warn!(job = %self.id, code, "patience is over; cancelling remotely");
        self.cancel_remotely(request, Wish::Go, following).await?;
        if following.cancelled.is_some() {
            following.timed_out = Some((code, now));
        }
        Ok(None)
    }
}
