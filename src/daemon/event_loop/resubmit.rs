//! A lost answer, sent again automatically where the configuration says so.
//!
//! Owns when that is asked for. Whether it may be done is [`crate::daemon::jobs::rerun`]'s to say.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    Shell,
    outcomes::{Outcome, TaskName},
};
use crate::{
    daemon::services::command::{Again, AgainKind, Asked, OnceRequest},
    domain::job::{Cause, JobId, State},
    ledger::{error::LedgerError, rows::JobRow},
};

/// How `status` and the log tell that a lost answer is sent again by itself.
const TWICE: &str = "its answer was lost, and it is sent again because `serverless.resubmit_unknown` says so: it may be billed TWICE";

/// How they tell that it is made where it costs nothing.
const FREE: &str = "its answer was lost, and it is made where it costs nothing because `local.after_unknown` says so; what was sent \
                    may have been charged all the same";

impl Shell {
    /// Sends a job again whose answer was lost, where the configuration wants that and it was not done for this snapshot before.
    pub(crate) fn resubmit(&mut self, job: JobId) {
        let live = Arc::clone(&self.live.borrow());
        let free = live.order.iter().any(|place| !place.is_paid());
        let (kind, words) = if live.config.serverless.resubmit_unknown {
            (AgainKind::Resubmit, TWICE)
        } else if live.config.local.after_unknown && free {
            (AgainKind::Free, FREE)
        } else {
            return;
        };
        let (tools, now) = (Arc::clone(&self.tools), self.clock.now().wall);
        self.tasks.spawn(TaskName::Errand, async move {
            // Written down before it is asked for, so that a crash in between leaves one time too few and never one too many.
            let row = tools
                .store
                .with(move |ledger| {
                    let row = ledger.job(job)?;
                    let once = row.retry_of.is_none()
                        && row.state == State::Unknown
                        && !ledger.resubmitted(row.project, &row.inputs)?;
                    if once {
                        ledger.note(job, "resubmitted", words, now)?;
                    }
                    Ok::<_, LedgerError>(once.then_some(row))
                })
                .await;
            match row {
                Ok(Some(row)) => Outcome::Resubmit(Box::new(row), kind),
                Ok(None) => Outcome::Nothing,
                Err(error) => {
                    tracing::error!(%job, %error, "it is not sent again by itself");
                    Outcome::Nothing
                }
            }
        });
    }

    /// Asks for the second and last try of a lost job, unless a newer change has taken its place.
    pub(crate) fn resubmit_now(&mut self, row: &JobRow, kind: AgainKind) {
        let (job, project) = (row.id, row.project);
        let own = row.cause != Cause::Person && row.out.is_none();
        if own && self.engine.snapshot(project).is_some_and(|inputs| inputs != row.inputs) {
            tracing::warn!(%job, "its answer was lost; a newer change takes its place, so it is not sent again");
            return;
        }
        let Some(served) = self.served.get(&project) else { return };
        let name = served.config.name.clone();
        let words = if kind == AgainKind::Free { FREE } else { TWICE };
        self.warn([format!("job {job}: {words}")]);
        let again = Again { job, kind, may_charge_twice: kind == AgainKind::Resubmit };
        let request =
            OnceRequest { project: Some(name), again: Some(again), ..OnceRequest::default() };
        let (reply, answer) = oneshot::channel();
        self.tasks.spawn(TaskName::Errand, async move {
            if let Ok(Err(refused)) = answer.await {
                tracing::error!(%job, "it could not be sent again: {refused}");
            }
            Outcome::Nothing
        });
        self.ask(Asked { request, reply });
    }
}
