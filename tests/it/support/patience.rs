//! Waiting for a condition, with a deadline.
//!
//! Owns the only knob: `CONJURED_TEST_PATIENCE_S`, how many seconds a condition may take before its
//! test fails. A passing test never waits that long, so the default is generous.

use std::time::Duration;

use conjured::clock::Clock;

/// How often a condition is checked.
const PACE: Duration = Duration::from_millis(4);

/// Returns how long a condition may take.
pub(crate) fn patience() -> Duration {
    let seconds = std::env::var("CONJURED_TEST_PATIENCE_S").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(120))
}

/// Waits until `look` returns something, and fails the test at the deadline.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(patience(), what, look)
}

/// Waits like [`eventually`], for something that the program itself may delay for that long.
#[track_caller]
pub(crate) fn in_the_end<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(patience() * 3, what, look)
}

#[track_caller]
fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Clock.now().moment.plus(patience);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Clock.now().moment < end, "waited {patience:?} in vain: {what}");
        std::thread::park_timeout(PACE);
    }
}

/// Fails the test if `holds` is ever false during `span`: for what must *not* happen.
#[track_caller]
pub(crate) fn stays(span: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Clock.now().moment.plus(span);
    while Clock.now().moment < end {
        assert!(holds(), "it did not stay so: {what}");
        std::thread::park_timeout(PACE.min(span));
    }
}
