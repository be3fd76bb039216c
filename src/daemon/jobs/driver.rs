//! One job as a task: asks the flow for the next step, performs it, and asks again.
//!
//! Owns the job's task from its release to its end, and nothing that is decided:
//! [`crate::domain::job::flow`] says what to do next, from the job's record in the ledger and from
//! what is true today ([`super::world`]). A step is recorded in the transaction that makes it true,
//! and the record is read again from the ledger after each, so a job that is resumed runs the same
//! code as one that never stopped. The event loop owns the task.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{details::Details, texts};
use crate::{
    backend::Payload,
    daemon::services::{
        Services,
        in_flight::Slot,
        leases::Lease,
        messages::{Control, JobEnd, JobReport},
        project_locks::HistoryHold,
        runtime_config::RuntimeConfig,
    },
    domain::{
        engine::event::{JobStage, ProjectId},
        job::{
            JobId, JobState,
            artifact::RemoteFile,
            backoff::Backoff,
            control::JobControl,
            flow::{
                self, Do, JobRecord,
                world::{Seen, WaitFor},
            },
            placement::Targets,
        },
        money::estimate::{Estimate, PastTimings},
        status,
        time::{Moment, Now},
    },
    ledger::{Ledger, error::LedgerError},
};

/// The longest single sleep. The runtime's timers do not count the time for which the machine
/// sleeps; a wait that ran out while the lid was closed ends this soon after it opens.
const MAX_SLEEP: Duration = Duration::from_secs(20);

/// The first and the longest wait after the ledger refused a step.
const RESUME_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What a job's task is made from.
pub(crate) struct JobTask {
    pub(crate) services: Arc<Services>,
    pub(crate) control: watch::Receiver<Control>,
    pub(crate) project: ProjectId,
    pub(crate) id: JobId,
    pub(crate) targets: Targets,
    /// The project's checkout.
    pub(crate) root: PathBuf,
    pub(crate) status: status::Job,
}

/// A job at work.
pub(crate) struct JobRun {
    pub(super) task: JobTask,
    /// The configuration: what changed since it was last looked at.
    pub(super) config: watch::Receiver<Arc<RuntimeConfig>>,
    /// The job in the ledger, as it was read after the last step.
    pub(super) record: JobRecord,
    /// What this session has seen of it.
    pub(super) seen: Seen,
    /// The highest control that was ever raised.
    pub(super) wanted: JobControl,
    pub(super) learned: PastTimings,
    pub(super) estimate: Estimate,
    /// The deployment that it is sent to: a reload may configure another one meanwhile.
    pub(super) deployment: Option<String>,
    /// The lease of the rented machine that it runs on.
    pub(super) lease: Option<Lease>,
    /// The rented machine that it was sent to no longer exists.
    pub(super) server_gone: bool,
    /// The request as bytes, for the record's backend.
    pub(super) payload: Option<Payload>,
    /// The files that its run lists.
    pub(super) files: Vec<RemoteFile>,
    /// The machine that runs it, as the backend names it.
    pub(super) instance: Option<String>,
    /// Keeps the artifacts of the earlier job that it shows again.
    pub(super) earlier: Option<HistoryHold>,
    /// Whether the mesh is handed over to CONJURE, decided when it was placed.
    pub(super) hands_over: Option<bool>,
    /// Its place among the jobs at the services.
    pub(super) slot: Option<Slot>,
    /// Whether its slot under the rate limit is reserved.
    pub(super) has_turn: bool,
    /// The wait that the service asked for with its newest answer to a submit.
    pub(super) retry_after: Option<Duration>,
    /// Refusals in a row before the request could leave.
    pub(super) refusals: u32,
    /// The downloaded bytes that are not in the ledger yet.
    pub(super) received: u64,
    /// Unknown states of the service that the log has reported.
    pub(super) reported_words: Vec<String>,
    /// What people are told about it.
    pub(super) details: Details,
}

/// The ledger refused a step; the job continues from what the ledger says, after a wait.
#[derive(Debug)]
pub(super) struct Refused {
    /// The step and the reason, for people.
    reason: String,
}

impl Refused {
    pub(super) fn new(what: &'static str, error: &LedgerError) -> Self {
        Self { reason: format!("a ledger operation failed ({what}): {error}") }
    }
}

