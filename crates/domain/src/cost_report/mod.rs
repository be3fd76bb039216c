//! Summarises past jobs: sums, rates and medians over a group.
//!
//! Owns the arithmetic behind `conjured cost`. The caller chooses which jobs form a group (a civil
//! day, a project…).

pub mod what_if;

use std::time::Duration;

use serde::Serialize;

use super::{
    job::JobState,
    money::{
        MicroUsd,
        job_cost::{CostBasis, PriceTerms},
    },
    time::WallTime,
};

/// The facts about a past job that matter for its cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastJob {
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
    pub state: JobState,
    /// The reserved amount.
    pub reserved: MicroUsd,
    /// The booked cost; `None` while the reservation counts.
    pub booked: Option<MicroUsd>,
    /// How the booked cost was obtained.
    pub basis: Option<CostBasis>,
    /// The terms that applied when it was sent.
    pub terms: Option<PriceTerms>,
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
pub struct CostSummary {
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
pub fn summarize<'a>(jobs: impl IntoIterator<Item = &'a PastJob>) -> CostSummary {
    let mut summary = CostSummary::default();
    let (mut cold, mut warm, mut stars) = (Vec::new(), Vec::new(), 0_u64);
    for job in jobs {
        summary.jobs += 1;
        *match job.state {
            JobState::Done => &mut summary.done,
            JobState::Failed => &mut summary.failed,
            JobState::Cancelled | JobState::Replaced => &mut summary.cancelled,
            JobState::Unknown => &mut summary.unknown,
            _ => &mut summary.open,
        } += 1;
        match job.booked {
            Some(booked) => {
                summary.booked_microusd = summary.booked_microusd + booked;
                if job.basis == Some(CostBasis::Bounded) {
                    summary.bounded_microusd = summary.bounded_microusd + booked;
                }
            }
            None => summary.reserved_microusd = summary.reserved_microusd + job.reserved,
        }
        if let (JobState::Done, Some(ended), Some(_)) = (job.state, job.ended, job.submitted) {
            let was_cold = job.cold.or_else(|| Some(job.terms?.cold_start.is_some()));
            match was_cold {
                Some(true) => cold.push(ended.since(job.released)),
                Some(false) => warm.push(ended.since(job.released)),
                None => {}
            }
        }
        if let Some(rating) = job.rating {
            summary.rated += 1;
            stars += u64::from(rating);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of jobs")]
    let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    summary.success_rate = ratio(summary.done, summary.done + summary.failed + summary.unknown);
    summary.mean_rating = ratio(stars, summary.rated);
    summary.cost_per_result_microusd =
        per_result(summary.booked_microusd + summary.reserved_microusd, summary.done);
    summary.median_cold_ms = median(cold).map(millis);
    summary.median_warm_ms = median(warm).map(millis);
    summary
}

/// The facts about a rented machine that matter for its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastServer {
    /// The number of the session that paid.
    pub session: i64,
    /// When it was launched.
    pub launched: WallTime,
    /// The reserved amount.
    pub reserved: MicroUsd,
    /// The booked cost; `None` while the reservation counts.
    pub booked: Option<MicroUsd>,
    /// How the booked cost was obtained.
    pub basis: Option<CostBasis>,
}

impl CostSummary {
    /// Adds rented machines. Each one counts once, however many jobs ran on it.
    pub fn add_servers<'a>(&mut self, machines: impl IntoIterator<Item = &'a PastServer>) {
        for machine in machines {
            self.machines += 1;
            let spent = machine.booked.unwrap_or(machine.reserved);
            self.machines_microusd = self.machines_microusd + spent;
            match machine.booked {
                Some(booked) => {
                    self.booked_microusd = self.booked_microusd + booked;
                    if machine.basis == Some(CostBasis::Bounded) {
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
    pub(crate) fn done(at: i64, took: i64, cold: bool) -> PastJob {
        let second = |second: i64| WallTime::from_unix_millis(second * 1000);
        PastJob {
            session: 1,
            project: "art".into(),
            deployment: Some("deployment-a".into()),
            mode: "auto".into(),
            workflow: "w".into(),
            released: second(at),
            submitted: Some(second(at)),
            ended: Some(second(at + took)),
            state: JobState::Done,
            reserved: MicroUsd(900),
            booked: Some(MicroUsd(500)),
            basis: Some(CostBasis::Measured),
            terms: None,
            cold: Some(cold),
            queue: None,
            run: None,
            rating: None,
        }
    }

    #[test]
    fn nothing_has_sums_and_no_rates() {
        assert_eq!(summarize(&[]), CostSummary::default());
    }

    #[test]
    fn a_machine_costs_once_however_many_jobs_were_made_on_it() {
        let free = PastJob { booked: Some(MicroUsd::ZERO), ..done(0, 30, false) };
        let mut summary = summarize(&[free.clone(), PastJob { rating: None, ..free }]);
        let machine = |booked: Option<i64>| PastServer {
            session: 1,
            launched: WallTime::default(),
            reserved: MicroUsd(900),
            booked: booked.map(MicroUsd),
            basis: booked.map(|_| CostBasis::Bounded),
        };
        summary.add_servers(&[machine(Some(500)), machine(None)]);
        assert_eq!((summary.machines, summary.machines_microusd), (2, MicroUsd(1400)));
        assert_eq!(summary.booked_microusd, MicroUsd(500));
        assert_eq!(summary.bounded_microusd, MicroUsd(500));
        assert_eq!(summary.reserved_microusd, MicroUsd(900));
        assert_eq!(summary.cost_per_result_microusd, Some(MicroUsd(700)));
    }

    #[test]
    fn what_is_booked_and_what_is_only_reserved_stay_apart() {
        let jobs = [
            PastJob { rating: Some(4), ..done(0, 300, true) },
            done(400, 60, false),
            PastJob { basis: Some(CostBasis::Bounded), rating: Some(5), ..done(500, 80, false) },
            PastJob { state: JobState::Unknown, booked: None, ..done(600, 9, false) },
            PastJob {
                state: JobState::Cancelled,
                booked: Some(MicroUsd(0)),
                ..done(700, 9, false)
            },
            PastJob { state: JobState::Running, booked: None, ended: None, ..done(800, 9, false) },
        ];
        let summary = summarize(&jobs);
        assert_eq!(
            (summary.jobs, summary.done, summary.unknown, summary.cancelled, summary.open),
            (6, 3, 1, 1, 1)
        );
        assert_eq!(
            summary.success_rate,
            Some(0.75),
            "a cancel is no failure, an unknown job no success"
        );
        assert_eq!(summary.booked_microusd, MicroUsd(1500));
        assert_eq!(summary.bounded_microusd, MicroUsd(500));
        assert_eq!(summary.reserved_microusd, MicroUsd(1800));
        assert_eq!(summary.cost_per_result_microusd, Some(MicroUsd(1100)));
        assert_eq!((summary.median_cold_ms, summary.median_warm_ms), (Some(300_000), Some(80_000)));
        assert_eq!((summary.mean_rating, summary.rated), (Some(4.5), 2));
    }
}
