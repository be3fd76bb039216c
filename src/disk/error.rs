//! The error that most of the file system comes down to: what was tried, on which path, and what the system said.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An operation on a path that the system refused. Its text holds the cause, so there is no `source` to print twice.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing} {}: {cause}", path.display())]
pub struct DiskError {
    /// What was tried, to be read after "could not".
    pub doing: &'static str,
    /// What it was tried on.
    pub path: PathBuf,
    /// What the system said.
    pub cause: io::Error,
}

impl DiskError {
    /// Returns a closure for `map_err` that adds what was tried, and on which path.
    pub(super) fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self { doing, path, cause }
    }
}
