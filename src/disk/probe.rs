//! Queries about a folder that change nothing in it: for `doctor`, which must leave everything as
//! it was.
//!
//! Owns the queries; the caller decides what an answer means. [`super::dirs::probe_write`] tests
//! for write access by creating a file; that is not done here.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::domain::time::WallTime;

pub use super::watch::kind::{Drive, drive_of};

/// Returns the folder itself, or its nearest existing parent, where it would be created.
pub fn nearest_existing(folder: &Path) -> PathBuf {
    folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

/// Checks that our user may create files in a folder, by asking for the permission and not by
/// trying. Detects read-only mounts, but not quotas and full disks.
pub fn check_writable(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        accessat(CWD, folder, wanted, AtFlags::EACCESS).map_err(io::Error::from)
    }
    // On Windows only an attempt would show it; the read-only attribute of a folder means something
    // else there.
    #[cfg(windows)]
    fs::metadata(folder).map(drop)
}

/// Returns the permissions of a file or folder (`0o644`), or `None` if it does not exist or the
/// system has no permissions.
pub fn mode(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        Some(fs::metadata(path).ok()?.permissions().mode() & 0o7777)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Returns when a file was last modified.
pub fn changed_at(path: &Path) -> Option<WallTime> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    let since = modified.duration_since(std::time::SystemTime::UNIX_EPOCH).ok()?;
    Some(WallTime::from_unix_millis(i64::try_from(since.as_millis()).ok()?))
}

/// Why a folder cannot be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchRefusal {
    /// Our user has no watchers left (`fs.inotify.max_user_instances`, or open files).
    Instances,
    /// Our user has no watched folders left (`fs.inotify.max_user_watches`).
    Watches,
    /// Another error, in the system's words.
    Other(String),
}

/// Briefly watches a folder: the only way to find a limit is to reach it.
pub fn try_watch(folder: &Path) -> Result<(), WatchRefusal> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::{
            fs::inotify::{CreateFlags, WatchFlags, add_watch, init},
            io::Errno,
        };
        let other = |error: Errno| WatchRefusal::Other(io::Error::from(error).to_string());
        let watcher = init(CreateFlags::CLOEXEC).map_err(|error| match error {
            Errno::MFILE | Errno::NFILE => WatchRefusal::Instances,
            error => other(error),
        })?;
        let added = add_watch(&watcher, folder, WatchFlags::DELETE_SELF);
        added.map(drop).map_err(|error| match error {
            Errno::NOSPC => WatchRefusal::Watches,
            error => other(error),
        })
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = folder;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_be_written_and_watched_says_so_and_stays_as_it_is() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        check_writable(temp.path()).expect("ours");
        try_watch(temp.path()).expect("watched");
        assert_eq!(nearest_existing(&temp.path().join("not/there")), temp.path());
        assert!(check_writable(&temp.path().join("not")).is_err());
        assert!(matches!(
            try_watch(&temp.path().join("not")),
            Ok(()) | Err(WatchRefusal::Other(_))
        ));
        assert_eq!(fs::read_dir(temp.path()).expect("lists").count(), 0);
        assert!(changed_at(temp.path()).is_some());
    }
}
