//! A ComfyUI, asked whether it is there.
//!
//! Owns one GET of `/system_stats`, which every ComfyUI since 2023 answers with a JSON that has `system`.

use std::time::Duration;

use reqwest::header::ACCEPT;
use serde_json::Value;
use url::Url;

use super::http::{Connector, Timeouts, answer::Answer, send};

/// The answer has one or two KB.
const LIMIT: usize = 256 * 1024;

/// Asks; returns its version where it tells, or why it is none.
pub async fn comfyui(origin: &Url, patience: Duration) -> Result<Option<String>, String> {
    let mut url = origin.clone();
    url.set_path(&format!("{}/system_stats", origin.path().trim_end_matches('/')));
    let connector = Connector::new(Timeouts { connect: patience, read_idle: patience });
    let client = connector.client(&url).map_err(|error| error.to_string())?;
    let request = client.get(url).header(ACCEPT, "application/json").timeout(patience);
    let answer = Answer::read(send::send(request).await?, LIMIT).await;
    if answer.status != 200 {
        return Err(format!("something answers HTTP {}, and it is no ComfyUI", answer.status));
    }
    let json: Value = serde_json::from_slice(&answer.body?).unwrap_or_default();
    let Some(system) = json.get("system") else {
        return Err("something answers there, and it is no ComfyUI".to_owned());
    };
    Ok(system
        .get("comfyui_version")
        .and_then(Value::as_str)
        .map(|text| text.chars().filter(|c| !c.is_control()).take(40).collect()))
}
