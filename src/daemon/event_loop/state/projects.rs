//! Which projects are served: serving one that was taken over, letting one go, and one whose drive
//! does not answer.
//!
//! Owns the projects that are not served yet. The work with their drives belongs to
//! [`super::super::tasks::projects`].

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    super::{
        action::Action,
        tasks::projects::{LockAttempt, TakenProject},
    },
    DaemonState,
};
use crate::{
    config::{Loaded, settings::ProjectConfig},
    daemon::{
        inputs::project_state::ProjectState,
        services::{drives::no_answer_message, errors::StartError},
    },
    domain::{engine::event::ProjectId, time::Now},
};

/// Projects that are configured and not served.
#[derive(Debug, Default)]
pub(super) struct ProjectsTaken {
    /// Projects that were taken over and wait for an active job to end.
    spare: Vec<TakenProject>,
    /// Projects that are being taken over, and whose drives do not answer.
    unresponsive: Vec<ProjectConfig>,
    /// Changed projects that take effect when an active job ends.
    pending: Option<Box<Loaded>>,
}

impl ProjectsTaken {
    /// Returns the projects whose drives have not answered yet.
    pub(super) fn unresponsive(&self) -> &[ProjectConfig] {
        &self.unresponsive
    }

    /// Returns whether there are projects to serve, with nothing that they must wait for.
    pub(super) const fn can_be_served(&self) -> bool {
        !self.spare.is_empty() && self.pending.is_none()
    }

    /// Takes the configuration of the project with this root that did not answer.
    fn take_unresponsive(&mut self, root: &Path) -> Option<ProjectConfig> {
        let at = self.unresponsive.iter().position(|project| project.root == root)?;
        Some(self.unresponsive.remove(at))
    }

    /// Takes the project with this root that was taken over.
    fn take_spare(&mut self, root: &Path) -> Option<TakenProject> {
        let at = self.spare.iter().position(|taken| taken.root() == root)?;
        Some(self.spare.remove(at))
    }
}

impl DaemonState {
    /// Returns the roots that are served, or taken already, or being taken.
    pub(super) fn known_roots(&self) -> BTreeSet<PathBuf> {
        let served = self.projects.values().map(|project| project.config().root.clone());
        let spare = self.taken.spare.iter().map(|taken| taken.root().to_path_buf());
        let unresponsive = self.taken.unresponsive.iter().map(|own| own.root.clone());
        served.chain(spare).chain(unresponsive).collect()
    }

    /// Handles the results of taking over. Returns the first refusal.
    pub(crate) fn on_lock_attempts(
        &mut self,
        attempts: Vec<(ProjectConfig, LockAttempt)>,
    ) -> Result<(), StartError> {
        let mut refused = Ok(());
        for (project, attempt) in attempts {
            match attempt {
                LockAttempt::Done(over) => match *over {
                    Ok(taken) => self.taken.spare.push(taken),
                    Err(error) if refused.is_ok() => refused = Err(error),
                    Err(error) => self.warn([error.to_string()]),
                },
                LockAttempt::Pending(late) => {
                    tracing::warn!("{}", no_answer_message(&project));
                    self.taken.unresponsive.push(project.clone());
                    self.publication.mark_changed();
                    self.push(Action::AwaitProject { project: Box::new(project), late });
                }
            }
        }
        refused
    }

    /// Serves every project that was taken over and is configured.
    pub(crate) fn serve_taken(&mut self, configured: &[ProjectConfig], now: Now) {
        for taken in std::mem::take(&mut self.taken.spare) {
            let project = configured.iter().find(|project| project.root == taken.root());
            if let Some(project) = project.cloned() {
                self.serve(project, taken, now);
            }
        }
    }

    /// A drive has answered at last: its project is served from now on.
    pub(super) fn on_project_taken(
        &mut self,
        root: &Path,
        taken: Result<TakenProject, StartError>,
        now: Now,
    ) {
        let wanted = self.taken.take_unresponsive(root);
        self.publication.mark_changed();
        match (wanted, taken) {
            (Some(project), Ok(taken)) => {
                tracing::info!(project = project.name, "its drive answers; serving the project");
                let id = self.serve(project, taken, now);
                self.resume_waiting(id, now);
                self.push(Action::Refresh { project: id });
                self.rewatch(now.moment);
                self.scan_where_due(now.moment);
            }
            (Some(_), Err(error)) => self.warn([error.to_string()]),
            (None, Ok(taken)) => self.push(Action::ReleaseProject(Box::new(taken))),
            (None, Err(_)) => {}
        }
    }

