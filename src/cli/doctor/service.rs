//! Checks RunComfy: the token, the balance, the deployment, and the local clock.
//!
//! Owns the judgement of four answers that cost nothing.

use super::{check::Check, token};
use crate::{
    cli::exit::{BAD_INPUT, CONFIGURATION, JOB_FAILED, TOKEN, TRY_AGAIN, UNAVAILABLE},
    config::settings::BudgetConfig,
    daemon::services::probes::{Deployment, ProbeError},
    domain::{
        machines::deployment::{DeploymentFacts, PriceSettings, RateSource, rate},
        money::{MicroUsd, Tier},
    },
};

/// At one minute nothing breaks, but log times and the budget's midnight are wrong.
const CLOCK_WARN_S: i64 = 60;

/// A quarter of an hour: signed download URLs are valid for about that long, and the local clock
/// decides whether certificates are valid.
const CLOCK_FAIL_S: i64 = 15 * 60;

/// Judges the balance, which also tests the token. `least` is what one job may cost by the limits.
pub(super) fn balance(
    answer: &Result<MicroUsd, ProbeError>,
    origin: &str,
    least: Option<MicroUsd>,
) -> Vec<Check> {
    const NAME: &str = "balance";
    match answer {
        Ok(balance) if balance.0 <= 0 => vec![
            Check::ok("api", format!("{origin} answers and accepts the token")),
            Check::fail(
                NAME,
                JOB_FAILED,
                format!("{balance}: RunComfy runs no job without a balance"),
                "top up on RunComfy's billing page, and re-enable the deployment if RunComfy has \
                 disabled it",
            ),
        ],
        Ok(balance) => {
            let api = Check::ok("api", format!("{origin} answers and accepts the token"));
            let thin = least.is_some_and(|least| *balance < least);
            vec![
                api,
                if thin {
                    Check::warn(
                        NAME,
                        format!("{balance}, less than one job may cost (budget.per_job_usd)"),
                        "top up on RunComfy's billing page: an empty balance disables the deployment",
                    )
                } else {
                    Check::ok(NAME, balance.to_string())
                },
            ]
        }
        Err(ProbeError::Token(message)) => vec![Check::fail(
            token::NAME,
            TOKEN,
            format!("RunComfy rejected it: {message}"),
            "copy it again from RunComfy's profile page and store it with `conjured login`",
        )],
        Err(ProbeError::Account(message) | ProbeError::Unknown(message)) => vec![Check::fail(
            "api",
            UNAVAILABLE,
            format!("{origin}: {message}"),
            "check `serverless.api_url` and the account on RunComfy's pages",
        )],
        Err(ProbeError::Unreachable(message)) => vec![Check::fail(
            "api",
            UNAVAILABLE,
            format!("{origin} cannot be reached: {message}"),
            "check the network, a proxy (HTTPS_PROXY), the firewall, and `serverless.api_url`; `conjured doctor --offline` checks the rest",
        )],
    }
}

/// Compares the local clock with the service's; both are in Unix seconds.
pub(super) fn clock(theirs: Option<i64>, ours: i64) -> Option<Check> {
    const NAME: &str = "clock";
    let off = ours.saturating_sub(theirs?);
    let way = if off > 0 { "ahead of" } else { "behind" };
    let span = crate::cli::out::span(std::time::Duration::from_secs(off.unsigned_abs()));
    let found = format!("this computer's clock is {span} {way} RunComfy's");
    let fix =
        "set the clock: `timedatectl set-ntp true`, or in the system's date and time settings";
    Some(match off.abs() {
        CLOCK_FAIL_S.. => Check::fail(NAME, TRY_AGAIN, found, fix),
        CLOCK_WARN_S.. => Check::warn(NAME, found, fix),
        _ => Check::ok(NAME, "agrees with RunComfy's"),
    })
}

