//! Resumes a job after the ledger refused a step, from what the ledger says.
//!
//! Owns the waits in between, and keeps the id of an accepted request meanwhile. How each state
//! continues is decided by [`super::JobRun::resume`], as after a restart; a job never has to wait
//! for a restart.

use std::time::Duration;

use super::{JobRun, Step};
use crate::{
    daemon::services::{
        command::CommandErrorKind,
        messages::{Control, JobEnd},
    },
    domain::job::{JobState, backoff::Backoff, choose_backend::BackendKind},
    ledger::{error::LedgerError, rows::JobRow},
};

/// The first and the longest wait before a job is resumed.
const RESUME_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl JobRun {
    /// Waits, and returns the job's row to continue from, or its end if it has ended.
    /// `interruptions` counts the waits.
    pub(super) async fn take_up(
        &mut self,
        mut reason: String,
        interruptions: &mut u32,
    ) -> Step<JobRow> {
        loop {
            *interruptions += 1;
            self.wait_interrupted(&reason, *interruptions).await?;
            let id = self.id;
            let row = match self.services.store.with(move |ledger| ledger.job(id)).await {
                Ok(row) => row,
                // Its release was refused: nothing was recorded and nothing was sent.
                Err(LedgerError::NoSuchJob(_)) => {
                    return Err(JobEnd::NotStarted {
                        kind: CommandErrorKind::TryAgain,
                        reason,
                        retry_after: Some(crate::daemon::jobs::setup::START_RETRY),
                    });
                }
                Err(error) => {
                    reason = error.to_string();
                    continue;
                }
            };
            let recorded = match (row.state, self.accepted_request.clone()) {
                (JobState::Submitting, Some(request)) => self.record_request(&request).await,
                (JobState::Submitting, None) => {
                    let now = self.services.clock.now().wall;
                    let record =
                        move |ledger: &mut crate::ledger::Ledger| ledger.mark_lost_answer(id, now);
                    self.record("the lost answer", record).await
                }
                _ => {
                    if row.state.is_final() {
                        let placed = row.state == JobState::Done && self.public;
                        return Err(JobEnd::Ended { state: row.state, placed });
                    }
                    self.backend = BackendKind::from_name(&row.backend).unwrap_or(self.backend);
                    self.deployment.clone_from(&row.deployment);
                    self.terms = row.terms;
                    self.lease = None;
                    return Ok(row);
                }
            };
            // The state is read again, after a wait if this was refused as well.
            if let Err(JobEnd::Interrupted { reason: again }) = recorded {
                reason = again;
            }
        }
    }

    async fn wait_interrupted(&mut self, reason: &str, interruptions: u32) -> Step<()> {
        let wait = Backoff::new(RESUME_BACKOFF.0, RESUME_BACKOFF.1).wait(
            interruptions,
            rand::random(),
            None,
        );
        tracing::error!(job = %self.id, "{reason}; the job is resumed in {} s", wait.as_secs());
        self.set_activity(format!("{reason}; the job is resumed in {} s", wait.as_secs().max(1)))
            .await;
        let known = *self.control.borrow();
        if known == Control::Stop || self.wait_or_control(wait, known).await == Some(Control::Stop)
        {
            return Err(JobEnd::Stopped);
        }
        Ok(())
    }
}
