//! Billing: what the machines have cost so far, and what is left of the balance.
//!
//! Owns the arithmetic of the bill (per second, from the wake signal to the shutdown, cold start
//! and keep-warm included) and the check that refuses submits when the balance is empty. Which
//! machines were awake is decided in [`super::queue`].

use std::time::Duration;

use conjured_domain::{
    money::{MicroUsd, cost_of},
    time::Moment,
};

use super::queue::{Queue, Span};

/// Returns what `span` costs: every second begun is billed in full.
pub(crate) fn cost(span: Span, hourly: MicroUsd) -> MicroUsd {
    let seconds = span.to.since(span.from).as_micros().div_ceil(1_000_000);
    cost_of(Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX)), hourly)
}

/// Returns the bill so far.
pub(crate) fn bill(queue: &mut Queue, now: Moment, hourly: MicroUsd) -> MicroUsd {
    queue.spans(now).map(|span| cost(span, hourly)).sum()
}

/// Whether the deployment accepts work, and which refusal it answers with if not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It accepts work.
    Open,
    /// The balance is used up and the deployment is being disabled: 10001.
    OutOfFunds,
    /// It is disabled: 10002. Topping up does not re-enable it.
    Disabled,
}

/// Decides whether a submit is accepted.
pub(crate) const fn gate(enabled: bool, balance: MicroUsd) -> Admission {
    match (enabled, balance.0 <= 0) {
        (false, _) => Admission::Disabled,
        (true, true) => Admission::OutOfFunds,
        (true, false) => Admission::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_begun_is_paid_and_an_empty_wallet_closes_the_gate() {
        let hourly = MicroUsd(3_600_000);
        let span = |millis| Span { from: Moment::default(), to: Moment::from_millis(millis) };
        assert_eq!(cost(span(1), hourly), MicroUsd(1000));
        assert_eq!(cost(span(61_000), hourly), MicroUsd(61_000));
        assert_eq!(gate(true, MicroUsd(0)), Admission::OutOfFunds, "0 is a balance, and no credit");
        assert_eq!(gate(false, MicroUsd(5)), Admission::Disabled, "topping up does not enable");
        assert_eq!(gate(true, MicroUsd(1)), Admission::Open);
    }
}
