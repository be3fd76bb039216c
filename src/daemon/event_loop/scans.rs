//! Scans of inputs: after an event or at a deadline, once a minute without either, and by polling
//! where there are no events.
//!
//! Owns the tasks of scans, including the check for hands, and the care for watches and locks. The
//! results go to the engine; when a scan is due, [`crate::daemon::inputs::project_state`] decides.

use std::{
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::Duration,
};

use super::{
    EventLoop,
    outcomes::{TaskName, TaskOutcome, WatchCheck},
};
use crate::{
    clock::Clock,
    daemon::{
        inputs::{
            project_state::ProjectState,
            scan::{InputReader, Scan, StampCheck},
        },
        services::{drives::ANSWER_TIMEOUT, root_locks::LockStatus},
    },
    disk::{
        read::{self, ReadOutcome},
        watch::{WatchWarning, Watcher},
    },
    domain::{
        blender::handoff::HANDS_FILE,
        engine::event::{Event, HoldReason, ProjectId},
        inputs::{hand_tracking, trigger::WaitReason},
        time::{Moment, WallTime},
    },
};

/// The most scans at once. Each holds a whole render: a thousand projects scanned at once at the
/// start would hold 1 GB.
const MAX_SCANS: usize = 4;

/// How soon the lock of a project that is not ours is checked again.
const LOCK_RECHECK: Duration = Duration::from_secs(2);

/// A larger `fingertips.json` is not one: CONJURE's has 2 KB.
const MAX_HANDS: u64 = 1024 * 1024;

impl EventLoop {
    /// Starts every scan that is due.
    pub(crate) fn scan_where_due(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let now = self.clock.now().moment;
        let ignore = self.config.borrow().ignore.clone();
        let mut room = self.free_scan_slots();
        for (id, project) in &mut self.projects {
            if room == 0 {
                break;
            }
            if let Some(mut reader) = project.begin_scan(now) {
                room -= 1;
                self.wake_queue.scan_began(*id);
                let (ignore, watcher) = (ignore.clone(), Arc::clone(&self.watching.watcher));
                self.tasks.spawn(TaskName::Scan(*id), async move {
                    crate::daemon::services::store::blocking(move || {
                        // Repair the watches first: later changes then arrive as events.
                        let mended = repair_watches(&watcher);
                        let scan = reader.scan(&ignore, Clock.now().moment);
                        let (was_mended, warnings) = (mended.is_some(), mended.unwrap_or_default());
                        TaskOutcome::Scanned(Box::new((reader, scan)), warnings, was_mended)
                    })
                    .await
                });
            }
        }
    }

    /// Returns how many more scans may start; the end of one is an event of its own.
    pub(crate) fn free_scan_slots(&self) -> usize {
        // One whose drive does not answer may take for ever, and holds no picture yet.
        let counts = |project: &&ProjectState| project.is_scanning() && !project.unresponsive;
        let under_way = self.projects.values().filter(counts).count();
        MAX_SCANS.saturating_sub(under_way)
    }

    /// Checks for hands in the picture: once for each job that only a render would start,
    /// never periodically.
    pub(crate) fn check_hands(&mut self, project: ProjectId) {
        let Some(project_state) = self.projects.get(&project) else { return };
        let path = project_state.config.root.join(HANDS_FILE);
        self.tasks.spawn(TaskName::Hands(project), async move {
            crate::daemon::services::store::blocking(move || {
                let seen = match read::read_complete(&path, MAX_HANDS) {
                    Ok(ReadOutcome::Complete { bytes, stamp }) => {
                        let millis = i64::try_from(stamp.modified_ns / 1_000_000).unwrap_or(0);
                        let modified = WallTime::from_unix_millis(millis);
                        hand_tracking::hand_in_picture(&bytes, modified, Clock.now().wall)
                    }
                    Ok(ReadOutcome::Changing) => true,
                    Ok(ReadOutcome::Missing) | Err(_) => false,
                };
                TaskOutcome::Hands(seen)
            })
            .await
        });
    }

