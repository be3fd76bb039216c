//! Computes what other settings of a deployment would have cost, by replaying past jobs.
//!
//! Owns the replay and the sentence of advice. It separates measured values from assumptions: that
//! the artist would have made the same requests at the same times, that machines of other tiers run
//! at the same speed, and that one machine serves all jobs.

use std::time::Duration;

use serde::Serialize;

use super::{PastJob, median};
use crate::{
    money::{
        BillingPlan, MicroUsd, TIERS, Tier, cost_of,
        estimate::{DEFAULT_COLD_START, DEFAULT_KEEP_WARM, DEFAULT_RUN},
    },
    time::WallTime,
};

/// The keep-warm times to try, in seconds: none, RunComfy's default, and the values up to an hour
/// that its form offers.
pub const KEEP_WARM: [u64; 8] = [0, 30, 60, 120, 300, 600, 1800, 3600];

/// The number of jobs needed for advice: fewer are one afternoon, not a habit.
pub const MIN_JOBS: usize = 10;

/// How much more than the cheapest option a recommended one may cost for its shorter waits,
/// in percent.
const MAX_EXTRA_PERCENT: i64 = 10;

/// The past jobs of a deployment, ready for a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentHistory {
    /// When each job was requested and how long it ran, oldest first.
    pub jobs: Vec<(WallTime, Duration)>,
    /// The median of the measured cold starts, or the default.
    pub cold_start: Duration,
    /// The number of measured cold starts.
    pub cold_samples: usize,
    /// The number of measured runs; the others are assumed to take the median, or the default.
    pub run_samples: usize,
    /// The current keep-warm time, as far as the ledger knows.
    pub keep_warm: Duration,
    /// Whether the keep-warm time comes from the ledger and not from the default.
    pub keep_warm_known: bool,
    /// The current price per hour.
    pub hourly: MicroUsd,
}

/// The result of a replay with one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SettingOutcome {
    /// How long a machine idles before it sleeps, in seconds.
    pub keep_warm_s: u64,
    /// The number of machines that never sleep: 0 or 1.
    pub min_instances: u8,
    /// The cost of all jobs.
    pub cost_microusd: MicroUsd,
    /// How long the artist would have waited for all jobs, in seconds.
    pub waited_s: u64,
    /// How often a machine would have had to wake.
    pub cold_starts: u32,
    /// Whether this is the current setting.
    pub current: bool,
}

/// The cost of the current setting on another machine at the same speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OtherServer {
    /// The tier.
    pub tier: &'static str,
    /// RunComfy's name for it.
    pub sku: &'static str,
    /// The plan.
    pub plan: BillingPlan,
    /// The cost of all jobs.
    pub cost_microusd: MicroUsd,
}

/// The findings from a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WhatIf {
    /// Every setting that was tried.
    pub settings: Vec<SettingOutcome>,
    /// The current setting on other machines.
    pub machines: Vec<OtherServer>,
    /// The assumptions for values that were not measured, as sentences.
    pub assumed: Vec<String>,
    /// The recommendation, as a sentence.
    pub sentence: String,
}

impl DeploymentHistory {
    /// Creates the record of the jobs that were sent to one deployment; `None` if there are none.
    pub fn of(jobs: &[&PastJob]) -> Option<Self> {
        let mut sent: Vec<&&PastJob> = jobs.iter().filter(|job| job.submitted.is_some()).collect();
        sent.sort_by_key(|job| job.released);
        let newest = sent.iter().rev().find_map(|job| job.terms)?;
        let runs: Vec<Duration> = sent.iter().filter_map(|job| job.run).collect();
        let cold: Vec<Duration> =
            sent.iter().filter(|job| job.cold == Some(true)).filter_map(|job| job.queue).collect();
        // A job that found the machine asleep was charged the whole idle time, a later one of a
        // burst only a part.
        let keep_warm =
            sent.iter().rev().filter_map(|job| job.terms).find(|t| t.cold_start.is_some());
        let (run_samples, cold_samples) = (runs.len(), cold.len());
        let usual = median(runs).unwrap_or(DEFAULT_RUN);
        Some(Self {
            jobs: sent.iter().map(|job| (job.released, job.run.unwrap_or(usual))).collect(),
            cold_start: median(cold).unwrap_or(DEFAULT_COLD_START),
            cold_samples,
            run_samples,
            keep_warm: keep_warm.map_or(DEFAULT_KEEP_WARM, |terms| terms.keep_warm),
            keep_warm_known: keep_warm.is_some(),
            hourly: newest.hourly,
        })
    }

