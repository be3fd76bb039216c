//! One job as a task, from release to placement. The event loop owns the task.
//!
//! Owns the order of the steps and what is recorded in the ledger before each of them (see
//! `ARCHITECTURE.md`, "One change, step by step"). Decides nothing that concerns other jobs. Every
//! wait also listens for a [`Control`]; a step that must not be interrupted (reading the answer to
//! a submit) has a time limit instead.
//!
//! - [`cached`]: reuses the artifacts of an earlier job with the same work, free of charge;
//! - [`submit`]: release in the ledger, submit, the three outcomes; [`submit::before_submit`]: the
//!   waits before a submit; [`hold`]: checks that the project is still locked by this daemon;
//!   [`submit::mark_submitting`]: the mark for a request that leaves later;
//!   [`submit::acquire_server`]: the lease of a rented machine; [`failover`]: retry, another
//!   backend, or failure;
//! - [`poll`]: status calls until the run ends; [`poll::poll_errors`]: failed status calls;
//!   [`poll::cancel_request`]: time-outs and cancellation;
//! - [`fetch`]: downloads every artifact into history; [`fetch::download`]: one try, with the last
//!   check before a file gets an artifact's name;
//! - [`publish`]: placement, with retries while folders cannot be written;
//! - [`take_up`]: resumes a job after the ledger refused a step.

pub(crate) mod setup;
pub(crate) mod early_work;
pub(crate) mod routing;
mod cached;
mod submit;
mod hold;
mod failover;
mod poll;
mod fetch;
mod publish;
pub(crate) mod handoff;
pub(crate) mod rerun;
pub(crate) mod restore;
pub(crate) mod job_json;
mod take_up;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;

use self::poll::FollowOutcome;
pub(crate) use self::{
    failover::{lost_answer, past_attempts},
    publish::OUT_FOLDER,
    setup::{JobSpec, JobStart},
};
pub(crate) use super::services::messages::{Control, JobEnd, JobReport};
use super::services::{Services, leases::Lease, runtime_config::RuntimeConfig};
use crate::{
    backend::{Backend, Payload, ServiceFault},
    domain::{
        engine::event::{JobStage, ProjectId},
        job::{
            JobId, JobState, RequestId,
            choose_backend::{BackendKind, PastAttempt},
            placement::Targets,
        },
        money::{
            estimate::{Estimate, PastTimings},
            job_cost::PriceTerms,
        },
        status,
        time::Moment,
    },
    ledger::{
        Ledger,
        error::LedgerError,
        rows::{JobRow, Reason},
    },
};

/// How following a request ended.
enum FollowResult {
    /// Every artifact is in history and checked.
    Fetched(fetch::Fetched),
    /// The job fails over; this is the work for its new backend.
    Rerouted(Payload),
}

pub(crate) struct JobRun {
    pub(crate) services: Arc<Services>,
    pub(crate) control: watch::Receiver<Control>,
    pub(crate) project: ProjectId,
    pub(crate) id: JobId,
    pub(crate) targets: Targets,
    pub(crate) status: status::Job,
    pub(crate) learned: PastTimings,
    /// The estimate at its release; for a resumed job it is computed again.
    pub(crate) estimate: Estimate,
    /// The backend that runs it.
    pub(crate) backend: BackendKind,
    /// Past attempts and how they ended.
    pub(crate) attempts: Vec<PastAttempt>,
    /// The lease of the rented machine that it runs on, while it needs one.
    pub(crate) lease: Option<Lease>,
    /// The deployment that it was sent to: a reload may have configured another one since.
    pub(crate) deployment: Option<String>,
    /// The terms of its newest submit.
    pub(crate) terms: PriceTerms,
    /// The service could no longer cancel it: the job continues as if nobody had asked.
    pub(crate) cancel_too_late: bool,
    /// Whether its artifacts are placed under the project's public names.
    pub(crate) public: bool,
    /// The downloaded bytes that are not in the ledger yet.
    pub(crate) received: u64,
    /// The project's checkout.
    pub(crate) root: PathBuf,
    /// The id of the accepted request, known before and after it is in the ledger: a ledger that
    /// refuses the id must not turn a paid run into an `unknown` one.
    pub(crate) accepted_request: Option<RequestId>,
}

/// The longest single sleep. The runtime's timers do not count the time for which the machine
/// sleeps; a wait that ran out while the lid was closed ends this soon after it opens.
const MAX_SLEEP: Duration = Duration::from_secs(20);

/// Returns the next part of a wait that ends at `until`; `None` when it is over.
fn next_sleep(until: Moment, now: Moment) -> Option<Duration> {
    let left = until.since(now);
    (!left.is_zero()).then(|| left.min(MAX_SLEEP))
}

/// A step's result: the next step's input, or the end of the job.
type Step<T> = Result<T, JobEnd>;

