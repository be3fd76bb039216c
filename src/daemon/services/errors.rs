//! Why a configuration or a daemon cannot work, and why a backend is unavailable.
//!
//! Owns the errors that more than one room passes on. Each names what it concerns.

use crate::{
    config::secrets::SecretError,
    disk::{DiskError, lock::LockError},
    domain::{
        inputs::prompt::BadPattern,
        request::workflow::{WorkflowFault, bind::BindFault},
    },
    ledger::error::{LedgerError, OpenError},
};

use super::command::CommandErrorKind;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeConfigError {
    /// The workflow's file.
    #[error("`generation.workflow`: {0}")]
    WorkflowFile(String),
    /// The workflow itself.
    #[error("`generation.workflow`: {0}")]
    Workflow(#[from] WorkflowFault),
    /// Its bindings.
    #[error("`generation.bind`: {0}")]
    Bind(#[from] BindFault),
    /// A pattern.
    #[error("`trigger.ignore_prompts`: {0}")]
    Pattern(#[from] BadPattern),
    /// The source of the token.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// The local server's graph.
    #[error("in `local.comfyui_workflow`: {0}")]
    Local(Box<Self>),
    /// The paid backend's settings.
    #[error("[serverless] {0}")]
    Serverless(String),
    /// The local backends' settings.
    #[error("[local] {0}")]
    LocalSettings(String),
}

/// Why a backend is unavailable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The kind of reason.
    pub kind: CommandErrorKind,
    /// The reason and what to do.
    pub reason: String,
}

impl Unavailable {
    pub(crate) fn configuration(reason: impl Into<String>) -> Self {
        Self { kind: CommandErrorKind::Configuration, reason: reason.into() }
    }
}

/// Why a daemon could not start. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process serves the state folder or a project.
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
    #[error("cannot install the signal handlers: {0}")]
    Signals(std::io::Error),
}
