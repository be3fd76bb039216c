//! A cancel of a request: why it was sent and what came of it, as the ledger stores it.
//!
//! Owns the words. When a cancel is sent, and what follows from the answer, is decided by
//! [`super::flow`].

use super::control::JobControl;
use crate::time::WallTime;

/// A cancel that the backend was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CancelSent {
    /// Why.
    pub why: CancelReason,
    /// What the backend answered.
    pub reply: CancelOutcome,
    /// When.
    pub at: WallTime,
}

/// Why a request is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelReason {
    /// A newer snapshot replaces the job.
    Superseded,
    /// A person cancelled the job.
    Person,
    /// No machine started the run in time.
    QueueTimeout,
    /// The run took too long.
    RunTimeout,
}

impl CancelReason {
    /// Every reason.
    pub const ALL: [Self; 4] =
        [Self::Superseded, Self::Person, Self::QueueTimeout, Self::RunTimeout];

    /// Returns the word that the ledger stores.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Person => "person",
            Self::QueueTimeout => "queue_timeout",
            Self::RunTimeout => "run_timeout",
        }
    }

    /// Returns the reason with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// Returns the control that this reason carries out.
    pub const fn control(self) -> JobControl {
        match self {
            Self::Superseded => JobControl::Supersede,
            Self::Person => JobControl::Cancel,
            Self::QueueTimeout | Self::RunTimeout => JobControl::Continue,
        }
    }

    /// Returns the reason that carries out a control; `None` for a job that continues.
    pub const fn of(control: JobControl) -> Option<Self> {
        match control {
            JobControl::Continue => None,
            JobControl::Supersede => Some(Self::Superseded),
            JobControl::Cancel => Some(Self::Person),
        }
    }
}

/// What came of asking for a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelOutcome {
    /// The backend will stop the run.
    Requested,
    /// The run is over, or cannot be stopped.
    TooLate,
    /// The backend refused to cancel it.
    Refused,
    /// The backend did not answer, however often it was asked.
    NoAnswer,
}

impl CancelOutcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Requested, Self::TooLate, Self::Refused, Self::NoAnswer];

    /// Returns the word that people and the ledger see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::TooLate => "too late",
            Self::Refused => "refused",
            Self::NoAnswer => "no answer",
        }
    }

    /// Returns the outcome with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_again() {
        for reason in CancelReason::ALL {
            assert_eq!(CancelReason::from_name(reason.name()), Some(reason));
        }
        for outcome in CancelOutcome::ALL {
            assert_eq!(CancelOutcome::from_name(outcome.name()), Some(outcome));
        }
    }

    #[test]
    fn a_control_and_its_cancel_belong_together() {
        for control in JobControl::ALL {
            let reason = CancelReason::of(control);
            assert_eq!(reason.map(CancelReason::control).unwrap_or_default(), control);
        }
    }
}
