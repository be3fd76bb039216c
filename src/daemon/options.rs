//! What a daemon is started with, and why it could not start.
//!
//! Owns the values that [`super::start`] takes and returns, but no step of the start itself.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::live::Live;
use crate::{
    config::{Loaded, sources::Sources},
    disk::{DiskError, lock::LockError},
    domain::status,
    ledger::error::{LedgerError, OpenError},
    logging::Logging,
    web::OnceRequest,
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
    pub live: Live,
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

/// Why a daemon could not start. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another daemon serves the state folder or a project.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// The ledger refused an operation.
    #[error(transparent)]
    Operation(#[from] LedgerError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The socket for the command line cannot be opened.
    #[error("cannot listen on {path}: {source}")]
    Socket {
        /// The path of the socket.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The signals cannot be taken over.
    #[error("cannot take over the signals: {0}")]
    Signals(std::io::Error),
}