    /// Handles the result of a scan.
    pub(crate) fn on_scan(&mut self, project: ProjectId, reader: InputReader, scan: Scan) {
        let now = self.clock.now().moment;
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        if !project_state.end_scan(now, reader, &scan) {
            self.scan_where_due();
            return;
        }
        let first = !project_state.was_scanned_before();
        let remark = scan.prompt.remark;
        if let Some(remark) = remark {
            tracing::warn!(project = project_state.config.name, "{remark}");
        }
        if first {
            self.resolve_unsent(project, &scan);
        }
        let lost = std::mem::take(&mut self.lost_answers);
        self.handle(Event::Scanned {
            project,
            prompt: scan.prompt.state,
            render: scan.render.state,
        });
        self.adopt_current_inputs(project);
        // Only now is it known whether something newer replaces them.
        for job in lost {
            self.resubmit(job);
        }
        let unchanged = Some(HoldReason::Trigger(WaitReason::Unchanged));
        if self.engine.hold_reason(project, now) == unchanged
            && let Some(project_state) = self.projects.get_mut(&project)
        {
            project_state.release_render();
        }
        self.scan_where_due();
    }

    /// Checks watches without an event, and polls where polling is needed.
    pub(crate) fn check_watches(&mut self, all: bool) {
        if self.checking_watches.is_some() {
            // The last check has not come back: one more would wait beside it.
            let interval = self.config.borrow().settings.trigger.poll_interval;
            self.next_poll = self.polling.then(|| self.clock.now().moment.plus(interval));
            return;
        }
        let interval = self.config.borrow().settings.trigger.poll_interval;
        let now = self.clock.now().moment;
        self.checking_watches = Some(now);
        self.next_poll = self.polling.then(|| now.plus(interval));
        let (watcher, services) = (Arc::clone(&self.watching.watcher), Arc::clone(&self.services));
        let generation = self.watching.generation;
        // An event can be lost, so the disk is compared. A thousand projects are compared in one
        // task: a scan for each would wake an idle machine a thousand times.
        let glances: Vec<_> = self
            .projects
            .iter()
            .filter(|(_, project)| all && !project.unresponsive)
            .filter_map(|(id, project)| Some((*id, project.stamp_check()?)))
            .collect();
        let own: Vec<ProjectId> = self
            .projects
            .iter()
            .filter(|(_, project)| all && !project.unresponsive && !project.checking)
            .map(|(id, _)| *id)
            .collect();
        self.tasks.spawn(TaskName::Housekeeping, async move {
            crate::daemon::services::store::blocking(move || {
                let mut warnings = Vec::new();
                let mut guard = watcher.lock().unwrap_or_else(PoisonError::into_inner);
                let polled = guard.as_mut().map(|watcher| {
                    if all {
                        warnings = warning_texts(watcher.rebuild());
                    }
                    if watcher.is_polling() {
                        watcher.poll(now);
                    }
                    watcher.polled()
                });
                drop(guard);
                let differ =
                    |(id, glance): &(ProjectId, StampCheck)| glance.differs().then_some(*id);
                let changed = glances.iter().filter_map(differ).collect();
                // A lock that is gone lets a second daemon pay for the same changes.
                let lock_status = |id: ProjectId| Some((id, services.root_locks.check_now(id)?));
                let lock_statuses = own.into_iter().filter_map(lock_status).collect();
                let polled = polled.unwrap_or_default();
                let tended = WatchCheck { generation, warnings, polled, changed, lock_statuses };
                TaskOutcome::WatchesChecked(Box::new(tended))
            })
            .await
        });
    }

    /// Takes in what a check brought, unless it was about an earlier watcher.
    pub(crate) fn on_watches_checked(&mut self, tended: WatchCheck) {
        let WatchCheck { generation, warnings, polled, changed, lock_statuses } = tended;
        if generation != self.watching.generation {
            return;
        }
        self.checking_watches = None;
        self.warn(warnings);
        self.record_polled(&polled);
        let now = self.clock.now().moment;
        let unmended = std::mem::take(&mut self.watching.unrepaired);
        for project in changed.into_iter().chain(unmended) {
            if let Some(project_state) = self.projects.get_mut(&project) {
                project_state.scan_at(now);
            }
        }
        for (project, lock_status) in lock_statuses {
            self.on_lock_status(project, lock_status);
        }
        self.scan_where_due();
    }

    /// Notes whether a project's watches were repaired before the look that has just ended; if not,
    /// it is looked at again when they are.
    pub(crate) fn record_repair(&mut self, project: ProjectId, mended: bool) {
        if !mended {
            self.watching.unrepaired.insert(project);
            return;
        }
        let now = self.clock.now().moment;
        for project in std::mem::take(&mut self.watching.unrepaired) {
            if let Some(project_state) = self.projects.get_mut(&project) {
                project_state.scan_at(now);
            }
        }
    }

