//! Switches a job to another backend: the current attempt is ended and booked, and the job is
//! `prepared` again.
//!
//! Owns the one commit in between, and the rule that no second paid attempt follows one that may
//! have been charged. The rule is enforced here as well as in the routing of jobs
//! ([`crate::domain::job::choose_backend`]). The release decides what the next attempt reserves.

use rusqlite::Transaction;

use super::{
    events::{append_event, audit_submit, current, end_attempt, transition},
    finish::settled_basis,
};
use crate::{
    domain::{
        job::{JobId, JobState, attempt::AttemptEnd, choose_backend::BackendKind},
        money::{MicroUsd, job_cost::CostBasis},
        time::WallTime,
    },
    failpoint::Point,
    ledger::{
        Ledger,
        error::{LedgerError, SqlFault},
        rows::{BackendSwitch, Booking},
        sql::{ReadColumn as _, params},
    },
};

/// Returns whether work on a backend of this name may cost money. An unknown one may.
pub(crate) fn is_paid(backend: &str) -> bool {
    BackendKind::from_name(backend).is_none_or(BackendKind::is_paid)
}

/// Returns the error of a paid request that must not be sent.
pub(crate) fn charged_before(job: JobId, backend: &str) -> LedgerError {
    LedgerError::ChargedBefore { job, backend: backend.to_owned() }
}

/// Returns whether a request for a job's work may have been charged, so that none may follow on the
/// paid backend `to`: a paid backend accepted an earlier attempt, or may have, an attempt is paid
/// for already, or the job stands in for one whose answer was lost.
pub(crate) fn may_have_been_charged(
    transaction: &Transaction<'_>,
    job: JobId,
    to: &str,
) -> Result<bool, SqlFault> {
    let (stands_in, settled): (bool, bool) = transaction
        .prepare_cached(
            "SELECT stands_in_for IS NOT NULL, basis IS NOT NULL FROM job WHERE id = ?1",
        )?
        .query_row(params![job], |row| Ok((row.column(0)?, row.column(1)?)))?;
    if stands_in || settled {
        return Ok(true);
    }
    // A request has an id exactly when its backend accepted it. One whose answer was lost may only
    // be asked for where it was sent.
    let taken = transaction
        .prepare_cached(
            "SELECT backend FROM attempt
             WHERE job = ?1 AND (request IS NOT NULL OR outcome = ?2 AND backend <> ?3)",
        )?
        .query_map(params![job, AttemptEnd::AnswerLost, to], |row| row.column::<String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(taken.iter().any(|backend| is_paid(backend)))
}

pub(crate) fn backend(transaction: &Transaction<'_>, job: JobId) -> Result<String, SqlFault> {
    Ok(transaction
        .prepare_cached("SELECT backend FROM job WHERE id = ?1")?
        .query_row(params![job], |row| row.column(0))?)
}

impl Ledger {
    /// Switches a job to another backend, or retries on the same free one. The cost of the
    /// current attempt stays booked. After a request that a paid backend accepted, only a free
    /// backend may follow.
    pub fn switch_backend(&mut self, to: &BackendSwitch) -> Result<(), LedgerError> {
        self.write(Point::Elsewhere, |transaction| {
            let job = to.job;
            let from = current(transaction, job)?;
            let ran = matches!(from.state, JobState::Submitted | JobState::Running);
            let settled = settled_basis(transaction, job)?;
            let is_open = !from.state.is_final();
            if is_open && is_paid(&to.backend) && may_have_been_charged(transaction, job, &to.backend)? {
                return Err(charged_before(job, &to.backend).into());
            }
            if from.state == JobState::Submitting {
                audit_submit(transaction, job, to.at, "refused", MicroUsd::ZERO)?;
            }
            // A request that certainly did not arrive has already ended its attempt.
            if from.state != JobState::Prepared {
                transition(transaction, job, JobState::Prepared, to.at, &to.why)?;
                end_attempt(transaction, job, to.outcome, &to.reason, to.at)?;
            }
            append_event(transaction, job, to.at, "goes to", &format!("{}: {}", to.backend, to.why))?;
            // A settled cost is final: the cost of a paid attempt is kept whatever a free one
            // does afterwards.
            let (spent, basis) = match (settled, ran, to.booking) {
                (Some(basis), ..) => (from.reserved, Some(basis)),
                (None, true, Booking::Cost(cost)) if cost > MicroUsd::ZERO => {
                    (cost, Some(CostBasis::Measured.name().to_owned()))
                }
                (None, true, Booking::AtMost(cost)) if cost > MicroUsd::ZERO => {
                    (cost, Some(CostBasis::Bounded.name().to_owned()))
                }
                (None, true, Booking::Reserved) if from.reserved > MicroUsd::ZERO => {
                    (from.reserved, Some(CostBasis::Reserved.name().to_owned()))
                }
                _ => (MicroUsd::ZERO, None),
            };
            transaction
                .prepare_cached(
                    "UPDATE job SET backend = ?2, deployment = ?3, workflow = ?4, workflow_version = ?5, body_digest = ?6,
                         body_bytes = ?7, summary = ?8, reserved = ?9, basis = ?10, cold_start_ms = 0, keep_warm_ms = 0,
                         hourly = 0
                     WHERE id = ?1",
                )?
                .execute(params![
                    job,
                    &to.backend,
                    &to.deployment,
                    &to.workflow,
                    to.workflow_version,
                    to.body_digest,
                    to.body_bytes.cast_signed(),
                    to.summary.to_string(),
                    spent,
                    basis,
                ])?;
            transaction.prepare_cached("DELETE FROM output WHERE job = ?1")?.execute(params![job])?;
            Ok(())
        })
    }

    /// Records that the answer to a submit is lost, but that the request may be sent again to the
    /// same backend, which can be asked for it.
    pub fn retry_same_backend(
        &mut self,
        job: JobId,
        why: &str,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::NotSent, |transaction| {
            transition(transaction, job, JobState::Prepared, now, why)?;
            end_attempt(transaction, job, AttemptEnd::AnswerLost, why, now)?;
            audit_submit(transaction, job, now, "answer lost", MicroUsd::ZERO)
        })
    }
}
