//! What is watched: every project's inputs, and the files of the configuration.
//!
//! Owns the list, what a wake of its entries means, and the step from the list to a watcher, which
//! leaves out drives that do not answer. How folders are watched is [`crate::disk::watch`]'s.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use super::{
    EventLoop,
    outcomes::{TaskName, TaskOutcome},
};
use crate::{
    config::enums::Watch,
    daemon::{
        inputs::{project_state::ProjectState, wake_queue::WakeQueue},
        services::{
            drives::{ANSWER_TIMEOUT, ask_all},
            store::{PendingWork, blocking, blocking_within},
        },
    },
    disk::{
        dirs,
        watch::{ProjectIndex, WatchMode, WatchedInputs, Watcher},
    },
    domain::{engine::event::ProjectId, time::Moment},
};

/// The watcher and what is known of it.
#[derive(Default)]
pub(crate) struct Watching {
    /// On the blocking pool only: whoever has it may wait for a drive.
    pub(crate) watcher: Arc<Mutex<Option<Watcher>>>,
    /// Which watcher it is: what is told of an earlier one is void.
    pub(crate) generation: u64,
    /// Whether anything is to be watched: not by a daemon that was started for one job.
    pub(crate) wanted: bool,
    /// The files of the configuration.
    pub(crate) files: Vec<PathBuf>,
    /// Projects that were looked at while their watches could not be repaired.
    pub(crate) unrepaired: BTreeSet<ProjectId>,
    /// Since when a new one is being made; and whether another one is wanted.
    building: Option<Moment>,
    again: bool,
    /// Those before this one are not waited for any more.
    abandoned: u64,
}

/// A watcher to be made.
pub(crate) struct Request {
    generation: u64,
    projects: Vec<(ProjectId, WatchedInputs, bool)>,
    files: Vec<PathBuf>,
    mode: WatchMode,
    wakes: Arc<WakeQueue>,
}

/// What became of a [`Request`].
pub(crate) struct BuiltWatcher {
    generation: u64,
    watcher: Watcher,
    warnings: Vec<String>,
    /// Projects whose drives do not answer.
    silent: Vec<(ProjectId, PendingWork<()>)>,
}

impl EventLoop {
    /// Says what is to be watched now.
    pub(crate) fn watch_request(&mut self) -> Request {
        self.watching.building = Some(self.clock.now().moment);
        let inputs = |project: &ProjectState| WatchedInputs {
            root: project.config.root.clone(),
            prompt: project.config.prompt.clone(),
            render: project.config.render.clone(),
        };
        Request {
            generation: self.watching.generation,
            projects: self
                .projects
                .iter()
                .map(|(id, project)| (*id, inputs(project), project.unresponsive))
                .collect(),
            files: self.watching.files.clone(),
            mode: watch_mode(self.config.borrow().settings.trigger.watch),
            wakes: Arc::clone(&self.wake_queue),
        }
    }

    /// Watches anew: other projects, or other drives that answer.
    pub(crate) fn rewatch(&mut self) {
        if !self.watching.wanted || self.stopping.is_some() {
            return;
        }
        // What is told of earlier ones is void.
        self.watching.generation += 1;
        self.checking_watches = None;
        if self.watching.building.is_some() {
            self.watching.again = true;
            return;
        }
        let request = self.watch_request();
        self.tasks.spawn(TaskName::Watch, async move {
            TaskOutcome::Watching(Box::new(build_watcher(request).await))
        });
    }

    /// Returns when a watcher that is being made has taken too long: a drive died after it had
    /// answered.
    pub(crate) fn watch_overdue_at(&self) -> Option<Moment> {
        Some(self.watching.building?.plus(ANSWER_TIMEOUT * 3))
    }

    /// Waits no more for the watcher that is being made.
    pub(crate) fn abandon_watch(&mut self) {
        self.watching.building = None;
        self.rewatch();
        self.watching.abandoned = self.watching.generation;
    }

    /// Takes in a new watcher.
    pub(crate) fn on_watcher_built(&mut self, built: BuiltWatcher) {
        let BuiltWatcher { generation, watcher, warnings, silent } = built;
        if generation < self.watching.abandoned {
            return;
        }
        self.watching.building = None;
        for (project, late) in silent {
            self.mark_unresponsive(project);
            self.tasks.spawn(TaskName::DriveBack(project), async move {
                late.wait().await;
                TaskOutcome::Nothing
            });
        }
        if self.stopping.is_some() {
            return;
        }
        let now = self.clock.now().moment;
        if generation == self.watching.generation {
            self.warn(warnings);
            let polled = watcher.polled();
            let new = Arc::new(Mutex::new(Some(watcher)));
            let old = std::mem::replace(&mut self.watching.watcher, new);
            self.tasks.spawn(TaskName::Background, async move {
                blocking(move || drop(old)).await;
                TaskOutcome::Nothing
            });
            self.record_polled(&polled);
            if self.polling {
                self.next_poll = Some(now);
            }
            self.watching.unrepaired.clear();
            // What changed before the watching began raised no event.
            for project_state in self.projects.values_mut() {
                project_state.scan_at(now);
            }
            self.scan_where_due();
        }
        if std::mem::take(&mut self.watching.again) {
            self.rewatch();
        }
    }
}

/// Makes a watcher of those whose drives answer.
pub(crate) async fn build_watcher(request: Request) -> BuiltWatcher {
    let Request { generation, projects, files, mode, wakes: wake_queue } = request;
    let mut asked = Vec::new();
    for (id, inputs, is_silent) in &projects {
        let (id, inputs) = (*id, inputs.clone());
        if !is_silent {
            asked.push(async move {
                let answer = blocking_within(ANSWER_TIMEOUT, move || inputs.reach()).await;
                answer.err().map(|late| (id, late))
            });
        }
    }
    let silent: Vec<_> = ask_all(asked).await.into_iter().flatten().collect();
    let aside: BTreeSet<ProjectIndex> = projects
        .iter()
        .enumerate()
        .filter(|(_, (id, _, known))| *known || silent.iter().any(|(silent, _)| silent == id))
        .map(|(index, _)| ProjectIndex(index))
        .collect();
    let ids: Vec<ProjectId> = projects.iter().map(|(id, _, _)| *id).collect();
    let mut inputs: Vec<_> = projects.into_iter().map(|(_, inputs, _)| inputs).collect();
    let made = blocking(move || {
        // A missing folder is not watched for a configuration that may never be created.
        let there = files.into_iter().filter_map(|file| {
            let root = file.parent().filter(|root| dirs::is_dir(root))?.to_path_buf();
            Some(WatchedInputs { root, prompt: file.clone(), render: file })
        });
        inputs.extend(there);
        Watcher::new(inputs, mode, aside, move |ProjectIndex(index)| match ids.get(index) {
            Some(id) => wake_queue.project(*id),
            None => wake_queue.config(),
        })
    });
    let (watcher, warnings) = made.await;
    let warnings = warnings.into_iter().map(|warning| warning.reason.to_string()).collect();
    BuiltWatcher { generation, watcher, warnings, silent }
}

const fn watch_mode(watch: Watch) -> WatchMode {
    match watch {
        Watch::Auto => WatchMode::Auto,
        Watch::Native => WatchMode::Native,
        Watch::Poll => WatchMode::Poll,
    }
}
