//! Queries about jobs: unfinished ones, past ones, and all records of one job.
//!
//! Owns the reading of rows. Nothing here writes. Sums of money and times for estimates are
//! in `money`.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params_from_iter, types::Value};

use super::{
    Reader,
    error::{LedgerError, SqlFault},
    rows::{
        ArtifactRow, AttemptRow, AuditRow, EventRow, JobDetails, JobFilter, JobRow, Rating, Reason,
        SessionId, Timing,
    },
    sql::{FromColumn, ReadColumn as _, ToColumn, params},
};
use crate::domain::{
    engine::event::ProjectId,
    fingerprint::Fingerprint,
    job::{Inputs, JobId, JobState, artifact::RemoteFile},
    money::job_cost::{CostBasis, DurationRange, ObservedTimes, PriceTerms},
};

/// A job together with its newest attempt, in the column order of [`job_row`].
const JOBS: &str = "\
    SELECT job.id, job.project, job.session, job.cause, job.state, job.prompt_fp, job.render_fp,
        job.prompt_excerpt, job.workflow, job.workflow_version, job.body_digest, job.seed,
        job.mesh_seed, job.summary, job.mode, job.backend, job.deployment, job.created_at,
        job.state_at, job.ended_at, job.reason_code, job.reason, job.replaced_by, job.retry_of,
        job.stands_in_for, job.cached_from, job.out, job.reserved, job.booked, job.queue_ms, job.run_ms,
        job.cold, job.control,
        attempt.request, attempt.instance, attempt.submitted_at, attempt.running_at,
        attempt.busy_at, job.rating, job.rating_note, job.basis, job.cold_start_ms, job.keep_warm_ms,
        job.hourly, attempt.waited_least_ms, attempt.waited_most_ms, attempt.lasted_least_ms,
        attempt.lasted_most_ms, attempt.reported_ms, job.body_bytes, job.received_bytes
    FROM job LEFT JOIN attempt ON attempt.job = job.id AND attempt.number = job.attempts";

/// An audit row, in the column order of [`audit_row`].
const AUDITS: &str = "SELECT at, what, job, outcome, cost FROM audit";

/// How many candidates an ambiguous id prefix lists.
const MAX_CANDIDATES: usize = 4;

impl Reader {
    /// Returns every job that is not finished, oldest first. Recovery starts with these.
    pub fn unfinished(&self) -> Result<Vec<JobRow>, LedgerError> {
        let open = JobState::ALL.into_iter().filter(|state| !state.is_final()).collect::<Vec<_>>();
        let sql = format!("{JOBS} WHERE {} ORDER BY job.id", in_states(&open));
        self.read(|connection| rows(connection, &sql, &state_names(&open)))
    }

    /// Returns the jobs that match, newest first.
    pub fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRow>, LedgerError> {
        let mut sql = format!("{JOBS} WHERE TRUE");
        let mut values = Vec::new();
        if !filter.states.is_empty() {
            sql = sql + " AND " + &in_states(&filter.states);
            values.extend(state_names(&filter.states));
        }
        if let Some(project) = filter.project {
            sql += " AND job.project = ?";
            values.push(Value::Integer(project.0));
        }
        if let Some(before) = filter.before {
            sql += " AND job.id < ?";
            values.push(Value::Text(before.to_string()));
        }
        sql += " ORDER BY job.id DESC LIMIT ?";
        // SQLite's way to say "no limit".
        values.push(Value::Integer(filter.limit.map_or(-1, i64::from)));
        self.read(|connection| rows(connection, &sql, &values))
    }

