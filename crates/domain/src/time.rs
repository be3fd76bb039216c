//! Time as a value: [`Moment`] for durations, [`WallTime`] for dates.
//!
//! Owns the two kinds of time and nothing that reads a clock: every function of the domain gets the
//! time from its caller, so that a test can simulate a year in a microsecond.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on a clock that never jumps and that keeps counting while the machine sleeps
/// (microseconds since an arbitrary start). For debounce windows, time-outs and back-off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Creates a moment from microseconds since the clock's own start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Creates a moment from milliseconds since the clock's own start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Returns the microseconds since the clock's own start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns the time since `earlier`; zero if it is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Returns the moment `span` later; the last possible one if that would overflow.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// Returns the moment `span` earlier; the start of the clock if that would underflow.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

/// Civil time: milliseconds since 1970-01-01 UTC. It may jump, so it is only used for texts, for
/// civil days, and for values that must outlive the process.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallTime(i64);

impl WallTime {
    /// Creates a wall time from Unix milliseconds.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the Unix milliseconds.
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// Returns the time since `earlier`; zero if it is in the future (a clock set back).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Returns the wall time `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns the wall time `span` earlier.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Both clocks, read at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For measuring durations.
    pub moment: Moment,
    /// For people and for the ledger.
    pub wall: WallTime,
}
