//! From permission to the backend's id: marks that the request may leave, sends it once, records
//! the answer.
//!
//! Owns how these steps are performed. The project's lock, the rate limit and the budget are asked
//! before the mark, the budget inside its commit, and so is `max_in_flight`; each of them may refuse,
//! and then nothing leaves.

use std::{sync::Arc, time::Duration};

use crate::{
    backend::{FaultKind, Submission, SubmitError},
    daemon::{
        jobs::{
            driver::{JobRun, Refused},
            early_work,
        },
        services::{
            budget_windows,
            messages::{Control, JobReport},
            root_locks::LockStatus,
            store::blocking,
        },
    },
    domain::{
        engine::event::JobStage,
        job::{
            Cause, JobState, RequestId,
            backoff::Backoff,
            flow::{
                request_seen::RequestSeen,
                world::{PayloadSeen, SubmitSeen, WaitFor},
            },
        },
        money::{
            budget::{BudgetLimits, BudgetWindows},
            job_cost::PriceTerms,
        },
        time::WallTime,
    },
    failpoint::{self, Point, Side},
    ledger::{
        Ledger,
        error::{LedgerError, ReleaseError},
        rows::{BudgetChange, DelayedSubmit},
    },
};

/// The first and the longest wait before a request that did not arrive is sent again.
pub(in crate::daemon::jobs) const RESEND_BACKOFF: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(60));

/// How soon a job looks again whether another one has made room.
const SLOT_RECHECK: Duration = Duration::from_secs(1);

/// How long a stopping daemon waits for the answer to a submit: the process must end within
/// five seconds.
const STOP_GRACE: Duration = Duration::from_millis(3500);

/// What became of a request for permission.
pub(in crate::daemon::jobs) enum Held {
    /// The project is ours.
    Ours,
    /// The change belongs to another process.
    Left,
    /// Nothing may be released for the project now: why, for people.
    Withheld(String),
    /// The control changed first.
    Interrupted,
}

impl JobRun {
    /// Records that the request may leave now, on the terms of now. If that cannot be recorded,
    /// nothing leaves.
    pub(in crate::daemon::jobs) async fn mark_submitting(&mut self) -> Result<(), Refused> {
        if self.waits_for_slot().await || self.waits_for_turn() {
            return Ok(());
        }
        match self.hold_project().await {
            Held::Ours => {}
            Held::Interrupted => return Ok(()),
            Held::Left => {
                self.seen.left_to_other = true;
                return Ok(());
            }
            Held::Withheld(reason) => {
                self.set_state(JobState::Prepared, JobStage::Waiting).await;
                self.set_activity(format!("not sent, nothing was charged: {reason}")).await;
                self.slot = None;
                self.retry_later(WaitFor::Lock);
                return Ok(());
            }
        }
        let leaving = self.delayed_submit().await;
        let (limits, windows) = (self.config().limits, budget_windows::windows(leaving.at));
        let store = &self.task.services.store;
        let marked = store.with(move |ledger| ledger.submitting(&leaving, &limits, &windows)).await;
        self.seen.over_budget.retain(|backend| *backend != self.record.backend);
        let (problem, what) = match marked {
            Ok(change) => {
                self.has_turn = false;
                self.refusals = 0;
                self.seen.retry = None;
                self.warn_of_limits(&limits, &windows, &change).await;
                self.seen.marked = true;
                self.seen.submit = None;
                return self.reload_surely().await;
            }
            Err(ReleaseError::Budget(refusal)) => {
                self.seen.over_budget.push(self.record.backend);
                self.details.budget = refusal.to_string();
                (refusal.to_string(), WaitFor::Budget)
            }
            Err(ReleaseError::Ledger(LedgerError::Store(error))) => {
                (format!("nothing was sent: {error}"), WaitFor::Ledger)
            }
            // The row names a paid backend, and an earlier request of the same work may have been
            // charged: this job ends, unpaid.
            Err(ReleaseError::Ledger(error @ LedgerError::ChargedBefore { .. })) => {
                self.details.note(error.to_string());
                self.seen.charged_before = true;
                return Ok(());
            }
            Err(ReleaseError::Ledger(error)) => return Err(Refused::new("the submit", &error)),
        };
        self.set_activity(problem).await;
        self.slot = None;
        self.retry_later(what);
        Ok(())
    }

    /// Takes a place among the jobs at the services. Returns whether one is to be waited for.
    pub(in crate::daemon::jobs) async fn waits_for_slot(&mut self) -> bool {
        if self.takes_slot() {
            return false;
        }
        let doing = "waiting for another project's job (`max_in_flight`)";
        self.set_activity(doing.to_owned()).await;
        self.seen.retry = Some((self.now().moment.plus(SLOT_RECHECK), WaitFor::Turn));
        true
    }

    /// Takes a place among the jobs at the services, if one is free.
    pub(in crate::daemon::jobs) fn takes_slot(&mut self) -> bool {
        if self.slot.is_none() {
            let most = self.config().settings.max_in_flight;
            self.slot = self.task.services.in_flight.take(most);
        }
        self.slot.is_some()
    }

