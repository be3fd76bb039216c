//! What a daemon is started with, and why it could not start.
//!
//! Owns the values that [`super::start`] takes and returns, but no step of the start itself.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use crate::{
    config::{Loaded, sources::Sources},
    daemon::services::{command::OnceRequest, runtime_config::RuntimeConfig},
    domain::status,
    logging::Logging,
};

/// The purpose of a start.
#[derive(Debug)]
pub enum Purpose {
    /// Serve until a signal arrives.
    Serve,
    /// Run one job now, without watching.
    OneJob(OnceRequest),
}

/// Everything a daemon needs.
pub struct Options {
    /// The configuration.
    pub loaded: Loaded,
    /// Its sources, for reloads.
    pub sources: Sources,
    /// The configuration as working parts.
    pub runtime_config: RuntimeConfig,
    /// The log, whose level a reload may change.
    pub log: Option<Logging>,
    /// The purpose of the start.
    pub purpose: Purpose,
    /// Whether it takes over the signals of the process.
    pub signals: bool,
    /// Receives the order to stop, as a signal would give it.
    pub stop: Option<oneshot::Receiver<()>>,
    /// Where the status is published; a reader may watch it.
    pub status: watch::Sender<Arc<status::Status>>,
}
