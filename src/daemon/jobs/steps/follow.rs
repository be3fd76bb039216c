//! From the backend's id to the end of the run: status calls, the result, the cancel.
//!
//! Owns how these calls are made and recorded, and the pauses between them. What an answer means
//! for the job is decided by [`crate::domain::job::flow`].

use std::time::Duration;

use crate::{
    backend::{
        CallError, CancelReply, FaultKind, Observation, Phase, RunResult, RunTimes, ServiceFault,
    },
    daemon::{
        jobs::driver::{JobRun, Refused},
        services::messages::JobReport,
    },
    domain::{
        engine::event::JobStage,
        job::{
            JobState,
            artifact::RemoteFile,
            backoff::Backoff,
            cancel::{CancelOutcome, CancelReason, CancelSent},
            control::JobControl,
            flow::request_seen::Newest,
            poll_interval::{PollInterval, PollStage},
        },
        time::Moment,
    },
    ledger::{Ledger, rows::RunEnd},
};

/// The longest time between two status calls to a local server, which reports its steps.
const MAX_LOCAL_POLL: Duration = Duration::from_secs(1);

/// The first and the longest wait after a failed call.
const POLL_BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How long a job that is suspended because of a rejected token waits before it asks again.
const SUSPENDED_RECHECK: Duration = Duration::from_secs(60);

/// How often a cancel is sent in a row until it is answered.
const MAX_CANCEL_CALLS: u32 = 5;

/// How far the service's time of a run's end may lie back to be believed.
const MAX_END_AGE: Duration = Duration::from_secs(3600);

impl JobRun {
    /// Asks for the state of the request.
    pub(in crate::daemon::jobs) async fn poll(&mut self) -> Result<(), Refused> {
        let (Some(request), backend) = (self.record.request().cloned(), self.record.backend) else {
            return Ok(());
        };
        self.task.services.wait_for_call(backend).await;
        let Ok(client) = self.client() else { return Ok(()) };
        let answer = client.observe(&request).await;
        let now = self.now();
        self.task.services.health.at(backend).record_call(now.moment, &self.config(), &answer);
        let is_stopped = self.is_being_cancelled(now.moment);
        let Some(seen) = self.seen.request.as_mut() else { return Ok(()) };
        match answer {
            Ok(Observation { phase, instance, unknown_status, progress }) => {
                seen.polled(now.moment, &phase);
                if let Some(word) = unknown_status
                    && !self.reported_words.contains(&word)
                {
                    tracing::warn!(
                        job = %self.task.id, word,
                        "unknown status from the service; treated as waiting"
                    );
                    self.reported_words.push(word);
                }
                self.task.status.progress = progress;
                self.next_status_call();
                self.show_phase(&phase, instance, is_stopped).await
            }
            Err(CallError::Transient { reason, retry_after }) => {
                seen.silent(false);
                self.call_failed(reason, retry_after).await;
                Ok(())
            }
            Err(CallError::Fault(fault)) => {
                self.call_refused(fault, false).await;
                Ok(())
            }
        }
    }

    /// Returns whether a cancel is on its way that did not come too late.
    fn is_being_cancelled(&self, now: Moment) -> bool {
        let cancel = self.record.cancel();
        let is_paid = self.record.backend.is_paid();
        let too_late =
            self.seen.request.as_ref().is_some_and(|seen| seen.is_too_late(now, cancel, is_paid));
        cancel.is_some() && !too_late
    }

