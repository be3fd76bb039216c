//! A project's lock for as long as the project is served: checked again and again, and taken again
//! where it was lost.
//!
//! Owns the rule that follows from a lock which anybody may remove (`git clean -fdx` does): the
//! file's name says who serves the project *now*. Whoever finds the name gone takes it again;
//! whoever finds it taken by another process serves no more until that one lets go. How a lock is
//! taken belongs to [`super`].

use std::path::{Path, PathBuf};

use super::{Holder, Lock, LockError, PROJECT_LOCK};
use crate::disk::dirs::is_dir;

/// The lock of one project.
#[derive(Debug)]
pub struct ProjectLock {
    root: PathBuf,
    fallback: PathBuf,
    holder: Holder,
    /// Kept until there is another one: the file may have been moved away together with its folder,
    /// and come back.
    lock: Lock,
    /// Another process had it at the last check.
    lost: bool,
}

/// What a check found.
#[derive(Debug)]
pub enum LockCheck {
    /// The project is ours, as before.
    Ours,
    /// The file was gone, and nobody had taken it: it is ours again.
    Retaken,
    /// It is ours again after another process had it.
    Regained,
    /// Another process has it, or the system refuses to say.
    Refused(LockError),
    /// The project's root is not there.
    NoRoot,
}

impl ProjectLock {
    /// Takes the lock of the project in `root`. `fallback` is a folder for the locks of roots that
    /// cannot hold one.
    pub fn take(root: &Path, fallback: &Path, holder: &Holder) -> Result<Self, LockError> {
        let lock = Lock::acquire_project(root, fallback, holder)?;
        let (root, fallback) = (root.to_path_buf(), fallback.to_path_buf());
        Ok(Self { root, fallback, holder: holder.clone(), lock, lost: false })
    }

    /// Returns the project's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Finds out whether the project is still ours, and takes the lock again where its file is
    /// gone.
    pub fn check(&mut self) -> LockCheck {
        let own = self.root.join(PROJECT_LOCK);
        let is_intact = self.lock.is_intact();
        if is_intact && self.lock.path() == own {
            return LockCheck::Ours;
        }
        if !is_dir(&self.root) {
            return LockCheck::NoRoot;
        }
        let taken = match Lock::acquire(&own, &self.holder) {
            // A root that cannot hold a lock has it elsewhere.
            Err(LockError::Disk(_)) if is_intact => return self.record_taken(false),
            Err(LockError::Disk(_)) => {
                Lock::acquire_project(&self.root, &self.fallback, &self.holder)
            }
            taken => taken,
        };
        match taken {
            Ok(lock) => {
                self.lock = lock;
                self.record_taken(true)
            }
            Err(error) => {
                self.lost = true;
                LockCheck::Refused(error)
            }
        }
    }

    fn record_taken(&mut self, again: bool) -> LockCheck {
        match (std::mem::take(&mut self.lost), again) {
            (true, _) => LockCheck::Regained,
            (false, true) => LockCheck::Retaken,
            (false, false) => LockCheck::Ours,
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;
    use crate::domain::time::WallTime;

    fn holder(pid: u32) -> Holder {
        let since = WallTime::from_unix_millis(1_700_000_000_000);
        Holder { pid, since, socket: None, what: "conjured run".into() }
    }

    struct Bench(tempfile::TempDir);

    impl Bench {
        fn new() -> Self {
            let bench = Self(tempfile::tempdir().expect("a temporary folder"));
            fs::create_dir(bench.root()).expect("makes");
            bench
        }

        fn root(&self) -> PathBuf {
            self.0.path().join("root")
        }

        fn take(&self, pid: u32) -> Result<ProjectLock, LockError> {
            ProjectLock::take(&self.root(), &self.0.path().join(pid.to_string()), &holder(pid))
        }
    }

    #[test]
    fn a_lock_that_was_removed_is_taken_again_and_keeps_others_out() {
        let bench = Bench::new();
        let mut first = bench.take(11).expect("free");
        assert!(matches!(first.check(), LockCheck::Ours));
        fs::remove_file(bench.root().join(PROJECT_LOCK)).expect("git clean");
        assert!(matches!(first.check(), LockCheck::Retaken));
        assert!(matches!(first.check(), LockCheck::Ours));
        bench.take(22).expect_err("held");
    }

    #[test]
    fn a_lock_that_another_took_is_refused_until_that_one_lets_go() {
        let bench = Bench::new();
        let mut first = bench.take(11).expect("free");
        fs::remove_file(bench.root().join(PROJECT_LOCK)).expect("git clean");
        let mut second = bench.take(22).expect("the way is free");
        let LockCheck::Refused(why) = first.check() else { panic!("two hold it") };
        assert!(why.to_string().contains("process 22"), "{why}");
        assert!(matches!(second.check(), LockCheck::Ours));
        drop(second);
        assert!(matches!(first.check(), LockCheck::Regained));
        assert!(matches!(first.check(), LockCheck::Ours), "it is told once");
    }

    #[test]
    fn a_root_that_is_renamed_has_no_lock_and_brings_it_back() {
        let bench = Bench::new();
        let mut lock = bench.take(11).expect("free");
        fs::rename(bench.root(), bench.0.path().join("moved")).expect("renames");
        assert!(matches!(lock.check(), LockCheck::NoRoot));
        assert!(!bench.root().exists(), "nothing was made");
        fs::rename(bench.0.path().join("moved"), bench.root()).expect("renames back");
        assert!(matches!(lock.check(), LockCheck::Ours));
        bench.take(22).expect_err("held all the time");
    }

    #[test]
    fn a_root_that_came_later_gets_its_lock() {
        let bench = Bench::new();
        fs::remove_dir(bench.root()).expect("removes");
        let mut lock = bench.take(11).expect("in the fallback folder");
        assert!(matches!(lock.check(), LockCheck::NoRoot));
        fs::create_dir(bench.root()).expect("makes");
        assert!(matches!(lock.check(), LockCheck::Retaken));
        bench.take(22).expect_err("held");
    }
}
