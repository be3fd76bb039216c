//! Decides what may be spent: a pure function from limits and sums to yes, or to a refusal with
//! its reason.
//!
//! Owns the order in which limits are checked, and the texts of refusals and warnings. It adds
//! nothing up (the ledger does, in the transaction that also reserves the money) and it never stops
//! a running job: a crossed limit only refuses *new* jobs.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::MicroUsd;
use crate::time::WallTime;

/// The limits of `[budget]`; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The highest estimate that one job may have.
    pub per_job: Option<MicroUsd>,
    /// The most that one run of the daemon may spend.
    pub per_session: Option<MicroUsd>,
    /// The most that may be spent in a civil day.
    pub per_day: Option<MicroUsd>,
    /// The most that may be spent in a civil month.
    pub per_month: Option<MicroUsd>,
}

impl Limits {
    /// Returns the amount that `limit` allows.
    pub const fn allowed(&self, limit: Limit) -> Option<MicroUsd> {
        match limit {
            Limit::Job => self.per_job,
            Limit::Session => self.per_session,
            Limit::Day => self.per_day,
            Limit::Month => self.per_month,
        }
    }
}

/// When the current day and month began. The caller knows the time zone; this module does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// The last midnight.
    pub day_start: WallTime,
    /// The midnight at which the month began.
    pub month_start: WallTime,
}

/// The sums spent: booked costs, and reservations where nothing is booked yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// In this run of the daemon.
    pub session: MicroUsd,
    /// Since the last midnight.
    pub day: MicroUsd,
    /// Since the month began.
    pub month: MicroUsd,
}

impl Spent {
    /// Returns the sums with `cost` added to each.
    #[must_use]
    pub fn with(self, cost: MicroUsd) -> Self {
        Self { session: self.session + cost, day: self.day + cost, month: self.month + cost }
    }

    /// Returns the sums with `cost` subtracted from each, at least zero.
    #[must_use]
    pub fn without(self, cost: MicroUsd) -> Self {
        Self {
            session: self.session.saturating_sub(cost),
            day: self.day.saturating_sub(cost),
            month: self.month.saturating_sub(cost),
        }
    }

    /// Returns the sum that counts towards `limit`. Nothing is spent for a single job before
    /// it begins.
    const fn of(&self, limit: Limit) -> MicroUsd {
        match limit {
            Limit::Job => MicroUsd::ZERO,
            Limit::Session => self.session,
            Limit::Day => self.day,
            Limit::Month => self.month,
        }
    }
}

/// One of the four limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// `budget.per_job_usd`.
    Job,
    /// `budget.per_session_usd`.
    Session,
    /// `budget.per_day_usd`.
    Day,
    /// `budget.per_month_usd`.
    Month,
}

impl Limit {
    /// Every limit, in the order of the checks: the narrowest first, because its message
    /// helps most.
    pub const ALL: [Self; 4] = [Self::Job, Self::Session, Self::Day, Self::Month];

    /// Returns the configuration key that sets it.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Job => "budget.per_job_usd",
            Self::Session => "budget.per_session_usd",
            Self::Day => "budget.per_day_usd",
            Self::Month => "budget.per_month_usd",
        }
    }

    /// Returns what it limits, as a text that follows "the 5 USD for".
    const fn span(self) -> &'static str {
        match self {
            Self::Job => "one job",
            Self::Session => "this session",
            Self::Day => "today",
            Self::Month => "this month",
        }
    }

    /// Returns the remedy besides a higher limit.
    const fn or_else(self) -> &'static str {
        match self {
            Self::Job => "choose a cheaper `budget.hardware`",
            Self::Session => "start a new session",
            Self::Day => "wait until tomorrow",
            Self::Month => "wait for the next month",
        }
    }
}

/// Why a job may not start. Nothing was sent and nothing is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
pub struct Refusal {
    /// The limit that the job would cross.
    pub limit: Limit,
    /// The amount that the limit allows.
    pub allowed: MicroUsd,
    /// The amount already spent or reserved.
    pub used: MicroUsd,
    /// The estimated cost of the job.
    pub cost: MicroUsd,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, allowed, used, cost } = self;
        write!(f, "over budget: the job would cost about {cost}, ")?;
        match limit {
            Limit::Job => write!(f, "one job may cost {allowed}"),
            Limit::Session | Limit::Day | Limit::Month => {
                write!(f, "{used} of the {allowed} for {} are spent or reserved", limit.span())
            }
        }?;
        write!(f, "; nothing was sent; raise `{}` or {}", limit.key(), limit.or_else())
    }
}

