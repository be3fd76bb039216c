//! Two Hugging Face Spaces as a [`Backend`]: FLUX.1-Depth-dev makes the picture, PartPacker makes a
//! mesh from it.
//!
//! Owns the runs that are kept in memory and the methods of the trait; each part has its own file.
//! Runs are free, and nothing here spends money.
//!
//! - `settings`, `address`, `describe`, `arguments`, `calls`: where a Space is, what it offers, and
//!   how it is called;
//! - `wire`, `reply`, `errors`: a request, an answer, and what a refusal means;
//! - `upload`, `sse`, `events`, `files`: uploading a picture, receiving events, downloading files;
//! - `run`, `road`: the state of a job, and its steps over both Spaces.
//!
//! # A run lives in this process
//! Gradio delivers a result once, to the client that listens, and a stream cannot be resumed. So a
//! run is a value in this process that owns its open stream, and [`Backend::observe`] advances it a
//! step each time; there is no task. A request of an earlier process is lost and is reported as
//! lost. As a run costs nothing, it may be repeated (`BackendKind::is_repeatable`).

mod address;
mod arguments;
mod errors;
mod gradio;
mod files;
mod steps;
mod run;
mod settings;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex as StdMutex, PoisonError},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use self::{
    address::{HubRecord, Readiness},
    gradio::{describe::SpaceDescription, wire::Wire},
    run::{Run, SpaceSide},
};
pub use self::{
    address::{NotASpace, SpaceAddress},
    settings::{Settings, SettingsError},
};
use super::{
    Backend, CallError, CancelReply, Download, FetchError, Observation, Payload, RunResult,
    Submission, SubmitError,
    download::{AllowedHosts, Downloader},
    http::{Connector, Timeouts},
};
use crate::domain::{
    job::{RequestId, artifact::RemoteFile},
    money::MicroUsd,
};

/// How many runs are kept. One runs at a time, and the ledger knows the outcome of older ones.
const MAX_RUNS: usize = 16;

/// Until when a Space is not called, and why.
type QuotaPause = Option<(Instant, String)>;

/// Both Spaces.
pub struct Spaces {
    settings: Settings,
    wire: Wire,
    /// The same for downloads, with their own time-outs.
    files: Wire,
    downloader: Downloader,
    /// The newest last.
    runs: StdMutex<VecDeque<(RequestId, Arc<Mutex<Run>>)>>,
    /// The base URLs that the Hub returned, in addition to the configured ones.
    hub_addresses: StdMutex<Vec<Url>>,
    /// The Spaces that are not called because their quota is used up.
    quota_pauses: StdMutex<[QuotaPause; 2]>,
}

