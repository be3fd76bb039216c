//! Computes the cost of a rented machine: per second, from ready until the service accepted
//! the stop.
//!
//! Owns the arithmetic and the prices of the Server API's machine types. The ledger decides what
//! happens to a reservation.

use std::time::Duration;

use super::{BillingPlan, MicroUsd, Tier, cost_of, job_cost::CostBasis};

/// The price tier for each machine type of the Server API. The reference marks this as inferred:
/// the two lists of names were never seen side by side.
const PRICE_TIERS: [(&str, &str); 5] = [
    ("medium", "medium"),
    ("large", "large"),
    ("extra-large", "x-large"),
    ("2x-large", "2x-large"),
    ("2xl-turbo", "2x-large-plus"),
];

/// Returns the price per hour of a machine type; an unknown type costs as much as the most
/// expensive one.
pub fn hourly_price(server_type: &str, plan: BillingPlan) -> MicroUsd {
    let tier = PRICE_TIERS.iter().find(|(name, _)| *name == server_type);
    let tier = tier.and_then(|(_, tier)| Tier::find(tier));
    let dearest = || super::TIERS.iter().map(|tier| tier.hourly(plan)).max();
    tier.map(|tier| tier.hourly(plan)).or_else(dearest).unwrap_or_default()
}

/// What is known about the billed time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BilledTime {
    /// The longest possible time from ready to the accepted stop, using the earliest possible begin
    /// and the latest possible end where one was not observed.
    pub max: Duration,
    /// Whether both ends were observed.
    pub is_exact: bool,
}

/// Returns the cost. A started second counts as a whole one.
pub fn server_cost(ran: BilledTime, hourly: MicroUsd) -> (MicroUsd, CostBasis) {
    let seconds = ran.max.as_millis().div_ceil(1000);
    let span = Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX));
    let basis = match (span.is_zero(), ran.is_exact) {
        (true, true) => CostBasis::Nothing,
        (_, true) => CostBasis::Measured,
        (_, false) => CostBasis::Bounded,
    };
    (cost_of(span, hourly), basis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_price_and_an_unknown_one_the_highest() {
        let table = [
            ("medium", 99),
            ("large", 175),
            ("extra-large", 250),
            ("2x-large", 499),
            ("2xl-turbo", 749),
            ("of tomorrow", 875),
        ];
        for (name, cents) in table {
            assert_eq!(
                hourly_price(name, BillingPlan::Hobby),
                MicroUsd::from_cents(cents),
                "{name}"
            );
        }
    }

    #[test]
    fn a_second_that_was_begun_is_paid() {
        let hourly = MicroUsd(3_600_000);
        let ran = |millis, seen| BilledTime { max: Duration::from_millis(millis), is_exact: seen };
        assert_eq!(server_cost(ran(1, true), hourly), (MicroUsd(1000), CostBasis::Measured));
        assert_eq!(server_cost(ran(61_000, false), hourly), (MicroUsd(61_000), CostBasis::Bounded));
        assert_eq!(server_cost(ran(0, true), hourly), (MicroUsd(0), CostBasis::Nothing));
    }
}
