//! RunComfy's Serverless API as a [`Backend`].
//!
//! Owns the addresses, the token and the five calls; the files below own what the answers mean. It
//! retries nothing, limits no rate and touches no file.
//!
//! - Every address is built here, from the configured origin and the request id. The
//!   `status_url`, `result_url` and `cancel_url` of a submit reply are ignored: they could only
//!   repeat our address or make us send the token to another host.
//! - Queue calls are under `/prod/{version}`. The balance exists only under `/prod/v2`.
//! - The token is sent in the `Authorization` header of calls to the configured origin, marked as
//!   sensitive, and nowhere else. Downloads use a separate connector that never had the token.

pub mod account;
pub mod machines;
mod errors;
mod reply;
mod result;
mod timestamp;
mod wire;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use reqwest::{
    Method, RequestBuilder,
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use self::reply::Reply;
use super::{
    Backend, CallError, CancelReply, Download, FetchError, Observation, Payload, RunResult,
    Submission, SubmitError,
    download::{self, Downloader},
    http::{
        self, Connector, Timeouts,
        answer::Answer,
        message::TextSanitizer,
        send::{self, SendFault},
    },
};
use crate::{
    domain::{
        job::{RequestId, artifact::RemoteFile},
        machines::deployment::DeploymentFacts,
        money::MicroUsd,
    },
    failpoint::{self, Point, Side},
};

/// The size limit of a result in bytes. A result lists files and may quote texts.
const RESULT_LIMIT: usize = 4 * 1024 * 1024;

/// The size limit of any other answer in bytes. Such answers have a few hundred.
const ANSWER_LIMIT: usize = 256 * 1024;

/// The settings of the adapter.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The API's origin. A path before `/prod` is kept. A trailing `/prod`,
    /// `/prod/v1` or `/prod/v2` is accepted.
    pub api_url: Url,
    /// The version segment of queue calls: `v1` or `v2`. Sources disagree; both work.
    pub api_version: String,
    /// The deployment that runs the workflow.
    pub deployment_id: String,
    /// The bearer token.
    pub token: SecretString,
    /// For the name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// For a submit, from connecting to the end of its answer.
    pub submit_timeout: Duration,
    /// For every other call, from connecting to the end of its answer.
    pub call_timeout: Duration,
    /// How long a download may stay silent.
    pub read_idle_timeout: Duration,
    /// The allowed hosts of downloads; see [`download::AllowedHosts`].
    pub download_hosts: Vec<String>,
    /// The maximum size of a file in bytes.
    pub max_artifact: u64,
}

impl Settings {
    /// Returns the settings of the public service with the documented defaults.
    pub fn new(deployment_id: impl Into<String>, token: SecretString) -> Self {
        let api_url = Url::parse("https://api.runcomfy.net").expect("a constant that is a URL");
        Self {
            api_url,
            api_version: "v2".to_owned(),
            deployment_id: deployment_id.into(),
            token,
            connect_timeout: Duration::from_secs(10),
            submit_timeout: Duration::from_secs(60),
            call_timeout: Duration::from_secs(30),
            read_idle_timeout: Duration::from_secs(60),
            download_hosts: vec![".runcomfy.net".to_owned(), ".runcomfy.com".to_owned()],
            max_artifact: 512 * 1024 * 1024,
        }
    }
}

impl Settings {
    /// Tells whether two differ in nothing but the deployment: then their adapters reach the same
    /// service in the same way.
    pub fn same_except_deployment(&self, other: &Self) -> bool {
        let Self {
            api_url,
            api_version,
            deployment_id: _,
            token,
            connect_timeout,
            submit_timeout,
            call_timeout,
            read_idle_timeout,
            download_hosts,
            max_artifact,
        } = other;
        self.api_url == *api_url
            && self.api_version == *api_version
            && self.token.expose_secret() == token.expose_secret()
            && self.connect_timeout == *connect_timeout
            && self.submit_timeout == *submit_timeout
            && self.call_timeout == *call_timeout
            && self.read_idle_timeout == *read_idle_timeout
            && self.download_hosts == *download_hosts
            && self.max_artifact == *max_artifact
    }
}

