//! Sessions and projects: who pays, and which inputs are already handled.
//!
//! Owns the baseline of a project: the fingerprints that a snapshot is compared with when the
//! daemon starts. A release moves the baseline in its own commit.

use rusqlite::Row;

use super::{
    Ledger, Reader,
    error::LedgerError,
    rows::{ProjectRow, SessionId},
    sql::{ReadColumn as _, params},
};
use crate::{
    domain::{engine::event::ProjectId, fingerprint::Fingerprint, time::WallTime},
    failpoint::Point,
};

impl Ledger {
    /// Starts a session. A session without an end was ended by a crash.
    pub fn begin_session(
        &mut self,
        version: &str,
        now: WallTime,
    ) -> Result<SessionId, LedgerError> {
        self.write(Point::BeginSession, |transaction| {
            transaction
                .prepare_cached("INSERT INTO session (version, started_at) VALUES (?1, ?2)")?
                .execute(params![version, now])?;
            Ok(SessionId(transaction.last_insert_rowid()))
        })
    }

    /// Records the normal end of a session.
    pub fn end_session(&mut self, session: SessionId, now: WallTime) -> Result<(), LedgerError> {
        self.write(Point::EndSession, |transaction| {
            transaction
                .prepare_cached("UPDATE session SET ended_at = ?2 WHERE id = ?1")?
                .execute(params![session.0, now])?;
            Ok(())
        })
    }

    /// Returns the project at `root`, and adds it if it is new. Its name may change, its root
    /// does not.
    pub fn touch_project(
        &mut self,
        root: &str,
        name: &str,
        now: WallTime,
    ) -> Result<ProjectRow, LedgerError> {
        self.write(Point::TouchProject, |transaction| {
            let added = transaction
                .prepare_cached(
                    "INSERT INTO project (root, name, first_seen, last_seen) VALUES (?1, ?2, ?3, ?3)
                     ON CONFLICT (root) DO NOTHING",
                )?
                .execute(params![root, name, now])?;
            transaction
                .prepare_cached("UPDATE project SET name = ?2, last_seen = ?3 WHERE root = ?1")?
                .execute(params![root, name, now])?;
            let known = transaction
                .prepare_cached("SELECT * FROM project WHERE root = ?1")?
                .query_row(params![root], project)?;
            Ok(ProjectRow { is_new: added == 1, ..known })
        })
    }

    /// Records inputs as handled without a job. `None` leaves that input unchanged.
    pub fn set_baseline(
        &mut self,
        project: ProjectId,
        prompt: Option<Fingerprint>,
        render: Option<Fingerprint>,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::SetBaseline, |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE project SET baseline_prompt = coalesce(?2, baseline_prompt),
                         baseline_render = coalesce(?3, baseline_render), last_seen = ?4
                     WHERE id = ?1",
                )?
                .execute(params![project.0, prompt, render, now])?;
            Ok(())
        })
    }
}

impl Reader {
    /// Returns every project, in the order in which they were added.
    pub fn projects(&self) -> Result<Vec<ProjectRow>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM project ORDER BY id")?;
            let rows = statement.query_map([], project)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

fn project(row: &Row<'_>) -> rusqlite::Result<ProjectRow> {
    Ok(ProjectRow {
        id: ProjectId(row.column("id")?),
        root: row.column("root")?,
        name: row.column("name")?,
        baseline_prompt: row.column("baseline_prompt")?,
        baseline_render: row.column("baseline_render")?,
        first_seen: row.column("first_seen")?,
        last_seen: row.column("last_seen")?,
        is_new: false,
    })
}
