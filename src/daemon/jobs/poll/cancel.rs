//! Time-outs and cancellation: sends the cancel to the service and computes what is booked.
//!
//! Owns what a cancel means for the job. What it achieves is seen by polling on, in
//! [`crate::daemon::jobs::poll`]: a run may still complete, and then its result was paid for.

use std::time::Duration;

use super::{FollowOutcome, RequestState, ResultAnswer, poll_errors::POLL_BACKOFF};
use crate::{
    backend::{CallError, CancelReply, FaultKind, RunTimes},
    daemon::{
        jobs::{JobRun, Step},
        services::messages::{Control, JobEnd},
    },
    domain::{
        job::{JobState, RequestId, backoff::Backoff, control::JobControl},
        money::{MicroUsd, job_cost},
    },
    ledger::rows::{AuditRow, Booking, Reason},
};

/// How long a cancelled request is polled to see it end.
pub(in crate::daemon::jobs) const CANCEL_POLL_TIMEOUT: Duration = Duration::from_secs(120);

impl JobRun {
    /// Sends a cancel until the service answers, with a limited number of tries, and remembers that
    /// it was sent.
    pub(in crate::daemon::jobs) async fn cancel_remotely(
        &mut self,
        request: &RequestId,
        control: Control,
        request_state: &mut RequestState,
    ) -> Step<()> {
        let (id, mut failures) = (self.id, 0);
        // The control may be older than the job's row, or be in it already: it holds across
        // restarts.
        let wanted = match control {
            Control::Cancel => Some((JobControl::Cancel, "the cancel request")),
            Control::Supersede => {
                Some((JobControl::Supersede, "the replacement by a newer change"))
            }
            Control::Continue | Control::Stop => None,
        };
        if let Some((control, what)) = wanted {
            let now = self.services.clock.now().wall;
            let record =
                move |ledger: &mut crate::ledger::Ledger| ledger.raise_control(id, control, now);
            self.record(what, record).await?;
        }
        self.set_activity("cancelling at the service".to_owned()).await;
        let outcome = loop {
            self.services.wait_for_call(self.backend).await;
            let backend = self.backend().await?;
            match backend.cancel(request).await {
                Ok(CancelReply::Requested) => break "requested",
                Ok(CancelReply::TooLate) => {
                    self.cancel_too_late = true;
                    break "too late";
                }
                // Suspended until there is another token, with which the cancel is sent again.
                Err(CallError::Fault(fault)) if fault.kind == FaultKind::Token => {
                    self.wait_after_fault(fault, request_state).await?;
                }
                Err(CallError::Fault(fault)) if fault.kind != FaultKind::Service => {
                    request_state.refused = true;
                    break "refused";
                }
                Err(error) => {
                    let retry_after = match &error {
                        CallError::Transient { retry_after, .. } => *retry_after,
                        CallError::Fault(_) => None,
                    };
                    failures += 1;
                    if failures >= 5 {
                        tracing::warn!(
                            job = %id, %error,
                            "the service does not answer the cancel request"
                        );
                        break "no answer";
                    }
                    let backoff = Backoff::new(POLL_BACKOFF.0, POLL_BACKOFF.1);
                    if self
                        .wait_or_control(
                            backoff.wait(failures, rand::random(), retry_after),
                            control,
                        )
                        .await
                        == Some(Control::Stop)
                    {
                        return Err(JobEnd::Stopped);
                    }
                }
            }
        };
        tracing::info!(job = %id, outcome, "cancel sent");
        if self.cancel_too_late {
            self.set_activity("too late to cancel; the run continues".to_owned()).await;
        }
        let now = self.services.clock.now();
        let why = match control {
            Control::Cancel => "cancelled by a person",
            Control::Supersede => "replaced by a newer change",
            Control::Continue | Control::Stop => "timed out",
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
        drop(self.services.store.record("a cancel", record).await);
        // Without an answer the cancel is sent again later, if the backend is paid.
        if outcome != "no answer" || !self.backend.is_paid() {
            request_state.cancelled = Some((control, now.moment));
        }
        Ok(())
    }

    /// Ends a job whose request was cancelled, with the reason of the cancel.
    pub(in crate::daemon::jobs) async fn end_cancelled(
        &mut self,
        request_state: &RequestState,
        times: RunTimes,
    ) -> JobEnd {
        let booking = self.booking(request_state, times);
        let (id, now) = (self.id, self.services.clock.now().wall);
        let control = request_state.cancelled.map(|(control, _)| control);
        if let Some((code, _)) = request_state.timed_out {
            let text = match (code, self.backend.is_paid()) {
                ("queue_timeout", true) => {
                    "no machine started the job in time (`serverless.queue_timeout_s`); it was \
                     cancelled"
                }
                (_, true) => "the run took too long (`serverless.run_timeout_s`); it was cancelled",
                ("queue_timeout", false) => {
                    "it waited too long in the queue (`local.timeout_s`); it was cancelled"
                }
                (_, false) => "the run took too long (`local.timeout_s`); it was cancelled",
            };
            return self.end_failed(Reason::new(code, text), booking).await;
        }
        let replaced = control == Some(Control::Supersede);
        let state = if replaced { JobState::Replaced } else { JobState::Cancelled };
        let text = match control {
            Some(_) => "cancelled at a person's request",
            // After a crash it may have been our own cancel, which is sent before it is recorded.
            None => "cancelled at the service; conjured has no record of requesting that",
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
        request_state: &RequestState,
        times: RunTimes,
    ) -> Booking {
        let now = self.services.clock.now();
        let terms = self.terms;
        if request_state.running.is_some() {
            let observed = request_state.observed_times(times, now);
            return job_cost::job_cost(&terms, &observed).map_or(Booking::Reserved, Booking::from);
        }
        let waited = now.moment.since(request_state.submitted);
        let followed = matches!(request_state.cancelled, Some((Control::Supersede, _)));
        match job_cost::cost_without_run(&terms, waited, followed, self.status.estimate) {
            MicroUsd::ZERO => Booking::Nothing,
            most => Booking::AtMost(most),
        }
    }

    /// Returns what is booked for a job whose run has ended with an unusable result, from what the
    /// ledger holds.
    pub(in crate::daemon::jobs) async fn booking_of_run(&self) -> Booking {
        let id = self.id;
        let row = self.services.store.with(move |ledger| ledger.job(id)).await;
        row.map_or(Booking::Reserved, |row| row.job_cost().0)
    }

    /// Returns how long the job may be queued, and how long it may run.
    fn timeouts(&self) -> (Duration, Duration) {
        let config = self.config();
        let (serverless, local) = (&config.settings.serverless, &config.settings.local);
        if self.backend.is_paid() {
            (serverless.queue_timeout, serverless.run_timeout)
        } else {
            (local.timeout, local.timeout)
        }
    }

    /// Ends a wait that took too long: asks for the result once more, then cancels the request.
    pub(in crate::daemon::jobs) async fn check_timeouts(
        &mut self,
        request: &RequestId,
        request_state: &mut RequestState,
    ) -> Step<Option<FollowOutcome>> {
        let now = self.services.clock.now().moment;
        if let Some((_, since)) = request_state.cancelled.filter(|_| !self.cancel_too_late) {
            if now.since(since) < CANCEL_POLL_TIMEOUT {
                return Ok(None);
            }
            if request_state.refused && self.backend.is_paid() {
                // The run continues there in any case, and its result is paid for.
                self.cancel_too_late = true;
                self.set_activity("the service did not cancel it; the run continues".to_owned())
                    .await;
                return Ok(None);
            }
            // The service accepted the cancel: more waiting brings no more information.
            return match self.ask_result(request, request_state).await? {
                ResultAnswer::Ended(ended) => Ok(Some(FollowOutcome::Ended(ended))),
                ResultAnswer::Rerouted(payload) => Ok(Some(FollowOutcome::Rerouted(payload))),
                ResultAnswer::Pending => {
                    Err(self.end_cancelled(request_state, RunTimes::default()).await)
                }
                ResultAnswer::NoAnswer => Ok(None),
            };
        }
        if let Some((code, since)) = request_state.timed_out {
            let (_, patience) = self.timeouts();
            if self.cancel_too_late && now.since(since) > patience {
                let text =
                    "the service neither finished nor cancelled it; it may have been charged";
                return Err(self.end_failed(Reason::new(code, text), Booking::Reserved).await);
            }
            return Ok(None);
        }
        let (queue, run) = self.timeouts();
        let (code, patience, key) = match request_state.running {
            None => ("queue_timeout", queue, request_state.submitted),
            Some(running) => ("run_timeout", run, running),
        };
        if now.since(key) < patience {
            return Ok(None);
        }
        match self.ask_result(request, request_state).await? {
            ResultAnswer::Ended(ended) => return Ok(Some(FollowOutcome::Ended(ended))),
            ResultAnswer::Rerouted(payload) => return Ok(Some(FollowOutcome::Rerouted(payload))),
            ResultAnswer::NoAnswer => return Ok(None),
            ResultAnswer::Pending => {}
        }
        tracing::warn!(job = %self.id, code, "timed out; cancelling at the service");
        self.cancel_remotely(request, Control::Continue, request_state).await?;
        if request_state.cancelled.is_some() {
            request_state.timed_out = Some((code, now));
        }
        Ok(None)
    }
}
