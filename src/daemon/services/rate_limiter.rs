//! The client-side rate limit: one submit and five status calls per second, over all projects.
//!
//! Owns the spacing of calls, not their number or priority: calls pass in the order in which
//! they arrive.

use std::{sync::Mutex, time::Duration};

use crate::{clock::Clock, domain::time::Moment};

/// Lets one call pass in each interval.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    interval: Duration,
    clock: Clock,
    /// A plain mutex, because it is never held across an await.
    next: Mutex<Moment>,
}

impl RateLimiter {
    pub(crate) fn new(interval: Duration, clock: Clock) -> Self {
        Self { interval, clock, next: Mutex::new(Moment::default()) }
    }

    /// Takes the next slot and returns the delay until then; zero means now.
    pub(crate) fn reserve(&self) -> Duration {
        let now = self.clock.now().moment;
        // A poisoned lock still contains a valid moment.
        let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let place = (*next).max(now);
        *next = place.plus(self.interval);
        place.since(now)
    }

    /// Waits for the next slot.
    pub(crate) async fn wait(&self) {
        let wait = self.reserve();
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_passes_at_once_and_the_others_are_spaced() {
        let limiter = RateLimiter::new(Duration::from_secs(3600), Clock);
        assert_eq!(limiter.reserve(), Duration::ZERO);
        assert!(limiter.reserve() > Duration::from_secs(3590));
        assert!(limiter.reserve() > Duration::from_secs(7190));
    }
}
