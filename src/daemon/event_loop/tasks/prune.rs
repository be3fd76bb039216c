//! Keeps the history within its limits: the oldest job folders are deleted if there are too many or
//! they take too much space.
//!
//! Owns which folders stay in any case: every job in progress or `unknown` (its inputs are needed
//! to send it again), every folder that is being read, and each project's newest success. Ledger
//! rows are never deleted. [`crate::disk::history::overdue`] decides which other folders are due.
//! It runs next to the event loop, one folder per step, so that a stop waits for at most one.

use std::{collections::BTreeSet, sync::Arc};

use super::super::event::TaskOutcome;
use crate::{
    daemon::services::{Services, store::blocking},
    disk::history::{RetentionLimits, overdue},
    domain::{
        job::{JobId, JobState},
        money::MicroUsd,
    },
    ledger::{error::LedgerError, rows::AuditRow},
};

/// Prunes the history to its limits.
pub(crate) async fn prune(services: Arc<Services>, limits: RetentionLimits) -> TaskOutcome {
    TaskOutcome::Pruned(remove_overdue(&services, limits).await.err())
}

/// Removes what is overdue. An error is a message for the user; what could be removed before it
/// is gone.
async fn remove_overdue(services: &Services, limits: RetentionLimits) -> Result<(), String> {
    if limits.jobs == 0 && limits.bytes == 0 {
        return Ok(());
    }
    let history = Arc::clone(&services.history);
    let kept = blocking(move || history.jobs()).await.map_err(|error| fault(&error))?;
    let stay: BTreeSet<JobId> = services
        .store
        .with(|ledger| ledger.protected_jobs())
        .await
        .map_err(|error| fault(&error))?
        .into_iter()
        .collect();
    let overdue = overdue(&kept, limits, |job| stay.contains(&job));
    let mut removed = BTreeSet::new();
    let mut result = Ok(());
    for job in overdue {
        match remove(services, job).await {
            Ok(true) => {
                removed.insert(job);
            }
            Ok(false) => {}
            // Other folders may still be removable; the last error is as useful as the first.
            Err(error) => result = Err(error),
        }
    }
    if let (Some(first), Some(last)) = (removed.first(), removed.last()) {
        let bytes: u64 =
            kept.iter().filter(|kept| removed.contains(&kept.job)).map(|kept| kept.bytes).sum();
        let outcome = format!(
            "removed {} job folders ({} KB) from the history, {first} to {last}",
            removed.len(),
            bytes.div_ceil(1024)
        );
        tracing::info!("{outcome}");
        let row = AuditRow {
            at: services.clock.now().wall,
            what: "retention".to_owned(),
            job: None,
            outcome,
            cost: MicroUsd::ZERO,
        };
        let noted = services.store.with(move |ledger| ledger.audit(&row)).await;
        noted.map_err(|error| fault(&error))?;
    }
    result
}

/// Removes one job's folder, unless the job is active or its folder is being read.
async fn remove(services: &Services, job: JobId) -> Result<bool, String> {
    let (history, locks) = (Arc::clone(&services.history), services.locks.clone());
    let aside = services
        .store
        .with(move |ledger| {
            // Checked again at the last moment, in the same ledger operation in which a release
            // would make it a job.
            match ledger.job(job) {
                Ok(row) if !row.state.is_final() || row.state == JobState::Unknown => {
                    return Ok(None);
                }
                // A folder without a job: from a crash in the middle of a release, or from a ledger
                // that was replaced.
                Ok(_) | Err(LedgerError::NoSuchJob(_)) => {}
                Err(error) => return Err(fault(&error)),
            }
            let aside = locks.unless_held(job, || history.detach(job));
            aside.transpose().map(Option::flatten).map_err(|error| fault(&error))
        })
        .await?;
    let Some(aside) = aside else { return Ok(false) };
    blocking(move || aside.remove()).await.map(|()| true).map_err(|error| fault(&error))
}

fn fault(error: &impl std::fmt::Display) -> String {
    format!(
        "the history cannot be pruned to its limits (`history.keep_jobs`, `history.keep_mb`): \
         {error}"
    )
}