    /// Shows where the request is, and records the start of its run.
    async fn show_phase(
        &mut self,
        phase: &Phase,
        instance: Option<String>,
        is_stopped: bool,
    ) -> Result<(), Refused> {
        let about_cancel = self.about_cancel(is_stopped);
        if let Phase::Queued { position } = phase {
            self.task.status.queue_position = *position;
            let has_run = self.seen.request.as_ref().is_some_and(|seen| seen.running.is_some());
            let cold = !has_run && self.estimate.cold.is_some();
            let message = match (position, cold) {
                (Some(0) | None, true) => {
                    "waiting for a machine; a cold start takes 3 to 5 minutes".to_owned()
                }
                (Some(0), false) => "next in the service's queue".to_owned(),
                (Some(ahead), _) => format!("in the service's queue, {ahead} ahead of it"),
                (None, false) => "in the service's queue".to_owned(),
            };
            self.set_activity(about_cancel.unwrap_or(message)).await;
            return Ok(());
        }
        // Only the result says whether a request that has ended ever reached a machine.
        if *phase == Phase::Ended {
            return Ok(());
        }
        self.task.status.queue_position = None;
        self.record_running(instance).await?;
        let progress = self.task.status.progress.as_ref().map(ToString::to_string);
        let doing = match progress.filter(|text| !text.is_empty()) {
            Some(progress) => format!("working: {progress}"),
            None => "the machine is working".to_owned(),
        };
        self.set_activity(about_cancel.unwrap_or(doing)).await;
        Ok(())
    }

    /// Returns what is shown of a cancel that was sent.
    fn about_cancel(&self, is_stopped: bool) -> Option<String> {
        let is_unanswered =
            self.seen.request.as_ref().is_some_and(|seen| seen.cancel_after.is_some());
        let text = match self.record.cancel().map(|cancel| cancel.reply) {
            _ if is_unanswered => "the service has not answered the cancel; it is sent again soon",
            None => return None,
            Some(_) if is_stopped => "cancelling at the service",
            Some(CancelOutcome::Refused) => "the service did not cancel it; the run continues",
            Some(_) => "too late to cancel; the run continues",
        };
        Some(text.to_owned())
    }

    /// Records that a machine runs the request, if that is news.
    async fn record_running(&mut self, instance: Option<String>) -> Result<(), Refused> {
        let is_news = instance.is_some() && instance != self.instance;
        if is_news {
            self.instance = instance;
        }
        let is_first = self.record.newest().is_some_and(|attempt| attempt.running_at.is_none());
        if !is_first && !is_news {
            return Ok(());
        }
        let (id, now, instance) = (self.task.id, self.now().wall, self.instance.clone());
        let waited = self.seen.request.as_ref().and_then(|seen| seen.waited);
        let record =
            move |ledger: &mut Ledger| ledger.running(id, instance.as_deref(), waited, now);
        self.record("the start of the run", record).await?;
        tracing::info!(job = %id, "a machine is running it");
        self.set_state(JobState::Running, JobStage::Running).await;
        Ok(())
    }

    /// Sets the time of the next status call after one that was answered.
    pub(in crate::daemon::jobs) fn next_status_call(&mut self) {
        let (now, config) = (self.now().moment, self.config());
        let serverless = &config.settings.serverless;
        // A local server may be polled as often as its progress is worth showing.
        let most = if self.record.backend.is_paid() { serverless.poll_max } else { MAX_LOCAL_POLL };
        let pace = PollInterval::new(serverless.poll_min.min(most), most.max(serverless.poll_min));
        let expected = self.learned.run;
        if let Some(seen) = self.seen.request.as_mut() {
            let stage = match seen.running {
                None => PollStage::Queued { age: now.since(seen.submitted) },
                Some(running) => PollStage::Running { age: now.since(running), expected },
            };
            seen.next_call = now.plus(pace.next_poll(stage));
        }
    }

    /// Notes a call that was not answered, and when the next one is made.
    async fn call_failed(&mut self, reason: String, asked: Option<Duration>) {
        let now = self.now().moment;
        let Some(seen) = self.seen.request.as_mut() else { return };
        let backoff = Backoff::new(POLL_BACKOFF.0, POLL_BACKOFF.1);
        let wait = backoff.wait(seen.failures, rand::random(), asked);
        seen.next_call = now.plus(wait);
        tracing::warn!(
            job = %self.task.id, failures = seen.failures,
            "could not get the job's status: {reason}"
        );
        self.details.note(reason.clone());
        self.show_silence(&reason, wait, asked.is_some()).await;
    }

    async fn show_silence(&mut self, reason: &str, wait: Duration, is_asked: bool) {
        let seconds = wait.as_secs().max(1);
        let asked = if is_asked { ", as requested" } else { "" };
        self.set_activity(format!(
            "the job continues remotely, but the service does not answer; next status call in \
             {seconds} s{asked}: {reason}"
        ))
        .await;
    }

