//! The release of a job: its row in the ledger and the reservation of its money, in one commit; and
//! a job of an earlier session, taken up again.
//!
//! Owns what is recorded first. A job that is not released leaves no trace, and its change stays
//! pending. Whether the request may leave in the same commit is asked of the job's flow, as if the
//! row were there already.

use std::sync::Arc;

use super::{
    details::Details,
    driver::{JobRun, JobTask},
    early_work::{self, deployment_of},
    setup::{BUDGET_RETRY, JobSpec, START_RETRY, not_started},
    steps::submit::Held,
    texts::LEFT_TO_OTHER,
};
use crate::{
    daemon::services::{
        budget_windows,
        command::CommandErrorKind,
        messages::{JobEnd, JobReport},
        project_locks::HistoryHold,
        store::blocking,
    },
    domain::{
        job::{
            JobId, JobState,
            choose_backend::BackendKind,
            control::JobControl,
            flow::{
                self, Do, JobRecord,
                request_seen::RequestSeen,
                world::{PayloadSeen, Seen},
            },
        },
        money::{
            MicroUsd,
            estimate::{Estimate, EstimateBasis, PastTimings},
            job_cost::{ObservedTimes, PriceTerms},
        },
    },
    ledger::{
        error::ReleaseError,
        rows::{BudgetChange, JobRow, NewJob, ReleaseMode},
    },
};

/// A job that is prepared and not in the ledger yet.
pub(super) struct NewRun {
    pub(super) task: JobTask,
    pub(super) learned: PastTimings,
    pub(super) estimate: Estimate,
    pub(super) backend: BackendKind,
    /// The backends that the budget had no room for.
    pub(super) over_budget: Vec<BackendKind>,
}

impl NewRun {
    /// Releases the job and runs it to its end.
    pub(super) async fn release(self, spec: JobSpec) -> JobEnd {
        let Self { task, learned, estimate, backend, over_budget } = self;
        let config = Arc::clone(&task.services.config.borrow());
        let record = JobRecord {
            state: JobState::Prepared,
            cause: spec.cause,
            control: JobControl::Continue,
            backend,
            workflow: spec.request.built.version,
            own_folder: spec.out.is_some(),
            stands_in_for: spec.stands_in_for,
            cached_from: None,
            reserved: estimate.cost,
            terms: PriceTerms::of(&estimate),
            observed: ObservedTimes::default(),
            attempts: Vec::new(),
            outputs_known: false,
        };
        let seen = Seen { over_budget, payload: PayloadSeen::Ready, ..Seen::default() };
        let deployment = deployment_of(&config, backend);
        let mut run = JobRun::new(task, record, learned, estimate, deployment);
        run.seen = seen;
        if let Some((earlier, hold)) = run.find_same_work(&spec).await {
            run.earlier = Some(hold);
            run.record.cached_from = Some(earlier);
        }
        match run.enter(spec).await {
            Ok(()) => run.run().await,
            Err(end) => end,
        }
    }
}

impl JobRun {
    fn new(
        task: JobTask,
        record: JobRecord,
        learned: PastTimings,
        estimate: Estimate,
        deployment: Option<String>,
    ) -> Self {
        let config = task.services.config.clone();
        Self {
            task,
            config,
            record,
            seen: Seen::default(),
            wanted: JobControl::Continue,
            learned,
            estimate,
            deployment,
            lease: None,
            server_gone: false,
            payload: None,
            files: Vec::new(),
            instance: None,
            earlier: None,
            hands_over: None,
            slot: None,
            has_turn: false,
            retry_after: None,
            refusals: 0,
            received: 0,
            reported_words: Vec::new(),
            details: Details::default(),
        }
    }

