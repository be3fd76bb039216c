//! How jobs end, and what happens to their money.
//!
//! Owns the five ends and the recovery of lost answers. The reservation of an `unknown` job stays
//! for ever, a request that was never sent costs nothing, and a run costs what was measured. Only a
//! person can end an `unknown` job.

use rusqlite::Transaction;

use super::events::{
    Current, MAX_NOTE_CHARS, audit, audit_submit, current, end_attempt, transition,
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
        rows::{AuditRow, Booking, Reason, Timing},
        sql::{ReadColumn as _, millis, params, truncate},
    },
};

/// The reason code of a settled job whose work was sent again; `replaced_by` then names the
/// newer job.
pub const RETRIED: &str = "retried";

impl Ledger {
    /// Ends a job successfully: replaces the reservation by the measured cost and stores its times
    /// for estimates.
    pub fn done(
        &mut self,
        job: JobId,
        cost: impl Into<Booking>,
        timing: Timing,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        let booking = cost.into();
        self.write(Point::Done, |transaction| {
            end(transaction, job, JobState::Done, None, booking, now)?;
            transaction
                .prepare_cached(
                    "UPDATE job SET queue_ms = ?2, run_ms = ?3, cold = ?4 WHERE id = ?1",
                )?
                .execute(params![
                    job,
                    timing.queue.map(millis),
                    timing.run.map(millis),
                    timing.cold
                ])?;
            Ok(())
        })
    }

    /// Ends a job without a mesh. A request that was never sent costs nothing, whatever
    /// `booking` says.
    pub fn failed(
        &mut self,
        job: JobId,
        reason: &Reason,
        booking: Booking,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::Failed, |transaction| {
            let before = end(transaction, job, JobState::Failed, Some(reason), booking, now)?;
            if before.state == JobState::Submitting {
                audit_submit(transaction, job, now, "refused", MicroUsd::ZERO)?;
            }
            Ok(())
        })
    }

    /// Ends a job that a person cancelled. Also settles an `unknown` job, which is a decision about
    /// money and is audited as such.
    pub fn cancelled(
        &mut self,
        job: JobId,
        reason: &Reason,
        booking: Booking,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::Cancelled, |transaction| {
            let before = end(transaction, job, JobState::Cancelled, Some(reason), booking, now)?;
            if before.state == JobState::Unknown {
                audit_settled(transaction, job, "cancelled", before.reserved, now)?;
            }
            Ok(())
        })
    }

    /// Ends a job because `by` replaces it; the newer job need not be in the ledger yet.
    pub fn replaced(
        &mut self,
        job: JobId,
        by: Option<JobId>,
        booking: Booking,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::Replaced, |transaction| {
            let reason = Reason::new("replaced", "a newer prompt or render replaced it");
            end(transaction, job, JobState::Replaced, Some(&reason), booking, now)?;
            transaction
                .prepare_cached("UPDATE job SET replaced_by = ?2 WHERE id = ?1")?
                .execute(params![job, by])?;
            Ok(())
        })
    }

    /// Ends a job if it is unknown whether the backend has its request. Its reservation counts
    /// as spent.
    pub fn unknown(
        &mut self,
        job: JobId,
        reason: &Reason,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::Unknown, |transaction| mark_lost(transaction, job, reason, now))
    }

    /// Does for one job what [`Self::mark_lost_answers`] does for all, if the outcome of its submit
    /// could not be recorded.
    pub fn mark_lost_answer(&mut self, job: JobId, now: WallTime) -> Result<(), LedgerError> {
        self.write(Point::MarkLost, |transaction| {
            if may_ask_again(&super::failover::backend(transaction, job)?) {
                return requeue(transaction, job, now);
            }
            mark_lost(transaction, job, &lost_answer(), now)
        })
    }

    /// Marks as `unknown` the jobs that were being submitted when the process died, and returns
    /// them. A job whose backend can be asked for the request, or where it costs nothing, becomes
    /// `prepared` again instead. Called once, before anything is sent.
    pub fn mark_lost_answers(&mut self, now: WallTime) -> Result<Vec<JobId>, LedgerError> {
        self.write(Point::MarkLost, |transaction| {
            let mut lost = transaction
                .prepare_cached("SELECT id, backend FROM job WHERE state = ?1 ORDER BY id")?
                .query_map(params![JobState::Submitting], |row| {
                    Ok((row.column(0)?, row.column(1)?))
                })?
                .collect::<Result<Vec<(JobId, String)>, _>>()?;
            for (job, _) in lost.extract_if(.., |(_, backend)| may_ask_again(backend)) {
                requeue(transaction, job, now)?;
            }
            let lost: Vec<JobId> = lost.into_iter().map(|(job, _)| job).collect();
            for &job in &lost {
                mark_lost(transaction, job, &lost_answer(), now)?;
            }
            Ok(lost)
        })
    }
}

