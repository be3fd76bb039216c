//! Computes how long to wait before a retry.
//!
//! Owns the growth, the jitter and the upper limit. It reads no clock and draws no randomness (both
//! are arguments), and it does not know what may be retried: the caller does.

use std::time::Duration;

/// The longest wait that a service may ask for. Anything longer is a mistake or an attempt to stop
/// us for good, and the artist's job must not be blocked for a day: a request every 15 minutes
/// harms no service.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(900);

/// An exponential back-off with an upper limit. It cannot be built so that it never waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// The shortest first wait: below that a retry is a busy loop.
    const MIN_WAIT: Duration = Duration::from_millis(10);

    /// The highest possible limit. A day is very long for a waiting person, and far from
    /// any overflow.
    const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

    /// Creates a back-off that begins around `first`, doubles with each failure and stops growing
    /// at `ceiling`.
    pub fn new(first: Duration, ceiling: Duration) -> Self {
        let first = first.clamp(Self::MIN_WAIT, Self::MAX_WAIT);
        let ceiling = ceiling.min(Self::MAX_WAIT);
        Self { first, ceiling: ceiling.max(first) }
    }

    /// Returns the wait after `failures` failures in a row (1 for the first).
    ///
    /// Half of it is fixed and half is jitter: `random` (0 to 1) selects the point, so that many
    /// daemons that lost the same service do not return at the same time. A wait that the service
    /// asked for is a minimum, capped at [`RETRY_AFTER_CAP`]; it may exceed the ceiling, because
    /// the service knows best.
    pub fn wait(&self, failures: u32, random: f64, retry_after: Option<Duration>) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let grown = self.first.saturating_mul(1 << doublings).min(self.ceiling);
        let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 1.0 };
        let jittered = grown / 2 + (grown / 2).mul_f64(random);
        retry_after.map_or(jittered, |asked| jittered.max(asked.min(RETRY_AFTER_CAP)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_secs(1), ceiling: Duration::from_secs(60) };

    #[test]
    fn each_failure_doubles_the_wait_up_to_the_ceiling() {
        let waits: Vec<u64> = (1..=8).map(|n| BACKOFF.wait(n, 1.0, None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn jitter_moves_the_wait_between_its_half_and_its_whole() {
        assert_eq!(BACKOFF.wait(3, 0.0, None), Duration::from_secs(2));
        assert_eq!(BACKOFF.wait(3, 0.5, None), Duration::from_secs(3));
        assert_eq!(BACKOFF.wait(3, 1.0, None), Duration::from_secs(4));
    }

    #[test]
    fn what_the_service_asks_for_is_a_floor_with_a_cap() {
        let asked = |seconds| BACKOFF.wait(1, 1.0, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(0), Duration::from_secs(1), "it never shortens our own wait");
        assert_eq!(asked(90), Duration::from_secs(90), "it may exceed our ceiling");
        assert_eq!(asked(u64::MAX), RETRY_AFTER_CAP);
    }

    #[test]
    fn a_back_off_of_nothing_still_waits() {
        let nothing = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert!(nothing.wait(1, 0.0, None) >= Duration::from_millis(5));
    }

    proptest! {
        #[test]
        fn no_argument_breaks_the_bounds(
            failures: u32,
            random: f64,
            first: Duration,
            ceiling: Duration,
            asked: Option<Duration>,
        ) {
            let backoff = Backoff::new(first, ceiling);
            let wait = backoff.wait(failures, random, asked);
            prop_assert!(wait >= Duration::from_millis(5));
            prop_assert!(wait <= backoff.ceiling.max(RETRY_AFTER_CAP));
            prop_assert!(backoff.ceiling <= Backoff::MAX_WAIT);
        }

        #[test]
        fn another_failure_never_shortens_the_wait(failures in 0_u32..100, random in 0.0..1.0) {
            let now = BACKOFF.wait(failures, random, None);
            prop_assert!(BACKOFF.wait(failures + 1, random, None) >= now);
        }
    }
}
