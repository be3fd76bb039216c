//! Time as a value: [`Moment`] for "how long", [`WallTime`] for "when".
//!
//! Owns the two kinds of time and nothing that reads a clock: every function of the domain is told
//! the time by its caller, so that a test can let a year pass in a microsecond.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on a clock that never jumps and that counts the sleep of the machine (microseconds since an
/// arbitrary start). For windows, patience and back-off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Makes a moment from microseconds since the clock's own start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Makes a moment from milliseconds since the clock's own start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Returns the microseconds since the clock's own start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns how long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Returns the moment `span` later; the end of time when that would overflow.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// Returns the moment `span` earlier; the start of the clock when that would underflow.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

/// Civil time: milliseconds since 1970-01-01 UTC. It may jump; only for what people read, for civil days,
/// and for what must outlive the process.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallTime(i64);

impl WallTime {
    /// Makes a wall time from Unix milliseconds.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns Unix milliseconds.
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// Returns how long ago `earlier` was; zero when it lies ahead (a clock set back).
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

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For measuring.
    pub moment: Moment,
    /// For people and for the ledger.
    pub wall: WallTime,
}