/// Why the settings are not usable.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The address would send the token unencrypted, or is not the address of an API.
    #[error(
        "`serverless.api_url` must be an `https://` address without user, query or fragment (plain `http://` only on this machine)"
    )]
    ApiUrl,
    /// The version is not `v1` or `v2`.
    #[error("`serverless.api_version` must be `v1` or `v2`")]
    ApiVersion,
    /// The id is missing or cannot be part of an address.
    #[error(
        "`serverless.deployment_id` is missing, or contains characters that no RunComfy id has"
    )]
    DeploymentId,
    /// The token is missing or cannot be part of a header.
    #[error(
        "the RunComfy token is missing or contains characters that no token has: set RUNCOMFY_API_TOKEN, or set `serverless.token_file` to a file that \
         contains it"
    )]
    Token,
    /// An entry of the list is not a host.
    #[error("`serverless.download_hosts`: {0}")]
    DownloadHosts(#[from] download::NotAHost),
}

/// The Serverless API of one deployment.
pub struct Serverless {
    connector: Connector,
    downloader: Downloader,
    authorization: HeaderValue,
    sanitizer: TextSanitizer,
    queue: Url,
    balance: Url,
    record: Url,
    submit_timeout: Duration,
    call_timeout: Duration,
}

impl Serverless {
    /// Checks `settings` and creates the client. Opens no connection.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let api = &settings.api_url;
        let is_bare = api.username().is_empty()
            && api.password().is_none()
            && api.query().is_none()
            && api.fragment().is_none();
        let is_safe = api.scheme() == "https" || (api.scheme() == "http" && http::is_loopback(api));
        if !is_bare || !is_safe || !api.has_host() {
            return Err(SettingsError::ApiUrl);
        }
        let version = settings.api_version.trim();
        if !matches!(version, "v1" | "v2") {
            return Err(SettingsError::ApiVersion);
        }
        // The same alphabet as a request id: characters that need no encoding in a path.
        let deployment = RequestId::new(settings.deployment_id.trim());
        let deployment = deployment.ok_or(SettingsError::DeploymentId)?;
        let token = settings.token.expose_secret().trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SettingsError::Token);
        }
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| SettingsError::Token)?;
        authorization.set_sensitive(true);

        let max = settings.max_artifact;
        let timeouts = Timeouts {
            // Only the time before a connection exists is certainly free of charge, so it must not
            // use up the whole time of a submit.
            connect: settings.connect_timeout.min(settings.submit_timeout),
            read_idle: settings.submit_timeout.max(settings.call_timeout),
        };
        let patient =
            Timeouts { connect: settings.connect_timeout, read_idle: settings.read_idle_timeout };
        Ok(Self {
            connector: Connector::new(timeouts),
            downloader: Downloader::new(
                patient,
                download::AllowedHosts::parse(&settings.download_hosts)?,
                max,
            ),
            sanitizer: TextSanitizer::new(SecretString::from(token)),
            authorization,
            queue: endpoint(api, &format!("{version}/deployments/{deployment}")),
            balance: endpoint(api, "v2/balance"),
            record: endpoint(api, &format!("v2/deployments/{deployment}")),
            submit_timeout: settings.submit_timeout,
            call_timeout: settings.call_timeout,
        })
    }

    fn request_url(&self, request: &RequestId, operation: &str) -> Url {
        append(&self.queue, &format!("requests/{request}/{operation}"))
    }

    async fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, String> {
        let client = self.connector.client(&url).await.map_err(|error| error.to_string())?;
        Ok(client
            .request(method, url)
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, "application/json"))
    }

    /// Makes one call other than a submit.
    async fn call(&self, method: Method, url: Url, limit: usize) -> Result<Reply<'_>, CallError> {
        let passing = |reason: String| CallError::Transient {
            reason: unreachable(&self.queue, &reason),
            retry_after: None,
        };
        let is_post = method == Method::POST;
        let mut request =
            self.request(method, url).await.map_err(passing)?.timeout(self.call_timeout);
        if is_post {
            // Some gateways answer 411 to a POST without a `Content-Length`, even if it has
            // no body.
            request = request.header(CONTENT_LENGTH, 0);
        }
        let response = send::send(request).await.map_err(passing)?;
        Ok(Reply::open(Answer::read(response, limit).await, &self.sanitizer))
    }

    async fn submit_once(&self, submission: &Submission) -> Result<RequestId, SubmitError> {
        let not_sent = |reason| SubmitError::NotSent { reason, retry_after: None };
        let Payload::Body(body) = &submission.payload else {
            return Err(submission.payload.wrong_backend_error());
        };
        let request = self
            .request(Method::POST, append(&self.queue, "inference"))
            .await
            .map_err(not_sent)?
            .header(CONTENT_TYPE, "application/json");
        let sent = send::post_once(request, body.clone(), self.submit_timeout, ANSWER_LIMIT).await;
        let answer = sent.map_err(|fault| match fault {
            SendFault::NotSent(reason) => not_sent(unreachable(&self.queue, &reason)),
            SendFault::Unknown(reason) => SubmitError::Unknown { reason },
        })?;
        failpoint::hit(Point::SubmitAnswer, Side::Before);
        wire::submitted(&Reply::open(answer, &self.sanitizer))
    }
}