    /// Returns the job with this id or this unique prefix of an id.
    pub fn find(&self, text: &str) -> Result<JobId, LedgerError> {
        let wanted = text.trim().to_ascii_uppercase();
        let unheard = || LedgerError::NoSuchJob(text.chars().take(40).collect());
        if wanted.is_empty() || !wanted.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(unheard());
        }
        let candidates: Vec<JobId> = self.read(|connection| {
            // `~` sorts after every character of an id.
            let mut statement = connection.prepare_cached(
                "SELECT id FROM job WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT ?2",
            )?;
            let found = statement
                .query_map(params![&wanted, i64::try_from(MAX_CANDIDATES).unwrap_or(1)], |row| {
                    row.column(0)
                })?;
            Ok(found.collect::<Result<_, _>>()?)
        })?;
        match candidates[..] {
            [] => Err(unheard()),
            [job] => Ok(job),
            _ => Err(LedgerError::Ambiguous { text: wanted, candidates }),
        }
    }

    /// Returns one job's row.
    pub fn job(&self, job: JobId) -> Result<JobRow, LedgerError> {
        self.read(|connection| find_job(connection, job))
    }

    /// Returns all records of one job.
    pub fn details(&self, job: JobId) -> Result<JobDetails, LedgerError> {
        self.read(|connection| {
            Ok(JobDetails {
                job: find_job(connection, job)?,
                attempts: query_all(
                    connection,
                    "SELECT * FROM attempt WHERE job = ?1 ORDER BY number",
                    job,
                    attempt,
                )?,
                events: query_all(
                    connection,
                    "SELECT at, kind, note FROM event WHERE job = ?1 ORDER BY id",
                    job,
                    |row| {
                        Ok(EventRow {
                            at: row.column(0)?,
                            kind: row.column(1)?,
                            note: row.column(2)?,
                        })
                    },
                )?,
                artifacts: artifacts(connection, job)?,
                audits: query_all(
                    connection,
                    &format!("{AUDITS} WHERE job = ?1 ORDER BY id"),
                    job,
                    audit_row,
                )?,
            })
        })
    }

    /// Returns a job's artifacts, image before mesh.
    pub fn artifacts(&self, job: JobId) -> Result<Vec<ArtifactRow>, LedgerError> {
        self.read(|connection| artifacts(connection, job))
    }

    /// Returns the remote files of a job whose result is known but whose artifacts are not yet
    /// all downloaded.
    pub fn outputs(&self, job: JobId) -> Result<Option<Vec<RemoteFile>>, LedgerError> {
        self.read(|connection| {
            let listed: Option<String> = connection
                .prepare_cached("SELECT files FROM output WHERE job = ?1")?
                .query_row(params![job], |row| row.column(0))
                .optional()?;
            let read = |text: String| {
                serde_json::from_str(&text).map_err(|error| {
                    SqlFault::Malformed(format!("the outputs of job {job}: {error}"))
                })
            };
            listed.map(read).transpose()
        })
    }

    /// Returns the newest job of a project that has ended, in any way.
    pub fn last_finished(&self, project: ProjectId) -> Result<Option<JobRow>, LedgerError> {
        let ended = JobState::ALL.into_iter().filter(|state| state.is_final()).collect();
        let filter =
            JobFilter { states: ended, project: Some(project), limit: Some(1), before: None };
        Ok(self.jobs(&filter)?.pop())
    }

    /// Returns the newest success of exactly this work. The caller must check on the disk whether
    /// its artifacts still exist.
    pub fn find_same_work(
        &self,
        workflow_version: &Fingerprint,
        body_digest: &Fingerprint,
    ) -> Result<Option<JobId>, LedgerError> {
        self.read(|connection| {
            let found = connection
                .prepare_cached(
                    "SELECT id FROM job WHERE body_digest = ?1 AND workflow_version = ?2 AND state = 'done'
                     ORDER BY id DESC LIMIT 1",
                )?
                .query_row(params![body_digest, workflow_version], |row| row.column(0))
                .optional()?;
            Ok(found)
        })
    }

    /// Returns the newest audit rows, newest first.
    pub fn audits(&self, limit: u32) -> Result<Vec<AuditRow>, LedgerError> {
        self.read(|connection| {
            query_all(connection, &format!("{AUDITS} ORDER BY id DESC LIMIT ?1"), limit, audit_row)
        })
    }

    /// Returns the jobs whose history must be kept: the newest success of each project, every
    /// unfinished job, and every `unknown` job that a person has not settled.
    pub fn protected_jobs(&self) -> Result<Vec<JobId>, LedgerError> {
        self.read(|connection| {
            let stays = |state: &JobState| !state.is_final() || *state == JobState::Unknown;
            let open: Vec<_> = JobState::ALL.into_iter().filter(stays).collect();
            let sql = format!(
                "SELECT max(id) FROM job WHERE state = 'done' GROUP BY project
                 UNION SELECT id FROM job WHERE {}",
                in_states(&open)
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let found =
                statement.query_map(params_from_iter(state_names(&open)), |row| row.column(0))?;
            Ok(found.collect::<Result<_, _>>()?)
        })
    }
}

/// Returns an SQL condition for a job in one of these states.
fn in_states(states: &[JobState]) -> String {
    format!("job.state IN ({})", vec!["?"; states.len()].join(", "))
}

fn state_names(states: &[JobState]) -> Vec<Value> {
    states.iter().map(|state| Value::Text(state.name().to_owned())).collect()
}

fn rows(connection: &Connection, sql: &str, values: &[Value]) -> Result<Vec<JobRow>, SqlFault> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params_from_iter(values), job_row)?;
    Ok(found.collect::<Result<_, _>>()?)
}

pub(super) fn find_job(connection: &Connection, job: JobId) -> Result<JobRow, SqlFault> {
    connection
        .prepare_cached(&format!("{JOBS} WHERE job.id = ?1"))?
        .query_row(params![job], job_row)
        .optional()?
        .ok_or_else(|| LedgerError::NoSuchJob(job.to_string()).into())
}

fn artifacts(connection: &Connection, job: JobId) -> Result<Vec<ArtifactRow>, SqlFault> {
    let sql = "SELECT * FROM artifact WHERE job = ?1 ORDER BY kind, path";
    query_all(connection, sql, job, |row| {
        let unsigned = i64::cast_unsigned;
        Ok(ArtifactRow {
            kind: row.column("kind")?,
            path: row.column("path")?,
            bytes: unsigned(row.column("bytes")?),
            blake3: row.column("blake3")?,
            vertices: row.column::<Option<i64>>("vertices")?.map(unsigned),
        })
    })
}

