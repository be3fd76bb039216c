//! From the backend's id to the end of the run: status calls with a learned poll interval,
//! time-outs in real time, cancellation.
//!
//! Owns what ends a wait. A failed status call never ends a job that may have been paid for; only
//! the result, a person or a time-out does. What a cancel achieves is seen by polling on: the run
//! may still complete, and then its result was paid for.

mod poll_errors;
pub(super) mod cancel;

use std::time::Duration;

use super::{Road, Step, reason_of};
use crate::{
    backend::{CallError, FaultKind, Payload, Phase, RunResult, RunTimes},
    daemon::services::messages::{JobEnd, Wish},
    domain::{
        engine::event::JobStage,
        job::{
            JobState, RequestId,
            artifact::RemoteFile,
            choose_backend::AttemptOutcome,
            poll_interval::{self, PollInterval},
        },
        money::job_cost::{self, DurationRange, ObservedTimes},
        time::{Moment, Now, WallTime},
    },
    ledger::rows::{JobRow, RunEnd},
};

/// The longest time between two status calls to a local server, which reports its steps.
const LOCAL_POLL: Duration = Duration::from_secs(1);

/// A run that succeeded.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) files: Vec<RemoteFile>,
}

/// How following a request ended.
pub(super) enum Followed {
    /// The run succeeded.
    Ended(Ended),
    /// The job fails over; this is the work for its new backend.
    Elsewhere(Payload),
}

/// The outcome of asking for the result.
pub(super) enum Answer {
    /// The run succeeded.
    Ended(Ended),
    /// The run failed and the job fails over; this is the work for its new backend.
    Elsewhere(Payload),
    /// The service says that the run has not ended.
    Pending,
    /// No answer that says anything about the run.
    Silence,
}

/// What is known about the request so far.
pub(super) struct Following {
    pub(super) submitted: Moment,
    /// When it was last seen in the queue, and unfinished; a session that resumed the job has not
    /// seen the submit.
    pub(super) waiting: Option<Moment>,
    pub(super) unfinished: Option<Moment>,
    /// The bounds of its time in the queue, as far as they are known.
    pub(super) waited: Option<DurationRange>,
    /// Whether this session sent it: only then has our clock counted all of it.
    pub(super) own: bool,
    pub(super) running: Option<Moment>,
    pub(super) running_at: Option<WallTime>,
    pub(super) instance: Option<String>,
    pub(super) failures: u32,
    /// The control that a cancel was sent for, and when.
    pub(super) cancelled: Option<(Wish, Moment)>,
    /// The service refused the cancel.
    pub(super) refused: bool,
    /// Since when the service does not know the request; `result_gone`: the same for its result.
    pub(super) gone: Option<Moment>,
    pub(super) result_gone: Option<Moment>,
    pub(super) timed_out: Option<(&'static str, Moment)>,
    pub(super) told_words: Vec<String>,
}

impl Following {
    /// Returns how long the request was queued, if it is first seen running at `now`.
    fn waited_until(&self, now: Moment) -> Option<DurationRange> {
        let since_submit = |at: Moment| at.since(self.submitted);
        let waiting = self.waiting?;
        Some(DurationRange { min: since_submit(waiting), max: since_submit(now) })
    }

