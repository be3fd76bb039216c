//! Computes a finished job's cost from observed times: exact if possible, otherwise an upper bound.
//!
//! Owns the arithmetic of a bill and the word for how its figure was obtained. Expected costs are
//! [`super::estimate`]'s; the ledger decides what happens to a reservation.
//!
//! The service reports when it accepted a request and when the request ended, by its own clock, but
//! not when the run started. Our clock knows when each step was observed, but not what happened
//! between observations. So each duration is measured within one clock, and the start of a run is
//! only known to lie between two status calls: the longer of the two possible runs is billed.

use std::time::Duration;

use super::{MicroUsd, cost_of, estimate::Estimate};

/// The longest time between two observations of a step that still counts as measured: three of
/// the longest pauses between polls (`serverless.poll_max_ms` is 5 s), because one call may
/// fail or hang.
pub const EXACT_TOLERANCE: Duration = Duration::from_secs(15);

/// How much earlier than our receipt of the answer the service may have accepted the request: the
/// time-out of a submit.
const ANSWER_LATENCY: Duration = Duration::from_secs(60);

/// The terms that applied when a job was sent. They are stored with it, because they change: a
/// machine goes cold, prices and plans change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PriceTerms {
    /// The expected cold start time; `None` if the machine should have been awake.
    pub cold_start: Option<Duration>,
    /// The idling afterwards that no earlier job has paid for.
    pub keep_warm: Duration,
    /// The price of the machine per hour.
    pub hourly: MicroUsd,
}

impl PriceTerms {
    /// Returns the terms that an estimate was based on.
    pub fn of(estimate: &Estimate) -> Self {
        Self {
            cold_start: estimate.cold.map(|(span, _)| span),
            keep_warm: estimate.keep_warm,
            hourly: estimate.hourly,
        }
    }
}

/// A duration between two bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationRange {
    /// The lower bound.
    pub min: Duration,
    /// The upper bound.
    pub max: Duration,
}

impl DurationRange {
    /// Returns whether the bounds are close enough to count as measured.
    fn is_exact(&self) -> bool {
        self.max.saturating_sub(self.min) <= EXACT_TOLERANCE
    }
}

/// What is known about a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObservedTimes {
    /// From receiving the request's id to the start of the run, by our clock.
    pub waited: Option<DurationRange>,
    /// From receiving the request's id to its end, by our clock.
    pub lasted: Option<DurationRange>,
    /// From accepting the request to its end, by the service's clock.
    pub reported: Option<Duration>,
}

/// Returns the duration that the service reports, unless our own observations show that its clock
/// cannot be right.
pub fn plausible(reported: Duration, lasted: DurationRange) -> Option<Duration> {
    let possible =
        reported <= lasted.max + ANSWER_LATENCY && reported + EXACT_TOLERANCE >= lasted.min;
    possible.then_some(reported)
}

/// How a figure was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CostBasis {
    /// No machine was active.
    Nothing,
    /// Start and end were observed or reported.
    Measured,
    /// A part was not observed: the cost is this much or less.
    Bounded,
    /// Nothing is known: the figure is the reservation.
    Reserved,
}

impl CostBasis {
    /// Every basis.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Measured, Self::Bounded, Self::Reserved];

    /// Returns its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Measured => "measured",
            Self::Bounded => "bounded",
            Self::Reserved => "reserved",
        }
    }
}

/// The cost of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobCost {
    /// The cost of cold start and run.
    pub machine: MicroUsd,
    /// The cost of the idling afterwards. It stays an estimate, because the service does not report
    /// when a machine went to sleep.
    pub keep_warm: MicroUsd,
    /// How [`Self::machine`] was obtained: measured or bounded.
    pub basis: CostBasis,
    /// From the start of the run to its end, for future estimates, if both were observed.
    pub run: Option<Duration>,
    /// From the request to the start of the run, for future estimates, if that was observed.
    pub queue: Option<Duration>,
}

