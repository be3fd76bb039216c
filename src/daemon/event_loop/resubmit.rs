//! The automatic resend after a lost answer, if the configuration allows it.
//!
//! Owns when it is requested. Whether it may be done is decided by [`crate::daemon::jobs::rerun`].

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    EventLoop,
    outcomes::{TaskName, TaskOutcome},
};
use crate::{
    daemon::services::command::{OnceRequest, Repeat, RepeatKind, UserRequest},
    domain::job::{Cause, JobId},
    ledger::{error::LedgerError, rows::JobRow},
};

/// How `status` and the log report that a lost answer is automatically sent again.
const RESUBMIT_NOTE: &str = "its answer was lost; sending it again because `serverless.resubmit_unknown` \
                     is set: it may be charged TWICE";

/// How they report that it runs on a free backend.
const FREE_RUN_NOTE: &str = "its answer was lost; running it on a free backend because \
                    `local.after_unknown` is set; the first request may have been charged";

impl EventLoop {
    /// Sends a job with a lost answer again, if the configuration wants it and this snapshot was
    /// not sent again before.
    pub(crate) fn resubmit(&mut self, job: JobId) {
        let config = Arc::clone(&self.config.borrow());
        let free = config.order.iter().any(|backend| !backend.is_paid());
        let (kind, message) = if config.settings.serverless.resubmit_unknown {
            (RepeatKind::Resubmit, RESUBMIT_NOTE)
        } else if config.settings.local.after_unknown && free {
            (RepeatKind::Free, FREE_RUN_NOTE)
        } else {
            return;
        };
        let (services, now) = (Arc::clone(&self.services), self.clock.now().wall);
        self.tasks.spawn(TaskName::Background, async move {
            // Recorded before it is requested: a crash in between leaves one attempt too few, never
            // one too many.
            let row = services
                .store
                .with(move |ledger| {
                    let row = ledger.job(job)?;
                    let once = ledger.resubmit_once(job, message, now)?;
                    Ok::<_, LedgerError>(once.then_some(row))
                })
                .await;
            match row {
                Ok(Some(row)) => TaskOutcome::Resubmit(Box::new(row), kind),
                Ok(None) => TaskOutcome::Nothing,
                Err(error) => {
                    tracing::error!(%job, %error, "it is not sent again automatically");
                    TaskOutcome::Nothing
                }
            }
        });
    }

    /// Requests the second and last attempt of a lost job, unless a newer change replaces it.
    pub(crate) fn resubmit_now(&mut self, row: &JobRow, kind: RepeatKind) {
        let (job, project) = (row.id, row.project);
        let own = row.cause != Cause::Person && row.out.is_none();
        if own && self.engine.snapshot(project).is_some_and(|inputs| inputs != row.inputs) {
            tracing::warn!(
                %job,
                "its answer was lost; a newer change replaces it, so it is not sent again"
            );
            return;
        }
        let Some(project_state) = self.projects.get(&project) else { return };
        let name = project_state.config.name.clone();
        let message = if kind == RepeatKind::Free { FREE_RUN_NOTE } else { RESUBMIT_NOTE };
        self.warn([format!("job {job}: {message}")]);
        let again = Repeat { job, kind, may_charge_twice: kind == RepeatKind::Resubmit };
        let request =
            OnceRequest { project: Some(name), again: Some(again), ..OnceRequest::default() };
        let (reply, answer) = oneshot::channel();
        self.tasks.spawn(TaskName::Background, async move {
            if let Ok(Err(error)) = answer.await {
                tracing::error!(%job, "could not send it again: {error}");
            }
            TaskOutcome::Nothing
        });
        self.enqueue_request(UserRequest { request, reply });
    }
}
