//! What a job has cost, from what was seen and told of it: exact where it can be, else a figure that it surely did not exceed.
//!
//! Owns the arithmetic of a bill and the word for how it came about. Expectations are [`super::estimate`]'s; what happens
//! to a reservation is the ledger's.
//!
//! The service tells when it took a request in and when it ended, by its own clock, and nothing of the start between. Our
//! clock knows when we heard of each step, and nothing of what happened while nobody listened. So durations are taken within
//! one clock, and the start of a run is known as lying between two looks: what is billed is the longer run of the two.

use std::time::Duration;

use super::{MicroUsd, cost_of, estimate::Estimate};

/// The most that may lie between two looks at a step for it to count as seen: three of the longest pauses between polls
/// (`serverless.poll_max_ms` is 5 s), as one call may fail or hang.
pub const SEEN_WITHIN: Duration = Duration::from_secs(15);

/// How much earlier the service may have taken a request in than we read its answer: the time-out of a submit.
const ANSWER: Duration = Duration::from_secs(60);

/// The terms on which a job was sent. They are kept with it, as they change: a machine goes cold, prices and plans change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long the cold start was expected to take; `None` where the machine should have been awake.
    pub cold_start: Option<Duration>,
    /// The idling afterwards that no earlier job has paid for.
    pub keep_warm: Duration,
    /// What an hour of the machine costs.
    pub hourly: MicroUsd,
}

impl Terms {
    /// Returns the terms that an estimate was made on.
    pub fn of(estimate: &Estimate) -> Self {
        Self {
            cold_start: estimate.cold.map(|(span, _)| span),
            keep_warm: estimate.keep_warm,
            hourly: estimate.hourly,
        }
    }
}

/// A duration that lies between two others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Between {
    /// It was not shorter.
    pub least: Duration,
    /// It was not longer.
    pub most: Duration,
}

impl Between {
    /// Tells whether its ends are so near to each other that it counts as measured.
    fn is_seen(&self) -> bool {
        self.most.saturating_sub(self.least) <= SEEN_WITHIN
    }
}

/// What is known of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// From the request's id to the start of the run, by our clock.
    pub waited: Option<Between>,
    /// From the request's id to its end, by our clock.
    pub lasted: Option<Between>,
    /// From taking the request in to its end, by the service's clock.
    pub told: Option<Duration>,
}

/// Returns the span that a service tells of, unless what we saw ourselves says that its clock cannot be right.
pub fn believable(told: Duration, lasted: Between) -> Option<Duration> {
    let possible = told <= lasted.most + ANSWER && told + SEEN_WITHIN >= lasted.least;
    possible.then_some(told)
}

/// How a figure came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// No machine was at work.
    Nothing,
    /// Start and end were seen or told.
    Measured,
    /// Some of it happened unseen: it cost this or less.
    Bounded,
    /// Nothing is known: what was reserved.
    Reserved,
}

impl Basis {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Measured, Self::Bounded, Self::Reserved];

    /// Returns its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Measured => "measured",
            Self::Bounded => "bounded",
            Self::Reserved => "reserved",
        }
    }
}

/// A bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    /// Cold start and run.
    pub machine: MicroUsd,
    /// The idling afterwards: an estimate for ever, the service does not tell when a machine went to sleep.
    pub keep_warm: MicroUsd,
    /// How [`Self::machine`] came about: measured or bounded.
    pub basis: Basis,
    /// From the start of the run to its end, where both were seen: to learn from.
    pub run: Option<Duration>,
    /// From the request to the start of the run, where that was seen: to learn from.
    pub queue: Option<Duration>,
}

impl Bill {
    /// Returns what the ledger books.
    pub fn total(&self) -> MicroUsd {
        self.machine + self.keep_warm
    }
}