    /// Takes up a job that another session began, and runs it to its end.
    pub(crate) async fn resume(mut task: JobTask, row: JobRow) -> JobEnd {
        let config = Arc::clone(&task.services.config.borrow());
        let record = row.record();
        let (learned, mut estimate) =
            early_work::expectation(&task.services, &config, record.backend).await;
        // The reservation stays as it was, and so does the assumption of a cold start.
        estimate.cost = row.reserved;
        estimate.cold = row.terms.cold_start.map(|span| (span, EstimateBasis::Learned));
        estimate.keep_warm = row.terms.keep_warm;
        early_work::describe(&mut task.status, &learned, &estimate);
        task.status.estimate = row.reserved;
        let mut run = Self::new(task, record, learned, estimate, row.deployment);
        run.instance = row.instance;
        if run.reload_surely().await.is_err() {
            return JobEnd::Stopped;
        }
        run.seen.earlier_attempts = run.record.attempts.len();
        if let Some(attempt) = run.record.newest().filter(|attempt| attempt.request.is_some()) {
            let observed = &run.record.observed;
            run.seen.request = Some(RequestSeen::resumed(run.now(), attempt, observed));
            if !run.record.outputs_known
                && matches!(run.record.state, JobState::Submitted | JobState::Running)
            {
                run.slot = Some(run.task.services.in_flight.count());
            }
        }
        run.run().await
    }

    /// Writes the job into the ledger, reserves its money, and marks that its request leaves right
    /// after, if nothing is in the way.
    async fn enter(&mut self, spec: JobSpec) -> Result<(), JobEnd> {
        match self.hold_project().await {
            Held::Ours | Held::Interrupted => {}
            Held::Left => {
                return Err(not_started(CommandErrorKind::TryAgain, LEFT_TO_OTHER, None));
            }
            Held::Withheld(reason) => {
                let retry = Some(START_RETRY);
                return Err(not_started(CommandErrorKind::TryAgain, &reason, retry));
            }
        }
        let world = self.world().await;
        let at_once = match flow::next(self.now(), &self.record, &world) {
            // A control that came during the preparation is applied before anything is recorded
            // or sent.
            Do::Suspend => return Err(JobEnd::Stopped),
            Do::End(end) if world.control > JobControl::Continue => {
                return Err(JobEnd::Ended { state: end.state, placed: false });
            }
            Do::MarkSubmitting => self.takes_slot() && !self.waits_for_turn(),
            _ => false,
        };
        let announce = if at_once { ReleaseMode::Submitting } else { ReleaseMode::PreparedOnly };
        let (inputs, prompt) = (spec.request.inputs, spec.request.prompt.clone());
        let own_inputs = spec.moves_baseline.then_some(inputs);
        self.payload = Some(spec.request.built.payload.clone());
        if self.record.cached_from.is_some() {
            self.estimate.cost = MicroUsd::ZERO;
            let status = &mut self.task.status;
            (status.estimate, status.cold, status.eta) = (MicroUsd::ZERO, Some(false), None);
        }
        let cause = spec.cause;
        self.record_release(spec, announce).await?;
        let (project, id) = (self.task.project, self.task.id);
        self.report(JobReport::Started { project, job: id, inputs: own_inputs }).await;
        tracing::info!(
            job = %id, cause = cause.name(), estimate = %self.estimate.cost,
            "released: \"{}\"", excerpt(&prompt)
        );
        if let Some(earlier) = self.record.cached_from {
            tracing::info!(
                job = %id, %earlier,
                "same work as an earlier job: its artifacts are reused, free of charge"
            );
        } else if let Some(why) = &self.task.status.why {
            let backend = self.record.backend;
            tracing::info!(job = %id, place = %backend, "this backend was chosen because {why}");
        }
        self.reload_surely().await.map_err(|_| JobEnd::Stopped)?;
        self.seen.marked = at_once;
        Ok(())
    }