impl Spaces {
    /// Checks `settings` and creates the client. Opens no connection.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let connect = settings.connect_timeout.min(settings.call_timeout);
        // A stream is not read between two `observe` calls, and the daemon decides how far apart
        // those are. The library's time-out would count that time as silence, so silence is
        // measured where the stream is read.
        let calm = Timeouts { connect, read_idle: settings.deadline.max(settings.call_timeout) };
        let files = Timeouts { connect, read_idle: settings.read_idle_timeout };
        let token = settings.token.as_ref();
        let nowhere: [&str; 0] = [];
        Ok(Self {
            wire: Wire::new(Connector::new(calm), token, settings.call_timeout)?,
            files: Wire::new(Connector::new(files), token, settings.call_timeout)?,
            downloader: Downloader::new(
                files,
                AllowedHosts::parse(&nowhere).expect("an empty list has no bad entry"),
                settings.max_artifact,
            ),
            settings: settings.clone(),
            runs: StdMutex::default(),
            hub_addresses: StdMutex::default(),
            quota_pauses: StdMutex::default(),
        })
    }

    const fn address(&self, side: SpaceSide) -> &SpaceAddress {
        match side {
            SpaceSide::Flux => &self.settings.flux,
            SpaceSide::Mesh => &self.settings.mesh,
        }
    }

    /// Returns the name of a Space for messages.
    fn title(&self, side: SpaceSide) -> String {
        format!("{} on {}", side.name(), self.address(side))
    }

    /// Asks a Space for its `/config`. First asks the Hub where the Space is and whether it
    /// is awake.
    async fn config(&self, side: SpaceSide) -> Result<(Url, serde_json::Value), CallError> {
        let title = self.title(side);
        if let Some(words) = self.quota_paused(side) {
            return Err(words);
        }
        let address = self.address(side);
        let mut base = address.base();
        if let Some(url) = address.record(&self.settings.hub)
            && let Some(body) = self.wire.query_hub(url).await
        {
            let record = HubRecord::read(&body, &self.settings.hub);
            match record.readiness() {
                Readiness::Ready => {}
                Readiness::NotYet(message) => {
                    let reason = format!("{title} {message}");
                    return Err(CallError::Transient { reason, retry_after: None });
                }
                Readiness::OwnerMustAct(message) => {
                    return Err(errors::owner_must_act(format!("{title} {message}")));
                }
            }
            if let Some(told) = record.base {
                base = told;
                let mut known = self.hub_addresses.lock().unwrap_or_else(PoisonError::into_inner);
                if !known.contains(&base) {
                    known.push(base.clone());
                }
            }
        }
        // The only path that has no prefix in any version.
        let mut url = base.clone();
        url.set_path(&format!("{}/config", base.path().trim_end_matches('/')));
        let config = self.wire.get(url, &title).await?;
        gradio::describe::prefix(&config, &title)?;
        Ok((base, config))
    }

    /// Asks a Space which functions it offers.
    async fn describe(&self, side: SpaceSide) -> Result<SpaceDescription, CallError> {
        let (base, config) = self.config(side).await?;
        let title = self.title(side);
        let bare = SpaceDescription::read(&base, &config, &serde_json::Value::Null, &[], &title)?;
        let info = self.wire.get(bare.at("/info"), &title).await?;
        let names = side.functions(self.settings.process_image);
        SpaceDescription::read(&base, &config, &info, names, &title)
    }

    /// Returns the error for a Space that is not called at the moment.
    fn quota_paused(&self, side: SpaceSide) -> Option<CallError> {
        let rests = self.quota_pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, message) = rests[side.index()].as_ref()?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| errors::quota_paused(message, left))
    }

    fn pause_for_quota(&self, side: SpaceSide, message: &str) {
        let until = Instant::now() + errors::quota_pause(message);
        let mut rests = self.quota_pauses.lock().unwrap_or_else(PoisonError::into_inner);
        rests[side.index()] = Some((until, format!("{}: {message}", self.title(side))));
    }

    /// Returns whether a URL belongs to one of the Spaces, so that the token may be sent there.
    fn is_ours(&self, url: &Url) -> bool {
        let told = self.hub_addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let configured = [self.settings.flux.base(), self.settings.mesh.base()];
        let is_bare = url.username().is_empty() && url.password().is_none();
        is_bare && configured.iter().chain(told.iter()).any(|base| base.origin() == url.origin())
    }

    fn find_run(&self, request: &RequestId) -> Result<Arc<Mutex<Run>>, CallError> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let found = runs.iter().find(|(known, _)| known == request);
        found.map(|(_, run)| Arc::clone(run)).ok_or_else(errors::unknown_request)
    }

    fn store_run(&self, request: RequestId, run: Run) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|(known, _)| *known != request);
        runs.push_back((request, Arc::new(Mutex::new(run))));
        if runs.len() > MAX_RUNS {
            runs.pop_front();
        }
    }

    /// Returns the picture behind a URL if it is one that was passed on to the second Space.
    async fn cached_picture(&self, url: &str) -> Option<Bytes> {
        let runs: Vec<_> = {
            let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            runs.iter().map(|(_, run)| Arc::clone(run)).collect()
        };
        for run in runs {
            if let Some(bytes) = run.lock().await.picture_at(url) {
                return Some(bytes);
            }
        }
        None
    }

    async fn submit_run(&self, submission: &Submission) -> Result<RequestId, SubmitError> {
        let Payload::Spaces(work) = &submission.payload else {
            return Err(submission.payload.wrong_backend_error());
        };
        // Both Spaces are asked before the first one starts: a mesh that cannot be made must not
        // cost the minutes of a picture.
        let (flux, mesh) = futures_util::future::join(
            self.describe(SpaceSide::Flux),
            self.describe(SpaceSide::Mesh),
        )
        .await;
        let run = self
            .begin(work, flux.map_err(to_submit_error)?, mesh.map_err(to_submit_error)?)
            .await?;
        self.store_run(submission.key.clone(), run);
        Ok(submission.key.clone())
    }
}

/// Converts an error from before the first call: a temporary error means not sent, a permanent one
/// means refused.
fn to_submit_error(error: CallError) -> SubmitError {
    match error {
        CallError::Transient { reason, retry_after } => {
            SubmitError::NotSent { reason, retry_after }
        }
        CallError::Fault(fault) => SubmitError::Refused(fault),
    }
}

impl Backend for Spaces {
    fn warm_up(&self) -> BoxFuture<'_, Result<Option<MicroUsd>, CallError>> {
        Box::pin(async {
            let asked = futures_util::future::join(
                self.config(SpaceSide::Flux),
                self.config(SpaceSide::Mesh),
            );
            let (flux, mesh) = asked.await;
            flux.and(mesh).map(|_| None)
        })
    }

    fn submit<'a>(
        &'a self,
        submission: &'a Submission,
    ) -> BoxFuture<'a, Result<RequestId, SubmitError>> {
        Box::pin(self.submit_run(submission))
    }

    fn observe<'a>(
        &'a self,
        request: &'a RequestId,
    ) -> BoxFuture<'a, Result<Observation, CallError>> {
        Box::pin(async {
            let run = self.find_run(request)?;
            let mut run = run.lock().await;
            self.advance(&mut run).await?;
            Ok(self.observation(&run))
        })
    }

    fn result<'a>(&'a self, request: &'a RequestId) -> BoxFuture<'a, Result<RunResult, CallError>> {
        Box::pin(async {
            let run = self.find_run(request)?;
            let mut run = run.lock().await;
            // The result may be requested when a deadline is over, so the state must be up to date.
            self.advance(&mut run).await?;
            Ok(run.result(self.observation(&run).phase))
        })
    }

    fn cancel<'a>(
        &'a self,
        request: &'a RequestId,
    ) -> BoxFuture<'a, Result<CancelReply, CallError>> {
        Box::pin(async {
            let run = self.find_run(request)?;
            let mut run = run.lock().await;
            self.stop(&mut run).await
        })
    }

    fn open<'a>(
        &'a self,
        file: &'a RemoteFile,
        _from: u64,
    ) -> BoxFuture<'a, Result<Download, FetchError>> {
        Box::pin(self.open_file(file))
    }
}

impl fmt::Debug for Spaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spaces").field("settings", &self.settings).finish_non_exhaustive()
    }
}
