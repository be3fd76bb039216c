//! The start of a job: budget, row, events and baseline in one commit.
//!
//! Owns the release and the mark before a submit; an `unknown` job whose work is released again is
//! settled in the same commit. [`crate::domain::money::budget`] owns the rule for the budget. It
//! gets its sums here, inside the transaction that also reserves, so that two processes cannot both
//! spend the last cents.

use rusqlite::Transaction;

use super::{
    events::{Current, append_event, current, transition},
    failover::{backend, charged_before, is_paid, may_have_been_charged},
    finish::{close_retried, settled_basis},
};
use crate::{
    domain::{
        job::{JobId, JobState},
        money::{
            MicroUsd,
            budget::{self, BudgetLimits, BudgetWindows},
            job_cost::PriceTerms,
        },
        time::WallTime,
    },
    failpoint::Point,
    ledger::{
        Ledger,
        error::{LedgerError, ReleaseError, SqlFault},
        money::spent,
        rows::{BudgetChange, DelayedSubmit, NewJob, ReleaseMode},
        sql::{ReadColumn as _, millis, named_params, params, truncate},
    },
};

/// How many characters of a prompt lists show.
const EXCERPT: usize = 160;

impl Ledger {
    /// Releases a job: checks `limits`, reserves its money, records it and moves its project's
    /// baseline to its inputs. Which job it stands in for is recorded in the same commit, so that
    /// no crash can leave a row that may be sent to a paid backend by mistake.
    ///
    /// If this returns `Ok`, all of it is on the disk. If it returns an error, none of it is.
    pub fn release(
        &mut self,
        job: &NewJob,
        limits: &BudgetLimits,
        windows: &BudgetWindows,
        announce: ReleaseMode,
    ) -> Result<BudgetChange, ReleaseError> {
        self.verify_in_place()?;
        let verdict = self.write(Point::Release, |transaction| {
            let before = spent(transaction, job.session, windows)?;
            if let Err(refusal) = budget::decide(limits, &before, job.reserve) {
                return Ok(Err(refusal));
            }
            if job.stands_in_for.is_some() && is_paid(&job.backend) {
                return Err(charged_before(job.id, &job.backend).into());
            }
            insert(transaction, job)?;
            if let Some(earlier) = job.retry_of {
                close_retried(transaction, earlier, job.id, job.at)?;
            }
            append_event(transaction, job.id, job.at, JobState::Prepared.name(), "")?;
            if let Some(why) = &job.why {
                append_event(transaction, job.id, job.at, "goes to", &format!("{}: {why}", job.backend))?;
            }
            if job.moves_baseline {
                transaction
                    .prepare_cached(
                        "UPDATE project SET baseline_prompt = ?2, baseline_render = ?3, last_seen = ?4 WHERE id = ?1",
                    )?
                    .execute(params![job.project.0, job.inputs.prompt, job.inputs.render, job.at])?;
            }
            if announce == ReleaseMode::Submitting {
                begin_attempt(transaction, job.id, job.at)?;
            }
            let after = before.with(job.reserve);
            Ok(Ok(BudgetChange { before, spent: after }))
        })?;
        Ok(verdict?)
    }

    /// Marks that the request of a job that was released earlier is about to be sent, and begins an
    /// attempt. Its expected cost now replaces the amount reserved before; the increase must fit
    /// into `limits`. Nothing may be sent before this is on the disk. If it returns an error,
    /// nothing has changed.
    pub fn submitting(
        &mut self,
        leaving: &DelayedSubmit,
        limits: &BudgetLimits,
        windows: &BudgetWindows,
    ) -> Result<BudgetChange, ReleaseError> {
        self.verify_in_place()?;
        let DelayedSubmit { job, session, reserve, terms, at } = *leaving;
        let verdict = self.write(Point::Submitting, |transaction| {
            let before = spent(transaction, session, windows)?;
            let Current { state, reserved: old, .. } = current(transaction, job)?;
            let cached_from: Option<JobId> = transaction
                .prepare_cached("SELECT cached_from FROM job WHERE id = ?1")?
                .query_row(params![job], |row| row.column(0))?;
            if cached_from.is_some() {
                return Err(LedgerError::ReusesResult(job).into());
            }
            let to = backend(transaction, job)?;
            if !state.is_final() && is_paid(&to) && may_have_been_charged(transaction, job, &to)? {
                return Err(charged_before(job, &to).into());
            }
            // The amount already reserved was allowed once: a limit that was lowered since affects
            // only new jobs.
            if reserve > old
                && let Err(refusal) = budget::decide(limits, &before.without(old), reserve)
            {
                return Ok(Err(refusal));
            }
            begin_attempt(transaction, job, at)?;
            // The cost of a paid attempt stays booked: a free backend follows it, whose own price
            // is zero.
            if let Some(terms) = terms
                && settled_basis(transaction, job)?.is_none()
            {
                renew(transaction, job, reserve, &terms)?;
            }
            Ok(Ok(BudgetChange { before, spent: spent(transaction, session, windows)? }))
        })?;
        Ok(verdict?)
    }
}

