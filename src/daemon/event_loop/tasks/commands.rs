//! Carries out the commands that need the ledger: cancel, restore, rate.
//!
//! Owns their answers. Which job is active is told by the caller.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use super::super::event::TaskOutcome;
use crate::{
    daemon::{
        jobs::{
            handoff::{hand_over_again, should_hand_over},
            restore::{self, RestoreContext, not_served, refused},
        },
        services::{
            Services,
            command::{CommandError, CommandErrorKind, RatingRequest, Reply, Restored},
            root_locks::LockStatus,
            runtime_config::RuntimeConfig,
            store::Store,
        },
    },
    domain::{
        engine::event::ProjectId,
        job::{JobId, JobState, control::JobControl, placement::Targets},
        time::WallTime,
    },
    ledger::{
        error::LedgerError,
        rows::{Booking, Reason},
    },
};

/// Records a person's cancel, and answers. `active` says whether the job has a task.
pub(crate) async fn cancel(
    store: Store,
    job: JobId,
    active: bool,
    now: WallTime,
    reply: Reply<String>,
) -> TaskOutcome {
    let said = store
        .with(move |ledger| {
            let row = ledger.job(job)?;
            if row.state == JobState::Unknown {
                let reason = Reason::new(
                    "settled",
                    "closed by a person; its reservation counts as spent, because it is not known \
                     whether it ran",
                );
                ledger.cancelled(job, &reason, Booking::Reserved, now)?;
                return Ok(format!(
                    "job {job} is closed as cancelled; its reservation of {} still counts as spent",
                    row.reserved
                ));
            }
            // First the ledger, which alone knows whether the placement has begun; then the job's
            // task.
            ledger.raise_control(job, JobControl::Cancel, now)?;
            Ok(if active {
                format!("job {job} is being cancelled; a run that has begun may still be charged")
            } else {
                format!("job {job} is not active yet; it is cancelled when its turn comes")
            })
        })
        .await;
    let answer = match said {
        Ok(said) => Ok(said),
        // It is being prepared and has no row yet: its task gets the cancel before anything
        // is sent.
        Err(LedgerError::NoSuchJob(_)) if active => Ok(format!("job {job} is cancelled")),
        Err(error) => Err(not_cancelled(job, &error)),
    };
    let outcome = if answer.is_ok() { TaskOutcome::Cancel(job) } else { TaskOutcome::Nothing };
    drop(reply.send(answer));
    outcome
}

/// Returns why a job was not cancelled.
pub(crate) fn not_cancelled(job: JobId, error: &LedgerError) -> CommandError {
    match error {
        LedgerError::Illegal { from, .. } if from.is_placing() => CommandError::new(
            CommandErrorKind::TryAgain,
            format!(
                "job {job} is being placed, so it can no longer be cancelled; nothing was changed. \
                 `conjured jobs restore` can show an earlier result again when it is done"
            ),
        ),
        LedgerError::Illegal { from, .. } => CommandError::new(
            CommandErrorKind::Usage,
            format!("job {job} is already `{from}`; nothing was cancelled"),
        ),
        LedgerError::NoSuchJob(_) => {
            CommandError::new(CommandErrorKind::NotFound, error.to_string())
        }
        _ => CommandError::new(CommandErrorKind::TryAgain, error.to_string()),
    }
}

/// Places an earlier job's artifacts again. `places` has the root and the public names of each
/// project that is served.
pub(crate) async fn restore(
    services: Arc<Services>,
    config: Arc<RuntimeConfig>,
    job: JobId,
    places: BTreeMap<ProjectId, (PathBuf, Targets)>,
    reply: Reply<Restored>,
) -> TaskOutcome {
    let workshop = RestoreContext {
        clock: services.clock,
        store: services.store.clone(),
        history: Arc::clone(&services.history),
        locks: services.locks.clone(),
    };
    let row = workshop.store.with(move |ledger| ledger.job(job)).await;
    let restored = match row.map_err(|error| refused(&error)) {
        Ok(row) => match places.get(&row.project) {
            Some((root, targets)) => {
                let lock_status = services.root_locks.check(row.project).await;
                if let LockStatus::Withheld(reason) = lock_status {
                    let command_error = CommandError::new(CommandErrorKind::TryAgain, reason);
                    drop(reply.send(Err(command_error)));
                    return TaskOutcome::Nothing;
                }
                let notify_conjure = should_hand_over(&config, root).await;
                let restored = workshop.restore(&row, root, targets, notify_conjure).await;
                restored.map(|restored| (row, restored, notify_conjure))
            }
            None => Err(not_served(job)),
        },
        Err(command_error) => Err(command_error),
    };
    let known =
        restored.as_ref().ok().map(|(row, _, notify_conjure)| (row.project, *notify_conjure));
    drop(reply.send(restored.map(|(_, restored, _)| restored)));
    let Some((project, notify_conjure)) = known else { return TaskOutcome::Nothing };
    if notify_conjure && let Some((root, targets)) = places.get(&project).cloned() {
        hand_over_again(&services, project, job, root, targets).await;
    }
    TaskOutcome::Restored(project)
}

/// Records a rating, and answers.
pub(crate) async fn rate(
    store: Store,
    job: JobId,
    rate: RatingRequest,
    now: WallTime,
    reply: Reply<String>,
) -> TaskOutcome {
    let rated = store.with(move |ledger| restore::rate(ledger, job, &rate, now));
    drop(reply.send(rated.await));
    TaskOutcome::Nothing
}
