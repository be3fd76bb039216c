//! From release to the backend's id: reserves the money, marks that the request may leave, submits
//! once, handles the three outcomes.
//!
//! Owns the promise that a request whose outcome is unknown is never sent a second time: only after
//! [`SubmitError::NotSent`] is the same request sent again, or after [`SubmitError::Unknown`] on a
//! backend that can be asked for the request.

mod before_submit;
mod mark_submitting;
mod acquire_server;

use std::time::Duration;

use super::{JobRun, JobSpec, Step, control_changed, hold, reason_of};
use crate::{
    backend::{Payload, ServiceFault, Submission, SubmitError},
    daemon::{
        inputs::prepare,
        services::{
            command::CommandErrorKind,
            messages::{Control, JobEnd, JobReport},
        },
    },
    domain::{
        engine::event::JobStage,
        job::{JobId, JobState, RequestId, choose_backend::BackendKind},
    },
    failpoint::{self, Point, Side},
    ledger::{
        error::ReleaseError,
        rows::{Booking, JobRow, NewJob, Reason, ReleaseMode},
    },
};

/// How long a stopping daemon waits for the answer to a submit: the process must end within
/// five seconds.
const STOP_GRACE: Duration = Duration::from_millis(3500);

impl JobRun {
    /// Writes the job into the ledger, reserves its money and marks that its request leaves
    /// right after.
    pub(super) async fn release(&mut self, spec: JobSpec) -> Step<Payload> {
        // A control that came during the preparation is applied before anything is recorded
        // or sent.
        let control = *self.control.borrow();
        if let Some(end) = hold::unreleased(control) {
            return Err(end);
        }
        let paid = self.backend.is_paid();
        let wait = if paid { self.services.submit_limiter.reserve() } else { Duration::ZERO };
        let now = self.services.clock.now().moment;
        // Without a rate-limit delay, submit now; otherwise reserve first and check again
        // before submitting.
        let at_once = self.backend != BackendKind::Cloud
            && wait.is_zero()
            && self.services.health.at(self.backend).is_healthy(now, &self.config());
        let announce = if at_once { ReleaseMode::Submitting } else { ReleaseMode::PreparedOnly };
        let payload = self.record_job(spec, announce, None).await?;
        if at_once {
            return Ok(payload);
        }
        if let Some(control) = self.wait_or_control(wait, Control::Continue).await {
            self.apply(control).await?;
        }
        self.submit_when_allowed(payload).await
    }

    /// Waits until a prepared request may leave, and marks it as submitting. Its backend may have
    /// changed by then.
    pub(super) async fn submit_later(&mut self, payload: Payload) -> Step<Payload> {
        if self.backend.is_paid() {
            self.services.submit_limiter.wait().await;
        }
        self.submit_when_allowed(payload).await
    }

    async fn submit_when_allowed(&mut self, mut payload: Payload) -> Step<Payload> {
        loop {
            // Nothing was sent to a machine that is gone by now: there may be another one.
            if self.lease.as_ref().is_some_and(|lease| lease.ended_reason().is_some()) {
                self.lease = None;
            }
            if let Some(other) = self.wait_for_service().await? {
                payload = other;
            }
            self.apply_pending_control().await?;
            self.acquire_server().await?;
            self.hold_project_unsent().await?;
            match self.mark_submitting().await? {
                None => return Ok(payload),
                Some(other) => payload = other,
            }
        }
    }

    /// Writes the job into the ledger; nothing will be sent for it, because it shows the artifacts
    /// of `earlier`.
    pub(super) async fn release_free(&mut self, spec: JobSpec, earlier: JobId) -> Step<()> {
        // The job uses no backend, so no reason for one is recorded.
        let why = self.status.why.take();
        let entered =
            self.record_job(spec, ReleaseMode::PreparedOnly, Some(earlier)).await.map(drop);
        self.status.why = why;
        entered
    }

