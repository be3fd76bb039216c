//! From the backend's id to the end of the run: status calls with a learned poll interval,
//! time-outs in real time, cancellation.
//!
//! Owns what ends a wait. A failed status call never ends a job that may have been paid for; only
//! the result, a person or a time-out does. What a cancel achieves is seen by polling on: the run
//! may still complete, and then its result was paid for.

mod poll_errors;
pub(super) mod cancel;

use std::time::Duration;

use super::{JobRun, Step, reason_of};
use crate::{
    backend::{CallError, FaultKind, Payload, Phase, RunResult, RunTimes},
    daemon::services::messages::{Control, JobEnd},
    domain::{
        engine::event::JobStage,
        job::{
            JobState, RequestId,
            artifact::RemoteFile,
            choose_backend::AttemptOutcome,
            control::JobControl,
            poll_interval::{self, PollInterval},
        },
        money::job_cost::{self, DurationRange, ObservedTimes},
        time::{Moment, Now, WallTime},
    },
    ledger::rows::{JobRow, RunEnd},
};

/// The longest time between two status calls to a local server, which reports its steps.
const MAX_LOCAL_POLL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct FinishedRun {
    pub(super) files: Vec<RemoteFile>,
}

/// How following a request ended.
pub(super) enum FollowOutcome {
    Ended(FinishedRun),
    /// The job fails over; this is the work for its new backend.
    Rerouted(Payload),
}

/// The outcome of asking for the result.
pub(super) enum ResultAnswer {
    Ended(FinishedRun),
    /// The run failed and the job fails over; this is the work for its new backend.
    Rerouted(Payload),
    /// The service says that the run has not ended.
    Pending,
    /// No answer that says anything about the run.
    NoAnswer,
}

/// What is known about the request so far.
pub(super) struct RequestState {
    pub(super) submitted: Moment,
    /// When it was last seen in the queue, and unfinished; a session that resumed the job has not
    /// seen the submit.
    pub(super) waiting: Option<Moment>,
    pub(super) unfinished: Option<Moment>,
    /// The bounds of its time in the queue, as far as they are known.
    pub(super) waited: Option<DurationRange>,
    /// Whether this session sent it: only then has our clock counted all of it.
    pub(super) sent_this_session: bool,
    pub(super) running: Option<Moment>,
    pub(super) running_at: Option<WallTime>,
    pub(super) instance: Option<String>,
    pub(super) failures: u32,
    /// The control that a cancel was sent for, and when.
    pub(super) cancelled: Option<(Control, Moment)>,
    /// The service refused the cancel.
    pub(super) refused: bool,
    /// Since when the service does not know the request; `result_gone_since`: the same for its
    /// result.
    pub(super) gone_since: Option<Moment>,
    pub(super) result_gone_since: Option<Moment>,
    pub(super) timed_out: Option<(&'static str, Moment)>,
    pub(super) reported_words: Vec<String>,
}

impl RequestState {
    /// Returns how long the request was queued, if it is first seen running at `now`.
    fn waited_until(&self, now: Moment) -> Option<DurationRange> {
        let since_submit = |at: Moment| at.since(self.submitted);
        let waiting = self.waiting?;
        Some(DurationRange { min: since_submit(waiting), max: since_submit(now) })
    }

