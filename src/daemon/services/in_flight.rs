//! How many jobs may be at the services at once, over all projects (`max_in_flight`).
//!
//! Owns the count. The engine starts no more jobs than that; this is the permit at the last moment,
//! before a request is marked as about to leave, so that jobs of an earlier session, which the
//! engine did not start, keep the limit too.

use std::sync::{Arc, Mutex, PoisonError};

/// The jobs that are at a service, or about to be.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<u32>);

/// A job's place among them; dropping it makes room for another one.
#[derive(Debug)]
pub(crate) struct Slot(Arc<InFlight>);

impl InFlight {
    /// Takes a place if fewer than `most` are taken.
    pub(crate) fn take(self: &Arc<Self>, most: u32) -> Option<Slot> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (*taken < most).then(|| {
            *taken += 1;
            Slot(Arc::clone(self))
        })
    }

    /// Takes a place for a request that is at a service already, whatever the limit says.
    pub(crate) fn count(self: &Arc<Self>) -> Slot {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Slot(Arc::clone(self))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_are_sent_and_what_was_sent_before_counts() {
        let in_flight = Arc::new(InFlight::default());
        let resumed = in_flight.count();
        assert!(in_flight.take(1).is_none(), "an earlier session's request is one of them");
        let second = in_flight.take(2);
        assert!(second.is_some() && in_flight.take(2).is_none());
        drop(resumed);
        let third = in_flight.take(2);
        assert!(third.is_some(), "an end makes room");
        assert!(in_flight.take(2).is_none());
    }
}
