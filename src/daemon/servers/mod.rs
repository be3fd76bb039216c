//! Rented machines (cloud mode): one standing task that owns every one of them.
//!
//! Owns the promise that no machine is left running unnoticed. How a job asks for one is
//! [`leases`](crate::daemon::services::leases)'.

pub(crate) mod manager;
mod allocate;
mod lifecycle;
mod notes;
mod status_view;
