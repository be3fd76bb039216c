//! From checked artifacts to the public names, and to the end of the job.
//!
//! Owns the retries of a placement, and that CONJURE is told before a job ends. While a folder
//! cannot be written the job stays `placing`, without a time limit, because its result is paid for
//! and safe in history. The renames themselves belong to [`crate::disk::place`].

use std::{ops::ControlFlow, time::Duration};

use super::{JobRun, Step, fetch::Fetched, interrupted};
use crate::{
    daemon::{
        jobs::{
            handoff::{self, HandoffJob, HandoffOutcome},
            job_json,
        },
        services::{
            messages::{Control, JobEnd, JobReport},
            store::blocking,
        },
    },
    disk::place::{self, PlaceFault, PlaceOutcome},
    domain::{
        engine::event::JobStage,
        job::{JobState, artifact::ArtifactKind, backoff::Backoff, placement},
    },
    ledger::{
        error::LedgerError,
        rows::{Booking, Reason, Timing},
    },
};

/// The code of the reason of a job whose own folder could not take its artifacts.
pub(crate) const OUT_FOLDER: &str = "out_folder";

/// The first and the longest wait before a placement is tried again.
const PUBLISH_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl JobRun {
    /// Makes the artifacts visible and ends the job.
    pub(super) async fn publish(&mut self, fetched: Fetched) -> Step<JobEnd> {
        let plan = match placement::plan(self.id, &fetched.artifacts, &self.targets) {
            Ok(plan) => plan,
            Err(error) => {
                let reason = Reason::new("targets", error.to_string());
                return Err(self.end_failed(reason, self.booking_of_run().await).await);
            }
        };
        if self.is_cancelled() {
            return Err(self.end_cancelled_after_run().await);
        }
        self.step("placing", crate::ledger::Ledger::placing).await?;
        self.set_state(JobState::Placing, JobStage::Placing).await;
        let mut failures = 0;
        let tells = loop {
            // Checked again for each try: a placement may wait for hours, and CONJURE may start or
            // stop meanwhile.
            let tells = self.public && handoff::should_hand_over(&self.config(), &self.root).await;
            let mut own = plan.clone();
            if tells {
                own = handoff::with_old_mesh_time(own, self.services.clock.now().wall);
            }
            let alone = self.services.locks.lock_placement(self.project).await;
            let root = self.root.clone();
            let placed =
                blocking(move || place::place(&own, &root, &mut |_| ControlFlow::Continue(())))
                    .await;
            drop(alone);
            match placed {
                Ok(PlaceOutcome::All(_) | PlaceOutcome::Stopped) => break tells,
                Err(fault @ PlaceFault::SourceLost { .. }) => {
                    let reason = Reason::new("history_lost", fault.to_string());
                    return Err(self.end_failed(reason, self.booking_of_run().await).await);
                }
                // A problem with one person's own folder must not block the artist's next job: this
                // job ends here.
                Err(fault) if !self.public => {
                    let text = format!(
                        "{}; the run was charged, and its files are in the history folder of job {}",
                        fault.describe(),
                        self.id
                    );
                    let reason = Reason::new(OUT_FOLDER, text);
                    return Err(self.end_failed(reason, self.booking_of_run().await).await);
                }
                Err(fault) => {
                    failures += 1;
                    tracing::error!(job = %self.id, "{fault}");
                    self.set_activity(fault.to_string()).await;
                    let backoff = Backoff::new(PUBLISH_BACKOFF.0, PUBLISH_BACKOFF.1);
                    let wait = backoff.wait(failures, rand::random(), None);
                    let known = *self.control.borrow();
                    if known == Control::Stop
                        || self.wait_or_control(wait, known).await == Some(Control::Stop)
                    {
                        return Err(JobEnd::Stopped);
                    }
                }
            }
        };
        self.step("placed", crate::ledger::Ledger::placed).await?;
        self.set_state(JobState::Placed, JobStage::Placing).await;
        if tells {
            self.hand_over().await?;
        }
        self.finish().await
    }

    /// Finishes a job that an earlier session placed: CONJURE's own file says whether it was told.
    pub(super) async fn finish_placed(&mut self, state: JobState) -> Step<JobEnd> {
        let begun = state == JobState::HandingOver;
        if self.public && (begun || handoff::should_hand_over(&self.config(), &self.root).await) {
            self.hand_over().await?;
        }
        self.finish().await
    }

    /// Gives the mesh to CONJURE. Only a stop of the daemon keeps the job from its end.
    async fn hand_over(&mut self) -> Step<()> {
        let (id, history) = (self.id, std::sync::Arc::clone(&self.services.history));
        let mesh = blocking(move || history.job(id).ok()?.artifact(ArtifactKind::Mesh)).await;
        let Some(mesh) = mesh else {
            tracing::warn!(
                job = %id,
                "its mesh is no longer in the history, so it is not handed over to CONJURE"
            );
            return Ok(());
        };
        self.step("handing over", |ledger, job, now| ledger.handing_over(job, "", now)).await?;
        self.set_state(JobState::HandingOver, JobStage::HandingOver).await;
        let handoff = HandoffJob {
            project: self.project,
            job: id,
            sequence: 0,
            root: self.root.clone(),
            mesh,
            targets: self.targets.clone(),
        };
        let services = std::sync::Arc::clone(&self.services);
        let (reports, project, mut shown) =
            (services.reports.clone(), self.project, self.status.clone());
        let mut doing =
            move |message: String| {
                if shown.doing != message {
                    shown.doing = message;
                    // If the channel is full, the next update follows soon enough.
                    drop(reports.try_send(JobReport::StatusChanged {
                        project,
                        job: Box::new(shown.clone()),
                    }));
                }
            };
        match handoff::hand_over(&services, handoff, &mut self.control, &mut doing).await {
            HandoffOutcome::Taken | HandoffOutcome::GivenUp(_) => Ok(()),
            HandoffOutcome::Stopped => Err(JobEnd::Stopped),
        }
    }

    /// Books what the job cost and ends it.
    pub(super) async fn finish(&mut self) -> Step<JobEnd> {
        let id = self.id;
        let row = self.services.store.with(move |ledger| ledger.job(id)).await;
        let (booking, timing) = match &row {
            Ok(row) => row.job_cost(),
            Err(_) => (Booking::Reserved, Timing::default()),
        };
        let now = self.services.clock.now().wall;
        let record =
            move |ledger: &mut crate::ledger::Ledger| ledger.done(id, booking, timing, now);
        self.record("the job's completion", record).await?;
        let took = now.since(self.status.since);
        tracing::info!(job = %id, ?booking, seconds = took.as_secs_f32(), "done: image and mesh are placed");
        self.set_state(JobState::Done, JobStage::Placing).await;
        self.write_record().await;
        Ok(JobEnd::Ended { state: JobState::Done, placed: self.public })
    }

    /// Writes the job's record next to its artifacts. It is a copy for people; only the
    /// ledger counts.
    async fn write_record(&self) {
        job_json::write_record(&self.services.store, &self.services.history, self.id).await;
    }

    async fn step(
        &mut self,
        what: &'static str,
        operation: impl Fn(
            &mut crate::ledger::Ledger,
            crate::domain::job::JobId,
            crate::domain::time::WallTime,
        ) -> Result<(), LedgerError>
        + Clone
        + Send
        + 'static,
    ) -> Step<()> {
        let (id, now) = (self.id, self.services.clock.now().wall);
        let record = move |ledger: &mut crate::ledger::Ledger| operation(ledger, id, now);
        match self.services.store.record(what, record).await {
            Ok(()) => Ok(()),
            // The cancel reached the ledger before the placement did.
            Err(LedgerError::CancelWanted(_)) => Err(self.end_cancelled_after_run().await),
            Err(error) => Err(interrupted(what, &error)),
        }
    }
}
