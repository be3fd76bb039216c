//! One daemon for each state folder and one for each project: a file that names its holder, under
//! an advisory lock.
//!
//! The lock is the system's (`flock`), so it ends with its holder, however that ends. The text in
//! the file is only for the message of a second process, and is read without the lock. On Windows a
//! locked file cannot be read, so the text is in a file beside it (`….lock.who`). A leftover file
//! means nothing.
//!
//! The project's lock is `.conjured.lock` in the project's root (not in CONJURE's `data/`). A
//! folder of the user was considered and rejected: it would not stop a second user, a container or
//! another machine on the same network drive, and each of them would pay. The file is removed when
//! the daemon ends normally, so the checkout stays clean. Only if the root cannot hold a lock
//! (read-only, no locks on that drive) a file in the given fallback folder is used instead.

pub mod project_lock;

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    DiskError,
    dirs::{canonical, make_private},
    drive::reach,
    rename,
    stamp::Stamp,
};
use crate::{
    domain::{fingerprint::Fingerprint, time::WallTime},
    failpoint::{self, Point},
};

/// The lock's name in the state folder.
pub const STATE_LOCK: &str = "conjured.lock";

/// The lock's name in a project's root.
pub const PROJECT_LOCK: &str = ".conjured.lock";

/// More than any holder writes; the rest of a malicious file is not read.
const MAX_HOLDER_BYTES: u64 = 4096;

/// How often a lock is tried again after its file was removed meanwhile. Each time another daemon
/// must have ended in between.
const TRIES: usize = 16;

/// The holder of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// When it took the lock.
    pub since: WallTime,
    /// The socket that it listens on, if any.
    #[serde(default)]
    pub socket: Option<String>,
    /// What it is (`conjured run`).
    pub what: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: &char| !c.is_control();
        let what: String = self.what.chars().filter(plain).take(60).collect();
        write!(f, "process {}, {what}", self.pid)?;
        match jiff::Timestamp::from_millisecond(self.since.unix_millis()) {
            Ok(since) => write!(f, ", since {since:.0}"),
            Err(_) => Ok(()),
        }
    }
}

/// Why a lock was not acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is held by {}; stop it first", path.display(), name(holder.as_ref()))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The holder; `None` if the file does not name it (yet).
        holder: Option<Holder>,
    },
    /// The lock file cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn name(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "another, unnamed process".to_owned(), Holder::to_string)
}

