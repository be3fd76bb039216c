//! Reads from the ledger what the loop needs to know of jobs: the figures for `status`, and a job
//! whose task panicked.
//!
//! Owns the queries. It writes nothing; [`super::records`] does.

use std::sync::Arc;

use super::super::event::{Refreshed, TaskOutcome};
use crate::{
    daemon::services::{Services, store::Store},
    domain::{
        engine::event::ProjectId,
        job::{JobId, JobState},
        money::budget::BudgetWindows,
        status,
    },
    ledger::{
        error::LedgerError,
        rows::{JobFilter, JobRow},
    },
};

/// The most lost answers that `status` lists for a project.
const MAX_UNKNOWN: u32 = 20;

/// Reads what `status` shows of past jobs and of money.
pub(crate) async fn refresh(
    services: Arc<Services>,
    project: ProjectId,
    windows: BudgetWindows,
) -> TaskOutcome {
    let session = services.session;
    let fresh = services
        .store
        .with(move |ledger| {
            let unknown = JobFilter {
                states: vec![JobState::Unknown],
                project: Some(project),
                limit: Some(MAX_UNKNOWN),
                before: None,
            };
            Ok::<_, LedgerError>(Refreshed {
                last_job: ledger.last_finished(project)?.map(last_job),
                unknown: ledger.jobs(&unknown)?.into_iter().map(|row| row.id).collect(),
                spent: ledger.spent(session, &windows)?,
            })
        })
        .await;
    match fresh {
        Ok(fresh) => TaskOutcome::Refreshed(Box::new(fresh)),
        Err(error) => {
            tracing::warn!(
                %error,
                "could not read the latest figures; the status shows older ones"
            );
            TaskOutcome::Nothing
        }
    }
}

fn last_job(row: JobRow) -> status::LastJob {
    status::LastJob {
        id: row.id,
        state: row.state,
        cost: row.spent(),
        ended_at: row.ended_at,
        reason: row.reason.map(|reason| reason.text),
    }
}

/// Reads a job whose task panicked with `message`.
pub(crate) async fn read_panicked(store: Store, job: JobId, message: String) -> TaskOutcome {
    let row = store.with(move |ledger| ledger.job(job)).await.ok();
    TaskOutcome::Panicked(message, row.map(Box::new))
}
