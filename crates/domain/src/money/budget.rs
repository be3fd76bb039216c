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
pub struct BudgetLimits {
    /// The highest estimate that one job may have.
    pub per_job: Option<MicroUsd>,
    /// The most that one run of the daemon may spend.
    pub per_session: Option<MicroUsd>,
    /// The most that may be spent in a civil day.
    pub per_day: Option<MicroUsd>,
    /// The most that may be spent in a civil month.
    pub per_month: Option<MicroUsd>,
}

impl BudgetLimits {
    /// Returns the amount that `limit` allows.
    pub const fn allowed(&self, limit: LimitKind) -> Option<MicroUsd> {
        match limit {
            LimitKind::Job => self.per_job,
            LimitKind::Session => self.per_session,
            LimitKind::Day => self.per_day,
            LimitKind::Month => self.per_month,
        }
    }
}

/// When the current day and month began. The caller knows the time zone; this module does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetWindows {
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
    const fn of(&self, limit: LimitKind) -> MicroUsd {
        match limit {
            LimitKind::Job => MicroUsd::ZERO,
            LimitKind::Session => self.session,
            LimitKind::Day => self.day,
            LimitKind::Month => self.month,
        }
    }
}

/// One of the four limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitKind {
    /// `budget.per_job_usd`.
    Job,
    /// `budget.per_session_usd`.
    Session,
    /// `budget.per_day_usd`.
    Day,
    /// `budget.per_month_usd`.
    Month,
}

impl LimitKind {
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
    const fn remedy(self) -> &'static str {
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
pub struct BudgetRefusal {
    /// The limit that the job would cross.
    pub limit: LimitKind,
    /// The amount that the limit allows.
    pub allowed: MicroUsd,
    /// The amount already spent or reserved.
    pub used: MicroUsd,
    /// The estimated cost of the job.
    pub cost: MicroUsd,
}

impl fmt::Display for BudgetRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, allowed, used, cost } = self;
        write!(f, "over budget: the job would cost about {cost}, ")?;
        match limit {
            LimitKind::Job => write!(f, "one job may cost {allowed}"),
            LimitKind::Session | LimitKind::Day | LimitKind::Month => {
                write!(f, "{used} of the {allowed} for {} are spent or reserved", limit.span())
            }
        }?;
        write!(f, "; nothing was sent; raise `{}` or {}", limit.key(), limit.remedy())
    }
}

/// Decides whether a job with this estimated cost may start. A limit may be reached but
/// not crossed.
///
/// A free job is always allowed: a spent budget must not stop the artist's own graphics card.
pub fn decide(
    limits: &BudgetLimits,
    spent: &Spent,
    estimate: MicroUsd,
) -> Result<(), BudgetRefusal> {
    if estimate <= MicroUsd::ZERO {
        return Ok(());
    }
    let crossed = LimitKind::ALL.into_iter().find_map(|limit| {
        let allowed = limits.allowed(limit)?;
        let used = spent.of(limit);
        (used + estimate > allowed).then_some(BudgetRefusal {
            limit,
            allowed,
            used,
            cost: estimate,
        })
    });
    crossed.map_or(Ok(()), Err)
}

/// A share of a budget that has just been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetWarning {
    /// The limit.
    pub limit: LimitKind,
    /// The percentage that was reached: 50, 80 or 100.
    pub percent: u8,
    /// The amount spent or reserved.
    pub used: MicroUsd,
    /// The amount that the limit allows.
    pub allowed: MicroUsd,
}

