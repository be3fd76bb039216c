//! Reads past jobs for `conjured cost`: one small row per job, all in one query.
//!
//! Owns the query. [`crate::domain::cost_report`] computes the sums.

use std::time::Duration;

use super::{
    Reader,
    error::{LedgerError, SqlFault},
    sql::{ReadColumn as _, params},
};
use crate::domain::{
    cost_report::{PastJob, PastServer},
    fingerprint::Fingerprint,
    money::job_cost::{CostBasis, PriceTerms},
    time::WallTime,
};

impl Reader {
    /// Returns the jobs that were released at or after `since`, oldest first.
    pub fn past_jobs(&self, since: WallTime) -> Result<Vec<PastJob>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT job.session, project.name, job.deployment, job.mode, job.workflow, job.workflow_version,
                     job.created_at, attempt.submitted_at, job.ended_at, job.state, job.reserved, job.booked, job.basis,
                     job.cold_start_ms, job.keep_warm_ms, job.hourly, job.cold, job.queue_ms, job.run_ms, job.rating
                 FROM job JOIN project ON project.id = job.project
                     LEFT JOIN attempt ON attempt.job = job.id AND attempt.number = job.attempts
                 WHERE job.created_at >= ?1 ORDER BY job.created_at, job.id",
            )?;
            let span = |millis: i64| Duration::from_millis(u64::try_from(millis).unwrap_or(0));
            let rows = statement.query_map(params![since], |row| {
                let version: Fingerprint = row.column(5)?;
                let workflow: String = row.column(4)?;
                let basis: Option<String> = row.column(12)?;
                let terms = match (row.column(13)?, row.column(14)?, row.column(15)?) {
                    (Some(cold), Some(keep_warm), Some(hourly)) => Some(PriceTerms {
                        cold_start: Some(span(cold)).filter(|cold| !cold.is_zero()),
                        keep_warm: span(keep_warm),
                        hourly,
                    }),
                    _ => None,
                };
                Ok(PastJob {
                    session: row.column(0)?,
                    project: row.column(1)?,
                    deployment: row.column(2)?,
                    mode: row.column(3)?,
                    workflow: format!("{workflow} {}", version.short()),
                    released: row.column(6)?,
                    submitted: row.column(7)?,
                    ended: row.column(8)?,
                    state: row.column(9)?,
                    reserved: row.column(10)?,
                    booked: row.column(11)?,
                    basis: basis.and_then(|word| CostBasis::ALL.into_iter().find(|b| b.name() == word)),
                    terms,
                    cold: row.column(16)?,
                    queue: row.column::<Option<i64>>(17)?.map(span),
                    run: row.column::<Option<i64>>(18)?.map(span),
                    rating: row.column(19)?,
                })
            })?;
            Ok::<_, SqlFault>(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Returns the machines that were launched at or after `since`, oldest first.
    pub fn past_servers(&self, since: WallTime) -> Result<Vec<PastServer>, LedgerError> {
        let rows = self.machines(since)?;
        Ok(rows
            .into_iter()
            .map(|row| PastServer {
                session: row.session.0,
                launched: row.created_at,
                reserved: row.reserved,
                booked: row.booked,
                basis: row.basis,
            })
            .collect())
    }
}
