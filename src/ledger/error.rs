//! What can go wrong with the ledger, and what a person can do about it.
//!
//! Owns three kinds on purpose: [`OpenError`] stops the daemon, [`LedgerError`] fails one operation, and
//! [`StoreError`] is what either can meet underneath. No message carries more of a job than its id.

use std::{io, path::PathBuf};

use crate::domain::{
    budget::Refusal,
    job::{JobId, State},
};

/// The longest path of a ledger in bytes: SQLite's 512 (`MAX_PATHNAME` of its Unix file system) with room for the names beside it.
pub(super) const MAX_PATH: usize = 500;

/// Why the ledger could not be opened. The file is never changed, moved or deleted because of it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no file yet, and this was only to be read.
    #[error("there is no ledger at {}: no job has been run yet", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused the file or its folder.
    #[error("cannot open the ledger {}: {source}; check that its folder exists and belongs to this user", path.display())]
    Unreachable {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// SQLite takes no path of this length.
    #[error(
        "the path of the ledger has {} bytes, and SQLite takes {MAX_PATH}: set `state_dir` to a folder with a shorter path",
        path.as_os_str().len()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A SQLite file that some other program made.
    #[error("{} is a database of another program and was left alone: set `state_dir` to a folder of its own", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer `conjured` has written it.
    #[error(
        "the ledger {} has version {found}, this conjured knows versions up to {known}; it was left alone: \
         install the newer conjured again, or set `state_dir` to another folder to start an empty ledger",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: i32,
        /// The newest version known here.
        known: i32,
    },
    /// An older `conjured` has written it, and this was only to be read.
    #[error("the ledger {} has version {found}, this conjured reads version {known}: start the daemon once, it brings it up to date", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: i32,
        /// The version that is needed.
        known: i32,
    },
    /// The file system cannot hold a write-ahead log (no shared memory: some network drives).
    #[error("the file system of {} cannot hold a ledger (SQLite offers journal mode `{mode}`, not `wal`): set `state_dir` to a local disk", path.display())]
    NoWriteAheadLog {
        /// The file.
        path: PathBuf,
        /// What SQLite fell back to.
        mode: String,
    },
    /// Something that can happen to an open ledger too.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What any access to the file can meet.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is damaged, or never was a ledger.
    #[error(
        "the ledger {} is damaged ({detail}); it was left as it is: move it and its `-wal` file away to go on with an \
         empty one (money spent so far is then unknown to the budget), or restore a copy",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite or a row said.
        detail: String,
    },
    /// Another process holds it for longer than the patience of five seconds.
    #[error("the ledger {} is locked by another process: end the other conjured or the tool that has it open", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Its name stands for no file, or for another one than the open one: what is written now would be gone at the end.
    #[error(
        "the ledger {} was moved or deleted while conjured runs, and without one nothing is sent: put it back with its `-wal` \
         file, or restart conjured to go on with what is there (money spent since is then unknown to the budget)",
        path.display()
    )]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// No space left; the operation was undone as a whole.
    #[error("the disk is full: the ledger {} could not be written and the step was undone; free some space", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The disk refuses it: an I/O error, a file system that became read-only, a right that is gone.
    #[error("the ledger {} cannot be used ({source}): see that its disk is there, sound and writable", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// Anything else SQLite can say.
    #[error("the ledger {} cannot be used: {source}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
}

/// Why one operation failed. It was undone as a whole.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file let us down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No job has this id, or begins with these letters.
    #[error("there is no job `{0}`: `conjured jobs list` shows them")]
    NoSuchJob(String),
    /// More than one job begins with these letters.
    #[error("`{text}` begins more than one job ({}): write more of it", few(candidates))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// The first few that fit.
        candidates: Vec<JobId>,
    },
    /// A state that cannot follow. This is a bug in the caller, and refused before it does harm.
    #[error("job {job} is {from} and cannot become {to}")]
    Illegal {
        /// The job.
        job: JobId,
        /// What it is.
        from: State,
        /// What it was to become.
        to: State,
    },
    /// An earlier request for the same work may have been charged, so no paid backend is asked again.
    #[error(
        "job {job} may have been charged already, so it is not sent to {backend}, which is paid"
    )]
    ChargedBefore {
        /// The job.
        job: JobId,
        /// The paid backend.
        backend: String,
    },
    /// A cancel was recorded before the placement began, and is final.
    #[error("job {0} was cancelled before its result was placed")]
    CancelWanted(JobId),
    /// A rating outside 1 to 5.
    #[error("a rating is a number from 1 to 5, not {0}")]
    NotARating(u8),
}

/// Why a job was not released. Nothing is reserved and nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It would cross a limit.
    #[error(transparent)]
    Budget(#[from] Refusal),
    /// The ledger could not record it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn few(candidates: &[JobId]) -> String {
    candidates.iter().map(JobId::to_string).collect::<Vec<_>>().join(", ")
}

/// What an operation can meet before the file's path is known to it.
pub(super) enum Fault {
    /// SQLite's words.
    Sql(rusqlite::Error),
    /// A row that no ledger of ours writes.
    Garbled(String),
    /// A rule of ours.
    Ours(LedgerError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        Self::Ours(error)
    }
}

impl Fault {
    /// Names the file and sorts SQLite's codes by their remedy.
    pub(super) fn at(self, path: &std::path::Path) -> LedgerError {
        match self {
            Self::Sql(source) => store_error(path, source).into(),
            Self::Garbled(detail) => StoreError::Corrupt { path: path.to_owned(), detail }.into(),
            Self::Ours(error) => error,
        }
    }
}

/// Sorts one of SQLite's errors by its remedy.
pub(super) fn store_error(path: &std::path::Path, source: rusqlite::Error) -> StoreError {
    use rusqlite::{Error, ErrorCode};
    let path = path.to_owned();
    // A value of the wrong type or an unknown word: STRICT tables and our own writes make neither.
    if matches!(
        source,
        Error::FromSqlConversionFailure(..)
            | Error::InvalidColumnType(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..)
    ) {
        return StoreError::Corrupt { path, detail: source.to_string() };
    }
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt { path, detail: source.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { path },
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied,
        ) => StoreError::Disk { path, source },
        _ => StoreError::Failed { path, source },
    }
}