impl JobCost {
    /// Returns the amount that the ledger books.
    pub fn total(&self) -> MicroUsd {
        self.machine + self.keep_warm
    }
}

/// What happens to a job's reservation when the job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Booking {
    /// Nothing ran, so nothing was spent.
    Nothing,
    /// This amount was spent.
    Cost(MicroUsd),
    /// At most this amount was spent; part of the run was not observed.
    AtMost(MicroUsd),
    /// The cost is unknown: the reservation stays.
    Reserved,
}

impl From<MicroUsd> for Booking {
    fn from(cost: MicroUsd) -> Self {
        Self::Cost(cost)
    }
}

impl From<JobCost> for Booking {
    fn from(cost: JobCost) -> Self {
        match cost.basis {
            CostBasis::Nothing | CostBasis::Measured => Self::Cost(cost.total()),
            CostBasis::Bounded | CostBasis::Reserved => Self::AtMost(cost.total()),
        }
    }
}

/// Returns the cost of a job that ran, or `None` if nothing is known, so that the
/// reservation stays.
///
/// On a cold machine the whole time from request to end counts as cold start and run. That is an
/// upper bound (a part may have been free queueing), because the service does not report when the
/// machine began to wake.
pub fn job_cost(terms: &PriceTerms, times: &ObservedTimes) -> Option<JobCost> {
    let (whole, whole_seen) = match (times.reported, times.lasted) {
        (Some(reported), _) => (reported, true),
        (None, Some(lasted)) if !lasted.max.is_zero() => (lasted.max, lasted.is_exact()),
        (None, _) => return None,
    };
    let start_seen = times.waited.is_some_and(|waited| waited.is_exact());
    let (awake, exact) = match (terms.cold_start, times.waited) {
        (Some(_), _) => (whole, whole_seen),
        (None, Some(waited)) => (whole.saturating_sub(waited.min), whole_seen && start_seen),
        (None, None) => (whole, false),
    };
    let learned = whole_seen && start_seen;
    let waited = times.waited.filter(|_| learned).map(|waited| waited.max);
    Some(JobCost {
        machine: cost_of(awake, terms.hourly),
        keep_warm: cost_of(terms.keep_warm, terms.hourly),
        basis: if exact { CostBasis::Measured } else { CostBasis::Bounded },
        run: waited.map(|waited| whole.saturating_sub(waited)),
        queue: waited,
    })
}

/// Returns what is booked for a run that has ended, for which `reserved` was set aside.
pub fn booking(terms: &PriceTerms, times: &ObservedTimes, reserved: MicroUsd) -> Booking {
    // Free, or the same work as before: there is nothing to bill.
    if reserved == MicroUsd::ZERO {
        return Booking::Nothing;
    }
    job_cost(terms, times).map_or(Booking::Reserved, Booking::from)
}

