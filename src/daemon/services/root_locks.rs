//! The locks of the served projects: checked before anything is paid for, and once a minute.
//!
//! Owns the checks, one at a time per project and on the blocking pool: a drive that does not
//! answer delays only its own project. What a check does belongs to
//! [`crate::disk::lock::project_lock`], what follows from it to the caller.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{drives::ANSWER_TIMEOUT, store::blocking};
use crate::{
    clock::Clock,
    disk::lock::project_lock::{LockCheck, ProjectLock},
    domain::{
        engine::event::ProjectId,
        time::{Moment, WallTime},
    },
};

/// The locks of all projects served.
#[derive(Debug, Default)]
pub(crate) struct RootLocks(Mutex<BTreeMap<ProjectId, RootLock>>);

/// The lock of one project.
#[derive(Clone, Debug)]
struct RootLock {
    root: String,
    /// Held for the duration of a check, which may be for ever.
    held: Arc<tokio::sync::Mutex<HeldLock>>,
    /// Since when a check waits for its answer.
    asked_since: Arc<Mutex<Option<Moment>>>,
}

#[derive(Debug)]
struct HeldLock {
    lock: ProjectLock,
    regained: Option<WallTime>,
}

/// Whether a project may be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LockStatus {
    /// The lock is ours. What changed before it was `regained` from another process belonged to
    /// that process.
    Ours {
        /// Since when, if another process had it meanwhile.
        regained: Option<WallTime>,
    },
    /// Nothing may be released for the project now: why, and what to do.
    Withheld(String),
}

impl RootLocks {
    /// Keeps the lock of a project that is served from now on.
    pub(crate) fn insert(&self, project: ProjectId, lock: ProjectLock) {
        let root = lock.root().display().to_string();
        let held = Arc::new(tokio::sync::Mutex::new(HeldLock { lock, regained: None }));
        self.all().insert(project, RootLock { root, held, asked_since: Arc::default() });
    }

    /// Checks whether a project is still ours, and takes its lock again if it was removed.
    pub(crate) async fn check(&self, project: ProjectId) -> LockStatus {
        let found = self.all().get(&project).cloned();
        match found {
            Some(lock) => lock.check().await,
            None => LockStatus::Withheld("the project is no longer served".to_owned()),
        }
    }

    /// Does the same at once, on a thread of the blocking pool; `None` where somebody else is
    /// asking.
    pub(crate) fn check_now(&self, project: ProjectId) -> Option<LockStatus> {
        let found = self.all().get(&project).cloned()?;
        let mut held = found.held.try_lock().ok()?;
        Some(found.check_blocking(&mut held))
    }

    /// Lets go of a project's lock, on the blocking pool: the file goes with it.
    pub(crate) async fn release(&self, project: ProjectId) {
        let found = self.all().remove(&project);
        if let Some(lock) = found {
            blocking(move || drop(lock)).await;
        }
    }

    /// Releases all of them. A drive that does not answer keeps only its own lock.
    pub(crate) async fn release_all(&self) {
        let all = std::mem::take(&mut *self.all());
        let released = all.into_values().map(|lock| blocking(move || drop(lock)));
        futures_util::future::join_all(released).await;
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<ProjectId, RootLock>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RootLock {
    async fn check(self) -> LockStatus {
        let now = Clock.now().moment;
        let asked = *self.asked_since.lock().unwrap_or_else(PoisonError::into_inner);
        // One check is already waiting without an answer: another one would hang as well.
        if asked.is_some_and(|asked| now.since(asked) >= ANSWER_TIMEOUT) {
            return self.no_answer();
        }
        let answer = async {
            let mut held = Arc::clone(&self.held).lock_owned().await;
            let own = self.clone();
            blocking(move || own.check_blocking(&mut held)).await
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(lock_status) => lock_status,
            Err(_) => self.no_answer(),
        }
    }

    /// Blocking, for the pool.
    fn check_blocking(&self, held: &mut HeldLock) -> LockStatus {
        let set = |since| *self.asked_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
        set(Some(Clock.now().moment));
        let lock_status = held.check();
        set(None);
        lock_status
    }

    fn no_answer(&self) -> LockStatus {
        LockStatus::Withheld(format!(
            "the drive of {} does not answer; nothing is sent for this project until it does",
            self.root
        ))
    }
}

impl HeldLock {
    fn check(&mut self) -> LockStatus {
        let root = self.lock.root().display().to_string();
        match self.lock.check() {
            LockCheck::Ours => {}
            LockCheck::Retaken => {
                tracing::warn!("the lock file in {root} was removed; it has been acquired again");
            }
            LockCheck::Regained => self.regained = Some(Clock.now().wall),
            LockCheck::Refused(error) => {
                return LockStatus::Withheld(format!(
                    "{error}. Until then this daemon sends nothing for this project"
                ));
            }
            LockCheck::NoRoot => {
                return LockStatus::Withheld(format!(
                    "the project's root {root} does not exist: restore it, or mount its drive; \
                     nothing is sent until then"
                ));
            }
        }
        LockStatus::Ours { regained: self.regained }
    }
}
