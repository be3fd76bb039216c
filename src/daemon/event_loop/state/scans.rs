//! Scans of inputs: which ones start now, and what their results mean.
//!
//! Owns how many scans run at once. When a project's scan is due is decided by
//! [`crate::daemon::inputs::project_state`], and what a result means for jobs by the engine.

use std::sync::Arc;

use super::{super::action::Action, DaemonState};
use crate::{
    daemon::inputs::{
        project_state::ProjectState,
        scan::{InputReader, Scan},
    },
    domain::{
        engine::event::{Event, HoldReason, ProjectId},
        inputs::trigger::WaitReason,
        time::{Moment, Now},
    },
};

/// The most scans at once. Each holds a whole render: a thousand projects scanned at once at the
/// start would hold 1 GB.
const MAX_SCANS: usize = 4;

impl DaemonState {
    /// Handles what the watcher saw.
    pub(super) fn on_wakes(&mut self, projects: Vec<ProjectId>, config: bool, now: Now) {
        for project in projects {
            if let Some(project_state) = self.projects.get_mut(&project) {
                project_state.wake(now.moment);
                self.decide(Event::Touched { project }, now);
            } else {
                self.push(Action::ForgetWake { project });
            }
        }
        self.scan_where_due(now.moment);
        if config {
            self.schedule_reload(now.moment);
        }
    }

    /// Ends all scans: a daemon that was started for one job starts no others.
    pub(crate) fn stop_scans(&mut self) {
        for project in self.projects.values_mut() {
            project.stop_scans();
        }
    }

    /// Starts every scan that is due.
    pub(crate) fn scan_where_due(&mut self, now: Moment) {
        if self.ending.is_stopping() {
            return;
        }
        let mut room = self.free_scan_slots();
        for (id, project) in &mut self.projects {
            if room == 0 {
                break;
            }
            if let Some(reader) = project.begin_scan(now) {
                room -= 1;
                let ignore = Arc::clone(&self.config.ignore);
                self.actions.push(Action::Scan { project: *id, reader: Box::new(reader), ignore });
            }
        }
    }

    /// Returns how many more scans may start; the end of one is an event of its own.
    fn free_scan_slots(&self) -> usize {
        // One whose drive does not answer may take for ever, and holds no picture yet.
        let counts = |project: &&ProjectState| project.is_scanning() && !project.is_unresponsive();
        let under_way = self.projects.values().filter(counts).count();
        MAX_SCANS.saturating_sub(under_way)
    }

    /// Returns when the next scan is due and may start.
    pub(super) fn scan_due_at(&self) -> Option<Moment> {
        let due = self.projects.values().filter_map(ProjectState::scan_due).min();
        due.filter(|_| self.free_scan_slots() > 0)
    }

    /// Handles the result of a scan.
    pub(super) fn on_scan(
        &mut self,
        project: ProjectId,
        reader: InputReader,
        scan: Scan,
        now: Now,
    ) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        if !project_state.end_scan(now.moment, reader, &scan) {
            self.scan_where_due(now.moment);
            return;
        }
        let first = !project_state.was_scanned_before();
        if let Some(remark) = scan.prompt.remark {
            tracing::warn!(project = project_state.config().name, "{remark}");
        }
        if first {
            self.resolve_unsent(project, &scan, now);
        }
        let lost = self.resumptions.take_lost_answers();
        let (prompt, render) = (scan.prompt.state, scan.render.state);
        self.decide(Event::Scanned { project, prompt, render }, now);
        self.adopt_current_inputs(project, now);
        // Only now is it known whether something newer replaces them.
        for job in lost {
            self.resubmit(job);
        }
        let unchanged = Some(HoldReason::Trigger(WaitReason::Unchanged));
        if self.engine.hold_reason(project, now.moment) == unchanged
            && let Some(project_state) = self.projects.get_mut(&project)
        {
            project_state.release_render();
        }
        self.scan_where_due(now.moment);
    }

    /// Checks for hands in the picture: once for each job that only a render would start,
    /// never periodically.
    pub(super) fn check_hands(&mut self, project: ProjectId) {
        let Some(project_state) = self.projects.get(&project) else { return };
        let root = project_state.config().root.clone();
        self.push(Action::CheckHands { project, root });
    }
}