    /// Replays the jobs on one machine that idles for `keep_warm`, or never sleeps.
    pub fn replay(&self, keep_warm: Duration, never_sleeps: bool) -> SettingOutcome {
        let mut awake = Duration::ZERO;
        let mut waited = Duration::ZERO;
        let mut cold_starts = 0;
        // When the machine last finished a job; `None` before the first one.
        let mut free: Option<WallTime> = None;
        for &(asked, run) in &self.jobs {
            let idle = free.map(|free| asked.since(free));
            let sleeps =
                !never_sleeps && idle.is_none_or(|idle| idle > Duration::ZERO && idle >= keep_warm);
            let starts = match free {
                Some(free) if free > asked => free,
                _ => asked,
            };
            awake += if never_sleeps {
                idle.unwrap_or_default()
            } else {
                idle.unwrap_or_default().min(keep_warm)
            };
            let cold = if sleeps { self.cold_start } else { Duration::ZERO };
            cold_starts += u32::from(sleeps);
            awake += cold + run;
            let ends = starts.plus(cold + run);
            waited += ends.since(asked);
            free = Some(ends);
        }
        // A machine that never sleeps is counted from the first job to the last: no requests exist
        // before and after.
        if !never_sleeps && free.is_some() {
            awake += keep_warm;
        }
        SettingOutcome {
            keep_warm_s: keep_warm.as_secs(),
            min_instances: u8::from(never_sleeps),
            cost_microusd: cost_of(awake, self.hourly),
            waited_s: waited.as_secs(),
            cold_starts,
            current: !never_sleeps && keep_warm == self.keep_warm,
        }
    }

    /// Tries every setting and returns the best one.
    pub fn what_if(&self) -> WhatIf {
        let mut times: Vec<Duration> = KEEP_WARM.into_iter().map(Duration::from_secs).collect();
        if !times.contains(&self.keep_warm) {
            times.push(self.keep_warm);
            times.sort_unstable();
        }
        let mut settings: Vec<SettingOutcome> =
            times.into_iter().map(|keep_warm| self.replay(keep_warm, false)).collect();
        settings.push(self.replay(self.keep_warm, true));
        let now = self.replay(self.keep_warm, false);
        let machines = TIERS.iter().flat_map(|tier| {
            [BillingPlan::Hobby, BillingPlan::Pro].map(|plan| {
                let other = Self { hourly: tier.hourly(plan), ..self.clone() };
                let cost_microusd = other.replay(self.keep_warm, false).cost_microusd;
                let Tier { name, sku, .. } = *tier;
                OtherServer { tier: name, sku, plan, cost_microusd }
            })
        });
        WhatIf {
            machines: machines.collect(),
            assumed: self.assumed(),
            sentence: self.sentence(&settings, &now),
            settings,
        }
    }

    fn assumed(&self) -> Vec<String> {
        let mut assumed = Vec::new();
        if self.cold_samples == 0 {
            assumed.push(format!(
                "no cold start was measured: {} s are assumed",
                self.cold_start.as_secs()
            ));
        }
        let unmeasured = self.jobs.len() - self.run_samples;
        if unmeasured > 0 {
            let what = if self.run_samples == 0 {
                "the published default"
            } else {
                "the median of the others"
            };
            assumed.push(format!(
                "{unmeasured} of {} runs were not measured: {what} is assumed",
                self.jobs.len()
            ));
        }
        if !self.keep_warm_known {
            assumed.push(format!(
                "the current keep-warm time is unknown: {} s are assumed",
                self.keep_warm.as_secs()
            ));
        }
        assumed.push("the same jobs at the same times on one machine; other machines are assumed to be equally fast".to_owned());
        assumed
    }