/// Returns the address of `path` under the API's `/prod`.
fn endpoint(api: &Url, path: &str) -> Url {
    let base = api.path().trim_end_matches('/');
    let base = ["/v1", "/v2"].iter().find_map(|end| base.strip_suffix(end)).unwrap_or(base);
    let base = base.strip_suffix("/prod").unwrap_or(base);
    let mut url = api.clone();
    url.set_path(&format!("{base}/prod/{path}"));
    url
}

/// Describes a call without an answer; `url` is any address of the API.
fn unreachable(url: &Url, reason: &str) -> String {
    format!("could not reach RunComfy at {}: {reason}", url.origin().ascii_serialization())
}

fn append(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_path(&format!("{}/{path}", url.path()));
    url
}

impl Backend for Serverless {
    fn warm_up(&self) -> BoxFuture<'_, Result<Option<MicroUsd>, CallError>> {
        Box::pin(async {
            let reply = self.call(Method::GET, self.balance.clone(), ANSWER_LIMIT).await?;
            wire::balance(&reply)
        })
    }

    fn facts(&self) -> BoxFuture<'_, Result<Option<DeploymentFacts>, CallError>> {
        Box::pin(async {
            // The record quotes no workflow unless asked to, but may have a long description.
            let reply = self.call(Method::GET, self.record.clone(), RESULT_LIMIT).await?;
            wire::record(&reply).map(|record| Some(wire::facts(record)))
        })
    }

    fn submit<'a>(
        &'a self,
        submission: &'a Submission,
    ) -> BoxFuture<'a, Result<RequestId, SubmitError>> {
        Box::pin(self.submit_once(submission))
    }

    fn observe<'a>(
        &'a self,
        request: &'a RequestId,
    ) -> BoxFuture<'a, Result<Observation, CallError>> {
        let url = self.request_url(request, "status");
        Box::pin(async { wire::observed(&self.call(Method::GET, url, ANSWER_LIMIT).await?) })
    }

    fn result<'a>(&'a self, request: &'a RequestId) -> BoxFuture<'a, Result<RunResult, CallError>> {
        let url = self.request_url(request, "result");
        Box::pin(async { result::result(&self.call(Method::GET, url, RESULT_LIMIT).await?) })
    }

    fn cancel<'a>(
        &'a self,
        request: &'a RequestId,
    ) -> BoxFuture<'a, Result<CancelReply, CallError>> {
        let url = self.request_url(request, "cancel");
        Box::pin(async { wire::cancelled(&self.call(Method::POST, url, ANSWER_LIMIT).await?) })
    }

    fn open<'a>(
        &'a self,
        file: &'a RemoteFile,
        from: u64,
    ) -> BoxFuture<'a, Result<Download, FetchError>> {
        Box::pin(self.downloader.open(&file.url, from))
    }
}

impl fmt::Debug for Serverless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serverless").field("queue", &self.queue.as_str()).finish_non_exhaustive()
    }
}
