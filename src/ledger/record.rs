//! A job as its flow sees it: the row, its attempts, and whether its files are known.
//!
//! Owns one query. It reads typed columns only; what people read (notes, reasons) is not in it.

use rusqlite::{Connection, OptionalExtension as _};

use crate::{
    domain::{
        job::{
            JobId,
            cancel::CancelSent,
            choose_backend::BackendKind,
            flow::record::{AttemptRecord, JobRecord},
        },
        time::WallTime,
    },
    ledger::{
        Reader,
        error::{LedgerError, SqlFault},
        queries::find_job,
        rows::JobRow,
        sql::{ReadColumn as _, params},
    },
};

impl Reader {
    /// Returns what the flow of a job depends on.
    pub fn job_record(&self, job: JobId) -> Result<JobRecord, LedgerError> {
        self.read(|connection| {
            let row = find_job(connection, job)?;
            let listed: Option<bool> = connection
                .prepare_cached("SELECT TRUE FROM output WHERE job = ?1")?
                .query_row(params![job], |row| row.column(0))
                .optional()?;
            let (attempts, outputs_known) = (attempts(connection, job)?, listed.is_some());
            Ok(JobRecord { attempts, outputs_known, ..row.record() })
        })
    }
}

impl JobRow {
    /// Returns what the row itself says about the job's flow: without its attempts and its files.
    pub fn record(&self) -> JobRecord {
        JobRecord {
            state: self.state,
            cause: self.cause,
            control: self.control,
            backend: kind(&self.backend),
            workflow: self.workflow_version,
            own_folder: self.out.is_some(),
            stands_in_for: self.stands_in_for,
            cached_from: self.cached_from,
            reserved: self.reserved,
            terms: self.terms,
            observed: self.observed,
            attempts: Vec::new(),
            outputs_known: false,
        }
    }
}

/// Returns the backend with this name. An unknown one may cost money, so it counts as the one that
/// is most careful with it.
fn kind(name: &str) -> BackendKind {
    BackendKind::from_name(name).unwrap_or(BackendKind::Serverless)
}

fn attempts(connection: &Connection, job: JobId) -> Result<Vec<AttemptRecord>, SqlFault> {
    let mut statement = connection.prepare_cached(
        "SELECT backend, workflow_version, request, submitted_at, running_at, cancel_at,
             cancel_reason, cancel_outcome, outcome
         FROM attempt WHERE job = ?1 ORDER BY number",
    )?;
    let found = statement.query_map(params![job], |row| {
        let at: Option<WallTime> = row.column(5)?;
        let cancel = match (at, row.column(6)?, row.column(7)?) {
            (Some(at), Some(why), Some(reply)) => Some(CancelSent { why, reply, at }),
            _ => None,
        };
        Ok(AttemptRecord {
            backend: kind(&row.column::<String>(0)?),
            workflow: row.column(1)?,
            request: row.column(2)?,
            submitted_at: row.column(3)?,
            running_at: row.column(4)?,
            cancel,
            end: row.column(8)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}