    /// Takes a slot under the rate limit. Returns whether it is to be waited for.
    pub(in crate::daemon::jobs) fn waits_for_turn(&mut self) -> bool {
        if self.has_turn || !self.record.backend.is_paid() {
            return false;
        }
        self.has_turn = true;
        let wait = self.task.services.submit_limiter.reserve();
        if wait.is_zero() {
            return false;
        }
        self.seen.retry = Some((self.now().moment.plus(wait), WaitFor::Turn));
        true
    }

    /// Checks that the project is still locked by this daemon.
    pub(in crate::daemon::jobs) async fn hold_project(&mut self) -> Held {
        let (services, project) = (Arc::clone(&self.task.services), self.task.project);
        let mut control = self.task.control.clone();
        let lock_status = tokio::select! {
            lock_status = services.root_locks.check(project) => lock_status,
            _ = control.changed() => return Held::Interrupted,
        };
        let held = match &lock_status {
            LockStatus::Ours { regained } if self.belongs_to_other(*regained) => Held::Left,
            LockStatus::Ours { .. } => return Held::Ours,
            LockStatus::Withheld(reason) => Held::Withheld(reason.clone()),
        };
        self.report(JobReport::LockStatus { project, lock_status }).await;
        held
    }

    /// Returns whether the job was requested while another process had the project. A person's
    /// command to this daemon is never left to another one.
    fn belongs_to_other(&self, regained: Option<WallTime>) -> bool {
        let since = self.task.status.since;
        self.record.cause != Cause::Person && regained.is_some_and(|regained| since <= regained)
    }

    /// Returns what the job is expected to cost now: the machine may sleep by now, and its rate may
    /// differ. A job for a deployment that is no longer configured keeps its reservation: nothing
    /// is known about that machine any more.
    async fn delayed_submit(&mut self) -> DelayedSubmit {
        let (config, backend) = (self.config(), self.record.backend);
        if self.deployment == early_work::deployment_of(&config, backend) {
            (self.learned, self.estimate) =
                early_work::expectation(&self.task.services, &config, backend).await;
            early_work::describe(&mut self.task.status, &self.learned, &self.estimate);
        }
        DelayedSubmit {
            job: self.task.id,
            session: self.task.services.session,
            reserve: self.estimate.cost,
            terms: Some(PriceTerms::of(&self.estimate)),
            at: self.now().wall,
        }
    }

    /// Warns once about each limit that is nearly reached.
    pub(in crate::daemon::jobs) async fn warn_of_limits(
        &self,
        limits: &BudgetLimits,
        windows: &BudgetWindows,
        change: &BudgetChange,
    ) {
        let news = {
            let warned = self.task.services.warned.lock();
            let mut warned = warned.unwrap_or_else(std::sync::PoisonError::into_inner);
            warned.new_warnings(limits, windows, &change.before, &change.spent)
        };
        for warning in news {
            tracing::warn!(job = %self.task.id, "{warning}");
            self.report(JobReport::Warning(warning.to_string())).await;
        }
    }

    /// Sends the request, once. The ledger already says `submitting`.
    pub(in crate::daemon::jobs) async fn submit(&mut self) {
        self.set_state(JobState::Submitting, JobStage::Submitting).await;
        self.seen.marked = false;
        let (id, backend) = (self.task.id, self.record.backend);
        let answer = match (self.client(), self.payload.clone()) {
            (Ok(client), Some(payload)) => {
                let submission = Submission { key: RequestId::for_job(id), payload };
                let mut control = self.task.control.clone();
                let stopping = async {
                    while *control.borrow_and_update() != Control::Stop
                        && control.changed().await.is_ok()
                    {}
                    tokio::time::sleep(STOP_GRACE).await;
                };
                tokio::select! {
                    biased;
                    answer = client.submit(&submission) => answer,
                    () = stopping => {
                        self.seen.submit = Some(SubmitSeen::CutOff);
                        return;
                    }
                }
            }
            // It was there when the submit was recorded: a reload came in between.
            (Err(reason), _) => Err(SubmitError::NotSent { reason, retry_after: None }),
            (Ok(_), None) => {
                let reason = "the request has to be built again".to_owned();
                Err(SubmitError::NotSent { reason, retry_after: None })
            }
        };
        failpoint::hit(Point::SubmitAnswer, Side::After);
        let now = self.now().moment;
        self.task.services.health.at(backend).record_submit(now, &self.config(), &answer);
        self.seen.submit = Some(match answer {
            Ok(request) => {
                // In the log too: if the ledger's disk fails now, the id of a paid run is not lost.
                tracing::info!(
                    job = %id, %request, place = %backend, "the service accepted the job"
                );
                self.seen.request = Some(RequestSeen::accepted(now));
                SubmitSeen::Accepted(request)
            }
            Err(SubmitError::NotSent { reason, retry_after }) => {
                tracing::warn!(
                    job = %id, place = %backend, reason,
                    "the submit failed, nothing was charged"
                );
                self.details.note(reason);
                self.retry_after = retry_after;
                SubmitSeen::NotSent
            }
            Err(SubmitError::Refused(fault)) => {
                let kind = fault.kind;
                self.details.note_fault(fault);
                self.report_refusal(kind).await;
                SubmitSeen::Refused(kind)
            }
            Err(SubmitError::Unknown { reason }) => {
                self.details.note(reason);
                SubmitSeen::Lost
            }
        });
    }