/// Returns every row of a statement with one parameter.
fn query_all<T>(
    connection: &Connection,
    sql: &str,
    parameter: impl ToColumn,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, SqlFault> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params![parameter], read)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Reads the columns of a row by position. Reading them by name cost 20 µs per row, because each of
/// 36 columns is compared with up to 36 names.
struct Columns<'r> {
    row: &'r Row<'r>,
    next: usize,
}

impl Columns<'_> {
    fn take<T: FromColumn>(&mut self) -> rusqlite::Result<T> {
        let column = self.next;
        self.next += 1;
        self.row.column(column)
    }

    fn seed(&mut self) -> rusqlite::Result<Option<u64>> {
        Ok(self.take::<Option<i64>>()?.map(i64::cast_unsigned))
    }

    fn span(&mut self) -> rusqlite::Result<Option<Duration>> {
        let millis: Option<i64> = self.take()?;
        Ok(millis.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))))
    }

    fn between(&mut self) -> rusqlite::Result<Option<DurationRange>> {
        let (least, most) = (self.span()?, self.span()?);
        Ok(least.zip(most).map(|(least, most)| DurationRange { min: least, max: most }))
    }

    fn basis(&mut self) -> rusqlite::Result<Option<CostBasis>> {
        let word: Option<String> = self.take()?;
        Ok(word.and_then(|word| CostBasis::ALL.into_iter().find(|basis| basis.name() == word)))
    }

    fn terms(&mut self) -> rusqlite::Result<PriceTerms> {
        let (cold, keep_warm) = (self.span()?, self.span()?.unwrap_or_default());
        let cold_start = cold.filter(|span| !span.is_zero());
        Ok(PriceTerms { cold_start, keep_warm, hourly: self.take()? })
    }

    fn reason(&mut self) -> rusqlite::Result<Option<Reason>> {
        let (code, text): (Option<String>, Option<String>) = (self.take()?, self.take()?);
        Ok(code.zip(text).map(|(code, text)| Reason { code, text }))
    }

    fn rating(&mut self) -> rusqlite::Result<Option<Rating>> {
        let (stars, note): (Option<u8>, Option<String>) = (self.take()?, self.take()?);
        Ok(stars.map(|stars| Rating { stars, note: note.unwrap_or_default() }))
    }
}

/// Reads a row of [`JOBS`]. The fields are evaluated in the order written here, which is the order
/// of the columns.
fn job_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    let mut columns = Columns { row, next: 0 };
    let columns = &mut columns;
    Ok(JobRow {
        id: columns.take()?,
        project: ProjectId(columns.take()?),
        session: SessionId(columns.take()?),
        cause: columns.take()?,
        state: columns.take()?,
        inputs: Inputs { prompt: columns.take()?, render: columns.take()? },
        prompt_excerpt: columns.take()?,
        workflow: columns.take()?,
        workflow_version: columns.take()?,
        body_digest: columns.take()?,
        seed: columns.seed()?,
        mesh_seed: columns.seed()?,
        summary: columns.take()?,
        mode: columns.take()?,
        backend: columns.take()?,
        deployment: columns.take()?,
        created_at: columns.take()?,
        state_at: columns.take()?,
        ended_at: columns.take()?,
        reason: columns.reason()?,
        replaced_by: columns.take()?,
        retry_of: columns.take()?,
        stands_in_for: columns.take()?,
        cached_from: columns.take()?,
        out: columns.take()?,
        reserved: columns.take()?,
        booked: columns.take()?,
        timing: Timing { queue: columns.span()?, run: columns.span()?, cold: columns.take()? },
        control: columns.take()?,
        request: columns.take()?,
        instance: columns.take()?,
        submitted_at: columns.take()?,
        running_at: columns.take()?,
        busy_at: columns.take()?,
        rating: columns.rating()?,
        basis: columns.basis()?,
        terms: columns.terms()?,
        observed: ObservedTimes {
            waited: columns.between()?,
            lasted: columns.between()?,
            reported: columns.span()?,
        },
        body_bytes: columns.seed()?.unwrap_or(0),
        received_bytes: columns.seed()?.unwrap_or(0),
    })
}

fn audit_row(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        at: row.column(0)?,
        what: row.column(1)?,
        job: row.column(2)?,
        outcome: row.column(3)?,
        cost: row.column(4)?,
    })
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<AttemptRow> {
    Ok(AttemptRow {
        number: row.column("number")?,
        backend: row.column("backend")?,
        deployment: row.column("deployment")?,
        request: row.column("request")?,
        instance: row.column("instance")?,
        prepared_at: row.column("prepared_at")?,
        submitting_at: row.column("submitting_at")?,
        submitted_at: row.column("submitted_at")?,
        running_at: row.column("running_at")?,
        ended_at: row.column("ended_at")?,
        workflow_version: row.column("workflow_version")?,
        outcome: row.column("outcome")?,
        reason: row.column("reason")?,
    })
}
