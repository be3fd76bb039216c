//! The ledger: one SQLite file with sessions, projects, jobs, attempts, artifacts, money and
//! audit events.
//!
//! Each state of a job is one transaction, written to the disk (`synchronous = FULL`) before
//! the step that it announces. So after a crash at any point, the file says how far things
//! can have gone, and money is reserved in the same commit that allows spending it.
//! Everything is synchronous, and the daemon calls it from its blocking pool. Times, ids and
//! randomness are arguments.
//!
//! - [`error`]: the errors, grouped by who must act.
//! - [`rows`]: the input and output types.
//! - `open`: the file, its versions (`migrations/`), durability, and reading while a daemon runs.
//! - `projects`: sessions and projects. `machines`: rented machines and their money.
//! - `job`: a job's writes, one operation per step: `release`, `progress`, `failover`, `finish`.
//!   `events` is what they share, `annotations` records what changes no state, and
//!   [`crate::ledger::job::transition`] says which state may follow which.
//! - `queries`, `record` (what a job's flow depends on), `money`, `costs`: the queries, on a
//!   [`Reader`] or a [`Ledger`].
//!
//! Considered and rejected: a background thread that groups commits (the hot path has one commit,
//! and the caller must know that it is on the disk before it continues); summing all jobs at each
//! release (see `tally` in the first migration).

pub mod error;
pub mod job;
pub mod rows;
mod sql;
mod open;
mod projects;
mod machines;
mod queries;
mod record;
mod money;
mod costs;
#[cfg(test)]
mod tests;

use std::{ops::Deref, path::PathBuf};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use self::error::{LedgerError, SqlFault};
use crate::failpoint::{self, Point};

/// The name of the ledger's file in the state folder.
pub const FILE: &str = "ledger.sqlite";

/// A ledger that can be read. One is opened for each command or page view and dropped afterwards.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

/// A ledger that can be written. It belongs to the one daemon that holds the lock file.
#[derive(Debug)]
pub struct Ledger {
    reader: Reader,
    files: open::FileIdentity,
}

/// A ledger that can be written can also be read.
impl Deref for Ledger {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Reader {
    /// Runs one read. All of its statements see the same state of the file.
    fn read<T>(
        &self,
        ask: impl FnOnce(&Connection) -> Result<T, SqlFault>,
    ) -> Result<T, LedgerError> {
        let answer = || {
            let transaction = self.connection.unchecked_transaction()?;
            ask(&transaction)
        };
        answer().map_err(|fault| fault.at(&self.path))
    }
}

impl Ledger {
    /// Runs one write in a transaction. It is `Immediate`, so what it reads cannot change before
    /// it writes.
    fn write<T>(
        &mut self,
        point: Point,
        act: impl FnOnce(&Transaction<'_>) -> Result<T, SqlFault>,
    ) -> Result<T, LedgerError> {
        let Reader { connection, path } = &mut self.reader;
        let whole = || {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = act(&transaction)?;
            failpoint::around(point, || transaction.commit())?;
            Ok(result)
        };
        whole().map_err(|fault: SqlFault| fault.at(path))
    }

    /// Moves the content of the write-ahead log into the file, except what a reader still needs. It
    /// costs two or three syncs, so it is called while a machine works and nothing waits for us.
    /// Without these calls, the automatic limit in the file's settings applies.
    pub fn checkpoint(&mut self) -> Result<(), LedgerError> {
        let Reader { connection, path } = &mut self.reader;
        failpoint::around(Point::Checkpoint, || {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        })
        .map_err(|error| SqlFault::from(error).at(path))
    }
}
