//! Handles failed status calls: back-off, a rejected token, and when a request counts as lost.
//!
//! Owns the waits after failed calls and the decision when to give up a request that its backend
//! does not know. None of them ends a job that may have been paid for and may still complete.
//! Successful answers belong to [`crate::daemon::jobs::poll`].

use std::time::Duration;

use super::{Following, cancel::AFTER_CANCEL};
use crate::{
    backend::{FaultKind, Payload, RunTimes, ServiceFault},
    daemon::{
        jobs::{Road, Step, reason_of},
        services::messages::{JobEnd, Report, Wish},
    },
    domain::{
        job::{RequestId, backoff::Backoff, choose_backend::AttemptOutcome},
        time::Moment,
    },
    ledger::rows::{Booking, Reason},
};

/// How long the daemon keeps asking for a request that the service does not know: a status may lag
/// behind the submit, and a failing gateway answers 404 as well.
const NOT_KNOWN: Duration = Duration::from_secs(30 * 60);

/// The first and the longest wait after a failed status call.
pub(in crate::daemon::jobs) const AFTER_FAILURE: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_secs(30));

/// How long a job that is suspended because of a rejected token waits before it asks again.
const PARKED: Duration = Duration::from_secs(60);

/// After this many failed calls in a row, about twenty seconds, a free backend counts as gone, for
/// example a server that was closed. If it comes back, its work is found again by our id; if not,
/// nothing was charged.
const WENT_AWAY: u32 = 6;

impl Road {
    /// Gives up a free backend that no longer answers. Returns `None` for a paid one, which is
    /// polled until it answers.
    pub(in crate::daemon::jobs) async fn went_away(
        &mut self,
        reason: &str,
        following: &Following,
    ) -> Step<Option<Payload>> {
        if self.place.is_paid() || following.failures < WENT_AWAY {
            return Ok(None);
        }
        if following.cancelled.is_some() && !self.too_late {
            return Err(self.ended_by_cancel(following, RunTimes::default()).await);
        }
        let reason = Reason::new("no_answer", reason);
        match self.came_to_nothing(AttemptOutcome::Lost, &reason, Booking::Nothing).await? {
            Some(payload) => Ok(Some(payload)),
            None => Err(self.end_failed(reason, Booking::Nothing).await),
        }
    }

    /// Handles a request that a backend with a reliable memory does not know: it is lost there.
    /// Returns `None` if such an answer may be an error and the request may have been paid for.
    pub(in crate::daemon::jobs) async fn forgotten(
        &mut self,
        fault: &ServiceFault,
        following: &Following,
    ) -> Step<Option<Payload>> {
        if !self.place.is_repeatable() {
            return Ok(None);
        }
        let reason = reason_of(fault);
        // Regardless of who deleted the request, the job was cancelled.
        if following.cancelled.is_some() && !self.too_late {
            return Err(self.ended_by_cancel(following, RunTimes::default()).await);
        }
        let booking = self.booking(following, RunTimes::default());
        match self.came_to_nothing(AttemptOutcome::Lost, &reason, booking).await? {
            Some(payload) => Ok(Some(payload)),
            None => {
                let text =
                    format!("{} does not know the job any more: {}", self.place, reason.text);
                Err(self.end_failed(Reason::new(reason.code, text), booking).await)
            }
        }
    }

    /// Gives up a request that the service has not known for too long.
    pub(in crate::daemon::jobs) async fn mind_gone(
        &mut self,
        request: &RequestId,
        fault: &ServiceFault,
        since: Moment,
    ) -> Step<()> {
        if self.tools.clock.now().moment.since(since) < NOT_KNOWN {
            return Ok(());
        }
        let reason = reason_of(fault);
        let text = format!(
            "the service does not know the request {request} (any more): {}; whether it was charged only its dashboard says",
            reason.text
        );
        Err(self.end_failed(Reason::new(reason.code, text), Booking::Reserved).await)
    }

    pub(in crate::daemon::jobs) async fn after_failure(
        &mut self,
        reason: &str,
        retry_after: Option<Duration>,
        following: &Following,
    ) -> Step<()> {
        tracing::warn!(job = %self.id, failures = following.failures, "no answer about the job: {reason}");
        let backoff = Backoff::new(AFTER_FAILURE.0, AFTER_FAILURE.1);
        let wait = backoff.wait(following.failures, rand::random(), retry_after);
        let seconds = wait.as_secs().max(1);
        let asked = if retry_after.is_some() { ", as it wishes" } else { "" };
        self.say(format!(
            "goes on remotely; the service does not answer, it is asked again in {seconds} s{asked}: {reason}"
        ))
        .await;
        let known = following.cancelled.map_or(Wish::Go, |(wish, _)| wish);
        match self.pause(wait, known).await {
            Some(Wish::Stop) => Err(JobEnd::Stopped),
            // Other controls are seen again at the top of the loop.
            _ => Ok(()),
        }
    }

    /// Waits after an answer that says nothing about the request. A free backend that continues to
    /// answer this way is given up like one that does not answer: something else is listening at
    /// its address.
    pub(in crate::daemon::jobs) async fn after_fault(
        &mut self,
        fault: ServiceFault,
        following: &mut Following,
    ) -> Step<Option<Payload>> {
        let reason = reason_of(&fault);
        match fault.kind {
            FaultKind::Token => {
                let config = self.live();
                let from = config.known_at(self.place).as_ref().ok();
                let from = from.and_then(|configured| configured.token_from.as_deref());
                let from = from.map(|from| format!(" (token from {from})")).unwrap_or_default();
                let text = format!("parked: {}{from}; the job goes on remotely", reason.text);
                self.report(Report::TokenRefused).await;
                self.report(Report::Warning(format!("job {}: {text}", self.id))).await;
                self.say(text).await;
                let mut config = self.tools.config.clone();
                config.borrow_and_update();
                tokio::select! {
                    _ = config.changed() => Ok(None),
                    wish = crate::daemon::jobs::wished(&mut self.wish) => match wish {
                        Wish::Stop => Err(JobEnd::Stopped),
                        Wish::Go | Wish::Replace | Wish::Cancel => Ok(None),
                    },
                    () = tokio::time::sleep(PARKED) => Ok(None),
                }
            }
            FaultKind::Gone | FaultKind::Workflow | FaultKind::Account | FaultKind::Service => {
                following.failures += 1;
                let now = self.tools.clock.now().moment;
                if let Some((_, since)) = following.cancelled.filter(|_| !self.too_late)
                    && now.since(since) >= AFTER_CANCEL
                {
                    // A cancelled job does not wait for a service that says nothing about it.
                    return Err(self.ended_by_cancel(following, RunTimes::default()).await);
                }
                if fault.kind != FaultKind::Gone
                    && let Some(payload) = self.went_away(&reason.text, following).await?
                {
                    return Ok(Some(payload));
                }
                self.after_failure(&reason.text, None, following).await?;
                Ok(None)
            }
        }
    }
}
