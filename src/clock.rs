//! Reads the clocks; no other file does.
//!
//! [`Clock::now`] returns both kinds of time of [`crate::domain::time`]: one that never jumps and
//! keeps counting while the machine sleeps, so that a time-out of 15 minutes is 15 minutes with the
//! lid closed too, and the wall clock for people.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::time::{Moment, Now, WallTime};

/// The offset of all moments: twelve days after zero, so that "an hour ago" exists right
/// after a boot.
const OFFSET_MICROS: u64 = 1 << 40;

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Reads both clocks.
    pub fn now(self) -> Now {
        Now {
            moment: Moment::from_micros(OFFSET_MICROS.saturating_add(imp::micros())),
            wall: wall(),
        }
    }

    /// Reads the clock that systemd uses for its messages (`CLOCK_MONOTONIC`, in microseconds);
    /// `None` on systems without systemd.
    pub fn monotonic_micros(self) -> Option<u64> {
        imp::monotonic_micros()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the file that owns the wall clock")]
fn wall() -> WallTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod imp {
    //! `CLOCK_BOOTTIME` keeps counting while the machine sleeps.

    use rustix::time::{ClockId, clock_gettime};

    pub(super) fn micros() -> u64 {
        read(ClockId::Boottime)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the same shape as where there is none")]
    pub(super) fn monotonic_micros() -> Option<u64> {
        Some(read(ClockId::Monotonic))
    }

    fn read(clock: ClockId) -> u64 {
        let time = clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds
            .saturating_mul(1_000_000)
            .saturating_add(u64::try_from(time.tv_nsec / 1000).unwrap_or(0))
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod imp {
    //! No clock of the standard library counts sleep on these systems, so forward jumps of the wall
    //! clock replace it: the result is a monotonic reading, or the time since the first reading by
    //! the wall clock, whichever is later.

    #![expect(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "this is the file that owns the clocks"
    )]

    use std::{
        sync::OnceLock,
        time::{Instant, SystemTime},
    };

    static START: OnceLock<(Instant, SystemTime)> = OnceLock::new();

    pub(super) fn monotonic_micros() -> Option<u64> {
        None
    }

    pub(super) fn micros() -> u64 {
        use std::sync::atomic::{AtomicU64, Ordering};
        static LATEST: AtomicU64 = AtomicU64::new(0);
        let (instant, wall) = START.get_or_init(|| (Instant::now(), SystemTime::now()));
        let monotonic = instant.elapsed();
        let civil = wall.elapsed().unwrap_or_default();
        let reading = u64::try_from(monotonic.max(civil).as_micros()).unwrap_or(u64::MAX);
        LATEST.fetch_max(reading, Ordering::Relaxed).max(reading)
    }
}
