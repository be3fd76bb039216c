//! What has stirred: filled by the watcher's thread, emptied by the loop.
//!
//! Owns the hand-over between the two. It carries no data besides names: the truth is on the disk.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::domain::engine::event::ProjectId;

/// Which projects may have changed; filled by the watcher's thread, emptied by the loop.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    projects: Mutex<Woken>,
    config: Mutex<bool>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Woken {
    /// Woken, and not yet looked at: more events of theirs say nothing new.
    unseen: BTreeSet<ProjectId>,
    /// Those of them that the loop has not heard of.
    unheard: Vec<ProjectId>,
}

impl Wakes {
    /// A project's inputs may have changed.
    pub(crate) fn project(&self, project: ProjectId) {
        // Called up to 10 000 times a second: only the first event after a look wakes the loop.
        let mut woken = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        if woken.unseen.insert(project) {
            woken.unheard.push(project);
            drop(woken);
            self.notify.notify_one();
        }
    }

    /// A look begins now: the next event is news again.
    pub(crate) fn looking(&self, project: ProjectId) {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner).unseen.remove(&project);
    }

    /// A configuration file may have changed.
    pub(crate) fn config(&self) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.notify.notify_one();
    }

    /// Returns what has stirred since the last time: projects, and whether a configuration file did.
    pub(crate) fn take(&self) -> (Vec<ProjectId>, bool) {
        let projects = std::mem::take(
            &mut self.projects.lock().unwrap_or_else(PoisonError::into_inner).unheard,
        );
        let config =
            std::mem::take(&mut *self.config.lock().unwrap_or_else(PoisonError::into_inner));
        (projects, config)
    }

    /// Waits until something stirs.
    pub(crate) async fn stirred(&self) {
        self.notify.notified().await;
    }
}