impl fmt::Display for BudgetWarning {
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
const WARN_PERCENTS: [u8; 3] = [100, 80, 50];

/// Remembers which warnings were given, so that each one is given once: a booked cost is usually
/// lower than its reservation, so the sums sink and cross the same percentage again and again.
#[derive(Clone, Debug, Default)]
pub struct WarnedLimits(BTreeMap<LimitKind, LastWarning>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastWarning {
    /// The day or month it belongs to; a session is the process itself.
    window: Option<WallTime>,
    allowed: MicroUsd,
    percent: u8,
}

impl WarnedLimits {
    /// Returns the warnings that are new after the sums went from `before` to `after`: one for each
    /// limit that reached a higher percentage than ever in this window. If no warning is recorded
    /// yet, whatever was reached `before` was for another process to report.
    pub fn new_warnings(
        &mut self,
        limits: &BudgetLimits,
        windows: &BudgetWindows,
        before: &Spent,
        after: &Spent,
    ) -> Vec<BudgetWarning> {
        let mut news = Vec::new();
        for limit in [LimitKind::Session, LimitKind::Day, LimitKind::Month] {
            let Some(allowed) = limits.allowed(limit) else { continue };
            let reached = |spent: &Spent| {
                let used = i128::from(spent.of(limit).0) * 100;
                let mut steps = WARN_PERCENTS.into_iter();
                steps.find(|&step| used >= i128::from(allowed.0) * i128::from(step)).unwrap_or(0)
            };
            let window = match limit {
                LimitKind::Day => Some(windows.day_start),
                LimitKind::Month => Some(windows.month_start),
                LimitKind::Job | LimitKind::Session => None,
            };
            let heard = self.0.get(&limit).filter(|h| h.window == window && h.allowed == allowed);
            let known = heard.map_or_else(|| reached(before), |heard| heard.percent);
            let percent = reached(after);
            if percent > known {
                news.push(BudgetWarning { limit, percent, used: after.of(limit), allowed });
            }
            self.0.insert(limit, LastWarning { window, allowed, percent: percent.max(known) });
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

    fn five_a_session() -> BudgetLimits {
        BudgetLimits { per_session: Some(cents(500)), ..BudgetLimits::default() }
    }

    fn spent(session: i64) -> Spent {
        Spent::default().with(cents(session))
    }

    #[test]
    fn a_limit_may_be_reached_but_not_crossed() {
        assert_eq!(decide(&five_a_session(), &spent(490), cents(10)), Ok(()));
        let refusal =
            decide(&five_a_session(), &spent(490), cents(11)).expect_err("a cent too much");
        assert_eq!((refusal.limit, refusal.used), (LimitKind::Session, cents(490)));
    }

    #[test]
    fn without_limits_everything_is_allowed_and_a_free_job_always_is() {
        assert_eq!(decide(&BudgetLimits::default(), &spent(1_000_000), cents(100)), Ok(()));
        assert_eq!(decide(&five_a_session(), &spent(9_000), MicroUsd::ZERO), Ok(()));
    }

    #[test]
    fn each_limit_refuses_by_its_own_name_and_key() {
        for limit in LimitKind::ALL {
            let mut limits = BudgetLimits::default();
            *match limit {
                LimitKind::Job => &mut limits.per_job,
                LimitKind::Session => &mut limits.per_session,
                LimitKind::Day => &mut limits.per_day,
                LimitKind::Month => &mut limits.per_month,
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
    fn since(day: i64) -> BudgetWindows {
        let [day_start, month_start] = [day, 0].map(WallTime::from_unix_millis);
        BudgetWindows { day_start, month_start }
    }

    fn percents(warnings: &[BudgetWarning]) -> Vec<u8> {
        warnings.iter().map(|warning| warning.percent).collect()
    }

    #[test]
    fn a_warning_is_given_when_a_step_is_reached_and_only_for_the_highest() {
        let steps = |before, after| {
            let (before, after) = (spent(before), spent(after));
            percents(&WarnedLimits::default().new_warnings(
                &five_a_session(),
                &since(0),
                &before,
                &after,
            ))
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
        let mut warned = WarnedLimits::default();
        let mut steps = |before, after| {
            percents(&warned.new_warnings(
                &five_a_session(),
                &since(0),
                &spent(before),
                &spent(after),
            ))
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
        let mut warned = WarnedLimits::default();
        let limits = |day| BudgetLimits { per_day: Some(cents(day)), ..BudgetLimits::default() };
        let mut steps = |limit, day, before, after| {
            percents(&warned.new_warnings(
                &limits(limit),
                &since(day),
                &spent(before),
                &spent(after),
            ))
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
            let limits = BudgetLimits { per_day: Some(MicroUsd(allowed)), ..BudgetLimits::default() };
            let spent = Spent { day: MicroUsd(used), ..Spent::default() };
            let fits = i128::from(used) + i128::from(cost) <= i128::from(allowed);
            // The sum saturates at the end of the number range; a limit up there no longer
            // limits anything.
            prop_assume!(allowed < i64::MAX);
            prop_assert_eq!(decide(&limits, &spent, MicroUsd(cost)).is_ok(), fits);
            let after = spent.with(MicroUsd(cost));
            let _ = WarnedLimits::default().new_warnings(&limits, &since(0), &spent, &after);
        }
    }
}