/// Replaces the terms of a job's release and their price.
fn renew(
    transaction: &Transaction<'_>,
    job: JobId,
    reserve: MicroUsd,
    terms: &PriceTerms,
) -> Result<(), SqlFault> {
    transaction
        .prepare_cached(
            "UPDATE job SET reserved = ?2, cold_start_ms = ?3, keep_warm_ms = ?4, hourly = ?5 WHERE id = ?1",
        )?
        .execute(params![
            job,
            reserve,
            terms.cold_start.map_or(0, millis),
            millis(terms.keep_warm),
            terms.hourly,
        ])?;
    Ok(())
}

fn insert(transaction: &Transaction<'_>, job: &NewJob) -> Result<(), SqlFault> {
    transaction
        .prepare_cached(
            "INSERT INTO job (id, project, session, cause, state, prompt_fp, render_fp, prompt_excerpt, workflow,
                 workflow_version, body_digest, body_bytes, seed, mesh_seed, summary, mode, backend, deployment,
                 created_at, state_at, retry_of, stands_in_for, cached_from, out, reserved, cold_start_ms, keep_warm_ms, hourly)
             VALUES (:id, :project, :session, :cause, :state, :prompt, :render, :excerpt, :workflow,
                 :workflow_version, :body_digest, :body_bytes, :seed, :mesh_seed, :summary, :mode, :backend,
                 :deployment, :at, :at, :retry_of, :stands_in_for, :cached_from, :out, :reserved, :cold_start, :keep_warm, :hourly)",
        )?
        .execute(named_params! {
            ":id": job.id,
            ":project": job.project.0,
            ":session": job.session.0,
            ":cause": job.cause,
            ":state": JobState::Prepared,
            ":prompt": job.inputs.prompt,
            ":render": job.inputs.render,
            ":excerpt": truncate(job.prompt.trim(), EXCERPT),
            ":workflow": job.workflow,
            ":workflow_version": job.workflow_version,
            ":body_digest": job.body_digest,
            ":body_bytes": job.body_bytes.cast_signed(),
            ":seed": job.seed.map(u64::cast_signed),
            ":mesh_seed": job.mesh_seed.map(u64::cast_signed),
            ":summary": job.summary.to_string(),
            ":mode": job.mode,
            ":backend": job.backend,
            ":deployment": job.deployment,
            ":at": job.at,
            ":retry_of": job.retry_of,
            ":stands_in_for": job.stands_in_for,
            ":cached_from": job.cached_from,
            ":out": job.out,
            ":reserved": job.reserve,
            ":cold_start": job.terms.cold_start.map_or(0, millis),
            ":keep_warm": millis(job.terms.keep_warm),
            ":hourly": job.terms.hourly,
        })?;
    Ok(())
}

fn begin_attempt(transaction: &Transaction<'_>, job: JobId, now: WallTime) -> Result<(), SqlFault> {
    let before = transition(transaction, job, JobState::Submitting, now, "")?;
    transaction
        .prepare_cached("UPDATE job SET attempts = attempts + 1 WHERE id = ?1")?
        .execute(params![job])?;
    transaction
        .prepare_cached(
            "INSERT INTO attempt (job, number, backend, workflow_version, deployment, prepared_at, submitting_at)
             SELECT id, attempts, backend, workflow_version, deployment, ?2, ?3 FROM job WHERE id = ?1",
        )?
        .execute(params![job, before.since, now])?;
    Ok(())
}
