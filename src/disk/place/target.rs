//! Resolves a public name: follows symlinks and creates missing folders.
//!
//! Owns [`resolve`] and the mapping of the system's errors to [`PlaceFault`]s: errors that a person
//! must fix, and errors that pass when there is space or a permission again.

use std::{
    ffi::OsString,
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
};

use crate::{
    disk::{
        dirs::sync_folder,
        holders,
        rename::{is_held_open, is_transient},
        walk::{EntryKind, Walk},
    },
    failpoint::{self, Point},
};

/// Why artifacts could not be made visible. They are safe in history, and no money is at stake.
#[derive(Debug, thiserror::Error)]
pub enum PlaceFault {
    /// A public name that cannot become a file at the moment: a person must change the name or
    /// remove what blocks it.
    #[error("cannot place {}: {why}; {remedy}", path.display())]
    Unplaceable {
        /// The public name, or the path that blocks it.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The system refuses for now: the placement is tried again.
    #[error(
        "cannot place {} yet: {reason}; {remedy}. The result is safe in history and will be placed automatically",
        path.display()
    )]
    Blocked {
        /// The file that could not be written.
        path: PathBuf,
        /// The error of the system.
        reason: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The artifact in history cannot be read.
    #[error("the artifact {} can no longer be read: {reason}; `conjured once` repeats the work, which costs a new run", path.display())]
    SourceLost {
        /// The artifact.
        path: PathBuf,
        /// The error of the system.
        reason: io::Error,
    },
}

impl PlaceFault {
    /// Returns whether a later retry can succeed without a change of the configuration.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Blocked { .. } => true,
            Self::Unplaceable { .. } | Self::SourceLost { .. } => false,
        }
    }

    /// Says what is wrong, without a word on what becomes of the result.
    pub fn describe(&self) -> String {
        match self {
            Self::Unplaceable { path, why, .. } => {
                format!("cannot place {}: {why}", path.display())
            }
            Self::Blocked { path, reason, .. } => {
                format!("cannot place {}: {reason}", path.display())
            }
            Self::SourceLost { .. } => self.to_string(),
        }
    }

    /// Maps an error of the target.
    pub(super) fn of_target(path: &Path, reason: io::Error) -> Self {
        use io::ErrorKind as Kind;
        if is_transient(&reason) {
            // Windows returns "access denied" also for a file that is mapped or being deleted; the
            // programs that have it open tell the difference.
            let who = holders::of(path);
            if is_held_open(&reason) || !who.is_empty() {
                return Self::held_open(path, reason, &who);
            }
        }
        let remedy = match reason.kind() {
            Kind::NotADirectory | Kind::AlreadyExists => {
                return Self::unplaceable(
                    path,
                    "a file stands where a folder should be",
                    MOVE_AWAY,
                );
            }
            Kind::IsADirectory => {
                return Self::unplaceable(path, "a folder has that name", MOVE_AWAY);
            }
            Kind::InvalidFilename | Kind::InvalidInput => {
                let why = format!("the file system does not allow that name ({reason})");
                return Self::unplaceable(path, why, "change it under `[[project]]`");
            }
            Kind::StorageFull => "free some space on that disk",
            Kind::QuotaExceeded => "free some of the user's disk quota",
            Kind::FileTooLarge => "raise the limit on file sizes there",
            Kind::ReadOnlyFilesystem => {
                "make that file system writable, for a service also in its `ReadWritePaths`"
            }
            Kind::PermissionDenied if cfg!(windows) => {
                "allow conjured's user to write in that folder, or close the program that has the file open"
            }
            Kind::PermissionDenied => "allow conjured's user to write in that folder",
            Kind::NotFound => "check which program removes files or folders there",
            _ => "check that the drive is connected and healthy",
        };
        Self::Blocked { path: path.to_path_buf(), reason, remedy }
    }

    /// The project's root is gone: renamed, removed, or its drive is not mounted. Whoever made it
    /// anew would place the result where the artist never looks.
    fn missing_root(path: &Path, root: &Path) -> Self {
        let reason = format!("the project's root {} does not exist", root.display());
        Self::Blocked {
            path: path.to_path_buf(),
            reason: io::Error::new(io::ErrorKind::NotFound, reason),
            remedy: "restore the project folder, or mount its drive",
        }
    }

    pub(super) fn held_open(path: &Path, reason: io::Error, who: &[String]) -> Self {
        let reason = match who {
            [] => reason,
            who => io::Error::new(reason.kind(), format!("{} has it open", who.join(", "))),
        };
        Self::Blocked { path: path.to_path_buf(), reason, remedy: CLOSE_PROGRAM }
    }

    fn unplaceable(path: &Path, why: impl Into<String>, remedy: &'static str) -> Self {
        Self::Unplaceable { path: path.to_path_buf(), why: why.into(), remedy }
    }
}

