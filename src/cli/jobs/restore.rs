//! `conjured jobs restore` and `rate`: restores or rates an old job's results.
//!
//! Owns the two ways to do it: through a running daemon, so that two placements never interleave,
//! or alone with the daemon's locks.

use std::sync::Arc;

use serde_json::json;

use super::opened;
use crate::{
    cli::{
        context::Context,
        daemon_client::DaemonClient,
        exit::{CANNOT_WRITE, Failure, TRY_AGAIN},
    },
    clock::Clock,
    config::{Loaded, settings::ProjectConfig},
    daemon::{
        jobs::restore::{self, RestoreContext, not_served},
        services::{
            command::{RatingRequest, Restored},
            project_locks::ProjectLocks,
            store::Store,
        },
    },
    disk::{
        dirs,
        history::History,
        lock::{Holder, Lock, LockError},
    },
    domain::job::{JobId, placement::Targets},
    ledger::{FILE, Ledger},
};

/// Restores the results of an old job.
pub(in crate::cli) async fn restore(
    context: &Context,
    id: &str,
    as_json: bool,
) -> Result<(), Failure> {
    let state_dir = context.state_dir()?;
    let job = {
        let reader = opened(&state_dir)?;
        reader.find(id)?
    };
    let restored = match DaemonClient::find(&state_dir).await {
        Some((client, _)) => client.restore(job).await?,
        None => restore_alone(context.load_to_serve()?, job).await?,
    };
    if as_json {
        context.out.json(&json!({ "job": job, "said": restored.said, "files": restored.files }));
    } else {
        context.out.info(&restored.said);
        for file in &restored.files {
            context.out.data(file.display().to_string());
        }
    }
    Ok(())
}

/// Restores without a daemon, holding the locks that a daemon would hold.
async fn restore_alone(loaded: Loaded, job: JobId) -> Result<Restored, Failure> {
    let state_dir = loaded.config.state_dir;
    let holder = holder("conjured jobs restore");
    let _lock = Lock::acquire_state(&state_dir, &holder).map_err(|error| lock_failure(&error))?;
    let ledger = Ledger::open(&state_dir.join(FILE))?;
    let row = ledger.job(job)?;
    let known = ledger.projects()?.into_iter().find(|project| project.id == row.project);
    let same = |project: &&ProjectConfig| {
        let root = dirs::canonical(&project.root).display().to_string();
        known.as_ref().is_some_and(|known| known.root == root)
    };
    let project =
        loaded.config.projects.iter().find(same).ok_or_else(|| Failure::from(not_served(job)))?;
    let _project = Lock::acquire_project(&project.root, &state_dir.join("locks"), &holder)
        .map_err(|error| lock_failure(&error))?;
    let history =
        History::open(&state_dir).map_err(|error| Failure::new(CANNOT_WRITE, error.to_string()))?;
    let workshop = RestoreContext {
        clock: Clock,
        store: Store::standalone(ledger),
        history: Arc::new(history),
        locks: ProjectLocks::default(),
    };
    let targets = Targets { image: project.image.clone(), mesh: project.mesh.clone() };
    Ok(workshop.restore(&row, &project.root, &targets, false).await?)
}

/// Stores a person's rating of a job's result.
pub(in crate::cli) async fn rate(
    context: &Context,
    id: &str,
    rate: RatingRequest,
    as_json: bool,
) -> Result<(), Failure> {
    let state_dir = context.state_dir()?;
    let job = {
        let reader = opened(&state_dir)?;
        reader.find(id)?
    };
    let said = match DaemonClient::find(&state_dir).await {
        Some((client, _)) => client.rate(job, &rate).await?,
        None => {
            let _lock = Lock::acquire_state(&state_dir, &holder("conjured jobs rate"))
                .map_err(|error| lock_failure(&error))?;
            let mut ledger = Ledger::open(&state_dir.join(FILE))?;
            restore::rate(&mut ledger, job, &rate, Clock.now().wall)?
        }
    };
    if as_json {
        context.out.json(&json!({ "job": job, "said": said }));
    } else {
        context.out.data(said);
    }
    Ok(())
}

fn holder(what: &str) -> Holder {
    let (pid, since) = (std::process::id(), Clock.now().wall);
    Holder { pid, since, socket: None, what: what.to_owned() }
}

fn lock_failure(error: &LockError) -> Failure {
    let code = match error {
        LockError::Held { .. } => TRY_AGAIN,
        LockError::Disk(_) => CANNOT_WRITE,
    };
    Failure::new(code, format!("{error}; nothing was changed"))
}
