//! `conjured`, the background daemon of CONJURE: it notices what an artist said and sculpted, sends
//! **one** paid job for it to a serverless GPU, follows the job, and places the picture and the
//! mesh in the files that CONJURE and Blender read.
//!
//! The modules below are in reading order. Dependencies go in one direction only, see
//! `ARCHITECTURE.md`: `main → cli → daemon → config, backend, handoff → disk, ledger → domain
//! → nothing`.

pub use conjured_domain as domain;
pub mod backend;
pub mod disk;
pub mod handoff;
pub mod ledger;
pub mod config;
pub mod daemon;
#[cfg(feature = "simulator")]
pub use conjured_simulator as simulator;
pub mod cli;
pub mod allocator;
pub mod clock;
pub mod failpoint;
pub mod logging;