    /// Returns everything known about a run that is seen finished at `now`.
    pub(super) fn observed_times(&self, times: RunTimes, now: Now) -> ObservedTimes {
        let lasted = DurationRange {
            min: self.unfinished.map_or(Duration::ZERO, |at| at.since(self.submitted)),
            max: now.moment.since(self.submitted),
        };
        let told = times
            .created_at
            .zip(times.finished_at)
            .filter(|(created, finished)| created <= finished)
            .map(|(created, finished)| finished.since(created));
        // Across sessions our own span follows the wall clock, which may have been set; it cannot
        // contradict the service.
        let told = told.and_then(|told| {
            if self.sent_this_session { job_cost::plausible(told, lasted) } else { Some(told) }
        });
        ObservedTimes { waited: self.waited, lasted: Some(lasted), reported: told }
    }
}

impl JobRun {
    /// Follows a request to its end. `row` is what another session recorded about it.
    pub(super) async fn follow(
        &mut self,
        request: &RequestId,
        row: Option<&JobRow>,
    ) -> Step<FollowOutcome> {
        let now = self.services.clock.now();
        // A time-out that began in another session continues by the wall clock.
        let then = |at: WallTime| now.moment.minus(now.wall.since(at));
        let submitted_at = row.and_then(|row| row.submitted_at).unwrap_or(now.wall);
        let running_at = row.and_then(|row| row.running_at);
        let mut request_state = RequestState {
            submitted: then(submitted_at),
            waiting: row.is_none().then_some(now.moment),
            unfinished: row.is_none().then_some(now.moment),
            waited: row.and_then(|row| row.observed.waited),
            sent_this_session: row.is_none(),
            running: running_at.map(then),
            running_at,
            instance: row.and_then(|row| row.instance.clone()),
            failures: 0,
            cancelled: None,
            refused: false,
            gone_since: None,
            result_gone_since: None,
            timed_out: None,
            reported_words: Vec::new(),
        };
        let stored = row.map_or(JobControl::Continue, |row| row.control);
        if stored > JobControl::Continue {
            self.cancel_remotely(request, stored.into(), &mut request_state).await?;
        }
        loop {
            let wait = self.next_wait(&request_state);
            let known = request_state.cancelled.map_or(Control::Continue, |(control, _)| control);
            match self.wait_or_control(wait, known).await {
                None | Some(Control::Continue) => {}
                Some(Control::Stop) => return Err(JobEnd::Stopped),
                Some(control @ (Control::Supersede | Control::Cancel)) => {
                    self.cancel_remotely(request, control, &mut request_state).await?;
                    continue;
                }
            }
            self.services.wait_for_call(self.backend).await;
            let backend = self.backend().await?;
            let config = self.config();
            let answer = backend.observe(request).await;
            let heard = self.services.clock.now().moment;
            self.services.health.at(self.backend).record_call(heard, &config, &answer);
            match answer {
                Ok(observation) => {
                    request_state.failures = 0;
                    request_state.gone_since = None;
                    if let Some(word) = observation.unknown_status
                        && !request_state.reported_words.contains(&word)
                    {
                        tracing::warn!(
                            job = %self.id, word,
                            "unknown status from the service; treated as waiting"
                        );
                        request_state.reported_words.push(word);
                    }
                    self.status.progress = observation.progress;
                    self.note_phase(&observation.phase, observation.instance, &mut request_state)
                        .await?;
                    if observation.phase == Phase::Ended {
                        match self.ask_result(request, &mut request_state).await? {
                            ResultAnswer::Ended(ended) => return Ok(FollowOutcome::Ended(ended)),
                            ResultAnswer::Rerouted(payload) => {
                                return Ok(FollowOutcome::Rerouted(payload));
                            }
                            ResultAnswer::Pending | ResultAnswer::NoAnswer => {}
                        }
                    }
                    // A time-out depends on what the service says, never on a missing answer.
                    if let Some(followed) = self.check_timeouts(request, &mut request_state).await?
                    {
                        return Ok(followed);
                    }
                }
                Err(CallError::Transient { reason, retry_after }) => {
                    request_state.failures += 1;
                    if let Some(payload) = self.give_up_unreachable(&reason, &request_state).await?
                    {
                        return Ok(FollowOutcome::Rerouted(payload));
                    }
                    self.wait_after_failure(&reason, retry_after, &request_state).await?;
                }
                Err(CallError::Fault(fault)) => {
                    if fault.kind == FaultKind::Gone {
                        if let Some(payload) =
                            self.give_up_forgotten(&fault, &request_state).await?
                        {
                            return Ok(FollowOutcome::Rerouted(payload));
                        }
                        let now = self.services.clock.now().moment;
                        let since = *request_state.gone_since.get_or_insert(now);
                        self.give_up_gone(request, &fault, since).await?;
                    }
                    if let Some(payload) = self.wait_after_fault(fault, &mut request_state).await? {
                        return Ok(FollowOutcome::Rerouted(payload));
                    }
                }
            }
        }
    }

    fn next_wait(&self, request_state: &RequestState) -> Duration {
        let now = self.services.clock.now().moment;
        let config = self.config();
        let serverless = &config.settings.serverless;
        // A local server may be polled as often as its progress is worth showing.
        let most = if self.backend.is_paid() { serverless.poll_max } else { MAX_LOCAL_POLL };
        let pace = PollInterval::new(serverless.poll_min.min(most), most.max(serverless.poll_min));
        let stage = match request_state.running {
            None => poll_interval::PollStage::Queued { age: now.since(request_state.submitted) },
            Some(running) => poll_interval::PollStage::Running {
                age: now.since(running),
                expected: self.learned.run,
            },
        };
        pace.next_poll(stage)
    }

    async fn note_phase(
        &mut self,
        phase: &Phase,
        instance: Option<String>,
        request_state: &mut RequestState,
    ) -> Step<()> {
        let now = self.services.clock.now();
        let cold = request_state.running.is_none() && self.estimate.cold.is_some();
        if *phase != Phase::Ended {
            request_state.unfinished = Some(now.moment);
        }
        match phase {
            Phase::Queued { position } => {
                request_state.waiting = Some(now.moment);
                self.status.queue_position = *position;
                let message = match (position, cold) {
                    (Some(0) | None, true) => {
                        "waiting for a machine; a cold start takes 3 to 5 minutes".to_owned()
                    }
                    (Some(0), false) => "next in the service's queue".to_owned(),
                    (Some(ahead), _) => format!("in the service's queue, {ahead} ahead of it"),
                    (None, false) => "in the service's queue".to_owned(),
                };
                if request_state.cancelled.is_none() {
                    self.set_activity(message).await;
                }
            }
            // A request that ends after a cancel need not have reached a machine.
            Phase::Running | Phase::Ended
                if request_state.cancelled.is_some() && !self.cancel_too_late => {}
            Phase::Running | Phase::Ended => {
                self.status.queue_position = None;
                let news = instance.is_some() && instance != request_state.instance;
                if request_state.running.is_none() || news {
                    request_state.instance = instance.or(request_state.instance.take());
                    if request_state.running.is_none() {
                        request_state.waited = request_state.waited_until(now.moment);
                    }
                    request_state.running.get_or_insert(now.moment);
                    request_state.running_at.get_or_insert(now.wall);
                    let (id, instance) = (self.id, request_state.instance.clone());
                    let waited = request_state.waited;
                    let record = move |ledger: &mut crate::ledger::Ledger| {
                        ledger.running(id, instance.as_deref(), waited, now.wall)
                    };
                    self.record("the start of the run", record).await?;
                    tracing::info!(job = %id, "a machine is running it");
                    self.set_state(JobState::Running, JobStage::Running).await;
                }
                if request_state.cancelled.is_none() {
                    let progress = self.status.progress.as_ref().map(ToString::to_string);
                    let doing = match progress.filter(|text| !text.is_empty()) {
                        Some(progress) => format!("working: {progress}"),
                        None => "the machine is working".to_owned(),
                    };
                    self.set_activity(doing).await;
                }
            }
        }
        Ok(())
    }

