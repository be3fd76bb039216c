//! The table of allowed state changes of a job.
//!
//! Owns only the pure table. `progress` and `finish` make the changes and write the records. A
//! change that is not in this table is rejected there with both states named, so that a bug in the
//! daemon cannot rewrite history.

use crate::domain::job::State;

/// Returns whether a job in state `from` may change to `to`.
///
/// `running`, `placing` and `handing over` may be repeated: after a crash the step is done again.
pub const fn may_become(from: State, to: State) -> bool {
    match from {
        // Directly to `fetched`: the same work was done before and its artifacts are still
        // in history.
        State::Prepared => matches!(
            to,
            State::Submitting | State::Fetched | State::Failed | State::Cancelled | State::Replaced
        ),
        // Back to `prepared` only if the request certainly did not arrive. A job cannot be
        // cancelled or replaced in this state: first it must be known whether there is something
        // to cancel.
        State::Submitting => {
            matches!(to, State::Prepared | State::Submitted | State::Failed | State::Unknown)
        }
        // Back to `prepared` only for a free backend, which `elsewhere` ensures.
        State::Submitted | State::Running => matches!(
            to,
            State::Prepared
                | State::Running
                | State::Fetched
                | State::Failed
                | State::Cancelled
                | State::Replaced
                | State::Unknown
        ),
        State::Fetched | State::Placing => {
            matches!(
                (from, to),
                (_, State::Placing | State::Failed | State::Cancelled | State::Replaced)
                    | (State::Placing, State::Placed)
            )
        }
        State::Placed | State::HandingOver => {
            matches!(to, State::HandingOver | State::Done | State::Failed)
        }
        // A person may settle what cannot be determined automatically; repeating the work is a
        // separate job.
        State::Unknown => matches!(to, State::Cancelled),
        State::Done | State::Failed | State::Cancelled | State::Replaced => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reachable(from: State) -> Vec<State> {
        let mut seen = vec![from];
        let mut next = 0;
        while next < seen.len() {
            for to in State::ALL {
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
        assert_eq!(reachable(State::Prepared).len(), State::ALL.len());
        for state in State::ALL.into_iter().filter(|state| !state.is_final()) {
            assert!(reachable(state).contains(&State::Failed), "{state}");
        }
    }

    #[test]
    fn what_may_have_been_sent_is_never_sent_again_unless_it_surely_did_not_arrive() {
        let to_submitting: Vec<_> =
            State::ALL.into_iter().filter(|&s| may_become(s, State::Submitting)).collect();
        assert_eq!(to_submitting, [State::Prepared]);
        let to_prepared: Vec<_> =
            State::ALL.into_iter().filter(|&s| may_become(s, State::Prepared)).collect();
        // From a request that was accepted, only towards a free backend; `ledger::tests` covers the
        // rest of this rule.
        assert_eq!(to_prepared, [State::Submitting, State::Submitted, State::Running]);
    }

    #[test]
    fn an_end_is_an_end() {
        for from in [State::Done, State::Failed, State::Cancelled, State::Replaced] {
            assert_eq!(reachable(from), [from]);
        }
        assert_eq!(reachable(State::Unknown), [State::Unknown, State::Cancelled]);
    }
}