/// The remedy for an error that only Windows returns.
const CLOSE_PROGRAM: &str = "close it in the program that has it open and prevents its replacement (a viewer, an importer, a scanner)";

const MOVE_AWAY: &str = "move it away, or choose another name under `[[project]]`";

/// The file that a public name leads to.
#[derive(Debug)]
pub(super) struct ResolvedTarget {
    /// The folder: an existing path without symlinks.
    pub(super) folder: PathBuf,
    /// The name in it, which is not a symlink.
    pub(super) name: OsString,
    /// The existing file of that name.
    pub(super) replaced: Option<Metadata>,
}

impl ResolvedTarget {
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }
}

/// Follows `target` (absolute) to the file it names, which may not exist yet, and makes the folders
/// it lacks. Of a target below `root` only those below the root are made: neither the root nor what
/// is above it.
pub(super) fn resolve(target: &Path, root: &Path) -> Result<ResolvedTarget, PlaceFault> {
    let depth = target.starts_with(root).then(|| root.components().count());
    let mut below = depth.is_none();
    let mut walk = Walk::new(target);
    while let Some(sight) = walk.next() {
        // A root that is a symlink has been followed to its end when the first name behind it
        // comes.
        below |= matches!((sight.position, depth), (Some(at), Some(depth)) if at >= depth);
        let path = walk.folder().join(&sight.name);
        let replaced = match sight.kind {
            EntryKind::Link => continue,
            EntryKind::Folder if !sight.last => continue,
            EntryKind::Folder => {
                return Err(PlaceFault::unplaceable(&path, "a folder has that name", MOVE_AWAY));
            }
            EntryKind::Missing if !below => return Err(PlaceFault::missing_root(target, root)),
            EntryKind::Missing if !sight.last => {
                failpoint::around(Point::PlaceFolderMade, || make_folder(&path))
                    .map_err(|error| PlaceFault::of_target(&path, error))?;
                sync_folder(walk.folder()).map_err(|e| PlaceFault::of_target(&e.path, e.cause))?;
                walk.revisit(sight);
                continue;
            }
            EntryKind::File(_) if !sight.last => {
                let why = "a file stands where a folder should be";
                return Err(PlaceFault::unplaceable(&path, why, MOVE_AWAY));
            }
            EntryKind::File(metadata) if !metadata.is_file() => {
                let why = "a device, a pipe or a socket has that name";
                return Err(PlaceFault::unplaceable(&path, why, MOVE_AWAY));
            }
            EntryKind::Refused(error) if error.kind() == io::ErrorKind::Other => {
                let remedy = "remove the symlink that leads back to itself";
                return Err(PlaceFault::unplaceable(target, error.to_string(), remedy));
            }
            EntryKind::Refused(error) => return Err(PlaceFault::of_target(&path, error)),
            EntryKind::File(metadata) => Some(metadata),
            EntryKind::Missing => None,
        };
        return Ok(ResolvedTarget {
            folder: walk.folder().to_path_buf(),
            name: sight.name,
            replaced,
        });
    }
    // Only a path that leads to a root gets here.
    Err(PlaceFault::unplaceable(target, "a folder has that name", MOVE_AWAY))
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        // Another program created it first, which is just as good.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}
