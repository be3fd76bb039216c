//! Decides when to poll a job's status next.
//!
//! Owns the rhythm of status calls: frequent in the first seconds (a request that is refused or
//! answered from a cache ends there), frequent around the expected end, infrequent in between. Each
//! call costs the service something, and each late one costs the artist a wait; the numbers below
//! spend about forty calls on a job of half a minute.
//!
//! It reads no clock: ages are arguments. It is not a rate limit (which counts across all projects)
//! and not a back-off after failed calls ([`super::backoff`]).
//!
//! Alternatives considered: a constant interval of 500 ms is fast enough, but needs 60 calls in 30
//! s and 600 in a cold start of 5 minutes; an interval that grows with the age alone is slowest
//! exactly when the job ends; polling only at the learned end needs the fewest calls, but is worst
//! when a setting changed and the run now takes half as long.

use std::time::Duration;

use crate::money::estimate::DurationSpread;

/// The phase of a job, with its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollStage {
    /// It waits for a machine, or the machine is starting.
    Queued {
        /// Time since the request was sent.
        age: Duration,
    },
    /// A machine is executing it.
    Running {
        /// Time since the daemon first observed the run.
        age: Duration,
        /// How long earlier runs took from then to their end.
        expected: Option<DurationSpread>,
    },
}

/// The shortest and the longest wait between two status calls
/// (`serverless.poll_min_ms`, `poll_max_ms`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollInterval {
    min: Duration,
    max: Duration,
}

/// The waits right after the submit. They add up to two seconds.
const FIRST: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(500),
    Duration::from_millis(500),
];

/// The wait without any knowledge: half a minute then takes about forty calls, and half of it, the
/// median delay after the end, is below the half second that the daemon promises.
const DEFAULT_WAIT: Duration = Duration::from_millis(850);

/// Without any knowledge, a wait is also at least this fraction of the age: after five minutes,
/// five seconds more do not matter.
const DEFAULT_WAIT_DIVISOR: u32 = 40;

/// The most calls within the window of the expected end: a narrow window gets the shortest wait and
/// far fewer calls.
const MAX_WINDOW_POLLS: u32 = 40;

impl PollInterval {
    /// Creates a pace that never waits less than `min` or more than `max` (which is at
    /// least `min`).
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min) }
    }

    /// Returns the wait from the last answer to the next status call.
    pub fn next_poll(&self, stage: PollStage) -> Duration {
        let wait = match stage {
            PollStage::Queued { age } => early_wait(age).unwrap_or_else(|| default_wait(age)),
            PollStage::Running { age, expected: None } => default_wait(age),
            PollStage::Running { age, expected: Some(spread) } => self.estimated_wait(age, spread),
        };
        wait.clamp(self.min, self.max)
    }

    /// Returns a long wait before the window in which runs end, a short one inside it, and growing
    /// ones after it.
    fn estimated_wait(&self, age: Duration, spread: DurationSpread) -> Duration {
        // The margin is a tenth on both sides: the start of a run is known only to within one wait,
        // and a few runs in the ledger are not a distribution yet.
        let margin = (spread.median / 10).max(Duration::from_secs(1));
        let opens = spread.p10.saturating_sub(margin);
        let closes = spread.p90.max(spread.median).saturating_add(margin);
        let quick = (closes.saturating_sub(opens) / MAX_WINDOW_POLLS).max(self.min);
        if age < opens {
            // Some runs end far too early (another number of steps): they are detected within a
            // fifteenth of the usual time. The last wait is shortened so that the window begins
            // with a call.
            let slow = (spread.median / 15).max(quick);
            return slow.min(opens.saturating_sub(age));
        }
        quick.max(age.saturating_sub(closes) / 10)
    }
}

/// Returns the wait within the first two seconds; `None` after them.
fn early_wait(age: Duration) -> Option<Duration> {
    let mut due = Duration::ZERO;
    FIRST.into_iter().find(|wait| {
        // The tolerance is half a step: an answer takes time, and that must not cause an
        // extra call.
        let is_next = age < due.saturating_add(*wait / 2);
        due = due.saturating_add(*wait);
        is_next
    })
}

fn default_wait(age: Duration) -> Duration {
    DEFAULT_WAIT.max(age / DEFAULT_WAIT_DIVISOR)
}

#[cfg(test)]
mod tests;