/// Decides whether a job with this estimated cost may start. A limit may be reached but
/// not crossed.
///
/// A free job is always allowed: a spent budget must not stop the artist's own graphics card.
pub fn decide(limits: &Limits, spent: &Spent, estimate: MicroUsd) -> Result<(), Refusal> {
    if estimate <= MicroUsd::ZERO {
        return Ok(());
    }
    let crossed = Limit::ALL.into_iter().find_map(|limit| {
        let allowed = limits.allowed(limit)?;
        let used = spent.of(limit);
        (used + estimate > allowed).then_some(Refusal { limit, allowed, used, cost: estimate })
    });
    crossed.map_or(Ok(()), Err)
}

/// A share of a budget that has just been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The limit.
    pub limit: Limit,
    /// The percentage that was reached: 50, 80 or 100.
    pub percent: u8,
    /// The amount spent or reserved.
    pub used: MicroUsd,
    /// The amount that the limit allows.
    pub allowed: MicroUsd,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, percent, used, allowed } = self;
        let (span, key) = (limit.span(), limit.key());
        write!(f, "{percent} % of the budget for {span} is used: {used} of {allowed} (`{key}`)")?;
        if *percent >= 100 {
            f.write_str("; new paid jobs are refused")?;
        }
        Ok(())
    }
}

/// The percentages that produce a warning, highest first.
const STEPS: [u8; 3] = [100, 80, 50];

/// Remembers which warnings were given, so that each one is given once: a booked cost is usually
/// lower than its reservation, so the sums sink and cross the same percentage again and again.
#[derive(Clone, Debug, Default)]
pub struct Told(BTreeMap<Limit, Heard>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    /// The day or month it belongs to; a session is the process itself.
    window: Option<WallTime>,
    allowed: MicroUsd,
    percent: u8,
}

