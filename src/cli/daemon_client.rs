//! The command line's client for a running daemon: JSON over a Unix socket, or over a named pipe
//! on Windows.
//!
//! Owns the calls and how their failures are explained to a person. The state folder alone
//! determines the socket.

use std::{path::Path, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::exit::{Failure, UNAVAILABLE};
use crate::{
    daemon::{
        api::{
            routes::{MessageReply, OnceReply},
            socket,
        },
        services::command::{CommandError, CommandErrorKind, OnceRequest, RatingRequest, Restored},
    },
    domain::{job::JobId, status::Status},
};

/// How long a daemon may take to answer a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait for a newer status.
const LONG_POLL: Duration = Duration::from_secs(25);

/// How often, and at what interval, opening a pipe without a free instance is retried: one second
/// in total.
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
    /// Finds the daemon of a state folder; returns `None` if none answers.
    pub async fn find(state_dir: &Path) -> Option<(Self, Status)> {
        let client = Self { http: build(&socket::find(state_dir)?)? };
        let status = client.status().await.ok()?;
        Some((client, status))
    }

    /// Returns the current status.
    pub async fn status(&self) -> Result<Status, Failure> {
        self.answer(self.http.get(url("/v1/status")).timeout(REQUEST_TIMEOUT)).await
    }

    /// Waits for a status newer than `revision`; returns the same one if nothing changes within the
    /// long poll.
    pub async fn newer(&self, revision: u64) -> Result<Status, Failure> {
        let wait = LONG_POLL.as_millis();
        let path = format!("/v1/status?after={revision}&wait_ms={wait}");
        self.answer(self.http.get(url(&path)).timeout(LONG_POLL + REQUEST_TIMEOUT)).await
    }

    /// Requests a job now. The answer comes when the job has started, which may have to wait for
    /// another job to finish.
    pub async fn once(&self, request: &OnceRequest) -> Result<JobId, Failure> {
        let reply: OnceReply = self.answer(json(self.http.post(url("/v1/once")), request)).await?;
        Ok(reply.job)
    }

    /// Requests that a job be cancelled.
    pub async fn cancel(&self, job: JobId) -> Result<String, Failure> {
        let path = format!("/v1/jobs/{job}/cancel");
        let said: MessageReply =
            self.answer(self.http.post(url(&path)).timeout(REQUEST_TIMEOUT)).await?;
        Ok(said.said)
    }

    /// Requests that an earlier job's artifacts be restored under the public names. The answer
    /// comes when they are there.
    pub async fn restore(&self, job: JobId) -> Result<Restored, Failure> {
        self.answer(self.http.post(url(&format!("/v1/jobs/{job}/restore")))).await
    }

    /// Records a person's rating of a job's result.
    pub async fn rate(&self, job: JobId, rate: &RatingRequest) -> Result<String, Failure> {
        let path = format!("/v1/jobs/{job}/rate");
        let request = json(self.http.post(url(&path)).timeout(REQUEST_TIMEOUT), rate);
        Ok(self.answer::<MessageReply>(request).await?.said)
    }

    /// Requests a reload of the configuration and the token.
    pub async fn reload(&self) -> Result<String, Failure> {
        let said: MessageReply =
            self.answer(self.http.post(url("/v1/reload")).timeout(REQUEST_TIMEOUT)).await?;
        Ok(said.said)
    }

    /// Requests a stop, as the first signal does. The daemon may be gone before its answer arrives.
    pub async fn stop(&self) -> Result<String, Failure> {
        let said: MessageReply =
            self.answer(self.http.post(url("/v1/stop")).timeout(REQUEST_TIMEOUT)).await?;
        Ok(said.said)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, Failure> {
        let gone = |error: reqwest::Error| {
            Failure::new(
                UNAVAILABLE,
                format!("the running daemon does not answer ({})", error.without_url()),
            )
        };
        let response = send(request).await.map_err(gone)?;
        if response.status().is_success() {
            return response.json().await.map_err(gone);
        }
        let status = response.status();
        let command_error = response.json().await.unwrap_or_else(|_| {
            CommandError::new(
                CommandErrorKind::TryAgain,
                format!("the daemon answered HTTP {status}"),
            )
        });
        Err(command_error.into())
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

/// Sends a request. On Windows a pipe has one instance per client and one that waits; a client that
/// connects while the waiting instance is being created gets "busy", before anything was sent.
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
