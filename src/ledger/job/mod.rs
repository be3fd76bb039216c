//! What a job writes, one transaction a step: from its release to its end, and beside it.
//!
//! Owns the order of states and what is committed with each. Reading is `queries`'s.

pub mod transition;
pub(crate) mod events;
mod release;
mod progress;
mod failover;
pub mod finish;
mod annotations;
