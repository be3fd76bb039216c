//! From the list of remote files to checked artifacts in history.
//!
//! Owns the tries: an interrupted download is continued, an expired URL is requested again, a file
//! that fails its checks is quarantined and fetched again a few times. What a good image or mesh
//! is, [`crate::domain`] decides; nothing becomes visible to the user here.

mod download;

use std::{sync::Arc, time::Duration};

use super::{
    JobRun, Step,
    fetch::download::{DownloadError, MAX_IMAGE},
    poll::FinishedRun,
};
use crate::{
    backend::{CallError, FaultKind, RunResult},
    daemon::services::{
        messages::{Control, JobEnd, JobReport},
        store::blocking,
    },
    disk::history::JobFolder,
    domain::{
        engine::event::JobStage,
        job::{
            JobState, RequestId,
            artifact::{self, ArtifactKind, RemoteFile},
            backoff::Backoff,
        },
        time::Moment,
    },
    ledger::rows::{ArtifactRow, JobRow, Reason},
};

/// How often a file that fails its checks is fetched again.
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

/// Artifacts in history, checked.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) artifacts: Vec<crate::domain::job::placement::Artifact>,
}

impl JobRun {
    /// Fetches and checks the image and the mesh of a run that succeeded.
    pub(super) async fn fetch(&mut self, request: &RequestId, ended: FinishedRun) -> Step<Fetched> {
        let fetched = self.fetch_all(request, ended).await;
        self.note_received().await;
        fetched
    }

    async fn fetch_all(&mut self, request: &RequestId, ended: FinishedRun) -> Step<Fetched> {
        let FinishedRun { mut files } = ended;
        self.set_state(JobState::Running, JobStage::Placing).await;
        let folder = self.folder().await?;
        let mut rows = Vec::new();
        let mut bad_image = None;
        for kind in ArtifactKind::ALL {
            match self.fetch_kind(kind, &folder, &mut files, request).await? {
                Ok(Some(row)) => rows.push(row),
                Ok(None) if kind == ArtifactKind::Image => {
                    tracing::warn!(
                        job = %self.id,
                        "the run returned no image; only the mesh is placed"
                    );
                }
                Ok(None) => {
                    let text = "the run succeeded but returned no mesh (.glb); it was charged. \
                                Check the workflow's output nodes with `conjured workflow inspect`";
                    self.record_artifacts(rows).await;
                    let reason = Reason::new("no_mesh", text);
                    return Err(self.end_failed(reason, self.booking_of_run().await).await);
                }
                // The mesh was paid for too: it is kept in history before the job ends without
                // being shown.
                Err(reason) if kind == ArtifactKind::Image => bad_image = Some(reason),
                Err(reason) => {
                    self.record_artifacts(rows).await;
                    return Err(self
                        .end_failed(bad_image.unwrap_or(reason), self.booking_of_run().await)
                        .await);
                }
            }
        }
        if let Some(reason) = bad_image {
            self.record_artifacts(rows).await;
            return Err(self.end_failed(reason, self.booking_of_run().await).await);
        }
        self.status.received = None;
        self.record_fetched(rows).await?;
        if self.is_cancelled() {
            return Err(self.end_cancelled_after_run().await);
        }
        Ok(Self::in_history(&folder))
    }

    /// Keeps in history the image that a run made before its mesh failed. There is one try, because
    /// it is only a courtesy: nothing is shown, and the job ends with its own reason in any case.
    pub(super) async fn save_image(
        &mut self,
        request: &RequestId,
        files: &[RemoteFile],
    ) -> Step<()> {
        let config = self.config();
        let node = config.workflows.at(self.backend).output(ArtifactKind::Image).to_owned();
        let gone = match &self.lease {
            Some(lease) => lease.ended_reason().is_some(),
            None => config.known_at(self.backend).is_err(),
        };
        let Some(file) =
            artifact::choose_file(files, ArtifactKind::Image, &node).filter(|_| !gone).cloned()
        else {
            return Ok(());
        };
        // A cancel is too late now: the run is over.
        self.cancel_too_late = true;
        let folder = self.folder().await?;
        let mut progress = (self.services.clock.now().moment, 0);
        let tried = self
            .download(
                ArtifactKind::Image,
                &folder,
                &file,
                request,
                (&mut progress.0, &mut progress.1),
            )
            .await?;
        self.note_received().await;
        match tried {
            Ok(()) => {
                let row = self.describe(ArtifactKind::Image, &folder).await?;
                self.record_artifacts(vec![row]).await;
            }
            Err(error) => {
                let reason = error.reason();
                tracing::warn!(
                    job = %self.id,
                    "could not keep the image that was made before the run failed: {reason}"
                );
            }
        }
        Ok(())
    }

    /// Records how much was downloaded.
    async fn note_received(&mut self) {
        let (id, bytes) = (self.id, std::mem::take(&mut self.received));
        // The number is informative: a ledger that cannot take it now must not delay a result.
        if bytes > 0
            && let Err(error) =
                self.services.store.with(move |ledger| ledger.add_received(id, bytes)).await
        {
            tracing::warn!(job = %id, %error, "could not record the number of downloaded bytes");
        }
    }