    /// Notes an answer that says nothing about the request, and when the next call is made.
    async fn call_refused(&mut self, fault: ServiceFault, of_result: bool) {
        let (now, kind) = (self.now().moment, fault.kind);
        let Some(seen) = self.seen.request.as_mut() else { return };
        seen.fault(now, kind, of_result);
        let failures = seen.failures;
        self.details.note_fault(fault);
        let text = self.details.problem.clone();
        if kind == FaultKind::Token {
            if let Some(seen) = self.seen.request.as_mut() {
                seen.next_call = now.plus(SUSPENDED_RECHECK);
            }
            self.suspended(&text).await;
            return;
        }
        let backoff = Backoff::new(POLL_BACKOFF.0, POLL_BACKOFF.1);
        let wait = backoff.wait(failures, rand::random(), None);
        if let Some(seen) = self.seen.request.as_mut() {
            seen.next_call = now.plus(wait);
        }
        tracing::warn!(
            job = %self.task.id, failures, "could not get the job's status: {text}"
        );
        self.show_silence(&text, wait, false).await;
    }

    /// Tells that the job is suspended until there is another token.
    async fn suspended(&mut self, text: &str) {
        let config = self.config();
        let from = config.known_at(self.record.backend).as_ref().ok();
        let from = from.and_then(|configured| configured.token_from.as_deref());
        let from = from.map(|from| format!(" (token from {from})")).unwrap_or_default();
        let text = format!("suspended: {text}{from}; the job continues remotely");
        self.report(JobReport::TokenRefused).await;
        self.report(JobReport::Warning(format!("job {}: {text}", self.task.id))).await;
        self.set_activity(text).await;
    }

    /// Asks how the run ended.
    pub(in crate::daemon::jobs) async fn ask_result(&mut self) -> Result<(), Refused> {
        let (Some(request), backend) = (self.record.request().cloned(), self.record.backend) else {
            return Ok(());
        };
        self.task.services.wait_for_call(backend).await;
        let Ok(client) = self.client() else { return Ok(()) };
        let answer = client.result(&request).await;
        let (now, config) = (self.now(), self.config());
        let health = self.task.services.health.at(backend);
        health.record_call(now.moment, &config, &answer);
        match &answer {
            Ok(RunResult::Succeeded { .. }) => health.record_run(now.moment, None),
            Ok(RunResult::Failed { fault, .. }) => health.record_run(now.moment, Some(fault)),
            Ok(RunResult::Pending(_) | RunResult::Cancelled { .. }) | Err(_) => {}
        }
        let Some(seen) = self.seen.request.as_mut() else { return Ok(()) };
        match answer {
            Ok(RunResult::Pending(_)) => {
                seen.result(now.moment, Newest::Pending);
                self.next_status_call();
            }
            Ok(RunResult::Succeeded { files, times }) => {
                seen.result(now.moment, Newest::Ended);
                self.record_running(None).await?;
                return self.record_outputs(files, times).await;
            }
            Ok(RunResult::Failed { fault, files, times }) => {
                seen.result(now.moment, Newest::Failed(fault.kind, times, now));
                self.details.note_fault(fault);
                self.files = files;
                tracing::warn!(
                    job = %self.task.id, place = %backend,
                    "the attempt failed: {}", self.details.problem
                );
                return self.record_running(None).await;
            }
            Ok(RunResult::Cancelled { times }) => {
                seen.result(now.moment, Newest::Cancelled(times, now));
            }
            Err(CallError::Transient { reason, retry_after }) => {
                seen.silent(true);
                self.call_failed(reason, retry_after).await;
            }
            Err(CallError::Fault(fault)) => self.call_refused(fault, true).await,
        }
        Ok(())
    }

