//! Summarises past jobs: sums, rates and medians over a group.
//!
//! Owns the arithmetic behind `conjured cost`. The caller chooses which jobs form a group (a civil
//! day, a project…).

pub mod what_if;

use std::time::Duration;

use serde::Serialize;

use super::{
    job::State,
    money::{
        MicroUsd,
        job_cost::{Basis, Terms},
    },
    time::WallTime,
};

/// The facts about a past job that matter for its cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The number of the session that paid.
    pub session: i64,
    /// The project's name.
    pub project: String,
    /// The deployment, if there was one.
    pub deployment: Option<String>,
    /// The mode.
    pub mode: String,
    /// The workflow's name and version.
    pub workflow: String,
    /// When it was released.
    pub released: WallTime,
    /// When its request was accepted, if ever.
    pub submitted: Option<WallTime>,
    /// When it ended.
    pub ended: Option<WallTime>,
    /// Its current state.
    pub state: State,
    /// The reserved amount.
    pub reserved: MicroUsd,
    /// The booked cost; `None` while the reservation counts.
    pub booked: Option<MicroUsd>,
    /// How the booked cost was obtained.
    pub basis: Option<Basis>,
    /// The terms that applied when it was sent.
    pub terms: Option<Terms>,
    /// Whether it waited for a machine to wake.
    pub cold: Option<bool>,
    /// From submit to run, if measured.
    pub queue: Option<Duration>,
    /// The run time, if measured.
    pub run: Option<Duration>,
    /// The rating from 1 to 5, if rated.
    pub rating: Option<u8>,
}

/// The costs and results of a group of jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    /// The number of all jobs.
    pub jobs: u64,
    /// The number of placed results.
    pub done: u64,
    /// The number of failed jobs.
    pub failed: u64,
    /// The number of cancelled or superseded jobs.
    pub cancelled: u64,
    /// The number of jobs that may or may not have run.
    pub unknown: u64,
    /// The number of jobs that have not ended yet.
    pub open: u64,
    /// The share of done jobs among all that ended without being cancelled or superseded; `None`
    /// without any.
    pub success_rate: Option<f64>,
    /// The sum of booked costs.
    pub booked_microusd: MicroUsd,
    /// The part of it that is an upper bound, because those runs were not fully observed.
    pub bounded_microusd: MicroUsd,
    /// The number of rented machines. Their cost is included in the sums.
    pub machines: u64,
    /// The cost of the rented machines, booked or reserved.
    pub machines_microusd: MicroUsd,
    /// The sum of reservations that still count, because nothing better is known.
    pub reserved_microusd: MicroUsd,
    /// Booked and reserved costs, divided by the number of results.
    pub cost_per_result_microusd: Option<MicroUsd>,
    /// The median time from release to result in milliseconds, if the machine slept.
    pub median_cold_ms: Option<u64>,
    /// The same if it was awake.
    pub median_warm_ms: Option<u64>,
    /// The mean of the ratings.
    pub mean_rating: Option<f64>,
    /// The number of rated jobs.
    pub rated: u64,
}

/// Returns the summary of `jobs`.
pub fn tally<'a>(jobs: impl IntoIterator<Item = &'a Past>) -> Tally {
    let mut tally = Tally::default();
    let (mut cold, mut warm, mut stars) = (Vec::new(), Vec::new(), 0_u64);
    for job in jobs {
        tally.jobs += 1;
        *match job.state {
            State::Done => &mut tally.done,
            State::Failed => &mut tally.failed,
            State::Cancelled | State::Replaced => &mut tally.cancelled,
            State::Unknown => &mut tally.unknown,
            _ => &mut tally.open,
        } += 1;
        match job.booked {
            Some(booked) => {
                tally.booked_microusd = tally.booked_microusd + booked;
                if job.basis == Some(Basis::Bounded) {
                    tally.bounded_microusd = tally.bounded_microusd + booked;
                }
            }
            None => tally.reserved_microusd = tally.reserved_microusd + job.reserved,
        }
        if let (State::Done, Some(ended), Some(_)) = (job.state, job.ended, job.submitted) {
            let was_cold = job.cold.or_else(|| Some(job.terms?.cold_start.is_some()));
            match was_cold {
                Some(true) => cold.push(ended.since(job.released)),
                Some(false) => warm.push(ended.since(job.released)),
                None => {}
            }
        }
        if let Some(rating) = job.rating {
            tally.rated += 1;
            stars += u64::from(rating);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of jobs")]
    let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    tally.success_rate = ratio(tally.done, tally.done + tally.failed + tally.unknown);
    tally.mean_rating = ratio(stars, tally.rated);
    tally.cost_per_result_microusd =
        per_result(tally.booked_microusd + tally.reserved_microusd, tally.done);
    tally.median_cold_ms = median(cold).map(millis);
    tally.median_warm_ms = median(warm).map(millis);
    tally
}

/// The facts about a rented machine that matter for its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rented {
    /// The number of the session that paid.
    pub session: i64,
    /// When it was launched.
    pub launched: WallTime,
    /// The reserved amount.
    pub reserved: MicroUsd,
    /// The booked cost; `None` while the reservation counts.
    pub booked: Option<MicroUsd>,
    /// How the booked cost was obtained.
    pub basis: Option<Basis>,
}

impl Tally {
    /// Adds rented machines. Each one counts once, however many jobs ran on it.
    pub fn add<'a>(&mut self, machines: impl IntoIterator<Item = &'a Rented>) {
        for machine in machines {
            self.machines += 1;
            let spent = machine.booked.unwrap_or(machine.reserved);
            self.machines_microusd = self.machines_microusd + spent;
            match machine.booked {
                Some(booked) => {
                    self.booked_microusd = self.booked_microusd + booked;
                    if machine.basis == Some(Basis::Bounded) {
                        self.bounded_microusd = self.bounded_microusd + booked;
                    }
                }
                None => self.reserved_microusd = self.reserved_microusd + machine.reserved,
            }
        }
        let all = self.booked_microusd + self.reserved_microusd;
        self.cost_per_result_microusd = per_result(all, self.done);
    }
}

