//! Decides which inputs become a job, how a job becomes a request, and every choice in between.
//!
//! All functions here are pure: they map values to values, read no clock, file or network, and
//! spawn nothing. So each rule can be tested with a table of cases.

pub mod time;
pub mod fingerprint;
pub mod inputs;
pub mod picture;
pub mod mesh;
pub mod engine;
pub mod request;
pub mod job;
pub mod money;
pub mod machines;
pub mod cost_report;
pub mod blender;
pub mod status;
