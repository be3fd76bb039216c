//! The flow of an accepted request, from the backend's id to the end of its run.
//!
//! Owns what ends a wait. A call that is not answered never ends a job that may have been paid for;
//! only the result, a person or a time-out does. What a cancel achieves is seen by asking on: the
//! run may still complete, and then its result was paid for.

use super::{
    Do, End, EndReason, JobRecord, World, control, fail_over, reach,
    request_seen::{
        CANCEL_PATIENCE, MAX_SILENT_CALLS, Newest, RequestSeen, UNKNOWN_REQUEST_PATIENCE,
    },
    retry_wait,
    world::{PayloadSeen, WaitFor, Whereabouts},
};
use crate::{
    job::{
        attempt::AttemptEnd,
        cancel::{CancelReason, CancelSent},
        choose_backend::AttemptOutcome,
        control::JobControl,
        remote::{FaultKind, RunTimes},
    },
    money::job_cost::Booking,
    time::{Moment, Now},
};

/// A request, with everything that is decided from.
struct Request<'a> {
    now: Now,
    record: &'a JobRecord,
    world: &'a World,
    seen: &'a RequestSeen,
    cancel: Option<CancelSent>,
    /// The cancel came too late: the request continues as if nobody had asked.
    too_late: bool,
}

/// Decides about an accepted request.
pub(super) fn next(now: Now, record: &JobRecord, world: &World) -> Do {
    if world.stopping {
        return Do::Suspend;
    }
    let (Some(_), Some(seen)) = (record.request(), &world.seen.request) else {
        // The ledger writes the state and the id in one transaction.
        return End::failed(EndReason::NoRequest, Booking::Reserved);
    };
    let cancel = record.cancel();
    let too_late = seen.is_too_late(now.moment, cancel, record.backend.is_paid());
    let request = Request { now, record, world, seen, cancel, too_late };
    // A run that has ended needs no further call.
    if let Some(ended) = request.ended() {
        return ended;
    }
    if let Some(first) = reach(now.moment, world) {
        return first;
    }
    if let Some(given_up) = request.given_up() {
        return given_up;
    }
    let wait = |what| Do::Wait(Some(seen.next_call), what);
    let is_early = now.moment < seen.next_call;
    if let Some(step) = request.unanswered_cancel() {
        return step;
    }
    if let Some(why) = seen.due_cancel(now.moment, control(record, world), cancel) {
        return Do::Cancel(why);
    }
    if seen.token_refused && is_early {
        return wait(WaitFor::Token);
    }
    if let Some(step) = request.deadline() {
        return step;
    }
    match seen.newest {
        Newest::Ended => Do::AskResult,
        Newest::Silent | Newest::Fault(_) if is_early => wait(WaitFor::Service),
        Newest::Nothing if is_early && seen.cancel_after.is_some() => wait(WaitFor::Service),
        _ if is_early => wait(WaitFor::Poll),
        _ => Do::Poll,
    }
}

