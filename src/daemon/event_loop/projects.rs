//! Which projects are served: taking one over, letting one go, and one whose drive does not answer.
//!
//! Owns the rule that nobody waits for a dead drive but its own project: taking over happens on the
//! blocking pool, each project by itself, and one that takes too long is served when its drive
//! answers, while all others are served without it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    EventLoop,
    outcomes::{TaskName, TaskOutcome},
};
use crate::{
    config::{Loaded, settings::ProjectConfig},
    daemon::{
        inputs::project_state::ProjectState,
        services::{
            Services,
            command::{CommandError, CommandErrorKind},
            drives::{ANSWER_TIMEOUT, ask_all, no_answer_message},
            errors::StartError,
            store::{PendingWork, blocking, blocking_within},
        },
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
    id: ProjectId,
    remembered: Baseline,
    lock: ProjectLock,
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

impl EventLoop {
    /// Returns the roots that are served, or taken already, or being taken.
    pub(crate) fn known_roots(&self) -> BTreeSet<PathBuf> {
        let project = self.projects.values().map(|project| project.config.root.clone());
        let spare = self.taken_projects.iter().map(|taken| taken.root().to_path_buf());
        project
            .chain(spare)
            .chain(self.unresponsive_projects.iter().map(|own| own.root.clone()))
            .collect()
    }

    /// Takes in how taking over went. Returns the first refusal.
    pub(crate) fn on_lock_attempts(
        &mut self,
        attempts: Vec<(ProjectConfig, LockAttempt)>,
    ) -> Result<(), StartError> {
        let mut refused = Ok(());
        for (project, attempt) in attempts {
            match attempt {
                LockAttempt::Done(over) => match *over {
                    Ok(taken) => self.taken_projects.push(taken),
                    Err(error) if refused.is_ok() => refused = Err(error),
                    Err(error) => self.warn([error.to_string()]),
                },
                LockAttempt::Pending(late) => {
                    tracing::warn!("{}", no_answer_message(&project));
                    self.unresponsive_projects.push(project.clone());
                    self.dirty = true;
                    let (services, now) = (Arc::clone(&self.services), self.clock.now().wall);
                    self.tasks.spawn(TaskName::TakeProject, async move {
                        let locked = late.wait().await;
                        let taken = register_project(&services, &project, locked, now).await;
                        TaskOutcome::ProjectTaken(project.root, Box::new(taken))
                    });
                }
            }
        }
        refused
    }

    /// A drive has answered at last: its project is served from now on.
    pub(crate) fn on_project_taken(
        &mut self,
        root: &Path,
        taken: Result<TakenProject, StartError>,
    ) {
        let wanted = self.unresponsive_projects.iter().position(|project| project.root == root);
        let wanted = wanted.map(|at| self.unresponsive_projects.remove(at));
        self.dirty = true;
        match (wanted, taken) {
            (Some(project), Ok(taken)) => {
                tracing::info!(project = project.name, "its drive answers; serving the project");
                let id = self.serve(project, taken);
                let (own, later) = std::mem::take(&mut self.waiting_jobs)
                    .into_iter()
                    .partition(|row| row.project == id);
                self.waiting_jobs = later;
                self.resume_all(own, true);
                self.refresh_history(id);
                self.rewatch();
                self.scan_where_due();
            }
            (Some(_), Err(error)) => self.warn([error.to_string()]),
            (None, Ok(taken)) => self.release_project(taken),
            (None, Err(_)) => {}
        }
    }

    /// Begins to serve a project that was taken over.
    pub(crate) fn serve(&mut self, project: ProjectConfig, taken: TakenProject) -> ProjectId {
        let TakenProject { id, remembered, lock } = taken;
        self.engine.add(id, remembered);
        self.services.root_locks.insert(id, lock);
        let now = self.clock.now().moment;
        self.projects.insert(id, ProjectState::new(project, now));
        id
    }

    fn release_project(&mut self, taken: TakenProject) {
        self.tasks.spawn(TaskName::Background, async move {
            blocking(move || drop(taken)).await;
            TaskOutcome::Nothing
        });
    }

    /// Serves what the new configuration lists. A project with a job at work is let go only when
    /// that job is over, by a restart.
    pub(crate) fn change_projects(&mut self, loaded: &Loaded) {
        let now = self.clock.now();
        let busy: Vec<String> = self
            .projects
            .values()
            .filter(|project_state| {
                project_state.job.is_some()
                    && !loaded.config.projects.contains(&project_state.config)
            })
            .map(|project_state| project_state.config.name.clone())
            .collect();
        if !busy.is_empty() {
            self.warn([format!(
                "the changed projects take effect when the running job of {} has ended",
                busy.join(", ")
            )]);
            self.pending_projects = Some(loaded.clone());
            return;
        }
        // What waited for a job's end is older than this.
        self.pending_projects = None;
        let mut keep: Vec<ProjectId> = Vec::new();
        for project in &loaded.config.projects {
            let known = self
                .projects
                .iter()
                .find(|(_, project_state)| project_state.config.root == project.root)
                .map(|(id, _)| *id);
            let spare = self.taken_projects.iter().position(|taken| taken.root() == project.root);
            match (known, spare) {
                (Some(id), _) => {
                    keep.push(id);
                    if let Some(project_state) = self.projects.get_mut(&id)
                        && project_state.config != *project
                    {
                        project_state.reconfigure(project.clone(), now.moment);
                    }
                }
                (None, Some(at)) => {
                    let taken = self.taken_projects.remove(at);
                    keep.push(self.serve(project.clone(), taken));
                }
                // It was refused, which was told, or its drive does not answer.
                (None, None) => {}
            }
        }
        let listed = |root: &Path| loaded.config.projects.iter().find(|own| own.root == root);
        self.unresponsive_projects = std::mem::take(&mut self.unresponsive_projects)
            .into_iter()
            .filter_map(|awaited| listed(&awaited.root).cloned())
            .collect();
        for taken in std::mem::take(&mut self.taken_projects) {
            self.release_project(taken);
        }
        let gone: Vec<_> = self
            .requested
            .iter()
            .filter(|(_, (project, _))| !keep.contains(project))
            .map(|(ticket, _)| *ticket)
            .collect();
        for (_, asked) in gone.into_iter().filter_map(|ticket| self.requested.remove(&ticket)) {
            let error = CommandError::new(
                CommandErrorKind::Configuration,
                "its project is no longer served; nothing was sent",
            );
            drop(asked.reply.send(Err(error)));
        }
        for id in self.projects.keys().filter(|id| !keep.contains(id)).copied() {
            let services = Arc::clone(&self.services);
            self.tasks.spawn(TaskName::Background, async move {
                services.root_locks.release(id).await;
                TaskOutcome::Nothing
            });
        }
        self.projects.retain(|id, _| keep.contains(id));
        self.engine.retain(&keep);
        for project_state in self.projects.values_mut() {
            // Patterns may have changed: what was refused may be good now.
            project_state.rescan(now.moment);
        }
        self.watching.files = loaded.files.iter().chain(&loaded.absent).cloned().collect();
        self.rewatch();
    }

    /// A drive does not answer: its project waits, and everything else goes on without it.
    pub(crate) fn mark_unresponsive(&mut self, project: ProjectId) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        if !std::mem::replace(&mut project_state.unresponsive, true) {
            tracing::warn!("{}", no_answer_message(&project_state.config));
            self.dirty = true;
        }
    }

    /// A drive answers.
    pub(crate) fn mark_responsive(&mut self, project: ProjectId) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        if std::mem::replace(&mut project_state.unresponsive, false) {
            tracing::info!(project = project_state.config.name, "its drive answers again");
            project_state.wake(self.clock.now().moment);
            self.dirty = true;
            self.rewatch();
            self.scan_where_due();
        }
    }
}
