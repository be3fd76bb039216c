//! The same work as an earlier success: its artifacts are placed again, free of charge.
//!
//! Owns the short path `prepared → fetched`. Same work means the same bytes of the request (prompt,
//! picture, seeds, steps) for the same version of the workflow. The disk says whether the artifacts
//! are still in history, and the ledger's digests say whether they are unchanged.

use std::sync::Arc;

use super::{JobRun, JobSpec, Step, fetch::Fetched};
use crate::{
    daemon::{
        jobs::restore,
        services::{project_locks::HistoryHold, store::blocking},
    },
    domain::{engine::event::JobStage, fingerprint::Fingerprint, job::JobId, money::MicroUsd},
    ledger::rows::{Booking, Reason},
};

impl JobRun {
    /// Returns an earlier success of the same work whose artifacts are still in history, unchanged.
    pub(super) async fn find_same_work(&self, spec: &JobSpec) -> Option<(JobId, HistoryHold)> {
        let config = self.config();
        if !config.settings.generation.cache || !spec.may_be_cached {
            return None;
        }
        self.find_same_request(spec.request.built.version, spec.request.built.digest).await
    }

    async fn find_same_request(
        &self,
        version: Fingerprint,
        digest: Fingerprint,
    ) -> Option<(JobId, HistoryHold)> {
        let found =
            self.services.store.with(move |ledger| ledger.find_same_work(&version, &digest)).await;
        let earlier = found.ok().flatten()?;
        Some((earlier, self.reusable(earlier).await?))
    }

    /// Checks that the artifacts of `earlier` are in history, unchanged, and keeps them there until
    /// they are copied.
    async fn reusable(&self, earlier: JobId) -> Option<HistoryHold> {
        let hold = self.services.locks.hold_history(earlier);
        let rows = self.services.store.with(move |ledger| ledger.artifacts(earlier)).await.ok()?;
        let folder = self.services.history.past(earlier);
        match blocking(move || restore::verified_artifacts(earlier, &folder, &rows)).await {
            Ok(_) => Some(hold),
            Err(reason) => {
                tracing::info!(
                    job = %self.id, %earlier,
                    "an earlier result of the same work exists but cannot be reused: {reason}"
                );
                None
            }
        }
    }

    /// Releases the job at no cost and takes over the artifacts of `earlier`.
    pub(super) async fn reuse_artifacts(&mut self, spec: JobSpec, earlier: JobId) -> Step<Fetched> {
        self.estimate.cost = MicroUsd::ZERO;
        self.status.estimate = MicroUsd::ZERO;
        self.status.cold = Some(false);
        self.status.eta = None;
        self.release_free(spec, earlier).await?;
        tracing::info!(
            job = %self.id, %earlier,
            "same work as an earlier job: its artifacts are reused, free of charge"
        );
        let message =
            format!("same work as job {earlier}: its artifacts are reused, free of charge");
        self.set_activity(message.clone()).await;
        self.copy_from(earlier, message).await
    }

    /// Continues a job that was released at no cost and stopped before it had its artifacts.
    /// Nothing is reserved for it, so it is never sent: without the earlier artifacts it ends.
    pub(super) async fn resume_reuse(&mut self, earlier: JobId) -> Step<Fetched> {
        self.estimate.cost = MicroUsd::ZERO;
        self.status.estimate = MicroUsd::ZERO;
        let Some(_hold) = self.reusable(earlier).await else {
            let text = "the earlier result that this job was to reuse is no longer in the history; \
                        nothing was sent. `conjured once` does the work again, at its own cost";
            return Err(self.end_failed(Reason::new("history", text), Booking::Nothing).await);
        };
        let message =
            format!("same work as job {earlier}: its artifacts are reused, free of charge");
        self.copy_from(earlier, message).await
    }

    async fn copy_from(&mut self, earlier: JobId, message: String) -> Step<Fetched> {
        let (id, now) = (self.id, self.services.clock.now().wall);
        let note =
            move |ledger: &mut crate::ledger::Ledger| ledger.note(id, "cache", &message, now);
        self.record("the reuse of an earlier result", note).await?;
        self.set_state(crate::domain::job::JobState::Prepared, JobStage::Placing).await;
        let history = Arc::clone(&self.services.history);
        let copied = blocking(move || history.job(id)?.copy_from(&history.past(earlier))).await;
        if let Err(error) = copied {
            let text =
                format!("could not copy the artifacts of job {earlier}: {error}; nothing was sent");
            return Err(self.end_failed(Reason::new("history", text), Booking::Nothing).await);
        }
        let folder = self.folder().await?;
        self.adopt_artifacts(&folder).await
    }
}
