//! A running daemon, as the command line talks to it: JSON over its Unix socket, or its named pipe on Windows.
//!
//! Owns the calls and what their failures mean to a person. It finds the socket by the state folder alone.

use std::{path::Path, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::exit::{Failure, UNAVAILABLE};
use crate::{
    daemon::{
        api::{
            routes::{OnceReply, Said},
            socket,
        },
        services::command::{OnceRequest, Rate, Refused, RefusedKind, Restored},
    },
    domain::{job::JobId, status::Status},
};

/// How long a daemon may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest wait for a newer status.
const LONG_POLL: Duration = Duration::from_secs(25);

/// How often a pipe that has no free instance is tried again, and how soon: a second in all.
#[cfg(windows)]
const BUSY_TRIES: u32 = 50;
#[cfg(windows)]
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// A daemon that answers.
#[derive(Clone, Debug)]
pub struct DaemonClient {
    http: reqwest::Client,
}

impl DaemonClient {
    /// Finds the daemon of a state folder; `None` when none answers.
    pub async fn find(state_dir: &Path) -> Option<(Self, Status)> {
        let client = Self { http: build(&socket::find(state_dir)?)? };
        let status = client.status().await.ok()?;
        Some((client, status))
    }

    /// Returns the status now.
    pub async fn status(&self) -> Result<Status, Failure> {
        self.answer(self.http.get(url("/v1/status")).timeout(PATIENCE)).await
    }

    /// Waits for a status newer than `revision`; returns the same one when nothing changes for a while.
    pub async fn newer(&self, revision: u64) -> Result<Status, Failure> {
        let wait = LONG_POLL.as_millis();
        let path = format!("/v1/status?after={revision}&wait_ms={wait}");
        self.answer(self.http.get(url(&path)).timeout(LONG_POLL + PATIENCE)).await
    }

    /// Asks for a job at once. The answer comes when the job is on its road, which may take as long as another job runs.
    pub async fn once(&self, request: &OnceRequest) -> Result<JobId, Failure> {
        let reply: OnceReply = self.answer(json(self.http.post(url("/v1/once")), request)).await?;
        Ok(reply.job)
    }

    /// Asks for the end of a job.
    pub async fn cancel(&self, job: JobId) -> Result<String, Failure> {
        let path = format!("/v1/jobs/{job}/cancel");
        let said: Said = self.answer(self.http.post(url(&path)).timeout(PATIENCE)).await?;
        Ok(said.said)
    }

    /// Asks for an earlier job's artifacts under the public names. The answer comes when they are there.
    pub async fn restore(&self, job: JobId) -> Result<Restored, Failure> {
        self.answer(self.http.post(url(&format!("/v1/jobs/{job}/restore")))).await
    }

    /// Tells how a person likes what a job made.
    pub async fn rate(&self, job: JobId, rate: &Rate) -> Result<String, Failure> {
        let path = format!("/v1/jobs/{job}/rate");
        let request = json(self.http.post(url(&path)).timeout(PATIENCE), rate);
        Ok(self.answer::<Said>(request).await?.said)
    }

    /// Asks it to read its configuration and its token again.
    pub async fn reload(&self) -> Result<String, Failure> {
        let said: Said = self.answer(self.http.post(url("/v1/reload")).timeout(PATIENCE)).await?;
        Ok(said.said)
    }

    /// Asks it to end, as a first signal does. It may be gone before its answer is here.
    pub async fn stop(&self) -> Result<String, Failure> {
        let said: Said = self.answer(self.http.post(url("/v1/stop")).timeout(PATIENCE)).await?;
        Ok(said.said)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, Failure> {
        let gone = |error: reqwest::Error| {
            Failure::new(
                UNAVAILABLE,
                format!("the daemon does not answer ({})", error.without_url()),
            )
        };
        let response = send(request).await.map_err(gone)?;
        if response.status().is_success() {
            return response.json().await.map_err(gone);
        }
        let status = response.status();
        let refused = response.json().await.unwrap_or_else(|_| {
            Refused::new(RefusedKind::TryAgain, format!("the daemon answered HTTP {status}"))
        });
        Err(refused.into())
    }
}

fn json(request: reqwest::RequestBuilder, body: &impl Serialize) -> reqwest::RequestBuilder {
    request.json(body)
}

fn url(path: &str) -> String {
    format!("http://daemon{path}")
}

fn build(socket: &Path) -> Option<reqwest::Client> {
    let client = crate::backend::http::plain_client();
    #[cfg(unix)]
    let client = client.unix_socket(socket);
    #[cfg(windows)]
    let client = client.windows_named_pipe(socket);
    client.build().ok()
}

/// Sends a request. On Windows a pipe has one instance for each client and one that waits; who comes while that one is being made
/// is told "busy", and nothing has left yet.
async fn send(request: reqwest::RequestBuilder) -> reqwest::Result<reqwest::Response> {
    #[cfg(windows)]
    for _ in 0..BUSY_TRIES {
        let Some(first) = request.try_clone() else { break };
        match first.send().await {
            Err(error) if error.is_connect() => tokio::time::sleep(BUSY_WAIT).await,
            ended => return ended,
        }
    }
    request.send().await
}
