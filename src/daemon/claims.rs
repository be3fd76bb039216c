//! Who is using what on the disk at this moment: jobs' folders that are being read, projects whose public names change.
//!
//! Owns two promises: a folder is not taken out of history while somebody reads it, and two placements of one project never
//! interleave. Both are held for the length of a step only; nothing here survives the process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::domain::{engine::event::ProjectId, job::JobId};

/// The claims of one daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// How many read each job's folder.
    read: Arc<Mutex<BTreeMap<JobId, usize>>>,
    placing: Arc<Mutex<BTreeMap<ProjectId, Arc<tokio::sync::Mutex<()>>>>>,
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
    use crate::domain::moment::WallTime;

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
