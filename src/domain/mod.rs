//! Decides which inputs become a job, how a job becomes a request, and every choice in between.
//!
//! All functions here are pure: they map values to values, read no clock, file or network, and
//! spawn nothing. So each rule can be tested with a table of cases.

pub mod moment;
pub mod fingerprint;
pub mod prompt;
pub mod png;
pub mod picture;
pub mod glb;
pub mod settle;
pub mod trigger;
pub mod engine;
pub mod workflow;
pub mod overrides;
pub mod job;
pub mod money;
pub mod deployment;
pub mod estimate;
pub mod bill;
pub mod machine;
pub mod machine_bill;
pub mod budget;
pub mod backoff;
pub mod breaker;
pub mod route;
pub mod pace;
pub mod progress;
pub mod product;
pub mod placement;
pub mod spending;
pub mod advice;
pub mod handoff;
pub mod hands;
pub mod status;
pub mod rival;