    /// Begins to serve a project that was taken over.
    fn serve(&mut self, project: ProjectConfig, taken: TakenProject, now: Now) -> ProjectId {
        let TakenProject { id, remembered, lock } = taken;
        self.engine.add(id, remembered);
        self.push(Action::KeepLock { project: id, lock: Box::new(lock) });
        self.projects.insert(id, ProjectState::new(project, now.moment));
        id
    }

    /// Serves what the new configuration lists. A project with an active job is let go only when
    /// that job has ended.
    pub(super) fn change_projects(&mut self, loaded: &Loaded, now: Now) {
        let busy: Vec<&str> = self
            .projects
            .values()
            .filter(|project| {
                !project.is_idle() && !loaded.config.projects.contains(project.config())
            })
            .map(|project| project.config().name.as_str())
            .collect();
        if !busy.is_empty() {
            let warning = format!(
                "the changed projects take effect when the running job of {} has ended",
                busy.join(", ")
            );
            self.warn([warning]);
            self.taken.pending = Some(Box::new(loaded.clone()));
            return;
        }
        // What waited for a job's end is older than this.
        self.taken.pending = None;
        let keep = self.serve_listed(&loaded.config.projects, now);
        let listed = |root: &Path| loaded.config.projects.iter().find(|own| own.root == root);
        self.taken.unresponsive = std::mem::take(&mut self.taken.unresponsive)
            .into_iter()
            .filter_map(|awaited| listed(&awaited.root).cloned())
            .collect();
        for taken in std::mem::take(&mut self.taken.spare) {
            self.push(Action::ReleaseProject(Box::new(taken)));
        }
        self.refuse_requests_of_others(&keep);
        let gone: Vec<ProjectId> =
            self.projects.keys().filter(|id| !keep.contains(id)).copied().collect();
        for project in gone {
            self.push(Action::ReleaseLock { project });
        }
        self.projects.retain(|id, _| keep.contains(id));
        self.engine.retain(&keep);
        for project in self.projects.values_mut() {
            // Patterns may have changed: what was refused may be good now.
            project.rescan(now.moment);
        }
        self.watching.set_files(loaded);
        self.rewatch(now.moment);
    }

    /// Serves the listed projects that were taken over, and returns which of the list are served.
    fn serve_listed(&mut self, listed: &[ProjectConfig], now: Now) -> Vec<ProjectId> {
        let mut keep: Vec<ProjectId> = Vec::new();
        for project in listed {
            let known = self.projects.iter_mut().find(|(_, own)| own.config().root == project.root);
            if let Some((id, project_state)) = known {
                keep.push(*id);
                if project_state.config() != project {
                    project_state.reconfigure(project.clone(), now.moment);
                }
            } else if let Some(taken) = self.taken.take_spare(&project.root) {
                keep.push(self.serve(project.clone(), taken, now));
            }
            // Otherwise it was refused, with a warning, or its drive does not answer.
        }
        keep
    }

    /// Serves the changed projects that waited for the end of a job, unless there is another one.
    pub(super) fn change_projects_if_pending(&mut self, now: Now) {
        if let Some(loaded) = self.taken.pending.take() {
            self.change_projects(&loaded, now);
        }
    }

    /// A drive does not answer: its project waits, and everything else continues without it.
    pub(super) fn mark_unresponsive(&mut self, project: ProjectId) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        if project_state.set_unresponsive(true) {
            tracing::warn!("{}", no_answer_message(project_state.config()));
            self.publication.mark_changed();
        }
    }

    /// A drive answers.
    pub(super) fn mark_responsive(&mut self, project: ProjectId, now: Now) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        if project_state.set_unresponsive(false) {
            tracing::info!(project = project_state.config().name, "its drive answers again");
            project_state.wake(now.moment);
            self.publication.mark_changed();
            self.rewatch(now.moment);
            self.scan_where_due(now.moment);
        }
    }
}
