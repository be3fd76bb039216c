//! Estimates what a job will cost and how long it will take: pure arithmetic on durations.
//!
//! Owns the defaults for a workflow that has never run, and the rule for cold and warm machines. It
//! reads no ledger (its input is [`PastTimings`]), bills nothing ([`super::job_cost`]) and knows no
//! limit ([`super::budget`]).
//!
//! RunComfy bills per second from the wake signal to the full shutdown: cold start, run and
//! keep-warm idling count, waiting in the queue does not (docs.runcomfy.com, "About billing"). It
//! reports neither the cost of a request nor when a machine went to sleep, so the keep-warm part
//! always stays an estimate.

use std::time::Duration;

use super::{MicroUsd, cost_of};
use crate::time::WallTime;

/// The cold start time if none has been measured: the middle of the 3 to 5 minutes in
/// RunComfy's documentation.
pub const DEFAULT_COLD_START: Duration = Duration::from_secs(240);

/// The run time if none has been measured: the middle of the 2 to 5 minutes that CONJURE's author
/// guesses for FLUX and PartPacker together.
pub const DEFAULT_RUN: Duration = Duration::from_secs(210);

/// The keep-warm time if the deployment has not been queried: RunComfy's own default.
pub const DEFAULT_KEEP_WARM: Duration = Duration::from_secs(60);

/// The number of samples needed before a measured spread replaces a default. One odd run must not
/// set the price.
pub const MIN_SAMPLES: u32 = 3;

/// The distribution of a measured duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationSpread {
    /// One in ten was shorter.
    pub p10: Duration,
    /// Half were shorter.
    pub median: Duration,
    /// One in ten was longer.
    pub p90: Duration,
    /// The number of measurements; at least one.
    pub samples: u32,
}

impl DurationSpread {
    /// Returns the spread of `samples`, or `None` without any. It uses nearest ranks: each value
    /// was really measured.
    pub fn of(mut samples: Vec<Duration>) -> Option<Self> {
        samples.sort_unstable();
        let last = samples.len().checked_sub(1)?;
        // The high rank is rounded up, so that few samples give their worst value and not the
        // second worst.
        let rank = |tenths: usize| samples[(last * tenths).div_ceil(10)];
        Some(Self {
            p10: samples[last / 10],
            median: rank(5),
            p90: rank(9),
            samples: u32::try_from(samples.len()).unwrap_or(u32::MAX),
        })
    }
}

/// What the ledger knows from the successful jobs of one backend with one version of a workflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PastTimings {
    /// From submit to run on a sleeping machine.
    pub cold: Option<DurationSpread>,
    /// From submit to run on a machine that was awake.
    pub queue: Option<DurationSpread>,
    /// From the start of the run to its end.
    pub run: Option<DurationSpread>,
}

/// When a deployment's machine was last known to be active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MachineActivity {
    /// Never, as far as the ledger knows.
    #[default]
    Never,
    /// It finished a job at that time.
    Until(WallTime),
    /// It is active now.
    Now,
}

/// Returns whether a job sent now must wait for a machine to wake. A clock that was set back counts
/// as just active.
pub fn is_cold(activity: MachineActivity, keep_warm: Duration, now: WallTime) -> bool {
    match activity {
        MachineActivity::Never => true,
        MachineActivity::Until(ended) => now.since(ended) >= keep_warm,
        MachineActivity::Now => false,
    }
}

/// Returns how much of the idling after a job sent now is not paid for yet.
///
/// The previous job has already booked its whole keep-warm time. While the machine is still warm, a
/// new job only moves the end of that time: it adds the idle time that has passed since. So a burst
/// of jobs pays for keep-warm once.
pub fn unpaid_keep_warm(activity: MachineActivity, keep_warm: Duration, now: WallTime) -> Duration {
    match activity {
        MachineActivity::Never => keep_warm,
        MachineActivity::Until(ended) => now.since(ended).min(keep_warm),
        MachineActivity::Now => Duration::ZERO,
    }
}

/// The source of a part of an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EstimateBasis {
    /// Past jobs in the ledger.
    Learned,
    /// The published or guessed figures at the top of this file.
    Default,
}

/// The facts known when a job is about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct EstimateInput {
    /// Past jobs of the same backend and workflow.
    pub learned: PastTimings,
    /// The machine's last known activity.
    pub activity: MachineActivity,
    /// How long the deployment keeps a machine awake.
    pub keep_warm: Duration,
    /// The price of the machine per hour; zero for the user's own machine.
    pub hourly: MicroUsd,
    /// The current time.
    pub now: WallTime,
}

/// The expected duration and cost of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The cold start time and its source; `None` if the machine should still be awake.
    pub cold: Option<(Duration, EstimateBasis)>,
    /// The run time.
    pub run: Duration,
    /// The source of the run time.
    pub run_basis: EstimateBasis,
    /// The idling afterwards that no earlier job has paid for.
    pub keep_warm: Duration,
    /// The price of the machine per hour.
    pub hourly: MicroUsd,
    /// The cost of all parts at that price: the amount to reserve.
    pub cost: MicroUsd,
}

