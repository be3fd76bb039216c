//! Folders and small files that only we use: private, written atomically, synced.
//!
//! Owns 0700 folders, the atomic write of a private file, the sync of a folder, and the query for
//! free space. [`super::place`] owns public files.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{DiskError, drive::reach, rename};
use crate::{
    domain::job::placement::{TEMPORARY_PREFIX, TEMPORARY_SUFFIX},
    failpoint::{self, Point},
};

/// Creates a folder and its missing parents, for our user only (0700). An existing folder keeps its
/// permissions, because it may belong to another user.
pub fn make_private(folder: &Path) -> Result<(), DiskError> {
    let mut missing = Vec::new();
    let mut at = Some(folder);
    while let Some(path) = at.filter(|path| !path.as_os_str().is_empty() && !path.is_dir()) {
        missing.push(path);
        at = path.parent();
    }
    for path in missing.iter().rev() {
        match private_builder().create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made.map_err(DiskError::at("make the folder", path))?,
        }
        if let Some(parent) = path.parent() {
            sync_folder(parent)?;
        }
    }
    Ok(())
}

/// Removes the permissions of group and others from one of our folders, in case something
/// added them.
pub fn restrict_dir(folder: &Path) -> Result<(), DiskError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata =
            fs::symlink_metadata(folder).map_err(DiskError::at("check the folder", folder))?;
        if metadata.is_dir() && metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
                .map_err(DiskError::at("restrict the permissions of the folder", folder))?;
        }
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Writes a small file for our user only (0600). Readers see either the complete old file or the
/// complete new one, and it is on the disk when this returns.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    write_atomic(path, bytes, false)
}

/// Makes the names in a folder durable. Does nothing if a folder cannot be synced (Windows, some
/// network drives).
pub fn sync_folder(folder: &Path) -> Result<(), DiskError> {
    if cfg!(windows) {
        return Ok(());
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    reach(folder);
    match File::open(folder).and_then(|file| file.sync_all()) {
        // EINVAL and ENOTSUP: this file system cannot sync a folder. EACCES: the folder may be
        // entered and written, but not listed.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput
                    | io::ErrorKind::Unsupported
                    | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        synced => synced.map_err(DiskError::at("sync the folder", folder)),
    }
}

/// Returns how many bytes our user may still write on the drive of `folder`, or `None` if the
/// platform does not say.
pub fn free_space(folder: &Path) -> Result<Option<u64>, DiskError> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(folder)
            .map_err(io::Error::from)
            .map_err(DiskError::at("get the free space of", folder))?;
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }
    #[cfg(windows)]
    {
        fs4::available_space(folder)
            .map(Some)
            .map_err(DiskError::at("get the free space of", folder))
    }
}

/// Tells whether a folder is there.
pub fn is_dir(folder: &Path) -> bool {
    reach(folder);
    folder.is_dir()
}

/// Opens one of our files for reading.
pub fn open(path: &Path) -> Result<File, DiskError> {
    File::open(path).map_err(DiskError::at("open", path))
}

/// Copies one of our files to a path that a person chose, and returns its size.
pub fn copy(from: &Path, to: &Path) -> Result<u64, DiskError> {
    fs::copy(from, to).map_err(DiskError::at("write", to))
}

/// Writes a file that others may read (0644). Readers see either the complete old file or
/// the complete new one, and it is on the disk when this returns. Its folder is created if
/// it is missing.
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(DiskError::at("make the folder", folder))?;
    write_atomic(path, bytes, true)
}

/// Writes a small file through a temporary file beside it. `public` makes it readable for others.
fn write_atomic(path: &Path, bytes: &[u8], public: bool) -> Result<(), DiskError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = || -> io::Result<()> {
        // By default tempfile creates 0600 files, and refuses to open an existing one.
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .suffix(TEMPORARY_SUFFIX)
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        if public {
            make_world_readable(file.as_file())?;
        }
        failpoint::around(Point::PrivateSync, || file.as_file().sync_all())?;
        failpoint::around(Point::PrivateRename, || rename::persist(file, path))?;
        Ok(())
    };
    written().map_err(DiskError::at("write", path))?;
    failpoint::around(Point::PrivateFolder, || sync_folder(folder))
}

#[cfg(unix)]
fn make_world_readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it has the same shape everywhere")]
const fn make_world_readable(_: &File) -> io::Result<()> {
    Ok(())
}

/// Reads a small file. Returns `None` if there is none.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(DiskError::at("read", path)),
    }
}

/// Returns the file in `folder` that ends in `suffix` and sorts last: the newest if the names
/// are dates.
pub fn newest_file(folder: &Path, suffix: &str) -> Option<PathBuf> {
    let names = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    names.filter(|path| path.to_string_lossy().ends_with(suffix)).max()
}

/// Returns the user id of the owner, or `None` if the path does not exist or the system has no
/// such owners.
pub fn owner(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).ok().map(|metadata| metadata.uid())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Returns our own user id, or `None` if users have none.
pub fn user_id() -> Option<u32> {
    #[cfg(unix)]
    {
        Some(rustix::process::geteuid().as_raw())
    }
    #[cfg(not(unix))]
    {
        None
    }
}