fn per_result(all: MicroUsd, done: u64) -> Option<MicroUsd> {
    i64::try_from(done).ok().filter(|done| *done > 0).map(|done| MicroUsd(all.0 / done))
}

/// Returns the median; with an even number of values, the later of the two middle ones.
pub fn median(mut spans: Vec<Duration>) -> Option<Duration> {
    spans.sort_unstable();
    spans.get(spans.len() / 2).copied()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a job that was released at second `at` and done `took` seconds later.
    pub(crate) fn done(at: i64, took: i64, cold: bool) -> Past {
        let second = |second: i64| WallTime::from_unix_millis(second * 1000);
        Past {
            session: 1,
            project: "art".into(),
            deployment: Some("deployment-a".into()),
            mode: "auto".into(),
            workflow: "w".into(),
            released: second(at),
            submitted: Some(second(at)),
            ended: Some(second(at + took)),
            state: State::Done,
            reserved: MicroUsd(900),
            booked: Some(MicroUsd(500)),
            basis: Some(Basis::Measured),
            terms: None,
            cold: Some(cold),
            queue: None,
            run: None,
            rating: None,
        }
    }

    #[test]
    fn nothing_has_sums_and_no_rates() {
        assert_eq!(tally(&[]), Tally::default());
    }

    #[test]
    fn a_machine_costs_once_however_many_jobs_were_made_on_it() {
        let free = Past { booked: Some(MicroUsd::ZERO), ..done(0, 30, false) };
        let mut tally = tally(&[free.clone(), Past { rating: None, ..free }]);
        let machine = |booked: Option<i64>| Rented {
            session: 1,
            launched: WallTime::default(),
            reserved: MicroUsd(900),
            booked: booked.map(MicroUsd),
            basis: booked.map(|_| Basis::Bounded),
        };
        tally.add(&[machine(Some(500)), machine(None)]);
        assert_eq!((tally.machines, tally.machines_microusd), (2, MicroUsd(1400)));
        assert_eq!(tally.booked_microusd, MicroUsd(500));
        assert_eq!(tally.bounded_microusd, MicroUsd(500));
        assert_eq!(tally.reserved_microusd, MicroUsd(900));
        assert_eq!(tally.cost_per_result_microusd, Some(MicroUsd(700)));
    }

    #[test]
    fn what_is_booked_and_what_is_only_reserved_stay_apart() {
        let jobs = [
            Past { rating: Some(4), ..done(0, 300, true) },
            done(400, 60, false),
            Past { basis: Some(Basis::Bounded), rating: Some(5), ..done(500, 80, false) },
            Past { state: State::Unknown, booked: None, ..done(600, 9, false) },
            Past { state: State::Cancelled, booked: Some(MicroUsd(0)), ..done(700, 9, false) },
            Past { state: State::Running, booked: None, ended: None, ..done(800, 9, false) },
        ];
        let tally = tally(&jobs);
        assert_eq!(
            (tally.jobs, tally.done, tally.unknown, tally.cancelled, tally.open),
            (6, 3, 1, 1, 1)
        );
        assert_eq!(
            tally.success_rate,
            Some(0.75),
            "a cancel is no failure, an unknown job no success"
        );
        assert_eq!(tally.booked_microusd, MicroUsd(1500));
        assert_eq!(tally.bounded_microusd, MicroUsd(500));
        assert_eq!(tally.reserved_microusd, MicroUsd(1800));
        assert_eq!(tally.cost_per_result_microusd, Some(MicroUsd(1100)));
        assert_eq!((tally.median_cold_ms, tally.median_warm_ms), (Some(300_000), Some(80_000)));
        assert_eq!((tally.mean_rating, tally.rated), (Some(4.5), 2));
    }
}
