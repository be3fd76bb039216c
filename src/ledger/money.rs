//! Sums of money, and the times from which the next estimate learns.
//!
//! Owns the queries behind [`crate::domain::budget`] and [`crate::domain::estimate`], no rule of either.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::{
    Reader,
    error::{Fault, LedgerError},
    rows::SessionId,
};
use crate::domain::{
    budget::{Spent, Windows},
    estimate::{Activity, Learned, Spread},
    fingerprint::Fingerprint,
    moment::WallTime,
};

/// How many of the newest successes are learned from: enough for a spread, few enough to follow a changed machine.
const LEARN_FROM: usize = 50;

impl Reader {
    /// Returns what is spent: booked costs, and reservations where nothing is booked.
    pub fn spent(&self, session: SessionId, windows: &Windows) -> Result<Spent, LedgerError> {
        self.read(|connection| spent(connection, session, windows))
    }

    /// Returns how long the newest successes of a backend with a version of a workflow took.
    pub fn learned(
        &self,
        backend: &str,
        workflow_version: &Fingerprint,
    ) -> Result<Learned, LedgerError> {
        self.read(|connection| {
            // Cold starts are rare where a machine is kept warm, so each kind has its own newest fifty.
            let newest = |column: &str, condition: &str| {
                let sql = format!(
                    "SELECT {column} FROM job INDEXED BY job_learned
                     WHERE state = 'done' AND run_ms IS NOT NULL AND backend = ?1 AND workflow_version = ?2
                         AND {column} IS NOT NULL AND {condition}
                     ORDER BY ended_at DESC LIMIT {LEARN_FROM}"
                );
                let mut statement = connection.prepare_cached(&sql)?;
                let samples = statement
                    .query_map((backend, workflow_version), |row| row.get::<_, i64>(0))?
                    .map(|millis| Ok(Duration::from_millis(u64::try_from(millis?).unwrap_or(0))))
                    .collect::<Result<Vec<_>, rusqlite::Error>>()?;
                Ok::<_, Fault>(Spread::of(samples))
            };
            Ok(Learned {
                cold: newest("queue_ms", "cold = 1")?,
                queue: newest("queue_ms", "cold = 0")?,
                run: newest("run_ms", "TRUE")?,
            })
        })
    }

    /// Returns when a deployment's machine was last known to be at work.
    pub fn last_activity(&self, deployment: &str) -> Result<Activity, LedgerError> {
        self.read(|connection| {
            let works = connection
                .prepare_cached(
                    "SELECT 1 FROM attempt WHERE deployment = ?1 AND busy_at IS NOT NULL AND ended_at IS NULL LIMIT 1",
                )?
                .exists([deployment])?;
            if works {
                return Ok(Activity::Now);
            }
            let last: Option<WallTime> = connection
                .prepare_cached(
                    "SELECT busy_at FROM attempt WHERE deployment = ?1 AND busy_at IS NOT NULL
                     ORDER BY busy_at DESC LIMIT 1",
                )?
                .query_row([deployment], |row| row.get(0))
                .optional()?;
            Ok(last.map_or(Activity::Never, Activity::Until))
        })
    }
}

/// Sums what is spent, on whatever connection or transaction asks.
pub(super) fn spent(
    connection: &Connection,
    session: SessionId,
    windows: &Windows,
) -> Result<Spent, Fault> {
    let sums = connection
        .prepare_cached(
            "SELECT
                 (SELECT coalesce(sum(coalesce(booked, reserved)), 0) FROM job WHERE session = ?1),
                 (SELECT coalesce(sum(coalesce(booked, reserved)), 0) FROM job WHERE created_at >= ?2),
                 (SELECT coalesce(sum(coalesce(booked, reserved)), 0) FROM job WHERE created_at >= ?3)",
        )?
        .query_row((session.0, windows.day_start, windows.month_start), |row| {
            Ok(Spent { session: row.get(0)?, day: row.get(1)?, month: row.get(2)? })
        })?;
    Ok(sums)
}
