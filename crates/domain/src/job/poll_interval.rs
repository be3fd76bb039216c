//! When to ask next how a job stands.
//!
//! Owns the rhythm of status calls: quick in the first seconds (a request that is refused or answered from a cache ends
//! there), quick around the expected end, slow in between. Each call costs the service something and each late one
//! costs the artist a wait; the numbers below spend about forty calls on a job of half a minute.
//!
//! It reads no clock: ages are arguments. It is no rate limit (that counts over all projects) and no back-off after
//! failed calls ([`super::backoff`]).
//!
//! Alternatives weighed: a constant interval of 500 ms is quick enough and makes 60 calls in 30 s and 600 in a cold
//! start of 5 minutes; an interval that grows with the age alone is slowest exactly when the job ends; asking only at the
//! learned end is the cheapest and worst when a setting changed and the run now takes half as long.

use std::time::Duration;

use crate::money::estimate::Spread;

/// Where the job is, with its ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for a machine, or a machine boots; the age since the submit.
    Queued {
        /// Time since the request was sent.
        age: Duration,
    },
    /// A machine works on it.
    Running {
        /// Time since the daemon first saw it run.
        age: Duration,
        /// How long earlier runs took from there to their end.
        expected: Option<Spread>,
    },
}

/// The shortest and the longest wait between two status calls (`serverless.poll_min_ms`, `poll_max_ms`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    min: Duration,
    max: Duration,
}

/// The waits right after the submit. They sum up to two seconds.
const FIRST: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(500),
    Duration::from_millis(500),
];

/// The wait when nothing is known: half a minute then takes some forty calls, and half of it, the median delay
/// after the end, is below the half second that the daemon promises.
const BLIND: Duration = Duration::from_millis(850);

/// When nothing is known, a wait is also this share of the age: who has waited five minutes does not mind five seconds.
const BLIND_SHARE: u32 = 40;

/// The most calls inside the window of the expected end: a narrow window gets the shortest wait and far fewer.
const WINDOW_CALLS: u32 = 40;

impl Pace {
    /// Makes a pace that never waits less than `min` nor more than `max` (at least `min`).
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min) }
    }

    /// Returns the wait from the last answer to the next status call.
    pub fn next_poll(&self, stage: Stage) -> Duration {
        let wait = match stage {
            Stage::Queued { age } => first(age).unwrap_or_else(|| blind(age)),
            Stage::Running { age, expected: None } => blind(age),
            Stage::Running { age, expected: Some(spread) } => self.informed(age, spread),
        };
        wait.clamp(self.min, self.max)
    }

    /// Slow until the window in which runs end, quick inside it, slower and slower after it.
    fn informed(&self, age: Duration, spread: Spread) -> Duration {
        // A tenth on both sides: the start of a run is only known to within one wait, and a few runs in the ledger
        // are no distribution yet.
        let margin = (spread.median / 10).max(Duration::from_secs(1));
        let opens = spread.p10.saturating_sub(margin);
        let closes = spread.p90.max(spread.median).saturating_add(margin);
        let quick = (closes.saturating_sub(opens) / WINDOW_CALLS).max(self.min);
        if age < opens {
            // Runs that end far too early happen (another number of steps): they are found within a fifteenth of
            // the usual time. The last wait is cut so that the window begins with a call.
            let slow = (spread.median / 15).max(quick);
            return slow.min(opens.saturating_sub(age));
        }
        quick.max(age.saturating_sub(closes) / 10)
    }
}

/// Returns the wait within the first two seconds; `None` after them.
fn first(age: Duration) -> Option<Duration> {
    let mut due = Duration::ZERO;
    FIRST.into_iter().find(|wait| {
        // Half a step of tolerance: an answer takes its time, and a call is not worth repeating for it.
        let is_next = age < due.saturating_add(*wait / 2);
        due = due.saturating_add(*wait);
        is_next
    })
}

fn blind(age: Duration) -> Duration {
    BLIND.max(age / BLIND_SHARE)
}

#[cfg(test)]
mod tests;
