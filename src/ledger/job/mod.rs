//! What a job writes to the ledger, one transaction per step: from its release to its end, and the
//! records beside it.
//!
//! Owns the order of states and what is committed with each. Reading belongs to `queries`.

pub mod transition;
pub(crate) mod events;
mod release;
mod progress;
mod failover;
pub mod finish;
mod annotations;
