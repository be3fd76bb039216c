//! The error of most file system operations: the operation, its path, and the system's error.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An operation on a path that failed. Its text contains the cause, so there is no `source`, which
/// would be printed twice.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing} {}: {cause}", path.display())]
pub struct DiskError {
    /// The operation, worded to follow "could not".
    pub doing: &'static str,
    /// The path.
    pub path: PathBuf,
    /// The error of the system.
    pub cause: io::Error,
}

impl DiskError {
    /// Returns a closure for `map_err` that adds the operation and the path.
    pub(super) fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self { doing, path, cause }
    }
}