/// Checks that files can be created in `folder`, which is created if it is missing.
pub fn probe_write(folder: &Path) -> Result<(), DiskError> {
    fs::create_dir_all(folder).map_err(DiskError::at("make the folder", folder))?;
    tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .suffix(TEMPORARY_SUFFIX)
        .tempfile_in(folder)
        .map(drop)
        .map_err(DiskError::at("write in the folder", folder))
}

/// Creates a new folder among the system's temporary files. It is not removed automatically.
pub fn temporary(prefix: &str) -> Result<PathBuf, DiskError> {
    let folder = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir()
        .map_err(DiskError::at("make a folder in", &std::env::temp_dir()))?;
    Ok(folder.keep())
}

/// Removes a file. A missing file is not an error.
pub fn remove_if_there(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(DiskError::at("remove", path)),
    }
}

/// Removes the permissions of group and others from one of our files (0600).
#[cfg(unix)]
pub fn restrict_file(path: &Path) -> Result<(), DiskError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(DiskError::at("restrict the permissions of", path))
}

/// Returns whether the path exists and belongs to our user.
#[cfg(unix)]
pub fn is_ours(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let user = rustix::process::geteuid().as_raw();
    path.symlink_metadata().is_ok_and(|metadata| metadata.uid() == user)
}

/// Runs `make` with a umask that restricts new files to our user. The umask belongs to the whole
/// process, so no other thread may create files meanwhile.
#[cfg(unix)]
pub fn with_private_umask<T>(make: impl FnOnce() -> T) -> T {
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let made = make();
    rustix::process::umask(before);
    made
}

/// Returns a folder that only our user can enter: the session's runtime folder, or else one of our
/// own among the temporary files. A path of more than 50 bytes leaves no room for a socket's name.
pub fn private_runtime_dir() -> PathBuf {
    let runtime = directories::BaseDirs::new()
        .and_then(|dirs| dirs.runtime_dir().map(Path::to_path_buf))
        .filter(|folder| folder.as_os_str().len() <= 50);
    runtime.unwrap_or_else(|| {
        #[cfg(unix)]
        let user = rustix::process::geteuid().as_raw();
        #[cfg(not(unix))]
        let user = 0;
        std::env::temp_dir().join(format!("conjured-{user}"))
    })
}

/// Rejects a folder that others could have created or can write to: its content could be an attack.
#[cfg(unix)]
pub fn check_private(folder: &Path) -> Result<(), DiskError> {
    use std::os::unix::fs::MetadataExt;
    let metadata =
        fs::symlink_metadata(folder).map_err(DiskError::at("check the folder", folder))?;
    let ours = metadata.is_dir()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.mode() & 0o777 == 0o700;
    if ours {
        return Ok(());
    }
    let cause = io::Error::new(
        io::ErrorKind::PermissionDenied,
        "it must belong to this user and have the permissions 0700",
    );
    Err(DiskError::at("use the folder", folder)(cause))
}

/// Returns the canonical path of a folder; a missing folder keeps the given path. On Windows the
/// result is a path that other programs understand, too (`C:\…`, not `\\?\C:\…`), if there is one.
pub fn canonical(path: &Path) -> PathBuf {
    reach(path);
    #[cfg(windows)]
    let real = dunce::canonicalize(path);
    #[cfg(not(windows))]
    let real = fs::canonicalize(path);
    real.unwrap_or_else(|_| path.to_path_buf())
}

pub(super) fn private_builder() -> DirBuilder {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has a mode to set"))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it exists").permissions().mode() & 0o777
    }

    #[test]
    fn new_folders_and_files_are_private_and_old_folders_stay_as_they_are() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let deep = temp.path().join("a/b");
        make_private(&deep).expect("makes both");
        make_private(&deep).expect("again is fine");
        assert_eq!((mode(&deep), mode(&temp.path().join("a"))), (0o700, 0o700));
        assert_eq!(mode(temp.path()), 0o755);

        let file = deep.join("token");
        write_private(&file, b"old").expect("writes");
        write_private(&file, b"new").expect("replaces");
        assert_eq!(fs::read(&file).expect("reads"), b"new");
        assert_eq!(mode(&file), 0o600);
        assert_eq!(fs::read_dir(&deep).expect("lists").count(), 1, "no temporary file stays");
    }

    #[test]
    fn an_error_names_what_was_tried_and_where() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let file = temp.path().join("file");
        fs::write(&file, b"").expect("writes");
        let error = make_private(&file.join("folder")).expect_err("its parent is a file");
        assert!(error.to_string().contains("make the folder"), "{error}");
        assert!(error.to_string().contains("file"), "{error}");
    }

    #[test]
    fn free_space_is_reported_for_an_existing_folder_only() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        assert!(free_space(temp.path()).expect("a number").is_some_and(|bytes| bytes > 0));
        assert!(free_space(&temp.path().join("none")).is_err());
    }
}
