//! The rules, pure: inputs become a job, a job becomes a request, and every decision on the way.
//!
//! Nothing in here reads a clock, a file or the network, or runs by itself: all of it is functions from values to
//! values, so that each rule can be tried with a table of cases.

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
