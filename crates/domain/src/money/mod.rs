//! Money as integer micro-dollars, and the price table of the hardware.
//!
//! Owns the unit and the published hourly rates. It does not estimate ([`super::money::estimate`])
//! or refuse anything ([`super::money::budget`]).

pub mod budget;
pub mod estimate;
pub mod job_cost;
pub mod server_cost;

use std::{fmt, iter::Sum, ops::Add, time::Duration};

use serde::{Deserialize, Serialize};

/// An amount of US dollars in millionths. Never negative in a ledger row; a balance may be.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MicroUsd(pub i64);

impl MicroUsd {
    /// Zero dollars.
    pub const ZERO: Self = Self(0);

    /// Creates an amount from whole cents.
    pub const fn from_cents(cents: i64) -> Self {
        Self(cents * 10_000)
    }

    /// Creates an amount from dollars as a person writes them; `None` if it is not finite, negative
    /// or absurdly high.
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        // The limit is a billion dollars: far above any budget, far below what an i64 of
        // micro-dollars can hold.
        if !dollars.is_finite() || !(0.0..=1e9).contains(&dollars) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most 1e15 after the check above")]
        Some(Self((dollars * 1e6).round() as i64))
    }

    /// Returns the difference, at least zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }
}

impl Add for MicroUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for MicroUsd {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for MicroUsd {
    /// Writes four decimal places: a second of the cheapest machine costs 0.0003 USD.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let ten_thousandths = self.0.unsigned_abs().saturating_add(50) / 100;
        write!(f, "{sign}{}.{:04} USD", ten_thousandths / 10_000, ten_thousandths % 10_000)
    }
}

/// The payment plan; Pro is 20 to 30 % cheaper per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BillingPlan {
    /// Pay as you go.
    #[default]
    Hobby,
    /// The monthly plan.
    Pro,
}

/// A hardware tier: its name in CONJURE's plan, RunComfy's SKU and its price per hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The name in `budget.hardware`.
    pub name: &'static str,
    /// RunComfy's name for the machine.
    pub sku: &'static str,
    /// The pay-as-you-go price per hour.
    pub hobby: MicroUsd,
    /// The price per hour on the Pro plan.
    pub pro: MicroUsd,
}

/// RunComfy's published hourly prices, 2026 (docs.runcomfy.com, "About billing").
pub const TIERS: [Tier; 7] = [
    tier("medium", "TURING_16", 99, 79),
    tier("large", "AMPERE_24", 175, 139),
    tier("x-large", "AMPERE_48", 250, 199),
    tier("x-large-plus", "ADA_48_PLUS", 299, 215),
    tier("2x-large", "AMPERE_80", 499, 399),
    tier("2x-large-plus", "ADA_80_PLUS", 749, 599),
    tier("3x-large", "HOPPER_141", 875, 699),
];

const fn tier(name: &'static str, sku: &'static str, hobby: i64, pro: i64) -> Tier {
    Tier { name, sku, hobby: MicroUsd::from_cents(hobby), pro: MicroUsd::from_cents(pro) }
}

impl Tier {
    /// Finds a tier by name or SKU, ignoring case and accepting `_` or a space for `-`.
    pub fn find(text: &str) -> Option<&'static Self> {
        let wanted = text.trim().to_ascii_lowercase().replace(['_', ' '], "-");
        TIERS.iter().find(|tier| {
            tier.name == wanted || tier.sku.to_ascii_lowercase().replace('_', "-") == wanted
        })
    }

    /// Returns the price per hour on `plan`.
    pub const fn hourly(&self, plan: BillingPlan) -> MicroUsd {
        match plan {
            BillingPlan::Hobby => self.hobby,
            BillingPlan::Pro => self.pro,
        }
    }
}

/// Returns the cost of `span` at `hourly`, rounded up so that an estimate is never too low.
pub fn cost_of(span: Duration, hourly: MicroUsd) -> MicroUsd {
    let micros = span.as_millis().saturating_mul(u128::try_from(hourly.0).unwrap_or(0));
    MicroUsd(i64::try_from(micros.div_ceil(3_600_000)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_costs_the_hourly_rate_and_a_second_is_rounded_up() {
        let rate = Tier::find("AMPERE_48").expect("a known tier").hourly(BillingPlan::Hobby);
        assert_eq!(cost_of(Duration::from_secs(3600), rate), MicroUsd(2_500_000));
        assert_eq!(cost_of(Duration::from_secs(1), rate), MicroUsd(695));
    }

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!(MicroUsd(1_250_050).to_string(), "1.2501 USD");
        assert_eq!(MicroUsd(-20_000).to_string(), "-0.0200 USD");
        assert_eq!(MicroUsd::from_dollars(5.0), Some(MicroUsd(5_000_000)));
        assert_eq!(MicroUsd::from_dollars(f64::NAN), None);
        assert_eq!(MicroUsd::from_dollars(-1.0), None);
    }
}
