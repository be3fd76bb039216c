//! A job's steps after its release: one operation per step, one transaction per operation.
//!
//! Owns what is written with each step except the last; `finish` owns how jobs end. An operation is
//! called *before* the step that it announces, except if it reports an answer. One that is not
//! allowed changes nothing and returns an error.

use rusqlite::{OptionalExtension as _, Transaction};

use super::events::{
    append_event, audit_submit, current, end_attempt, transition, update_attempt_sql,
};
use crate::{
    domain::{
        job::{
            JobId, JobState, RequestId, artifact::RemoteFile, attempt::AttemptEnd,
            control::JobControl,
        },
        money::{MicroUsd, job_cost::DurationRange},
        time::WallTime,
    },
    failpoint::Point,
    ledger::{
        Ledger,
        error::{LedgerError, SqlFault},
        rows::{ArtifactRow, RunEnd},
        sql::{ReadColumn as _, millis, params},
    },
};

impl Ledger {
    /// Records the backend's id: from now on the request can be followed to its end, even after
    /// a crash.
    pub fn submitted(
        &mut self,
        job: JobId,
        request: &RequestId,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::Submitted, |transaction| {
            let before = transition(transaction, job, JobState::Submitted, now, request.as_str())?;
            transaction
                .prepare_cached(&update_attempt_sql("request = ?2, submitted_at = ?3"))?
                .execute(params![job, request, now])?;
            audit_submit(transaction, job, now, "accepted", before.reserved)
        })
    }

    /// Records that the request certainly did not arrive. The job is prepared again and its money
    /// stays reserved.
    pub fn not_sent(&mut self, job: JobId, note: &str, now: WallTime) -> Result<(), LedgerError> {
        self.write(Point::NotSent, |transaction| {
            transition(transaction, job, JobState::Prepared, now, note)?;
            end_attempt(transaction, job, AttemptEnd::NotSent, note, now)?;
            audit_submit(transaction, job, now, "not sent", MicroUsd::ZERO)
        })
    }

    /// Records that a machine is working, which one, and how long the request waited for it. May be
    /// called again if the backend names another machine; the first recorded wait stays.
    ///
    /// The write-ahead log is emptied now, while a machine works and nothing waits for us. After
    /// the last step of a job it would be wrong: the first commit into an emptied log needs a
    /// second sync, and that commit would be the next release.
    pub fn running(
        &mut self,
        job: JobId,
        instance: Option<&str>,
        waited: Option<DurationRange>,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        let is_news = self.write(Point::Running, |transaction| {
            let note = instance.unwrap_or_default();
            let before = transition(transaction, job, JobState::Running, now, note)?;
            transaction
                .prepare_cached(&update_attempt_sql(
                    "instance = coalesce(?2, instance), running_at = coalesce(running_at, ?3), busy_at = ?3,
                     waited_least_ms = coalesce(waited_least_ms, ?4), waited_most_ms = coalesce(waited_most_ms, ?5)",
                ))?
                .execute(params![
                    job,
                    instance,
                    now,
                    waited.map(|waited| millis(waited.min)),
                    waited.map(|waited| millis(waited.max)),
                ])?;
            Ok(before.state != JobState::Running)
        })?;
        if is_news {
            // The step is already on the disk. A log that cannot be emptied now stays readable and
            // is emptied later.
            drop(self.checkpoint());
        }
        Ok(())
    }

    /// Records the files that the result lists, so that a restart during the download need not ask
    /// again. The job's state does not change. What is known about the run is written in the same
    /// commit, so that no crash can lose it.
    pub fn outputs_known(
        &mut self,
        job: JobId,
        files: &[RemoteFile],
        end: impl Into<RunEnd>,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        let RunEnd { at, observed: times } = end.into();
        self.write(Point::OutputsKnown, |transaction| {
            let from = current(transaction, job)?.state;
            if !matches!(from, JobState::Submitted | JobState::Running) {
                return Err(LedgerError::Illegal { job, from, to: JobState::Fetched }.into());
            }
            let listed =
                serde_json::to_string(files).map_err(|error| SqlFault::Malformed(error.to_string()))?;
            transaction
                .prepare_cached(
                    "INSERT INTO output (job, files) VALUES (?1, ?2)
                     ON CONFLICT (job) DO UPDATE SET files = excluded.files",
                )?
                .execute(params![job, listed])?;
            transaction
                .prepare_cached(&update_attempt_sql(
                    "busy_at = ?2, ended_at = ?2, outcome = ?8,
                     waited_least_ms = coalesce(waited_least_ms, ?3), waited_most_ms = coalesce(waited_most_ms, ?4),
                     lasted_least_ms = ?5, lasted_most_ms = ?6, reported_ms = ?7",
                ))?
                .execute(params![
                    job,
                    at,
                    times.waited.map(|waited| millis(waited.min)),
                    times.waited.map(|waited| millis(waited.max)),
                    times.lasted.map(|lasted| millis(lasted.min)),
                    times.lasted.map(|lasted| millis(lasted.max)),
                    times.reported.map(millis),
                    AttemptEnd::RunEnded,
                ])?;
            append_event(transaction, job, now, "outputs known", &format!("{} files", files.len()))
        })
    }

    /// Records that every artifact is in history and checked. The remote files are forgotten,
    /// because they are no longer needed.
    pub fn fetched(
        &mut self,
        job: JobId,
        artifacts: &[ArtifactRow],
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::Fetched, |transaction| {
            transition(transaction, job, JobState::Fetched, now, "")?;
            end_attempt(transaction, job, AttemptEnd::Succeeded, "", now)?;
            for artifact in artifacts {
                insert_artifact(transaction, job, artifact)?;
            }
            transaction
                .prepare_cached("DELETE FROM output WHERE job = ?1")?
                .execute(params![job])?;
            Ok(())
        })
    }

    /// Records artifacts of a job that fails nevertheless: its image was paid for and stays
    /// in history.
    pub fn keep_artifacts(
        &mut self,
        job: JobId,
        artifacts: &[ArtifactRow],
    ) -> Result<(), LedgerError> {
        self.write(Point::KeepArtifacts, |transaction| {
            artifacts.iter().try_for_each(|artifact| insert_artifact(transaction, job, artifact))
        })
    }

    /// Records that public names are about to change. From here on the job can no longer be
    /// cancelled; a job that was cancelled before is refused, whatever has been recorded about
    /// it since.
    pub fn placing(&mut self, job: JobId, now: WallTime) -> Result<(), LedgerError> {
        self.write(Point::Placing, |transaction| {
            let control = transaction
                .prepare_cached("SELECT control FROM job WHERE id = ?1")?
                .query_row(params![job], |row| row.column::<JobControl>(0))
                .optional()?;
            if control == Some(JobControl::Cancel)
                && current(transaction, job)?.state != JobState::Placing
            {
                return Err(LedgerError::CancelWanted(job).into());
            }
            transition(transaction, job, JobState::Placing, now, "").map(drop)
        })
    }

    /// Records that every public name shows this job.
    pub fn placed(&mut self, job: JobId, now: WallTime) -> Result<(), LedgerError> {
        self.step(Point::Placed, job, JobState::Placed, "", now)
    }

    /// Records that the handoff to CONJURE is about to start; `note` may contain what distinguishes
    /// our command from another one.
    pub fn handing_over(
        &mut self,
        job: JobId,
        note: &str,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.step(Point::HandingOver, job, JobState::HandingOver, note, now)
    }

    fn step(
        &mut self,
        point: Point,
        job: JobId,
        to: JobState,
        note: &str,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(point, |transaction| transition(transaction, job, to, now, note).map(drop))
    }
}

fn insert_artifact(
    transaction: &Transaction<'_>,
    job: JobId,
    artifact: &ArtifactRow,
) -> Result<(), SqlFault> {
    let ArtifactRow { kind, path, bytes, blake3, vertices } = artifact;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO artifact (job, kind, path, bytes, blake3, vertices)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            job,
            kind,
            path,
            bytes.cast_signed(),
            blake3,
            vertices.map(u64::cast_signed)
        ])?;
    Ok(())
}
