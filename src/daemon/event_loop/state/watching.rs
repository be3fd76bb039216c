//! What is watched: every project's inputs, and the files of the configuration.
//!
//! Owns when a watcher is built, checked and polled, and which results are outdated. The work
//! belongs to [`super::super::tasks::watching`] and [`super::super::tasks::scans`].

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use super::{
    super::{
        action::{Action, WatchesToCheck},
        event::WatchCheck,
        tasks::watching::{BuiltWatcher, WatchRequest},
    },
    DaemonState,
};
use crate::{
    config::{Loaded, enums::Watch},
    daemon::{inputs::project_state::ProjectState, services::drives::ANSWER_TIMEOUT},
    disk::watch::{WatchMode, WatchedInputs},
    domain::{
        engine::event::ProjectId,
        time::{Moment, Now},
    },
};

/// What is known of the watcher.
#[derive(Debug, Default)]
pub(super) struct Watching {
    /// The number of the watcher: results about an earlier one are discarded.
    generation: u64,
    /// Whether anything is watched: not by a daemon that was started for one job.
    wanted: bool,
    /// The files of the configuration.
    files: Vec<PathBuf>,
    /// Projects that were scanned while their watches could not be repaired.
    unrepaired: BTreeSet<ProjectId>,
    /// Since when a new one is being built, and whether another one is wanted.
    building: Option<Moment>,
    again: bool,
    /// Watchers with a lower number are no longer waited for.
    abandoned: u64,
    /// Since when a check of the watches is under way.
    checking: Option<Moment>,
    /// Whether anything is polled, and when the next poll is due.
    polling: bool,
    next_poll: Option<Moment>,
}

impl Watching {
    /// Returns when the next poll is due.
    pub(super) const fn next_poll(&self) -> Option<Moment> {
        self.next_poll
    }

    /// Returns whether a poll is due.
    pub(super) fn poll_is_due(&self, now: Moment) -> bool {
        self.next_poll.is_some_and(|at| now >= at)
    }

    /// Replaces the files of the configuration.
    pub(super) fn set_files(&mut self, loaded: &Loaded) {
        self.files = loaded.files.iter().chain(&loaded.absent).cloned().collect();
    }

    /// Returns when a watcher that is being built has taken too long: a drive died after it had
    /// answered.
    fn overdue_at(&self) -> Option<Moment> {
        Some(self.building?.plus(ANSWER_TIMEOUT * 3))
    }

    /// Returns when a check has taken too long.
    fn check_overdue_at(&self) -> Option<Moment> {
        Some(self.checking?.plus(ANSWER_TIMEOUT))
    }

    /// Schedules the next poll, if anything is polled.
    fn schedule_poll(&mut self, now: Moment, interval: Duration) {
        self.next_poll = self.polling.then(|| now.plus(interval));
    }
}

impl DaemonState {
    /// Begins to watch; returns the first watcher to build.
    pub(crate) fn begin_watching(&mut self, loaded: &Loaded, now: Moment) -> WatchRequest {
        self.watching.wanted = true;
        self.watching.set_files(loaded);
        self.watch_request(now)
    }

    /// Returns what is to be watched now.
    fn watch_request(&mut self, now: Moment) -> WatchRequest {
        self.watching.building = Some(now);
        let inputs = |project: &ProjectState| WatchedInputs {
            root: project.config().root.clone(),
            prompt: project.config().prompt.clone(),
            render: project.config().render.clone(),
        };
        WatchRequest {
            generation: self.watching.generation,
            projects: self
                .projects
                .iter()
                .map(|(id, project)| (*id, inputs(project), project.is_unresponsive()))
                .collect(),
            files: self.watching.files.clone(),
            mode: watch_mode(self.config.settings.trigger.watch),
        }
    }

    /// Watches anew: other projects, or other drives that answer.
    pub(super) fn rewatch(&mut self, now: Moment) {
        if !self.watching.wanted || self.ending.is_stopping() {
            return;
        }
        // Results about earlier ones are outdated.
        self.watching.generation += 1;
        self.watching.checking = None;
        if self.watching.building.is_some() {
            self.watching.again = true;
            return;
        }
        let request = self.watch_request(now);
        self.push(Action::BuildWatcher(Box::new(request)));
    }

    /// Takes in a new watcher.
    pub(crate) fn on_watcher_built(&mut self, built: BuiltWatcher, now: Now) {
        let BuiltWatcher { generation, watcher, polled, warnings, silent } = built;
        if generation < self.watching.abandoned {
            return;
        }
        self.watching.building = None;
        for (project, late) in silent {
            self.mark_unresponsive(project);
            self.push(Action::AwaitDrive { project, late });
        }
        if self.ending.is_stopping() {
            return;
        }
        if generation == self.watching.generation {
            self.warn(warnings);
            self.push(Action::UseWatcher(Box::new(watcher)));
            self.record_polled(&polled, now.moment);
            if self.watching.polling {
                self.watching.next_poll = Some(now.moment);
            }
            self.watching.unrepaired.clear();
            // What changed before the watching began raised no event.
            for project in self.projects.values_mut() {
                project.scan_at(now.moment);
            }
            self.scan_where_due(now.moment);
        }
        if std::mem::take(&mut self.watching.again) {
            self.rewatch(now.moment);
        }
    }

