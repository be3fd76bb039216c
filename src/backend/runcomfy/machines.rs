//! RunComfy's Server API: machines that a person rents by the second.
//!
//! Owns five calls (launch, list, state, extend, stop) and the tolerant reading of their answers.
//! It retries nothing, limits no rate and decides nothing: [`crate::domain::machines`] owns what a
//! machine's state means.
//!
//! - A launch is sent exactly once. If its answer is lost, there may be a machine that costs money:
//!   that is [`SubmitError::Unknown`], never a reason to launch again.
//! - A machine's address is its only protection (its ComfyUI asks for no token), so it leaves this
//!   file only as a [`MachineUrl`], which cannot be printed, and it is never part of a text that
//!   is shown.
//! - Sources disagree about many details: lists come without a wrapper or under `servers`, times
//!   with and without a zone, durations as numbers or texts, addresses as null, absent or empty; a
//!   machine may be unknown (404) for some seconds after its launch.

mod read;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use bytes::Bytes;
use reqwest::{
    Method, RequestBuilder,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::{ANSWER_LIMIT, RESULT_LIMIT, append, endpoint, reply::Reply, unreachable};
use crate::{
    backend::{
        CallError, FaultKind, SubmitError,
        download::AllowedHosts,
        http::{
            self, Connector, Timeouts,
            answer::Answer,
            message::TextSanitizer,
            send::{self, SendFault},
        },
    },
    domain::{
        job::RequestId,
        machines::{ListedMachine, ReportedStage, ServerId},
    },
    failpoint::{self, Point, Side},
};

/// The settings of the client.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The API's origin, the same as for the queue.
    pub api_url: Url,
    /// The account's user id.
    pub user_id: String,
    /// The bearer token.
    pub token: SecretString,
    /// For the name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// For a launch, from connecting to the end of its answer.
    pub launch_timeout: Duration,
    /// For every other call.
    pub call_timeout: Duration,
    /// The allowed hosts of machines; see [`AllowedHosts`].
    pub hosts: Vec<String>,
}

/// Why the settings are not usable.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The address would send the token unencrypted, or is not the address of an API.
    #[error(
        "`serverless.api_url` must be an `https://` address without user, query or fragment (plain `http://` only on this machine)"
    )]
    ApiUrl,
    /// The id is missing or cannot be part of an address.
    #[error("`cloud.user_id` is missing, or contains characters that no RunComfy id has")]
    UserId,
    /// The token is missing or cannot be part of a header.
    #[error("the RunComfy token is missing or contains characters that no token has")]
    Token,
    /// An entry of the list is not a host.
    #[error("`serverless.download_hosts`: {0}")]
    Hosts(#[from] crate::backend::download::NotAHost),
}

/// A machine's address. Anyone who knows it can use the machine, so it has no text form of its own.
#[derive(Clone)]
pub struct MachineUrl(Url);

impl MachineUrl {
    /// Returns the address. Only the client of the machine may use it.
    pub const fn expose(&self) -> &Url {
        &self.0
    }
}

impl PartialEq for MachineUrl {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl fmt::Debug for MachineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MachineUrl([secret])")
    }
}

/// The parameters of a launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The service's id of the workflow version.
    pub workflow_version: String,
    /// The service's name of the machine type.
    pub server_type: String,
    /// After how long the service may stop the machine automatically.
    pub duration: Duration,
}

/// A machine, as the service describes it. Every member except the id may be missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// The service's id.
    pub id: ServerId,
    /// Its type.
    pub server_type: Option<String>,
    /// The workflow version that it was launched with.
    pub workflow_version: Option<String>,
    /// Its state.
    pub reported_stage: ReportedStage,
    /// The service's word for the state, if no reference documents it.
    pub unknown_status: Option<String>,
    /// The address of its ComfyUI, once it is ready.
    pub url: Option<MachineUrl>,
    /// The host of an address that the service sent but that is not allowed.
    pub refused_host: Option<String>,
    /// The longest time that it may have been ready, by the service's clock.
    pub ready_for: Option<Duration>,
    /// The time until the service stops it automatically, by the service's clock.
    pub stops_in: Option<Duration>,
    /// The duration that it was launched for or extended to.
    pub duration: Option<Duration>,
}

impl Server {
    /// Returns the values that are compared to find the machine of an unanswered launch.
    pub fn listed(&self) -> ListedMachine {
        ListedMachine {
            id: self.id.clone(),
            server_type: self.server_type.clone(),
            workflow_version: self.workflow_version.clone(),
            is_ending: self.reported_stage == ReportedStage::Ending,
        }
    }
}

/// The outcome of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The service stops the machine; it is no longer billed.
    Now,
    /// The service does not know the machine, or no longer knows it.
    Unknown,
}

/// The Server API of one account.
pub struct Machines {
    connector: Connector,
    authorization: HeaderValue,
    sanitizer: TextSanitizer,
    servers: Url,
    hosts: AllowedHosts,
    is_here: bool,
    launch_timeout: Duration,
    call_timeout: Duration,
}

