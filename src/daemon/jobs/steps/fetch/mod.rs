//! From the list of a run's files to checked artifacts in history.
//!
//! Owns how an artifact is fetched and recorded: an interrupted download is continued, an expired
//! URL is requested again, a file that fails its checks is quarantined. How often each is tried is
//! counted here; what follows is decided by [`crate::domain::job::flow`]. What a good image or mesh
//! is, [`crate::domain`] decides; nothing becomes visible to the user here.

mod download;

use std::{sync::Arc, time::Duration};

use self::download::{DownloadError, MAX_IMAGE};
use crate::{
    backend::{CallError, FaultKind, RunResult},
    daemon::{
        jobs::driver::{JobRun, Refused},
        services::{messages::JobReport, store::blocking},
    },
    disk::history::JobFolder,
    domain::{
        engine::event::JobStage,
        job::{
            JobState,
            artifact::{self, ArtifactKind, RemoteFile},
            backoff::Backoff,
            flow::world::{FetchFault, WaitFor},
        },
    },
    ledger::{Ledger, rows::ArtifactRow},
};

/// How often a file that fails its checks is fetched.
const MAX_INVALID_DOWNLOADS: u32 = 3;

/// How often the service may answer with a result whose URL is gone, over about ten seconds: a
/// storage may lag behind the run.
const MAX_GONE_RESULTS: u32 = 6;

/// How long a download without any progress is retried. The service keeps results for seven days,
/// so a night without a network loses nothing.
const STALL_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The number of tries without progress that are required as well: a machine that slept for a day
/// has tried nothing, and a paid result is not given up because of that.
const MIN_STALLED_TRIES: u32 = 60;

/// The first and the longest wait after a download failed.
const DOWNLOAD_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(300), Duration::from_secs(60));

impl JobRun {
    /// Fetches one artifact: one try.
    pub(in crate::daemon::jobs) async fn fetch(&mut self, kind: ArtifactKind) {
        self.set_state(JobState::Running, JobStage::Placing).await;
        let Some(folder) = self.folder().await else { return };
        let Some(file) = self.listed(kind) else { return };
        let now = self.now().moment;
        self.seen.fetch_mut(kind).progress_at.get_or_insert(now);
        let farthest = self.seen.fetch(kind).farthest;
        let tried = self.download(kind, &folder, &file).await;
        self.note_received().await;
        let Some(tried) = tried else { return };
        let now = self.now().moment;
        let tries = self.seen.fetch_mut(kind);
        tries.stalled = if tries.farthest > farthest { 0 } else { tries.stalled + 1 };
        let is_stuck = tries.stalled >= MIN_STALLED_TRIES
            && tries.progress_at.is_some_and(|at| now.since(at) > STALL_TIMEOUT);
        let error = match tried {
            Ok(()) => {
                self.seen.retry = None;
                return;
            }
            Err(error) => error,
        };
        if !matches!(error, DownloadError::Invalid(_)) {
            tries.failures += 1;
        }
        let (failures, reason) = (tries.failures, error.reason().to_owned());
        let note = &mut self.details.artifacts[kind as usize];
        match error {
            DownloadError::Interrupted { retry_after, .. } => {
                if is_stuck {
                    *note = format!("the {kind} could not be downloaded for a day: {reason}");
                    tries.given_up = Some(FetchFault::Download);
                    return;
                }
                tracing::warn!(
                    job = %self.task.id, %kind,
                    "the download was interrupted and will be retried: {reason}"
                );
                self.wait_for_storage(failures, &reason, retry_after).await;
            }
            DownloadError::Disk(_) => {
                // Without a limit: the result is paid for, and our own disk is no fault of the
                // storage.
                tries.progress_at = Some(now);
                self.wait_for_disk(failures, &reason).await;
            }
            DownloadError::Gone(_) => {
                if tries.gone >= MAX_GONE_RESULTS || is_stuck {
                    *note = format!("the storage no longer has the {kind}: {reason}");
                    tries.given_up = Some(FetchFault::Download);
                    return;
                }
                tries.stale_url = true;
                self.wait_for_storage(failures, &reason, None).await;
            }
            DownloadError::Invalid(_) => {
                tries.invalid += 1;
                let invalid = tries.invalid;
                tracing::warn!(job = %self.task.id, %kind, "quarantined: {reason}");
                if invalid >= MAX_INVALID_DOWNLOADS {
                    *note = reason;
                    tries.given_up = Some(FetchFault::Invalid);
                    return;
                }
                self.wait_for_storage(invalid, &reason, None).await;
            }
            DownloadError::Permanent(_) => {
                *note = reason;
                tries.given_up = Some(FetchFault::Refused);
            }
        }
    }

    /// Returns the file of the run's list that is an artifact.
    fn listed(&self, kind: ArtifactKind) -> Option<RemoteFile> {
        let config = self.config();
        let node = config.workflows.at(self.record.backend).output(kind);
        artifact::choose_file(&self.files, kind, node).cloned()
    }

    /// Keeps in history the image that a run made before its mesh failed. There is one try, because
    /// it is only a courtesy: nothing is shown, and the job ends with its own reason in any case.
    pub(in crate::daemon::jobs) async fn keep_image(&mut self) {
        let Some(file) = self.listed(ArtifactKind::Image).filter(|_| self.client().is_ok()) else {
            self.seen.image_tried = true;
            return;
        };
        // It is tried again when the disk has room.
        let Some(folder) = self.folder().await else { return };
        self.seen.image_tried = true;
        let tried = self.download(ArtifactKind::Image, &folder, &file).await;
        self.note_received().await;
        if let Some(Err(error)) = tried {
            let reason = error.reason();
            tracing::warn!(
                job = %self.task.id,
                "could not keep the image that was made before the run failed: {reason}"
            );
        }
    }