    async fn record_job(
        &mut self,
        spec: JobSpec,
        announce: ReleaseMode,
        cached_from: Option<JobId>,
    ) -> Step<Payload> {
        let JobSpec {
            request,
            cause,
            retry_of,
            stands_in_for,
            out,
            moves_baseline,
            may_be_cached: _,
        } = spec;
        self.hold_project(cause).await?;
        let config = self.config();
        let now = self.services.clock.now().wall;
        let job = NewJob {
            id: self.id,
            project: self.project,
            session: self.services.session,
            cause,
            inputs: request.inputs,
            prompt: request.prompt.clone(),
            workflow: request.built.workflow,
            workflow_version: request.built.version,
            body_digest: request.built.digest,
            body_bytes: request.built.bytes,
            seed: Some(request.seeds.image),
            mesh_seed: Some(request.seeds.mesh),
            summary: request.built.summary,
            mode: config.settings.mode.to_string(),
            backend: self.backend.name().to_owned(),
            deployment: self.deployment.clone(),
            retry_of,
            stands_in_for,
            cached_from,
            why: self.status.why.clone(),
            moves_baseline,
            out: out.map(|folder| folder.to_string_lossy().into_owned()),
            reserve: self.estimate.cost,
            terms: self.terms,
            at: now,
        };
        let (limits, windows) =
            (config.limits, crate::daemon::services::budget_windows::windows(now));
        // The inputs are on the disk before the row that refers to them.
        let (id, staged, history) =
            (self.id, request.staged, std::sync::Arc::clone(&self.services.history));
        let released = self
            .services
            .store
            .with(move |ledger| {
                let committed = staged.commit(id).and_then(|_| match announce {
                    // It leaves at once: its folder's name becomes durable after it is gone.
                    ReleaseMode::Submitting => Ok(()),
                    // After a power loss it may have to be built from these inputs.
                    ReleaseMode::PreparedOnly => history.sync(),
                });
                if let Err(error) = committed {
                    return Err(NotReleased::Disk(error.to_string()));
                }
                ledger.release(&job, &limits, &windows, announce).map_err(NotReleased::Ledger)
            })
            .await;
        match released {
            Ok(released) => self.warn_of_limits(&limits, &windows, &released).await,
            Err(refused) => {
                self.discard_inputs().await;
                return Err(refused.into_end());
            }
        }
        let inputs = moves_baseline.then_some(request.inputs);
        self.report(JobReport::Started { project: self.project, job: self.id, inputs }).await;
        tracing::info!(
            job = %self.id, cause = cause.name(), estimate = %self.estimate.cost,
            "released: \"{}\"", excerpt(&request.prompt)
        );
        if let Some(why) = &self.status.why {
            tracing::info!(
                job = %self.id, place = %self.backend,
                "this backend was chosen because {why}"
            );
        }
        Ok(request.built.payload)
    }

    /// Builds the body of a job that another session prepared, from the inputs in history.
    pub(super) async fn rebuild(&mut self, row: &JobRow) -> Step<Payload> {
        let config = self.config();
        let history = std::sync::Arc::clone(&self.services.history);
        let (row, backend) = (row.clone(), self.backend);
        let built = crate::daemon::services::store::blocking(move || {
            prepare::rebuild(&config, backend, &history, &row)
        })
        .await;
        match built {
            Ok(made) => Ok(made.payload),
            Err(fault) => {
                let reason = Reason::new("inputs", fault.to_string());
                Err(self.end_failed(reason, Booking::Nothing).await)
            }
        }
    }

    /// Sends the request. The ledger already says `submitting`.
    pub(super) async fn send(&mut self, payload: Payload) -> Step<RequestId> {
        let mut submission = Submission { key: RequestId::for_job(self.id), payload };
        let mut failures = 0;
        loop {
            self.set_state(JobState::Submitting, JobStage::Submitting).await;
            let config = self.config();
            let Some(answer) = self.submit(&submission).await? else {
                // The process ends now and the answer is not read: the next start sets the job
                // to `unknown`.
                tracing::warn!(job = %self.id, "stopped before the service answered the submit");
                return Err(JobEnd::Stopped);
            };
            failpoint::hit(Point::SubmitAnswer, Side::After);
            let heard = self.services.clock.now().moment;
            self.services.health.at(self.backend).record_submit(heard, &config, &answer);
            let now = self.services.clock.now().wall;
            let id = self.id;
            match answer {
                Ok(request) => {
                    // In the log too: if the ledger's disk fails now, the id of a paid run is
                    // not lost.
                    tracing::info!(
                        job = %id, %request, place = %self.backend,
                        "the service accepted the job"
                    );
                    self.accepted_request = Some(request.clone());
                    self.record_request(&request).await?;
                    self.sync_inputs().await;
                    self.set_state(JobState::Submitted, JobStage::Queued).await;
                    self.set_activity("in the service's queue".to_owned()).await;
                    return Ok(request);
                }
                Err(SubmitError::NotSent { reason, retry_after }) => {
                    failures += 1;
                    tracing::warn!(
                        job = %id, place = %self.backend, reason,
                        "the submit failed, nothing was charged"
                    );
                    let note = reason.clone();
                    let record =
                        move |ledger: &mut crate::ledger::Ledger| ledger.not_sent(id, &note, now);
                    self.record("the failed submit", record).await?;
                    self.sync_inputs().await;
                    submission.payload = self
                        .retry_unsent(submission.payload, failures, reason, retry_after)
                        .await?;
                }
                Err(SubmitError::Refused(fault)) => {
                    submission.payload = self.fail_over_after_refusal(&fault).await?;
                }
                Err(SubmitError::Unknown { reason }) if self.backend.is_repeatable() => {
                    failures += 1;
                    submission.payload =
                        self.retry_lost_answer(submission.payload, failures, reason).await?;
                }
                Err(SubmitError::Unknown { reason }) => return Err(self.end_lost(&reason).await),
            }
        }
    }

