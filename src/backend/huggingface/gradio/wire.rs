//! Sends requests to a Space: each one once, with the token in both headers that are in use.
//!
//! Owns the headers, the size limits and the time limit of each call. The token is sent to the
//! Space's own origin and nowhere else: not to the Hub, and not along a redirect, which is treated
//! as an answer and never followed.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Method, RequestBuilder,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::{reply::Reply, sse::EventStream};
use crate::backend::{
    CallError,
    http::{
        Connector,
        answer::Answer,
        message::TextSanitizer,
        send::{self, SendFault},
    },
    huggingface::{SettingsError, errors},
};

/// The maximum size of a description in bytes. An app with many components has some hundred KB.
pub(in crate::backend::huggingface) const DESCRIPTION_LIMIT: usize = 8 * 1024 * 1024;

/// The maximum size of any other answer in bytes.
const ANSWER_LIMIT: usize = 256 * 1024;

/// The time limit of a call to the Hub. It is asked only because it may know more than the rule
/// for hosts.
const HUB_TIMEOUT: Duration = Duration::from_secs(5);

/// The header that newer clients use for the token. It is not documented which of the two the
/// service's proxy reads.
const X_TOKEN: &str = "x-hf-authorization";

pub(in crate::backend::huggingface) struct Wire {
    connector: Connector,
    token: Option<HeaderValue>,
    sanitizer: TextSanitizer,
    /// For a call, from connecting to the end of its answer.
    patience: Duration,
}

