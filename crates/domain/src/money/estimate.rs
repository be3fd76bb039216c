//! What a job will cost and how long it will take, before: pure arithmetic on durations.
//!
//! Owns the defaults for a workflow that has never run, and the rule for cold and warm machines. It reads no ledger (it
//! is given [`Learned`]), bills nothing ([`super::job_cost`]) and knows no limit ([`super::budget`]).
//!
//! RunComfy bills by the second from the wake signal to the full shutdown: cold start, run and keep-warm idling
//! count, waiting in the queue does not (docs.runcomfy.com, "About billing"). It tells no cost per request and
//! nothing of when a machine went to sleep, so the keep-warm part stays an estimate for ever.

use std::time::Duration;

use super::{MicroUsd, cost_of};
use crate::time::WallTime;

/// A cold start where none has been measured: the middle of the 3 to 5 minutes in RunComfy's documentation.
pub const DEFAULT_COLD_START: Duration = Duration::from_secs(240);

/// A run where none has been measured: the middle of the 2 to 5 minutes that CONJURE's author guesses for
/// FLUX and PartPacker together.
pub const DEFAULT_RUN: Duration = Duration::from_secs(210);

/// How long a machine idles before it sleeps where the deployment has not been asked: RunComfy's own default.
pub const DEFAULT_KEEP_WARM: Duration = Duration::from_secs(60);

/// From how many samples on a measured spread is believed more than a default. One odd run must not set the price.
pub const ENOUGH_SAMPLES: u32 = 3;

/// How a duration varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// One in ten was shorter.
    pub p10: Duration,
    /// Half were shorter.
    pub median: Duration,
    /// One in ten was longer.
    pub p90: Duration,
    /// How many were measured; at least one.
    pub samples: u32,
}

impl Spread {
    /// Returns the spread of `samples`, `None` when there are none. Nearest ranks: each value is one that happened.
    pub fn of(mut samples: Vec<Duration>) -> Option<Self> {
        samples.sort_unstable();
        let last = samples.len().checked_sub(1)?;
        // Rounded up for the high rank, so that few samples give their worst and not their second worst.
        let rank = |tenths: usize| samples[(last * tenths).div_ceil(10)];
        Some(Self {
            p10: samples[last / 10],
            median: rank(5),
            p90: rank(9),
            samples: u32::try_from(samples.len()).unwrap_or(u32::MAX),
        })
    }
}

/// What the ledger remembers of the successes of one backend with one version of a workflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// From submit to run on a machine that slept.
    pub cold: Option<Spread>,
    /// From submit to run on a machine that was awake.
    pub queue: Option<Spread>,
    /// From the start of the run to its end.
    pub run: Option<Spread>,
}

/// When a deployment's machine was last known to be at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// Never, as far as the ledger goes.
    #[default]
    Never,
    /// It ended a job then.
    Until(WallTime),
    /// It is at work now.
    Now,
}

/// Says whether a job sent now must wait for a machine to wake. A clock that was set back counts as just active.
pub fn is_cold(activity: Activity, keep_warm: Duration, now: WallTime) -> bool {
    match activity {
        Activity::Never => true,
        Activity::Until(ended) => now.since(ended) >= keep_warm,
        Activity::Now => false,
    }
}

/// Returns how much idling after a job sent now is not paid for already.
///
/// The job before has booked its whole keep-warm time. While the machine is still warm, a new job only moves the
/// end of it: what it adds is the idle time that has passed since. So a burst of jobs pays keep-warm once.
pub fn keep_warm_share(activity: Activity, keep_warm: Duration, now: WallTime) -> Duration {
    match activity {
        Activity::Never => keep_warm,
        Activity::Until(ended) => now.since(ended).min(keep_warm),
        Activity::Now => Duration::ZERO,
    }
}

/// Where a part of an estimate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// From past jobs in the ledger.
    Learned,
    /// From the published or guessed figures at the head of this page.
    Default,
}

/// What is known when a job is about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Past jobs of the same backend and workflow.
    pub learned: Learned,
    /// The machine's last sign of life.
    pub activity: Activity,
    /// How long the deployment keeps a machine awake.
    pub keep_warm: Duration,
    /// What an hour of the machine costs; zero for one's own.
    pub hourly: MicroUsd,
    /// The time.
    pub now: WallTime,
}

/// What a job is expected to take and to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The cold start and where its length comes from; `None` when the machine should still be awake.
    pub cold: Option<(Duration, Basis)>,
    /// The run.
    pub run: Duration,
    /// Where the run's length comes from.
    pub run_basis: Basis,
    /// The idling afterwards, as far as no earlier job has paid for it.
    pub keep_warm: Duration,
    /// The machine's rate.
    pub hourly: MicroUsd,
    /// All of it at that rate: what is reserved.
    pub cost: MicroUsd,
}

