//! From checked artifacts to the public names, to CONJURE, and to the end of the job.
//!
//! Owns how a placement and a handoff are performed. The renames themselves belong to
//! [`crate::disk::place`], the handoff's steps to [`crate::handoff`].

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use crate::{
    daemon::{
        jobs::{
            driver::{JobRun, Refused},
            handoff::{self, HandoffJob, HandoffOutcome},
            job_json, restore,
        },
        services::{messages::JobReport, store::blocking},
    },
    disk::place::{self, PlaceOutcome},
    domain::{
        engine::event::JobStage,
        job::{
            JobId, JobState,
            artifact::ArtifactKind,
            backoff::Backoff,
            flow::{
                End,
                world::{CacheFault, PlaceFault, WaitFor},
            },
            placement,
        },
    },
    ledger::{
        Ledger,
        error::LedgerError,
        rows::{Reason, Timing},
    },
};

/// The first and the longest wait before a placement is tried again.
const PUBLISH_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl JobRun {
    /// Copies the artifacts of an earlier job of the same work, and takes them as the job's own.
    pub(in crate::daemon::jobs) async fn use_cached(
        &mut self,
        earlier: JobId,
    ) -> Result<(), Refused> {
        if self.earlier.is_none() {
            self.earlier = self.reusable(earlier).await;
        }
        if self.earlier.is_none() {
            self.seen.cache = Some(CacheFault::Gone);
            return Ok(());
        }
        let message =
            format!("same work as job {earlier}: its artifacts are reused, free of charge");
        self.set_activity(message.clone()).await;
        self.set_state(JobState::Prepared, JobStage::Placing).await;
        let (id, history) = (self.task.id, Arc::clone(&self.task.services.history));
        let copied = blocking(move || history.job(id)?.copy_from(&history.past(earlier))).await;
        if let Err(error) = copied {
            self.details.note(format!("could not copy the artifacts of job {earlier}: {error}"));
            self.seen.cache = Some(CacheFault::NotCopied);
            return Ok(());
        }
        self.record_fetched().await?;
        // The disk may not have taken them yet; then it is tried again.
        if self.record.state == JobState::Fetched {
            self.earlier = None;
            let now = self.now().wall;
            let note = move |ledger: &mut Ledger| ledger.note(id, "cache", &message, now);
            self.record("the reuse of an earlier result", note).await?;
        }
        Ok(())
    }

    /// Checks that the artifacts of `earlier` are in history, unchanged, and keeps them there until
    /// they are copied.
    pub(in crate::daemon::jobs) async fn reusable(
        &self,
        earlier: JobId,
    ) -> Option<crate::daemon::services::project_locks::HistoryHold> {
        let services = &self.task.services;
        let hold = services.locks.hold_history(earlier);
        let rows = services.store.with(move |ledger| ledger.artifacts(earlier)).await.ok()?;
        let folder = services.history.past(earlier);
        match blocking(move || restore::verified_artifacts(earlier, &folder, &rows)).await {
            Ok(_) => Some(hold),
            Err(reason) => {
                tracing::info!(
                    job = %self.task.id, %earlier,
                    "an earlier result of the same work exists but cannot be reused: {reason}"
                );
                None
            }
        }
    }

    /// Records that the artifacts are being placed. A cancel that reached the ledger before is seen
    /// when the job is read again.
    pub(in crate::daemon::jobs) async fn mark_placing(&mut self) -> Result<(), Refused> {
        let (id, now) = (self.task.id, self.now().wall);
        let record = move |ledger: &mut Ledger| ledger.placing(id, now);
        match self.task.services.store.record("placing", record).await {
            Ok(()) | Err(LedgerError::CancelWanted(_)) => {}
            Err(error) => return Err(Refused::new("placing", &error)),
        }
        self.reload_surely().await?;
        if self.record.state == JobState::Placing {
            self.set_state(JobState::Placing, JobStage::Placing).await;
        }
        Ok(())
    }

    /// Makes the artifacts visible: one try.
    pub(in crate::daemon::jobs) async fn place(&mut self) -> Result<(), Refused> {
        self.set_state(JobState::Placing, JobStage::Placing).await;
        let (history, id) = (Arc::clone(&self.task.services.history), self.task.id);
        let artifacts = blocking(move || {
            let folder = history.past(id);
            let there = ArtifactKind::ALL.into_iter().filter_map(|kind| {
                Some(placement::Artifact { kind, path: folder.artifact(kind)? })
            });
            there.collect::<Vec<_>>()
        })
        .await;
        let mut plan = match placement::plan(id, &artifacts, &self.task.targets) {
            Ok(plan) => plan,
            Err(error) => {
                self.details.note(error.to_string());
                self.seen.place = Some(PlaceFault::Targets);
                return Ok(());
            }
        };
        // Asked again for each try: a placement may wait for hours, and CONJURE may start or stop
        // meanwhile.
        let hands_over = !self.record.own_folder
            && handoff::should_hand_over(&self.config(), &self.task.root).await;
        if hands_over {
            plan = handoff::with_old_mesh_time(plan, self.now().wall);
        }
        let alone = self.task.services.locks.lock_placement(self.task.project).await;
        let root = self.task.root.clone();
        let placed =
            blocking(move || place::place(&plan, &root, &mut |_| ControlFlow::Continue(()))).await;
        drop(alone);
        match placed {
            Ok(PlaceOutcome::All(_) | PlaceOutcome::Stopped) => {
                self.hands_over = Some(hands_over);
                let now = self.now().wall;
                self.record("placed", move |ledger: &mut Ledger| ledger.placed(id, now)).await?;
                self.set_state(JobState::Placed, JobStage::Placing).await;
            }
            Err(fault @ place::PlaceFault::SourceLost { .. }) => {
                self.details.note(fault.to_string());
                self.seen.place = Some(PlaceFault::SourceLost);
            }
            // A problem with one person's own folder must not block the artist's next job: this job
            // ends here.
            Err(fault) if self.record.own_folder => {
                self.details.note(fault.describe());
                self.seen.place = Some(PlaceFault::OwnFolder);
            }
            Err(fault) => {
                tracing::error!(job = %id, "{fault}");
                self.set_activity(fault.to_string()).await;
                self.refusals += 1;
                let backoff = Backoff::new(PUBLISH_BACKOFF.0, PUBLISH_BACKOFF.1);
                let wait = backoff.wait(self.refusals, rand::random(), None);
                self.seen.retry = Some((self.now().moment.plus(wait), WaitFor::Folder));
            }
        }
        Ok(())
    }

    /// Gives the mesh to CONJURE. Only a stop of the daemon keeps the job from its end.
    pub(in crate::daemon::jobs) async fn hand_over(&mut self) -> Result<(), Refused> {
        let (id, history) = (self.task.id, Arc::clone(&self.task.services.history));
        let mesh = blocking(move || history.job(id).ok()?.artifact(ArtifactKind::Mesh)).await;
        let Some(mesh) = mesh else {
            tracing::warn!(
                job = %id,
                "its mesh is no longer in the history, so it is not handed over to CONJURE"
            );
            self.seen.handed_over = true;
            return Ok(());
        };
        let now = self.now().wall;
        let record = move |ledger: &mut Ledger| ledger.handing_over(id, "", now);
        self.record("handing over", record).await?;
        self.set_state(JobState::HandingOver, JobStage::HandingOver).await;
        let task = &self.task;
        let handoff = HandoffJob {
            project: task.project,
            job: id,
            sequence: 0,
            root: task.root.clone(),
            mesh,
            targets: task.targets.clone(),
        };
        let services = Arc::clone(&task.services);
        let (reports, project, mut shown) =
            (services.reports.clone(), task.project, task.status.clone());
        let mut doing = move |message: String| {
            if shown.doing != message {
                shown.doing = message;
                // If the channel is full, the next update follows soon enough.
                let job = Box::new(shown.clone());
                drop(reports.try_send(JobReport::StatusChanged { project, job }));
            }
        };
        let control = &mut self.task.control;
        match handoff::hand_over(&services, handoff, control, &mut doing).await {
            HandoffOutcome::Taken | HandoffOutcome::GivenUp(_) => self.seen.handed_over = true,
            HandoffOutcome::Stopped => {}
        }
        Ok(())
    }

    /// Records the end of the job and books what it cost. Returns `false` if the daemon stops before
    /// that.
    pub(in crate::daemon::jobs) async fn record_end(
        &mut self,
        end: End,
        reason: Option<Reason>,
    ) -> Result<bool, Refused> {
        let (id, now, booking) = (self.task.id, self.now().wall, end.booking);
        if end.state == JobState::Failed
            && matches!(self.record.state, JobState::Submitted | JobState::Running)
            && (self.record.outputs_known || self.seen.image_tried)
            && !self.record_kept().await
        {
            return Ok(false);
        }
        let Some(reason) = reason else {
            let row = self.task.services.store.with(move |ledger| ledger.job(id)).await;
            let timing = row.map_or_else(|_| Timing::default(), |row| row.job_cost().1);
            let record = move |ledger: &mut Ledger| ledger.done(id, booking, timing, now);
            self.record("the job's completion", record).await?;
            let seconds = now.since(self.task.status.since).as_secs_f32();
            tracing::info!(job = %id, ?booking, seconds, "done: image and mesh are placed");
            self.set_state(JobState::Done, JobStage::Placing).await;
            // A copy for people; only the ledger counts.
            let services = &self.task.services;
            job_json::write_record(&services.store, &services.history, id).await;
            return Ok(true);
        };
        let text = reason.text.clone();
        let code = reason.code.clone();
        let record = move |ledger: &mut Ledger| match end.state {
            JobState::Cancelled => ledger.cancelled(id, &reason, booking, now),
            JobState::Replaced => ledger.replaced(id, None, booking, now),
            JobState::Unknown => ledger.unknown(id, &reason, now),
            _ => ledger.failed(id, &reason, booking, now),
        };
        self.record("the job's end", record).await?;
        match end.state {
            JobState::Failed => {
                tracing::error!(job = %id, code, "failed: {text}");
            }
            JobState::Unknown => {
                tracing::error!(job = %id, "{text}");
                self.report(JobReport::Warning(format!("job {id}: {text}"))).await;
            }
            state => tracing::info!(job = %id, ?booking, "{state}"),
        }
        Ok(true)
    }
}
