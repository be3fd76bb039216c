//! The messages between a job's task and the event loop: its reports, the control over it, how
//! it ends.
//!
//! Owns plain values. Who sends them when is decided by the job and the event loop.

use std::time::Duration;

use tokio::sync::watch;

use crate::{
    daemon::services::{command::CommandErrorKind, root_locks::LockStatus},
    domain::{
        engine::event::{JobStage, ProjectId},
        job::{Inputs, JobId, JobState, control::JobControl},
        money::MicroUsd,
        status,
    },
};

/// What a job's task reports to the event loop while it runs.
#[derive(Debug)]
pub(crate) enum JobReport {
    /// The job is in the ledger.
    Started {
        project: ProjectId,
        job: JobId,
        /// The project's own inputs, if the job uses them.
        inputs: Option<Inputs>,
    },
    /// The job changed its stage, as far as decisions depend on it.
    StageChanged {
        project: ProjectId,
        /// The new stage.
        stage: JobStage,
    },
    /// Our mesh is in CONJURE's scene, or may be at any moment.
    Imported { project: ProjectId },
    /// The result of the lock check right before a release.
    LockStatus { project: ProjectId, lock_status: LockStatus },
    /// What `status` shows of a job.
    StatusChanged { project: ProjectId, job: Box<status::Job> },
    /// A warning about more than this job.
    Warning(String),
    /// A write to the ledger is pending, or no longer is.
    Unwritten {
        /// The pending write; the same text is used when it is over.
        what: &'static str,
        /// The reason, for people; `None` when it is written.
        problem: Option<String>,
    },
    /// The deployment reported its facts; these are the resulting warnings.
    Facts(Vec<String>),
    /// The service rejects the token: there may be a new one by now.
    TokenRefused,
    /// The account's balance.
    Balance(MicroUsd),
    /// What `status` shows of the rented machines.
    Machines(Vec<status::Machine>),
    /// The cost of rented machines has changed.
    MachineMoney,
}

/// What the event loop wants a job's task to do, in order of priority: it is only ever raised, so
/// that a newer snapshot cannot revoke a person's cancel ([`Control::raise`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Control {
    Continue,
    /// End, because a newer snapshot replaces the job.
    Supersede,
    /// End, because a person cancelled the job.
    Cancel,
    /// The daemon stops: do not touch remote work, which continues at the next start.
    Stop,
}

impl From<JobControl> for Control {
    fn from(control: JobControl) -> Self {
        match control {
            JobControl::Continue => Self::Continue,
            JobControl::Supersede => Self::Supersede,
            JobControl::Cancel => Self::Cancel,
        }
    }
}

impl Control {
    /// Sends this control to a task, unless one with a higher priority was sent already.
    pub(crate) fn raise(self, of: &watch::Sender<Self>) {
        of.send_if_modified(|wanted| {
            let is_more = self > *wanted;
            if is_more {
                *wanted = self;
            }
            is_more
        });
    }
}

/// How a job's task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// It was never sent and is not in the ledger: its change stays pending.
    NotStarted {
        kind: CommandErrorKind,
        /// The reason, for people.
        reason: String,
        /// The wait before an automatic retry.
        retry_after: Option<Duration>,
    },
    /// It reached a final state.
    Ended {
        state: JobState,
        /// Whether its artifacts are visible to the artist.
        placed: bool,
    },
    /// The daemon stops; the ledger says where the next session continues.
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_snapshot_does_not_revoke_a_persons_cancel() {
        let (sender, receiver) = watch::channel(Control::Continue);
        let controls = [Control::Supersede, Control::Cancel, Control::Supersede, Control::Stop];
        let seen = controls.map(|control| {
            control.raise(&sender);
            *receiver.borrow()
        });
        assert_eq!(seen, [Control::Supersede, Control::Cancel, Control::Cancel, Control::Stop]);
    }
}
