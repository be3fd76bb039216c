//! Questions about jobs: what is unfinished, what was, what one job's story is.
//!
//! Owns the reading of rows. Nothing in here writes; sums of money and times to learn from are `money`'s.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params_from_iter, types::Value};

use super::{
    Reader,
    error::{Fault, LedgerError},
    rows::{
        Artifact, AttemptRow, AuditRow, EventRow, Filter, JobRow, JobStory, Rating,
        Reason, SessionId, Timing,
    },
    sql::span,
};
use crate::domain::{
    engine::event::ProjectId,
    fingerprint::Fingerprint,
    job::{Inputs, JobId, State},
    moment::WallTime,
    product::RemoteFile,
};

/// A job with what its newest attempt knows.
const JOBS: &str =
    "SELECT job.*, attempt.request, attempt.instance, attempt.submitted_at, attempt.running_at,
         attempt.busy_at
     FROM job LEFT JOIN attempt ON attempt.job = job.id AND attempt.number = job.attempts";

/// How many candidates an ambiguous beginning of an id names.
const FEW: usize = 4;

impl Reader {
    /// Returns every job that the daemon has something left to do for, oldest first: what recovery begins with.
    pub fn unfinished(&self) -> Result<Vec<JobRow>, LedgerError> {
        let open = State::ALL.into_iter().filter(|state| !state.is_final()).collect::<Vec<_>>();
        let sql = format!("{JOBS} WHERE {} ORDER BY job.id", among(&open));
        self.read(|connection| rows(connection, &sql, &words(&open)))
    }

    /// Returns the jobs that fit, newest first.
    pub fn jobs(&self, filter: &Filter) -> Result<Vec<JobRow>, LedgerError> {
        let mut sql = format!("{JOBS} WHERE TRUE");
        let mut values = Vec::new();
        if !filter.states.is_empty() {
            sql = sql + " AND " + &among(&filter.states);
            values.extend(words(&filter.states));
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
        // SQLite's way to say "all of them".
        values.push(Value::Integer(filter.limit.map_or(-1, i64::from)));
        self.read(|connection| rows(connection, &sql, &values))
    }

    /// Returns the job that a person means: by its id, or by a beginning of it that no other job has.
    pub fn find(&self, text: &str) -> Result<JobId, LedgerError> {
        let wanted = text.trim().to_ascii_uppercase();
        let unheard = || LedgerError::NoSuchJob(text.chars().take(40).collect());
        if wanted.is_empty() || !wanted.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(unheard());
        }
        let candidates: Vec<JobId> = self.read(|connection| {
            // `~` comes after every letter of an id.
            let mut statement = connection.prepare_cached(
                "SELECT id FROM job WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT ?2",
            )?;
            let found = statement
                .query_map((&wanted, i64::try_from(FEW).unwrap_or(1)), |row| row.get(0))?;
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
        self.read(|connection| one(connection, job))
    }

    /// Returns all that is known of one job.
    pub fn story(&self, job: JobId) -> Result<JobStory, LedgerError> {
        self.read(|connection| {
            Ok(JobStory {
                job: one(connection, job)?,
                attempts: all(
                    connection,
                    "SELECT * FROM attempt WHERE job = ?1 ORDER BY number",
                    job,
                    attempt,
                )?,
                events: all(
                    connection,
                    "SELECT at, kind, note FROM event WHERE job = ?1 ORDER BY id",
                    job,
                    |row| Ok(EventRow { at: row.get(0)?, kind: row.get(1)?, note: row.get(2)? }),
                )?,
                artifacts: artifacts(connection, job)?,
            })
        })
    }

    /// Returns a job's artifacts, image before mesh.
    pub fn artifacts(&self, job: JobId) -> Result<Vec<Artifact>, LedgerError> {
        self.read(|connection| artifacts(connection, job))
    }

    /// Returns the remote files of a job whose result is known and whose artifacts are not all here yet.
    pub fn outputs(&self, job: JobId) -> Result<Option<Vec<RemoteFile>>, LedgerError> {
        self.read(|connection| {
            let listed: Option<String> = connection
                .prepare_cached("SELECT files FROM output WHERE job = ?1")?
                .query_row([job], |row| row.get(0))
                .optional()?;
            let read = |text: String| {
                serde_json::from_str(&text)
                    .map_err(|error| Fault::Garbled(format!("the outputs of job {job}: {error}")))
            };
            listed.map(read).transpose()
        })
    }

    /// Returns the newest job of a project that has ended, however it ended.
    pub fn last_finished(&self, project: ProjectId) -> Result<Option<JobRow>, LedgerError> {
        let ended = State::ALL.into_iter().filter(|state| state.is_final()).collect();
        let filter = Filter { states: ended, project: Some(project), limit: Some(1), before: None };
        Ok(self.jobs(&filter)?.pop())
    }

    /// Returns the newest success that did exactly this work. Whether its artifacts are still there, the disk knows.
    pub fn same_work(
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
                .query_row((body_digest, workflow_version), |row| row.get(0))
                .optional()?;
            Ok(found)
        })
    }

