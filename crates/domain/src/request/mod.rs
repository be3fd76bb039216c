//! What a backend is sent: the workflow and the values that a job puts into it.
//!
//! Owns the request as a value. How it is sent is the backend's.

pub mod workflow;
pub mod overrides;
