//! Rented machines: each step in the life of one is recorded before the outside world can see it.
//!
//! Owns the rows of `machine` and their money. A launch reserves the expected cost, against the
//! same limits as a job and in the same commit as the launch mark. Each job that takes the machine
//! and each extension raise the reservation. The end books the seconds. [`crate::domain::machines`]
//! decides when each step happens.

use rusqlite::{OptionalExtension, Row, Transaction};

use super::{
    Ledger, Reader,
    error::{LedgerError, ReleaseError, SqlFault},
    job::events::audit,
    money::spent,
    rows::{AuditRow, BudgetChange, MachineRow, NewMachine, SessionId},
    sql::{ReadColumn as _, named_params, params},
};
use crate::{
    domain::{
        job::JobId,
        machines::{MachineId, MachineStage, ServerId, StopReason},
        money::{
            MicroUsd,
            budget::{self, BudgetLimits, BudgetWindows},
            job_cost::CostBasis,
        },
        time::WallTime,
    },
    failpoint::Point,
};

const MACHINES: &str = "\
    SELECT id, session, stage, server, server_type, workflow_version, known_before, created_at, launched_at, ready_at,
        ready_seen, idle_since, stops_at, last_seen_at, stopping_at, ended_at, reason_code, hourly, reserved, booked, basis, account
    FROM machine";

