//! What goes in and comes out of rented machines.
//!
//! Owns the shapes; what may change them is [`crate::ledger`]'s `machines`.

use super::SessionId;
use crate::domain::{
    machines::{MachineId, ServerId, Stage},
    money::{MicroUsd, job_cost::Basis},
    time::WallTime,
};

/// A machine to be launched.
#[derive(Clone, Debug)]
pub struct NewMachine {
    /// Our name of the launch.
    pub id: MachineId,
    /// The session that pays.
    pub session: SessionId,
    /// The service's user id.
    pub account: String,
    /// The service's word for the machine.
    pub server_type: String,
    /// The service's id of the workflow version that it is launched with.
    pub workflow_version: String,
    /// The account's machines before the launch.
    pub known_before: Vec<ServerId>,
    /// What an hour of it costs.
    pub hourly: MicroUsd,
    /// What it is expected to cost, to be reserved.
    pub reserve: MicroUsd,
    /// The time.
    pub at: WallTime,
}

/// A machine as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineRow {
    /// Our name of the launch.
    pub id: MachineId,
    /// The session that launched it.
    pub session: SessionId,
    /// Where it is in its life.
    pub stage: Stage,
    /// The service's id, once it is known.
    pub server: Option<ServerId>,
    /// The service's user id.
    pub account: String,
    /// The service's word for the machine.
    pub server_type: String,
    /// The service's id of the workflow version.
    pub workflow_version: String,
    /// The account's machines before the launch.
    pub known_before: Vec<ServerId>,
    /// When the mark of the launch was written.
    pub created_at: WallTime,
    /// When the launch was answered, or the machine was found.
    pub launched_at: Option<WallTime>,
    /// From when on it is billed, or a time at which it was not ready yet.
    pub ready_at: Option<WallTime>,
    /// Whether that was seen.
    pub ready_seen: bool,
    /// Since when no job has it; `None` while one does.
    pub idle_since: Option<WallTime>,
    /// When the service stops it by itself, as it last told.
    pub stops_at: Option<WallTime>,
    /// When the service last said that it lives.
    pub last_seen_at: Option<WallTime>,
    /// When the mark of the stop was written.
    pub stopping_at: Option<WallTime>,
    /// When it was known to be stopped.
    pub ended_at: Option<WallTime>,
    /// Why it was stopped: a word.
    pub reason_code: Option<String>,
    /// What an hour of it costs.
    pub hourly: MicroUsd,
    /// What is reserved for it.
    pub reserved: MicroUsd,
    /// What is booked; `None` while the reservation counts.
    pub booked: Option<MicroUsd>,
    /// How that came about.
    pub basis: Option<Basis>,
}
