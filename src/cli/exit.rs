//! How the program ends: documented exit codes, reached from typed errors, each with a message
//! for people.
//!
//! Owns the codes (they follow BSD's `sysexits.h`, as the official RunComfy command line does) and
//! the mapping from errors to codes. Messages say what happened, whether money was involved, and
//! what to do.

use crate::{
    backend::runcomfy,
    config::{errors::ConfigErrors, secrets::SecretError},
    daemon::{
        jobs::OUT_FOLDER,
        services::{
            command::{CommandError, CommandErrorKind},
            errors::{RuntimeConfigError, StartError},
        },
    },
    ledger::error::{LedgerError, OpenError},
};

/// A job failed or was cancelled.
pub const JOB_FAILED: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 64;
/// Bad input or workflow.
pub const BAD_INPUT: u8 = 65;
/// An input file is missing.
pub const MISSING_INPUT: u8 = 66;
/// The backend is unavailable, or no daemon answers.
pub const UNAVAILABLE: u8 = 69;
/// A bug.
pub const BUG: u8 = 70;
/// Outputs cannot be written.
pub const CANNOT_WRITE: u8 = 73;
/// Temporary failure, try again: locked, timed out, rate-limited.
pub const TRY_AGAIN: u8 = 75;
/// The token is missing or was refused.
pub const TOKEN: u8 = 77;
/// Invalid configuration.
pub const CONFIGURATION: u8 = 78;

/// Why a command ended without doing what it was asked to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// The message for standard error; empty if everything was already printed.
    pub message: String,
}

impl Failure {
    /// Creates a failure with a message.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Creates a failure whose message was already printed.
    pub const fn silent(code: u8) -> Self {
        Self { code, message: String::new() }
    }
}

/// Returns the exit code of a refusal.
pub const fn code_of(kind: CommandErrorKind) -> u8 {
    match kind {
        CommandErrorKind::Usage | CommandErrorKind::NotFound => USAGE,
        CommandErrorKind::BadInput => BAD_INPUT,
        CommandErrorKind::MissingInput => MISSING_INPUT,
        CommandErrorKind::TryAgain => TRY_AGAIN,
        CommandErrorKind::Unavailable => UNAVAILABLE,
        CommandErrorKind::Token => TOKEN,
        CommandErrorKind::Configuration => CONFIGURATION,
        CommandErrorKind::CannotWrite => CANNOT_WRITE,
    }
}

/// Returns the exit code of a job that failed with this reason code.
pub fn code_of_reason(reason: &str) -> u8 {
    match reason {
        "not_sent" => UNAVAILABLE,
        "401001" | "http_401" | "403003" | "http_403" => TOKEN,
        "queue_timeout" | "run_timeout" => TRY_AGAIN,
        OUT_FOLDER => CANNOT_WRITE,
        _ => JOB_FAILED,
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        Self::new(code_of(error.kind), error.message)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::new(CONFIGURATION, errors.to_string())
    }
}

impl From<RuntimeConfigError> for Failure {
    fn from(error: RuntimeConfigError) -> Self {
        let code = match &error {
            RuntimeConfigError::Local(error)
                if matches!(**error, RuntimeConfigError::Workflow(_)) =>
            {
                BAD_INPUT
            }
            RuntimeConfigError::Workflow(_) => BAD_INPUT,
            RuntimeConfigError::WorkflowFile(_)
            | RuntimeConfigError::Bind(_)
            | RuntimeConfigError::Pattern(_)
            | RuntimeConfigError::Local(_)
            | RuntimeConfigError::Serverless(_)
            | RuntimeConfigError::LocalSettings(_) => CONFIGURATION,
            RuntimeConfigError::Token(_) => TOKEN,
        };
        Self::new(code, error.to_string())
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self::new(TOKEN, error.to_string())
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let code = match &error {
            LedgerError::NoSuchJob(_) | LedgerError::Ambiguous { .. } => USAGE,
            LedgerError::Store(_) => TRY_AGAIN,
            _ => BUG,
        };
        Self::new(code, error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let code = match &error {
            OpenError::Missing { .. } => UNAVAILABLE,
            OpenError::Unreachable { .. } | OpenError::NoWriteAheadLog { .. } => CANNOT_WRITE,
            OpenError::Foreign { .. }
            | OpenError::Newer { .. }
            | OpenError::Older { .. }
            | OpenError::TooLong { .. } => CONFIGURATION,
            OpenError::Store(_) => TRY_AGAIN,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Ledger(error) => error.into(),
            StartError::Operation(error) => error.into(),
            StartError::Locked(crate::disk::lock::LockError::Held { .. }) => {
                Self::new(TRY_AGAIN, error.to_string())
            }
            StartError::Disk(error) => Self::new(
                CANNOT_WRITE,
                format!(
                    "{error}; nothing was sent. Make that folder writable, or set another one \
                     with --state-dir or `state_dir`"
                ),
            ),
            StartError::Locked(_) | StartError::Socket { .. } => {
                Self::new(CANNOT_WRITE, error.to_string())
            }
            StartError::Signals(_) => Self::new(BUG, error.to_string()),
        }
    }
}

impl From<runcomfy::SettingsError> for Failure {
    fn from(error: runcomfy::SettingsError) -> Self {
        Self::new(CONFIGURATION, error.to_string())
    }
}
