//! When a backend that keeps failing is left alone, and when it is tried again.
//!
//! Owns the count, the growing wait and the three states of a [`Health`]. It reads no clock and draws no randomness
//! (both are arguments), it sends nothing, and it does not judge what is a backend's own fault: the caller does. A fault
//! of a workflow, an account, a token or a budget never comes here, for leaving the service alone would not mend it.
//!
//! - Three failures in a row open it: of calls (no connection, TLS, 5xx, 429, …), or of runs that the service itself lost
//!   (10000, 10007, 500001, …), which a good status call in between must not excuse.
//! - When the wait is over one caller may probe, with a call that costs nothing. A good answer closes the breaker *on
//!   trial*: the next failure opens it again, for longer. Only a request that was taken, or a run that ended well, wipes the slate.
//! - It lives in memory. A restart forgets it on purpose: a person who restarts wants it tried now, and all it can cost
//!   is three calls, none of them repeated where it may have been charged.

use std::time::Duration;

use super::backoff::Backoff;
use crate::time::Moment;

/// So many failures in a row open it.
pub const THRESHOLD: u32 = 3;

/// The first wait and the longest one.
const LEFT_ALONE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// How long a probe may take before another caller may probe: who began it may have been stopped.
const PROBE_PATIENCE: Duration = Duration::from_secs(60);

/// How a backend does, as `status` shows it and as routing between backends reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It is used.
    #[default]
    Closed,
    /// It is left alone.
    Open {
        /// Until when; then it is probed.
        until: Moment,
        /// What failed last.
        reason: String,
    },
    /// Someone asks at this moment whether it is back.
    Probing {
        /// Since when.
        since: Moment,
        /// What failed last.
        reason: String,
    },
}

/// What a caller that wants to send may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Send.
    Go,
    /// Ask something that costs nothing first, and tell [`Breaker::answered`] or [`Breaker::failed`].
    Probe,
    /// Ask again at that moment.
    Wait(Moment),
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A call brought no answer, or one that says that the service is in trouble.
    Call,
    /// A run that the service accepted, and then lost for a reason of its own.
    Run,
}

/// A circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    health: Health,
    calls: u32,
    runs: u32,
    /// Openings without a success that wiped the slate in between.
    openings: u32,
}

impl Breaker {
    /// Returns how the backend does.
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Tells whether a request may be sent. A person who asks for one is a good reason to probe before the time.
    pub fn ask(&mut self, now: Moment, person: bool) -> Permit {
        let (at, reason) = match &self.health {
            Health::Closed => return Permit::Go,
            Health::Open { until, reason } => (if person { now } else { *until }, reason),
            Health::Probing { since, reason } => (since.plus(PROBE_PATIENCE), reason),
        };
        if now < at {
            return Permit::Wait(at);
        }
        self.health = Health::Probing { since: now, reason: reason.clone() };
        Permit::Probe
    }

    /// Notes a failure for the backend's own reasons; returns how long it is left alone if this opened the breaker.
    ///
    /// `random` (0 to 1) is the jitter. A wait that the service asked for is a floor, as in [`Backoff::wait`].
    pub fn failed(
        &mut self,
        now: Moment,
        failure: Failure,
        reason: &str,
        random: f64,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        let count = match failure {
            Failure::Call => &mut self.calls,
            Failure::Run => &mut self.runs,
        };
        *count = count.saturating_add(1);
        let over = self.calls.max(self.runs) >= THRESHOLD;
        // What fails while it is open was under way before, or follows a job that was sent: no news.
        if matches!(self.health, Health::Open { .. }) || !over {
            return None;
        }
        self.openings = self.openings.saturating_add(1);
        let wait =
            Backoff::new(LEFT_ALONE.0, LEFT_ALONE.1).wait(self.openings, random, retry_after);
        self.health = Health::Open { until: now.plus(wait), reason: reason.to_owned() };
        Some(wait)
    }

    /// Notes a good answer to a call that cost nothing: it is back, on trial. Returns whether that closed the breaker.
    pub fn answered(&mut self) -> bool {
        if self.health == Health::Closed {
            // A job that is followed is answered all the time; submits that fail meanwhile are still three in a row.
            return false;
        }
        self.calls = self.calls.min(THRESHOLD - 1);
        self.runs = self.runs.min(THRESHOLD - 1);
        self.health = Health::Closed;
        true
    }

    /// Notes that a request was taken. Returns whether that closed the breaker.
    pub fn taken(&mut self) -> bool {
        self.calls = 0;
        if self.runs == 0 {
            self.openings = 0;
        }
        std::mem::take(&mut self.health) != Health::Closed
    }

    /// Notes that a run ended for no reason of the backend's own. Returns whether that closed the breaker.
    pub fn ran(&mut self) -> bool {
        self.runs = 0;
        self.taken()
    }
}

#[cfg(test)]
mod tests;