    /// Continues with artifacts that another session fetched.
    pub(super) async fn resume_fetched(&mut self, row: &JobRow) -> Step<Fetched> {
        self.set_state(row.state, JobStage::Placing).await;
        let folder = self.folder().await?;
        let fetched = Self::in_history(&folder);
        if fetched.artifacts.iter().any(|artifact| artifact.kind == ArtifactKind::Mesh) {
            return Ok(fetched);
        }
        let text = "its mesh is no longer in the history folder; it was charged";
        let booking = self.booking_of_run().await;
        Err(self.end_failed(Reason::new("history_lost", text), booking).await)
    }

    /// Takes the artifacts that are already in the job's folder as its own.
    pub(super) async fn adopt_artifacts(&mut self, folder: &JobFolder) -> Step<Fetched> {
        let mut rows = Vec::new();
        for kind in ArtifactKind::ALL {
            if folder.artifact(kind).is_some() {
                rows.push(self.describe(kind, folder).await?);
            }
        }
        self.record_fetched(rows).await?;
        Ok(Self::in_history(folder))
    }

    fn in_history(folder: &JobFolder) -> Fetched {
        let artifacts = ArtifactKind::ALL
            .into_iter()
            .filter_map(|kind| {
                let path = folder.artifact(kind)?;
                Some(crate::domain::job::placement::Artifact { kind, path })
            })
            .collect();
        Fetched { artifacts }
    }

    /// Opens the job's folder, as soon as the disk allows.
    pub(super) async fn folder(&mut self) -> Step<JobFolder> {
        let mut failures = 0;
        loop {
            let (history, id) = (Arc::clone(&self.services.history), self.id);
            match blocking(move || history.job(id)).await {
                Ok(folder) => return Ok(folder),
                Err(error) => {
                    failures += 1;
                    self.wait_for_disk(failures, &error.to_string()).await?;
                }
            }
        }
    }

    /// Fetches one artifact; `None` if the run lists none.
    async fn fetch_kind(
        &mut self,
        kind: ArtifactKind,
        folder: &JobFolder,
        files: &mut Vec<RemoteFile>,
        request: &RequestId,
    ) -> Step<Result<Option<ArtifactRow>, Reason>> {
        let (mut fresh, mut gone, mut failures, mut stuck_tries) = (0, 0, 0, 0);
        let mut last_progress = self.services.clock.now().moment;
        let mut farthest = 0;
        loop {
            if folder.artifact(kind).is_some() {
                return Ok(Ok(Some(self.describe(kind, folder).await?)));
            }
            // The result of a cancelled job is fetched all the same, because it was paid for, but
            // with one try only.
            if self.is_cancelled() && fresh + gone + failures > 0 {
                return Err(self.end_cancelled_after_run().await);
            }
            let config = self.config();
            let node = config.workflows.at(self.backend).output(kind).to_owned();
            let Some(file) = artifact::choose_file(files, kind, &node).cloned() else {
                return Ok(Ok(None));
            };
            let progress_before = last_progress;
            let tried = self
                .download(kind, folder, &file, request, (&mut last_progress, &mut farthest))
                .await?;
            stuck_tries = if last_progress > progress_before { 0 } else { stuck_tries + 1 };
            let is_stuck = |now: Moment| {
                stuck_tries >= MIN_STALLED_TRIES && now.since(last_progress) > STALL_TIMEOUT
            };
            let is_stuck = is_stuck(self.services.clock.now().moment);
            match tried {
                Ok(()) => {}
                Err(DownloadError::Interrupted { reason, retry_after }) => {
                    failures += 1;
                    if is_stuck {
                        let text =
                            format!("the {kind} could not be downloaded for a day: {reason}");
                        return Ok(Err(fetch_error("download", &text)));
                    }
                    tracing::warn!(
                        job = %self.id, %kind,
                        "the download was interrupted and will be retried: {reason}"
                    );
                    self.wait_for_storage(failures, &reason, retry_after).await?;
                }
                Err(DownloadError::Disk(reason)) => {
                    // Without a limit: the result is paid for, and our own disk is no fault of
                    // the storage.
                    failures += 1;
                    last_progress = self.services.clock.now().moment;
                    self.wait_for_disk(failures, &reason).await?;
                }
                Err(DownloadError::Gone(reason)) => {
                    if gone >= MAX_GONE_RESULTS || is_stuck {
                        let text = format!("the storage no longer has the {kind}: {reason}");
                        return Ok(Err(fetch_error("download", &text)));
                    }
                    failures += 1;
                    self.wait_for_storage(failures, &reason, None).await?;
                    // A service that does not answer has said nothing about the file, which was
                    // paid for.
                    gone += u32::from(self.refresh(files, request).await?);
                }
                Err(DownloadError::Invalid(reason)) => {
                    fresh += 1;
                    tracing::warn!(job = %self.id, %kind, "quarantined: {reason}");
                    if fresh >= MAX_INVALID_DOWNLOADS {
                        let text = format!(
                            "the {kind} from the service cannot be used: {reason}. It is in \
                             quarantine; the public files are unchanged"
                        );
                        return Ok(Err(fetch_error("bad_artifact", &text)));
                    }
                    self.wait_for_storage(fresh, &reason, None).await?;
                }
                Err(DownloadError::Permanent(reason)) => {
                    let text = format!(
                        "the {kind} was not downloaded: {reason}; the public files are unchanged"
                    );
                    return Ok(Err(fetch_error("refused_download", &text)));
                }
            }
        }
    }