    /// Returns when something has waited for a drive for too long.
    pub(crate) fn drive_timeout_at(&self) -> Option<Moment> {
        let tending = self.checking_watches.map(|since| since.plus(ANSWER_TIMEOUT));
        let others = [tending, self.watch_overdue_at()].into_iter().flatten();
        self.projects.values().filter_map(ProjectState::overdue_at).chain(others).min()
    }

    /// Goes on without whoever does not answer.
    pub(crate) fn skip_unresponsive(&mut self, now: Moment) {
        let is_over =
            |project_state: &ProjectState| project_state.overdue_at().is_some_and(|at| at <= now);
        let overdue: Vec<ProjectId> = self
            .projects
            .iter()
            .filter(|(_, project_state)| is_over(project_state))
            .map(|(id, _)| *id)
            .collect();
        let tending = self.checking_watches.is_some_and(|since| since.plus(ANSWER_TIMEOUT) <= now);
        for project in &overdue {
            self.mark_unresponsive(*project);
        }
        if tending || !overdue.is_empty() {
            // The one that waits may hold the watcher. Who it waits for is found out when the next
            // one is made.
            self.checking_watches = None;
            self.rewatch();
        }
        if self.watch_overdue_at().is_some_and(|at| at <= now) {
            self.abandon_watch();
        }
    }

    /// Checks the locks of projects that are not ours at this moment.
    pub(crate) fn check_locks(&mut self) {
        let due: Vec<ProjectId> = self
            .projects
            .iter_mut()
            .filter(|(_, project_state)| {
                !project_state.checking && project_state.withheld.is_some()
            })
            .map(|(id, project_state)| {
                project_state.checking = true;
                *id
            })
            .collect();
        for project in due {
            let services = Arc::clone(&self.services);
            self.tasks.spawn(TaskName::Lock(project), async move {
                TaskOutcome::LockStatus(services.root_locks.check(project).await)
            });
        }
        let withheld = self.projects.values().any(|project_state| project_state.withheld.is_some());
        self.next_locks = withheld.then(|| self.clock.now().moment.plus(LOCK_RECHECK));
    }

    /// Handles the result of a lock check.
    pub(crate) fn on_lock_status(&mut self, project: ProjectId, lock_status: LockStatus) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        let (withheld, regained) = match lock_status {
            LockStatus::Ours { regained } => (None, regained),
            LockStatus::Withheld(reason) => (Some(reason), project_state.regained),
        };
        if project_state.withheld != withheld {
            let name = &project_state.config.name;
            match &withheld {
                Some(reason) => tracing::warn!(project = name, "{reason}"),
                None => tracing::info!(project = name, "the project is served again"),
            }
            self.dirty = true;
        }
        if withheld.is_some() && self.next_locks.is_none() {
            self.next_locks = Some(self.clock.now().moment.plus(LOCK_RECHECK));
        }
        project_state.withheld = withheld;
        if project_state.regained != regained {
            project_state.regained = regained;
            project_state.leaves_changes = true;
        }
        self.adopt_current_inputs(project);
    }

    /// Makes the present inputs the baseline if another process served the project until now: it
    /// may have paid for them.
    pub(crate) fn adopt_current_inputs(&mut self, project: ProjectId) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        if !project_state.leaves_changes || project_state.job.is_some() {
            return;
        }
        // A change that is not complete yet belongs to the process that sees it complete.
        let Some(inputs) = self.engine.snapshot(project) else { return };
        project_state.leaves_changes = false;
        self.handle(Event::InputsTaken { project, inputs });
        self.set_baseline(project, Some(inputs.prompt), Some(inputs.render));
    }

    /// Records which projects are polled; `polled` begins with the projects in their order.
    pub(crate) fn record_polled(&mut self, polled: &[bool]) {
        self.polling = polled.contains(&true);
        if self.polling && self.next_poll.is_none() {
            let interval = self.config.borrow().settings.trigger.poll_interval;
            self.next_poll = Some(self.clock.now().moment.plus(interval));
        }
        for (project, polled) in self.projects.values_mut().zip(polled) {
            self.dirty |= project.polled != *polled;
            project.polled = *polled;
        }
    }
}

/// Repairs the watches; `None` where somebody else has the watcher, who may wait for a drive.
fn repair_watches(watcher: &Mutex<Option<Watcher>>) -> Option<Vec<String>> {
    let mut guard = match watcher.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    Some(guard.as_mut().map(|watcher| warning_texts(watcher.repair())).unwrap_or_default())
}

fn warning_texts(warnings: Vec<WatchWarning>) -> Vec<String> {
    warnings.into_iter().map(|warning| warning.reason.to_string()).collect()
}
