//! Free calls about an account: its balance and the record of one deployment, each with the
//! service's own time.
//!
//! Owns two calls for `login` and `doctor`, which work without a deployment or check whether one
//! exists. Both are GET requests under `/prod/v2`, the only version that has them. They change
//! nothing at the service and are never retried here.

use std::{fmt, time::Duration};

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::{ANSWER_LIMIT, RESULT_LIMIT, SettingsError, append, endpoint, reply::Reply, wire};
use crate::{
    backend::{
        CallError,
        http::{self, Connector, Timeouts, answer::Answer, message::TextSanitizer, send},
    },
    domain::{job::RequestId, machines::deployment::DeploymentFacts, money::MicroUsd},
};

/// The account that belongs to a token.
pub struct Account {
    connector: Connector,
    authorization: HeaderValue,
    sanitizer: TextSanitizer,
    balance: Url,
    deployments: Url,
    patience: Duration,
}

/// An answer, and the service's time.
#[derive(Debug)]
pub struct TimedAnswer<T> {
    /// Unix seconds from the answer's `Date` header; `None` without an answer.
    pub date: Option<i64>,
    /// The answer.
    pub answer: Result<T, CallError>,
}

/// A deployment's record for diagnosis: its [`DeploymentFacts`], and values that no job depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deployment {
    /// Its name.
    pub name: Option<String>,
    /// The pinned version of its workflow (`v1`).
    pub version: Option<String>,
    /// The values that jobs and their price depend on.
    pub facts: DeploymentFacts,
    /// The saved graph in API format, if the service included it.
    pub graph: Option<Value>,
}

impl Account {
    /// Checks the address and the token. Opens no connection. `patience` limits a whole call.
    pub fn new(
        api: &Url,
        token: &SecretString,
        connect: Duration,
        patience: Duration,
    ) -> Result<Self, SettingsError> {
        let is_safe = api.scheme() == "https" || (api.scheme() == "http" && http::is_loopback(api));
        if !is_safe || !api.has_host() {
            return Err(SettingsError::ApiUrl);
        }
        let text = token.expose_secret().trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SettingsError::Token);
        }
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| SettingsError::Token)?;
        authorization.set_sensitive(true);
        Ok(Self {
            connector: Connector::new(Timeouts {
                connect: connect.min(patience),
                read_idle: patience,
            }),
            authorization,
            sanitizer: TextSanitizer::new(SecretString::from(text)),
            balance: endpoint(api, "v2/balance"),
            deployments: endpoint(api, "v2/deployments"),
            patience,
        })
    }

    /// Asks for the balance; official tools check a token this way. An answer without a balance
    /// proves nothing about the token (the log-in page of a hotel answers 200 to everything), so it
    /// is not a success.
    pub async fn balance(&self) -> TimedAnswer<MicroUsd> {
        let mut asked = self.get(self.balance.clone(), ANSWER_LIMIT).await;
        let date = asked.as_mut().map_or(None, |(date, _)| date.take());
        let answer = asked.and_then(|(_, reply)| match wire::balance(&reply) {
            Ok(Some(balance)) => Ok(balance),
            Ok(None) if !reply.is_success() || reply.code().is_some() => Err(reply.to_call_error()),
            Ok(None) => Err(CallError::Transient {
                reason: "the answer contains no balance, so it is probably not from RunComfy"
                    .to_owned(),
                retry_after: None,
            }),
            Err(error) => Err(error),
        });
        TimedAnswer { date, answer }
    }

    /// Asks for a deployment's record with its saved graph.
    pub async fn deployment(&self, id: &RequestId) -> TimedAnswer<Deployment> {
        let mut url = append(&self.deployments, id.as_str());
        url.set_query(Some("includes=payload"));
        let mut asked = self.get(url, RESULT_LIMIT).await;
        let date = asked.as_mut().map_or(None, |(date, _)| date.take());
        let answer = asked.and_then(|(_, reply)| read(&reply));
        TimedAnswer { date, answer }
    }

    async fn get(&self, url: Url, limit: usize) -> Result<(Option<i64>, Reply<'_>), CallError> {
        let passing = |reason: String| CallError::Transient { reason, retry_after: None };
        let client =
            self.connector.client(&url).await.map_err(|error| passing(error.to_string()))?;
        let request = client
            .get(url)
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, "application/json")
            .timeout(self.patience);
        let response = send::send(request).await.map_err(passing)?;
        let answer = Answer::read(response, limit).await;
        Ok((answer.date, Reply::open(answer, &self.sanitizer)))
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("balance", &self.balance.as_str()).finish_non_exhaustive()
    }
}

fn read(reply: &Reply<'_>) -> Result<Deployment, CallError> {
    let record = wire::record(reply)?;
    let text = |value: Option<&Value>| {
        value.and_then(Value::as_str).map(|text| reply.line(text)).filter(|text| !text.is_empty())
    };
    let graph = record.pointer("/payload/workflow_api_json").cloned();
    // Some services send a document inside a document as text.
    let graph = match graph {
        Some(Value::String(text)) => serde_json::from_str(&text).ok(),
        other => other,
    };
    Ok(Deployment {
        name: text(record.get("name")),
        version: text(record.get("workflow_version")),
        facts: wire::facts(record),
        graph: graph.filter(|graph| graph.as_object().is_some_and(|nodes| !nodes.is_empty())),
    })
}