impl Machines {
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
        let user = RequestId::new(settings.user_id.trim()).ok_or(SettingsError::UserId)?;
        let token = settings.token.expose_secret().trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SettingsError::Token);
        }
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| SettingsError::Token)?;
        authorization.set_sensitive(true);
        let timeouts = Timeouts {
            connect: settings.connect_timeout.min(settings.launch_timeout),
            read_idle: settings.launch_timeout.max(settings.call_timeout),
        };
        Ok(Self {
            connector: Connector::new(timeouts),
            authorization,
            sanitizer: TextSanitizer::new(SecretString::from(token)),
            servers: endpoint(api, &format!("api/users/{user}/servers")),
            hosts: AllowedHosts::parse(&settings.hosts)?,
            is_here: http::is_loopback(api),
            launch_timeout: settings.launch_timeout,
            call_timeout: settings.call_timeout,
        })
    }

    /// Launches a machine, exactly once.
    pub async fn launch(&self, launch: &Launch) -> Result<Server, SubmitError> {
        let not_sent = |reason| SubmitError::NotSent { reason, retry_after: None };
        let body = json!({
            "workflow_version_id": launch.workflow_version,
            "server_type": launch.server_type,
            "estimated_duration": launch.duration.as_secs(),
        });
        let request = self.request(Method::POST, self.servers.clone()).await.map_err(not_sent)?;
        let request = request.header(CONTENT_TYPE, "application/json");
        let body = Bytes::from(body.to_string());
        let sent = send::post_once(request, body, self.launch_timeout, ANSWER_LIMIT).await;
        let answer = sent.map_err(|fault| match fault {
            SendFault::NotSent(reason) => not_sent(unreachable(&self.servers, &reason)),
            SendFault::Unknown(reason) => SubmitError::Unknown { reason },
        })?;
        let date = answer.date;
        read::launched(&Reply::open(answer, &self.sanitizer), date, self)
    }

    /// Lists the account's machines.
    pub async fn list(&self) -> Result<Vec<Server>, CallError> {
        let (reply, date) = self.call(Method::GET, self.servers.clone(), None).await?;
        read::list(&reply, date, self)
    }

    /// Asks for the state of a machine. Returns `None` if the service does not know it.
    pub async fn state(&self, id: &ServerId) -> Result<Option<Server>, CallError> {
        let (reply, date) = self.call(Method::GET, self.server_url(id), None).await?;
        none_if_unknown(read::one(&reply, date, self, Some(id)))
    }

    /// Extends a machine's duration to `duration` in all. Returns `None` if the service does not
    /// know the machine.
    pub async fn extend(&self, id: &ServerId, duration: Duration) -> Result<Option<()>, CallError> {
        let url = append(&self.server_url(id), "update-estimated-duration");
        let body = json!({ "update_estimated_duration": duration.as_secs() });
        let (reply, _) = self.call(Method::POST, url, Some(body)).await?;
        none_if_unknown(read::done(&reply))
    }

    /// Stops a machine.
    pub async fn stop(&self, id: &ServerId) -> Result<Stopped, CallError> {
        failpoint::hit(Point::MachineDelete, Side::Before);
        let called = self.call(Method::DELETE, self.server_url(id), None).await;
        failpoint::hit(Point::MachineDelete, Side::After);
        let (reply, _) = called?;
        Ok(none_if_unknown(read::done(&reply))?.map_or(Stopped::Unknown, |()| Stopped::Now))
    }

    fn server_url(&self, id: &ServerId) -> Url {
        append(&self.servers, id.as_str())
    }

    async fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, String> {
        let client = self.connector.client(&url).await.map_err(|error| error.to_string())?;
        Ok(client
            .request(method, url)
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, "application/json"))
    }

    async fn call(
        &self,
        method: Method,
        url: Url,
        body: Option<Value>,
    ) -> Result<(Reply<'_>, Option<i64>), CallError> {
        let passing = |reason: String| CallError::Transient {
            reason: unreachable(&self.servers, &reason),
            retry_after: None,
        };
        let mut request =
            self.request(method, url).await.map_err(passing)?.timeout(self.call_timeout);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = send::send(request).await.map_err(passing)?;
        let answer = Answer::read(response, RESULT_LIMIT).await;
        let date = answer.date;
        Ok((Reply::open(answer, &self.sanitizer), date))
    }

    /// Returns whether a machine may be at `url`. Pictures are sent to it, so it must belong to
    /// RunComfy and be encrypted. A service on this machine has its machines on this machine, too.
    fn is_allowed_url(&self, url: &Url) -> bool {
        let is_safe = match (url.scheme(), http::is_loopback(url)) {
            (_, true) => self.is_here,
            ("https", false) => true,
            _ => false,
        };
        let is_bare = url.username().is_empty() && url.password().is_none();
        is_safe && is_bare && self.hosts.check(url).is_ok()
    }
}

/// Turns "not found" into a normal answer.
fn none_if_unknown<T>(answer: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(CallError::Fault(fault)) if fault.kind == FaultKind::Gone => Ok(None),
        Err(error) => Err(error),
    }
}

impl fmt::Debug for Machines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machines").finish_non_exhaustive()
    }
}