impl Request<'_> {
    /// Decides about a run whose result says how it ended.
    fn ended(&self) -> Option<Do> {
        let Self { record, world, seen, .. } = *self;
        match seen.newest {
            Newest::Cancelled(times, at) => Some(self.cancelled(times, at)),
            Newest::Failed(kind, times, at) => {
                let booking = seen.booking(record, times, at);
                let failed = End::failed(EndReason::RunFailed, booking);
                // A cancelled job does not fail over.
                if self.cancel.is_some() || control(record, world) > JobControl::Continue {
                    return Some(failed);
                }
                let (end, outcome) = match kind {
                    FaultKind::Workflow => (AttemptEnd::WorkflowFailed, AttemptOutcome::Workflow),
                    FaultKind::Account
                    | FaultKind::Token
                    | FaultKind::Service
                    | FaultKind::Gone => (AttemptEnd::Failed, AttemptOutcome::Failed),
                };
                Some(self.elsewhere(end, outcome, booking).unwrap_or_else(|| {
                    if world.seen.payload == PayloadSeen::Unusable {
                        return End::failed(EndReason::Inputs, booking);
                    }
                    self.keep_image().unwrap_or(failed)
                }))
            }
            Newest::Nothing
            | Newest::Unfinished
            | Newest::Ended
            | Newest::Pending
            | Newest::Silent
            | Newest::Fault(_) => None,
        }
    }

    /// Decides whether a request is given up whose calls are not answered, or whose backend does
    /// not know it.
    fn given_up(&self) -> Option<Do> {
        let Self { now, record, seen, .. } = *self;
        let is_open_cancel = self.cancel.is_some() && !self.too_late;
        let fault = match seen.newest {
            Newest::Silent => None,
            Newest::Fault(FaultKind::Token) => return None,
            Newest::Fault(kind) => Some(kind),
            _ => return None,
        };
        if fault == Some(FaultKind::Gone) {
            // A backend with a reliable memory has lost it.
            if record.backend.is_repeatable() && seen.gone_since.is_some() {
                // Regardless of who deleted the request, the job was cancelled.
                if is_open_cancel {
                    return Some(self.cancelled(RunTimes::default(), now));
                }
                let booking = seen.booking(record, RunTimes::default(), now);
                return Some(self.lost(EndReason::Forgotten, booking));
            }
            let since = seen.gone_since.into_iter().chain(seen.result_gone_since).min()?;
            if now.moment.since(since) >= UNKNOWN_REQUEST_PATIENCE {
                return Some(End::failed(EndReason::RequestUnknown, Booking::Reserved));
            }
        }
        // A cancelled job does not wait for a service that says nothing about it.
        if fault.is_some() && is_open_cancel && self.is_cancel_over() {
            return Some(self.cancelled(RunTimes::default(), now));
        }
        if fault != Some(FaultKind::Gone)
            && !record.backend.is_paid()
            && seen.failures >= MAX_SILENT_CALLS
        {
            if is_open_cancel {
                return Some(self.cancelled(RunTimes::default(), now));
            }
            return Some(self.lost(EndReason::NoAnswer, Booking::Nothing));
        }
        None
    }

    /// Decides about a time limit that is over. It depends on what the service says, never on a
    /// missing answer: the result is asked for once more first.
    fn deadline(&self) -> Option<Do> {
        let Self { now, world, seen, .. } = *self;
        let is_asked = match seen.newest {
            Newest::Unfinished => false,
            Newest::Pending => true,
            _ => return None,
        };
        let asked = |then: Do| Some(if is_asked { then } else { Do::AskResult });
        let limits = world.limits;
        match self.cancel {
            // The service accepted the cancel: more waiting brings no more information.
            Some(_) if !self.too_late => {
                if !self.is_cancel_over() {
                    return None;
                }
                asked(self.cancelled(RunTimes::default(), now))
            }
            // One that came too late is not sent again: the run gets its time once more, and then it
            // is over, whatever the service does.
            Some(_) => {
                let (why, ends) = self.time_limit();
                let since = seen.since_cancel(now.moment).unwrap_or_default();
                if now.moment < ends || since <= limits.run {
                    return None;
                }
                asked(End::failed(EndReason::Unresolved(why), Booking::Reserved))
            }
            None => {
                let (why, ends) = self.time_limit();
                let wait = seen.cancel_after.is_some_and(|after| now.moment < after);
                if now.moment < ends || wait { None } else { asked(Do::Cancel(why)) }
            }
        }
    }

    /// Decides about a request whose cancel is never answered although its status is: it is given up
    /// when its time is over and has passed once more.
    fn unanswered_cancel(&self) -> Option<Do> {
        let Self { now, world, seen, .. } = *self;
        let is_open = matches!(seen.newest, Newest::Unfinished | Newest::Pending);
        if self.cancel.is_some() || seen.cancel_after.is_none() || !is_open {
            return None;
        }
        let (why, ends) = self.time_limit();
        if now.moment <= ends.plus(world.limits.run) {
            return None;
        }
        Some(match seen.newest {
            Newest::Pending => End::failed(EndReason::Unresolved(why), Booking::Reserved),
            _ => Do::AskResult,
        })
    }

    /// Returns the time limit that applies, and when it is over.
    fn time_limit(&self) -> (CancelReason, Moment) {
        let Self { world, seen, .. } = *self;
        match seen.running {
            None => (CancelReason::QueueTimeout, seen.submitted.plus(world.limits.queue)),
            Some(running) => (CancelReason::RunTimeout, running.plus(world.limits.run)),
        }
    }

    fn is_cancel_over(&self) -> bool {
        self.seen.since_cancel(self.now.moment).is_some_and(|since| since >= CANCEL_PATIENCE)
    }

    /// Ends a job whose request is cancelled, with the reason of the cancel.
    fn cancelled(&self, times: RunTimes, at: Now) -> Do {
        let Self { record, world, seen, .. } = *self;
        let booking = seen.booking(record, times, at);
        // After a crash it may have been our own cancel, which is sent before it is recorded.
        let why = self
            .cancel
            .map(|cancel| cancel.why)
            .or(seen.cancel_tried)
            .or_else(|| CancelReason::of(control(record, world)));
        match why {
            Some(CancelReason::QueueTimeout) => End::failed(EndReason::QueueTimeout, booking),
            Some(CancelReason::RunTimeout) => End::failed(EndReason::RunTimeout, booking),
            Some(CancelReason::Superseded) => End::replaced(booking),
            Some(CancelReason::Person) => End::cancelled(EndReason::Cancelled, booking),
            None => End::cancelled(EndReason::CancelledElsewhere, booking),
        }
    }

    /// Decides about a request that a free backend lost.
    fn lost(&self, reason: EndReason, booking: Booking) -> Do {
        self.elsewhere(AttemptEnd::Lost, AttemptOutcome::Lost, booking)
            .unwrap_or_else(|| End::failed(reason, booking))
    }

    /// Sends the job elsewhere after an attempt that failed, if any backend may make it.
    fn elsewhere(&self, end: AttemptEnd, outcome: AttemptOutcome, booking: Booking) -> Option<Do> {
        let seen = &self.world.seen;
        if seen.charged_before || seen.payload == PayloadSeen::Unusable {
            return None;
        }
        fail_over(self.record, self.world, end, outcome, booking)
    }

    /// Fetches the image that a failed run made before its mesh failed, once: it was paid for.
    fn keep_image(&self) -> Option<Do> {
        let is_listed = self.world.artifacts.image == Whereabouts::Listed;
        let wait = retry_wait(self.now.moment, self.world);
        (is_listed && !self.world.seen.image_tried).then(|| wait.unwrap_or(Do::KeepImage))
    }
}