    async fn record_release(&mut self, spec: JobSpec, announce: ReleaseMode) -> Result<(), JobEnd> {
        let JobSpec { request, cause, retry_of, stands_in_for, out, moves_baseline, .. } = spec;
        let (config, now) = (self.config(), self.now().wall);
        let services = Arc::clone(&self.task.services);
        let cached_from = self.record.cached_from;
        let job = NewJob {
            id: self.task.id,
            project: self.task.project,
            session: services.session,
            cause,
            inputs: request.inputs,
            prompt: request.prompt,
            workflow: request.built.workflow,
            workflow_version: request.built.version,
            body_digest: request.built.digest,
            body_bytes: request.built.bytes,
            seed: Some(request.seeds.image),
            mesh_seed: Some(request.seeds.mesh),
            summary: request.built.summary,
            mode: config.settings.mode.to_string(),
            backend: self.record.backend.name().to_owned(),
            deployment: self.deployment.clone(),
            retry_of,
            stands_in_for,
            cached_from,
            // A job that shows earlier artifacts uses no backend, so it has no reason for one.
            why: self.task.status.why.clone().filter(|_| cached_from.is_none()),
            moves_baseline,
            out: out.map(|folder| folder.to_string_lossy().into_owned()),
            reserve: self.estimate.cost,
            terms: PriceTerms::of(&self.estimate),
            at: now,
        };
        let (limits, windows) = (config.limits, budget_windows::windows(now));
        // The inputs are on the disk before the row that refers to them.
        let (id, staged) = (self.task.id, request.staged);
        let history = Arc::clone(&services.history);
        let release = move |ledger: &mut crate::ledger::Ledger| {
            let committed = staged.commit(id).and_then(|_| match announce {
                // It leaves at once: its folder's name becomes durable after it is gone.
                ReleaseMode::Submitting => Ok(()),
                // After a power loss it may have to be built from these inputs.
                ReleaseMode::PreparedOnly => history.sync(),
            });
            committed.map_err(|error| NotReleased::Disk(error.to_string()))?;
            ledger.release(&job, &limits, &windows, announce).map_err(NotReleased::Ledger)
        };
        let released: Result<BudgetChange, NotReleased> = services.store.with(release).await;
        match released {
            Ok(change) => {
                self.warn_of_limits(&limits, &windows, &change).await;
                Ok(())
            }
            Err(refused) => {
                self.discard_inputs().await;
                Err(refused.into_end())
            }
        }
    }

    /// Returns an earlier success of the same work whose artifacts are still in history, unchanged.
    /// Same work means the same bytes of the request (prompt, picture, seeds, steps) for the same
    /// version of the workflow.
    async fn find_same_work(&self, spec: &JobSpec) -> Option<(JobId, HistoryHold)> {
        if !self.config().settings.generation.cache || !spec.may_be_cached {
            return None;
        }
        let (version, digest) = (spec.request.built.version, spec.request.built.digest);
        let store = &self.task.services.store;
        let found = store.with(move |ledger| ledger.find_same_work(&version, &digest)).await;
        let earlier = found.ok().flatten()?;
        Some((earlier, self.reusable(earlier).await?))
    }

    /// Removes the inputs of a job that was not released.
    async fn discard_inputs(&self) {
        let (history, id) = (Arc::clone(&self.task.services.history), self.task.id);
        blocking(move || {
            if let Err(error) = history.remove(id) {
                tracing::warn!(
                    %error,
                    "could not remove the inputs of a job that was not released"
                );
            }
        })
        .await;
    }
}

/// Why a release did not happen. Nothing was sent.
enum NotReleased {
    Disk(String),
    Ledger(ReleaseError),
}

impl NotReleased {
    fn into_end(self) -> JobEnd {
        let (kind, reason, retry_after) = match self {
            Self::Disk(reason) => (
                CommandErrorKind::TryAgain,
                format!("the inputs cannot be saved in the history, nothing was sent: {reason}"),
                Some(START_RETRY),
            ),
            Self::Ledger(ReleaseError::Budget(refusal)) => {
                // A session's budget changes only by a reload; a day's becomes free again
                // with time.
                (CommandErrorKind::TryAgain, refusal.to_string(), Some(BUDGET_RETRY))
            }
            Self::Ledger(ReleaseError::Ledger(error)) => (
                CommandErrorKind::TryAgain,
                format!("nothing was sent: {error}"),
                Some(START_RETRY),
            ),
        };
        JobEnd::NotStarted { kind, reason, retry_after }
    }
}

/// Returns the beginning of a prompt, for a log line.
fn excerpt(prompt: &str) -> String {
    let line = prompt.lines().next().unwrap_or_default();
    if line.chars().count() <= 60 {
        return line.to_owned();
    }
    let mut short: String = line.chars().take(59).collect();
    short.push('…');
    short
}