pub(super) fn deployment(
    id: &str,
    answer: &Result<Deployment, ProbeError>,
    budget: &BudgetConfig,
) -> Vec<Check> {
    const NAME: &str = "deployment";
    let record = match answer {
        Ok(record) => record,
        Err(ProbeError::Unknown(message)) => {
            return vec![Check::fail(
                NAME,
                CONFIGURATION,
                format!("RunComfy knows no deployment {id} ({message})"),
                "set `serverless.deployment_id` to the id that RunComfy's dashboard shows; see docs/runcomfy.md",
            )];
        }
        Err(ProbeError::Account(message)) => {
            return vec![Check::fail(
                NAME,
                TOKEN,
                format!("no access to {id}: {message}"),
                "use the token of the account that owns the deployment, or another `serverless.deployment_id`; see docs/runcomfy.md",
            )];
        }
        Err(problem @ (ProbeError::Token(_) | ProbeError::Unreachable(_))) => {
            return vec![Check::skipped(NAME, format!("{id}: {}", problem.message()))];
        }
    };
    let name = record.name.as_deref().unwrap_or(id);
    let version = record.version.as_deref().unwrap_or("unknown");
    let mut checks = vec![match record.facts.is_enabled {
        Some(false) => Check::fail(
            NAME,
            JOB_FAILED,
            format!("{name} is disabled: RunComfy refuses every job"),
            "enable it on RunComfy's deployment page; an empty balance disables it, and topping \
             up does not re-enable it",
        ),
        _ => Check::ok(NAME, format!("{name}, workflow version {version}")),
    }];
    checks.extend(hardware(&record.facts, &budget.price_settings()));
    if let Some(kept) = record.facts.min_instances.filter(|kept| *kept > 0) {
        checks.push(Check::warn(
            NAME,
            format!("{kept} of its machines never sleep and are billed around the clock"),
            "set its minimum number of instances to 0 on RunComfy's deployment page, unless you \
             want that",
        ));
    }
    checks
}

/// Compares the machine with the rate at which jobs are booked.
fn hardware(facts: &DeploymentFacts, wanted: &PriceSettings) -> Option<Check> {
    const NAME: &str = "hardware";
    let sku = facts.hardware.as_deref()?;
    let rate = rate(wanted, Some(facts));
    let booked = format!("{} an hour from {}", rate.hourly, rate.hourly_from.label());
    Some(match Tier::find(sku) {
        _ if rate.hourly_from == RateSource::Hourly => Check::ok(NAME, format!("{sku}, {booked}")),
        Some(tier) if rate.hardware == Some(tier) => Check::ok(NAME, format!("{sku}, {booked}")),
        Some(tier) => Check::warn(
            NAME,
            format!(
                "the deployment has {sku} ({} an hour), and jobs are booked at {booked} ({})",
                tier.hourly(wanted.plan),
                wanted.hardware.sku
            ),
            format!("set budget.hardware = \"{}\"", tier.name),
        ),
        None => Check::warn(
            NAME,
            format!(
                "the deployment has {sku}, whose price is unknown to this version; jobs are \
                 booked at {booked}"
            ),
            "set `budget.hourly_usd` to its hourly price",
        ),
    })
}

/// The exit code for a graph that cannot be used.
pub(super) const BAD_GRAPH: u8 = BAD_INPUT;

#[cfg(test)]
mod tests {
    use super::{super::check::CheckStatus, *};
    use crate::domain::money::BillingPlan;

    #[test]
    fn a_machine_is_judged_by_the_rate_that_jobs_are_booked_at() {
        let hardware_of = |sku: &str, hourly: Option<i64>, is_set: bool| {
            let facts =
                DeploymentFacts { hardware: Some(sku.to_owned()), ..DeploymentFacts::default() };
            let wanted = PriceSettings {
                hourly: hourly.map(MicroUsd::from_cents),
                hardware: Tier::find("x-large").expect("a tier"),
                hardware_is_set: is_set,
                plan: BillingPlan::Pro,
            };
            hardware(&facts, &wanted).map(|check| check.status)
        };
        assert_eq!(hardware_of("AMPERE_48", None, true), Some(CheckStatus::Ok));
        let other = "ADA_48_PLUS";
        assert_eq!(
            hardware_of(other, None, false),
            Some(CheckStatus::Ok),
            "booked at its own price"
        );
        assert_eq!(hardware_of(other, None, true), Some(CheckStatus::Warn));
        assert_eq!(hardware_of(other, Some(210), true), Some(CheckStatus::Ok), "a rate is a rate");
        assert_eq!(hardware_of("QUANTUM_1", None, false), Some(CheckStatus::Warn));
    }

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off_whichever_way() {
        let of = |off: i64| clock(Some(1_000_000), 1_000_000 + off).map(|check| check.status);
        assert_eq!(of(0), Some(CheckStatus::Ok));
        assert_eq!(of(-59), Some(CheckStatus::Ok));
        assert_eq!(of(61), Some(CheckStatus::Warn));
        assert_eq!(of(-86_400), Some(CheckStatus::Fail));
        assert_eq!(of(86_400), Some(CheckStatus::Fail));
        assert_eq!(clock(None, 5), None, "an answer without a date says nothing");
        assert_eq!(
            clock(Some(i64::MIN), i64::MAX).map(|check| check.status),
            Some(CheckStatus::Fail)
        );
    }
}
