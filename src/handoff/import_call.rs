//! CONJURE's HTTP API: one short call that writes members into its state.
//!
//! Owns the request and the classification of its result. It uses `POST /state/update` and not
//! `/blender/import_mesh`, because only the former can write our marker together with the command.
//! CONJURE generates inside its request handlers, so every call hangs for minutes while its own
//! pipeline runs: the time-outs are short, and a call without an answer may still be carried out.

use std::time::Duration;

use serde_json::{Map, Value, json};
use url::Url;

/// The time-out for connecting. The port is on this machine.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The time-out for the whole call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A call to be sent.
#[derive(Clone, Debug)]
pub struct ImportCall {
    updates: Map<String, Value>,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// CONJURE reports a write. Only the file shows whether it was in *our* checkout.
    Accepted,
    /// It was not carried out, for this reason.
    Refused(String),
    /// It is not known whether it was carried out.
    Unanswered,
}

impl ImportCall {
    pub(super) fn new(changes: Vec<(&str, Value)>) -> Self {
        let updates = changes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { updates }
    }

    /// Returns whether it contains the command.
    pub fn is_request(&self) -> bool {
        self.updates.contains_key("command")
    }

    /// Sends it once. `client` connects within [`CONNECT_TIMEOUT`] and follows no redirects.
    pub async fn send(&self, client: &reqwest::Client, api: &Url) -> ImportOutcome {
        let Ok(url) = api.join("state/update") else {
            return ImportOutcome::Refused(format!("{api} is not a valid API address"));
        };
        let body = json!({ "updates": self.updates });
        match client.post(url).timeout(CALL_TIMEOUT).json(&body).send().await {
            Ok(answer) if answer.status().is_success() => ImportOutcome::Accepted,
            Ok(answer) if answer.status().is_server_error() => ImportOutcome::Unanswered,
            Ok(answer) => ImportOutcome::Refused(format!("its API answered {}", answer.status())),
            Err(error) if error.is_connect() => {
                ImportOutcome::Refused(format!("could not connect to its API at {api}"))
            }
            Err(_) => ImportOutcome::Unanswered,
        }
    }
}
