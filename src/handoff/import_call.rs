//! CONJURE's HTTP API: one short call that puts members into its state.
//!
//! Owns the request and the sorting of what became of it. `POST /state/update` is used and not `/blender/import_mesh`, because
//! only it can write our mark together with the command. CONJURE generates inside its request handlers, so while its own
//! pipeline runs every call hangs for minutes: the time-outs are short, and a call without an answer may still be
//! carried out.

use std::time::Duration;

use serde_json::{Map, Value, json};
use url::Url;

/// How long connecting may take. It is this machine's own port.
pub const CONNECT: Duration = Duration::from_secs(1);

/// How long the whole call may take.
pub const TOTAL: Duration = Duration::from_secs(5);

/// A call to be sent.
#[derive(Clone, Debug)]
pub struct Call {
    updates: Map<String, Value>,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// CONJURE says that it has written. Whether into *our* checkout, the file tells.
    Accepted,
    /// It was not carried out, for this reason.
    Refused(String),
    /// Nobody knows.
    Unanswered,
}

impl Call {
    pub(super) fn new(changes: Vec<(&str, Value)>) -> Self {
        let updates = changes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { updates }
    }

    /// Tells whether it holds the command.
    pub fn asks(&self) -> bool {
        self.updates.contains_key("command")
    }

    /// Sends it, once. `client` connects within [`CONNECT`] and follows no redirect.
    pub async fn send(&self, client: &reqwest::Client, api: &Url) -> Outcome {
        let Ok(url) = api.join("state/update") else {
            return Outcome::Refused(format!("{api} is no address of an API"));
        };
        let body = json!({ "updates": self.updates });
        match client.post(url).timeout(TOTAL).json(&body).send().await {
            Ok(answer) if answer.status().is_success() => Outcome::Accepted,
            Ok(answer) if answer.status().is_server_error() => Outcome::Unanswered,
            Ok(answer) => Outcome::Refused(format!("its API answered {}", answer.status())),
            Err(error) if error.is_connect() => {
                Outcome::Refused("nothing answers at its API's address".to_owned())
            }
            Err(_) => Outcome::Unanswered,
        }
    }
}