impl Wire {
    /// Checks the token and creates the client. Opens no connection.
    pub(in crate::backend::huggingface) fn new(
        connector: Connector,
        token: Option<&SecretString>,
        patience: Duration,
    ) -> Result<Self, SettingsError> {
        let text = token.map(|token| token.expose_secret().trim()).filter(|text| !text.is_empty());
        let header = text.map(|text| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
            let header = HeaderValue::from_str(&format!("Bearer {text}")).ok().filter(|_| is_plain);
            let mut header = header.ok_or(SettingsError::Token)?;
            header.set_sensitive(true);
            Ok(header)
        });
        let sanitizer = TextSanitizer::new(SecretString::from(text.unwrap_or_default()));
        Ok(Self { connector, token: header.transpose()?, sanitizer, patience })
    }

    /// Returns `text` as it may be shown to a person.
    pub(in crate::backend::huggingface) fn line(&self, text: &str) -> String {
        self.sanitizer.single_line(text)
    }

    /// Returns whether there is a token.
    pub(in crate::backend::huggingface) const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Starts a request to a Space's own origin.
    async fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, String> {
        let client = self.connector.client(&url).await.map_err(|error| error.to_string())?;
        let mut request = client.request(method, url);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone()).header(X_TOKEN, token.clone());
        }
        Ok(request)
    }

    /// Asks a Space for JSON.
    pub(in crate::backend::huggingface) async fn get(
        &self,
        url: Url,
        space: &str,
    ) -> Result<Value, CallError> {
        let unasked = |reason: String| unreachable_error(space, &reason);
        let request = self.request(Method::GET, url).await.map_err(unasked)?;
        let request = request.header(ACCEPT, "application/json").timeout(self.patience);
        let response = send::send(request).await.map_err(unasked)?;
        let reply = Reply::open(Answer::read(response, DESCRIPTION_LIMIT).await, &self.sanitizer);
        reply
            .success()
            .cloned()
            .ok_or_else(|| errors::answer_problem(&reply, space, self.has_token()))
    }

    /// Asks the Hub for a record. Returns `None` if it has none. The Hub never gets the token.
    pub(in crate::backend::huggingface) async fn query_hub(&self, url: Url) -> Option<Value> {
        let client = self.connector.client(&url).await.ok()?;
        let patience = self.patience.min(HUB_TIMEOUT);
        let request = client.get(url).header(ACCEPT, "application/json").timeout(patience);
        let response = send::send(request).await.ok()?;
        let reply = Reply::open(Answer::read(response, DESCRIPTION_LIMIT).await, &self.sanitizer);
        reply.success().cloned()
    }

    /// Downloads a small file of a Space into memory.
    pub(in crate::backend::huggingface) async fn file(
        &self,
        url: Url,
        limit: usize,
        space: &str,
    ) -> Result<Bytes, CallError> {
        let unasked = |reason: String| unreachable_error(space, &reason);
        let request = self.request(Method::GET, url).await.map_err(unasked)?.timeout(self.patience);
        let answer = Answer::read(send::send(request).await.map_err(unasked)?, limit).await;
        match answer.body {
            Ok(bytes) if answer.status == 200 => Ok(bytes),
            Err(reason) if answer.status == 200 => Err(unasked(reason)),
            // Files are temporary. The app answers the same for a missing file and for a
            // forbidden one.
            _ if matches!(answer.status, 403 | 404 | 410) => {
                Err(CallError::Fault(errors::lost(format!("{space} no longer has its picture"))))
            }
            body => {
                let reply = Reply::open(Answer { body, ..answer }, &self.sanitizer);
                Err(errors::answer_problem(&reply, space, self.has_token()))
            }
        }
    }

    /// Sends a request that may safely be repeated.
    pub(in crate::backend::huggingface) async fn post(
        &self,
        url: Url,
        content_type: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<Reply<'_>, String> {
        let request = self.request(Method::POST, url).await?;
        let request = request
            .header(CONTENT_TYPE, content_type)
            .header(ACCEPT, "application/json")
            // The header that newer official clients send.
            .header("x-gradio-user", "api")
            .timeout(patience.min(self.patience))
            .body(body);
        let answer = Answer::read(send::send(request).await?, ANSWER_LIMIT).await;
        Ok(Reply::open(answer, &self.sanitizer))
    }

    /// Sends JSON once, and reports whether it left this process.
    pub(in crate::backend::huggingface) async fn post_once(
        &self,
        url: Url,
        body: &Value,
    ) -> Result<Reply<'_>, SendFault> {
        let request = self.request(Method::POST, url).await.map_err(SendFault::NotSent)?;
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header("x-gradio-user", "api");
        let body = body.to_string().into();
        let answer = send::post_once(request, body, self.patience, ANSWER_LIMIT).await?;
        Ok(Reply::open(answer, &self.sanitizer))
    }

    /// Opens a stream of events. The duration of a stream is not limited here:
    /// [`crate::backend::huggingface::run`] owns the limits for its silence and for its call.
    pub(in crate::backend::huggingface) async fn listen(
        &self,
        url: Url,
        space: &str,
    ) -> Result<EventStream, CallError> {
        let unasked = |reason: String| unreachable_error(space, &reason);
        let request = self.request(Method::GET, url).await.map_err(unasked)?;
        let request = request.header(ACCEPT, "text/event-stream");
        let response = tokio::time::timeout(self.patience, send::send(request)).await;
        let response = response
            .unwrap_or_else(|_| Err("no answer within the time-out".to_owned()))
            .map_err(unasked)?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        if response.status().as_u16() == 200 && is_stream {
            return Ok(EventStream::new(response));
        }
        let read = Answer::read(response, ANSWER_LIMIT);
        // A body that is not a stream may also never end.
        let answer = tokio::time::timeout(self.patience, read)
            .await
            .map_err(|_| unasked("the answer did not end within the time-out".to_owned()))?;
        Err(errors::answer_problem(&Reply::open(answer, &self.sanitizer), space, self.has_token()))
    }

    /// Starts a download from a Space's own origin, always from the beginning.
    pub(in crate::backend::huggingface) async fn download(
        &self,
        url: Url,
    ) -> Result<reqwest::Response, String> {
        let request = self.request(Method::GET, url).await?;
        send::send(request.header(reqwest::header::ACCEPT_ENCODING, "identity")).await
    }
}

/// Returns the error for a Space that could not be reached.
pub(in crate::backend::huggingface) fn unreachable_error(space: &str, reason: &str) -> CallError {
    CallError::Transient { reason: format!("could not reach {space}: {reason}"), retry_after: None }
}

/// Returns a session name that was never used before. Gradio stores the events of a session by its
/// name, so a reused name would also return the events of an earlier call.
pub(in crate::backend::huggingface) fn new_session_name() -> String {
    // The standard library takes the keys of a map's hasher from the system's randomness.
    let draw = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", draw(), draw())
}
