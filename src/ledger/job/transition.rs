//! The table of allowed state changes of a job.
//!
//! Owns only the pure table. `progress` and `finish` make the changes and write the records. A
//! change that is not in this table is rejected there with both states named, so that a bug in the
//! daemon cannot rewrite history.

use crate::domain::job::JobState;

/// Returns whether a job in state `from` may change to `to`.
///
/// `running`, `placing` and `handing over` may be repeated: after a crash the step is done again.
pub const fn may_become(from: JobState, to: JobState) -> bool {
    match from {
        // Directly to `fetched`: the same work was done before and its artifacts are still
        // in history.
        JobState::Prepared => matches!(
            to,
            JobState::Submitting
                | JobState::Fetched
                | JobState::Failed
                | JobState::Cancelled
                | JobState::Replaced
        ),
        // Back to `prepared` only if the request certainly did not arrive. A job cannot be
        // cancelled or replaced in this state: first it must be known whether there is something
        // to cancel.
        JobState::Submitting => {
            matches!(
                to,
                JobState::Prepared | JobState::Submitted | JobState::Failed | JobState::Unknown
            )
        }
        // Back to `prepared` only for a free backend, which `switch_backend` ensures.
        JobState::Submitted | JobState::Running => matches!(
            to,
            JobState::Prepared
                | JobState::Running
                | JobState::Fetched
                | JobState::Failed
                | JobState::Cancelled
                | JobState::Replaced
                | JobState::Unknown
        ),
        JobState::Fetched | JobState::Placing => {
            matches!(
                (from, to),
                (
                    _,
                    JobState::Placing | JobState::Failed | JobState::Cancelled | JobState::Replaced
                ) | (JobState::Placing, JobState::Placed)
            )
        }
        JobState::Placed | JobState::HandingOver => {
            matches!(to, JobState::HandingOver | JobState::Done | JobState::Failed)
        }
        // A person may settle what cannot be determined automatically; repeating the work is a
        // separate job.
        JobState::Unknown => matches!(to, JobState::Cancelled),
        JobState::Done | JobState::Failed | JobState::Cancelled | JobState::Replaced => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reachable(from: JobState) -> Vec<JobState> {
        let mut seen = vec![from];
        let mut next = 0;
        while next < seen.len() {
            for to in JobState::ALL {
                if may_become(seen[next], to) && !seen.contains(&to) {
                    seen.push(to);
                }
            }
            next += 1;
        }
        seen
    }

    #[test]
    fn every_state_can_be_reached_and_every_open_one_can_end() {
        assert_eq!(reachable(JobState::Prepared).len(), JobState::ALL.len());
        for state in JobState::ALL.into_iter().filter(|state| !state.is_final()) {
            assert!(reachable(state).contains(&JobState::Failed), "{state}");
        }
    }

    #[test]
    fn what_may_have_been_sent_is_never_sent_again_unless_it_surely_did_not_arrive() {
        let to_submitting: Vec<_> =
            JobState::ALL.into_iter().filter(|&s| may_become(s, JobState::Submitting)).collect();
        assert_eq!(to_submitting, [JobState::Prepared]);
        let to_prepared: Vec<_> =
            JobState::ALL.into_iter().filter(|&s| may_become(s, JobState::Prepared)).collect();
        // From a request that was accepted, only towards a free backend; `ledger::tests` covers the
        // rest of this rule.
        assert_eq!(to_prepared, [JobState::Submitting, JobState::Submitted, JobState::Running]);
    }

    #[test]
    fn an_end_is_an_end() {
        for from in [JobState::Done, JobState::Failed, JobState::Cancelled, JobState::Replaced] {
            assert_eq!(reachable(from), [from]);
        }
        assert_eq!(reachable(JobState::Unknown), [JobState::Unknown, JobState::Cancelled]);
    }
}