/// Returns what a job sent now is expected to cost.
///
/// From measured spreads it takes the ninetieth percentile, not the middle: it is what gets reserved, and a
/// reservation that every second job outgrows guards no limit.
pub fn estimate(situation: &Situation) -> Estimate {
    let Situation { learned, activity, keep_warm, hourly, now } = *situation;
    let believe = |spread: Option<Spread>, default| match spread {
        Some(spread) if spread.samples >= ENOUGH_SAMPLES => (spread.p90, Basis::Learned),
        Some(_) | None => (default, Basis::Default),
    };
    let cold = is_cold(activity, keep_warm, now).then(|| believe(learned.cold, DEFAULT_COLD_START));
    let (run, run_basis) = believe(learned.run, DEFAULT_RUN);
    let keep_warm = keep_warm_share(activity, keep_warm, now);
    let billed = cold.map_or(Duration::ZERO, |(span, _)| span) + run + keep_warm;
    Estimate { cold, run, run_basis, keep_warm, hourly, cost: cost_of(billed, hourly) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A rate at which a second costs one cent.
    const CENT_A_SECOND: MicroUsd = MicroUsd::from_cents(3600);
    const NOW: WallTime = WallTime::from_unix_millis(1_000_000_000);

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn spread(p90: u64, samples: u32) -> Spread {
        Spread { p10: secs(1), median: secs(2), p90: secs(p90), samples }
    }

    fn situation(activity: Activity, learned: Learned) -> Situation {
        Situation { learned, activity, keep_warm: secs(60), hourly: CENT_A_SECOND, now: NOW }
    }

    fn idle_for(seconds: u64) -> Activity {
        Activity::Until(NOW.minus(secs(seconds)))
    }

    #[test]
    fn the_first_job_ever_pays_the_published_cold_start_the_run_and_the_idling() {
        let estimate = estimate(&situation(Activity::Never, Learned::default()));
        assert_eq!(estimate.cold, Some((DEFAULT_COLD_START, Basis::Default)));
        assert_eq!(estimate.run_basis, Basis::Default);
        assert_eq!(estimate.cost, MicroUsd::from_cents(240 + 210 + 60));
    }

    #[test]
    fn a_warm_machine_adds_only_the_run_and_the_idle_time_since() {
        let learned = Learned { run: Some(spread(70, 3)), ..Learned::default() };
        let estimate = estimate(&situation(idle_for(20), learned));
        assert_eq!(estimate.cold, None);
        assert_eq!((estimate.run, estimate.run_basis), (secs(70), Basis::Learned));
        assert_eq!(estimate.cost, MicroUsd::from_cents(70 + 20));
    }

    #[test]
    fn a_machine_at_work_adds_only_the_run() {
        let learned = Learned { run: Some(spread(70, 3)), ..Learned::default() };
        let estimate = estimate(&situation(Activity::Now, learned));
        assert_eq!((estimate.cold, estimate.cost), (None, MicroUsd::from_cents(70)));
    }

    #[test]
    fn a_machine_sleeps_exactly_when_its_keep_warm_time_is_over() {
        assert!(!is_cold(idle_for(59), secs(60), NOW));
        assert!(is_cold(idle_for(60), secs(60), NOW));
        assert!(!is_cold(Activity::Until(NOW.plus(secs(5))), secs(60), NOW), "clock set back");
    }

    #[test]
    fn two_samples_do_not_set_the_price() {
        let learned =
            Learned { cold: Some(spread(9, 2)), run: Some(spread(9, 2)), ..Learned::default() };
        let estimate = estimate(&situation(Activity::Never, learned));
        assert_eq!(estimate.run, DEFAULT_RUN);
        assert_eq!(estimate.cold, Some((DEFAULT_COLD_START, Basis::Default)));
    }

    #[test]
    fn one_s_own_machine_costs_nothing() {
        let own =
            Situation { hourly: MicroUsd::ZERO, ..situation(Activity::Never, Learned::default()) };
        assert_eq!(estimate(&own).cost, MicroUsd::ZERO);
    }

    #[test]
    fn few_samples_give_their_worst_as_the_ninetieth_percentile() {
        let three = Spread::of(vec![secs(9), secs(1), secs(5)]).expect("there are samples");
        assert_eq!((three.p10, three.median, three.p90), (secs(1), secs(5), secs(9)));
        let hundred = Spread::of((1..=101).map(secs).collect()).expect("there are samples");
        assert_eq!((hundred.p10, hundred.median, hundred.p90), (secs(11), secs(51), secs(91)));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    proptest! {
        /// The machine's real time is one span from waking to sleeping: what the jobs of a burst book must sum to it.
        #[test]
        fn a_burst_books_every_second_of_the_machine_once(
            jobs in prop::collection::vec((0_u64..60, 1_u64..300), 1..12), cold_start in 0_u64..600,
        ) {
            let keep_warm = secs(60);
            let (mut at, mut activity, mut booked) = (NOW, Activity::Never, MicroUsd::ZERO);
            for (number, &(idle, run)) in jobs.iter().enumerate() {
                if number > 0 {
                    at = at.plus(secs(idle));
                }
                let cold = is_cold(activity, keep_warm, at);
                prop_assert_eq!(cold, number == 0);
                let share = keep_warm_share(activity, keep_warm, at);
                let waited = secs(if cold { cold_start } else { 0 });
                booked = booked + cost_of(waited + secs(run) + share, CENT_A_SECOND);
                at = at.plus(waited + secs(run));
                activity = Activity::Until(at);
            }
            prop_assert_eq!(booked, cost_of(at.since(NOW) + keep_warm, CENT_A_SECOND));
        }

        #[test]
        fn a_spread_is_ordered_and_made_of_its_samples(samples in prop::collection::vec(0_u64..10_000, 1..80)) {
            let spread = Spread::of(samples.iter().copied().map(secs).collect()).expect("there are samples");
            prop_assert!(spread.p10 <= spread.median && spread.median <= spread.p90);
            for value in [spread.p10, spread.median, spread.p90] {
                prop_assert!(samples.contains(&value.as_secs()));
            }
        }
    }
}