    /// Asks the backend how the run ended.
    pub(super) async fn ask_result(
        &mut self,
        request: &RequestId,
        request_state: &mut RequestState,
    ) -> Step<ResultAnswer> {
        self.services.wait_for_call(self.backend).await;
        let backend = self.backend().await?;
        let config = self.config();
        let answer = backend.result(request).await;
        let heard = self.services.clock.now().moment;
        let health = self.services.health.at(self.backend);
        health.record_call(heard, &config, &answer);
        match &answer {
            Ok(RunResult::Succeeded { .. }) => health.record_run(heard, None),
            Ok(RunResult::Failed { fault, .. }) => health.record_run(heard, Some(fault)),
            Ok(RunResult::Pending(_) | RunResult::Cancelled { .. }) | Err(_) => {}
        }
        if !matches!(&answer, Err(CallError::Fault(fault)) if fault.kind == FaultKind::Gone) {
            request_state.result_gone_since = None;
        }
        match answer {
            Ok(RunResult::Pending(_)) => Ok(ResultAnswer::Pending),
            Ok(RunResult::Succeeded { files, times }) => {
                self.note_outputs(&files, times, request_state).await?;
                Ok(ResultAnswer::Ended(FinishedRun { files }))
            }
            Ok(RunResult::Failed { fault, files, times }) => {
                let booking = self.booking(request_state, times);
                let reason = reason_of(&fault);
                // A cancelled job does not fail over.
                if request_state.cancelled.is_some() {
                    return Err(self.end_failed(reason, booking).await);
                }
                let outcome = match fault.kind {
                    FaultKind::Workflow => AttemptOutcome::Workflow,
                    FaultKind::Account
                    | FaultKind::Token
                    | FaultKind::Service
                    | FaultKind::Gone => AttemptOutcome::Failed,
                };
                match self.attempt_failed(outcome, &reason, booking).await? {
                    Some(payload) => Ok(ResultAnswer::Rerouted(payload)),
                    None => {
                        self.save_image(request, &files).await?;
                        Err(self.end_failed(reason, booking).await)
                    }
                }
            }
            Ok(RunResult::Cancelled { times }) => {
                Err(self.end_cancelled(request_state, times).await)
            }
            Err(CallError::Transient { reason, retry_after }) => {
                request_state.failures += 1;
                self.wait_after_failure(&reason, retry_after, request_state).await?;
                Ok(ResultAnswer::NoAnswer)
            }
            Err(CallError::Fault(fault)) => {
                let now = self.services.clock.now().moment;
                if fault.kind == FaultKind::Gone {
                    let since = *request_state.result_gone_since.get_or_insert(now);
                    self.give_up_gone(request, &fault, since).await?;
                }
                match self.wait_after_fault(fault, request_state).await? {
                    Some(payload) => Ok(ResultAnswer::Rerouted(payload)),
                    None => Ok(ResultAnswer::NoAnswer),
                }
            }
        }
    }

    async fn note_outputs(
        &mut self,
        files: &[RemoteFile],
        times: RunTimes,
        request_state: &RequestState,
    ) -> Step<()> {
        let observed = request_state.observed_times(times, self.services.clock.now());
        let now = self.services.clock.now().wall;
        // The service's clock may be wrong: its end time counts only if it is plausible.
        let over =
            times.finished_at.filter(|at| *at <= now && now.since(*at) < Duration::from_secs(3600));
        let (id, files) = (self.id, files.to_vec());
        let record = move |ledger: &mut crate::ledger::Ledger| {
            let end = RunEnd { at: over.unwrap_or(now), observed };
            ledger.outputs_known(id, &files, end, now)
        };
        self.record("the run's outputs", record).await
    }

    /// Returns the files of a run whose result was known before a restart.
    pub(super) async fn known_outputs(&self) -> Option<FinishedRun> {
        let id = self.id;
        let files =
            self.services.store.with(move |ledger| ledger.outputs(id)).await.ok().flatten()?;
        Some(FinishedRun { files })
    }
}
