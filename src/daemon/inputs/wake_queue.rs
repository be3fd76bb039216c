//! What may have changed: filled by the watcher's thread, emptied by the event loop.
//!
//! Owns the handover between the two. It carries only names, no data: the truth is on the disk.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::domain::engine::event::ProjectId;

/// The projects that may have changed; filled by the watcher's thread, emptied by the event loop.
#[derive(Debug, Default)]
pub(crate) struct WakeQueue {
    projects: Mutex<PendingWakes>,
    config: Mutex<bool>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct PendingWakes {
    /// Projects that were reported and not scanned yet: more events for them say nothing new.
    unscanned: BTreeSet<ProjectId>,
    /// Those of them that the event loop has not taken yet.
    unreported: Vec<ProjectId>,
}

impl WakeQueue {
    /// Reports that a project's inputs may have changed.
    pub(crate) fn project(&self, project: ProjectId) {
        // Called up to 10 000 times a second: only the first event after a scan wakes the
        // event loop.
        let mut woken = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        if woken.unscanned.insert(project) {
            woken.unreported.push(project);
            drop(woken);
            self.notify.notify_one();
        }
    }

    /// Starts a scan: the next event counts again.
    pub(crate) fn scan_began(&self, project: ProjectId) {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner).unscanned.remove(&project);
    }

    /// Reports that a configuration file may have changed.
    pub(crate) fn config(&self) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.notify.notify_one();
    }

    /// Returns what may have changed since the last call: projects, and whether a configuration
    /// file did.
    pub(crate) fn drain(&self) -> (Vec<ProjectId>, bool) {
        let projects = std::mem::take(
            &mut self.projects.lock().unwrap_or_else(PoisonError::into_inner).unreported,
        );
        let config =
            std::mem::take(&mut *self.config.lock().unwrap_or_else(PoisonError::into_inner));
        (projects, config)
    }

    /// Waits until something may have changed.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }
}
