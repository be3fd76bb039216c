//! What a daemon is started with, and why it could not start.
//!
//! Owns the values that [`super::start`] takes and gives back, no step of the start itself.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use crate::{
    config::{Loaded, sources::Sources},
    daemon::services::{command::OnceRequest, runtime_config::Live},
    disk::{DiskError, lock::LockError},
    domain::status,
    ledger::error::{LedgerError, OpenError},
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

/// Why a daemon could not start. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one serves the state folder or a project.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// The ledger refuses an operation.
    #[error(transparent)]
    Operation(#[from] LedgerError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The socket for the command line cannot be opened.
    #[error("cannot listen on {path}: {source}")]
    Socket {
        /// The socket.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The signals cannot be taken over.
    #[error("cannot take over the signals: {0}")]
    Signals(std::io::Error),
}