impl JobRun {
    /// Runs the job to its end. A step that the ledger refused does not end it, because a request
    /// may have been paid for: the job continues from what the ledger says, after increasing waits.
    pub(super) async fn run(mut self) -> JobEnd {
        let mut interruptions = 0;
        loop {
            let (world, now) = (self.world().await, self.now());
            let step = flow::next(now, &self.record, &world);
            tracing::trace!(job = %self.task.id, ?step, "next step");
            let mut performed = match self.perform(step).await {
                Ok(None) => Ok(()),
                Ok(Some(end)) => return end,
                Err(refused) => Err(refused),
            };
            while let Err(refused) = performed {
                interruptions += 1;
                if self.wait_interrupted(&refused, interruptions).await {
                    return JobEnd::Stopped;
                }
                performed = self.reload().await;
            }
        }
    }

    /// Performs one step. Returns the end of the job, if it is over for this session.
    async fn perform(&mut self, step: Do) -> Result<Option<JobEnd>, Refused> {
        match step {
            Do::UseCached(earlier) => self.use_cached(earlier).await?,
            Do::ChooseBackend(switch) => self.switch_backend(switch).await?,
            Do::Probe(backend) => self.probe(backend).await,
            Do::Prepare => self.prepare().await?,
            Do::AcquireServer => self.acquire_server().await?,
            Do::MarkSubmitting => self.mark_submitting().await?,
            Do::Submit => self.submit().await,
            Do::RecordAccepted => self.record_accepted().await?,
            Do::RecordNotSent => self.record_not_sent().await?,
            Do::RecordAnswerLost => self.record_answer_lost().await?,
            Do::Poll => self.poll().await?,
            Do::AskResult if self.record.outputs_known => self.refresh_urls().await,
            Do::AskResult => self.ask_result().await?,
            Do::Cancel(why) => self.cancel_remotely(why).await?,
            Do::Fetch(kind) => self.fetch(kind).await,
            Do::KeepImage => self.keep_image().await,
            Do::RecordFetched => self.record_fetched().await?,
            Do::MarkPlacing => self.mark_placing().await?,
            Do::Place => self.place().await?,
            Do::HandOff => self.hand_over().await?,
            Do::Wait(until, what) => self.wait(until, what).await,
            Do::Suspend => {
                if self.record.state == JobState::Submitting {
                    // The process ends now and the answer is not read: the next start sets the
                    // job to `unknown`.
                    tracing::warn!(
                        job = %self.task.id,
                        "stopped before the service answered the submit"
                    );
                }
                return Ok(Some(JobEnd::Stopped));
            }
            Do::End(end) => return self.end(end).await.map(Some),
            Do::Ended(state) => {
                let placed = state == JobState::Done && !self.record.own_folder;
                return Ok(Some(JobEnd::Ended { state, placed }));
            }
        }
        Ok(None)
    }