/// Returns what a job that ran has cost; `None` when nothing is known, and the reservation stays.
///
/// On a cold machine all of the time from request to end is taken for cold start and run. That is an upper bound (some may have
/// been free queueing), as the service names no moment at which the machine began to wake.
pub fn bill(terms: &Terms, seen: &Seen) -> Option<Bill> {
    let (whole, whole_seen) = match (seen.told, seen.lasted) {
        (Some(told), _) => (told, true),
        (None, Some(lasted)) if !lasted.most.is_zero() => (lasted.most, lasted.is_seen()),
        (None, _) => return None,
    };
    let start_seen = seen.waited.is_some_and(|waited| waited.is_seen());
    let (awake, exact) = match (terms.cold_start, seen.waited) {
        (Some(_), _) => (whole, whole_seen),
        (None, Some(waited)) => (whole.saturating_sub(waited.least), whole_seen && start_seen),
        (None, None) => (whole, false),
    };
    let learned = whole_seen && start_seen;
    let waited = seen.waited.filter(|_| learned).map(|waited| waited.most);
    Some(Bill {
        machine: cost_of(awake, terms.hourly),
        keep_warm: cost_of(terms.keep_warm, terms.hourly),
        basis: if exact { Basis::Measured } else { Basis::Bounded },
        run: waited.map(|waited| whole.saturating_sub(waited)),
        queue: waited,
    })
}

/// Returns the most that a request has cost which ended in the queue. Waiting is free; but the request has woken the machine if
/// it slept, and a machine that is waking is paid for. Where `followed`, a newer request takes it over and pays the rest.
pub fn unrun(terms: &Terms, waited: Duration, followed: bool, reserved: MicroUsd) -> MicroUsd {
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
    const fn between(least: u64, most: u64) -> Option<Between> {
        Some(Between { least: secs(least), most: secs(most) })
    }

    fn terms(cold: bool) -> Terms {
        Terms { cold_start: cold.then_some(secs(240)), keep_warm: secs(60), hourly: CENT_A_SECOND }
    }

    #[test]
    fn each_kind_of_blindness_has_its_honest_figure() {
        use Basis::{Bounded, Measured};
        // cold, waited, lasted, told → cents of machine time, basis, seconds of run to learn from
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
                "no times told, all seen",
                false,
                between(9, 10),
                between(39, 41),
                None,
                Some((32, Measured, Some(31))),
            ),
            (
                "no times told, the end unseen",
                true,
                between(9, 10),
                between(20, 900),
                None,
                Some((900, Bounded, None)),
            ),
            ("a clock set back while nobody looked", true, None, between(0, 0), None, None),
            ("nothing at all", false, None, None, None, None),
        ];
        for (name, cold, waited, lasted, told, wanted) in cases {
            let seen = Seen { waited, lasted, told: told.map(secs) };
            let got = bill(&terms(cold), &seen);
            let wanted = wanted.map(|(cents, basis, run)| {
                (MicroUsd::from_cents(cents), MicroUsd::from_cents(60), basis, run.map(secs))
            });
            assert_eq!(got.map(|b| (b.machine, b.keep_warm, b.basis, b.run)), wanted, "{name}");
        }
    }

    #[test]
    fn a_service_whose_clock_cannot_be_right_is_not_believed() {
        let lasted = Between { least: secs(100), most: secs(105) };
        assert_eq!(believable(secs(104), lasted), Some(secs(104)));
        assert_eq!(believable(secs(160), lasted), Some(secs(160)), "the answer took long");
        assert_eq!(believable(secs(7200), lasted), None);
        assert_eq!(believable(secs(0), lasted), None);
    }

    #[test]
    fn a_request_that_woke_a_machine_and_did_not_run_is_not_free() {
        let reserved = MicroUsd::from_cents(500);
        assert_eq!(unrun(&terms(false), secs(50), false, reserved), MicroUsd::ZERO);
        assert_eq!(unrun(&terms(true), secs(50), true, reserved), MicroUsd::from_cents(50));
        assert_eq!(unrun(&terms(true), secs(50), false, reserved), MicroUsd::from_cents(300));
        assert_eq!(
            unrun(&terms(true), secs(900), false, reserved),
            reserved,
            "not more than reserved"
        );
    }

    proptest! {
        /// Whatever was unseen, the figure is not below the truth.
        #[test]
        fn a_bill_is_never_too_low(
            wait in 0_u64..1000, run in 0_u64..1000, before in 0_u64..500, after in 0_u64..500,
            cold: bool, told: bool,
        ) {
            let seen = Seen {
                waited: between(wait.saturating_sub(before), wait + after),
                lasted: between((wait + run).saturating_sub(before), wait + run + after),
                told: told.then_some(secs(wait + run)),
            };
            let truth = cost_of(secs(if cold { wait + run } else { run }), CENT_A_SECOND);
            if let Some(bill) = bill(&terms(cold), &seen) {
                prop_assert!(bill.machine >= truth);
                if before + after == 0 {
                    prop_assert_eq!((bill.machine, bill.basis), (truth, Basis::Measured));
                }
            }
        }
    }
}
