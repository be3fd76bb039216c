//! What is in use on the disk at this moment: job folders that are being read, projects whose
//! public names are changing.
//!
//! Owns three guarantees: a folder is not removed from the history while it is read; two placements
//! of one project never overlap; and neither do two of its handoffs, of which the later one counts.
//! Nothing here outlives the process.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::domain::{engine::event::ProjectId, job::JobId};

/// The claims of one daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProjectLocks {
    /// The number of readers of each job's folder.
    held: Arc<Mutex<BTreeMap<JobId, usize>>>,
    placing: Arc<Mutex<BTreeMap<ProjectId, Arc<tokio::sync::Mutex<()>>>>>,
    handoffs: Arc<Mutex<BTreeMap<ProjectId, Arc<HandoffQueue>>>>,
}

/// The handoffs of one project.
#[derive(Debug, Default)]
struct HandoffQueue {
    /// The number of the last handoff in the queue.
    last_number: AtomicU64,
    turn_lock: tokio::sync::Mutex<()>,
}

/// A handoff's position in its project's queue.
#[derive(Debug)]
pub(crate) struct HandoffTurn {
    queue: Arc<HandoffQueue>,
    number: u64,
}

impl HandoffTurn {
    /// Waits until the previous one has ended.
    pub(crate) async fn wait_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.queue.turn_lock.lock().await
    }

    /// Returns whether a later one is waiting.
    pub(crate) fn is_superseded(&self) -> bool {
        self.queue.last_number.load(Ordering::Relaxed) != self.number
    }
}

impl ProjectLocks {
    /// Keeps a job's folder in the history until the claim is dropped.
    pub(crate) fn hold_history(&self, job: JobId) -> HistoryHold {
        *locked(&self.held).entry(job).or_default() += 1;
        HistoryHold { locks: self.clone(), job }
    }

    /// Runs `work` unless the job's folder is being read; no reader can start meanwhile.
    pub(crate) fn unless_held<T>(&self, job: JobId, work: impl FnOnce() -> T) -> Option<T> {
        let read = locked(&self.held);
        (!read.contains_key(&job)).then(work)
    }

    /// Waits for exclusive access to a project's public names; dropping the guard releases it.
    pub(crate) async fn lock_placement(
        &self,
        project: ProjectId,
    ) -> tokio::sync::OwnedMutexGuard<()> {
        let own = Arc::clone(locked(&self.placing).entry(project).or_default());
        own.lock_owned().await
    }

    /// Queues a handoff of a project; an earlier one should then end soon.
    pub(crate) fn queue_handoff(&self, project: ProjectId) -> HandoffTurn {
        let line = Arc::clone(locked(&self.handoffs).entry(project).or_default());
        let number = line.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        HandoffTurn { queue: line, number }
    }
}

/// A job's folder that is being read.
#[derive(Debug)]
pub(crate) struct HistoryHold {
    locks: ProjectLocks,
    job: JobId,
}

impl Drop for HistoryHold {
    fn drop(&mut self) {
        let mut read = locked(&self.locks.held);
        if let Some(count) = read.get_mut(&self.job) {
            *count -= 1;
            if *count == 0 {
                read.remove(&self.job);
            }
        }
    }
}

/// A poisoned lock still contains valid counts.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::WallTime;

    #[test]
    fn a_folder_that_two_read_stays_until_both_are_done() {
        let locks = ProjectLocks::default();
        let job = JobId::from_parts(WallTime::from_unix_millis(1), 1);
        let (one, other) = (locks.hold_history(job), locks.hold_history(job));
        assert_eq!(locks.unless_held(job, || ()), None);
        drop(one);
        assert_eq!(locks.unless_held(job, || ()), None);
        drop(other);
        assert_eq!(locks.unless_held(job, || ()), Some(()));
    }
}