impl JobRun {
    /// Runs the job to its end. A step that the ledger refused does not end it, because a
    /// request may have been paid for: the job is resumed from what the ledger says, after
    /// increasing waits.
    pub(crate) async fn run(mut self, mut start: JobStart) -> JobEnd {
        let mut interruptions = 0;
        loop {
            let reason = match self.steps(start).await {
                Ok(JobEnd::Interrupted { reason }) | Err(JobEnd::Interrupted { reason }) => reason,
                Ok(end) | Err(end) => return end,
            };
            match self.take_up(reason, &mut interruptions).await {
                Ok(row) => start = JobStart::Resume(Box::new(row)),
                Err(end) => return end,
            }
        }
    }

    async fn steps(&mut self, start: JobStart) -> Step<JobEnd> {
        let placing = match start {
            JobStart::New(spec) => {
                if let Some((earlier, _claim)) = self.find_same_work(&spec).await {
                    let fetched = self.reuse_artifacts(*spec, earlier).await?;
                    return self.publish(fetched).await;
                }
                let payload = self.release(*spec).await?;
                self.send_and_fetch(payload).await?
            }
            JobStart::Resume(row)
                if matches!(row.state, JobState::Placed | JobState::HandingOver) =>
            {
                return self.finish_placed(row.state).await;
            }
            JobStart::Resume(row) => self.resume(&row).await?,
        };
        // A job whose artifacts are in history needs no machine.
        self.lease = None;
        self.publish(placing).await
    }

    /// Continues where another session stopped.
    async fn resume(&mut self, row: &JobRow) -> Step<fetch::Fetched> {
        match row.state {
            JobState::Prepared => {
                if let Some(earlier) = row.cached_from {
                    return self.resume_reuse(earlier).await;
                }
                let payload = self.rebuild(row).await?;
                let payload = self.submit_later(payload).await?;
                self.send_and_fetch(payload).await
            }
            JobState::Submitted | JobState::Running => match row.request.clone() {
                Some(request) => match self.follow_and_fetch(request, Some(row)).await? {
                    FollowResult::Fetched(fetched) => Ok(fetched),
                    FollowResult::Rerouted(payload) => {
                        let payload = self.submit_later(payload).await?;
                        self.send_and_fetch(payload).await
                    }
                },
                // The ledger writes the state and the id in one transaction.
                None => Err(self.fail("no_request", "the ledger contains no request id").await),
            },
            JobState::Fetched | JobState::Placing => self.resume_fetched(row).await,
            // `mark_lost_answers` ran before any job was resumed, a placed job only has to be
            // finished, and ended jobs are not resumed.
            JobState::Submitting
            | JobState::Placed
            | JobState::HandingOver
            | JobState::Done
            | JobState::Failed
            | JobState::Cancelled
            | JobState::Replaced
            | JobState::Unknown => Err(JobEnd::Ended { state: row.state, placed: false }),
        }
    }

    /// Sends a request that is marked as submitting, and continues until its artifacts are in
    /// history; fails over if necessary.
    async fn send_and_fetch(&mut self, mut payload: Payload) -> Step<fetch::Fetched> {
        loop {
            let request = self.send(payload).await?;
            match self.follow_and_fetch(request, None).await? {
                FollowResult::Fetched(fetched) => return Ok(fetched),
                FollowResult::Rerouted(other) => payload = self.submit_later(other).await?,
            }
        }
    }

    async fn follow_and_fetch(
        &mut self,
        request: RequestId,
        row: Option<&JobRow>,
    ) -> Step<FollowResult> {
        self.status.request = Some(request.to_string());
        if let Some(row) = row {
            self.reacquire_server(row).await?;
        }
        if row.is_some()
            && let Some(ended) = self.known_outputs().await
        {
            return self.fetch(&request, ended).await.map(FollowResult::Fetched);
        }
        match self.follow(&request, row).await? {
            FollowOutcome::Ended(ended) => {
                self.fetch(&request, ended).await.map(FollowResult::Fetched)
            }
            FollowOutcome::Rerouted(payload) => Ok(FollowResult::Rerouted(payload)),
        }
    }

    /// Records in the ledger what has happened; see [`Store::record`].
    async fn record(
        &self,
        what: &'static str,
        operation: impl Fn(&mut Ledger) -> Result<(), LedgerError> + Clone + Send + 'static,
    ) -> Step<()> {
        let recorded = self.services.store.record(what, operation).await;
        recorded.map_err(|error| interrupted(what, &error))
    }

    /// Returns the newest state of the configuration.
    fn config(&self) -> Arc<RuntimeConfig> {
        Arc::clone(&self.services.config.borrow())
    }