/// Returns the expected cost of a job sent now.
///
/// From measured spreads it takes the ninetieth percentile, not the median: this amount is
/// reserved, and a reservation that every second job exceeds would protect no limit.
pub fn estimate(situation: &EstimateInput) -> Estimate {
    let EstimateInput { learned, activity, keep_warm, hourly, now } = *situation;
    let believe = |spread: Option<DurationSpread>, default| match spread {
        Some(spread) if spread.samples >= MIN_SAMPLES => (spread.p90, EstimateBasis::Learned),
        Some(_) | None => (default, EstimateBasis::Default),
    };
    let cold = is_cold(activity, keep_warm, now).then(|| believe(learned.cold, DEFAULT_COLD_START));
    let (run, run_basis) = believe(learned.run, DEFAULT_RUN);
    let keep_warm = unpaid_keep_warm(activity, keep_warm, now);
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

    fn spread(p90: u64, samples: u32) -> DurationSpread {
        DurationSpread { p10: secs(1), median: secs(2), p90: secs(p90), samples }
    }

    fn situation(activity: MachineActivity, learned: PastTimings) -> EstimateInput {
        EstimateInput { learned, activity, keep_warm: secs(60), hourly: CENT_A_SECOND, now: NOW }
    }

    fn idle_for(seconds: u64) -> MachineActivity {
        MachineActivity::Until(NOW.minus(secs(seconds)))
    }

    #[test]
    fn the_first_job_ever_pays_the_published_cold_start_the_run_and_the_idling() {
        let estimate = estimate(&situation(MachineActivity::Never, PastTimings::default()));
        assert_eq!(estimate.cold, Some((DEFAULT_COLD_START, EstimateBasis::Default)));
        assert_eq!(estimate.run_basis, EstimateBasis::Default);
        assert_eq!(estimate.cost, MicroUsd::from_cents(240 + 210 + 60));
    }

    #[test]
    fn a_warm_machine_adds_only_the_run_and_the_idle_time_since() {
        let learned = PastTimings { run: Some(spread(70, 3)), ..PastTimings::default() };
        let estimate = estimate(&situation(idle_for(20), learned));
        assert_eq!(estimate.cold, None);
        assert_eq!((estimate.run, estimate.run_basis), (secs(70), EstimateBasis::Learned));
        assert_eq!(estimate.cost, MicroUsd::from_cents(70 + 20));
    }

    #[test]
    fn a_machine_at_work_adds_only_the_run() {
        let learned = PastTimings { run: Some(spread(70, 3)), ..PastTimings::default() };
        let estimate = estimate(&situation(MachineActivity::Now, learned));
        assert_eq!((estimate.cold, estimate.cost), (None, MicroUsd::from_cents(70)));
    }

    #[test]
    fn a_machine_sleeps_exactly_when_its_keep_warm_time_is_over() {
        assert!(!is_cold(idle_for(59), secs(60), NOW));
        assert!(is_cold(idle_for(60), secs(60), NOW));
        assert!(
            !is_cold(MachineActivity::Until(NOW.plus(secs(5))), secs(60), NOW),
            "clock set back"
        );
    }

    #[test]
    fn two_samples_do_not_set_the_price() {
        let learned = PastTimings {
            cold: Some(spread(9, 2)),
            run: Some(spread(9, 2)),
            ..PastTimings::default()
        };
        let estimate = estimate(&situation(MachineActivity::Never, learned));
        assert_eq!(estimate.run, DEFAULT_RUN);
        assert_eq!(estimate.cold, Some((DEFAULT_COLD_START, EstimateBasis::Default)));
    }

    #[test]
    fn one_s_own_machine_costs_nothing() {
        let own = EstimateInput {
            hourly: MicroUsd::ZERO,
            ..situation(MachineActivity::Never, PastTimings::default())
        };
        assert_eq!(estimate(&own).cost, MicroUsd::ZERO);
    }

    #[test]
    fn few_samples_give_their_worst_as_the_ninetieth_percentile() {
        let three = DurationSpread::of(vec![secs(9), secs(1), secs(5)]).expect("there are samples");
        assert_eq!((three.p10, three.median, three.p90), (secs(1), secs(5), secs(9)));
        let hundred = DurationSpread::of((1..=101).map(secs).collect()).expect("there are samples");
        assert_eq!((hundred.p10, hundred.median, hundred.p90), (secs(11), secs(51), secs(91)));
        assert_eq!(DurationSpread::of(Vec::new()), None);
    }

    proptest! {
        /// The machine is awake for one span of real time: the costs booked by the jobs of a burst
        /// must add up to it.
        #[test]
        fn a_burst_books_every_second_of_the_machine_once(
            jobs in prop::collection::vec((0_u64..60, 1_u64..300), 1..12), cold_start in 0_u64..600,
        ) {
            let keep_warm = secs(60);
            let (mut at, mut activity, mut booked) = (NOW, MachineActivity::Never, MicroUsd::ZERO);
            for (number, &(idle, run)) in jobs.iter().enumerate() {
                if number > 0 {
                    at = at.plus(secs(idle));
                }
                let cold = is_cold(activity, keep_warm, at);
                prop_assert_eq!(cold, number == 0);
                let share = unpaid_keep_warm(activity, keep_warm, at);
                let waited = secs(if cold { cold_start } else { 0 });
                booked = booked + cost_of(waited + secs(run) + share, CENT_A_SECOND);
                at = at.plus(waited + secs(run));
                activity = MachineActivity::Until(at);
            }
            prop_assert_eq!(booked, cost_of(at.since(NOW) + keep_warm, CENT_A_SECOND));
        }

        #[test]
        fn a_spread_is_ordered_and_made_of_its_samples(samples in prop::collection::vec(0_u64..10_000, 1..80)) {
            let spread = DurationSpread::of(samples.iter().copied().map(secs).collect()).expect("there are samples");
            prop_assert!(spread.p10 <= spread.median && spread.median <= spread.p90);
            for value in [spread.p10, spread.median, spread.p90] {
                prop_assert!(samples.contains(&value.as_secs()));
            }
        }
    }
}
