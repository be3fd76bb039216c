//! How one attempt of a job ended, as the ledger stores it.
//!
//! Owns the words. What an end means for the next attempt is decided by
//! [`super::choose_backend`]; texts for people are stored beside it and are never read back.

use std::fmt;

use super::{JobState, choose_backend::AttemptOutcome};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptEnd {
    /// The request certainly did not arrive.
    NotSent,
    /// The budget had no room for it, so it was never sent.
    OverBudget,
    /// The backend refused the request; nothing ran.
    Refused,
    /// The answer to the submit was lost, on a backend that can be asked for the request again.
    AnswerLost,
    /// A free backend lost the accepted request.
    Lost,
    /// The run failed because of the workflow or its input.
    WorkflowFailed,
    /// The run failed for a reason of the backend's own.
    Failed,
    /// The run ended and listed its files; they are not in history yet.
    RunEnded,
    /// Every artifact is in history.
    Succeeded,
    /// The job ended in this state, and with it the attempt.
    JobEnded(JobState),
}

impl AttemptEnd {
    /// Every end that is not also a job's.
    const OWN: [Self; 9] = [
        Self::NotSent,
        Self::OverBudget,
        Self::Refused,
        Self::AnswerLost,
        Self::Lost,
        Self::WorkflowFailed,
        Self::Failed,
        Self::RunEnded,
        Self::Succeeded,
    ];

    /// Returns the word that people and the ledger see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSent => "not sent",
            Self::OverBudget => "over budget",
            Self::Refused => "refused",
            Self::AnswerLost => "answer lost",
            Self::Lost => "lost",
            Self::WorkflowFailed => "workflow failed",
            Self::Failed | Self::JobEnded(JobState::Failed) => "failed",
            Self::RunEnded => "ended",
            Self::Succeeded => "succeeded",
            Self::JobEnded(state) => state.name(),
        }
    }

    /// Returns the end with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::OWN.into_iter().find(|end| end.name() == name).or_else(|| {
            JobState::from_name(name).filter(|state| state.is_final()).map(Self::JobEnded)
        })
    }

    /// Returns what the end says about a later attempt of the same session; `None` if it does not
    /// restrict where the job may be sent.
    pub const fn restricts_now(self) -> Option<AttemptOutcome> {
        match self {
            Self::NotSent => Some(AttemptOutcome::NotSent),
            Self::OverBudget | Self::Refused => Some(AttemptOutcome::Refused),
            Self::Failed
            | Self::WorkflowFailed
            | Self::Lost
            | Self::AnswerLost
            | Self::RunEnded
            | Self::Succeeded
            | Self::JobEnded(_) => self.restricts(),
        }
    }

    /// Returns what the end says about a later attempt, also after a restart; `None` if it does not
    /// restrict where the job may be sent. A backend that was not reached, or that refused, is
    /// tried again after a restart, which may be why a person restarted the daemon.
    pub const fn restricts(self) -> Option<AttemptOutcome> {
        match self {
            Self::Failed => Some(AttemptOutcome::Failed),
            Self::WorkflowFailed => Some(AttemptOutcome::Workflow),
            Self::Lost => Some(AttemptOutcome::Lost),
            Self::NotSent
            | Self::OverBudget
            | Self::Refused
            | Self::AnswerLost
            | Self::RunEnded
            | Self::Succeeded
            | Self::JobEnded(_) => None,
        }
    }
}

impl fmt::Display for AttemptEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<AttemptOutcome> for AttemptEnd {
    fn from(outcome: AttemptOutcome) -> Self {
        match outcome {
            AttemptOutcome::NotSent => Self::NotSent,
            AttemptOutcome::Refused => Self::Refused,
            AttemptOutcome::Workflow => Self::WorkflowFailed,
            AttemptOutcome::Unknown | AttemptOutcome::Askable => Self::AnswerLost,
            AttemptOutcome::Failed => Self::Failed,
            AttemptOutcome::Lost => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_found_by_its_word() {
        let ends = JobState::ALL.into_iter().filter(|state| state.is_final());
        let all = AttemptEnd::OWN.into_iter().chain(ends.map(AttemptEnd::JobEnded));
        for end in all {
            let found = AttemptEnd::from_name(end.name()).expect("its own word");
            assert_eq!(found.name(), end.name());
        }
        assert_eq!(AttemptEnd::from_name("running"), None, "a job in that state has not ended");
    }

    #[test]
    fn a_restart_forgets_no_failure_that_another_attempt_would_repeat() {
        let read_back = |end: AttemptEnd| AttemptEnd::from_name(end.name()).expect("its word");
        for outcome in [AttemptOutcome::Workflow, AttemptOutcome::Failed, AttemptOutcome::Lost] {
            assert_eq!(read_back(outcome.into()).restricts(), Some(outcome));
        }
        for outcome in [AttemptOutcome::NotSent, AttemptOutcome::Refused, AttemptOutcome::Unknown] {
            assert_eq!(read_back(outcome.into()).restricts(), None, "{outcome:?} is tried again");
        }
    }
}
