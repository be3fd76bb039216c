//! Checks that the project is still locked by this daemon, right before anything is recorded that
//! may be paid for.
//!
//! Owns what becomes of a job if it is not: a new one does not begin and its change stays pending;
//! one that is in the ledger waits; and a change that was made while another process had the
//! project is left to that process, or both would pay for it.

use crate::{
    daemon::{
        jobs::{JobRun, Step, control_changed},
        services::{
            command::CommandErrorKind,
            messages::{Control, JobEnd, JobReport},
            root_locks::LockStatus,
        },
    },
    domain::{
        engine::event::JobStage,
        job::{Cause, JobState},
    },
    ledger::rows::{Booking, Reason},
};

/// The reason of a job whose change belongs to another daemon.
const LEFT_TO_OTHER_DAEMON: &str = "another process served the project when this changed, so this daemon ignores \
                    the change; nothing was sent. Save the prompt again if you still want it";

impl JobRun {
    /// Checks before a new job is recorded.
    pub(crate) async fn hold_project(&mut self, cause: Cause) -> Step<()> {
        let mut control = self.control.clone();
        let asked = self.services.root_locks.check(self.project);
        tokio::pin!(asked);
        let lock_status = loop {
            tokio::select! {
                lock_status = &mut asked => break lock_status,
                control = control_changed(&mut control) => if let Some(end) = unreleased(control) {
                    return Err(end);
                },
            }
        };
        let reason = match &lock_status {
            LockStatus::Ours { regained } if self.belongs_to_other(cause, *regained) => {
                LEFT_TO_OTHER_DAEMON.to_owned()
            }
            LockStatus::Ours { .. } => return Ok(()),
            LockStatus::Withheld(reason) => reason.clone(),
        };
        let retry_after = matches!(lock_status, LockStatus::Withheld(_))
            .then_some(crate::daemon::jobs::setup::START_RETRY);
        self.report(JobReport::LockStatus { project: self.project, lock_status }).await;
        Err(JobEnd::NotStarted { kind: CommandErrorKind::TryAgain, reason, retry_after })
    }

    /// Checks before the mark that lets a request leave that is already in the ledger. A control is
    /// applied at once here.
    pub(crate) async fn hold_project_unsent(&mut self) -> Step<()> {
        let mut failures = 0;
        loop {
            let mut control = self.control.clone();
            let lock_status = tokio::select! {
                lock_status = self.services.root_locks.check(self.project) => lock_status,
                control = control_changed(&mut control) => return self.apply(control).await,
            };
            let report =
                JobReport::LockStatus { project: self.project, lock_status: lock_status.clone() };
            match lock_status {
                LockStatus::Ours { regained }
                    if self.belongs_to_other(self.status.cause, regained) =>
                {
                    self.report(report).await;
                    return Err(self.leave_to_other().await);
                }
                LockStatus::Ours { .. } => return Ok(()),
                LockStatus::Withheld(reason) => {
                    self.report(report).await;
                    failures += 1;
                    self.set_state(JobState::Prepared, JobStage::Waiting).await;
                    self.set_activity(format!("not sent, nothing was charged: {reason}")).await;
                    self.wait_before_resend(failures, None).await?;
                }
            }
        }
    }

    /// Returns whether a job was requested while another process had the project. A person's
    /// command to this daemon is never left to another one.
    fn belongs_to_other(
        &self,
        cause: Cause,
        regained: Option<crate::domain::time::WallTime>,
    ) -> bool {
        cause != Cause::Person && regained.is_some_and(|regained| self.status.since <= regained)
    }

    async fn leave_to_other(&mut self) -> JobEnd {
        let (id, now) = (self.id, self.services.clock.now().wall);
        let reason = Reason::new("left", LEFT_TO_OTHER_DAEMON);
        let record = move |ledger: &mut crate::ledger::Ledger| {
            ledger.cancelled(id, &reason, Booking::Nothing, now)
        };
        match self.record("the end of an unsent job", record).await {
            Ok(()) => JobEnd::Ended { state: JobState::Cancelled, placed: false },
            Err(end) => end,
        }
    }
}

/// Returns how a job ends that a control reaches before it is recorded.
pub(crate) const fn unreleased(control: Control) -> Option<JobEnd> {
    let state = match control {
        Control::Continue => return None,
        Control::Stop => return Some(JobEnd::Stopped),
        Control::Supersede => JobState::Replaced,
        Control::Cancel => JobState::Cancelled,
    };
    Some(JobEnd::Ended { state, placed: false })
}
