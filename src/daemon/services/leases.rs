//! Leases of rented machines (cloud mode): how a job requests a machine and how it releases it.
//!
//! Owns the handle to the one background task that manages every machine, and the messages between
//! the two. A job requests a machine ([`ManagerHandle::request`]), works on it while it holds the
//! [`Lease`], and releases it by dropping the lease; it does nothing else. The guarantee that no
//! machine is left running unnoticed belongs to that task ([`crate::daemon::servers`]), and
//! [`crate::domain::machines`] decides what happens when.
//! [`crate::daemon::services::runtime_config::server_api`] has the settings.
//!
//! # How it is used
//! `Services` holds a [`ManagerHandle`]; `EventLoop` spawns
//! [`crate::daemon::servers::manager::ServerManager::run`] as a background task and calls
//! [`ManagerHandle::close`] when it stops. A job in cloud mode calls [`ManagerHandle::request`]
//! after it is in the ledger (`prepared`) and before its submit is marked: it writes the machine's
//! own id into the job's `deployment`. A job that another session sent calls
//! [`ManagerHandle::request_again`] with that id.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    backend::{
        Backend, CallError, CancelReply, Download, FetchError, Observation, RunResult, Submission,
        SubmitError,
        comfyui::{self, Comfyui},
        runcomfy::machines::MachineUrl,
    },
    config::settings::Config,
    daemon::services::command::CommandErrorKind,
    domain::{
        job::{JobId, RequestId, artifact::RemoteFile},
        machines::MachineId,
        money::MicroUsd,
    },
};

/// Why there is no machine for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoServer {
    pub(crate) kind: CommandErrorKind,
    /// The reason, whether money is involved, and what to do.
    pub(crate) reason: String,
    /// Whether the machine that a job was on is gone, so that its run is lost.
    pub(crate) is_gone: bool,
}

impl NoServer {
    pub(crate) fn new(kind: CommandErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), is_gone: false }
    }

    pub(crate) fn gone(reason: impl Into<String>) -> Self {
        Self { is_gone: true, ..Self::new(CommandErrorKind::Unavailable, reason) }
    }
}

/// A message to the task.
#[derive(Debug)]
pub(crate) enum ManagerMessage {
    Request(ServerRequest),
    Released(u64),
}

/// A job's request for a machine.
#[derive(Debug)]
pub(crate) struct ServerRequest {
    pub(crate) job: JobId,
    /// How long it is expected to need the machine.
    pub(crate) run: Duration,
    /// The machine that the job was on.
    pub(crate) previous: Option<MachineId>,
    pub(crate) progress: watch::Sender<String>,
    pub(crate) reply: oneshot::Sender<Result<Lease, NoServer>>,
}

/// The handle to the task that owns the machines.
#[derive(Clone, Debug)]
pub(crate) struct ManagerHandle {
    messages: mpsc::UnboundedSender<ManagerMessage>,
    closing: watch::Sender<bool>,
}

/// The task's end of a [`ManagerHandle`].
#[derive(Debug)]
pub(crate) struct ManagerInbox {
    pub(crate) messages: mpsc::UnboundedReceiver<ManagerMessage>,
    pub(crate) back: mpsc::UnboundedSender<ManagerMessage>,
    pub(crate) closing: watch::Receiver<bool>,
}

impl ManagerHandle {
    pub(crate) fn new() -> (Self, ManagerInbox) {
        // A few messages for each active job, so the queue cannot grow without limit.
        let (asks, desk) = mpsc::unbounded_channel();
        let (closing, closes) = watch::channel(false);
        (
            Self { messages: asks.clone(), closing },
            ManagerInbox { messages: desk, back: asks, closing: closes },
        )
    }

    /// Requests a ready machine for a job that needs it for about `run`. Dropping the result
    /// withdraws the request.
    pub(crate) fn request(&self, job: JobId, run: Duration) -> PendingServer {
        self.send_request(job, run, None)
    }

    /// Requests the machine that a job was sent to before.
    pub(crate) fn request_again(
        &self,
        job: JobId,
        run: Duration,
        machine: MachineId,
    ) -> PendingServer {
        self.send_request(job, run, Some(machine))
    }

    fn send_request(&self, job: JobId, run: Duration, again: Option<MachineId>) -> PendingServer {
        let (words, said) = watch::channel("requesting a machine".to_owned());
        let (reply, answer) = oneshot::channel();
        // If the task is gone, the reply is dropped, and `next` reports that.
        drop(self.messages.send(ManagerMessage::Request(ServerRequest {
            job,
            run,
            previous: again,
            progress: words,
            reply,
        })));
        PendingServer { progress: said, answer, answered: false }
    }

