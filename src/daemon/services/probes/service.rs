//! Checks a RunComfy account: balance, deployment, time.
//!
//! Owns the classification of problems into the four that need different actions.
//! [`crate::backend::runcomfy::account`] makes the calls.

use secrecy::SecretString;

use super::PATIENCE;
use crate::{
    backend::{
        CallError, Verdict,
        runcomfy::account::{Account, Asked},
    },
    config::settings::ServerlessConfig,
    domain::{job::RequestId, money::MicroUsd},
};

pub use crate::backend::runcomfy::account::Deployment;

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The token was refused.
    Token(String),
    /// The account has no permission, or must pay first.
    Account(String),
    /// The requested thing does not exist.
    Unknown(String),
    /// No answer, or none that can be trusted: network, proxy, TLS, a failure of the service.
    Unreachable(String),
}

impl Trouble {
    /// Returns the message.
    pub fn words(&self) -> &str {
        let (Self::Token(words)
        | Self::Account(words)
        | Self::Unknown(words)
        | Self::Unreachable(words)) = self;
        words
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Passing { reason, .. } => Self::Unreachable(reason),
            CallError::Fault(fault) => match fault.verdict {
                Verdict::Token => Self::Token(fault.words),
                Verdict::Account => Self::Account(format!("{} {}", fault.words, fault.advice)),
                Verdict::Gone => Self::Unknown(fault.words),
                Verdict::Workflow | Verdict::Service => Self::Unreachable(fault.words),
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
        Account::new(&settings.api_url, token, connect, PATIENCE)
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// Asks for the balance; also returns the service's time in Unix seconds.
    pub async fn balance(&self) -> (Option<i64>, Result<MicroUsd, Trouble>) {
        let Asked { date, answer } = self.0.balance().await;
        (date, answer.map_err(Trouble::from))
    }

    /// Asks for a deployment.
    pub async fn deployment(&self, id: &str) -> Result<Deployment, Trouble> {
        let Some(id) = RequestId::new(id) else {
            return Err(Trouble::Unknown("this is not a RunComfy deployment id".to_owned()));
        };
        self.0.deployment(&id).await.answer.map_err(Trouble::from)
    }
}
