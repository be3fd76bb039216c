//! One call: builds its address, sends it, and reads its answer.
//!
//! Owns the client, the time-outs, the size limits, and the hiding of a secret server address. The
//! files beside it own what the answers mean. Nothing is ever sent twice here.
//!
//! No `Origin` and no `Sec-Fetch-Site` header is sent: a server rejects both if they name another
//! site than its own.

use std::time::Duration;

use reqwest::{
    RequestBuilder,
    header::{ACCEPT, CONTENT_TYPE},
};
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use crate::backend::{
    CallError, FaultKind, ServiceFault,
    http::{Connector, answer::Answer, message::TextSanitizer, send},
};

/// The maximum size in bytes of a queue, a history entry or a class: each quotes whole graphs or
/// long lists of files.
pub(super) const MAX_LARGE_ANSWER: usize = 16 * 1024 * 1024;

/// The maximum size of any other answer in bytes. A refusal quotes the choices of an input.
pub(super) const MAX_ANSWER: usize = 1024 * 1024;

/// The text that replaces the address of a rented machine.
const REDACTED_ADDRESS: &str = "[address]";

/// Sends calls to one server.
pub(super) struct Wire {
    pub(super) connector: Connector,
    origin: Url,
    redactor: AddressRedactor,
    call_timeout: Duration,
}

impl Wire {
    pub(super) fn new(
        connector: Connector,
        origin: &Url,
        secret_origin: bool,
        call_timeout: Duration,
    ) -> Self {
        let hush =
            if secret_origin { AddressRedactor::of(origin) } else { AddressRedactor(Vec::new()) };
        Self { connector, origin: origin.clone(), redactor: hush, call_timeout }
    }

    /// Returns the address of `path` below the origin; every part is encoded separately.
    pub(super) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.origin.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// Returns `text` as it may be shown to a person: one line, without the secret part of
    /// an address.
    pub(super) fn line(&self, text: &str) -> String {
        self.redactor.redact(text)
    }

    pub(super) async fn request(
        &self,
        method: reqwest::Method,
        url: Url,
    ) -> Result<RequestBuilder, String> {
        let client =
            self.connector.client(&url).await.map_err(|error| self.line(&error.to_string()))?;
        Ok(client.request(method, url).header(ACCEPT, "application/json"))
    }

    pub(super) async fn get(&self, url: Url, limit: usize) -> Result<Answer, CallError> {
        let request = self
            .request(reqwest::Method::GET, url)
            .await
            .map_err(|reason| self.unreachable(&reason))?;
        self.call(request.timeout(self.call_timeout), limit).await
    }

    /// Sends a POST request that may safely be repeated.
    pub(super) async fn post(&self, path: &[&str], body: &Value) -> Result<Answer, CallError> {
        let request = self
            .request(reqwest::Method::POST, self.url(path))
            .await
            .map_err(|reason| self.unreachable(&reason))?
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_string());
        self.call(request.timeout(self.call_timeout), MAX_ANSWER).await
    }

    /// Sends a request that may safely be repeated, and reads the answer.
    pub(super) async fn call(
        &self,
        request: RequestBuilder,
        limit: usize,
    ) -> Result<Answer, CallError> {
        let response = send::send(request).await.map_err(|reason| self.unreachable(&reason))?;
        Ok(Answer::read(response, limit).await)
    }

    /// Describes a call without an answer. The address is named unless it is a secret.
    pub(super) fn no_answer(&self, reason: &str) -> String {
        let reason = self.line(reason);
        if self.redactor.0.is_empty() {
            let origin = self.origin.as_str().trim_end_matches('/');
            format!("could not reach ComfyUI at {origin}: {reason}")
        } else {
            format!("could not reach ComfyUI on the rented machine: {reason}")
        }
    }

    fn unreachable(&self, reason: &str) -> CallError {
        CallError::Transient { reason: self.no_answer(reason), retry_after: None }
    }

    /// Returns the JSON of a success, or an error for anything else.
    pub(super) fn json(&self, answer: &Answer) -> Result<Value, CallError> {
        if !matches!(answer.status, 200..300) {
            return Err(self.error_from_status(answer));
        }
        match &answer.body {
            Ok(bytes) => serde_json::from_slice(bytes).map_err(|_| CallError::Fault(not_comfyui())),
            Err(reason) => Err(transient(&self.line(reason))),
        }
    }

    /// Returns the error for an answer that is not a success: a problem of the server itself is
    /// temporary, the others need a person.
    pub(super) fn error_from_status(&self, answer: &Answer) -> CallError {
        match answer.status {
            401 | 403 => CallError::Fault(access_denied(answer.status)),
            404 | 405 => CallError::Fault(not_comfyui()),
            status => CallError::Transient {
                reason: format!("ComfyUI answered HTTP {status}: {}", self.body_line(answer)),
                retry_after: answer.retry_after,
            },
        }
    }

    /// Returns the beginning of a body that is text.
    pub(super) fn body_line(&self, answer: &Answer) -> String {
        match &answer.body {
            Ok(bytes) if bytes.trim_ascii_start().starts_with(b"<") => "a web page".to_owned(),
            Ok(bytes) if bytes.is_empty() => "without a message".to_owned(),
            Ok(bytes) => self.line(&String::from_utf8_lossy(&bytes[..bytes.len().min(4096)])),
            Err(reason) => self.line(reason),
        }
    }
}