    /// Checks the watches and polls where polling is needed. With `all`, also compares every
    /// project with the disk and checks its lock.
    pub(super) fn check_watches(&mut self, all: bool, now: Moment) {
        let interval = self.config.settings.trigger.poll_interval;
        self.watching.schedule_poll(now, interval);
        if self.watching.checking.is_some() {
            // The last check has not come back: one more would wait beside it.
            return;
        }
        self.watching.checking = Some(now);
        let answering =
            |(_, project): &(&ProjectId, &ProjectState)| all && !project.is_unresponsive();
        let stamp_checks = self
            .projects
            .iter()
            .filter(answering)
            .filter_map(|(id, project)| Some((*id, project.stamp_check()?)))
            .collect();
        let locks = self
            .projects
            .iter()
            .filter(answering)
            .filter(|(_, project)| !project.is_checking_lock())
            .map(|(id, _)| *id)
            .collect();
        let generation = self.watching.generation;
        let check = WatchesToCheck { generation, all, stamp_checks, locks, now };
        self.push(Action::CheckWatches(Box::new(check)));
    }

    /// Handles the result of a check, unless it was about an earlier watcher.
    pub(super) fn on_watches_checked(&mut self, checked: WatchCheck, now: Now) {
        let WatchCheck { generation, warnings, polled, changed, lock_statuses } = checked;
        if generation != self.watching.generation {
            return;
        }
        self.watching.checking = None;
        self.warn(warnings);
        self.record_polled(&polled, now.moment);
        let unrepaired = std::mem::take(&mut self.watching.unrepaired);
        for project in changed.into_iter().chain(unrepaired) {
            if let Some(project_state) = self.projects.get_mut(&project) {
                project_state.scan_at(now.moment);
            }
        }
        for (project, lock_status) in lock_statuses {
            self.on_lock_status(project, lock_status, now);
        }
        self.scan_where_due(now.moment);
    }

    /// Notes whether a project's watches were repaired before the scan that has just ended; if not,
    /// it is scanned again when they are.
    pub(super) fn record_repair(&mut self, project: ProjectId, repaired: bool, now: Moment) {
        if !repaired {
            self.watching.unrepaired.insert(project);
            return;
        }
        for project in std::mem::take(&mut self.watching.unrepaired) {
            if let Some(project_state) = self.projects.get_mut(&project) {
                project_state.scan_at(now);
            }
        }
    }

    /// Returns when something has waited for a drive for too long.
    pub(super) fn drive_timeout_at(&self) -> Option<Moment> {
        let watching = [self.watching.check_overdue_at(), self.watching.overdue_at()];
        let watching = watching.into_iter().flatten();
        self.projects.values().filter_map(ProjectState::overdue_at).chain(watching).min()
    }

    /// Continues without the drives that do not answer.
    pub(super) fn skip_unresponsive(&mut self, now: Moment) {
        let is_over = |at: Option<Moment>| at.is_some_and(|at| at <= now);
        let overdue: Vec<ProjectId> = self
            .projects
            .iter()
            .filter(|(_, project)| is_over(project.overdue_at()))
            .map(|(id, _)| *id)
            .collect();
        let checking = is_over(self.watching.check_overdue_at());
        for project in &overdue {
            self.mark_unresponsive(*project);
        }
        if checking || !overdue.is_empty() {
            // The task that waits may hold the watcher. For which drive it waits is found out when
            // the next watcher is built.
            self.watching.checking = None;
            self.rewatch(now);
        }
        if is_over(self.watching.overdue_at()) {
            // The watcher that is being built is no longer waited for.
            self.watching.building = None;
            self.rewatch(now);
            self.watching.abandoned = self.watching.generation;
        }
    }

    /// Records which projects are polled; `polled` begins with the projects in their order.
    fn record_polled(&mut self, polled: &[bool], now: Moment) {
        self.watching.polling = polled.contains(&true);
        if self.watching.polling && self.watching.next_poll.is_none() {
            let interval = self.config.settings.trigger.poll_interval;
            self.watching.schedule_poll(now, interval);
        }
        for (project, polled) in self.projects.values_mut().zip(polled) {
            if project.set_polled(*polled) {
                self.publication.mark_changed();
            }
        }
    }
}

const fn watch_mode(watch: Watch) -> WatchMode {
    match watch {
        Watch::Auto => WatchMode::Auto,
        Watch::Native => WatchMode::Native,
        Watch::Poll => WatchMode::Poll,
    }
}
