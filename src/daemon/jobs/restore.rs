//! `jobs restore`: places an earlier job's artifacts under the public names again, free of charge.
//!
//! Owns the checks before anything becomes visible (every artifact is there with the
//! digest that the ledger recorded, and the mesh still passes its checks), and what the
//! ledger keeps of a restore. It works the same with and without a daemon; the renames
//! belong to [`crate::disk::place`].

use std::{ops::ControlFlow, path::Path, sync::Arc};

use super::handoff;
use crate::{
    clock::Clock,
    daemon::{
        inputs::prepare::describe,
        services::{
            command::{CommandError, CommandErrorKind, RatingRequest, Restored},
            project_locks::ProjectLocks,
            store::{Store, blocking},
        },
    },
    disk::{
        history::{History, JobFolder},
        place::{self, PlaceFault, PlaceOutcome},
    },
    domain::{
        job::{
            JobId,
            artifact::ArtifactKind,
            placement::{self, Targets},
        },
        time::WallTime,
    },
    ledger::{
        Ledger,
        error::LedgerError,
        rows::{ArtifactRow, JobRow},
    },
};

pub(crate) struct RestoreContext {
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) history: Arc<History>,
    pub(crate) locks: ProjectLocks,
}

impl RestoreContext {
    /// Places a job's artifacts under `targets`, names of the project in `root`. `notify_conjure`
    /// means that CONJURE imports the mesh afterwards. After a refusal the public names are
    /// unchanged.
    pub(crate) async fn restore(
        &self,
        row: &JobRow,
        root: &Path,
        targets: &Targets,
        notify_conjure: bool,
    ) -> Result<Restored, CommandError> {
        let (job, project) = (row.id, row.project);
        if !row.state.is_final() {
            let text = format!(
                "job {job} is `{}`: it is placed automatically when it is done; nothing was \
                 changed",
                row.state
            );
            return Err(CommandError::new(CommandErrorKind::Usage, text));
        }
        let _read = self.locks.hold_history(job);
        let rows =
            self.store.with(move |ledger| ledger.artifacts(job)).await.map_err(|e| refused(&e))?;
        let folder = self.history.past(job);
        let artifacts = blocking(move || verified_artifacts(job, &folder, &rows)).await.map_err(|reason| {
            let text = format!(
                "{reason}; the public files are unchanged, and nothing was charged. `conjured jobs \
                 rerun {job}` runs it again, at its own cost"
            );
            CommandError::new(CommandErrorKind::BadInput, text)
        })?;
        let plan = placement::plan(job, &artifacts, targets).map_err(|error| {
            CommandError::new(CommandErrorKind::Configuration, error.to_string())
        })?;
        let plan = if notify_conjure {
            handoff::with_old_mesh_time(plan, self.clock.now().wall)
        } else {
            plan
        };
        if plan.names.is_empty() {
            let text = "the project has no public names to place it under; nothing was changed";
            return Err(CommandError::new(CommandErrorKind::Configuration, text));
        }
        let _alone = self.locks.lock_placement(project).await;
        // Recorded first: after a crash the job's events still say why the public files changed.
        self.note(job, "begun").await?;
        let root = root.to_path_buf();
        let placed =
            blocking(move || place::place(&plan, &root, &mut |_| ControlFlow::Continue(()))).await;
        match placed {
            Ok(PlaceOutcome::All(files)) => {
                self.note(job, "placed").await?;
                tracing::info!(%job, "restored: the public files show this job again");
                let said =
                    format!("restored: the public files show job {job} again; nothing was charged");
                Ok(Restored { said, files })
            }
            Ok(PlaceOutcome::Stopped) => {
                Err(CommandError::new(CommandErrorKind::TryAgain, "the placement was stopped"))
            }
            Err(fault) => {
                self.note(job, &format!("failed: {fault}")).await?;
                let kind = match fault {
                    PlaceFault::SourceLost { .. } => CommandErrorKind::BadInput,
                    _ => CommandErrorKind::CannotWrite,
                };
                let text =
                    format!("{fault}; nothing was charged, and job {job} stays in the history");
                Err(CommandError::new(kind, text))
            }
        }
    }

    async fn note(&self, job: JobId, outcome: &str) -> Result<(), CommandError> {
        let (outcome, now) = (outcome.to_owned(), self.clock.now().wall);
        let noted = self.store.with(move |ledger| ledger.restored(job, &outcome, now)).await;
        noted.map_err(|error| refused(&error))
    }
}

/// Returns a job's artifacts if everything that the ledger lists is in history, unchanged, with a
/// mesh among it; otherwise the reason.
pub(crate) fn verified_artifacts(
    job: JobId,
    folder: &JobFolder,
    rows: &[ArtifactRow],
) -> Result<Vec<placement::Artifact>, String> {
    if !rows.iter().any(|row| row.kind == ArtifactKind::Mesh) {
        return Err(format!("job {job} has no mesh"));
    }
    let one = |row: &ArtifactRow| {
        let kind = row.kind;
        let path = folder
            .artifact(kind)
            .ok_or_else(|| format!("the {kind} of job {job} is no longer in the history"))?;
        let found = describe(folder, job, kind)?;
        if (found.bytes, found.blake3) != (row.bytes, row.blake3) {
            return Err(format!(
                "the {kind} of job {job} in the history differs from what was placed: {} is \
                 damaged or was changed",
                path.display()
            ));
        }
        if kind == ArtifactKind::Mesh && found.vertices.is_none() {
            return Err(format!("the mesh of job {job} does not pass the current checks"));
        }
        Ok(placement::Artifact { kind, path })
    };
    rows.iter().map(one).collect()
}

/// Returns the refusal for a project that is not served: its public names are not known here.
pub(crate) fn not_served(job: JobId) -> CommandError {
    let text = format!(
        "the project of job {job} is not served, so nothing was changed. Its artifacts are in its \
         history folder"
    );
    CommandError::new(CommandErrorKind::Configuration, text)
}

/// Records the artist's rating of a job's result.
pub(crate) fn rate(
    ledger: &mut Ledger,
    job: JobId,
    rate: &RatingRequest,
    now: WallTime,
) -> Result<String, CommandError> {
    let details = ledger.details(job).map_err(|error| refused(&error))?;
    if details.artifacts.is_empty() {
        let text = format!("job {job} is `{}` and has no result to rate", details.job.state);
        return Err(CommandError::new(CommandErrorKind::Usage, text));
    }
    ledger.rate(job, rate.stars, &rate.note, now).map_err(|error| refused(&error))?;
    Ok(format!("job {job} is rated {} of 5", rate.stars))
}

/// Converts a ledger's refusal into the answer to a command.
pub(crate) fn refused(error: &LedgerError) -> CommandError {
    let kind = match error {
        LedgerError::NoSuchJob(_) => CommandErrorKind::NotFound,
        LedgerError::NotARating(_)
        | LedgerError::ChargedBefore { .. }
        | LedgerError::ReusesResult(_)
        | LedgerError::CancelWanted(_)
        | LedgerError::Ambiguous { .. }
        | LedgerError::Illegal { .. } => CommandErrorKind::Usage,
        LedgerError::Store(_) => CommandErrorKind::TryAgain,
    };
    CommandError::new(kind, error.to_string())
}
