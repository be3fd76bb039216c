//! The file system: reads the inputs, keeps the history, and shows results to CONJURE.
//!
//! Owns every call of `std::fs` outside the ledger's own file. All calls block, so the daemon runs
//! them on the blocking pool. Nothing here decides when to look at a file or what it means, and no
//! part knows a backend, a ledger or a clock (times are arguments).
//!
//! - [`watch`]: turns an event, an overflow or a poll into "look at this project", nothing more;
//! - [`stamp`], [`read`]: a complete input in memory, or the reason why it cannot be read yet;
//! - [`history`]: a folder for each job, downloads that survive a crash, quarantine;
//! - `rename`, `holders`: renames with retries if another program has the target open, and the
//!   names of such programs;
//! - [`place`]: turns a plan of [`crate::domain::job::placement`] into public files, atomically;
//! - [`crate::disk::place::sweep`]: removes what a crash left behind;
//! - [`lock`], [`lock::project_lock`]: one daemon for each state folder and for each project, even
//!   if the file is removed;
//! - [`checkout`]: detects a CONJURE checkout;
//! - [`probe`]: queries about a folder that change nothing;
//! - [`daily_log`]: the files of the log;
//! - [`drive`]: one that does not answer, for tests;
//! - [`dirs`]: private folders, atomic private files, syncing, free space.

pub mod drive;
mod holders;
mod rename;
pub mod daily_log;
mod walk;
pub mod dirs;
pub mod checkout;
pub mod probe;
pub mod stamp;
pub mod read;
pub mod watch;
pub mod history;
pub mod place;
pub mod lock;

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
    fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self { doing, path, cause }
    }
}