    /// Counts the jobs released at or after `when`: for `trigger.max_jobs_per_hour`.
    pub fn jobs_since(&self, when: WallTime) -> Result<u32, LedgerError> {
        self.read(|connection| {
            let count = connection
                .prepare_cached("SELECT count(*) FROM job WHERE created_at >= ?1")?
                .query_row([when], |row| row.get(0))?;
            Ok(count)
        })
    }

    /// Returns the newest audit rows, newest first.
    pub fn audits(&self, limit: u32) -> Result<Vec<AuditRow>, LedgerError> {
        self.read(|connection| {
            all(
                connection,
                "SELECT at, what, job, outcome, cost FROM audit ORDER BY id DESC LIMIT ?1",
                limit,
                |row| {
                    Ok(AuditRow {
                        at: row.get(0)?,
                        what: row.get(1)?,
                        job: row.get(2)?,
                        outcome: row.get(3)?,
                        cost: row.get(4)?,
                    })
                },
            )
        })
    }
}

/// Returns the condition that a job is in one of as many states.
fn among(states: &[State]) -> String {
    format!("job.state IN ({})", vec!["?"; states.len()].join(", "))
}

fn words(states: &[State]) -> Vec<Value> {
    states.iter().map(|state| Value::Text(state.word().to_owned())).collect()
}

fn rows(connection: &Connection, sql: &str, values: &[Value]) -> Result<Vec<JobRow>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params_from_iter(values), job_row)?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn one(connection: &Connection, job: JobId) -> Result<JobRow, Fault> {
    connection
        .prepare_cached(&format!("{JOBS} WHERE job.id = ?1"))?
        .query_row([job], job_row)
        .optional()?
        .ok_or_else(|| LedgerError::NoSuchJob(job.to_string()).into())
}

fn artifacts(connection: &Connection, job: JobId) -> Result<Vec<Artifact>, Fault> {
    let sql = "SELECT * FROM artifact WHERE job = ?1 ORDER BY kind, path";
    all(connection, sql, job, |row| {
        let unsigned = i64::cast_unsigned;
        Ok(Artifact {
            kind: row.get("kind")?,
            path: row.get("path")?,
            bytes: unsigned(row.get("bytes")?),
            blake3: row.get("blake3")?,
            vertices: row.get::<_, Option<i64>>("vertices")?.map(unsigned),
        })
    })
}

/// Returns every row of a statement with one parameter.
fn all<T>(
    connection: &Connection,
    sql: &str,
    parameter: impl ToSql,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map([parameter], read)?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn job_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    let reason = match (row.get("reason_code")?, row.get("reason")?) {
        (Some(code), Some(text)) => Some(Reason { code, text }),
        _ => None,
    };
    let seed = |column| row.get(column).map(|seed: Option<i64>| seed.map(i64::cast_unsigned));
    let stars: Option<u8> = row.get("rating")?;
    let note: Option<String> = row.get("rating_note")?;
    Ok(JobRow {
        id: row.get("id")?,
        project: ProjectId(row.get("project")?),
        session: SessionId(row.get("session")?),
        cause: row.get("cause")?,
        state: row.get("state")?,
        inputs: Inputs { prompt: row.get("prompt_fp")?, render: row.get("render_fp")? },
        prompt_excerpt: row.get("prompt_excerpt")?,
        workflow: row.get("workflow")?,
        workflow_version: row.get("workflow_version")?,
        body_digest: row.get("body_digest")?,
        seed: seed("seed")?,
        mesh_seed: seed("mesh_seed")?,
        summary: row.get("summary")?,
        mode: row.get("mode")?,
        backend: row.get("backend")?,
        deployment: row.get("deployment")?,
        created_at: row.get("created_at")?,
        state_at: row.get("state_at")?,
        ended_at: row.get("ended_at")?,
        reason,
        replaced_by: row.get("replaced_by")?,
        retry_of: row.get("retry_of")?,
        out: row.get("out")?,
        reserved: row.get("reserved")?,
        booked: row.get("booked")?,
        timing: Timing {
            queue: span(row, "queue_ms")?,
            run: span(row, "run_ms")?,
            cold: row.get("cold")?,
        },
        cancel_wanted: row.get("cancel_wanted")?,
        request: row.get("request")?,
        instance: row.get("instance")?,
        submitted_at: row.get("submitted_at")?,
        running_at: row.get("running_at")?,
        busy_at: row.get("busy_at")?,
        rating: stars.map(|stars| Rating { stars, note: note.unwrap_or_default() }),
    })
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<AttemptRow> {
    Ok(AttemptRow {
        number: row.get("number")?,
        backend: row.get("backend")?,
        deployment: row.get("deployment")?,
        request: row.get("request")?,
        instance: row.get("instance")?,
        prepared_at: row.get("prepared_at")?,
        submitting_at: row.get("submitting_at")?,
        submitted_at: row.get("submitted_at")?,
        running_at: row.get("running_at")?,
        ended_at: row.get("ended_at")?,
        outcome: row.get("outcome")?,
    })
}