impl Ledger {
    /// Records that a machine is about to be launched, and reserves its cost. Nothing may be sent
    /// before this is on the disk.
    pub fn launching(
        &mut self,
        new: &NewMachine,
        limits: &BudgetLimits,
        windows: &BudgetWindows,
    ) -> Result<BudgetChange, ReleaseError> {
        self.verify_in_place()?;
        let verdict = self.write(Point::MachineLaunching, |transaction| {
            let before = spent(transaction, new.session, windows)?;
            if let Err(refusal) = budget::decide(limits, &before, new.reserve) {
                return Ok(Err(refusal));
            }
            let known: Vec<&str> = new.known_before.iter().map(ServerId::as_str).collect();
            transaction
                .prepare_cached(
                    "INSERT INTO machine (id, session, stage, account, server_type, workflow_version, known_before, created_at,
                         hourly, reserved)
                     VALUES (:id, :session, :stage, :account, :type, :version, :known, :at, :hourly, :reserved)",
                )?
                .execute(named_params! {
                    ":id": new.id,
                    ":session": new.session.0,
                    ":stage": MachineStage::Launching,
                    ":account": new.account,
                    ":type": new.server_type,
                    ":version": new.workflow_version,
                    ":known": serde_json::Value::from(known).to_string(),
                    ":at": new.at,
                    ":hourly": new.hourly,
                    ":reserved": new.reserve,
                })?;
            Ok(Ok(BudgetChange { before, spent: before.with(new.reserve) }))
        })?;
        Ok(verdict?)
    }

    /// Records the service's id of a machine, from the answer to its launch or (`found`) from the
    /// account's list.
    pub fn launched(
        &mut self,
        id: MachineId,
        server: &ServerId,
        found: bool,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::MachineLaunched, |transaction| {
            let row = current(transaction, id)?;
            set(
                transaction,
                "stage = ?2, server = ?3, launched_at = ?4 WHERE id = ?1",
                params![id, MachineStage::Starting, server.as_str(), now],
            )?;
            let outcome = if found { "found" } else { "accepted" };
            append_event(transaction, "launch", &format!("{outcome} {server}"), row.reserved, now)
        })
    }

    /// Records that the answer to a launch is lost, or that it is unclear which machine it created.
    /// Its reservation stays.
    pub fn launch_unclear(
        &mut self,
        id: MachineId,
        stage: MachineStage,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::MachineUnclear, |transaction| {
            let row = current(transaction, id)?;
            set(transaction, "stage = ?2 WHERE id = ?1", params![id, stage])?;
            let outcome = if stage == MachineStage::Lost { "unclear" } else { "unknown" };
            append_event(transaction, "launch", outcome, row.reserved, now)
        })
    }

    /// Records from when on a machine is billed.
    pub fn machine_ready(
        &mut self,
        id: MachineId,
        ready_at: WallTime,
        seen: bool,
    ) -> Result<(), LedgerError> {
        self.write(Point::MachineReady, |transaction| {
            set(
                transaction,
                "stage = ?2, ready_at = ?3, ready_seen = ?4 WHERE id = ?1",
                params![id, MachineStage::Ready, ready_at, seen],
            )
        })
    }

    /// Records the service's report that a machine exists, and when the service will stop it.
    pub fn machine_alive(
        &mut self,
        id: MachineId,
        stops_at: Option<WallTime>,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::MachineSeen, |transaction| {
            set(
                transaction,
                "stops_at = coalesce(?2, stops_at), last_seen_at = ?3 WHERE id = ?1",
                params![id, stops_at, now],
            )
        })
    }

    /// Assigns a machine to a job: the job's row names the machine, and the reservation rises to
    /// `reserve`. The increase must fit into `limits`.
    pub fn machine_leased(
        &mut self,
        id: MachineId,
        session: SessionId,
        job: JobId,
        reserve: MicroUsd,
        limits: &BudgetLimits,
        windows: &BudgetWindows,
    ) -> Result<BudgetChange, ReleaseError> {
        self.verify_in_place()?;
        let verdict = self.write(Point::MachineTaken, |transaction| {
            let before = spent(transaction, session, windows)?;
            let old = current(transaction, id)?.reserved;
            let more = reserve.saturating_sub(old);
            if let Err(refusal) = budget::decide(limits, &before, more) {
                return Ok(Err(refusal));
            }
            set(
                transaction,
                "idle_since = NULL, reserved = max(reserved, ?2) WHERE id = ?1",
                params![id, reserve],
            )?;
            transaction
                .prepare_cached("UPDATE job SET deployment = ?2 WHERE id = ?1")?
                .execute(params![job, id])?;
            Ok(Ok(BudgetChange { before, spent: spent(transaction, session, windows)? }))
        })?;
        Ok(verdict?)
    }

    /// Records since when no job uses a machine, or (`None`) that the last job uses it again.
    pub fn machine_idle(
        &mut self,
        id: MachineId,
        since: Option<WallTime>,
    ) -> Result<(), LedgerError> {
        self.write(Point::MachineIdle, |transaction| {
            set(transaction, "idle_since = ?2 WHERE id = ?1", params![id, since])
        })
    }

    /// Raises the reservation of a machine that is about to be extended. No limit is checked:
    /// a running job is not killed because of money, and a machine without a job is not kept
    /// for long.
    pub fn extending(&mut self, id: MachineId, reserve: MicroUsd) -> Result<(), LedgerError> {
        self.write(Point::MachineExtending, |transaction| {
            set(transaction, "reserved = max(reserved, ?2) WHERE id = ?1", params![id, reserve])
        })
    }

    /// Records that the service extended a machine, or refused to.
    pub fn extended(
        &mut self,
        id: MachineId,
        stops_at: Option<WallTime>,
        outcome: &str,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::MachineExtended, |transaction| {
            let row = current(transaction, id)?;
            set(
                transaction,
                "stops_at = coalesce(?2, stops_at) WHERE id = ?1",
                params![id, stops_at],
            )?;
            append_event(transaction, "extend", outcome, row.reserved, now)
        })
    }

    /// Records that a machine must be stopped. From now on every session tries to stop it until the
    /// service confirms.
    pub fn machine_stopping(
        &mut self,
        id: MachineId,
        why: StopReason,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::MachineStopping, |transaction| {
            set(
                transaction,
                "stage = ?2, stopping_at = coalesce(stopping_at, ?3), reason_code = coalesce(reason_code, ?4) WHERE id = ?1",
                params![id, MachineStage::Stopping, now, why.name()],
            )
        })
    }

    /// Books a machine that has been stopped, or that never existed. `None` keeps the reservation
    /// because no better value is known.
    pub fn machine_gone(
        &mut self,
        id: MachineId,
        booked: Option<MicroUsd>,
        basis: CostBasis,
        outcome: &str,
        now: WallTime,
    ) -> Result<(), LedgerError> {
        self.write(Point::MachineGone, |transaction| {
            let row = current(transaction, id)?;
            set(
                transaction,
                "stage = ?2, ended_at = ?3, booked = ?4, basis = ?5, reason_code = coalesce(reason_code, ?6) WHERE id = ?1",
                params![id, MachineStage::Gone, now, booked, basis.name(), outcome],
            )?;
            let what = if row.server.is_some() { "stop" } else { "launch" };
            append_event(transaction, what, outcome, booked.unwrap_or(row.reserved), now)
        })
    }
}

