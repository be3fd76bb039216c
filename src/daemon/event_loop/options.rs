//! What a daemon is started with, and why it could not start.
//!
//! Owns the values that [`super::start`] takes and gives back, no step of the start itself.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use crate::{
    config::{Loaded, sources::Sources},
    daemon::services::{command::OnceRequest, runtime_config::Live},
    domain::status,
    logging::Logging,
};

/// What a daemon is started for.
#[derive(Debug)]
pub enum Purpose {
    /// Until a signal comes.
    Serve,
    /// One job now, without watching.
    OneJob(OnceRequest),
}

/// Everything a daemon needs.
pub struct Options {
    /// The configuration.
    pub loaded: Loaded,
    /// Where it came from, for reloads.
    pub sources: Sources,
    /// The configuration, alive.
    pub live: Live,
    /// The log, whose level a reload may change.
    pub log: Option<Logging>,
    /// What it is started for.
    pub purpose: Purpose,
    /// Whether it takes over the signals of the process.
    pub signals: bool,
    /// Tells it to stop, as a signal would.
    pub stop: Option<oneshot::Receiver<()>>,
    /// Where the status appears; a reader may watch it.
    pub status: watch::Sender<Arc<status::Status>>,
}
