//! Takes projects over: their locks, what earlier sessions left in their folders, their rows in the
//! ledger.
//!
//! Owns the rule that a dead drive delays only its own project: taking over happens on the blocking
//! pool, separately for each project, and a drive that takes too long is waited for afterwards.
//! Which projects are served is decided by `super::super::state`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::super::event::TaskOutcome;
use crate::{
    config::settings::ProjectConfig,
    daemon::services::{
        Services,
        drives::{ANSWER_TIMEOUT, ask_all},
        errors::StartError,
        store::{PendingWork, blocking, blocking_within},
    },
    disk::{
        dirs,
        lock::{Holder, project_lock::ProjectLock},
        place::sweep,
    },
    domain::{
        engine::event::{Baseline, ProjectId},
        time::WallTime,
    },
};

/// A project that was taken over.
#[derive(Debug)]
pub(crate) struct TakenProject {
    pub(crate) id: ProjectId,
    pub(crate) remembered: Baseline,
    pub(crate) lock: ProjectLock,
}

/// A project whose drive has answered.
#[derive(Debug)]
pub(crate) struct LockedProject {
    lock: ProjectLock,
    /// The one name of its root.
    canonical: String,
}

impl TakenProject {
    pub(crate) fn root(&self) -> &Path {
        self.lock.root()
    }
}

/// How taking a project over went until now.
#[derive(Debug)]
pub(crate) enum LockAttempt {
    Done(Box<Result<TakenProject, StartError>>),
    /// Its drive does not answer.
    Pending(PendingWork<Result<LockedProject, StartError>>),
}

/// Takes projects over. Drives are asked side by side, the ledger in the projects' order.
pub(crate) async fn take_projects(
    services: &Arc<Services>,
    projects: Vec<ProjectConfig>,
    holder: &Holder,
    now: WallTime,
) -> Vec<(ProjectConfig, LockAttempt)> {
    let mut asked = Vec::new();
    for project in projects {
        let (own, services, holder) = (project.clone(), Arc::clone(services), holder.clone());
        asked.push(async move {
            let locked =
                blocking_within(ANSWER_TIMEOUT, move || lock_project(&services, &own, &holder))
                    .await;
            (project, locked)
        });
    }
    let mut attempts = Vec::new();
    for (project, locked) in ask_all(asked).await {
        let attempt = match locked {
            Ok(locked) => {
                LockAttempt::Done(Box::new(register_project(services, &project, locked, now).await))
            }
            Err(late) => LockAttempt::Pending(late),
        };
        attempts.push((project, attempt));
    }
    attempts
}

/// Takes a project's lock, and away what an earlier session left in its folders. Blocking, for the
/// pool.
fn lock_project(
    services: &Services,
    project: &ProjectConfig,
    holder: &Holder,
) -> Result<LockedProject, StartError> {
    let fallback = services.history.root().parent().unwrap_or(Path::new(".")).join("locks");
    let lock = ProjectLock::take(&project.root, &fallback, holder)?;
    let folders: Vec<PathBuf> = project
        .image
        .iter()
        .chain(&project.mesh)
        .filter_map(|name| name.parent().map(Path::to_path_buf))
        .collect();
    for fault in sweep::sweep(&folders, |_| false).faults {
        tracing::warn!("{fault}");
    }
    Ok(LockedProject { lock, canonical: dirs::canonical(&project.root).display().to_string() })
}

/// Makes a project known to the ledger, or finds what that remembers of it.
async fn register_project(
    services: &Services,
    project: &ProjectConfig,
    locked: Result<LockedProject, StartError>,
    now: WallTime,
) -> Result<TakenProject, StartError> {
    let LockedProject { lock, canonical } = locked?;
    let name = project.name.clone();
    let row =
        services.store.with(move |ledger| ledger.touch_project(&canonical, &name, now)).await?;
    let remembered = Baseline {
        known: row.baseline_prompt.is_some() || row.baseline_render.is_some(),
        prompt: row.baseline_prompt,
        render: row.baseline_render,
    };
    Ok(TakenProject { id: row.id, remembered, lock })
}

/// Returns the roots whose drives do not answer.
pub async fn silent_roots(projects: &[ProjectConfig]) -> BTreeSet<PathBuf> {
    let mut asked = Vec::new();
    for project in projects {
        let (own, root) = (project.root.clone(), project.root.clone());
        asked.push(async move {
            let answer = blocking_within(ANSWER_TIMEOUT, move || dirs::is_dir(&own)).await;
            answer.is_err().then_some(root)
        });
    }
    ask_all(asked).await.into_iter().flatten().collect()
}

/// Finishes taking over a project whose drive did not answer in time.
pub(crate) async fn await_project(
    services: Arc<Services>,
    project: ProjectConfig,
    late: PendingWork<Result<LockedProject, StartError>>,
    now: WallTime,
) -> TaskOutcome {
    let locked = late.wait().await;
    let taken = register_project(&services, &project, locked, now).await;
    TaskOutcome::ProjectTaken(project.root, Box::new(taken))
}

/// Releases a project that was taken over and is not wanted.
pub(crate) async fn release(taken: TakenProject) -> TaskOutcome {
    blocking(move || drop(taken)).await;
    TaskOutcome::Nothing
}
