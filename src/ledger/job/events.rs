//! The writes that the steps of a job share: its state, its events, its newest attempt, and the
//! audit of its submits.
//!
//! Owns the helpers inside a transaction. `progress` and `finish` decide which operation uses
//! which. Only here is it checked that no step violates the table of [`super::transition`].

use rusqlite::{OptionalExtension, Transaction};

use super::transition::may_become;
use crate::{
    domain::{
        job::{JobId, JobState, attempt::AttemptEnd},
        money::MicroUsd,
        time::WallTime,
    },
    ledger::{
        error::{LedgerError, SqlFault},
        rows::AuditRow,
        sql::{ReadColumn as _, params, truncate},
    },
};

/// The longest note or reason that is stored, in characters: a service may send pages of a
/// stack trace.
pub(in crate::ledger) const MAX_NOTE_CHARS: usize = 2000;

/// A job before a step.
pub(in crate::ledger) struct Current {
    pub(in crate::ledger) state: JobState,
    /// When it entered that state.
    pub(in crate::ledger) since: WallTime,
    /// The money reserved for it.
    pub(in crate::ledger) reserved: MicroUsd,
}

pub(in crate::ledger) fn current(
    transaction: &Transaction<'_>,
    job: JobId,
) -> Result<Current, SqlFault> {
    transaction
        .prepare_cached("SELECT state, state_at, reserved FROM job WHERE id = ?1")?
        .query_row(params![job], |row| {
            Ok(Current { state: row.column(0)?, since: row.column(1)?, reserved: row.column(2)? })
        })
        .optional()?
        .ok_or_else(|| LedgerError::NoSuchJob(job.to_string()).into())
}

/// Changes a job's state and adds an event; returns the job as it was before. A repeated state adds
/// no event.
pub(in crate::ledger) fn transition(
    transaction: &Transaction<'_>,
    job: JobId,
    to: JobState,
    now: WallTime,
    note: &str,
) -> Result<Current, SqlFault> {
    let before = current(transaction, job)?;
    let from = before.state;
    if !may_become(from, to) {
        return Err(LedgerError::Illegal { job, from, to }.into());
    }
    if from != to {
        transaction
            .prepare_cached(
                "UPDATE job SET state = ?2, state_at = ?3, ended_at = ?4 WHERE id = ?1",
            )?
            .execute(params![job, to, now, to.is_final().then_some(now)])?;
        append_event(transaction, job, now, to.name(), note)?;
    }
    Ok(before)
}

/// Adds a line to a job's events.
pub(in crate::ledger) fn append_event(
    transaction: &Transaction<'_>,
    job: JobId,
    at: WallTime,
    kind: &str,
    note: &str,
) -> Result<(), SqlFault> {
    transaction
        .prepare_cached("INSERT INTO event (job, at, kind, note) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            job,
            at,
            truncate(kind, MAX_NOTE_CHARS),
            truncate(note, MAX_NOTE_CHARS)
        ])?;
    Ok(())
}

/// Returns a statement that changes a job's newest attempt; the job's id is its first parameter.
pub(in crate::ledger) fn update_attempt_sql(assignments: &str) -> String {
    format!(
        "UPDATE attempt SET {assignments}
         WHERE job = ?1 AND number = (SELECT attempts FROM job WHERE id = ?1)"
    )
}

/// Ends the newest attempt, unless it has ended. A more specific outcome replaces the end of a run.
/// `reason` is for people; it may be empty.
pub(in crate::ledger) fn end_attempt(
    transaction: &Transaction<'_>,
    job: JobId,
    outcome: AttemptEnd,
    reason: &str,
    now: WallTime,
) -> Result<(), SqlFault> {
    let sql = update_attempt_sql(
        "busy_at = CASE WHEN busy_at IS NULL OR ended_at IS NOT NULL THEN busy_at ELSE ?3 END,
         outcome = CASE WHEN outcome IS NULL OR outcome = ?4 THEN ?2 ELSE outcome END,
         reason = CASE WHEN outcome IS NULL OR outcome = ?4 THEN nullif(?5, '') ELSE reason END,
         ended_at = coalesce(ended_at, ?3)",
    );
    let reason = truncate(reason, MAX_NOTE_CHARS);
    transaction.prepare_cached(&sql)?.execute(params![
        job,
        outcome,
        now,
        AttemptEnd::RunEnded,
        reason
    ])?;
    Ok(())
}

pub(in crate::ledger) fn audit(
    transaction: &Transaction<'_>,
    row: &AuditRow,
) -> Result<(), SqlFault> {
    let AuditRow { at, what, job, outcome, cost } = row;
    transaction
        .prepare_cached(
            "INSERT INTO audit (at, what, job, outcome, cost) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            at,
            truncate(what, MAX_NOTE_CHARS),
            job,
            truncate(outcome, MAX_NOTE_CHARS),
            cost
        ])?;
    Ok(())
}

/// Adds an audit row for a submit.
pub(in crate::ledger) fn audit_submit(
    transaction: &Transaction<'_>,
    job: JobId,
    at: WallTime,
    outcome: &str,
    cost: MicroUsd,
) -> Result<(), SqlFault> {
    let (what, outcome) = ("submit".to_owned(), outcome.to_owned());
    audit(transaction, &AuditRow { at, what, job: Some(job), outcome, cost })
}
