//! Who is using what on the disk at this moment: jobs' folders that are being read, projects whose public names change.
//!
//! Owns three promises: a folder is not taken out of history while somebody reads it, two placements of one project never
//! interleave, and neither do two of its handovers, of which the later one counts. Nothing here survives the process.

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
pub(crate) struct Claims {
    /// How many read each job's folder.
    read: Arc<Mutex<BTreeMap<JobId, usize>>>,
    placing: Arc<Mutex<BTreeMap<ProjectId, Arc<tokio::sync::Mutex<()>>>>>,
    handing: Arc<Mutex<BTreeMap<ProjectId, Arc<Line>>>>,
}

/// The handovers of one project.
#[derive(Debug, Default)]
struct Line {
    /// The number of the last one that came.
    last: AtomicU64,
    alone: tokio::sync::Mutex<()>,
}

/// A handover's place in its project's line.
#[derive(Debug)]
pub(crate) struct Turn {
    line: Arc<Line>,
    number: u64,
}

impl Turn {
    /// Waits until the one before has ended.
    pub(crate) async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.line.alone.lock().await
    }

    /// Tells whether a later one waits.
    pub(crate) fn is_over(&self) -> bool {
        self.line.last.load(Ordering::Relaxed) != self.number
    }
}

impl Claims {
    /// Keeps a job's folder in history until the claim is dropped.
    pub(crate) fn read(&self, job: JobId) -> Claim {
        *locked(&self.read).entry(job).or_default() += 1;
        Claim { claims: self.clone(), job }
    }

    /// Does `work` unless somebody reads the job's folder; nobody begins to meanwhile.
    pub(crate) fn unless_read<T>(&self, job: JobId, work: impl FnOnce() -> T) -> Option<T> {
        let read = locked(&self.read);
        (!read.contains_key(&job)).then(work)
    }

    /// Waits until nobody changes the public names of a project, and keeps others away until the guard is dropped.
    pub(crate) async fn placing(&self, project: ProjectId) -> tokio::sync::OwnedMutexGuard<()> {
        let own = Arc::clone(locked(&self.placing).entry(project).or_default());
        own.lock_owned().await
    }

    /// Gets in line with a handover of a project; whoever is before should end soon.
    pub(crate) fn handing(&self, project: ProjectId) -> Turn {
        let line = Arc::clone(locked(&self.handing).entry(project).or_default());
        let number = line.last.fetch_add(1, Ordering::Relaxed) + 1;
        Turn { line, number }
    }
}

/// A job's folder that is being read.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    job: JobId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut read = locked(&self.claims.read);
        if let Some(count) = read.get_mut(&self.job) {
            *count -= 1;
            if *count == 0 {
                read.remove(&self.job);
            }
        }
    }
}

/// A poisoned lock holds counts like any other.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::WallTime;

    #[test]
    fn a_folder_that_two_read_stays_until_both_are_done() {
        let claims = Claims::default();
        let job = JobId::from_parts(WallTime::from_unix_millis(1), 1);
        let (one, other) = (claims.read(job), claims.read(job));
        assert_eq!(claims.unless_read(job, || ()), None);
        drop(one);
        assert_eq!(claims.unless_read(job, || ()), None);
        drop(other);
        assert_eq!(claims.unless_read(job, || ()), Some(()));
    }
}
