//! Failover after a failed attempt: retry here, switch backend, or fail the job.
//!
//! Owns what follows a failed attempt. [`crate::domain::job::choose_backend`] decides which backend
//! may be next; the commit in between belongs to [`crate::ledger`], which also guarantees that a
//! paid attempt is never followed by a second paid one. Everything here ends with a request that is
//! marked as submitting, or with the end of the job.

use std::time::Duration;

use super::{JobRun, Step, interrupted, reason_of};
use crate::{
    backend::{FaultKind, Payload, ServiceFault},
    daemon::{
        inputs::prepare,
        jobs::{early_work, routing},
        services::{messages::JobReport, runtime_config::RuntimeConfig, store::blocking},
    },
    domain::{
        engine::event::JobStage,
        job::{
            Cause, JobId, JobState,
            attempt::AttemptEnd,
            choose_backend::{AttemptOutcome, BackendKind, PastAttempt, Route},
        },
        money::job_cost::PriceTerms,
    },
    ledger::{
        error::LedgerError,
        rows::{AttemptRow, BackendSwitch, Booking, JobDetails, Reason},
    },
};

/// How many tries a job gets that a person asked for.
const MAX_PERSON_TRIES: u32 = 4;

/// How often a free backend is asked for a request whose answer was lost.
const MAX_LOST_TRIES: u32 = 5;

/// The number of attempts that are remembered; a backend that is unreachable for days causes more.
const MAX_ATTEMPTS: usize = 40;

/// Returns the attempts of earlier sessions that restrict where the job may go.
pub(crate) fn past_attempts(details: &JobDetails, config: &RuntimeConfig) -> Vec<PastAttempt> {
    let past = |attempt: &AttemptRow| {
        let outcome = attempt.outcome.and_then(AttemptEnd::restricts)?;
        Some(PastAttempt {
            backend: BackendKind::from_name(&attempt.backend)?,
            workflow: attempt.workflow_version,
            outcome,
            reason: attempt
                .reason
                .clone()
                .unwrap_or_else(|| "an earlier attempt failed".to_owned()),
        })
    };
    let lost = details.job.stands_in_for.map(|lost| lost_answer(config, lost));
    details.attempts.iter().filter_map(past).chain(lost).collect()
}

/// Returns the attempt of the job whose lost answer another job stands in for. Only RunComfy's
/// queue loses an answer that may have been charged: every other backend can be asked for the
/// request again.
pub(crate) fn lost_answer(config: &RuntimeConfig, lost: JobId) -> PastAttempt {
    let backend = BackendKind::Serverless;
    PastAttempt {
        backend,
        workflow: config.workflows.at(backend).version(),
        outcome: AttemptOutcome::Unknown,
        reason: format!("the answer for job {lost} was lost"),
    }
}

impl JobRun {
    /// Continues after a request that certainly did not arrive: on another backend at once, or here
    /// after a wait.
    pub(super) async fn retry_unsent(
        &mut self,
        payload: Payload,
        failures: u32,
        reason: String,
        retry_after: Option<Duration>,
    ) -> Step<Payload> {
        self.set_state(JobState::Prepared, JobStage::Waiting).await;
        self.set_activity(format!("not sent yet, nothing was charged: {reason}")).await;
        self.record_attempt(AttemptOutcome::NotSent, reason.clone());
        let fresh =
            |run: &Self, backend| !run.attempts.iter().any(|tried| tried.backend == backend);
        if let Route::Use { backend, why } = self.choose_backend().await
            && fresh(self, backend)
        {
            let other = self
                .switch_backend(Route::Use { backend, why }, AttemptEnd::NotSent, Booking::Nothing)
                .await?;
            return self.submit_later(other).await;
        }
        // A person is waiting for the result, and gets an error instead of more waiting. The
        // daemon's own jobs keep trying.
        if self.status.cause == Cause::Person && failures >= MAX_PERSON_TRIES {
            let text = format!("the service cannot be reached, nothing was charged: {reason}");
            return Err(self.end_failed(Reason::new("not_sent", text), Booking::Nothing).await);
        }
        self.wait_before_resend(failures, retry_after).await?;
        match self.choose_backend().await {
            Route::Use { backend, why } if backend != self.backend => {
                let route = Route::Use { backend, why };
                let other =
                    self.switch_backend(route, AttemptEnd::NotSent, Booking::Nothing).await?;
                self.submit_later(other).await
            }
            Route::Use { .. } | Route::Wait { .. } | Route::Unroutable { .. } => {
                self.submit_later(payload).await
            }
        }
    }