    /// Reports a fault that a person has to fix.
    async fn report_refusal(&self, kind: FaultKind) {
        if kind == FaultKind::Token {
            self.report(JobReport::TokenRefused).await;
        }
        if matches!(kind, FaultKind::Account | FaultKind::Token) {
            self.report(JobReport::Warning(self.details.problem.clone())).await;
        }
    }

    /// Records the id of the accepted request.
    pub(in crate::daemon::jobs) async fn record_accepted(&mut self) -> Result<(), Refused> {
        let known = self.record.request().cloned();
        let request = match self.seen.submit.clone() {
            Some(SubmitSeen::Accepted(request)) => Some(request),
            _ => known,
        };
        let Some(request) = request else { return Ok(()) };
        let (id, now, own) = (self.task.id, self.now().wall, request.clone());
        let record = move |ledger: &mut Ledger| ledger.submitted(id, &own, now);
        self.record("the request's id", record).await?;
        self.seen.submit = None;
        // Another attempt builds its own.
        (self.payload, self.seen.payload) = (None, PayloadSeen::Missing);
        let now = self.now().moment;
        self.seen.request.get_or_insert_with(|| RequestSeen::accepted(now));
        self.sync_inputs().await;
        self.next_status_call();
        self.task.status.request = Some(request.to_string());
        self.set_state(JobState::Submitted, JobStage::Queued).await;
        self.set_activity("in the service's queue".to_owned()).await;
        Ok(())
    }

    /// Records that the request certainly did not arrive.
    pub(in crate::daemon::jobs) async fn record_not_sent(&mut self) -> Result<(), Refused> {
        if std::mem::take(&mut self.seen.marked) {
            self.details.note("it was stopped before anything was sent");
        }
        let (id, now, note) = (self.task.id, self.now().wall, self.details.problem.clone());
        let record = move |ledger: &mut Ledger| ledger.not_sent(id, &note, now);
        self.record("the failed submit", record).await?;
        self.sync_inputs().await;
        let problem = self.details.problem.clone();
        let mut doing = format!("not sent yet, nothing was charged: {problem}");
        let asked = self.retry_after.take();
        let wait = self.resend_after(asked);
        if asked.is_some() {
            doing = format!("{doing}; retrying in {} s", wait.as_secs().max(1));
        }
        self.set_state(JobState::Prepared, JobStage::Waiting).await;
        self.set_activity(doing).await;
        Ok(())
    }

    /// Records that the answer was lost on a backend that can be asked for the request, or where it
    /// costs nothing.
    pub(in crate::daemon::jobs) async fn record_answer_lost(&mut self) -> Result<(), Refused> {
        let (id, now) = (self.task.id, self.now().wall);
        if self.seen.submit.take().is_none() {
            // Another session sent it.
            let record = move |ledger: &mut Ledger| ledger.mark_lost_answer(id, now);
            self.record("the lost answer", record).await?;
            return Ok(());
        }
        let reason = &self.details.problem;
        tracing::warn!(
            job = %id, place = %self.record.backend, reason,
            "the answer was lost; checking whether the backend has the request"
        );
        let note =
            format!("the answer was lost; checking whether the backend has the request: {reason}");
        let doing = note.clone();
        let record = move |ledger: &mut Ledger| ledger.retry_same_backend(id, &note, now);
        self.record("the lost answer", record).await?;
        self.resend_after(None);
        self.set_state(JobState::Prepared, JobStage::Waiting).await;
        self.set_activity(doing).await;
        Ok(())
    }

    /// Sets the wait before a request that did not arrive is sent again.
    fn resend_after(&mut self, asked: Option<Duration>) -> Duration {
        let failures = self.record.unreached(self.seen.earlier_attempts);
        let backoff = Backoff::new(RESEND_BACKOFF.0, RESEND_BACKOFF.1);
        let wait = backoff.wait(failures, rand::random(), asked);
        (self.seen.submit, self.slot) = (None, None);
        self.seen.retry = Some((self.now().moment.plus(wait), WaitFor::Resend));
        wait
    }

    /// Makes the name of the job's folder durable, now that nothing waits for it: without this a
    /// power loss could remove the folder with everything that is fetched into it.
    async fn sync_inputs(&self) {
        let (history, id) = (Arc::clone(&self.task.services.history), self.task.id);
        blocking(move || {
            if let Err(error) = history.sync() {
                tracing::warn!(
                    job = %id, %error,
                    "could not sync the job's folder; it may not survive a power failure"
                );
            }
        })
        .await;
    }
}
