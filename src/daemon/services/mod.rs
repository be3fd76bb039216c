//! What every room of the daemon is handed: the ledger, the backends, limits, locks, tasks, and the messages between them.
//!
//! Owns no decision. It names no other room; all of them may name it.

pub mod command;
pub(crate) mod messages;
pub mod runtime_config;
pub(crate) mod store;
pub(crate) mod leases;
pub(crate) mod health;
pub(crate) mod rate_limiter;
pub(crate) mod project_locks;
pub(crate) mod budget_windows;
pub(crate) mod tasks;
pub mod probes;
