//! A project's inputs: what is watched, what a scan saw, what was prepared from it.
//!
//! Owns the state of one project. The event loop decides when a scan begins and what follows
//! from it.

pub(crate) mod wake_queue;
pub(crate) mod scan;
pub(crate) mod prepare;
pub(crate) mod project_state;