    /// Records the files of a run that succeeded, and what is known about its times.
    async fn record_outputs(
        &mut self,
        files: Vec<RemoteFile>,
        times: RunTimes,
    ) -> Result<(), Refused> {
        let now = self.now();
        let Some(seen) = &self.seen.request else { return Ok(()) };
        let observed = seen.observed_times(times, now);
        // The service's clock may be wrong: its end time counts only if it is plausible.
        let over =
            times.finished_at.filter(|at| *at <= now.wall && now.wall.since(*at) < MAX_END_AGE);
        let end = RunEnd { at: over.unwrap_or(now.wall), observed };
        let (id, listed) = (self.task.id, files.clone());
        let record = move |ledger: &mut Ledger| ledger.outputs_known(id, &listed, end, now.wall);
        self.record("the run's outputs", record).await?;
        // The machine is free for another job.
        self.slot = None;
        self.files = files;
        self.set_state(JobState::Running, JobStage::Placing).await;
        Ok(())
    }

    /// Sends a cancel until the service answers, with a limited number of calls, and records that
    /// it was sent.
    pub(in crate::daemon::jobs) async fn cancel_remotely(
        &mut self,
        why: CancelReason,
    ) -> Result<(), Refused> {
        let (Some(request), id) = (self.record.request().cloned(), self.task.id) else {
            return Ok(());
        };
        // The control may be older than the job's row, or be in it already: it holds across
        // restarts.
        if why.control() > self.record.control {
            let (control, now) = (why.control(), self.now().wall);
            let what = match why {
                CancelReason::Superseded => "the replacement by a newer change",
                _ => "the cancel request",
            };
            let record = move |ledger: &mut Ledger| ledger.raise_control(id, control, now);
            self.record(what, record).await?;
        }
        if why.control() == JobControl::Continue {
            tracing::warn!(
                job = %id, code = why.name(), "timed out; cancelling at the service"
            );
        }
        self.set_activity("cancelling at the service".to_owned()).await;
        let mut failures = 0;
        let reply = loop {
            self.task.services.wait_for_call(self.record.backend).await;
            let Ok(client) = self.client() else { return Ok(()) };
            let error = match client.cancel(&request).await {
                Ok(CancelReply::Requested) => break CancelOutcome::Requested,
                Ok(CancelReply::TooLate) => break CancelOutcome::TooLate,
                // Suspended until there is another token, with which the cancel is sent again.
                Err(CallError::Fault(fault)) if fault.kind == FaultKind::Token => {
                    self.call_refused(fault, false).await;
                    let again = self.now().moment.plus(SUSPENDED_RECHECK);
                    if let Some(seen) = self.seen.request.as_mut() {
                        seen.cancel_after = Some(again);
                    }
                    return Ok(());
                }
                Err(CallError::Fault(fault)) if fault.kind != FaultKind::Service => {
                    break CancelOutcome::Refused;
                }
                Err(error) => error,
            };
            let asked = match &error {
                CallError::Transient { retry_after, .. } => *retry_after,
                CallError::Fault(_) => None,
            };
            failures += 1;
            if failures >= MAX_CANCEL_CALLS {
                tracing::warn!(
                    job = %id, %error, "the service does not answer the cancel request"
                );
                break CancelOutcome::NoAnswer;
            }
            let backoff = Backoff::new(POLL_BACKOFF.0, POLL_BACKOFF.1);
            if self.sleep_unless_stopped(backoff.wait(failures, rand::random(), asked)).await {
                return Ok(());
            }
        };
        tracing::info!(job = %id, outcome = reply.name(), "cancel sent");
        let now = self.now();
        let cancel = CancelSent { why, reply, at: now.wall };
        // Without an answer the cancel is sent again later, if the backend is paid.
        if reply == CancelOutcome::NoAnswer && self.record.backend.is_paid() {
            let record = move |ledger: &mut Ledger| ledger.cancel_unanswered(id, cancel);
            self.record("a cancel", record).await?;
            if let Some(seen) = self.seen.request.as_mut() {
                let again = now.moment.plus(POLL_BACKOFF.1);
                seen.cancelled(now.moment, why, Some(again));
            }
        } else {
            let record = move |ledger: &mut Ledger| ledger.cancel_sent(id, cancel);
            self.record("a cancel", record).await?;
            if let Some(seen) = self.seen.request.as_mut() {
                seen.cancelled(now.moment, why, None);
            }
        }
        self.next_status_call();
        if reply == CancelOutcome::TooLate {
            self.set_activity("too late to cancel; the run continues".to_owned()).await;
        }
        Ok(())
    }
}