impl Told {
    /// Returns the warnings that are new after the sums went from `before` to `after`: one for each
    /// limit that reached a higher percentage than ever in this window. If no warning is recorded
    /// yet, whatever was reached `before` was for another process to report.
    pub fn news(
        &mut self,
        limits: &Limits,
        windows: &Windows,
        before: &Spent,
        after: &Spent,
    ) -> Vec<Warning> {
        let mut news = Vec::new();
        for limit in [Limit::Session, Limit::Day, Limit::Month] {
            let Some(allowed) = limits.allowed(limit) else { continue };
            let reached = |spent: &Spent| {
                let used = i128::from(spent.of(limit).0) * 100;
                let mut steps = STEPS.into_iter();
                steps.find(|&step| used >= i128::from(allowed.0) * i128::from(step)).unwrap_or(0)
            };
            let window = match limit {
                Limit::Day => Some(windows.day_start),
                Limit::Month => Some(windows.month_start),
                Limit::Job | Limit::Session => None,
            };
            let heard = self.0.get(&limit).filter(|h| h.window == window && h.allowed == allowed);
            let known = heard.map_or_else(|| reached(before), |heard| heard.percent);
            let percent = reached(after);
            if percent > known {
                news.push(Warning { limit, percent, used: after.of(limit), allowed });
            }
            self.0.insert(limit, Heard { window, allowed, percent: percent.max(known) });
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn cents(cents: i64) -> MicroUsd {
        MicroUsd::from_cents(cents)
    }

    fn five_a_session() -> Limits {
        Limits { per_session: Some(cents(500)), ..Limits::default() }
    }

    fn spent(session: i64) -> Spent {
        Spent::default().with(cents(session))
    }

    #[test]
    fn a_limit_may_be_reached_but_not_crossed() {
        assert_eq!(decide(&five_a_session(), &spent(490), cents(10)), Ok(()));
        let refusal =
            decide(&five_a_session(), &spent(490), cents(11)).expect_err("a cent too much");
        assert_eq!((refusal.limit, refusal.used), (Limit::Session, cents(490)));
    }

    #[test]
    fn without_limits_everything_is_allowed_and_a_free_job_always_is() {
        assert_eq!(decide(&Limits::default(), &spent(1_000_000), cents(100)), Ok(()));
        assert_eq!(decide(&five_a_session(), &spent(9_000), MicroUsd::ZERO), Ok(()));
    }

    #[test]
    fn each_limit_refuses_by_its_own_name_and_key() {
        for limit in Limit::ALL {
            let mut limits = Limits::default();
            *match limit {
                Limit::Job => &mut limits.per_job,
                Limit::Session => &mut limits.per_session,
                Limit::Day => &mut limits.per_day,
                Limit::Month => &mut limits.per_month,
            } = Some(cents(20));
            let refusal = decide(&limits, &spent(0), cents(21)).expect_err("over it");
            assert_eq!(refusal.limit, limit);
            assert!(refusal.to_string().contains(limit.key()), "{refusal}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_used_what_it_would_cost_and_what_to_do() {
        let refusal = decide(&five_a_session(), &spent(490), cents(35)).expect_err("over it");
        assert_eq!(
            refusal.to_string(),
            "over budget: the job would cost about 0.3500 USD, 4.9000 USD of the 5.0000 USD for this session are \
             spent or reserved; nothing was sent; raise `budget.per_session_usd` or start a new session"
        );
    }

    /// Windows with a day that began at `day` and a month that began at zero.
    fn since(day: i64) -> Windows {
        let [day_start, month_start] = [day, 0].map(WallTime::from_unix_millis);
        Windows { day_start, month_start }
    }

    fn percents(warnings: &[Warning]) -> Vec<u8> {
        warnings.iter().map(|warning| warning.percent).collect()
    }

    #[test]
    fn a_warning_is_given_when_a_step_is_reached_and_only_for_the_highest() {
        let steps = |before, after| {
            let (before, after) = (spent(before), spent(after));
            percents(&Told::default().news(&five_a_session(), &since(0), &before, &after))
        };
        assert_eq!(steps(0, 249), [0_u8; 0]);
        assert_eq!(steps(249, 250), [50]);
        assert_eq!(steps(250, 399), [0_u8; 0], "told by an earlier process");
        assert_eq!(steps(100, 450), [80], "both at once is one message");
        assert_eq!(steps(450, 500), [100]);
        assert_eq!(steps(500, 900), [0_u8; 0]);
    }

    #[test]
    fn a_step_warns_once_even_when_bookings_fall_below_it_or_rise_above_it() {
        let mut told = Told::default();
        let mut steps = |before, after| {
            percents(&told.news(&five_a_session(), &since(0), &spent(before), &spent(after)))
        };
        assert_eq!(steps(0, 260), [50]);
        assert_eq!(steps(180, 255), [0_u8; 0], "booked below the step, reserved over it again");
        assert_eq!(steps(410, 420), [80], "a job cost more than was reserved for it");
        assert_eq!(steps(100, 499), [0_u8; 0]);
        assert_eq!(steps(499, 500), [100]);
        assert_eq!(steps(400, 500), [0_u8; 0]);
    }

    #[test]
    fn a_new_day_and_a_new_limit_warn_again() {
        let mut told = Told::default();
        let limits = |day| Limits { per_day: Some(cents(day)), ..Limits::default() };
        let mut steps = |limit, day, before, after| {
            percents(&told.news(&limits(limit), &since(day), &spent(before), &spent(after)))
        };
        assert_eq!(steps(100, 1, 0, 60), [50]);
        assert_eq!(steps(100, 1, 20, 60), [0_u8; 0]);
        assert_eq!(steps(100, 2, 0, 55), [50], "the next day");
        assert_eq!(steps(200, 2, 60, 110), [50], "a higher limit");
    }

    proptest! {
        #[test]
        fn what_is_allowed_never_ends_above_a_limit(
            allowed in 0_i64..=i64::MAX, used in 0_i64..=i64::MAX, cost in 1_i64..=i64::MAX,
        ) {
            let limits = Limits { per_day: Some(MicroUsd(allowed)), ..Limits::default() };
            let spent = Spent { day: MicroUsd(used), ..Spent::default() };
            let fits = i128::from(used) + i128::from(cost) <= i128::from(allowed);
            // The sum saturates at the end of the number range; a limit up there no longer
            // limits anything.
            prop_assume!(allowed < i64::MAX);
            prop_assert_eq!(decide(&limits, &spent, MicroUsd(cost)).is_ok(), fits);
            let after = spent.with(MicroUsd(cost));
            let _ = Told::default().news(&limits, &since(0), &spent, &after);
        }
    }
}
