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

use super::{NewWork, Road, Step, hold, reason_of, wished};
use crate::{
    backend::{Payload, ServiceFault, Submission, SubmitError},
    daemon::{
        inputs::prepare,
        services::{
            command::RefusedKind,
            messages::{JobEnd, Report, Wish},
        },
    },
    domain::{
        engine::event::JobStage,
        job::{JobState, RequestId, choose_backend::BackendKind},
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

impl Road {
    /// Writes the job into the ledger, reserves its money and marks that its request leaves
    /// right after.
    pub(super) async fn release(&mut self, work: NewWork) -> Step<Payload> {
        // A control that came during the preparation is applied before anything is recorded
        // or sent.
        let wish = *self.wish.borrow();
        if let Some(end) = hold::unreleased(wish) {
            return Err(end);
        }
        let paid = self.place.is_paid();
        let wait = if paid { self.tools.submit_limiter.reserve() } else { Duration::ZERO };
        let now = self.tools.clock.now().moment;
        // Without a rate-limit delay, submit now; otherwise reserve first and check again
        // before submitting.
        let at_once = self.place != BackendKind::Cloud
            && wait.is_zero()
            && self.tools.health.at(self.place).is_healthy(now, &self.live());
        let announce = if at_once { ReleaseMode::Submitting } else { ReleaseMode::PreparedOnly };
        let payload = self.enter(work, announce).await?;
        if at_once {
            return Ok(payload);
        }
        if let Some(wish) = self.pause(wait, Wish::Go).await {
            self.grant(wish).await?;
        }
        self.leave(payload).await
    }

    /// Waits until a prepared request may leave, and marks it as submitting. Its backend may have
    /// changed by then.
    pub(super) async fn leave_later(&mut self, payload: Payload) -> Step<Payload> {
        if self.place.is_paid() {
            self.tools.submit_limiter.wait().await;
        }
        self.leave(payload).await
    }

    async fn leave(&mut self, mut payload: Payload) -> Step<Payload> {
        loop {
            // Nothing was sent to a machine that is gone by now: there may be another one.
            if self.lease.as_ref().is_some_and(|lease| lease.over().is_some()) {
                self.lease = None;
            }
            if let Some(other) = self.await_service().await? {
                payload = other;
            }
            self.grant_unsent().await?;
            self.rent().await?;
            self.hold_project_unsent().await?;
            match self.announce().await? {
                None => return Ok(payload),
                Some(other) => payload = other,
            }
        }
    }

    /// Writes the job into the ledger; nothing will be sent for it.
    pub(super) async fn release_free(&mut self, work: NewWork) -> Step<()> {
        // The job has no backend: the event with a backend in a job's history is how the next
        // session distinguishes them.
        let why = self.shown.why.take();
        let entered = self.enter(work, ReleaseMode::PreparedOnly).await.map(drop);
        self.shown.why = why;
        entered
    }

    async fn enter(&mut self, work: NewWork, announce: ReleaseMode) -> Step<Payload> {
        let NewWork {
            ready,
            cause,
            retry_of,
            stands_in_for,
            out,
            moves_baseline,
            may_be_cached: _,
        } = work;
        self.hold_project(cause).await?;
        let config = self.live();
        let now = self.tools.clock.now().wall;
        let job = NewJob {
            id: self.id,
            project: self.project,
            session: self.tools.session,
            cause,
            inputs: ready.inputs,
            prompt: ready.prompt.clone(),
            workflow: ready.made.workflow,
            workflow_version: ready.made.version,
            body_digest: ready.made.digest,
            body_bytes: ready.made.bytes,
            seed: Some(ready.seeds.image),
            mesh_seed: Some(ready.seeds.mesh),
            summary: ready.made.summary,
            mode: config.settings.mode.to_string(),
            backend: self.place.name().to_owned(),
            deployment: self.deployment.clone(),
            retry_of,
            stands_in_for,
            why: self.shown.why.clone(),
            moves_baseline,
            out: out.map(|folder| folder.to_string_lossy().into_owned()),
            reserve: self.estimate.cost,
            terms: self.terms.unwrap_or_default(),
            at: now,
        };
        let (limits, windows) =
            (config.limits, crate::daemon::services::budget_windows::windows(now));
        // The inputs are on the disk before the row that refers to them.
        let (id, staged, history) =
            (self.id, ready.staged, std::sync::Arc::clone(&self.tools.history));
        let released = self
            .tools
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
            Ok(released) => self.tell_of_limits(&limits, &windows, &released).await,
            Err(refused) => {
                self.discard_inputs().await;
                return Err(refused.into_end());
            }
        }
        let inputs = moves_baseline.then_some(ready.inputs);
        self.report(Report::Started { project: self.project, job: self.id, inputs }).await;
        tracing::info!(
            job = %self.id, cause = cause.name(), estimate = %self.estimate.cost,
            "released: \"{}\"", excerpt(&ready.prompt)
        );
        if let Some(why) = &self.shown.why {
            tracing::info!(job = %self.id, place = %self.place, "made there: {why}");
        }
        Ok(ready.made.work)
    }

    /// Builds the body of a job that another session prepared, from the inputs in history.
    pub(super) async fn rebuild(&mut self, row: &JobRow) -> Step<Payload> {
        let config = self.live();
        let history = std::sync::Arc::clone(&self.tools.history);
        let (row, backend) = (row.clone(), self.place);
        let built = crate::daemon::services::store::blocking(move || {
            prepare::rebuild(&config, backend, &history, &row)
        })
        .await;
        match built {
            Ok(made) => Ok(made.work),
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
            self.moved(JobState::Submitting, JobStage::Submitting).await;
            let config = self.live();
            let Some(answer) = self.submit(&submission).await? else {
                // The process ends now and the answer is not read: the next start sets the job
                // to `unknown`.
                tracing::warn!(job = %self.id, "stopped before the service answered the submit");
                return Err(JobEnd::Stopped);
            };
            failpoint::hit(Point::SubmitAnswer, Side::After);
            let heard = self.tools.clock.now().moment;
            self.tools.health.at(self.place).record_submit(heard, &config, &answer);
            let now = self.tools.clock.now().wall;
            let id = self.id;
            match answer {
                Ok(request) => {
                    // In the log too: if the ledger's disk fails now, the id of a paid run is
                    // not lost.
                    tracing::info!(job = %id, %request, place = %self.place, "the job was taken");
                    self.taken = Some(request.clone());
                    self.record_request(&request).await?;
                    self.settle_inputs().await;
                    self.moved(JobState::Submitted, JobStage::Queued).await;
                    self.say("in the service's queue".to_owned()).await;
                    return Ok(request);
                }
                Err(SubmitError::NotSent { reason, retry_after }) => {
                    failures += 1;
                    tracing::warn!(job = %id, place = %self.place, reason, "the request did not arrive");
                    let note = reason.clone();
                    let record =
                        move |ledger: &mut crate::ledger::Ledger| ledger.not_sent(id, &note, now);
                    self.record("that nothing was sent", record).await?;
                    self.settle_inputs().await;
                    submission.payload =
                        self.not_sent(submission.payload, failures, reason, retry_after).await?;
                }
                Err(SubmitError::Refused(fault)) => {
                    submission.payload = self.refused_there(&fault).await?;
                }
                Err(SubmitError::Unknown { reason }) if self.place.is_repeatable() => {
                    failures += 1;
                    submission.payload =
                        self.lost_there(submission.payload, failures, reason).await?;
                }
                Err(SubmitError::Unknown { reason }) => return Err(self.lost(&reason).await),
            }
        }
    }

    /// Records the id of an accepted request.
    pub(super) async fn record_request(&self, request: &RequestId) -> Step<()> {
        let (id, own, now) = (self.id, request.clone(), self.tools.clock.now().wall);
        let record = move |ledger: &mut crate::ledger::Ledger| ledger.submitted(id, &own, now);
        self.record("the request's id", record).await
    }

    /// Sends once and waits for the answer; `None` if the daemon stops and the answer does not
    /// arrive in time.
    async fn submit(
        &mut self,
        submission: &Submission,
    ) -> Step<Option<Result<RequestId, SubmitError>>> {
        let rented = match self.rented().await {
            Some(rented) => Some(rented?),
            None => None,
        };
        let ready = match self.live().at(self.place) {
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
        let mut wish = self.wish.clone();
        let stopping = async {
            while *wish.borrow_and_update() != Wish::Stop && wished(&mut wish).await != Wish::Stop {
            }
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            biased;
            answer = answer => Ok(Some(answer)),
            () = stopping => Ok(None),
        }
    }

    pub(super) async fn refused(&mut self, fault: &ServiceFault) -> JobEnd {
        let reason = reason_of(fault);
        self.tell_of_refusal(fault, &reason).await;
        self.end_failed(reason, Booking::Nothing).await
    }

    /// Ends a job whose answer is lost: it is not known whether a paid run exists.
    async fn lost(&mut self, why: &str) -> JobEnd {
        let (id, now) = (self.id, self.tools.clock.now().wall);
        let text = format!(
            "{why}; it may have been charged, so it is not sent again by itself: look at the deployment's requests, then \
             `conjured jobs retry {id}` sends it again, at its own price"
        );
        tracing::error!(job = %id, "{text}");
        let reason = Reason::new("lost_answer", text.clone());
        let record = move |ledger: &mut crate::ledger::Ledger| ledger.unknown(id, &reason, now);
        if let Err(end) = self.record("that the answer is lost", record).await {
            return end;
        }
        self.report(Report::Warning(format!("job {id}: {text}"))).await;
        JobEnd::Ended { state: JobState::Unknown, placed: false }
    }

    /// Ends the job as failed.
    pub(super) async fn end_failed(&mut self, reason: Reason, booking: Booking) -> JobEnd {
        let (id, now) = (self.id, self.tools.clock.now().wall);
        tracing::error!(job = %id, code = reason.code, "failed: {}", reason.text);
        let record =
            move |ledger: &mut crate::ledger::Ledger| ledger.failed(id, &reason, booking, now);
        match self.record("that the job failed", record).await {
            Ok(()) => JobEnd::Ended { state: JobState::Failed, placed: false },
            Err(end) => end,
        }
    }

    /// Makes the name of the job's folder durable, now that nothing waits for it: without this a
    /// power loss could remove the folder with everything that is fetched into it.
    async fn settle_inputs(&self) {
        let (history, id) = (std::sync::Arc::clone(&self.tools.history), self.id);
        crate::daemon::services::store::blocking(move || {
            if let Err(error) = history.sync() {
                tracing::warn!(job = %id, %error, "the job's folder may not survive a loss of power");
            }
        })
        .await;
    }

    /// Removes the inputs of a job that was not released.
    async fn discard_inputs(&self) {
        let (history, id) = (std::sync::Arc::clone(&self.tools.history), self.id);
        crate::daemon::services::store::blocking(move || {
            if let Err(error) = history.remove(id) {
                tracing::warn!(%error, "the inputs of a job that never came to be stay in history");
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
                RefusedKind::TryAgain,
                format!("the inputs cannot be kept in history, nothing was sent: {reason}"),
                Some(crate::daemon::jobs::setup::AGAIN),
            ),
            Self::Ledger(ReleaseError::Budget(refusal)) => {
                // A session's budget changes only by a reload; a day's becomes free again
                // with time.
                (
                    RefusedKind::TryAgain,
                    refusal.to_string(),
                    Some(crate::daemon::jobs::setup::NO_ROOM),
                )
            }
            Self::Ledger(ReleaseError::Ledger(error)) => (
                RefusedKind::TryAgain,
                format!("nothing was sent: {error}"),
                Some(crate::daemon::jobs::setup::AGAIN),
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
