//! The properties of a deployment that affect money: its machine, its keep-warm time, and how many
//! machines never sleep.
//!
//! Owns the facts and the precedence between them and the configuration. The backend queries
//! the service.

use std::time::Duration;

use crate::money::{BillingPlan, MicroUsd, Tier, estimate::DEFAULT_KEEP_WARM};

/// The facts that the service reports about a deployment. An answer may lack any of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentFacts {
    /// The machine's SKU.
    pub hardware: Option<String>,
    /// How long a machine idles before it sleeps.
    pub keep_warm: Option<Duration>,
    /// The number of machines that never sleep.
    pub min_instances: Option<u32>,
    /// The maximum number of machines.
    pub max_instances: Option<u32>,
    /// Whether it accepts work.
    pub is_enabled: Option<bool>,
}

/// The configured price settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceSettings {
    /// `budget.hourly_usd`, unless 0.
    pub hourly: Option<MicroUsd>,
    /// `budget.hardware`.
    pub hardware: &'static Tier,
    /// Whether `budget.hardware` is configured, and not left at its default.
    pub hardware_is_set: bool,
    /// `budget.plan`.
    pub plan: BillingPlan,
}

/// Where a rate or a time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateSource {
    /// `budget.hourly_usd`.
    Hourly,
    /// `budget.hardware` and the price table.
    Configured,
    /// The deployment's own record.
    Deployment,
    /// The default: it is not configured and the service has not reported it.
    Default,
}

impl RateSource {
    /// Returns its text, to follow "from".
    pub const fn label(self) -> &'static str {
        match self {
            Self::Hourly => "budget.hourly_usd",
            Self::Configured => "budget.hardware",
            Self::Deployment => "the deployment",
            Self::Default => "the default",
        }
    }
}

/// The terms of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceRate {
    /// The price of the machine per hour.
    pub hourly: MicroUsd,
    /// The source of the price.
    pub hourly_from: RateSource,
    /// The machine with this price, unless the rate itself is configured.
    pub hardware: Option<&'static Tier>,
    /// How long a machine idles before it sleeps.
    pub keep_warm: Duration,
    /// The source of that time.
    pub keep_warm_from: RateSource,
    /// Whether a machine never sleeps: then no job waits for one, and its standing cost belongs
    /// to no job.
    pub never_sleeps: bool,
}

/// Returns the terms: the configuration has precedence over the deployment's facts, and those over
/// the defaults.
pub fn rate(wanted: &PriceSettings, facts: Option<&DeploymentFacts>) -> PriceRate {
    let reported = facts.and_then(|facts| Tier::find(facts.hardware.as_deref()?));
    let (hardware, from) = match (wanted.hardware_is_set, reported) {
        (true, _) => (wanted.hardware, RateSource::Configured),
        (false, Some(reported)) => (reported, RateSource::Deployment),
        (false, None) => (wanted.hardware, RateSource::Default),
    };
    let keep_warm = facts.and_then(|facts| facts.keep_warm);
    PriceRate {
        hourly: wanted.hourly.unwrap_or_else(|| hardware.hourly(wanted.plan)),
        hourly_from: if wanted.hourly.is_some() { RateSource::Hourly } else { from },
        hardware: wanted.hourly.is_none().then_some(hardware),
        keep_warm: keep_warm.unwrap_or(DEFAULT_KEEP_WARM),
        keep_warm_from: if keep_warm.is_some() {
            RateSource::Deployment
        } else {
            RateSource::Default
        },
        never_sleeps: facts.and_then(|facts| facts.min_instances).is_some_and(|min| min > 0),
    }
}

/// Returns the warnings that a person should see about a deployment's facts.
pub fn warnings(wanted: &PriceSettings, facts: &DeploymentFacts) -> Vec<String> {
    let mut warnings = Vec::new();
    let sku = facts.hardware.as_deref().unwrap_or_default();
    match Tier::find(sku) {
        Some(reported) if wanted.hourly.is_none() && wanted.hardware_is_set && reported != wanted.hardware => {
            warnings.push(format!(
                "the deployment runs on {} ({}), but `budget.hardware` is {} ({}): jobs are booked at {} per hour instead of {}",
                reported.name,
                reported.sku,
                wanted.hardware.name,
                wanted.hardware.sku,
                wanted.hardware.hourly(wanted.plan),
                reported.hourly(wanted.plan)
            ));
        }
        None if !sku.is_empty() && wanted.hourly.is_none() => warnings.push(format!(
            "the deployment runs on {sku:.40?}, whose price is unknown: set `budget.hourly_usd`; until then jobs are \
             booked at {} per hour",
            wanted.hardware.hourly(wanted.plan)
        )),
        Some(_) | None => {}
    }
    if facts.is_enabled == Some(false) {
        warnings.push(
            "the deployment is disabled: jobs will be refused until it is enabled".to_owned(),
        );
    }
    if let Some(min @ 1..) = facts.min_instances {
        warnings.push(format!(
            "the deployment keeps {min} machine(s) awake all the time (`min_instances`): this cost belongs to no job, \
             and `conjured cost` does not include it"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(hourly: Option<i64>, is_set: bool) -> PriceSettings {
        let hardware = Tier::find("x-large").expect("a tier");
        let hourly = hourly.map(MicroUsd::from_cents);
        PriceSettings { hourly, hardware, hardware_is_set: is_set, plan: BillingPlan::Pro }
    }

    #[test]
    fn what_a_person_wrote_wins_over_the_deployment_and_that_over_the_default() {
        let reported = DeploymentFacts {
            hardware: Some("ADA_48_PLUS".into()),
            keep_warm: Some(Duration::from_secs(300)),
            ..DeploymentFacts::default()
        };
        let cents = |wanted: &PriceSettings, facts| {
            let rate = rate(wanted, facts);
            (rate.hourly.0 / 10_000, rate.hourly_from)
        };
        assert_eq!(cents(&wanted(Some(42), true), Some(&reported)), (42, RateSource::Hourly));
        assert_eq!(cents(&wanted(None, true), Some(&reported)), (199, RateSource::Configured));
        assert_eq!(cents(&wanted(None, false), Some(&reported)), (215, RateSource::Deployment));
        assert_eq!(cents(&wanted(None, false), None), (199, RateSource::Default));
        let strange =
            DeploymentFacts { hardware: Some("QUANTUM_1".into()), ..DeploymentFacts::default() };
        assert_eq!(cents(&wanted(None, false), Some(&strange)), (199, RateSource::Default));
        assert_eq!(rate(&wanted(None, false), Some(&reported)).keep_warm, Duration::from_secs(300));
        assert_eq!(
            warnings(&wanted(None, true), &reported).len(),
            1,
            "another machine than configured"
        );
        assert_eq!(warnings(&wanted(None, false), &reported), Vec::<String>::new());
        assert_eq!(warnings(&wanted(None, false), &strange).len(), 1, "a machine without a price");
    }

    #[test]
    fn a_machine_that_never_sleeps_is_said_to_cost_round_the_clock() {
        let facts = DeploymentFacts {
            min_instances: Some(1),
            is_enabled: Some(false),
            ..DeploymentFacts::default()
        };
        assert!(rate(&wanted(None, false), Some(&facts)).never_sleeps);
        assert_eq!(warnings(&wanted(None, false), &facts).len(), 2);
    }
}
