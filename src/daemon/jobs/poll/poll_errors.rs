//! A request about which nothing is heard, or nothing good: no answer, a refused token, a place that does not know it.
//!
//! Owns the waits after failed calls and the judgement when a request is given up that its backend does not know. None of them ends
//! a job that may still be paid for and come to something; what [`crate::daemon::jobs::poll`] does with an answer is its own matter.

use std::time::Duration;

use super::{Following, cancel::AFTER_CANCEL};
use crate::{
    backend::{RunTimes, ServiceFault, Verdict, Work},
    daemon::{
        jobs::{Road, Step, reason_of},
        services::messages::{JobEnd, Report, Wish},
    },
    domain::{
        job::{RequestId, backoff::Backoff, choose_backend::Outcome},
        time::Moment,
    },
    ledger::rows::{Booking, Reason},
};

/// How long a request that the service does not know is asked for again: a status may lag behind the submit, and a gateway in
/// trouble answers 404 as well.
const NOT_KNOWN: Duration = Duration::from_secs(30 * 60);

/// The first and the longest wait after a failed status call.
pub(in crate::daemon::jobs) const AFTER_FAILURE: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_secs(30));

/// How long a job parked on a refused token waits before it asks again unasked.
const PARKED: Duration = Duration::from_secs(60);

/// After so many failed calls in a row, some twenty seconds, a free place is taken for gone: a server that was closed. What it
/// did is found again under our id if it comes back, and costs nothing if not.
const WENT_AWAY: u32 = 6;

impl Road {
    /// Gives up a free place that does not answer any more. `None` where somebody is paid, whose silence is waited out.
    pub(in crate::daemon::jobs) async fn went_away(
        &mut self,
        reason: &str,
        following: &Following,
    ) -> Step<Option<Work>> {
        if self.place.is_paid() || following.failures < WENT_AWAY {
            return Ok(None);
        }
        if following.cancelled.is_some() && !self.too_late {
            return Err(self.ended_by_cancel(following, RunTimes::default()).await);
        }
        let reason = Reason::new("no_answer", reason);
        match self.came_to_nothing(Outcome::Lost, &reason, Booking::Nothing).await? {
            Some(work) => Ok(Some(work)),
            None => Err(self.end_failed(reason, Booking::Nothing).await),
        }
    }

    /// Takes the word of a place that answers for its own memory: a request that it does not know is lost there. `None` where
    /// such an answer may be an error, and the request paid for.
    pub(in crate::daemon::jobs) async fn forgotten(
        &mut self,
        fault: &ServiceFault,
        following: &Following,
    ) -> Step<Option<Work>> {
        if !self.place.is_repeatable() {
            return Ok(None);
        }
        let reason = reason_of(fault);
        // Whoever deleted it, it was to end.
        if following.cancelled.is_some() && !self.too_late {
            return Err(self.ended_by_cancel(following, RunTimes::default()).await);
        }
        let booking = self.booking(following, RunTimes::default());
        match self.came_to_nothing(Outcome::Lost, &reason, booking).await? {
            Some(work) => Ok(Some(work)),
            None => {
                let text =
                    format!("{} does not know the job any more: {}", self.place, reason.text);
                Err(self.end_failed(Reason::new(reason.code, text), booking).await)
            }
        }
    }

    /// Gives up on a request that the service has not known for too long.
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
            // Other wishes are seen again at the top of the loop.
            _ => Ok(()),
        }
    }

    /// Waits after an answer that is no word about the request. A free place that goes on so is given up, as one that is silent:
    /// something else answers at its address.
    pub(in crate::daemon::jobs) async fn after_fault(
        &mut self,
        fault: ServiceFault,
        following: &mut Following,
    ) -> Step<Option<Work>> {
        let reason = reason_of(&fault);
        match fault.verdict {
            Verdict::Token => {
                let live = self.live();
                let from = live.known_at(self.place).as_ref().ok();
                let from = from.and_then(|ready| ready.token_from.as_deref());
                let from = from.map(|from| format!(" (token from {from})")).unwrap_or_default();
                let text = format!("parked: {}{from}; the job goes on remotely", reason.text);
                self.report(Report::TokenRefused).await;
                self.report(Report::Warning(format!("job {}: {text}", self.id))).await;
                self.say(text).await;
                let mut live = self.tools.live.clone();
                live.borrow_and_update();
                tokio::select! {
                    _ = live.changed() => Ok(None),
                    wish = crate::daemon::jobs::wished(&mut self.wish) => match wish {
                        Wish::Stop => Err(JobEnd::Stopped),
                        Wish::Go | Wish::Replace | Wish::Cancel => Ok(None),
                    },
                    () = tokio::time::sleep(PARKED) => Ok(None),
                }
            }
            Verdict::Gone | Verdict::Workflow | Verdict::Account | Verdict::Service => {
                following.failures += 1;
                let now = self.tools.clock.now().moment;
                if let Some((_, since)) = following.cancelled.filter(|_| !self.too_late)
                    && now.since(since) >= AFTER_CANCEL
                {
                    // Who wanted it to end does not wait for somebody who says nothing about it.
                    return Err(self.ended_by_cancel(following, RunTimes::default()).await);
                }
                if fault.verdict != Verdict::Gone
                    && let Some(work) = self.went_away(&reason.text, following).await?
                {
                    return Ok(Some(work));
                }
                self.after_failure(&reason.text, None, following).await?;
                Ok(None)
            }
        }
    }
}
