//! Handles failed status calls: back-off, a rejected token, and when a request counts as lost.
//!
//! Owns the waits after failed calls and the decision when to give up a request that its backend
//! does not know. None of them ends a job that may have been paid for and may still complete.
//! Successful answers belong to [`crate::daemon::jobs::poll`].

use std::time::Duration;

use super::{RequestState, cancel::CANCEL_POLL_TIMEOUT};
use crate::{
    backend::{FaultKind, Payload, RunTimes, ServiceFault},
    daemon::{
        jobs::{JobRun, Step, reason_of},
        services::messages::{Control, JobEnd, JobReport},
    },
    domain::{
        job::{RequestId, backoff::Backoff, choose_backend::AttemptOutcome},
        time::Moment,
    },
    ledger::rows::{Booking, Reason},
};

/// How long the daemon keeps asking for a request that the service does not know: a status may lag
/// behind the submit, and a failing gateway answers 404 as well.
const UNKNOWN_REQUEST_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// The first and the longest wait after a failed status call.
pub(in crate::daemon::jobs) const POLL_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_secs(30));

/// How long a job that is suspended because of a rejected token waits before it asks again.
const SUSPENDED_RECHECK: Duration = Duration::from_secs(60);

/// After this many failed calls in a row, about twenty seconds, a free backend counts as gone, for
/// example a server that was closed. If it comes back, its work is found again by our id; if not,
/// nothing was charged.
const MAX_SILENT_POLLS: u32 = 6;

impl JobRun {
    /// Gives up a free backend that no longer answers. Returns `None` for a paid one, which is
    /// polled until it answers.
    pub(in crate::daemon::jobs) async fn give_up_unreachable(
        &mut self,
        reason: &str,
        request_state: &RequestState,
    ) -> Step<Option<Payload>> {
        if self.backend.is_paid() || request_state.failures < MAX_SILENT_POLLS {
            return Ok(None);
        }
        if request_state.cancelled.is_some() && !self.cancel_too_late {
            return Err(self.end_cancelled(request_state, RunTimes::default()).await);
        }
        let reason = Reason::new("no_answer", reason);
        match self.attempt_failed(AttemptOutcome::Lost, &reason, Booking::Nothing).await? {
            Some(payload) => Ok(Some(payload)),
            None => Err(self.end_failed(reason, Booking::Nothing).await),
        }
    }

    /// Handles a request that a backend with a reliable memory does not know: it is lost there.
    /// Returns `None` if such an answer may be an error and the request may have been paid for.
    pub(in crate::daemon::jobs) async fn give_up_forgotten(
        &mut self,
        fault: &ServiceFault,
        request_state: &RequestState,
    ) -> Step<Option<Payload>> {
        if !self.backend.is_repeatable() {
            return Ok(None);
        }
        let reason = reason_of(fault);
        // Regardless of who deleted the request, the job was cancelled.
        if request_state.cancelled.is_some() && !self.cancel_too_late {
            return Err(self.end_cancelled(request_state, RunTimes::default()).await);
        }
        let booking = self.booking(request_state, RunTimes::default());
        match self.attempt_failed(AttemptOutcome::Lost, &reason, booking).await? {
            Some(payload) => Ok(Some(payload)),
            None => {
                let text = format!("{} no longer knows the job: {}", self.backend, reason.text);
                Err(self.end_failed(Reason::new(reason.code, text), booking).await)
            }
        }
    }

    /// Gives up a request that the service has not known for too long.
    pub(in crate::daemon::jobs) async fn give_up_gone(
        &mut self,
        request: &RequestId,
        fault: &ServiceFault,
        since: Moment,
    ) -> Step<()> {
        if self.services.clock.now().moment.since(since) < UNKNOWN_REQUEST_PATIENCE {
            return Ok(());
        }
        let reason = reason_of(fault);
        let text = format!(
            "the service does not know the request {request}, or no longer knows it: {}; its \
             dashboard shows whether it was charged",
            reason.text
        );
        Err(self.end_failed(Reason::new(reason.code, text), Booking::Reserved).await)
    }

    pub(in crate::daemon::jobs) async fn wait_after_failure(
        &mut self,
        reason: &str,
        retry_after: Option<Duration>,
        request_state: &RequestState,
    ) -> Step<()> {
        tracing::warn!(
            job = %self.id, failures = request_state.failures,
            "could not get the job's status: {reason}"
        );
        let backoff = Backoff::new(POLL_BACKOFF.0, POLL_BACKOFF.1);
        let wait = backoff.wait(request_state.failures, rand::random(), retry_after);
        let seconds = wait.as_secs().max(1);
        let asked = if retry_after.is_some() { ", as requested" } else { "" };
        self.set_activity(format!(
            "the job continues remotely, but the service does not answer; next status call in \
             {seconds} s{asked}: {reason}"
        ))
        .await;
        let known = request_state.cancelled.map_or(Control::Continue, |(control, _)| control);
        match self.wait_or_control(wait, known).await {
            Some(Control::Stop) => Err(JobEnd::Stopped),
            // Other controls are seen again at the top of the loop.
            _ => Ok(()),
        }
    }

    /// Waits after an answer that says nothing about the request. A free backend that continues to
    /// answer this way is given up like one that does not answer: something else is listening at
    /// its address.
    pub(in crate::daemon::jobs) async fn wait_after_fault(
        &mut self,
        fault: ServiceFault,
        request_state: &mut RequestState,
    ) -> Step<Option<Payload>> {
        let reason = reason_of(&fault);
        match fault.kind {
            FaultKind::Token => {
                let config = self.config();
                let from = config.known_at(self.backend).as_ref().ok();
                let from = from.and_then(|configured| configured.token_from.as_deref());
                let from = from.map(|from| format!(" (token from {from})")).unwrap_or_default();
                let text = format!("suspended: {}{from}; the job continues remotely", reason.text);
                self.report(JobReport::TokenRefused).await;
                self.report(JobReport::Warning(format!("job {}: {text}", self.id))).await;
                self.set_activity(text).await;
                let mut config = self.services.config.clone();
                config.borrow_and_update();
                tokio::select! {
                    _ = config.changed() => Ok(None),
                    control = crate::daemon::jobs::control_changed(&mut self.control) => match control {
                        Control::Stop => Err(JobEnd::Stopped),
                        Control::Continue | Control::Supersede | Control::Cancel => Ok(None),
                    },
                    () = tokio::time::sleep(SUSPENDED_RECHECK) => Ok(None),
                }
            }
            FaultKind::Gone | FaultKind::Workflow | FaultKind::Account | FaultKind::Service => {
                request_state.failures += 1;
                let now = self.services.clock.now().moment;
                if let Some((_, since)) = request_state.cancelled.filter(|_| !self.cancel_too_late)
                    && now.since(since) >= CANCEL_POLL_TIMEOUT
                {
                    // A cancelled job does not wait for a service that says nothing about it.
                    return Err(self.end_cancelled(request_state, RunTimes::default()).await);
                }
                if fault.kind != FaultKind::Gone
                    && let Some(payload) =
                        self.give_up_unreachable(&reason.text, request_state).await?
                {
                    return Ok(Some(payload));
                }
                self.wait_after_failure(&reason.text, None, request_state).await?;
                Ok(None)
            }
        }
    }
}
