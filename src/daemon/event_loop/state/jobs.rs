//! Handles everything about active jobs: their start, their reports, their end, a panic.
//!
//! Owns what each of these means for the engine and for the caller that waits. It never changes a
//! decision of the engine: if a job cannot be started, the engine is told so.

use std::time::Duration;

use super::{
    super::{
        action::Action,
        event::{DaemonEnd, Refreshed},
        spawn_job::{NewJob, NewJobSource},
    },
    DaemonState,
    ending::OneJob,
};
use crate::{
    daemon::{
        inputs::project_state::ProjectState,
        services::{
            command::{CommandError, CommandErrorKind},
            messages::{Control, JobEnd, JobReport},
        },
    },
    domain::{
        engine::event::{Event, JobSource, ProjectId},
        job::{Cause, Inputs, JobId, JobState, choose_backend::BackendKind},
        money::MicroUsd,
        status,
        time::{Now, WallTime},
    },
    ledger::rows::{JobRow, Reason},
};

/// The delay before a job is retried whose render is not in memory.
const RESCAN_DELAY: Duration = Duration::from_millis(500);

impl DaemonState {
    /// Starts the early work for a snapshot.
    pub(super) fn prepare(&mut self, project: ProjectId, inputs: Inputs) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        let Some(content) = project_state.snapshot_content(inputs) else { return };
        project_state.begin_early_work(inputs, self.reloading.generation());
        self.push(Action::PrepareEarly { project, content });
    }

    /// Starts a job.
    pub(super) fn start(&mut self, project: ProjectId, work: JobSource, cause: Cause, now: Now) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        let config = project_state.config().clone();
        let mut targets = project_state.targets();
        let root = config.root.clone();
        let mut out = None;
        let source = match work {
            JobSource::Snapshot(inputs) => {
                let early = project_state.take_early_work(inputs, self.reloading.generation());
                match project_state.snapshot_content(inputs) {
                    content if early => Ok(NewJobSource::EarlyWork(content)),
                    Some(content) => Ok(NewJobSource::Snapshot(content)),
                    None => {
                        // The render is being written at this moment, or changed without an event:
                        // both files are read again.
                        project_state.rescan(now.moment);
                        let reason = "the render is being written; retrying when it is complete";
                        Err(not_started(reason, Some(RESCAN_DELAY)))
                    }
                }
            }
            JobSource::Requested(ticket) => match self.requests.take(ticket) {
                Some(asked) => {
                    if let Some(folder) = &asked.request.out {
                        targets = targets.within(folder);
                        out = Some(folder.clone());
                    }
                    Ok(NewJobSource::Requested(asked, Box::new(config)))
                }
                None => Err(caller_left()),
            },
        };
        project_state.discard_early_work();
        let id = JobId::from_parts(now.wall, (self.random)());
        let status = preparing_job(id, cause, self.config.first(), now.wall);
        project_state.begin_job(status.clone());
        match source {
            Ok(source) => {
                let job = NewJob { project, id, cause, targets, root, out, status };
                self.push(Action::StartJob { job: Box::new(job), source });
            }
            Err(end) => self.push(Action::EndUnstarted { project, job: id, end }),
        }
    }

    /// Tells the active job of a project what is wanted of it.
    pub(super) fn control(&mut self, project: ProjectId, control: Control) {
        let job = self.projects.get(&project).and_then(ProjectState::job_id);
        if let Some(job) = job {
            self.push(Action::ControlJob { job, control });
        }
    }

    /// Tells the task of a job, if it is active, that a person cancelled it.
    pub(super) fn cancel_running(&mut self, job: JobId) {
        if self.projects.values().any(|project| project.runs(job)) {
            self.push(Action::ControlJob { job, control: Control::Cancel });
        }
    }

    pub(super) fn on_job_report(&mut self, report: JobReport, now: Now) {
        match report {
            JobReport::Started { project, job, inputs } => {
                if let Some(inputs) = inputs {
                    self.decide(Event::InputsTaken { project, inputs }, now);
                }
                self.push(Action::AnswerJob { job, answer: Some(Ok(job)) });
                self.push(Action::Refresh { project });
            }
            JobReport::StageChanged { project, stage } => {
                self.decide(Event::StageChanged { project, stage }, now);
            }
            JobReport::Imported { project } => self.decide(Event::Imported { project }, now),
            JobReport::LockStatus { project, lock_status } => {
                self.on_lock_status(project, lock_status, now);
            }
            JobReport::StatusChanged { project, job } => {
                let project = self.projects.get_mut(&project);
                if project.is_some_and(|project| project.show_job(job)) {
                    self.publication.mark_changed();
                }
            }
            JobReport::Warning(warning) => self.warn([warning]),
            JobReport::Unwritten { what, problem } => self.set_unwritten(what, problem),
            JobReport::Facts(warnings) => {
                self.warn(warnings);
                self.publication.mark_changed();
            }
            JobReport::TokenRefused => self.on_token_refused(now.moment),
            JobReport::Machines(machines) => self.set_machines(machines),
            JobReport::MachineMoney => {
                // The figures of any project include the sums.
                if let Some(project) = self.projects.keys().next().copied() {
                    self.push(Action::Refresh { project });
                }
            }
            JobReport::Balance(balance) => self.set_balance(balance),
        }
    }

    /// Handles the end of a job's task. Returns how the daemon ends, if that was the one job it was
    /// started for.
    pub(super) fn on_job_end(
        &mut self,
        project: ProjectId,
        job: JobId,
        end: JobEnd,
        now: Now,
    ) -> Option<DaemonEnd> {
        if let Some(project_state) = self.projects.get_mut(&project) {
            project_state.end_job();
        }
        let (answer, event) = match end {
            JobEnd::NotStarted { kind, reason, retry_after } => {
                tracing::warn!(job = %job, "not started: {reason}");
                let retry_at = retry_after.map(|wait| now.moment.plus(wait));
                let error = CommandError::new(kind, reason.clone());
                (Some(Err(error)), Event::NotStarted { project, retry_at, reason })
            }
            JobEnd::Ended { state, placed } => {
                if state == JobState::Unknown && self.ending.one_job() == OneJob::None {
                    self.resubmit(job);
                }
                (Some(Ok(job)), Event::Ended { project, placed })
            }
            JobEnd::Stopped => (None, Event::Ended { project, placed: false }),
        };
        self.push(Action::AnswerJob { job, answer });
        self.resume_next(project, event, now);
        self.push(Action::Refresh { project });
        self.adopt_current_inputs(project, now);
        self.prune();
        self.change_projects_if_pending(now);
        (self.ending.one_job() == OneJob::Known(job)).then_some(DaemonEnd::OneJob(Ok(job)))
    }

    /// Reads what `status` shows of every project's past jobs.
    pub(crate) fn refresh_all(&mut self) {
        for project in self.projects.keys() {
            self.actions.push(Action::Refresh { project: *project });
        }
    }

    /// Takes over what the ledger says of past jobs and of money.
    pub(super) fn on_refreshed(&mut self, project: ProjectId, fresh: Refreshed) {
        self.set_spent(fresh.spent);
        if let Some(project_state) = self.projects.get_mut(&project) {
            project_state.set_past_jobs(fresh.last_job, fresh.unknown);
        }
    }

    /// A panic fails its job; what it left behind in the ledger stays true, and is asked for first.
    pub(super) fn on_job_panicked(&mut self, project: ProjectId, job: JobId, message: String) {
        tracing::error!(job = %job, message, "the job's task panicked: a bug in conjured");
        self.push(Action::ReadPanicked { project, job, message });
    }

    /// Decides what becomes of a job whose task panicked.
    pub(super) fn resolve_panicked_job(
        &mut self,
        project: ProjectId,
        job: JobId,
        message: &str,
        row: Option<JobRow>,
        now: Now,
    ) -> Option<DaemonEnd> {
        let Some(row) = row else {
            // It never came to the ledger: nothing was sent.
            let reason = format!("a bug in conjured ended it before it was sent ({message})");
            let kind = CommandErrorKind::TryAgain;
            let end = JobEnd::NotStarted { kind, reason, retry_after: None };
            return self.on_job_end(project, job, end, now);
        };
        let paid = row.request.is_some() && !row.state.is_final();
        if paid && self.resumptions.first_panic(job) {
            // Its result is paid for: it is resumed once from what the ledger says.
            if let Some(project_state) = self.projects.get_mut(&project) {
                project_state.end_job();
            }
            self.resume(project, row, now);
            return None;
        }
        let text = format!(
            "a bug in conjured ended it ({message}); if it was sent, it may have been charged"
        );
        self.push(Action::RecordPanic { job, reason: Reason::new("panic", text) });
        let end = JobEnd::Ended { state: JobState::Failed, placed: false };
        self.on_job_end(project, job, end, now)
    }
}

/// Returns the end of a job whose caller left while it was queued: it must not be paid for.
pub(crate) fn caller_left() -> JobEnd {
    not_started("the command that requested it has ended; nothing was sent", None)
}

/// Returns the end of a job that cannot start now.
fn not_started(reason: &str, retry_after: Option<Duration>) -> JobEnd {
    let kind = CommandErrorKind::TryAgain;
    JobEnd::NotStarted { kind, reason: reason.to_owned(), retry_after }
}

/// Returns what `status` shows of a job that is being prepared.
fn preparing_job(id: JobId, cause: Cause, backend: BackendKind, since: WallTime) -> status::Job {
    status::Job {
        id,
        state: JobState::Prepared,
        cause,
        doing: "preparing the request".to_owned(),
        since,
        backend: backend.name().to_owned(),
        why: None,
        progress: None,
        request: None,
        queue_position: None,
        cold: None,
        elapsed_ms: 0,
        eta: None,
        received: None,
        estimate: MicroUsd::ZERO,
    }
}