/// Returns the most that a request can have cost if it ended in the queue. Waiting is free, but the
/// request has woken a sleeping machine, and a waking machine is billed. If `followed`, a newer
/// request takes over the machine and pays the rest.
pub fn cost_without_run(
    terms: &PriceTerms,
    waited: Duration,
    followed: bool,
    reserved: MicroUsd,
) -> MicroUsd {
    let Some(cold_start) = terms.cold_start else { return MicroUsd::ZERO };
    let awake = if followed { waited } else { waited.max(cold_start) + terms.keep_warm };
    cost_of(awake, terms.hourly).min(reserved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A rate at which a second costs one cent.
    const CENT_A_SECOND: MicroUsd = MicroUsd::from_cents(3600);

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands where a step may be unseen")]
    const fn between(least: u64, most: u64) -> Option<DurationRange> {
        Some(DurationRange { min: secs(least), max: secs(most) })
    }

    fn terms(cold: bool) -> PriceTerms {
        PriceTerms {
            cold_start: cold.then_some(secs(240)),
            keep_warm: secs(60),
            hourly: CENT_A_SECOND,
        }
    }

    #[test]
    fn each_kind_of_blindness_has_its_honest_figure() {
        use CostBasis::{Bounded, Measured};
        // cold, waited, lasted, reported → cents of machine time, basis, seconds of run to learn
        // from
        let cases = [
            (
                "all seen, cold",
                true,
                between(199, 201),
                between(229, 231),
                Some(230),
                Some((230, Measured, Some(29))),
            ),
            (
                "all seen, warm",
                false,
                between(9, 10),
                between(39, 41),
                Some(40),
                Some((31, Measured, Some(30))),
            ),
            ("start unseen, cold", true, None, None, Some(230), Some((230, Measured, None))),
            ("start unseen, warm", false, None, None, Some(40), Some((40, Bounded, None))),
            (
                "start somewhere in an hour, warm",
                false,
                between(5, 3605),
                None,
                Some(3635),
                Some((3630, Bounded, None)),
            ),
            (
                "no times reported, all seen",
                false,
                between(9, 10),
                between(39, 41),
                None,
                Some((32, Measured, Some(31))),
            ),
            (
                "no times reported, the end unseen",
                true,
                between(9, 10),
                between(20, 900),
                None,
                Some((900, Bounded, None)),
            ),
            ("a clock set back while nobody looked", true, None, between(0, 0), None, None),
            ("nothing at all", false, None, None, None, None),
        ];
        for (name, cold, waited, lasted, reported, wanted) in cases {
            let times = ObservedTimes { waited, lasted, reported: reported.map(secs) };
            let got = job_cost(&terms(cold), &times);
            let wanted = wanted.map(|(cents, basis, run)| {
                (MicroUsd::from_cents(cents), MicroUsd::from_cents(60), basis, run.map(secs))
            });
            assert_eq!(got.map(|b| (b.machine, b.keep_warm, b.basis, b.run)), wanted, "{name}");
        }
    }

    #[test]
    fn a_service_whose_clock_cannot_be_right_is_not_believed() {
        let lasted = DurationRange { min: secs(100), max: secs(105) };
        assert_eq!(plausible(secs(104), lasted), Some(secs(104)));
        assert_eq!(plausible(secs(160), lasted), Some(secs(160)), "the answer took long");
        assert_eq!(plausible(secs(7200), lasted), None);
        assert_eq!(plausible(secs(0), lasted), None);
    }

    #[test]
    fn a_request_that_woke_a_machine_and_did_not_run_is_not_free() {
        let reserved = MicroUsd::from_cents(500);
        assert_eq!(cost_without_run(&terms(false), secs(50), false, reserved), MicroUsd::ZERO);
        assert_eq!(
            cost_without_run(&terms(true), secs(50), true, reserved),
            MicroUsd::from_cents(50)
        );
        assert_eq!(
            cost_without_run(&terms(true), secs(50), false, reserved),
            MicroUsd::from_cents(300)
        );
        assert_eq!(
            cost_without_run(&terms(true), secs(900), false, reserved),
            reserved,
            "not more than reserved"
        );
    }

    proptest! {
        /// Whatever was not observed, the figure is not below the true cost.
        #[test]
        fn a_bill_is_never_too_low(
            wait in 0_u64..1000, run in 0_u64..1000, before in 0_u64..500, after in 0_u64..500,
            cold: bool, reported: bool,
        ) {
            let times = ObservedTimes {
                waited: between(wait.saturating_sub(before), wait + after),
                lasted: between((wait + run).saturating_sub(before), wait + run + after),
                reported: reported.then_some(secs(wait + run)),
            };
            let truth = cost_of(secs(if cold { wait + run } else { run }), CENT_A_SECOND);
            if let Some(cost) = job_cost(&terms(cold), &times) {
                prop_assert!(cost.machine >= truth);
                if before + after == 0 {
                    prop_assert_eq!((cost.machine, cost.basis), (truth, CostBasis::Measured));
                }
            }
        }
    }
}
