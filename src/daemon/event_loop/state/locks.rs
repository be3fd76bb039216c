//! The locks of the served projects: when they are checked, and what a lost one means.
//!
//! Owns the rule that changes which another process may have paid for become the baseline. The
//! checks belong to [`crate::daemon::services::root_locks`].

use std::time::Duration;

use super::{super::action::Action, DaemonState};
use crate::{
    daemon::services::root_locks::LockStatus,
    domain::{
        engine::event::{Event, ProjectId},
        time::{Moment, Now},
    },
};

/// How soon the lock of a project that is not ours is checked again.
const LOCK_RECHECK: Duration = Duration::from_secs(2);

/// When the locks that are not ours are checked again.
#[derive(Debug, Default)]
pub(super) struct LockChecks {
    next: Option<Moment>,
}

impl LockChecks {
    /// Returns when the next check is due; `None` if every lock is ours.
    pub(super) const fn due_at(&self) -> Option<Moment> {
        self.next
    }
}

impl DaemonState {
    /// Checks the locks of projects that are not ours at this moment, if that is due.
    pub(super) fn check_locks_if_due(&mut self, now: Moment) {
        if self.lock_checks.next.is_none_or(|at| now < at) {
            return;
        }
        for (project, project_state) in &mut self.projects {
            if project_state.begin_lock_check() {
                self.actions.push(Action::CheckLock { project: *project });
            }
        }
        let withheld = self.projects.values().any(|project| project.withheld().is_some());
        self.lock_checks.next = withheld.then(|| now.plus(LOCK_RECHECK));
    }

    /// Handles the result of a check of one lock.
    pub(super) fn on_lock_checked(
        &mut self,
        project: ProjectId,
        lock_status: LockStatus,
        now: Now,
    ) {
        if let Some(project_state) = self.projects.get_mut(&project) {
            project_state.end_lock_check();
        }
        self.on_lock_status(project, lock_status, now);
    }

    /// Handles what is known of a lock.
    pub(super) fn on_lock_status(&mut self, project: ProjectId, lock_status: LockStatus, now: Now) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        if project_state.set_lock_status(lock_status) {
            let name = &project_state.config().name;
            match project_state.withheld() {
                Some(reason) => tracing::warn!(project = name, "{reason}"),
                None => tracing::info!(project = name, "the project is served again"),
            }
            self.publication.mark_changed();
        }
        if project_state.withheld().is_some() && self.lock_checks.next.is_none() {
            self.lock_checks.next = Some(now.moment.plus(LOCK_RECHECK));
        }
        self.adopt_current_inputs(project, now);
    }

    /// Makes the present inputs the baseline if another process served the project until now: it
    /// may have paid for them.
    pub(super) fn adopt_current_inputs(&mut self, project: ProjectId, now: Now) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        if !project_state.may_adopt_inputs() {
            return;
        }
        // A change that is not complete yet belongs to the process that sees it complete.
        let Some(inputs) = self.engine.snapshot(project) else { return };
        project_state.inputs_adopted();
        self.decide(Event::InputsTaken { project, inputs }, now);
        let (prompt, render) = (Some(inputs.prompt), Some(inputs.render));
        self.push(Action::SetBaseline { project, prompt, render });
    }
}
