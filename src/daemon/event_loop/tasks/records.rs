//! Records in the ledger what the loop decided about jobs: a baseline, a replaced job, a failure
//! after a panic, a lost answer that is sent again.
//!
//! Owns these writes. Whether they are made is decided by [`super::super::state`].

use super::super::event::TaskOutcome;
use crate::{
    daemon::services::{command::RepeatKind, store::Store},
    domain::{
        engine::event::ProjectId,
        fingerprint::Fingerprint,
        job::{JobId, JobState},
        time::WallTime,
    },
    ledger::{
        Ledger,
        error::LedgerError,
        rows::{Booking, Reason},
    },
};

/// Records a baseline for the next start.
pub(crate) async fn set_baseline(
    store: Store,
    project: ProjectId,
    prompt: Option<Fingerprint>,
    render: Option<Fingerprint>,
    now: WallTime,
) -> TaskOutcome {
    let record = move |ledger: &mut Ledger| ledger.set_baseline(project, prompt, render, now);
    if let Err(error) = store.record("the baseline", record).await {
        tracing::error!(%error, "could not record the baseline");
    }
    TaskOutcome::Nothing
}

/// Records that a job was replaced before it was sent.
pub(crate) async fn replaced(store: Store, job: JobId, now: WallTime) -> TaskOutcome {
    let record = move |ledger: &mut Ledger| ledger.replaced(job, None, Booking::Nothing, now);
    if let Err(error) = store.record("the replacement of an unsent job", record).await {
        tracing::error!(
            job = %job, %error,
            "could not record that this job was replaced; nothing was sent for it, and it stays \
             `prepared`"
        );
    }
    TaskOutcome::Nothing
}

/// Records that a job ended with a panic of its task.
pub(crate) async fn panicked(
    store: Store,
    job: JobId,
    reason: Reason,
    now: WallTime,
) -> TaskOutcome {
    let record = move |ledger: &mut Ledger| {
        let row = ledger.job(job)?;
        match row.state {
            // It is not known whether the request left.
            JobState::Submitting => ledger.unknown(job, &reason, now),
            _ => ledger.failed(job, &reason, row.job_cost().0, now),
        }
    };
    if let Err(error) = store.record("the panic of a job's task", record).await {
        tracing::error!(job = %job, %error, "could not record the job's failure");
    }
    TaskOutcome::Nothing
}

/// Records that a lost answer is sent again, at most once for a snapshot.
pub(crate) async fn resubmitted(
    store: Store,
    job: JobId,
    kind: RepeatKind,
    message: &'static str,
    now: WallTime,
) -> TaskOutcome {
    // Recorded before it is requested: a crash in between leaves one attempt too few, never one
    // too many.
    let row = store
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
}