    /// Shuts down: machines without work are stopped while there is time, and the task ends.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }
}

#[derive(Debug)]
pub(crate) struct PendingServer {
    progress: watch::Receiver<String>,
    answer: oneshot::Receiver<Result<Lease, NoServer>>,
    answered: bool,
}

#[derive(Debug)]
pub(crate) enum ServerUpdate {
    /// The present step, for `status`.
    Progress(String),
    Answer(Result<Lease, NoServer>),
}

impl PendingServer {
    /// Waits for the next news. There is none after the answer.
    pub(crate) async fn next(&mut self) -> ServerUpdate {
        loop {
            tokio::select! {
                biased;
                answer = &mut self.answer => {
                    return ServerUpdate::Answer(answer.unwrap_or_else(|_| {
                        Err(NoServer::new(CommandErrorKind::TryAgain, "conjured is stopping; no \
                            machine was assigned"))
                    }));
                }
                changed = self.progress.changed(), if !self.answered => {
                    if changed.is_ok() {
                        return ServerUpdate::Progress(self.progress.borrow_and_update().clone());
                    }
                    // Only the answer is still to come.
                    self.answered = true;
                }
            }
        }
    }
}

/// A machine assigned to a job. Dropping the lease releases it.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Our id of the machine, which is the job's `deployment` in the ledger.
    pub(crate) machine: MachineId,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) ended_reason: watch::Receiver<Option<String>>,
    pub(crate) number: u64,
    pub(crate) back: mpsc::UnboundedSender<ManagerMessage>,
}

impl Lease {
    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.backend)
    }

    /// Returns why the machine no longer exists; `None` while it does. Check it when the machine's
    /// ComfyUI does not answer, because the run is then lost.
    pub(crate) fn ended_reason(&self) -> Option<String> {
        self.ended_reason.borrow().clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.back.send(ManagerMessage::Released(self.number)));
    }
}

/// Creates the client of a machine's ComfyUI.
pub(crate) fn connect(url: &MachineUrl, config: &Config) -> Result<Arc<dyn Backend>, String> {
    let settings = comfyui::Settings {
        connect_timeout: config.serverless.connect_timeout,
        submit_timeout: config.serverless.submit_timeout,
        max_artifact: config.placement.max_artifact_mb.saturating_mul(1024 * 1024),
        ..comfyui::Settings::rented(url.expose().clone())
    };
    let client = Comfyui::new(&settings).map_err(|error| error.to_string())?;
    Ok(Arc::new(client))
}

/// The backend for cloud mode as long as no machine was requested: it is available, and nothing is
/// ever sent to it.
#[derive(Debug)]
pub(crate) struct NoMachineYet;

impl NoMachineYet {
    fn none<T>() -> BoxFuture<'static, Result<T, CallError>> {
        let reason = "no machine is rented for it".to_owned();
        Box::pin(async { Err(CallError::Transient { reason, retry_after: None }) })
    }
}

impl Backend for NoMachineYet {
    fn warm_up(&self) -> BoxFuture<'_, Result<Option<MicroUsd>, CallError>> {
        Box::pin(async { Ok(None) })
    }

    fn submit<'a>(
        &'a self,
        _submission: &'a Submission,
    ) -> BoxFuture<'a, Result<RequestId, SubmitError>> {
        let reason = "no machine is rented for it".to_owned();
        Box::pin(async { Err(SubmitError::NotSent { reason, retry_after: None }) })
    }

    fn observe<'a>(
        &'a self,
        _request: &'a RequestId,
    ) -> BoxFuture<'a, Result<Observation, CallError>> {
        Self::none()
    }

    fn result<'a>(
        &'a self,
        _request: &'a RequestId,
    ) -> BoxFuture<'a, Result<RunResult, CallError>> {
        Self::none()
    }

    fn cancel<'a>(
        &'a self,
        _request: &'a RequestId,
    ) -> BoxFuture<'a, Result<CancelReply, CallError>> {
        Self::none()
    }

    fn open<'a>(
        &'a self,
        _file: &'a RemoteFile,
        _from: u64,
    ) -> BoxFuture<'a, Result<Download, FetchError>> {
        let reason = "no machine is rented for it".to_owned();
        Box::pin(async { Err(FetchError::Transient { reason }) })
    }
}
