//! The daemon: the only code in which time passes and tasks run. All decisions belong to the pure
//! rules of [`crate::domain`].
//!
//! Six rooms, in this order; each uses only rooms that come before it, except that `servers` does
//! not use `inputs`:
//!
//! - [`services`]: what every room uses: the ledger's writer, the configuration as working parts,
//!   backends' health, rate limits, locks, tasks, and the messages and commands between the rooms;
//! - `inputs`: one project's inputs: what is watched, a scan, the preparation of a request;
//! - `servers`: the background task that manages rented machines;
//! - `jobs`: one job as a task, from its request to its placement and handoff, with failover;
//! - [`api`]: the socket for the command line, its routes, and the status that it shows;
//! - [`event_loop`]: starts the daemon ([`event_loop::start`]), owns the engine and the loop around
//!   it: every event is handled by a plain function of the state, which returns what to do.
//!
//! Does not own files, HTTP or SQL; those belong to [`crate::disk`], [`crate::backend`]
//! and [`crate::ledger`].

pub mod services;
pub(crate) mod inputs;
pub(crate) mod servers;
pub(crate) mod jobs;
pub mod api;
pub mod event_loop;

pub use event_loop::event::DaemonEnd;