    /// Describes a finished artifact for the ledger.
    async fn describe(&mut self, kind: ArtifactKind, folder: &JobFolder) -> Step<ArtifactRow> {
        let mut failures = 0;
        loop {
            let (own, id) = (folder.clone(), self.id);
            match blocking(move || crate::daemon::inputs::prepare::describe(&own, id, kind)).await {
                Ok(row) => return Ok(row),
                Err(error) => {
                    failures += 1;
                    self.wait_for_disk(failures, &error).await?;
                }
            }
        }
    }

    /// Asks for the result again, because its URLs may be new. Returns whether the
    /// service answered.
    async fn refresh(&mut self, files: &mut Vec<RemoteFile>, request: &RequestId) -> Step<bool> {
        self.services.wait_for_call(self.backend).await;
        let backend = self.backend_for_files().await?;
        match backend.result(request).await {
            Ok(RunResult::Succeeded { files: fresh, .. }) if !fresh.is_empty() => *files = fresh,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(job = %self.id, %error, "could not get the result again");
                let CallError::Fault(fault) = &error else { return Ok(false) };
                if fault.kind == FaultKind::Token {
                    self.report(JobReport::TokenRefused).await;
                }
                return Ok(fault.kind == FaultKind::Gone);
            }
        }
        Ok(true)
    }

    pub(super) fn limit(&self, kind: ArtifactKind) -> u64 {
        let limit = self.config().settings.placement.max_artifact_mb.saturating_mul(1024 * 1024);
        match kind {
            ArtifactKind::Image => limit.min(MAX_IMAGE),
            ArtifactKind::Mesh => limit,
        }
    }

    async fn wait_for_storage(
        &mut self,
        failures: u32,
        reason: &str,
        asked: Option<Duration>,
    ) -> Step<()> {
        let when = asked.map(|wait| format!(" in {} s, as the storage requested", wait.as_secs()));
        let when = when.unwrap_or_default();
        self.set_activity(format!("retrying the download{when}: {reason}")).await;
        self.wait_before_retry(failures, asked).await
    }

    /// Waits until the disk may have room again; the job is not lost meanwhile.
    pub(super) async fn wait_for_disk(&mut self, failures: u32, reason: &str) -> Step<()> {
        tracing::error!(job = %self.id, "{reason}");
        self.set_activity(format!("waiting for the disk: {reason}")).await;
        self.wait_before_retry(failures, None).await
    }

    async fn wait_before_retry(&mut self, failures: u32, asked: Option<Duration>) -> Step<()> {
        let wait = Backoff::new(DOWNLOAD_BACKOFF.0, DOWNLOAD_BACKOFF.1).wait(
            failures,
            rand::random(),
            asked,
        );
        let known = *self.control.borrow();
        if known == Control::Stop || self.wait_or_control(wait, known).await == Some(Control::Stop)
        {
            return Err(JobEnd::Stopped);
        }
        Ok(())
    }

    async fn record_artifacts(&self, rows: Vec<ArtifactRow>) {
        let id = self.id;
        let record = move |ledger: &mut crate::ledger::Ledger| ledger.keep_artifacts(id, &rows);
        drop(self.services.store.record("the image of a failed job", record).await);
    }

    async fn record_fetched(&mut self, rows: Vec<ArtifactRow>) -> Step<()> {
        let (id, now) = (self.id, self.services.clock.now().wall);
        let record = move |ledger: &mut crate::ledger::Ledger| ledger.fetched(id, &rows, now);
        self.record("the downloaded artifacts", record).await?;
        self.set_state(JobState::Fetched, JobStage::Placing).await;
        Ok(())
    }

    /// Ends a job that a person cancelled before the result was placed, although the run had
    /// finished: it was paid for, so it is kept and booked, and never shown.
    pub(super) async fn end_cancelled_after_run(&mut self) -> JobEnd {
        let (id, now) = (self.id, self.services.clock.now().wall);
        let reason = Reason::new(
            "cancelled_too_late",
            "the run finished before the cancel took effect; it was charged, any downloaded files \
             are in the history, and nothing was placed",
        );
        let booking = self.booking_of_run().await;
        let record =
            move |ledger: &mut crate::ledger::Ledger| ledger.cancelled(id, &reason, booking, now);
        match self.record("the late cancel", record).await {
            Ok(()) => JobEnd::Ended { state: JobState::Cancelled, placed: false },
            Err(end) => end,
        }
    }
}

/// Returns the reason of an artifact that could not be fetched.
fn fetch_error(code: &str, text: &str) -> Reason {
    Reason::new(code, format!("{text}. The run was charged"))
}