    /// Records the id of an accepted request.
    pub(super) async fn record_request(&self, request: &RequestId) -> Step<()> {
        let (id, own, now) = (self.id, request.clone(), self.services.clock.now().wall);
        let record = move |ledger: &mut crate::ledger::Ledger| ledger.submitted(id, &own, now);
        self.record("the request's id", record).await
    }

    /// Sends once and waits for the answer; `None` if the daemon stops and the answer does not
    /// arrive in time.
    async fn submit(
        &mut self,
        submission: &Submission,
    ) -> Step<Option<Result<RequestId, SubmitError>>> {
        let rented = match self.leased_backend().await {
            Some(rented) => Some(rented?),
            None => None,
        };
        let ready = match self.config().at(self.backend) {
            _ if rented.is_some() => rented.ok_or_else(String::new),
            Ok(configured) => {
                configured.backend_of(self.deployment.as_deref()).map_err(|none| none.to_string())
            }
            Err(unavailable) => Err(unavailable.reason.clone()),
        };
        let backend = match ready {
            Ok(backend) => backend,
            // It was there when the submit was recorded: a reload came in between.
            Err(reason) => {
                return Ok(Some(Err(SubmitError::NotSent { reason, retry_after: None })));
            }
        };
        let answer = backend.submit(submission);
        let mut control = self.control.clone();
        let stopping = async {
            while *control.borrow_and_update() != Control::Stop
                && control_changed(&mut control).await != Control::Stop
            {}
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            biased;
            answer = answer => Ok(Some(answer)),
            () = stopping => Ok(None),
        }
    }

    pub(super) async fn end_refused(&mut self, fault: &ServiceFault) -> JobEnd {
        let reason = reason_of(fault);
        self.report_refusal(fault, &reason).await;
        self.end_failed(reason, Booking::Nothing).await
    }

    /// Ends a job whose answer is lost: it is not known whether a paid run exists.
    async fn end_lost(&mut self, why: &str) -> JobEnd {
        let (id, now) = (self.id, self.services.clock.now().wall);
        let text = format!(
            "{why}; it may have been charged, so it is not sent again automatically: check the \
             deployment's requests, then `conjured jobs retry {id}` sends it again, at its own cost"
        );
        tracing::error!(job = %id, "{text}");
        let reason = Reason::new("lost_answer", text.clone());
        let record = move |ledger: &mut crate::ledger::Ledger| ledger.unknown(id, &reason, now);
        if let Err(end) = self.record("the lost answer", record).await {
            return end;
        }
        self.report(JobReport::Warning(format!("job {id}: {text}"))).await;
        JobEnd::Ended { state: JobState::Unknown, placed: false }
    }

    /// Ends the job as failed.
    pub(super) async fn end_failed(&mut self, reason: Reason, booking: Booking) -> JobEnd {
        let (id, now) = (self.id, self.services.clock.now().wall);
        tracing::error!(job = %id, code = reason.code, "failed: {}", reason.text);
        let record =
            move |ledger: &mut crate::ledger::Ledger| ledger.failed(id, &reason, booking, now);
        match self.record("the job's failure", record).await {
            Ok(()) => JobEnd::Ended { state: JobState::Failed, placed: false },
            Err(end) => end,
        }
    }

    /// Makes the name of the job's folder durable, now that nothing waits for it: without this a
    /// power loss could remove the folder with everything that is fetched into it.
    async fn sync_inputs(&self) {
        let (history, id) = (std::sync::Arc::clone(&self.services.history), self.id);
        crate::daemon::services::store::blocking(move || {
            if let Err(error) = history.sync() {
                tracing::warn!(
                    job = %id, %error,
                    "could not sync the job's folder; it may not survive a power failure"
                );
            }
        })
        .await;
    }

    /// Removes the inputs of a job that was not released.
    async fn discard_inputs(&self) {
        let (history, id) = (std::sync::Arc::clone(&self.services.history), self.id);
        crate::daemon::services::store::blocking(move || {
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
                Some(crate::daemon::jobs::setup::START_RETRY),
            ),
            Self::Ledger(ReleaseError::Budget(refusal)) => {
                // A session's budget changes only by a reload; a day's becomes free again
                // with time.
                (
                    CommandErrorKind::TryAgain,
                    refusal.to_string(),
                    Some(crate::daemon::jobs::setup::BUDGET_RETRY),
                )
            }
            Self::Ledger(ReleaseError::Ledger(error)) => (
                CommandErrorKind::TryAgain,
                format!("nothing was sent: {error}"),
                Some(crate::daemon::jobs::setup::START_RETRY),
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
