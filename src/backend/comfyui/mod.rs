//! A ComfyUI server as a [`Backend`]: the one on this machine, or the one on a rented machine.
//!
//! Owns the five calls and their order. The files below own one part each:
//! `wire` (a call), `submit` (its steps), `queue`, `history` and
//! `objects` (the server's state), `faults` (its errors), `view` (addresses of files), `socket`,
//! `watch` and `progress` (what it reports during a run). It never retries a submit, touches no
//! file and starts no task.
//!
//! Facts about the protocol, observed with ComfyUI 0.3.64 and 0.33.0:
//! - We choose the id of a request. An id does not prevent a double submit, but a client that lost
//!   the answer can find its request by the id. So `BackendKind::is_repeatable` holds: `submit`
//!   first looks in the queue and in history.
//! - A request is in exactly one of pending, running and history. If it is in none of them, asked
//!   in this order, it is lost.
//! - Only history says how a run ended. The WebSocket is for progress: it may be silent, broken, or
//!   report other runs.
//! - Other people's jobs run on the same server. Only our own requests are ever deleted or
//!   interrupted, by id.
//!
//! The address may be a secret (anyone who knows it can use a rented machine). Then it is in no
//! message, no log and no file's URL.

mod faults;
mod history;
mod objects;
mod progress;
mod queue;
mod socket;
mod submit;
mod view;
mod watch;
mod wire;

use std::{fmt, time::Duration};

use futures_util::{StreamExt, future::BoxFuture};
use serde_json::{Value, json};
use url::Url;

use self::{
    objects::InstalledClasses,
    queue::QueueState,
    watch::{RequestWatch, RequestWatches},
    wire::{MAX_ANSWER, MAX_LARGE_ANSWER, Wire, not_comfyui, transient},
};
use super::{
    Backend, CallError, CancelReply, Download, FaultKind, FetchError, Observation, Payload, Phase,
    RunResult, RunTimes, ServiceFault, Submission, SubmitError,
    download::{self, Downloader},
    http::{self, Connector, Timeouts},
};
use crate::domain::{
    job::{RequestId, artifact::RemoteFile},
    money::MicroUsd,
};

/// A marker that is sent with the graph, so that a request can be found whatever id it got.
const MARKER_KEY: &str = "conjured_attempt";

/// How often a request that is neither in the queue nor in history is looked up again, and the
/// delay before each time.
const LOOKUP_RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

/// The settings of the adapter.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// The address of the server. A path is kept, because some proxies put the server below one.
    pub origin: Url,
    /// Whether the address alone is enough to use the machine.
    pub secret_origin: bool,
    /// For the name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// For the upload and for the submit, from connecting to the end of the answer.
    pub submit_timeout: Duration,
    /// For every other call, from connecting to the end of its answer.
    pub call_timeout: Duration,
    /// How long a download may stay silent.
    pub read_idle_timeout: Duration,
    /// The maximum size of a file in bytes.
    pub max_artifact: u64,
}

impl Settings {
    /// Returns the settings of a server on this machine.
    pub fn local(origin: Url) -> Self {
        Self {
            origin,
            secret_origin: false,
            connect_timeout: Duration::from_secs(10),
            submit_timeout: Duration::from_secs(60),
            call_timeout: Duration::from_secs(30),
            read_idle_timeout: Duration::from_secs(60),
            max_artifact: 512 * 1024 * 1024,
        }
    }

    /// Returns the settings of a rented machine.
    pub fn rented(origin: Url) -> Self {
        Self { secret_origin: true, ..Self::local(origin) }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Settings");
        if !self.secret_origin {
            shown.field("origin", &self.origin.as_str());
        }
        shown.field("max_artifact", &self.max_artifact).finish_non_exhaustive()
    }
}

/// Why the settings are not usable. The address itself is never quoted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// The address is not valid for a server.
    #[error(
        "the address of ComfyUI must be an `http://` or `https://` address without user, query or fragment"
    )]
    Origin,
    /// The render and the prompt would be sent unencrypted.
    #[error(
        "a ComfyUI on another machine must use `https://`; if it does not support that, forward its port \
         (`ssh -L 8188:127.0.0.1:8188 that-machine`) and keep `local.comfyui_url` at `http://127.0.0.1:8188`"
    )]
    Unencrypted,
}

/// A ComfyUI server.
pub struct Comfyui {
    shown: Option<Url>,
    wire: Wire,
    downloader: Downloader,
    view: Url,
    objects: InstalledClasses,
    watches: RequestWatches,
    submit_timeout: Duration,
}