    /// Records how much was downloaded.
    async fn note_received(&mut self) {
        let (id, bytes) = (self.task.id, std::mem::take(&mut self.received));
        // The number is informative: a ledger that cannot take it now must not delay a result.
        if bytes > 0
            && let Err(error) =
                self.task.services.store.with(move |ledger| ledger.add_received(id, bytes)).await
        {
            tracing::warn!(job = %id, %error, "could not record the number of downloaded bytes");
        }
    }

    /// Asks for the result again, because its URLs may be new.
    pub(in crate::daemon::jobs) async fn refresh_urls(&mut self) {
        let Some(request) = self.record.request().cloned() else { return };
        self.task.services.wait_for_call(self.record.backend).await;
        let Ok(client) = self.client() else { return };
        let is_answered = match client.result(&request).await {
            Ok(RunResult::Succeeded { files, .. }) if !files.is_empty() => {
                self.files = files;
                true
            }
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(job = %self.task.id, %error, "could not get the result again");
                match &error {
                    CallError::Fault(fault) => {
                        if fault.kind == FaultKind::Token {
                            self.report(JobReport::TokenRefused).await;
                        }
                        fault.kind == FaultKind::Gone
                    }
                    CallError::Transient { .. } => false,
                }
            }
        };
        for tries in &mut self.seen.fetch {
            // A service that does not answer has said nothing about the file, which was paid for.
            tries.gone += u32::from(is_answered && tries.stale_url);
            tries.stale_url = false;
        }
    }

    /// Records that every artifact is in history.
    pub(in crate::daemon::jobs) async fn record_fetched(&mut self) -> Result<(), Refused> {
        let Some(rows) = self.describe_all().await else { return Ok(()) };
        if !rows.iter().any(|row| row.kind == ArtifactKind::Image) {
            tracing::warn!(
                job = %self.task.id, "the run returned no image; only the mesh is placed"
            );
        }
        self.task.status.received = None;
        let (id, now) = (self.task.id, self.now().wall);
        let record = move |ledger: &mut Ledger| ledger.fetched(id, &rows, now);
        self.record("the downloaded artifacts", record).await?;
        self.seen.retry = None;
        // A job whose artifacts are in history needs no machine.
        self.lease = None;
        self.set_state(JobState::Fetched, JobStage::Placing).await;
        Ok(())
    }

    /// Records the artifacts of a job that fails nevertheless: they were paid for.
    /// Returns `false` if the daemon stops before that.
    pub(in crate::daemon::jobs) async fn record_kept(&mut self) -> bool {
        let rows = loop {
            match self.describe_all().await {
                Some(rows) if rows.is_empty() => return true,
                Some(rows) => break rows,
                None if self.sleep_unless_stopped(DOWNLOAD_BACKOFF.1).await => return false,
                None => {}
            }
        };
        let id = self.task.id;
        let record = move |ledger: &mut Ledger| ledger.keep_artifacts(id, &rows);
        drop(self.task.services.store.record("the image of a failed job", record).await);
        true
    }

    /// Describes the artifacts in history for the ledger; `None` while the disk does not allow it.
    async fn describe_all(&mut self) -> Option<Vec<ArtifactRow>> {
        let (folder, id) = (self.folder().await?, self.task.id);
        let described = blocking(move || {
            let there =
                ArtifactKind::ALL.into_iter().filter(|kind| folder.artifact(*kind).is_some());
            there
                .map(|kind| crate::daemon::inputs::prepare::describe(&folder, id, kind))
                .collect::<Result<Vec<_>, _>>()
        })
        .await;
        match described {
            Ok(rows) => Some(rows),
            Err(error) => {
                self.refusals += 1;
                self.wait_for_disk(self.refusals, &error).await;
                None
            }
        }
    }

    /// Opens the job's folder; `None` while the disk does not allow it.
    pub(in crate::daemon::jobs) async fn folder(&mut self) -> Option<JobFolder> {
        let (history, id) = (Arc::clone(&self.task.services.history), self.task.id);
        match blocking(move || history.job(id)).await {
            Ok(folder) => Some(folder),
            Err(error) => {
                self.refusals += 1;
                self.wait_for_disk(self.refusals, &error.to_string()).await;
                None
            }
        }
    }

    fn limit(&self, kind: ArtifactKind) -> u64 {
        let limit = self.config().settings.placement.max_artifact_mb.saturating_mul(1024 * 1024);
        match kind {
            ArtifactKind::Image => limit.min(MAX_IMAGE),
            ArtifactKind::Mesh => limit,
        }
    }

    async fn wait_for_storage(&mut self, failures: u32, reason: &str, asked: Option<Duration>) {
        let when = asked.map(|wait| format!(" in {} s, as the storage requested", wait.as_secs()));
        let when = when.unwrap_or_default();
        self.set_activity(format!("retrying the download{when}: {reason}")).await;
        self.download_later(failures, asked, WaitFor::Storage);
    }

    /// Waits until the disk may have room again; the job is not lost meanwhile.
    pub(in crate::daemon::jobs) async fn wait_for_disk(&mut self, failures: u32, reason: &str) {
        tracing::error!(job = %self.task.id, "{reason}");
        self.set_activity(format!("waiting for the disk: {reason}")).await;
        self.download_later(failures, None, WaitFor::Disk);
    }

    fn download_later(&mut self, failures: u32, asked: Option<Duration>, what: WaitFor) {
        let backoff = Backoff::new(DOWNLOAD_BACKOFF.0, DOWNLOAD_BACKOFF.1);
        let wait = backoff.wait(failures, rand::random(), asked);
        self.seen.retry = Some((self.now().moment.plus(wait), what));
    }
}
