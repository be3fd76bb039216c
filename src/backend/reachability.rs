//! Reachability probes for ComfyUI servers and Hugging Face Spaces.
//!
//! Owns three GET requests that start nothing: `/system_stats`, which every ComfyUI since 2023
//! answers with JSON that contains `system`; `/config`, which every Gradio app answers with JSON
//! that contains `dependencies`; and the hub's record of a Space.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::http::{Connector, Timeouts, answer::Answer, send};

/// The hub that holds the records of the Spaces.
const HUB: &str = "https://huggingface.co";

/// The answer of a ComfyUI has one or two KB, the hub's answer a little more.
const LIMIT: usize = 256 * 1024;

/// A Gradio app describes its whole page.
const DESCRIPTION_LIMIT: usize = 8 * 1024 * 1024;

/// Probes `origin`. Returns the version if the server reports one, or why it is not a ComfyUI.
pub async fn comfyui(origin: &Url, patience: Duration) -> Result<Option<String>, String> {
    let mut url = origin.clone();
    url.set_path(&format!("{}/system_stats", origin.path().trim_end_matches('/')));
    let connector = Connector::new(Timeouts { connect: patience, read_idle: patience });
    let client = connector.client(&url).await.map_err(|error| error.to_string())?;
    let request = client.get(url).header(ACCEPT, "application/json").timeout(patience);
    let answer = Answer::read(send::send(request).await?, LIMIT).await;
    if answer.status != 200 {
        return Err(format!("a server answers with HTTP {}, but it is not ComfyUI", answer.status));
    }
    let json: Value = serde_json::from_slice(&answer.body?).unwrap_or_default();
    let Some(system) = json.get("system") else {
        return Err("a server answers, but it is not ComfyUI".to_owned());
    };
    Ok(system
        .get("comfyui_version")
        .and_then(Value::as_str)
        .map(|text| text.chars().filter(|c| !c.is_control()).take(40).collect()))
}

/// Probes `base`. Returns the version if the app reports one, or why it is not a Gradio app.
pub async fn gradio(
    base: &Url,
    token: Option<&SecretString>,
    patience: Duration,
) -> Result<Option<String>, String> {
    let json = get_json(base, "config", token, patience, DESCRIPTION_LIMIT).await?;
    if json.get("dependencies").is_none() {
        return Err("a server answers, but it is not a Gradio app".to_owned());
    }
    Ok(short(json.get("version")))
}

/// Asks the hub for the stage of the Space `name` (`owner/name`). Returns it in the hub's capitals,
/// if there is one, or why the Space cannot be used.
pub async fn space(
    name: &str,
    token: Option<&SecretString>,
    patience: Duration,
) -> Result<Option<String>, String> {
    let hub = Url::parse(HUB).map_err(|error| error.to_string())?;
    let path = format!("api/spaces/{name}");
    reject_unusable(short(
        get_json(&hub, &path, token, patience, LIMIT).await?.pointer("/runtime/stage"),
    ))
}

/// Rejects the stages in which a Space never answers without its owner; in all others it answers
/// now or will answer later.
fn reject_unusable(stage: Option<String>) -> Result<Option<String>, String> {
    let word = stage.as_deref().unwrap_or_default();
    if word.ends_with("ERROR") || ["PAUSED", "STOPPED", "DELETING", "NO_APP_FILE"].contains(&word) {
        return Err(format!("its stage is {word}, and only its owner can change that"));
    }
    Ok(stage)
}

async fn get_json(
    origin: &Url,
    path: &str,
    token: Option<&SecretString>,
    patience: Duration,
    limit: usize,
) -> Result<Value, String> {
    let mut url = origin.clone();
    url.set_path(&format!("{}/{path}", origin.path().trim_end_matches('/')));
    let connector = Connector::new(Timeouts { connect: patience, read_idle: patience });
    let client = connector.client(&url).await.map_err(|error| error.to_string())?;
    let mut request = client.get(url).header(ACCEPT, "application/json").timeout(patience);
    if let Some(token) = token {
        let text = format!("Bearer {}", token.expose_secret());
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| "the token contains characters that a header cannot contain")?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let answer = Answer::read(send::send(request).await?, limit).await;
    match (answer.status, token) {
        (200, _) => Ok(serde_json::from_slice(&answer.body?).unwrap_or_default()),
        // To a request without a token, the hub answers 401 for Spaces that do not exist, too.
        (401 | 403 | 404, None) => Err(format!(
            "HTTP {}: it does not exist, or it is private and needs a token",
            answer.status
        )),
        (401 | 403 | 404, Some(_)) => Err(format!(
            "HTTP {}: it does not exist, or your token has no access to it",
            answer.status
        )),
        (status, _) => Err(format!("a server answers with HTTP {status}")),
    }
}

fn short(value: Option<&Value>) -> Option<String> {
    let text = value.and_then(Value::as_str)?;
    Some(text.chars().filter(|c| !c.is_control()).take(40).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_that_sleeps_will_wake_and_one_that_is_paused_will_not() {
        for stage in ["RUNNING", "SLEEPING", "BUILDING", "APP_STARTING", "SOMETHING_NEW"] {
            assert_eq!(reject_unusable(Some(stage.to_owned())), Ok(Some(stage.to_owned())));
        }
        assert_eq!(reject_unusable(None), Ok(None));
        for stage in ["PAUSED", "RUNTIME_ERROR", "BUILD_ERROR", "CONFIG_ERROR", "STOPPED"] {
            let why = reject_unusable(Some(stage.to_owned())).expect_err(stage);
            assert!(why.contains(stage) && why.contains("only its owner"), "{why}");
        }
    }
}
