//! Quarantine: files of a backend that failed every check, kept for later diagnosis.
//!
//! Owns the names and the limits. A quarantined file never ends in `.glb` or `.png`, and its reason
//! is in a text file beside it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{DiskError, Partial, rename, sync_folder, write_private};
use crate::{
    domain::job::JobId,
    failpoint::{self, Point},
};

/// The maximum number of files that are kept.
pub(super) const MAX_FILES: usize = 20;

/// The maximum number of bytes that are kept. The newest file stays even if it is larger.
pub(super) const MAX_BYTES: u64 = 1 << 30;

const EXTENSION: &str = "bad";

pub(super) fn put(
    folder: &Path,
    job: JobId,
    partial: Partial,
    reason: &str,
) -> Result<PathBuf, DiskError> {
    let kind = partial.kind();
    let name = |number: usize| folder.join(format!("{job}-{kind}-{number}.{EXTENSION}"));
    // There are never more files than that, so one of the numbers is free.
    let free = (1..=MAX_FILES)
        .map(name)
        .find(|path| fs::symlink_metadata(path).is_err())
        .unwrap_or_else(|| name(MAX_FILES + 1));
    write_private(&free.with_extension("txt"), reason.as_bytes())?;
    let source = partial.path().to_path_buf();
    drop(partial);
    failpoint::around(Point::Quarantine, || rename(&source, &free))
        .map_err(DiskError::at("move into quarantine", &source))?;
    sync_folder(folder)?;
    prune(folder, &free, MAX_FILES, MAX_BYTES)?;
    Ok(free)
}

/// Removes the oldest files until the limits are kept; never `newest`.
pub(super) fn prune(
    folder: &Path,
    newest: &Path,
    max_files: usize,
    max_bytes: u64,
) -> Result<(), DiskError> {
    let mut kept: Vec<(SystemTime, PathBuf, u64)> = fs::read_dir(folder)
        .map_err(DiskError::at("list", folder))?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let path = entry.path();
            let metadata = entry.metadata().ok()?;
            let bad = path.extension().is_some_and(|ending| ending == EXTENSION);
            let age = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            (bad && path != newest).then_some((age, path, metadata.len()))
        })
        .collect();
    kept.sort_unstable();
    let mut files = kept.len() + 1;
    let mut bytes: u64 = fs::metadata(newest).map_or(0, |metadata| metadata.len())
        + kept.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
    for (_, path, size) in kept {
        if files <= max_files && bytes <= max_bytes {
            break;
        }
        fs::remove_file(&path).map_err(DiskError::at("remove", &path))?;
        // A reason without its file is harmless.
        let _ = fs::remove_file(path.with_extension("txt"));
        files -= 1;
        bytes -= size;
    }
    Ok(())
}
