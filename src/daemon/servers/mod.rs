//! Rented machines (cloud mode): one background task that manages all of them.
//!
//! Owns the guarantee that no machine is left running unnoticed. How a job requests one belongs
//! to [`leases`](crate::daemon::services::leases).

pub(crate) mod manager;
mod allocate;
mod lifecycle;
mod notes;
mod status_view;
