//! The errors of the ledger, and what a person can do about them.
//!
//! Owns three types on purpose: [`OpenError`] stops the daemon, [`LedgerError`] fails one
//! operation, and [`StoreError`] can be part of both. No message contains more of a job than
//! its id.

use std::{io, path::PathBuf};

use crate::domain::{
    job::{JobId, JobState},
    money::budget::BudgetRefusal,
};

/// The longest path of a ledger in bytes: SQLite's 512 (`MAX_PATHNAME` of its Unix file system),
/// minus room for the names of the files beside it.
pub(super) const MAX_PATH: usize = 500;

/// Why the ledger could not be opened. The file is never changed, moved or deleted because of it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no file yet, and the ledger was opened only for reading.
    #[error("there is no ledger at {}: no job has been run yet", path.display())]
    Missing {
        /// The ledger's file.
        path: PathBuf,
    },
    /// The operating system denied access to the file or its folder.
    #[error("cannot open the ledger {}: {source}; check that its folder exists and belongs to this user", path.display())]
    Unreachable {
        /// The ledger's file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The path is too long for SQLite.
    #[error(
        "the path of the ledger has {} bytes, but SQLite supports only {MAX_PATH}: set `state_dir` to a folder with a shorter path",
        path.as_os_str().len()
    )]
    TooLong {
        /// The ledger's file.
        path: PathBuf,
    },
    /// A SQLite file of another program.
    #[error("{} is a database of another program and was not changed: set `state_dir` to another folder", path.display())]
    Foreign {
        /// The ledger's file.
        path: PathBuf,
    },
    /// A newer `conjured` has written the file.
    #[error(
        "the ledger {} has version {found}, but this conjured supports versions up to {known}; it was not changed: \
         install the newer conjured again, or set `state_dir` to another folder to start an empty ledger",
        path.display()
    )]
    Newer {
        /// The ledger's file.
        path: PathBuf,
        /// The version of the file.
        found: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// A development version of `conjured`, from before the first release, has written the file.
    #[error(
        "the ledger {} was written by a conjured from before 0.1.0 (version {found}, this one uses {known}); nothing \
         was changed or sent: to begin anew, move it and the `-wal` and `-shm` files beside it away, or set `state_dir` \
         to another folder (money spent so far is then unknown to the budget)",
        path.display()
    )]
    Older {
        /// The ledger's file.
        path: PathBuf,
        /// The version of the file.
        found: i32,
        /// The required version.
        known: i32,
    },
    /// The file system does not support a write-ahead log (no shared memory, as on some
    /// network drives).
    #[error("the file system of {} does not support a ledger (SQLite offers journal mode `{mode}`, not `wal`): set `state_dir` to a local disk", path.display())]
    NoWriteAheadLog {
        /// The ledger's file.
        path: PathBuf,
        /// The mode that SQLite fell back to.
        mode: String,
    },
    /// An error that can also happen to an open ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The errors of any access to the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is damaged, or was never a ledger.
    #[error(
        "the ledger {} is damaged ({detail}); it was not changed: move it and its `-wal` file away to continue with an \
         empty one (money spent so far is then unknown to the budget), or restore a copy",
        path.display()
    )]
    Corrupt {
        /// The ledger's file.
        path: PathBuf,
        /// The message of SQLite or of the row.
        detail: String,
    },
    /// Another process has locked the file for longer than the time-out of five seconds.
    #[error("the ledger {} is locked by another process: stop the other conjured or the tool that has it open", path.display())]
    Locked {
        /// The ledger's file.
        path: PathBuf,
    },
    /// The path leads to no file, or to another file than the open one. Anything written now would
    /// be lost when the process ends.
    #[error(
        "the ledger {} was moved or deleted while conjured runs, so nothing is sent: put it back with its `-wal` \
         file, or restart conjured to continue with what is there (money spent since is then unknown to the budget)",
        path.display()
    )]
    Gone {
        /// The ledger's file.
        path: PathBuf,
    },
    /// The disk is full. The operation was rolled back.
    #[error("the disk is full: the ledger {} could not be written, and the step was undone; free some space", path.display())]
    Full {
        /// The ledger's file.
        path: PathBuf,
    },
    /// The disk denies access: an I/O error, a file system that became read-only, or a
    /// missing permission.
    #[error("the ledger {} cannot be used ({source}): check that its disk is connected, healthy and writable", path.display())]
    Disk {
        /// The ledger's file.
        path: PathBuf,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
    /// Any other error of SQLite.
    #[error("the ledger {} cannot be used: {source}", path.display())]
    Failed {
        /// The ledger's file.
        path: PathBuf,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
}

/// Why one operation failed. It was rolled back.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// An error of the file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No job has this id or an id with this prefix.
    #[error("there is no job `{0}`: `conjured jobs list` shows all jobs")]
    NoSuchJob(String),
    /// More than one job has an id with this prefix.
    #[error(
        "`{text}` matches more than one job ({}): type more of the id",
        first_candidates(candidates)
    )]
    Ambiguous {
        /// The prefix.
        text: String,
        /// The first few matching jobs.
        candidates: Vec<JobId>,
    },
    /// A state change that is not allowed. This is a bug in the caller, rejected before it
    /// does harm.
    #[error("job {job} is {from} and cannot change to {to}")]
    Illegal {
        /// The job.
        job: JobId,
        /// Its current state.
        from: JobState,
        /// The requested state.
        to: JobState,
    },
    /// An earlier request for the same work may have been charged, so no paid backend is
    /// A job that shows an earlier result again was to be sent.
    #[error("job {0} shows an earlier result again: nothing may be sent for it")]
    ReusesResult(JobId),
    /// asked again.
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
    #[error("a rating must be a number from 1 to 5, not {0}")]
    NotARating(u8),
}

/// Why a job was not released. Nothing is reserved and nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// It would exceed a limit.
    #[error(transparent)]
    Budget(#[from] BudgetRefusal),
    /// The ledger could not record it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn first_candidates(candidates: &[JobId]) -> String {
    candidates.iter().map(JobId::to_string).collect::<Vec<_>>().join(", ")
}

/// The error of an operation before the path of the file is added.
pub(super) enum SqlFault {
    Sql(rusqlite::Error),
    /// A row that our ledger never writes.
    Malformed(String),
    /// An error of our own rules.
    Rule(LedgerError),
}

impl From<rusqlite::Error> for SqlFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<LedgerError> for SqlFault {
    fn from(error: LedgerError) -> Self {
        Self::Rule(error)
    }
}

impl SqlFault {
    /// Adds the path of the file and maps SQLite's error codes to our errors.
    pub(super) fn at(self, path: &std::path::Path) -> LedgerError {
        match self {
            Self::Sql(source) => store_error(path, source).into(),
            Self::Malformed(detail) => StoreError::Corrupt { path: path.to_owned(), detail }.into(),
            Self::Rule(error) => error,
        }
    }
}

/// Maps one of SQLite's errors to the error with the matching remedy.
pub(super) fn store_error(path: &std::path::Path, source: rusqlite::Error) -> StoreError {
    use rusqlite::{Error, ErrorCode};
    let path = path.to_owned();
    // A value of the wrong type or an unknown word. STRICT tables and our own writes
    // produce neither.
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