    /// Waits for a usable backend: its token may have been removed while the job was running. This
    /// is for jobs that run remotely: a cancel that arrives meanwhile is sent as soon as possible,
    /// and the job's status says so.
    async fn backend(&mut self) -> Step<Arc<dyn Backend>> {
        loop {
            if let Some(backend) = self.backend_or_control().await? {
                return Ok(backend);
            }
        }
    }

    /// Waits for a usable backend; returns `None` if the job's control changes first.
    async fn backend_or_control(&mut self) -> Step<Option<Arc<dyn Backend>>> {
        if let Some(rented) = self.leased_backend().await {
            return rented.map(Some);
        }
        let mut config = self.services.config.clone();
        loop {
            let now = Arc::clone(&config.borrow_and_update());
            // A change of mode only affects new work: a submitted request is followed where it is.
            let sent = self.status.request.is_some();
            let unready = match if sent { now.known_at(self.backend) } else { now.at(self.backend) }
            {
                Ok(configured) => match configured.backend_of(self.deployment.as_deref()) {
                    Ok(backend) => return Ok(Some(backend)),
                    Err(none) => none.to_string(),
                },
                Err(unavailable) => unavailable.reason.clone(),
            };
            let doing = if self.is_cancelled() && self.status.request.is_some() {
                format!(
                    "will be cancelled at the service once the configuration is usable: {unready}"
                )
            } else {
                format!("waiting for a usable configuration: {unready}")
            };
            self.set_activity(doing).await;
            tokio::select! {
                changed = config.changed() => {
                    if changed.is_err() {
                        return Err(JobEnd::Stopped);
                    }
                }
                control = control_changed(&mut self.control) => {
                    return if control == Control::Stop { Err(JobEnd::Stopped) } else { Ok(None) };
                }
            }
        }
    }

    /// Waits for the backend that has the files of a finished run; a cancelled job does not wait
    /// for a configuration.
    async fn backend_for_files(&mut self) -> Step<Arc<dyn Backend>> {
        loop {
            match self.backend_or_control().await? {
                Some(backend) => return Ok(backend),
                None if self.is_cancelled() => return Err(self.end_cancelled_after_run().await),
                None => {}
            }
        }
    }

    /// Returns whether a person cancelled the job. Nothing of it is placed then, whatever the
    /// service does with the cancel.
    fn is_cancelled(&self) -> bool {
        *self.control.borrow() == Control::Cancel
    }

    /// Waits; returns early if the control differs from `known`.
    async fn wait_or_control(&mut self, wait: Duration, known: Control) -> Option<Control> {
        let current = *self.control.borrow_and_update();
        if current != known {
            return Some(current);
        }
        let until = self.services.clock.now().moment.plus(wait);
        loop {
            let nap = next_sleep(until, self.services.clock.now().moment)?;
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                control = control_changed(&mut self.control) => return Some(control),
            }
        }
    }

    /// Sets the activity that `status` shows.
    async fn set_activity(&mut self, doing: String) {
        self.status.doing = doing;
        self.show().await;
    }

    async fn show(&mut self) {
        let now = self.services.clock.now().wall;
        self.status.elapsed_ms =
            u64::try_from(now.since(self.status.since).as_millis()).unwrap_or(u64::MAX);
        let job = Box::new(self.status.clone());
        self.report(JobReport::StatusChanged { project: self.project, job }).await;
    }

    async fn set_state(&mut self, state: JobState, stage: JobStage) {
        self.status.state = state;
        self.report(JobReport::StageChanged { project: self.project, stage }).await;
    }

    async fn report(&self, report: JobReport) {
        // The loop is gone only when the process ends.
        drop(self.services.reports.send(report).await);
    }

    /// Ends the job as failed and keeps the reservation, because it is not known what ran.
    async fn fail(&mut self, code: &str, text: &str) -> JobEnd {
        self.end_failed(Reason::new(code, text), crate::ledger::rows::Booking::Reserved).await
    }
}

/// Waits until the control changes; if the loop is gone, returns `Stop`.
async fn control_changed(control: &mut watch::Receiver<Control>) -> Control {
    match control.changed().await {
        Ok(()) => *control.borrow_and_update(),
        Err(_) => Control::Stop,
    }
}

/// Ends a step that the ledger refused; the job is resumed.
fn interrupted(what: &'static str, error: &LedgerError) -> JobEnd {
    JobEnd::Interrupted { reason: format!("a ledger operation failed ({what}): {error}") }
}

/// Converts a service's fault into a reason.
fn reason_of(fault: &ServiceFault) -> Reason {
    let code = fault.code.map_or_else(|| format!("http_{}", fault.status), |code| code.to_string());
    let text = if fault.message.is_empty() {
        fault.advice.to_owned()
    } else {
        format!("{} ({})", fault.advice, fault.message)
    };
    Reason::new(code, text)
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
