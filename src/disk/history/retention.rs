//! Selects the jobs whose folders must be removed: a pure rule over a list.
//!
//! Owns the order in which history is removed. The caller knows which jobs must stay (the newest
//! success, unfinished jobs).

use crate::domain::job::JobId;

/// A job's folder and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredJob {
    /// The job.
    pub job: JobId,
    /// The bytes of its files.
    pub bytes: u64,
}

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionLimits {
    /// `history.keep_jobs`; 0 = any number.
    pub jobs: usize,
    /// `history.keep_mb` in bytes; 0 = any size.
    pub bytes: u64,
}

/// Returns the jobs to remove, oldest first, until both limits are kept. `protected` jobs stay,
/// and count.
pub fn overdue(
    oldest_first: &[StoredJob],
    limits: RetentionLimits,
    protected: impl Fn(JobId) -> bool,
) -> Vec<JobId> {
    let mut jobs = oldest_first.len();
    let mut bytes = oldest_first.iter().fold(0_u64, |sum, kept| sum.saturating_add(kept.bytes));
    let mut overdue = Vec::new();
    for kept in oldest_first {
        let too_many = limits.jobs > 0 && jobs > limits.jobs;
        let too_large = limits.bytes > 0 && bytes > limits.bytes;
        if !too_many && !too_large {
            break;
        }
        if !protected(kept.job) {
            jobs -= 1;
            bytes = bytes.saturating_sub(kept.bytes);
            overdue.push(kept.job);
        }
    }
    overdue
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::time::WallTime;

    fn job(number: usize) -> JobId {
        let millis = i64::try_from(number).expect("a small number");
        JobId::from_parts(WallTime::from_unix_millis(millis), 0)
    }

    fn history(sizes: &[u64]) -> Vec<StoredJob> {
        sizes
            .iter()
            .enumerate()
            .map(|(n, bytes)| StoredJob { job: job(n), bytes: *bytes })
            .collect()
    }

    #[test]
    fn the_oldest_go_first_and_the_protected_stay() {
        let history = history(&[10, 10, 10, 10]);
        let limits = RetentionLimits { jobs: 2, bytes: 0 };
        assert_eq!(overdue(&history, limits, |_| false), [job(0), job(1)]);
        assert_eq!(overdue(&history, limits, |id| id == job(0)), [job(1), job(2)]);
        assert_eq!(
            overdue(&history, RetentionLimits { jobs: 0, bytes: 25 }, |_| false),
            [job(0), job(1)]
        );
        assert!(overdue(&history, RetentionLimits { jobs: 0, bytes: 0 }, |_| false).is_empty());
    }

    proptest! {
        #[test]
        fn what_stays_fits_or_is_protected(
            sizes in proptest::collection::vec(0_u64..100, 0..20),
            jobs in 0_usize..20,
            bytes in 0_u64..500,
            every in 1_usize..5,
        ) {
            let history = history(&sizes);
            let protected = |id: JobId| history.iter().position(|k| k.job == id).is_some_and(|n| n % every == 0);
            let gone = overdue(&history, RetentionLimits { jobs, bytes }, protected);
            prop_assert!(gone.iter().all(|id| !protected(*id)));
            let left: Vec<_> = history.iter().filter(|kept| !gone.contains(&kept.job)).collect();
            let fits = (jobs == 0 || left.len() <= jobs)
                && (bytes == 0 || left.iter().map(|kept| kept.bytes).sum::<u64>() <= bytes);
            prop_assert!(fits || left.iter().all(|kept| protected(kept.job)));
        }
    }
}
