//! Questions that cost nothing and change nothing, for `login` and `doctor`: is the token good, does the deployment take
//! work, does a ComfyUI or a Space answer, what time is it there.
//!
//! Owns the calls and the words about their ends, so that the command line need not know a backend. It judges nothing, tries
//! nothing twice, and never asks for longer than [`PATIENCE`].

mod service;

use std::time::Duration;

pub use self::service::{Deployment, Service, Trouble};
use secrecy::SecretString;

use crate::{
    backend::reachability,
    config::settings::{LocalConfig, Space},
};

/// The longest that one question may take, from looking up the name to the answer's end.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// Does blocking work, and gives up waiting for it when it hangs, as a network drive can.
pub async fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    tokio::time::timeout(patience, tokio::task::spawn_blocking(work)).await.ok()?.ok()
}

/// Asks the configured ComfyUI whether it is there; returns its version where it tells, or why it is none.
pub async fn comfyui(local: &LocalConfig) -> Result<Option<String>, String> {
    reachability::comfyui(&local.comfyui_url, PATIENCE).await
}

/// Asks about a Space: the hub about one of its own, another one itself. Returns what is said of it, or why it cannot serve.
pub async fn space(space: &Space, token: Option<&SecretString>) -> Result<String, String> {
    match space {
        Space::Named(name) => {
            let stage = reachability::space(name, token, PATIENCE).await?;
            Ok(stage.map_or_else(|| "it is there".to_owned(), |stage| format!("it is {stage}")))
        }
        Space::At(url) => {
            let version = reachability::gradio(url, token, PATIENCE).await?;
            Ok(format!("Gradio {}", version.as_deref().unwrap_or("of an unknown version")))
        }
    }
}
