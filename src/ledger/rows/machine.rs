//! The input and output types of rented machines.
//!
//! Owns the types. The `machines` module of [`crate::ledger`] changes them.

use super::SessionId;
use crate::domain::{
    machines::{MachineId, MachineStage, ServerId},
    money::{MicroUsd, job_cost::CostBasis},
    time::WallTime,
};

/// A machine to launch.
#[derive(Clone, Debug)]
pub struct NewMachine {
    /// Our id of the launch.
    pub id: MachineId,
    /// The session that pays.
    pub session: SessionId,
    /// The service's user id.
    pub account: String,
    /// The service's name of the machine type.
    pub server_type: String,
    /// The service's id of the workflow version that it is launched with.
    pub workflow_version: String,
    /// The account's machines before the launch.
    pub known_before: Vec<ServerId>,
    /// The price of one hour.
    pub hourly: MicroUsd,
    /// The expected cost, to be reserved.
    pub reserve: MicroUsd,
    /// When its launch is about to be asked for.
    pub at: WallTime,
}

/// A machine in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineRow {
    /// Our id of the launch.
    pub id: MachineId,
    /// The session that launched it.
    pub session: SessionId,
    /// The stage of its life.
    pub stage: MachineStage,
    /// The service's id, once it is known.
    pub server: Option<ServerId>,
    /// The service's user id.
    pub account: String,
    /// The service's name of the machine type.
    pub server_type: String,
    /// The service's id of the workflow version.
    pub workflow_version: String,
    /// The account's machines before the launch.
    pub known_before: Vec<ServerId>,
    /// When the mark of the launch was written.
    pub created_at: WallTime,
    /// When the launch was answered, or the machine was found.
    pub launched_at: Option<WallTime>,
    /// When its billing starts, or a time at which it was not ready yet.
    pub ready_at: Option<WallTime>,
    /// Whether that start was observed.
    pub ready_is_exact: bool,
    /// Since when no job uses it; `None` while one does.
    pub idle_since: Option<WallTime>,
    /// When the service stops it automatically, according to its last answer.
    pub stops_at: Option<WallTime>,
    /// When the service last reported it.
    pub last_seen_at: Option<WallTime>,
    /// When the mark of the stop was written.
    pub stopping_at: Option<WallTime>,
    /// When it was known to be stopped.
    pub ended_at: Option<WallTime>,
    /// Why it was stopped, as a word.
    pub reason_code: Option<String>,
    /// The price of one hour.
    pub hourly: MicroUsd,
    /// The money reserved for it.
    pub reserved: MicroUsd,
    /// The amount booked; `None` while the reservation counts.
    pub booked: Option<MicroUsd>,
    /// How the booked amount was determined.
    pub basis: Option<CostBasis>,
}