/// A lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    /// The system's lock lasts as long as the open file.
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock at `path` or returns its holder. It fails at once, except on Windows, where
    /// it retries for two seconds: the system takes some time to release a lock of a killed process
    /// (Microsoft's documentation of `LockFileEx`). The folder must exist.
    pub fn acquire(path: &Path, holder: &Holder) -> Result<Self, LockError> {
        rename::retry_while(
            || Self::acquire_now(path, holder),
            |refused| cfg!(windows) && matches!(refused, LockError::Held { .. }),
        )
    }

    fn acquire_now(path: &Path, holder: &Holder) -> Result<Self, LockError> {
        for _ in 0..TRIES {
            if let Some(lock) = Self::try_once(path, holder)? {
                return Ok(lock);
            }
        }
        Err(LockError::Held { path: path.to_path_buf(), holder: read_holder(path) })
    }

    /// Takes the lock of a state folder, which must exist.
    pub fn acquire_state(state_dir: &Path, holder: &Holder) -> Result<Self, LockError> {
        Self::acquire(&state_dir.join(STATE_LOCK), holder)
    }

    /// Takes the lock of a project. `fallback` is a folder for the locks of roots that cannot
    /// hold one.
    pub fn acquire_project(
        root: &Path,
        fallback: &Path,
        holder: &Holder,
    ) -> Result<Self, LockError> {
        let refused = match Self::acquire(&root.join(PROJECT_LOCK), holder) {
            Err(LockError::Disk(refused)) => refused,
            taken => return taken,
        };
        // A root that does not exist yet is locked as well, because it may be created later.
        let canonical = canonical(root);
        let digest = Fingerprint::of(canonical.as_os_str().as_encoded_bytes());
        let taken = make_private(fallback)
            .map_err(LockError::from)
            .and_then(|()| Self::acquire(&fallback.join(format!("{digest}.lock")), holder));
        // The error of the root is the one that a person can fix.
        taken.map_err(|error| match error {
            LockError::Disk(_) => LockError::Disk(refused),
            LockError::Held { .. } => error,
        })
    }

    /// Returns the lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the path still leads to our lock. For example, `git clean` in a project
    /// removes the file, and then a second daemon could take a new lock. In that case, drop the
    /// lock and take it again.
    pub fn is_intact(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    fn try_once(path: &Path, holder: &Holder) -> Result<Option<Self>, LockError> {
        let file = open(path).map_err(DiskError::at("open the lock file", path))?;
        Self::write_holder(file, path, holder)
    }

    /// Locks an open file. Returns `None` if the file was removed between opening and locking: what
    /// was locked is no longer the lock file.
    fn write_holder(
        mut file: File,
        path: &Path,
        holder: &Holder,
    ) -> Result<Option<Self>, LockError> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = read_holder(path);
                return Err(LockError::Held { path: path.to_path_buf(), holder });
            }
            Err(TryLockError::Error(error)) => {
                return Err(DiskError::at("lock", path)(error).into());
            }
        }
        if !is_at(&file, path) {
            return Ok(None);
        }
        // A file of another user's dead daemon can be locked but not written. The lock counts; the
        // text is optional.
        let _ = failpoint::around(Point::Lock, || {
            imp::write(&mut file, path, &serde_json::to_vec(holder)?)
        });
        Ok(Some(Self { file, path: path.to_path_buf() }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked, so a process that has already opened this file finds, once it gets the
        // lock, that the path leads to another file. On Windows an open file keeps its name until
        // it is closed, so an attempt at that moment is refused and may be repeated.
        if self.is_intact() {
            imp::remove(&self.path);
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The holder of a lock, determined without taking the lock away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockStatus {
    /// The lock is free.
    Free,
    /// The lock is held; `None` if the file does not name the holder.
    Held(Option<Holder>),
}

/// Returns the holder of a state folder's lock. Nothing is created or changed. If the lock is free,
/// it is taken in shared mode for the moment of the check, and a daemon that starts at that moment
/// would be refused.
pub fn probe_state_lock(state_dir: &Path) -> LockStatus {
    probe_lock(&state_dir.join(STATE_LOCK))
}

/// Like [`probe_state_lock`], for a project's root.
pub fn probe_project_lock(root: &Path) -> LockStatus {
    probe_lock(&root.join(PROJECT_LOCK))
}

fn probe_lock(path: &Path) -> LockStatus {
    let Ok(file) = crate::disk::stamp::open_to_read(path) else { return LockStatus::Free };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => LockStatus::Held(read_holder(path)),
        Ok(()) | Err(TryLockError::Error(_)) => LockStatus::Free,
    }
}

fn open(path: &Path) -> io::Result<File> {
    reach(path);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Readable for the message of a second process; a planted symlink must not make us write to
        // another file.
        let no_links = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.mode(0o644).custom_flags(i32::try_from(no_links.bits()).unwrap_or(0));
    }
    // On Windows the name is refused until its last holder has closed the file that it removed.
    match rename::retry(|| options.open(path)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            File::open(path).map_err(|_| error)
        }
        opened => opened,
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let ours = file.metadata().and_then(|metadata| Stamp::of(file, &metadata));
    match (ours, Stamp::named(path)) {
        (Ok(ours), Ok(named)) => ours.same_file(&named),
        _ => false,
    }
}

fn read_holder(path: &Path) -> Option<Holder> {
    let mut text = Vec::new();
    let file = crate::disk::stamp::open_to_read(&imp::text_of(path)).ok()?;
    file.take(MAX_HOLDER_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(unix)]
mod imp {
    //! A lock here does not prevent reading: the text is in the locked file itself.

    use std::{
        fs::File,
        io::{self, Seek, Write},
        path::{Path, PathBuf},
    };

    pub(super) fn text_of(lock: &Path) -> PathBuf {
        lock.to_path_buf()
    }

    pub(super) fn write(file: &mut File, _: &Path, text: &[u8]) -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text)
    }

    /// The text is removed with the lock.
    pub(super) fn remove(_: &Path) {}
}

#[cfg(windows)]
mod imp {
    //! A locked file cannot be read by others here, so the text is in a file beside the lock.

    use std::{
        fs::{self, File},
        io,
        path::{Path, PathBuf},
    };

    pub(super) fn text_of(lock: &Path) -> PathBuf {
        let mut name = lock.as_os_str().to_owned();
        name.push(".who");
        name.into()
    }

    pub(super) fn write(_: &mut File, lock: &Path, text: &[u8]) -> io::Result<()> {
        fs::write(text_of(lock), text)
    }

    pub(super) fn remove(lock: &Path) {
        // The next holder overwrites it.
        let _ = fs::remove_file(text_of(lock));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(pid: u32) -> Holder {
        let since = WallTime::from_unix_millis(1_700_000_000_000);
        Holder { pid, since, socket: None, what: "conjured run".into() }
    }

    #[test]
    fn the_second_learns_the_holder_and_gets_the_lock_when_the_first_is_gone() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let first = Lock::acquire_state(temp.path(), &holder(11)).expect("free");
        let refused = Lock::acquire_state(temp.path(), &holder(22)).expect_err("held");
        let text = refused.to_string();
        assert!(text.contains("process 11, conjured run, since 2023-11-14T22:13:20Z"), "{text}");
        drop(first);
        assert_eq!(fs::read_dir(temp.path()).expect("lists").count(), 0, "nothing is left");
        Lock::acquire_state(temp.path(), &holder(22)).expect("free again");
    }

