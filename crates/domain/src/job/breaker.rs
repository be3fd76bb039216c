//! Decides when a failing backend is paused and when it is tried again.
//!
//! Owns the failure count, the growing wait and the three states of a [`BreakerState`]. It reads no
//! clock and draws no randomness (both are arguments), it sends nothing, and it does not judge
//! which failures are the backend's own: the caller does. Failures of a workflow, an account, a
//! token or a budget are never reported here, because a pause would not fix them.
//!
//! - Three failures in a row open it: failed calls (no connection, TLS, 5xx, 429, …), or runs that
//!   the service itself lost (10000, 10007, 500001, …). A successful status call in between does
//!   not reset the count of lost runs.
//! - After the wait, one caller may probe with a call that costs nothing. A good answer closes the
//!   breaker *on trial*: the next failure opens it again, for longer. Only an accepted request or a
//!   run that ended well resets the counts.
//! - Its state is in memory only. A restart clears it on purpose: a person who restarts wants a try
//!   now, and it costs three calls at most, none of which is repeated if it may have been charged.

use std::time::Duration;

use super::backoff::Backoff;
use crate::time::Moment;

/// How many failures in a row open the breaker.
pub const THRESHOLD: u32 = 3;

/// The first and the longest pause.
const PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// How long a probe may take before another caller may probe: the first caller may have
/// been stopped.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// The health of a backend, as `status` shows it and as routing reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// The backend is used.
    #[default]
    Closed,
    /// The backend is paused.
    Open {
        /// When the pause ends; then the backend is probed.
        until: Moment,
        /// The last failure.
        reason: String,
    },
    /// A caller is probing the backend now.
    Probing {
        /// When the probe began.
        since: Moment,
        /// The last failure.
        reason: String,
    },
}

/// What a caller that wants to send may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerPermit {
    /// Send.
    Proceed,
    /// First make a call that costs nothing, and report it to [`Breaker::record_probe_success`]
    /// or [`Breaker::record_failure`].
    Probe,
    /// Ask again at that moment.
    Wait(Moment),
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A call got no answer, or an answer that reports a problem of the service.
    Call,
    /// A run that the service accepted and then lost for a reason of its own.
    Run,
}

/// A circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    state: BreakerState,
    calls: u32,
    runs: u32,
    /// How often it opened since the counts were last reset.
    openings: u32,
}

impl Breaker {
    /// Returns the health of the backend.
    pub const fn state(&self) -> &BreakerState {
        &self.state
    }

    /// Returns whether a request may be sent. A manual request may probe before the pause ends.
    pub fn request_permit(&mut self, now: Moment, person: bool) -> BreakerPermit {
        let (at, reason) = match &self.state {
            BreakerState::Closed => return BreakerPermit::Proceed,
            BreakerState::Open { until, reason } => (if person { now } else { *until }, reason),
            BreakerState::Probing { since, reason } => (since.plus(PROBE_TIMEOUT), reason),
        };
        if now < at {
            return BreakerPermit::Wait(at);
        }
        self.state = BreakerState::Probing { since: now, reason: reason.clone() };
        BreakerPermit::Probe
    }

    /// Records a failure of the backend's own. Returns the length of the pause if this opened
    /// the breaker.
    ///
    /// `random` (0 to 1) is the jitter. A wait that the service asked for is a minimum, as
    /// in [`Backoff::wait`].
    pub fn record_failure(
        &mut self,
        now: Moment,
        failure: FailureKind,
        reason: &str,
        random: f64,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        let count = match failure {
            FailureKind::Call => &mut self.calls,
            FailureKind::Run => &mut self.runs,
        };
        *count = count.saturating_add(1);
        let over = self.calls.max(self.runs) >= THRESHOLD;
        // A failure while it is open is no news: the call began earlier, or belongs to a job that
        // was already sent.
        if matches!(self.state, BreakerState::Open { .. }) || !over {
            return None;
        }
        self.openings = self.openings.saturating_add(1);
        let wait = Backoff::new(PAUSE.0, PAUSE.1).wait(self.openings, random, retry_after);
        self.state = BreakerState::Open { until: now.plus(wait), reason: reason.to_owned() };
        Some(wait)
    }

    /// Records a good answer to a call that costs nothing: the backend is back, on trial. Returns
    /// whether this closed the breaker.
    pub fn record_probe_success(&mut self) -> bool {
        if self.state == BreakerState::Closed {
            // Status calls of an active job succeed all the time; failed submits in between must
            // still count in a row.
            return false;
        }
        self.calls = self.calls.min(THRESHOLD - 1);
        self.runs = self.runs.min(THRESHOLD - 1);
        self.state = BreakerState::Closed;
        true
    }

    /// Records that a request was accepted. Returns whether this closed the breaker.
    pub fn record_accepted(&mut self) -> bool {
        self.calls = 0;
        if self.runs == 0 {
            self.openings = 0;
        }
        std::mem::take(&mut self.state) != BreakerState::Closed
    }

    /// Records that a run ended without a failure of the backend's own. Returns whether this closed
    /// the breaker.
    pub fn record_run(&mut self) -> bool {
        self.runs = 0;
        self.record_accepted()
    }
}

#[cfg(test)]
mod tests;
