//! What the loop's tasks do, apart from jobs: each function is given what it needs and returns a
//! `TaskOutcome`.
//!
//! Owns the work with files, the ledger and the network that the loop itself never touches. When a
//! task starts is decided by `super::state`; `super::performer` starts it.

pub(crate) mod commands;
pub(crate) mod history;
pub mod projects;
pub(crate) mod prune;
pub(crate) mod records;
pub(crate) mod reload;
pub(crate) mod scans;
pub(crate) mod watching;