    #[test]
    fn a_question_about_a_lock_names_its_holder_and_leaves_it_free_or_taken() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(probe_state_lock(temp.path()), LockStatus::Free);
        let lock = Lock::acquire_state(temp.path(), &holder(11)).expect("free");
        assert_eq!(probe_state_lock(temp.path()), LockStatus::Held(Some(holder(11))));
        assert!(lock.is_intact());
        drop(lock);
        fs::write(temp.path().join(STATE_LOCK), "left by a crash").expect("writes");
        assert_eq!(probe_state_lock(temp.path()), LockStatus::Free);
        Lock::acquire_state(temp.path(), &holder(22)).expect("still free");
    }

    #[test]
    fn a_dead_holders_text_is_overwritten() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join(STATE_LOCK);
        fs::write(&path, serde_json::to_vec(&holder(11)).expect("JSON").repeat(9)).expect("writes");
        let _lock = Lock::acquire_state(temp.path(), &holder(22)).expect("nobody holds it");
        assert_eq!(read_holder(&path), Some(holder(22)));
    }

    #[test]
    fn one_project_root_has_one_lock_whatever_the_state_folders() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (root, one, two) =
            (temp.path().join("root"), temp.path().join("one"), temp.path().join("two"));
        fs::create_dir(&root).expect("makes");
        let _first = Lock::acquire_project(&root, &one, &holder(11)).expect("free");
        let second = Lock::acquire_project(&root, &two, &holder(22)).expect_err("held");
        assert!(matches!(second, LockError::Held { holder: Some(by), .. } if by == holder(11)));
    }

    #[test]
    fn a_root_that_cannot_hold_a_lock_is_locked_in_the_fallback_folder() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let (root, locks) = (temp.path().join("not/there"), temp.path().join("locks"));
        let first = Lock::acquire_project(&root, &locks, &holder(11)).expect("free");
        assert!(first.path().starts_with(&locks));
        assert!(Lock::acquire_project(&root, &locks, &holder(22)).is_err());
    }

    // Windows may keep a removed file's name until no program has it open, and wine does.
    #[cfg(unix)]
    #[test]
    fn a_lock_whose_file_was_removed_meanwhile_is_not_held() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join(STATE_LOCK);
        let late = || open(&path).expect("opens");
        let (first, second) = (late(), late());
        fs::remove_file(&path).expect("the holder ends");
        assert!(Lock::write_holder(first, &path, &holder(1)).expect("no error").is_none());
        let _next = Lock::acquire_state(temp.path(), &holder(2)).expect("free");
        assert!(Lock::write_holder(second, &path, &holder(1)).expect("no error").is_none());
        assert_eq!(read_holder(&path), Some(holder(2)), "the next one is not overwritten");
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_whose_file_was_removed_says_so_and_does_not_remove_the_next_one() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let first = Lock::acquire_state(temp.path(), &holder(11)).expect("free");
        assert!(first.is_intact());
        fs::remove_file(first.path()).expect("git clean");
        assert!(!first.is_intact());
        let second = Lock::acquire_state(temp.path(), &holder(22)).expect("the way is free");
        drop(first);
        assert!(second.is_intact());
    }

    #[cfg(unix)]
    #[test]
    fn a_planted_symlink_is_not_written_through() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let victim = temp.path().join("victim");
        fs::write(&victim, b"precious").expect("writes");
        std::os::unix::fs::symlink(&victim, temp.path().join(STATE_LOCK)).expect("links");
        assert!(Lock::acquire_state(temp.path(), &holder(1)).is_err());
        assert_eq!(fs::read(&victim).expect("reads"), b"precious");
    }

    proptest::proptest! {
        #[test]
        fn a_hostile_lock_file_never_panics(bytes in proptest::collection::vec(0_u8..=255, 0..200)) {
            let temp = tempfile::tempdir().expect("a temporary folder");
            let path = temp.path().join(STATE_LOCK);
            fs::write(&path, bytes).expect("writes");
            let _ = name(read_holder(&path).as_ref());
        }

        #[test]
        fn a_hostile_holder_prints_in_one_line(what in ".{0,200}", since: i64, pid: u32) {
            let since = WallTime::from_unix_millis(since);
            let text = Holder { pid, since, socket: None, what }.to_string();
            proptest::prop_assert!(!text.contains(char::is_control) && text.len() < 400);
        }
    }
}