    /// Continues after a refusal: on another backend, or not at all.
    pub(super) async fn fail_over_after_refusal(&mut self, fault: &ServiceFault) -> Step<Payload> {
        let reason = reason_of(fault);
        let outcome = match fault.kind {
            FaultKind::Workflow => AttemptOutcome::Workflow,
            FaultKind::Account | FaultKind::Token | FaultKind::Service | FaultKind::Gone => {
                AttemptOutcome::Refused
            }
        };
        self.record_attempt(outcome, reason.text.clone());
        match self.choose_backend().await {
            route @ (Route::Use { .. } | Route::Wait { .. }) => {
                self.report_refusal(fault, &reason).await;
                let other =
                    self.switch_backend(route, AttemptEnd::Refused, Booking::Nothing).await?;
                self.submit_later(other).await
            }
            Route::Unroutable { .. } => Err(self.end_refused(fault).await),
        }
    }

    /// Continues after a lost answer on a backend that can be asked for the request: asks there
    /// again, and finally fails over.
    pub(super) async fn retry_lost_answer(
        &mut self,
        payload: Payload,
        failures: u32,
        reason: String,
    ) -> Step<Payload> {
        let (id, now) = (self.id, self.services.clock.now().wall);
        tracing::warn!(
            job = %id, place = %self.backend, reason,
            "the answer was lost; checking whether the backend has the request"
        );
        let note =
            format!("the answer was lost; checking whether the backend has the request: {reason}");
        let record =
            move |ledger: &mut crate::ledger::Ledger| ledger.retry_same_backend(id, &note, now);
        self.record("the lost answer", record).await?;
        self.set_state(JobState::Prepared, JobStage::Waiting).await;
        if failures < MAX_LOST_TRIES {
            self.set_activity(format!(
                "the answer was lost; checking whether the backend has the request: {reason}"
            ))
            .await;
            self.wait_before_resend(failures, None).await?;
            return self.submit_later(payload).await;
        }
        self.record_attempt(AttemptOutcome::Unknown, reason.clone());
        match self.choose_backend().await {
            route @ (Route::Use { .. } | Route::Wait { .. }) => {
                let other =
                    self.switch_backend(route, AttemptEnd::AnswerLost, Booking::Nothing).await?;
                self.submit_later(other).await
            }
            Route::Unroutable { .. } => {
                let text = format!("{} never confirmed the request: {reason}", self.backend);
                Err(self.end_failed(Reason::new("lost_answer", text), Booking::Nothing).await)
            }
        }
    }

    /// Continues after an accepted request that failed: returns the work for another backend, or
    /// `None` if no backend may run it.
    pub(super) async fn attempt_failed(
        &mut self,
        outcome: AttemptOutcome,
        reason: &Reason,
        booking: Booking,
    ) -> Step<Option<Payload>> {
        tracing::warn!(
            job = %self.id, place = %self.backend,
            "the attempt failed: {}", reason.text
        );
        self.record_attempt(outcome, reason.text.clone());
        match self.choose_backend().await {
            route @ (Route::Use { .. } | Route::Wait { .. }) => {
                self.switch_backend(route, outcome.into(), booking).await.map(Some)
            }
            Route::Unroutable { .. } => Ok(None),
        }
    }

    /// Reports a fault that a person has to fix.
    pub(super) async fn report_refusal(&self, fault: &ServiceFault, reason: &Reason) {
        if fault.kind == FaultKind::Token {
            self.report(JobReport::TokenRefused).await;
        }
        if matches!(fault.kind, FaultKind::Account | FaultKind::Token) {
            self.report(JobReport::Warning(reason.text.clone())).await;
        }
    }