    /// Returns everything known about a run that is seen finished at `now`.
    pub(super) fn seen(&self, times: RunTimes, now: Now) -> ObservedTimes {
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
        let told = told
            .and_then(|told| if self.own { job_cost::plausible(told, lasted) } else { Some(told) });
        ObservedTimes { waited: self.waited, lasted: Some(lasted), reported: told }
    }
}

impl Road {
    /// Follows a request to its end. `row` is what another session recorded about it.
    pub(super) async fn follow(
        &mut self,
        request: &RequestId,
        row: Option<&JobRow>,
    ) -> Step<Followed> {
        let now = self.tools.clock.now();
        // A time-out that began in another session continues by the wall clock.
        let then = |at: WallTime| now.moment.minus(now.wall.since(at));
        let submitted_at = row.and_then(|row| row.submitted_at).unwrap_or(now.wall);
        let running_at = row.and_then(|row| row.running_at);
        let mut following = Following {
            submitted: then(submitted_at),
            waiting: row.is_none().then_some(now.moment),
            unfinished: row.is_none().then_some(now.moment),
            waited: row.and_then(|row| row.observed.waited),
            own: row.is_none(),
            running: running_at.map(then),
            running_at,
            instance: row.and_then(|row| row.instance.clone()),
            failures: 0,
            cancelled: None,
            refused: false,
            gone: None,
            result_gone: None,
            timed_out: None,
            told_words: Vec::new(),
        };
        if row.is_some_and(|row| row.cancel_requested) {
            self.cancel_remotely(request, Wish::Cancel, &mut following).await?;
        }
        loop {
            let wait = self.next_wait(&following);
            let known = following.cancelled.map_or(Wish::Go, |(wish, _)| wish);
            match self.pause(wait, known).await {
                None | Some(Wish::Go) => {}
                Some(Wish::Stop) => return Err(JobEnd::Stopped),
                Some(wish @ (Wish::Replace | Wish::Cancel)) => {
                    self.cancel_remotely(request, wish, &mut following).await?;
                    continue;
                }
            }
            self.tools.wait_for_call(self.place).await;
            let backend = self.backend().await?;
            let config = self.live();
            let answer = backend.observe(request).await;
            let heard = self.tools.clock.now().moment;
            self.tools.health.at(self.place).record_call(heard, &config, &answer);
            match answer {
                Ok(observation) => {
                    following.failures = 0;
                    following.gone = None;
                    if let Some(word) = observation.unknown_status
                        && !following.told_words.contains(&word)
                    {
                        tracing::warn!(job = %self.id, word, "an unknown status word; taken as waiting");
                        following.told_words.push(word);
                    }
                    self.shown.progress = observation.progress;
                    self.note_phase(&observation.phase, observation.instance, &mut following)
                        .await?;
                    if observation.phase == Phase::Ended {
                        match self.ask_result(request, &mut following).await? {
                            Answer::Ended(ended) => return Ok(Followed::Ended(ended)),
                            Answer::Elsewhere(payload) => return Ok(Followed::Elsewhere(payload)),
                            Answer::Pending | Answer::Silence => {}
                        }
                    }
                    // A time-out depends on what the service says, never on a missing answer.
                    if let Some(followed) = self.mind_patience(request, &mut following).await? {
                        return Ok(followed);
                    }
                }
                Err(CallError::Transient { reason, retry_after }) => {
                    following.failures += 1;
                    if let Some(payload) = self.went_away(&reason, &following).await? {
                        return Ok(Followed::Elsewhere(payload));
                    }
                    self.after_failure(&reason, retry_after, &following).await?;
                }
                Err(CallError::Fault(fault)) => {
                    if fault.kind == FaultKind::Gone {
                        if let Some(payload) = self.forgotten(&fault, &following).await? {
                            return Ok(Followed::Elsewhere(payload));
                        }
                        let now = self.tools.clock.now().moment;
                        let since = *following.gone.get_or_insert(now);
                        self.mind_gone(request, &fault, since).await?;
                    }
                    if let Some(payload) = self.after_fault(fault, &mut following).await? {
                        return Ok(Followed::Elsewhere(payload));
                    }
                }
            }
        }
    }

