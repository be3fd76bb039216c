//! Free and read-only checks for `login` and `doctor`: is the token valid, does the deployment
//! accept work, does a ComfyUI or a Space answer, what is the server's time.
//!
//! Owns the calls and the texts about their results, so that the command line needs no knowledge of
//! a backend. It judges nothing, retries nothing, and never waits longer than [`PROBE_TIMEOUT`].

mod service;

use std::time::Duration;

pub use self::service::{Deployment, ProbeError, Service};
use secrecy::SecretString;

use crate::{
    backend::reachability,
    config::settings::{LocalConfig, SpaceSetting},
};

/// The longest that one check may take, from the name lookup to the end of the answer.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(8);

/// Runs blocking work, and stops waiting if it hangs, as a network drive can.
pub async fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    tokio::time::timeout(patience, tokio::task::spawn_blocking(work)).await.ok()?.ok()
}

/// Checks whether the configured ComfyUI answers; returns its version if it reports one, or why it
/// is unavailable.
pub async fn comfyui(local: &LocalConfig) -> Result<Option<String>, String> {
    reachability::comfyui(&local.comfyui_url, PROBE_TIMEOUT).await
}

/// Checks a Space: asks the hub about one of its Spaces, or any other Space directly. Returns its
/// description, or why it is unavailable.
pub async fn space(space: &SpaceSetting, token: Option<&SecretString>) -> Result<String, String> {
    match space {
        SpaceSetting::Named(name) => {
            let stage = reachability::space(name, token, PROBE_TIMEOUT).await?;
            Ok(stage
                .map_or_else(|| "available".to_owned(), |stage| format!("its state is {stage}")))
        }
        SpaceSetting::At(url) => {
            let version = reachability::gradio(url, token, PROBE_TIMEOUT).await?;
            Ok(format!("Gradio {}", version.as_deref().unwrap_or("(unknown version)")))
        }
    }
}