    /// Chooses the job's backend from the current state.
    pub(super) async fn choose_backend(&self) -> Route {
        let person = self.status.cause == Cause::Person;
        routing::choose_backend(&self.services, &self.config(), &self.attempts, person).await
    }

    pub(super) fn record_attempt(&mut self, outcome: AttemptOutcome, reason: String) {
        if self.attempts.len() >= MAX_ATTEMPTS {
            let oldest =
                self.attempts.iter().position(|tried| tried.outcome == AttemptOutcome::NotSent);
            oldest.map(|at| self.attempts.remove(at));
        }
        let (backend, workflow) =
            (self.backend, self.config().workflows.at(self.backend).version());
        self.attempts.push(PastAttempt { backend, workflow, outcome, reason });
    }

    /// Switches the job to the route's backend: records it, and replaces everything that depends on
    /// the backend.
    pub(super) async fn switch_backend(
        &mut self,
        route: Route,
        outcome: AttemptEnd,
        booking: Booking,
    ) -> Step<Payload> {
        let (backend, why) = match route {
            Route::Use { backend, why } => (backend, why),
            Route::Wait { backend, reason, .. } => (backend, reason),
            Route::Unroutable { reason } => return Err(self.fail("nowhere", &reason).await),
        };
        // If the same backend is used again, its last problem is the reason.
        let last = self.attempts.last().map(|tried| format!("{}: {}", tried.backend, tried.reason));
        let why = if why.is_empty() { last.unwrap_or_default() } else { why };
        let reason = self.attempts.last().map(|past| past.reason.clone()).unwrap_or_default();
        let (config, history, id) = (self.config(), self.services.history.clone(), self.id);
        let row = self.services.store.with(move |ledger| ledger.job(id)).await;
        let built = match row {
            Ok(row) => {
                let own = std::sync::Arc::clone(&config);
                blocking(move || prepare::rebuild(&own, backend, &history, &row)).await
            }
            Err(error) => return Err(interrupted("reading the job", &error)),
        };
        let built = match built {
            Ok(built) => built,
            Err(fault) => {
                return Err(self
                    .end_failed(Reason::new("inputs", fault.to_string()), booking)
                    .await);
            }
        };
        let deployment = early_work::deployment_of(&config, backend);
        let to = BackendSwitch {
            job: id,
            backend: backend.name().to_owned(),
            deployment: deployment.clone(),
            workflow: built.workflow,
            workflow_version: built.version,
            body_digest: built.digest,
            body_bytes: built.bytes,
            summary: built.summary,
            booking,
            outcome,
            reason,
            why: why.clone(),
            at: self.services.clock.now().wall,
        };
        let record = move |ledger: &mut crate::ledger::Ledger| ledger.switch_backend(&to);
        // The next attempt must not take files that a failed run left.
        let history = self.services.history.clone();
        let cleared = blocking(move || history.past(id).clear_artifacts()).await;
        if let Err(error) = cleared {
            tracing::warn!(
                job = %id, %error,
                "could not remove the files of an earlier attempt from the history"
            );
        }
        match self.services.store.record("the switch to another backend", record).await {
            Ok(()) => {}
            Err(LedgerError::ChargedBefore { .. }) => {
                let text = format!(
                    "{why}; {backend} is paid and is not used after an attempt that may have been \
                     charged"
                );
                return Err(self.end_failed(Reason::new("nowhere", text), booking).await);
            }
            Err(error) => return Err(interrupted("the switch to another backend", &error)),
        }
        tracing::warn!(
            job = %id, from = %self.backend, to = %backend,
            "trying the next backend: {why}"
        );
        self.backend = backend;
        self.deployment = deployment;
        (self.learned, self.estimate) =
            early_work::expectation(&self.services, &config, backend).await;
        self.terms = PriceTerms::of(&self.estimate);
        backend.name().clone_into(&mut self.status.backend);
        early_work::describe(&mut self.status, &self.learned, &self.estimate);
        self.status.why = Some(why);
        self.status.request = None;
        self.status.queue_position = None;
        self.status.progress = None;
        self.set_state(JobState::Prepared, JobStage::Waiting).await;
        self.set_activity(format!("trying {backend}")).await;
        Ok(built.payload)
    }
}
