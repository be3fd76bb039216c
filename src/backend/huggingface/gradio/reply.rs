//! An answer of a Space or of the proxy in front of it.
//!
//! Owns the kind of the content (JSON, text, a web page, or unreadable) and the message in it.
//! [`crate::backend::huggingface::errors`] owns what it means.

use std::time::Duration;

use serde_json::Value;

use crate::backend::http::{answer::Answer, message::TextSanitizer};

/// An answer with its parsed content.
#[derive(Debug)]
pub(in crate::backend::huggingface) struct Reply<'a> {
    pub(in crate::backend::huggingface) status: u16,
    /// The delay that it asks for.
    pub(in crate::backend::huggingface) retry_after: Option<Duration>,
    /// The content of the body.
    pub(in crate::backend::huggingface) content: Content,
    sanitizer: &'a TextSanitizer,
}

/// The content of a body.
#[derive(Debug)]
pub(in crate::backend::huggingface) enum Content {
    /// JSON of any shape.
    Json(Value),
    /// A web page, which comes from the proxy and not from the app.
    Page,
    /// Another text, or none.
    Text(String),
    /// The body could not be read, for this reason.
    Unreadable(String),
}

impl<'a> Reply<'a> {
    /// Parses `answer`. The token is removed from the text before anything is read from it.
    pub(in crate::backend::huggingface) fn open(
        answer: Answer,
        sanitizer: &'a TextSanitizer,
    ) -> Self {
        let content = match answer.body {
            Err(reason) => Content::Unreadable(reason),
            Ok(bytes) => {
                let text = sanitizer.redact(&String::from_utf8_lossy(&bytes));
                match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
                    Ok(value) => Content::Json(value),
                    Err(_) if text.trim_start().starts_with('<') => Content::Page,
                    // Only the beginning can be shown.
                    Err(_) => Content::Text(text.chars().take(4096).collect()),
                }
            }
        };
        Self { status: answer.status, retry_after: answer.retry_after, content, sanitizer }
    }

    /// Returns the JSON of a success.
    pub(in crate::backend::huggingface) const fn success(&self) -> Option<&Value> {
        match (&self.content, self.status) {
            (Content::Json(value), 200..300) => Some(value),
            _ => None,
        }
    }

    /// Returns whether the app itself rejected a call because its queue is full: nothing
    /// was queued.
    pub(in crate::backend::huggingface) fn is_queue_full(&self) -> bool {
        self.status == 503
            && matches!(&self.content, Content::Json(body)
                if body.get("detail").and_then(Value::as_str).is_some_and(|text| text.contains("ueue")))
    }

    /// Returns the app's text as it may be shown to a person; empty if there is none.
    pub(in crate::backend::huggingface) fn message(&self) -> String {
        let said = match &self.content {
            Content::Json(body) => message_of(body).unwrap_or_default(),
            Content::Page => String::new(),
            Content::Text(text) => text.clone(),
            Content::Unreadable(reason) => reason.clone(),
        };
        self.sanitizer.single_line(&said)
    }
}

/// Returns the text of an error body: `detail` as a text, as a list of errors, or with an `error`
/// in it.
fn message_of(body: &Value) -> Option<String> {
    let said = ["detail", "error", "message"].iter().find_map(|key| body.get(key)).unwrap_or(body);
    match said {
        Value::String(text) => Some(text.clone()),
        Value::Array(entries) => {
            let said = entries.iter().take(5).filter_map(|entry| entry.get("msg")?.as_str());
            Some(said.collect::<Vec<_>>().join("; "))
        }
        Value::Object(_) => said.get("error")?.as_str().map(str::to_owned),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_shape_of_an_error_body_gives_its_words_and_no_token() {
        let sanitizer = TextSanitizer::new(SecretString::from("s3cret"));
        let table = [
            (
                json!({"detail": "Queue is full. Max size is 2 and size is 2."}),
                "Queue is full. Max size is 2 and size is 2.",
            ),
            (
                json!({"detail": [{"loc": ["body", "data"], "msg": "Field required"}]}),
                "Field required",
            ),
            (
                json!({"detail": {"error": "Not authenticated", "auth_message": null}}),
                "Not authenticated",
            ),
            (json!({"error": "bad s3cret"}), "bad [token]"),
            (json!("Not Found"), "Not Found"),
            (json!(7), ""),
        ];
        for (body, message) in table {
            let answer = Answer {
                status: 503,
                retry_after: None,
                date: None,
                body: Ok(body.to_string().into()),
            };
            assert_eq!(Reply::open(answer, &sanitizer).message(), message);
        }
    }
}
