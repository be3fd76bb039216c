//! Sums of money, and the times that the next estimate is based on.
//!
//! Owns the queries for [`crate::domain::money::budget`] and [`crate::domain::money::estimate`],
//! but none of their rules.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::{
    Reader,
    error::{LedgerError, SqlFault},
    rows::SessionId,
    sql::{ReadColumn as _, params},
};
use crate::domain::{
    fingerprint::Fingerprint,
    money::{
        MicroUsd,
        budget::{BudgetWindows, Spent},
        estimate::{DurationSpread, MachineActivity, PastTimings},
    },
    time::WallTime,
};

/// How many of the newest successes are used: enough for a spread, few enough to follow a
/// changed machine.
const MAX_SAMPLES: usize = 50;

impl Reader {
    /// Returns the money spent: booked costs, or the reservation if nothing is booked.
    pub fn spent(&self, session: SessionId, windows: &BudgetWindows) -> Result<Spent, LedgerError> {
        self.read(|connection| spent(connection, session, windows))
    }

    /// Returns how long the newest successes took, for a backend and a version of a workflow.
    pub fn learned(
        &self,
        backend: &str,
        workflow_version: &Fingerprint,
    ) -> Result<PastTimings, LedgerError> {
        self.read(|connection| {
            // Cold starts are rare if a machine is kept warm, so each kind has its own
            // newest fifty.
            let newest = |column: &str, condition: &str| {
                let sql = format!(
                    "SELECT {column} FROM job INDEXED BY job_learned
                     WHERE state = 'done' AND run_ms IS NOT NULL AND backend = ?1 AND workflow_version = ?2
                         AND {column} IS NOT NULL AND {condition}
                     ORDER BY ended_at DESC LIMIT {MAX_SAMPLES}"
                );
                let mut statement = connection.prepare_cached(&sql)?;
                let samples = statement
                    .query_map(params![backend, workflow_version], |row| row.column::<i64>(0))?
                    .map(|millis| Ok(Duration::from_millis(u64::try_from(millis?).unwrap_or(0))))
                    .collect::<Result<Vec<_>, rusqlite::Error>>()?;
                Ok::<_, SqlFault>(DurationSpread::of(samples))
            };
            Ok(PastTimings {
                cold: newest("queue_ms", "cold = 1")?,
                queue: newest("queue_ms", "cold = 0")?,
                run: newest("run_ms", "TRUE")?,
            })
        })
    }

    /// Returns when a deployment's machine was last known to be working.
    pub fn last_activity(&self, deployment: &str) -> Result<MachineActivity, LedgerError> {
        self.read(|connection| {
            let works = connection
                .prepare_cached(
                    "SELECT 1 FROM attempt WHERE deployment = ?1 AND busy_at IS NOT NULL AND ended_at IS NULL LIMIT 1",
                )?
                .exists(params![deployment])?;
            if works {
                return Ok(MachineActivity::Now);
            }
            let last: Option<WallTime> = connection
                .prepare_cached(
                    "SELECT busy_at FROM attempt WHERE deployment = ?1 AND busy_at IS NOT NULL
                     ORDER BY busy_at DESC LIMIT 1",
                )?
                .query_row(params![deployment], |row| row.column(0))
                .optional()?;
            Ok(last.map_or(MachineActivity::Never, MachineActivity::Until))
        })
    }
}

/// Sums the money spent, within the caller's connection or transaction. Whole hours come from the
/// tally; the hour in which a window begins is summed from its jobs and machines. So the effort
/// does not grow with the ledger, and the sums are exact to the millisecond.
pub(super) fn spent(
    connection: &Connection,
    session: SessionId,
    windows: &BudgetWindows,
) -> Result<Spent, SqlFault> {
    let mut since = connection.prepare_cached(
        "SELECT (SELECT coalesce(sum(spent), 0) FROM tally WHERE hour > ?1 / 3600000)
             + (SELECT coalesce(sum(coalesce(booked, reserved)), 0) FROM job
                WHERE created_at >= ?1 AND created_at < (?1 / 3600000 + 1) * 3600000)
             + (SELECT coalesce(sum(coalesce(booked, reserved)), 0) FROM machine
                WHERE created_at >= ?1 AND created_at < (?1 / 3600000 + 1) * 3600000)",
    )?;
    let mut since = |start: WallTime| since.query_row(params![start], |row| row.column(0));
    let of_session = connection
        .prepare_cached("SELECT spent FROM session WHERE id = ?1")?
        .query_row(params![session.0], |row| row.column(0))
        .optional()?;
    Ok(Spent {
        session: of_session.unwrap_or_default(),
        day: since(windows.day_start)?,
        month: since(windows.month_start)?,
    })
}

/// Compares the stored sums with the jobs and machines that they add up. Returns `None` if
/// they agree.
pub(super) fn find_mismatch(connection: &Connection) -> Result<Option<String>, SqlFault> {
    let sum = |sql: &str| connection.query_row(sql, [], |row| row.column::<MicroUsd>(0));
    let of = |table: &str| {
        sum(&format!("SELECT coalesce(sum(coalesce(booked, reserved)), 0) FROM {table}"))
    };
    let jobs = of("job")? + of("machine")?;
    let hours = sum("SELECT coalesce(sum(spent), 0) FROM tally")?;
    let sessions = sum("SELECT coalesce(sum(spent), 0) FROM session")?;
    let differ = jobs != hours || jobs != sessions;
    Ok(differ.then(|| {
        format!(
            "the costs of jobs and machines add up to {jobs}, but the sums per hour to {hours} and per session to {sessions}"
        )
    }))
}
