//! Records that do not change a job's state: cancel requests, ratings, notes, and the audit.
//!
//! Owns these operations. They are allowed in every state unless their documentation
//! says otherwise.

use rusqlite::Transaction;

use super::events::{Current, MAX_NOTE_CHARS, append_event, audit, current, update_attempt_sql};
use crate::{
    domain::{
        job::{
            JobId, JobState,
            cancel::{CancelReason, CancelSent},
            control::JobControl,
        },
        money::MicroUsd,
        time::WallTime,
    },
    failpoint::Point,
    ledger::{
        Ledger,
        error::{LedgerError, SqlFault},
        rows::AuditRow,
        sql::{ReadColumn as _, params, truncate},
    },
};

impl Ledger {
    /// Raises the control over a job; a lower one than the stored one changes nothing. After a
    /// restart the job's task gets it again, and nothing of a cancelled job is placed from now on.
    /// Fails for a job that has ended or is being placed.
    pub fn raise_control(
        &mut self,
        job: JobId,
        control: JobControl,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::RaiseControl, |transaction| {
            let Current { state, .. } = current(transaction, job)?;
            if state.is_final() || state.is_placing() {
                let to = JobState::Cancelled;
                return Err(LedgerError::Illegal { job, from: state, to }.into());
            }
            let stored: JobControl = transaction
                .prepare_cached("SELECT control FROM job WHERE id = ?1")?
                .query_row(params![job], |row| row.column(0))?;
            if control <= stored {
                return Ok(());
            }
            transaction
                .prepare_cached("UPDATE job SET control = ?2 WHERE id = ?1")?
                .execute(params![job, control])?;
            let kind = match control {
                JobControl::Cancel => "cancel wanted",
                JobControl::Continue | JobControl::Supersede => "newer change",
            };
            append_event(transaction, job, now, kind, "")
        })
    }

    /// Records that a backend was asked to stop a job's newest request: in the attempt, for the
    /// job's flow, and in the audit.
    pub fn cancel_sent(&mut self, job: JobId, cancel: CancelSent) -> Result<(), LedgerError> {
        let CancelSent { why, reply, at } = cancel;
        self.write(Point::Audit, |transaction| {
            current(transaction, job)?;
            transaction
                .prepare_cached(&update_attempt_sql(
                    "cancel_at = ?2, cancel_reason = ?3, cancel_outcome = ?4",
                ))?
                .execute(params![job, at, why, reply])?;
            audit_cancel(transaction, job, cancel)
        })
    }

    /// Records in the audit that a backend did not answer a cancel, so that it is sent again.
    pub fn cancel_unanswered(&mut self, job: JobId, cancel: CancelSent) -> Result<(), LedgerError> {
        self.write(Point::Audit, |transaction| audit_cancel(transaction, job, cancel))
    }

    /// Records that the work of a job whose answer is lost is sent again automatically, which
    /// happens once for the same inputs. Returns whether that is allowed; `note` is for people.
    pub fn resubmit_once(
        &mut self,
        job: JobId,
        note: &str,
        now: WallTime,
    ) -> Result<bool, LedgerError> {
        self.write(Point::Note, |transaction| {
            let marked = transaction
                .prepare_cached(
                    "UPDATE job SET resubmitted = 1
                     WHERE id = ?1 AND state = ?2 AND retry_of IS NULL AND NOT EXISTS (
                         SELECT 1 FROM job AS other WHERE other.project = job.project
                             AND other.prompt_fp = job.prompt_fp AND other.render_fp = job.render_fp
                             AND other.resubmitted)",
                )?
                .execute(params![job, JobState::Unknown])?;
            if marked == 1 {
                append_event(transaction, job, now, "resubmitted", note)?;
            }
            Ok(marked == 1)
        })
    }

    /// Adds a line to a job's events, in any state.
    pub fn note(
        &mut self,
        job: JobId,
        kind: &str,
        note: &str,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::Note, |transaction| {
            current(transaction, job)?;
            append_event(transaction, job, now, kind, note)
        })
    }

    /// Records the artist's rating of a result: 1 to 5 and a few words. A second rating overwrites
    /// the first.
    pub fn rate(
        &mut self,
        job: JobId,
        stars: u8,
        note: &str,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        if !(1..=5).contains(&stars) {
            return Err(LedgerError::NotARating(stars));
        }
        self.write(Point::Rate, |transaction| {
            current(transaction, job)?;
            transaction
                .prepare_cached("UPDATE job SET rating = ?2, rating_note = ?3 WHERE id = ?1")?
                .execute(params![job, stars, truncate(note, MAX_NOTE_CHARS)])?;
            append_event(transaction, job, now, "rated", &stars.to_string())
        })
    }

    /// Records a call that spent money or changed something outside. Submits are recorded by the
    /// steps of a job.
    pub fn audit(&mut self, row: &AuditRow) -> Result<(), LedgerError> {
        self.write(Point::Audit, |transaction| audit(transaction, row))
    }

    /// Adds to the number of bytes downloaded for a job.
    pub fn add_received(&mut self, job: JobId, bytes: u64) -> Result<(), LedgerError> {
        self.write(Point::Note, |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE job SET received_bytes = received_bytes + ?2 WHERE id = ?1",
                )?
                .execute(params![job, bytes.cast_signed()])?;
            Ok(())
        })
    }

    /// Records that a job's artifacts were restored under the public names, or that the attempt
    /// failed: one event and one audit row.
    pub fn restored(
        &mut self,
        job: JobId,
        outcome: &str,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::Audit, |transaction| {
            current(transaction, job)?;
            append_event(transaction, job, now, "restored", outcome)?;
            let (what, cost) = ("restore".to_owned(), MicroUsd::ZERO);
            let outcome = outcome.to_owned();
            audit(transaction, &AuditRow { at: now, what, job: Some(job), outcome, cost })
        })
    }
}

fn audit_cancel(
    transaction: &Transaction<'_>,
    job: JobId,
    CancelSent { why, reply, at }: CancelSent,
) -> Result<(), SqlFault> {
    let why = match why {
        CancelReason::Person => "cancelled by a person",
        CancelReason::Superseded => "replaced by a newer change",
        CancelReason::QueueTimeout | CancelReason::RunTimeout => "timed out",
    };
    let (what, outcome) = ("cancel".to_owned(), format!("{}: {why}", reply.name()));
    audit(transaction, &AuditRow { at, what, job: Some(job), outcome, cost: MicroUsd::ZERO })
}