    /// Waits until a moment, or until something changes that the flow may depend on.
    async fn wait(&mut self, until: Option<Moment>, what: WaitFor) {
        self.show_wait(until, what).await;
        loop {
            let nap = match until {
                Some(until) => match next_sleep(until, self.now().moment) {
                    Some(nap) => nap,
                    None => return,
                },
                None => MAX_SLEEP,
            };
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                // Both are looked at before the next decision.
                Ok(()) = self.config.changed() => {
                    self.config.mark_changed();
                    return;
                }
                changed = self.task.control.changed() => {
                    self.note_control(changed.is_err());
                    return;
                }
            }
        }
    }

    /// Notes a change of the control. The event loop is gone only when the process ends.
    pub(super) fn note_control(&mut self, is_gone: bool) {
        if is_gone {
            self.task.control = watch::channel(Control::Stop).1;
        }
    }

    /// Looks at a configuration that changed since the last decision: perhaps there is another
    /// token.
    pub(super) fn note_config(&mut self) {
        if !self.config.has_changed().unwrap_or(false) {
            return;
        }
        self.config.mark_unchanged();
        if let Some(request) = self.seen.request.as_mut().filter(|request| request.token_refused) {
            (request.token_refused, request.cancel_after) = (false, None);
            request.next_call = Moment::default();
        }
    }

    /// Waits after the ledger refused a step. Returns whether the daemon stops.
    pub(super) async fn wait_interrupted(&mut self, refused: &Refused, interruptions: u32) -> bool {
        let reason = &refused.reason;
        let backoff = Backoff::new(RESUME_BACKOFF.0, RESUME_BACKOFF.1);
        let wait = backoff.wait(interruptions, rand::random(), None);
        let seconds = wait.as_secs().max(1);
        tracing::error!(job = %self.task.id, "{reason}; the job is resumed in {seconds} s");
        self.set_activity(format!("{reason}; the job is resumed in {seconds} s")).await;
        self.sleep_unless_stopped(wait).await
    }

    /// Sleeps. Returns early, and `true`, if the daemon stops.
    pub(super) async fn sleep_unless_stopped(&mut self, wait: Duration) -> bool {
        let until = self.now().moment.plus(wait);
        loop {
            if *self.task.control.borrow_and_update() == Control::Stop {
                return true;
            }
            let Some(nap) = next_sleep(until, self.now().moment) else { return false };
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                changed = self.task.control.changed() => if changed.is_err() {
                    return true;
                },
            }
        }
    }

    /// Records a step in the ledger, for as long as it takes, and reads the job again, for as long
    /// as that takes: what belongs to the step is done once it is recorded.
    pub(super) async fn record(
        &mut self,
        what: &'static str,
        operation: impl Fn(&mut Ledger) -> Result<(), LedgerError> + Clone + Send + 'static,
    ) -> Result<(), Refused> {
        let recorded = self.task.services.store.record(what, operation).await;
        recorded.map_err(|error| Refused::new(what, &error))?;
        self.reload_surely().await
    }

    /// Reads the job from the ledger, for as long as it takes; fails only if the daemon stops.
    pub(super) async fn reload_surely(&mut self) -> Result<(), Refused> {
        let mut interruptions = 0;
        while let Err(refused) = self.reload().await {
            interruptions += 1;
            if self.wait_interrupted(&refused, interruptions).await {
                return Err(refused);
            }
        }
        Ok(())
    }

    /// Reads the job from the ledger.
    pub(super) async fn reload(&mut self) -> Result<(), Refused> {
        let id = self.task.id;
        let read = self.task.services.store.with(move |ledger| ledger.job_record(id)).await;
        self.record = read.map_err(|error| Refused::new("reading the job", &error))?;
        if self.record.outputs_known && self.files.is_empty() {
            let listed = self.task.services.store.with(move |ledger| ledger.outputs(id)).await;
            let listed = listed.map_err(|error| Refused::new("reading the run's files", &error))?;
            self.files = listed.unwrap_or_default();
        }
        Ok(())
    }

    pub(super) fn now(&self) -> Now {
        self.task.services.clock.now()
    }

    /// Returns the newest state of the configuration.
    pub(super) fn config(&self) -> Arc<RuntimeConfig> {
        Arc::clone(&self.config.borrow())
    }

    /// Sets the activity that `status` shows.
    pub(super) async fn set_activity(&mut self, doing: String) {
        self.task.status.doing = doing;
        self.show().await;
    }

    pub(super) async fn show(&mut self) {
        let task = &mut self.task;
        let now = task.services.clock.now().wall;
        task.status.elapsed_ms =
            u64::try_from(now.since(task.status.since).as_millis()).unwrap_or(u64::MAX);
        let job = Box::new(task.status.clone());
        let project = task.project;
        self.report(JobReport::StatusChanged { project, job }).await;
    }

    pub(super) async fn set_state(&mut self, state: JobState, stage: JobStage) {
        self.task.status.state = state;
        self.report(JobReport::StageChanged { project: self.task.project, stage }).await;
    }

    pub(super) async fn report(&self, report: JobReport) {
        // The loop is gone only when the process ends.
        drop(self.task.services.reports.send(report).await);
    }

    /// Ends the job.
    async fn end(&mut self, end: flow::End) -> Result<JobEnd, Refused> {
        let reason = end.reason.map(|reason| texts::end_reason(self, reason));
        if !self.record_end(end, reason).await? {
            return Ok(JobEnd::Stopped);
        }
        let placed = end.state == JobState::Done && !self.record.own_folder;
        Ok(JobEnd::Ended { state: end.state, placed })
    }
}

/// Returns the next part of a wait that ends at `until`; `None` when it is over.
fn next_sleep(until: Moment, now: Moment) -> Option<Duration> {
    let left = until.since(now);
    (!left.is_zero()).then(|| left.min(MAX_SLEEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_ran_out_while_the_machine_slept_is_over_within_one_nap() {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let start = Moment::default();
        let until = start.plus(minutes(15));
        assert_eq!(next_sleep(until, start), Some(MAX_SLEEP), "no timer runs longer than a nap");
        assert!(MAX_SLEEP <= Duration::from_secs(20));
        // The lid is closed during the first nap, for eight hours: moments count them, timers
        // do not.
        assert_eq!(next_sleep(until, start.plus(minutes(8 * 60))), None);
        let last = Duration::from_secs(3);
        assert_eq!(next_sleep(until, until.minus(last)), Some(last));
        assert_eq!(next_sleep(until, until), None);
    }
}