impl Comfyui {
    /// Checks `settings` and creates the client. Opens no connection.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let origin = &settings.origin;
        let is_bare = origin.username().is_empty()
            && origin.password().is_none()
            && origin.query().is_none()
            && origin.fragment().is_none();
        if !is_bare || !matches!(origin.scheme(), "http" | "https") || !origin.has_host() {
            return Err(SettingsError::Origin);
        }
        if origin.scheme() == "http" && !http::is_loopback(origin) {
            return Err(SettingsError::Unencrypted);
        }
        let connector = Connector::new(Timeouts {
            connect: settings.connect_timeout.min(settings.submit_timeout),
            read_idle: settings.submit_timeout.max(settings.call_timeout),
        });
        let wire = Wire::new(connector, origin, settings.secret_origin, settings.call_timeout);
        // Files come only from the server itself.
        let port = origin.port_or_known_default().unwrap_or_default();
        let host = format!("{}:{port}", origin.host_str().unwrap_or_default());
        let hosts = download::AllowedHosts::parse(&[host]).map_err(|_| SettingsError::Origin)?;
        let patient =
            Timeouts { connect: settings.connect_timeout, read_idle: settings.read_idle_timeout };
        Ok(Self {
            shown: (!settings.secret_origin).then(|| origin.clone()),
            view: wire.url(&["view"]),
            wire,
            downloader: Downloader::new(patient, hosts, settings.max_artifact),
            objects: InstalledClasses::default(),
            watches: RequestWatches::default(),
            submit_timeout: settings.submit_timeout,
        })
    }

    /// Asks for the state of a request in the queue.
    async fn queue_state(&self, request: &str) -> Result<QueueState, CallError> {
        let answer = self.wire.get(self.wire.url(&["queue"]), MAX_LARGE_ANSWER).await?;
        if answer.status != 200 {
            return Err(self.wire.error_from_status(&answer));
        }
        let body = answer.body.map_err(|reason| transient(&self.wire.line(&reason)))?;
        queue::find(&body, request).ok_or_else(|| CallError::Fault(not_comfyui()))
    }

    /// Asks for a request's entry in history.
    async fn entry(&self, request: &str) -> Result<Option<Value>, CallError> {
        let answer = self.wire.get(self.wire.url(&["history", request]), MAX_LARGE_ANSWER).await?;
        let mut body = self.wire.json(&answer)?;
        Ok(body.get_mut(request).map(Value::take).filter(Value::is_object))
    }

    /// Finds a request: queue first, history second. A server moves a job between the two under one
    /// lock; even so, the request is looked up again before it counts as lost.
    async fn find(&self, request: &str) -> Result<FoundIn, CallError> {
        let mut looks = LOOKUP_RETRY_DELAYS.into_iter();
        loop {
            match self.queue_state(request).await? {
                QueueState::Absent => {}
                standing => return Ok(FoundIn::Queue(standing)),
            }
            if let Some(entry) = self.entry(request).await? {
                return Ok(FoundIn::History(entry));
            }
            if self.watches.was_deleted(request) {
                return Ok(FoundIn::Deleted);
            }
            match looks.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(CallError::Fault(request_lost())),
            }
        }
    }

    async fn find_run(&self, request: &RequestId) -> Result<Observation, CallError> {
        let mut watch = self.watches.take(request.as_str());
        if watch.tracker.is_new() {
            // Frames name nodes by their ids. Without the graph it would be unclear whose nodes
            // they are.
            if let Ok(standing) = self.queue_state(request.as_str()).await {
                phase(&standing, Some(&mut watch));
            }
        }
        watch.listen(&self.wire).await;
        let found = self.find(request.as_str()).await;
        let phase = match found {
            Ok(FoundIn::Queue(standing)) => phase(&standing, Some(&mut watch)),
            Ok(FoundIn::History(_) | FoundIn::Deleted) => Phase::Ended,
            Err(error) => {
                self.watches.put(watch);
                return Err(error);
            }
        };
        watch.was_running = phase == Phase::Running;
        let progress = watch.tracker.progress().filter(|_| phase == Phase::Running);
        // A run that has ended sends no more progress.
        if phase != Phase::Ended {
            self.watches.put(watch);
        }
        Ok(Observation { phase, instance: None, unknown_status: None, progress })
    }

    async fn outcome(&self, request: &RequestId) -> Result<RunResult, CallError> {
        match self.find(request.as_str()).await? {
            FoundIn::Queue(standing) => Ok(RunResult::Pending(phase(&standing, None))),
            FoundIn::Deleted => Ok(RunResult::Cancelled { times: RunTimes::default() }),
            FoundIn::History(entry) => {
                self.watches.end(request.as_str());
                history::result(&entry, &self.wire).ok_or_else(|| CallError::Transient {
                    reason: "ComfyUI's history has neither a status nor outputs for this run"
                        .to_owned(),
                    retry_after: None,
                })
            }
        }
    }

    /// Deletes a request from the queue, then interrupts it if it is the running one.
    async fn cancel_run(&self, request: &RequestId) -> Result<CancelReply, CallError> {
        let id = request.as_str();
        let answer = self.wire.post(&["queue"], &json!({ "delete": [id] })).await?;
        if answer.status != 200 {
            return Err(self.wire.error_from_status(&answer));
        }
        match self.queue_state(id).await? {
            QueueState::Running(_) => {
                // Servers that ignore `prompt_id` here stop whatever runs, which is our run.
                let answer = self.wire.post(&["interrupt"], &json!({ "prompt_id": id })).await?;
                if answer.status != 200 {
                    return Err(self.wire.error_from_status(&answer));
                }
                Ok(CancelReply::Requested)
            }
            QueueState::Pending { .. } => Ok(CancelReply::Requested),
            QueueState::Absent if self.entry(id).await?.is_some() => Ok(CancelReply::TooLate),
            QueueState::Absent => {
                // A deleted request leaves no trace: no message, no entry.
                self.watches.note_deleted(id);
                Ok(CancelReply::Requested)
            }
        }
    }

    async fn open_file(&self, file: &RemoteFile, from: u64) -> Result<Download, FetchError> {
        let Some(url) = view::join(&self.view, &file.url) else {
            return Err(FetchError::Forbidden {
                host: "a file of ComfyUI".to_owned(),
                reason: "its address is not one of `/view`",
            });
        };
        let opened = self.downloader.open(url.as_str(), from).await;
        let mut download = opened.map_err(|error| redacted(error, &self.wire))?;
        if self.shown.is_none() {
            // Errors within the stream may name the host as well. Their text is fixed in advance,
            // because the stream outlives this call.
            download.chunks = download
                .chunks
                .map(|chunk| {
                    chunk.map_err(|error| match error {
                        FetchError::Transient { .. } => FetchError::Transient {
                            reason: "the download from the machine was cut".to_owned(),
                        },
                        other => other,
                    })
                })
                .boxed();
        }
        Ok(download)
    }
}

