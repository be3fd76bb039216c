//! The automatic resend after a lost answer, if the configuration allows it.
//!
//! Owns when it is requested. Whether it may be done is decided by [`crate::daemon::jobs::rerun`].

use tokio::sync::oneshot;

use super::{super::action::Action, DaemonState};
use crate::{
    daemon::services::command::{OnceRequest, Repeat, RepeatKind, UserRequest},
    domain::{
        job::{Cause, JobId},
        time::Now,
    },
    ledger::rows::JobRow,
};

/// How `status` and the log report that a lost answer is automatically sent again.
const RESUBMIT_NOTE: &str = "its answer was lost; sending it again because `serverless.resubmit_unknown` \
                     is set: it may be charged TWICE";

/// How they report that it runs on a free backend.
const FREE_RUN_NOTE: &str = "its answer was lost; running it on a free backend because \
                    `local.after_unknown` is set; the first request may have been charged";

impl DaemonState {
    /// Sends a job with a lost answer again, if the configuration wants it and this snapshot was
    /// not sent again before.
    pub(super) fn resubmit(&mut self, job: JobId) {
        let free = self.config.order.iter().any(|backend| !backend.is_paid());
        let (kind, message) = if self.config.settings.serverless.resubmit_unknown {
            (RepeatKind::Resubmit, RESUBMIT_NOTE)
        } else if self.config.settings.local.after_unknown && free {
            (RepeatKind::Free, FREE_RUN_NOTE)
        } else {
            return;
        };
        self.push(Action::RecordResubmit { job, kind, message });
    }

    /// Requests the second and last attempt of a lost job, unless a newer change replaces it.
    pub(super) fn resubmit_now(&mut self, row: &JobRow, kind: RepeatKind, now: Now) {
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
        let name = project_state.config().name.clone();
        let message = if kind == RepeatKind::Free { FREE_RUN_NOTE } else { RESUBMIT_NOTE };
        self.warn([format!("job {job}: {message}")]);
        let again = Repeat { job, kind, may_charge_twice: kind == RepeatKind::Resubmit };
        let request =
            OnceRequest { project: Some(name), again: Some(again), ..OnceRequest::default() };
        let (reply, answer) = oneshot::channel();
        self.push(Action::LogResubmit { job, answer });
        self.enqueue_request(UserRequest { request, reply }, now);
    }
}