impl Reader {
    /// Returns every machine that may cost money, oldest first. Recovery starts with these.
    pub fn machines_open(&self) -> Result<Vec<MachineRow>, LedgerError> {
        self.read(|connection| {
            let sql = format!("{MACHINES} WHERE stage <> 'gone' ORDER BY id");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], machine)?;
            Ok::<_, SqlFault>(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Returns the machines that were launched at or after `since`, oldest first.
    pub fn machines(&self, since: WallTime) -> Result<Vec<MachineRow>, LedgerError> {
        self.read(|connection| {
            let sql = format!("{MACHINES} WHERE created_at >= ?1 ORDER BY id");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![since], machine)?;
            Ok::<_, SqlFault>(rows.collect::<Result<_, _>>()?)
        })
    }
}

fn set(
    transaction: &Transaction<'_>,
    assignments: &str,
    values: impl rusqlite::Params,
) -> Result<(), SqlFault> {
    transaction.prepare_cached(&format!("UPDATE machine SET {assignments}"))?.execute(values)?;
    Ok(())
}

fn append_event(
    transaction: &Transaction<'_>,
    what: &str,
    outcome: &str,
    cost: MicroUsd,
    at: WallTime,
) -> Result<(), SqlFault> {
    let (what, outcome) = (what.to_owned(), outcome.to_owned());
    audit(transaction, &AuditRow { at, what, job: None, outcome, cost })
}

fn current(transaction: &Transaction<'_>, id: MachineId) -> Result<MachineRow, SqlFault> {
    transaction
        .prepare_cached(&format!("{MACHINES} WHERE id = ?1"))?
        .query_row(params![id], machine)
        .optional()?
        .ok_or_else(|| SqlFault::Malformed(format!("there is no machine {id}")))
}

fn machine(row: &Row<'_>) -> rusqlite::Result<MachineRow> {
    let known: String = row.column(6)?;
    let known: Vec<String> = serde_json::from_str(&known).unwrap_or_default();
    let server: Option<String> = row.column(3)?;
    let basis: Option<String> = row.column(20)?;
    Ok(MachineRow {
        id: row.column(0)?,
        session: SessionId(row.column(1)?),
        stage: row.column(2)?,
        server: server.as_deref().and_then(ServerId::new),
        server_type: row.column(4)?,
        workflow_version: row.column(5)?,
        known_before: known.iter().filter_map(|id| ServerId::new(id)).collect(),
        created_at: row.column(7)?,
        launched_at: row.column(8)?,
        ready_at: row.column(9)?,
        ready_is_exact: row.column(10)?,
        idle_since: row.column(11)?,
        stops_at: row.column(12)?,
        last_seen_at: row.column(13)?,
        stopping_at: row.column(14)?,
        ended_at: row.column(15)?,
        reason_code: row.column(16)?,
        hourly: row.column(17)?,
        reserved: row.column(18)?,
        booked: row.column(19)?,
        account: row.column(21)?,
        basis: basis.and_then(|word| CostBasis::ALL.into_iter().find(|basis| basis.name() == word)),
    })
}
