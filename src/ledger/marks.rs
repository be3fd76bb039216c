//! What is written beside a job's road: a person's wishes and ratings, notes, and the audit.
//!
//! Owns the operations that change no state. They are allowed in every state unless they say otherwise.

use super::{
    Ledger,
    error::LedgerError,
    rows::AuditRow,
    sql::cut,
    story::{Current, MOST_WORDS, current, tell},
};
use crate::{
    domain::{
        job::{JobId, State},
        moment::WallTime,
    },
    failpoint::Point,
};

impl Ledger {
    /// Remembers that a person wants the job cancelled, so that a restart asks the backend again. An ended job is refused.
    pub fn want_cancel(&mut self, job: JobId, now: WallTime) -> Result<(), LedgerError> {
        self.write(Point::WantCancel, |transaction| {
            let Current { state, .. } = current(transaction, job)?;
            if state.is_final() {
                let to = State::Cancelled;
                return Err(LedgerError::Illegal { job, from: state, to }.into());
            }
            transaction
                .prepare_cached("UPDATE job SET cancel_wanted = 1 WHERE id = ?1")?
                .execute([job])?;
            tell(transaction, job, now, "cancel wanted", "")
        })
    }

    /// Adds a line to a job's story, in whatever state it is.
    pub fn note(
        &mut self,
        job: JobId,
        kind: &str,
        note: &str,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::Note, |transaction| {
            current(transaction, job)?;
            tell(transaction, job, now, kind, note)
        })
    }

    /// Keeps how the artist liked a result: 1 to 5 and a few words. A second rating takes the place of the first.
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
                .execute((job, stars, cut(note, MOST_WORDS)))?;
            tell(transaction, job, now, "rated", &stars.to_string())
        })
    }

    /// Records a call that spent or changed something outside. Submits are recorded by the steps of a job themselves.
    pub fn audit(&mut self, row: &AuditRow) -> Result<(), LedgerError> {
        let AuditRow { at, what, job, outcome, cost } = row;
        self.write(Point::Audit, |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO audit (at, what, job, outcome, cost) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute((at, cut(what, MOST_WORDS), job, cut(outcome, MOST_WORDS), cost))?;
            Ok(())
        })
    }
}
