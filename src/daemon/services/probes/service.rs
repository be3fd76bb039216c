//! Checks a RunComfy account: balance, deployment, time.
//!
//! Owns the classification of problems into the four that need different actions.
//! [`crate::backend::runcomfy::own_account`] makes the calls.

use secrecy::SecretString;

use super::PROBE_TIMEOUT;
use crate::{
    backend::{
        CallError, FaultKind,
        runcomfy::account::{Account, TimedAnswer},
    },
    config::settings::ServerlessConfig,
    domain::{job::RequestId, money::MicroUsd},
};

pub use crate::backend::runcomfy::account::Deployment;

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeError {
    /// The token was refused.
    Token(String),
    /// The account has no permission, or must pay first.
    Account(String),
    /// The requested thing does not exist.
    Unknown(String),
    /// No answer, or none that can be trusted: network, proxy, TLS, a failure of the service.
    Unreachable(String),
}

impl ProbeError {
    /// Returns the message.
    pub fn message(&self) -> &str {
        let (Self::Token(message)
        | Self::Account(message)
        | Self::Unknown(message)
        | Self::Unreachable(message)) = self;
        message
    }
}

impl From<CallError> for ProbeError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Transient { reason, .. } => Self::Unreachable(reason),
            CallError::Fault(fault) => match fault.kind {
                FaultKind::Token => Self::Token(fault.message),
                FaultKind::Account => Self::Account(format!("{} {}", fault.message, fault.advice)),
                FaultKind::Gone => Self::Unknown(fault.message),
                FaultKind::Workflow | FaultKind::Service => Self::Unreachable(fault.message),
            },
        }
    }
}

/// The service, used with a token.
#[derive(Debug)]
pub struct Service(Account);

impl Service {
    /// Prepares the checks; the error says what is wrong with the address or the token.
    pub fn new(settings: &ServerlessConfig, token: &SecretString) -> Result<Self, String> {
        let connect = settings.connect_timeout;
        Account::new(&settings.api_url, token, connect, PROBE_TIMEOUT)
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// Asks for the balance; also returns the service's time in Unix seconds.
    pub async fn balance(&self) -> (Option<i64>, Result<MicroUsd, ProbeError>) {
        let TimedAnswer { date, answer } = self.0.balance().await;
        (date, answer.map_err(ProbeError::from))
    }

    /// Asks for a deployment.
    pub async fn deployment(&self, id: &str) -> Result<Deployment, ProbeError> {
        let Some(id) = RequestId::new(id) else {
            return Err(ProbeError::Unknown("this is not a RunComfy deployment id".to_owned()));
        };
        self.0.deployment(&id).await.answer.map_err(ProbeError::from)
    }
}
