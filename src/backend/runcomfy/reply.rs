//! An answer of RunComfy's API: its JSON or plain text, its error code and its message.
//!
//! Owns what all kinds of answers have in common. It trusts nothing: members may be missing, new,
//! or of another type, and a body may be a proxy's HTML page. It does not decide what happens to
//! a job.

use std::time::Duration;

use serde_json::Value;

use super::errors;
use crate::backend::{
    CallError, FaultKind, ServiceFault,
    http::{answer::Answer, message::TextSanitizer},
};

/// An answer with its parsed content.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    pub(super) status: u16,
    /// The delay that the service asks for.
    pub(super) retry_after: Option<Duration>,
    /// The content of the body.
    pub(super) content: Content,
    sanitizer: &'a TextSanitizer,
}

/// The content of a body.
#[derive(Debug)]
pub(super) enum Content {
    /// JSON of any shape.
    Json(Value),
    /// Anything else: a proxy's page, a plain word, or nothing.
    Text(String),
    /// The body could not be read, for this reason.
    Unreadable(String),
}

impl<'a> Reply<'a> {
    /// Parses `answer`. The token is removed from the text before anything is read from it.
    pub(super) fn open(answer: Answer, sanitizer: &'a TextSanitizer) -> Self {
        let content = match answer.body {
            Err(reason) => Content::Unreadable(reason),
            Ok(bytes) => {
                let text = sanitizer.redact(&String::from_utf8_lossy(&bytes));
                // The parser limits the depth (128), the caller limits the size.
                serde_json::from_str(text.trim_start_matches('\u{feff}'))
                    .map_or(Content::Text(text), Content::Json)
            }
        };
        Self { status: answer.status, retry_after: answer.retry_after, content, sanitizer }
    }

    /// Returns whether the HTTP status is a success. All of 2xx counts: clients have seen 200 and
    /// 202 for every operation.
    pub(super) const fn is_success(&self) -> bool {
        matches!(self.status, 200..300)
    }

    /// Returns the JSON, whatever its shape; null if the body is not JSON.
    pub(super) const fn json(&self) -> &Value {
        match &self.content {
            Content::Json(value) => value,
            Content::Text(_) | Content::Unreadable(_) => &Value::Null,
        }
    }

    /// Returns the code at the top level of the body. A 200 with a code is an error.
    pub(super) fn code(&self) -> Option<u32> {
        ["error_code", "errorCode"].iter().find_map(|key| as_code(self.json().get(key)?))
    }

    /// Returns `text` as it may be shown to a person.
    pub(super) fn line(&self, text: &str) -> String {
        self.sanitizer.single_line(text)
    }

    /// Returns the fault that this answer reports.
    pub(super) fn fault(&self) -> ServiceFault {
        errors::fault(self.code(), self.status, self.line(&self.message()))
    }

    /// Returns the error for a repeatable call that got an unexpected answer. A problem of the
    /// service itself is temporary; everything else is a fault.
    pub(super) fn to_call_error(&self) -> CallError {
        let fault = self.fault();
        if fault.kind == FaultKind::Service {
            CallError::Transient { reason: fault.message, retry_after: self.retry_after }
        } else {
            CallError::Fault(fault)
        }
    }

    fn message(&self) -> String {
        match &self.content {
            Content::Json(value) => message_of_body(value),
            Content::Text(text) if text.trim_start().starts_with('<') => {
                format!("HTTP {}, with a web page instead of an API answer", self.status)
            }
            // Only the beginning can be shown, so the rest is not cleaned.
            Content::Text(text) => text.chars().take(4096).collect(),
            Content::Unreadable(reason) => format!("HTTP {}: {reason}", self.status),
        }
    }
}

/// Reads a code: a number, or digits in a string. Zero means that there is no code.
pub(super) fn as_code(value: &Value) -> Option<u32> {
    let code = match value {
        Value::Number(number) => u32::try_from(number.as_u64()?).ok()?,
        Value::String(text) => text.trim().parse().ok().or_else(|| errors::code_of_name(text))?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (code != 0).then_some(code)
}

/// Returns the text of an error body: `error_message`, `message` or `error`, and `detail`.
fn message_of_body(body: &Value) -> String {
    if let Value::String(text) = body {
        return text.clone();
    }
    let said = ["error_message", "message", "error"].iter().find_map(|key| {
        let value = body.get(key)?;
        text_of(value).or_else(|| text_of(value.get("message")?))
    });
    let detail = match body.get("detail") {
        Some(Value::Array(entries)) => entries.iter().take(5).map(message_of_detail).collect(),
        Some(value) => vec![text_of(value).unwrap_or_default()],
        None => Vec::new(),
    };
    said.into_iter()
        .chain(detail)
        .filter(|message| !message.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// Returns one entry of a validation report (`{"loc":["body","overrides"],"msg":"…"}`) as
/// `body.overrides: …`.
fn message_of_detail(entry: &Value) -> String {
    let said = ["msg", "message"].iter().find_map(|key| text_of(entry.get(key)?));
    let place = entry.get("loc").and_then(Value::as_array).map(|parts| {
        let words =
            parts.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned));
        words.collect::<Vec<_>>().join(".")
    });
    match (place, said) {
        (Some(place), Some(said)) => format!("{place}: {said}"),
        (None, Some(said)) => said,
        (_, None) => text_of(entry).unwrap_or_default(),
    }
}

/// Returns the string, unless it is blank.
pub(super) fn text_of(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned)
}