/// Where a request was found.
enum FoundIn {
    Queue(QueueState),
    History(Value),
    /// We deleted it.
    Deleted,
}

fn phase(standing: &QueueState, watch: Option<&mut RequestWatch>) -> Phase {
    match standing {
        QueueState::Running(run) => {
            if let Some(watch) = watch {
                watch.tracker.learn_nodes(run);
            }
            Phase::Running
        }
        QueueState::Pending { ahead, run } => {
            if let Some(watch) = watch {
                watch.tracker.learn_nodes(run);
            }
            Phase::Queued { position: Some(*ahead) }
        }
        QueueState::Absent => Phase::Ended,
    }
}

/// Returns the fault of a request that the server does not know any more; its queue and history
/// exist only in memory.
fn request_lost() -> ServiceFault {
    ServiceFault {
        code: None,
        status: 200,
        message: "ComfyUI no longer knows the request: ComfyUI was restarted, or the request was deleted from its queue"
            .to_owned(),
        advice: "ComfyUI keeps its queue and history only in memory, so the run is lost. `conjured jobs retry` sends it again.",
        kind: FaultKind::Gone,
    }
}

/// Removes the address from an error of a download.
fn redacted(error: FetchError, wire: &Wire) -> FetchError {
    match error {
        FetchError::Forbidden { host, .. } => FetchError::Forbidden {
            host: wire.line(&host),
            reason: "files of ComfyUI come from the server itself only",
        },
        FetchError::Busy { reason, retry_after } => {
            FetchError::Busy { reason: wire.line(&reason), retry_after }
        }
        FetchError::Transient { reason } => FetchError::Transient { reason: wire.line(&reason) },
        other => other,
    }
}

impl Backend for Comfyui {
    fn warm_up(&self) -> BoxFuture<'_, Result<Option<MicroUsd>, CallError>> {
        Box::pin(async {
            let answer = self.wire.get(self.wire.url(&["system_stats"]), MAX_ANSWER).await?;
            match self.wire.json(&answer)?.get("system") {
                Some(_) => Ok(None),
                None => Err(CallError::Fault(not_comfyui())),
            }
        })
    }

    fn submit<'a>(
        &'a self,
        submission: &'a Submission,
    ) -> BoxFuture<'a, Result<RequestId, SubmitError>> {
        Box::pin(async move {
            match &submission.payload {
                Payload::Graph(work) => self.submit_graph(submission, work).await,
                other => Err(other.wrong_backend_error()),
            }
        })
    }

    fn observe<'a>(
        &'a self,
        request: &'a RequestId,
    ) -> BoxFuture<'a, Result<Observation, CallError>> {
        Box::pin(self.find_run(request))
    }

    fn result<'a>(&'a self, request: &'a RequestId) -> BoxFuture<'a, Result<RunResult, CallError>> {
        Box::pin(self.outcome(request))
    }

    fn cancel<'a>(
        &'a self,
        request: &'a RequestId,
    ) -> BoxFuture<'a, Result<CancelReply, CallError>> {
        Box::pin(self.cancel_run(request))
    }

    fn open<'a>(
        &'a self,
        file: &'a RemoteFile,
        from: u64,
    ) -> BoxFuture<'a, Result<Download, FetchError>> {
        Box::pin(self.open_file(file, from))
    }
}

impl fmt::Debug for Comfyui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.shown.as_ref().map(Url::as_str);
        f.debug_struct("Comfyui").field("origin", &origin).finish_non_exhaustive()
    }
}
