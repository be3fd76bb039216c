//! The ledger: one SQLite file that remembers sessions, projects, jobs, attempts, artifacts, money and audit events.
//!
//! Each state of a job is one transaction, on the disk (`synchronous = FULL`) before the step that it announces. So a
//! crash at any point leaves a file that says how far things can have gone, and money is reserved in the same commit
//! that says it may be spent. Everything is synchronous, the daemon calls it from its blocking pool; times, ids and
//! randomness are arguments.
//!
//! - [`error`]: what can go wrong, sorted by who must act.
//! - [`crate::ledger::job::transition`]: which state may follow which.
//! - [`rows`]: what goes in and what comes out.
//! - `open`: the file, its versions (`migrations/`), durability, reading beside a running daemon.
//! - `projects`: sessions and projects. `release`, `road`, `ends`: a job's life, one operation a step; `story` is what
//!   they share. `marks`: what is written beside the road. `machines`: rented machines and their money.
//! - `queries`, `money`, `costs`: the questions, to a [`Reader`] or a [`Ledger`].
//!
//! Weighed and dropped: a background thread that groups commits (the hot path has one commit, and the caller must
//! know it is on the disk before it goes on); summing all jobs at each release (see `tally` in the first migration).

pub mod error;
pub mod job;
pub mod rows;
mod sql;
mod open;
mod projects;
mod machines;
mod queries;
mod money;
mod costs;
#[cfg(test)]
mod tests;

use std::{
    ops::Deref,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use self::error::{Fault, LedgerError};
use crate::failpoint::{self, Point};

/// The ledger's file in the state folder.
pub const FILE: &str = "ledger.sqlite";

/// A ledger that can be asked. One is opened for one command or one page view and dropped again.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

/// A ledger that can be written: it belongs to the one daemon that holds the lock file.
#[derive(Debug)]
pub struct Ledger {
    reader: Reader,
    files: open::Files,
}

/// Who writes can also read.
impl Deref for Ledger {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Reader {
    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks one question; several statements in it see one state of the file.
    fn read<T>(&self, ask: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, LedgerError> {
        let answer = || {
            let transaction = self.connection.unchecked_transaction()?;
            ask(&transaction)
        };
        answer().map_err(|fault| fault.at(&self.path))
    }
}

impl Ledger {
    /// Does one thing, whole or not at all. `Immediate`: what it reads cannot change before it writes.
    fn write<T>(
        &mut self,
        point: Point,
        act: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, LedgerError> {
        let Reader { connection, path } = &mut self.reader;
        let whole = || {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = act(&transaction)?;
            failpoint::around(point, || transaction.commit())?;
            Ok(result)
        };
        whole().map_err(|fault: Fault| fault.at(path))
    }

    /// Moves what is in the write-ahead log into the file, as far as no reader needs it there. Costs two or three
    /// syncs, so it is called while a machine works and nobody waits; a ceiling in the file's settings holds without it.
    pub fn checkpoint(&mut self) -> Result<(), LedgerError> {
        let Reader { connection, path } = &mut self.reader;
        failpoint::around(Point::Checkpoint, || {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        })
        .map_err(|error| Fault::from(error).at(path))
    }
}
