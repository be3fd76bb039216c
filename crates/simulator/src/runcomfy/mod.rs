//! RunComfy's side: the queue, billing, the machines, and the servers that answer for them.
//!
//! Owns the service's state and its answers. Its set-up and its ordered faults belong to [`crate`].

pub(crate) mod queue;
mod billing;
mod graph;
mod intake;
mod request;
pub(crate) mod state;
mod replies;
pub(crate) mod server;
pub(crate) mod storage;
mod deployments;
mod machines;
mod servers;
mod control;