/// Returns the error for an answer that could not be read, which may differ next time.
pub(super) fn transient(reason: &str) -> CallError {
    CallError::Transient {
        reason: format!("could not read the answer of ComfyUI: {reason}"),
        retry_after: None,
    }
}

/// Returns the fault of a server that is not ComfyUI.
pub(super) fn not_comfyui() -> ServiceFault {
    ServiceFault {
        code: None,
        status: 404,
        message: "the server at the configured address is not ComfyUI".to_owned(),
        advice: "Set `local.comfyui_url` to the address of ComfyUI. Nothing ran.",
        kind: FaultKind::Account,
    }
}

/// Returns the fault of a server that denies access. ComfyUI itself asks for no credentials, so
/// something in front of it does.
pub(super) fn access_denied(status: u16) -> ServiceFault {
    ServiceFault {
        code: None,
        status,
        message: format!("access to ComfyUI was denied (HTTP {status})"),
        advice: "ComfyUI itself asks for no password, so something in front of it does. Set `local.comfyui_url` to the address of ComfyUI itself.",
        kind: FaultKind::Account,
    }
}

/// The parts of an address that must not be shown.
struct AddressRedactor(Vec<String>);

impl AddressRedactor {
    /// Hides the host, its first label (the machine's id) and every long part of the path.
    fn of(origin: &Url) -> Self {
        let host = origin.host_str().unwrap_or_default().to_owned();
        let label = host.split('.').next().filter(|label| label.len() >= 8).map(str::to_owned);
        let path = origin.path_segments().into_iter().flatten();
        let path = path.filter(|part| part.len() >= 8).map(str::to_owned).collect::<Vec<_>>();
        let mut hidden: Vec<String> = [host].into_iter().chain(label).chain(path).collect();
        hidden.retain(|part| !part.is_empty());
        Self(hidden)
    }

    fn redact(&self, text: &str) -> String {
        let separates = |c: char| matches!(c, '\t' | '\n' | '\r');
        // A control character inside the address must not hide it, and half of the address must not
        // remain after the text is cut.
        let mut clean: String = text.chars().filter(|c| !c.is_control() || separates(*c)).collect();
        for part in &self.0 {
            let wanted = part.to_ascii_lowercase();
            let mut from = 0;
            // ASCII lower case keeps the length in bytes, so the positions are the same in
            // both strings.
            while let Some(at) = clean[from..].to_ascii_lowercase().find(&wanted) {
                clean.replace_range(from + at..from + at + wanted.len(), REDACTED_ADDRESS);
                from += at + REDACTED_ADDRESS.len();
            }
        }
        TextSanitizer::new(SecretString::from("")).single_line(&clean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_secret_address_is_left_in_words() {
        let url =
            Url::parse("https://a1b2c3d4-comfyui.machines.example/hidden-folder").expect("a URL");
        let hush = AddressRedactor::of(&url);
        let said = hush.redact(
            "no https://A1B2C3D4-comfyui.machines.example:8188/x, a1b2c3d4\u{0}-comfyui, hidden-folder",
        );
        assert_eq!(said, "no https://[address]:8188/x, [address], [address]");
    }
}