/// Returns whether a lost answer of this backend can be requested again, or costs nothing
/// to repeat.
fn may_ask_again(backend: &str) -> bool {
    BackendKind::from_name(backend).is_some_and(BackendKind::is_repeatable)
}

fn requeue(transaction: &Transaction<'_>, job: JobId, now: WallTime) -> Result<(), SqlFault> {
    let why = "conjured stopped before the answer; it asks the backend for the request, and \
               resubmits it if it never arrived";
    transition(transaction, job, JobState::Prepared, now, why)?;
    end_attempt(transaction, job, AttemptEnd::AnswerLost, why, now)
}

fn lost_answer() -> Reason {
    Reason::new(
        "lost_answer",
        "conjured stopped between sending the request and reading the answer; it is unknown whether the request runs",
    )
}

/// Ends a job: state, reason, money and its attempt.
fn end(
    transaction: &Transaction<'_>,
    job: JobId,
    to: JobState,
    reason: Option<&Reason>,
    booking: Booking,
    now: WallTime,
) -> Result<Current, SqlFault> {
    let before = transition(transaction, job, to, now, reason.map_or("", |reason| &reason.text))?;
    let (booked, basis) = match (before.state, booking) {
        (JobState::Prepared, _) | (_, Booking::Nothing) => {
            (Some(MicroUsd::ZERO), CostBasis::Nothing)
        }
        (_, Booking::Cost(cost)) => (Some(cost), CostBasis::Measured),
        (_, Booking::AtMost(cost)) => (Some(cost), CostBasis::Bounded),
        (_, Booking::Reserved) => (None, CostBasis::Reserved),
    };
    // A basis before the end means that a paid attempt was settled when the job switched to a
    // free backend.
    let settled = if before.state.is_final() { None } else { settled_basis(transaction, job)? };
    let (booked, basis) = match settled {
        Some(basis) => (Some(before.reserved), basis),
        None => (booked, basis.name().to_owned()),
    };
    transaction
        .prepare_cached(
            "UPDATE job SET booked = ?2, reason_code = ?3, reason = ?4, basis = ?5 WHERE id = ?1",
        )?
        .execute(params![
            job,
            booked,
            reason.map(|reason| truncate(&reason.code, MAX_NOTE_CHARS)),
            reason.map(|reason| truncate(&reason.text, MAX_NOTE_CHARS)),
            basis,
        ])?;
    let text = reason.map_or("", |reason| &reason.text);
    end_attempt(transaction, job, AttemptEnd::JobEnded(to), text, now)?;
    Ok(before)
}

/// Returns how the cost of an open job was determined if its paid attempt is over.
pub(in crate::ledger) fn settled_basis(
    transaction: &Transaction<'_>,
    job: JobId,
) -> Result<Option<String>, SqlFault> {
    Ok(transaction
        .prepare_cached("SELECT basis FROM job WHERE id = ?1")?
        .query_row(params![job], |row| row.column(0))?)
}

fn mark_lost(
    transaction: &Transaction<'_>,
    job: JobId,
    reason: &Reason,
    now: WallTime,
) -> Result<(), SqlFault> {
    let before = end(transaction, job, JobState::Unknown, Some(reason), Booking::Reserved, now)?;
    if before.state == JobState::Submitting {
        audit_submit(transaction, job, now, "unknown", before.reserved)?;
    }
    Ok(())
}

/// Settles an `unknown` job because `by` repeats its work. It no longer needs a decision; its money
/// stays counted. A job that ended in another way is not changed.
pub(in crate::ledger) fn close_retried(
    transaction: &Transaction<'_>,
    job: JobId,
    by: JobId,
    now: WallTime,
) -> Result<(), SqlFault> {
    if current(transaction, job)?.state != JobState::Unknown {
        return Ok(());
    }
    let text = format!("its work was sent again as job {by}; its own cost still counts as spent");
    let reason = Reason::new(RETRIED, text);
    let before = end(transaction, job, JobState::Cancelled, Some(&reason), Booking::Reserved, now)?;
    transaction
        .prepare_cached("UPDATE job SET replaced_by = ?2 WHERE id = ?1")?
        .execute(params![job, by])?;
    audit_settled(transaction, job, "retried", before.reserved, now)
}

fn audit_settled(
    transaction: &Transaction<'_>,
    job: JobId,
    outcome: &str,
    cost: MicroUsd,
    now: WallTime,
) -> Result<(), SqlFault> {
    audit(
        transaction,
        &AuditRow {
            at: now,
            what: "settle".to_owned(),
            job: Some(job),
            outcome: outcome.to_owned(),
            cost,
        },
    )
}