    fn next_wait(&self, following: &Following) -> Duration {
        let now = self.tools.clock.now().moment;
        let config = self.live();
        let serverless = &config.settings.serverless;
        // A local server may be polled as often as its progress is worth showing.
        let most = if self.place.is_paid() { serverless.poll_max } else { LOCAL_POLL };
        let pace = PollInterval::new(serverless.poll_min.min(most), most.max(serverless.poll_min));
        let stage = match following.running {
            None => poll_interval::PollStage::Queued { age: now.since(following.submitted) },
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
        following: &mut Following,
    ) -> Step<()> {
        let now = self.tools.clock.now();
        let cold = following.running.is_none() && self.estimate.cold.is_some();
        if *phase != Phase::Ended {
            following.unfinished = Some(now.moment);
        }
        match phase {
            Phase::Queued { position } => {
                following.waiting = Some(now.moment);
                self.shown.queue_position = *position;
                let words = match (position, cold) {
                    (Some(0) | None, true) => {
                        "waits for a machine; a cold start takes 3 to 5 minutes".to_owned()
                    }
                    (Some(0), false) => "next in the service's queue".to_owned(),
                    (Some(ahead), _) => format!("in the service's queue, {ahead} before it"),
                    (None, false) => "in the service's queue".to_owned(),
                };
                if following.cancelled.is_none() {
                    self.say(words).await;
                }
            }
            // A request that ends after a cancel need not have reached a machine.
            Phase::Running | Phase::Ended if following.cancelled.is_some() && !self.too_late => {}
            Phase::Running | Phase::Ended => {
                self.shown.queue_position = None;
                let news = instance.is_some() && instance != following.instance;
                if following.running.is_none() || news {
                    following.instance = instance.or(following.instance.take());
                    if following.running.is_none() {
                        following.waited = following.waited_until(now.moment);
                    }
                    following.running.get_or_insert(now.moment);
                    following.running_at.get_or_insert(now.wall);
                    let (id, instance) = (self.id, following.instance.clone());
                    let waited = following.waited;
                    let record = move |ledger: &mut crate::ledger::Ledger| {
                        ledger.running_after(id, instance.as_deref(), waited, now.wall)
                    };
                    self.record("that the job runs", record).await?;
                    tracing::info!(job = %id, "a machine is at work on it");
                    self.moved(JobState::Running, JobStage::Running).await;
                }
                if following.cancelled.is_none() {
                    let progress = self.shown.progress.as_ref().map(ToString::to_string);
                    let doing = match progress.filter(|text| !text.is_empty()) {
                        Some(progress) => format!("at work: {progress}"),
                        None => "the machine is at work".to_owned(),
                    };
                    self.say(doing).await;
                }
            }
        }
        Ok(())
    }

    /// Asks the backend how the run ended.
    pub(super) async fn ask_result(
        &mut self,
        request: &RequestId,
        following: &mut Following,
    ) -> Step<Answer> {
        self.tools.wait_for_call(self.place).await;
        let backend = self.backend().await?;
        let config = self.live();
        let answer = backend.result(request).await;
        let heard = self.tools.clock.now().moment;
        let health = self.tools.health.at(self.place);
        health.record_call(heard, &config, &answer);
        match &answer {
            Ok(RunResult::Succeeded { .. }) => health.record_run(heard, None),
            Ok(RunResult::Failed { fault, .. }) => health.record_run(heard, Some(fault)),
            Ok(RunResult::Pending(_) | RunResult::Cancelled { .. }) | Err(_) => {}
        }
        if !matches!(&answer, Err(CallError::Fault(fault)) if fault.kind == FaultKind::Gone) {
            following.result_gone = None;
        }
        match answer {
            Ok(RunResult::Pending(_)) => Ok(Answer::Pending),
            Ok(RunResult::Succeeded { files, times }) => {
                self.note_outputs(&files, times, following).await?;
                Ok(Answer::Ended(Ended { files }))
            }
            Ok(RunResult::Failed { fault, files, times }) => {
                let booking = self.booking(following, times);
                let reason = reason_of(&fault);
                // A cancelled job does not fail over.
                if following.cancelled.is_some() {
                    return Err(self.end_failed(reason, booking).await);
                }
                let outcome = match fault.kind {
                    FaultKind::Workflow => AttemptOutcome::Workflow,
                    FaultKind::Account
                    | FaultKind::Token
                    | FaultKind::Service
                    | FaultKind::Gone => AttemptOutcome::Failed,
                };
                match self.came_to_nothing(outcome, &reason, booking).await? {
                    Some(payload) => Ok(Answer::Elsewhere(payload)),
                    None => {
                        self.keep_image(request, &files).await?;
                        Err(self.end_failed(reason, booking).await)
                    }
                }
            }
            Ok(RunResult::Cancelled { times }) => Err(self.ended_by_cancel(following, times).await),
            Err(CallError::Transient { reason, retry_after }) => {
                following.failures += 1;
                self.after_failure(&reason, retry_after, following).await?;
                Ok(Answer::Silence)
            }
            Err(CallError::Fault(fault)) => {
                let now = self.tools.clock.now().moment;
                if fault.kind == FaultKind::Gone {
                    let since = *following.result_gone.get_or_insert(now);
                    self.mind_gone(request, &fault, since).await?;
                }
                match self.after_fault(fault, following).await? {
                    Some(payload) => Ok(Answer::Elsewhere(payload)),
                    None => Ok(Answer::Silence),
                }
            }
        }
    }

    async fn note_outputs(
        &mut self,
        files: &[RemoteFile],
        times: RunTimes,
        following: &Following,
    ) -> Step<()> {
        let observed = following.seen(times, self.tools.clock.now());
        let now = self.tools.clock.now().wall;
        // The service's clock may be wrong: its end time counts only if it is plausible.
        let over =
            times.finished_at.filter(|at| *at <= now && now.since(*at) < Duration::from_secs(3600));
        let (id, files) = (self.id, files.to_vec());
        let record = move |ledger: &mut crate::ledger::Ledger| {
            let end = RunEnd { at: over.unwrap_or(now), observed };
            ledger.outputs_known(id, &files, end, now)
        };
        self.record("what the run produced", record).await
    }

    /// Returns the files of a run whose result was known before a restart.
    pub(super) async fn known_outputs(&self) -> Option<Ended> {
        let id = self.id;
        let files = self.tools.store.with(move |ledger| ledger.outputs(id)).await.ok().flatten()?;
        Some(Ended { files })
    }
}
