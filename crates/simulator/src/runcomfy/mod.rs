//! RunComfy's side: the queue, the meter, the machines, and the origins that speak for them.
//!
//! Owns what the service remembers and answers. How it is set up and ordered to go wrong is [`crate`]'s.

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