    fn sentence(&self, settings: &[SettingOutcome], now: &SettingOutcome) -> String {
        if self.jobs.len() < MIN_JOBS {
            let (jobs, enough) = (self.jobs.len(), MIN_JOBS);
            return format!("too few jobs to advise: {jobs} of at least {enough}");
        }
        let cheapest = settings.iter().map(|one| one.cost_microusd.0).min().unwrap_or_default();
        let affordable = cheapest.saturating_add(cheapest / 100 * MAX_EXTRA_PERCENT);
        let best = settings
            .iter()
            .filter(|one| one.cost_microusd.0 <= affordable)
            .min_by_key(|one| (one.waited_s, one.cost_microusd))
            .unwrap_or(now);
        let saves_money = now.cost_microusd.0 - best.cost_microusd.0;
        let saves_time = i128::from(now.waited_s) - i128::from(best.waited_s);
        // A difference of less than a twentieth is noise in the measurements.
        let matters = saves_money.abs() * 20 > now.cost_microusd.0
            || saves_time.abs() * 20 > i128::from(now.waited_s);
        if best.current || !matters {
            return format!(
                "the current keep-warm time of {} s fits these jobs; no other setting is clearly better",
                now.keep_warm_s
            );
        }
        let what = match best.min_instances {
            0 => format!("a keep-warm time of {} s", best.keep_warm_s),
            _ => "one machine that never sleeps".to_owned(),
        };
        let money = match saves_money {
            0.. => format!("{} less", MicroUsd(saves_money)),
            _ => format!("{} more", MicroUsd(-saves_money)),
        };
        let wait = match saves_time / 60 {
            0 => "wait about as long".to_owned(),
            minutes @ 1.. => format!("wait {minutes} min less"),
            minutes => format!("wait {} min more", -minutes),
        };
        format!(
            "{what} would have cost {money} and made the artist {wait} over these {} jobs",
            self.jobs.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Jobs of 30 s each, requested at these seconds, at a cent per second, with cold starts
    /// of 200 s.
    fn record(asked: &[i64], keep_warm: u64) -> DeploymentHistory {
        DeploymentHistory {
            jobs: asked
                .iter()
                .map(|at| (WallTime::from_unix_millis(at * 1000), secs(30)))
                .collect(),
            cold_start: secs(200),
            cold_samples: 3,
            run_samples: asked.len(),
            keep_warm: secs(keep_warm),
            keep_warm_known: true,
            hourly: MicroUsd::from_cents(3600),
        }
    }

    #[test]
    fn each_setting_costs_and_waits_what_it_must() {
        // requested at, keep-warm, never sleeps → cents, seconds waited, cold starts
        type Case<'a> = (&'a [i64], u64, bool, i64, u64, u32);
        let cases: &[Case<'_>] = &[
            (&[], 60, false, 0, 0, 0),
            (&[0], 60, false, 200 + 30 + 60, 230, 1),
            (&[0], 0, false, 230, 230, 1),
            (&[0], 60, true, 30, 30, 0),
            // Ends at 230; the next request comes after 20 s of idling: warm.
            (&[0, 250], 60, false, 230 + 20 + 30 + 60, 260, 1),
            // The next request comes when the keep-warm time is just over: cold, and the idling was
            // paid for.
            (&[0, 290], 60, false, 230 + 60 + 230 + 60, 460, 2),
            // Requested during a run: the job waits for it, nothing idles.
            (&[0, 10], 60, false, 230 + 30 + 60, 230 + 250, 1),
            (&[0, 10], 0, false, 230 + 30, 230 + 250, 1),
            // Never sleeps: the gap is paid for, and no job waits for a start.
            (&[0, 1000], 60, true, 30 + 970 + 30, 60, 0),
        ];
        for &(asked, keep_warm, never_sleeps, cents, waited, cold) in cases {
            let got = record(asked, keep_warm).replay(secs(keep_warm), never_sleeps);
            let wanted = (MicroUsd::from_cents(cents), waited, cold);
            assert_eq!(
                (got.cost_microusd, got.waited_s, got.cold_starts),
                wanted,
                "{asked:?} {keep_warm}"
            );
        }
    }

    #[test]
    fn advice_follows_the_habit_and_is_silent_about_a_few_jobs() {
        let every = |gap: i64| (0..20).map(|n| n * gap).collect::<Vec<_>>();
        // Every hundred seconds: a machine that sleeps after a minute starts cold again and again.
        let what_if = record(&every(100), 60).what_if();
        assert!(what_if.sentence.contains("min less over these 20 jobs"), "{}", what_if.sentence);
        // Twice a day: idling is wasted.
        let what_if = record(&every(43_200), 1800).what_if();
        assert!(
            what_if.sentence.starts_with("a keep-warm time of 0 s would have cost"),
            "{}",
            what_if.sentence
        );
        assert!(record(&[0, 1, 2], 60).what_if().sentence.starts_with("too few jobs"));
        let what_if = record(&every(43_200), 0).what_if();
        assert!(what_if.sentence.contains("fits"), "{}", what_if.sentence);
        assert_eq!(what_if.settings.iter().filter(|one| one.current).count(), 1);
        assert_eq!(what_if.machines.len(), 14);
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let unmeasured = DeploymentHistory {
            cold_samples: 0,
            run_samples: 0,
            keep_warm_known: false,
            ..record(&[0], 45)
        };
        assert_eq!(unmeasured.what_if().assumed.len(), 4);
        let settings = unmeasured.what_if().settings;
        assert!(
            settings.iter().any(|one| one.current && one.keep_warm_s == 45),
            "the present one is in the table"
        );
    }

    #[test]
    fn only_what_was_sent_counts() {
        use crate::{cost_report::tests::done, money::job_cost::PriceTerms};
        let terms = Some(PriceTerms {
            cold_start: Some(secs(9)),
            keep_warm: secs(300),
            hourly: MicroUsd(7),
        });
        let sent =
            PastJob { run: Some(secs(40)), queue: Some(secs(180)), terms, ..done(50, 60, true) };
        let never = PastJob { submitted: None, ..sent.clone() };
        let record = DeploymentHistory::of(&[&sent, &never]).expect("a record");
        assert_eq!(
            (record.jobs.len(), record.cold_start, record.keep_warm),
            (1, secs(180), secs(300))
        );
        assert_eq!(DeploymentHistory::of(&[&never]), None);
    }
}
