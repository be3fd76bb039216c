//! How the steps of a job are performed, each an operation of
//! [`JobRun`](crate::daemon::jobs::driver::JobRun).
//!
//! Owns the calls to the services and what is recorded about them. None of these files decides what
//! comes next: [`crate::domain::job::flow`] does.
//!
//! - [`backends`]: another backend, a probe, the request as bytes, a rented machine;
//! - [`submit`]: permission, the request, its answer;
//! - [`follow`]: status calls, the result, the cancel;
//! - [`fetch`]: downloads into history;
//! - [`place`]: the public names, CONJURE, the end.

mod backends;
pub(super) mod submit;
mod follow;
mod fetch;
mod place;
