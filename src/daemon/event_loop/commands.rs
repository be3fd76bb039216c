//! Handles commands from people and reports from jobs' tasks.
//!
//! Owns the answers: every command is answered exactly once, however its job ends.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use tokio::sync::oneshot;

use super::{
    EventLoop, STOPPING_MESSAGE,
    outcomes::{DaemonEnd, Refreshed, TaskName, TaskOutcome},
    signals::Signal,
};
use crate::{
    daemon::{
        inputs::project_state::ProjectState,
        jobs::{
            handoff::{hand_over_again, should_hand_over},
            restore::{self, RestoreContext, not_served, refused},
        },
        services::{
            command::{
                Command, CommandError, CommandErrorKind, OnceRequest, Restored, UserRequest,
            },
            drives::no_answer_message,
            messages::{Control, JobEnd, JobReport},
            root_locks::LockStatus,
        },
    },
    domain::{
        engine::event::{Event, ProjectId, RequestTicket},
        job::{JobId, JobState, control::JobControl, placement::Targets},
        status,
    },
    ledger::{
        error::LedgerError,
        rows::{Booking, JobFilter, JobRow, Reason},
    },
};

/// The most lost answers that `status` lists for a project.
const MAX_UNKNOWN: u32 = 20;

impl EventLoop {
    pub(crate) fn on_command(&mut self, command: Command) {
        match command {
            Command::Once { request, reply } => {
                self.enqueue_request(UserRequest { request, reply });
            }
            Command::Cancel { job, reply } => self.cancel(job, reply),
            Command::Restore { job, reply } => self.restore(job, reply),
            Command::Rate { job, rate, reply } => {
                let (store, now) = (self.services.store.clone(), self.clock.now().wall);
                self.tasks.spawn(TaskName::Background, async move {
                    let rated = store.with(move |ledger| restore::rate(ledger, job, &rate, now));
                    drop(reply.send(rated.await));
                    TaskOutcome::Nothing
                });
            }
            Command::Reload { reply } => self.reload(Some(reply)),
            Command::Stop { reply } => {
                drop(reply.send(Ok(STOPPING_MESSAGE.to_owned())));
                self.on_signal(Signal::Stop);
            }
        }
    }

    pub(crate) fn enqueue_request(&mut self, asked: UserRequest) {
        let project = match self.project_of(&asked.request) {
            Ok(project) => project,
            Err(error) => return drop(asked.reply.send(Err(error))),
        };
        if self.requested.len() >= crate::domain::engine::MAX_REQUESTED {
            let error = CommandError::new(
                CommandErrorKind::TryAgain,
                "too many jobs are already requested; nothing was started. Try again when some are \
                 done",
            );
            return drop(asked.reply.send(Err(error)));
        }
        self.next_ticket += 1;
        let ticket = RequestTicket(self.next_ticket);
        self.requested.insert(ticket, (project, asked));
        self.handle(Event::Requested { project, ticket });
    }

    fn project_of(&self, request: &OnceRequest) -> Result<ProjectId, CommandError> {
        let names = || {
            let names: Vec<&str> =
                self.projects.values().map(|project| project.config.name.as_str()).collect();
            names.join(", ")
        };
        match &request.project {
            Some(name) => self
                .projects
                .iter()
                .find(|(_, project)| project.config.name == *name)
                .map(|(id, _)| *id)
                .ok_or_else(|| {
                    let message = format!(
                        "there is no project `{name}`; the served projects are: {}",
                        names()
                    );
                    CommandError::new(CommandErrorKind::Usage, message)
                }),
            None if self.projects.is_empty() && !self.unresponsive_projects.is_empty() => {
                let words: Vec<String> =
                    self.unresponsive_projects.iter().map(no_answer_message).collect();
                Err(CommandError::new(CommandErrorKind::TryAgain, words.join("; ")))
            }
            None if self.projects.len() == 1 => {
                self.projects.keys().next().copied().ok_or_else(|| {
                    CommandError::new(CommandErrorKind::Configuration, "no project is configured")
                })
            }
            None => {
                let message =
                    format!("several projects are served ({}): choose one with --project", names());
                Err(CommandError::new(CommandErrorKind::Usage, message))
            }
        }
    }

    /// Cancels a job at a person's request.
    fn cancel(&mut self, job: JobId, reply: oneshot::Sender<Result<String, CommandError>>) {
        let at_work = self
            .projects
            .values()
            .find(|project| project.job.as_ref().is_some_and(|at_work| at_work.id == job));
        let found = at_work.is_some();
        let (store, now) = (self.services.store.clone(), self.clock.now().wall);
        self.tasks.spawn(TaskName::Background, async move {
            let said = store
                .with(move |ledger| {
                    let row = ledger.job(job)?;
                    if row.state == JobState::Unknown {
                        let reason = Reason::new(
                            "settled",
                            "closed by a person; its reservation counts as spent, because it is \
                             not known whether it ran",
                        );
                        ledger.cancelled(job, &reason, Booking::Reserved, now)?;
                        return Ok(format!(
                            "job {job} is closed as cancelled; its reservation of {} still counts \
                             as spent",
                            row.reserved
                        ));
                    }
                    // First the ledger, which alone knows whether the placement has begun; then the
                    // job's task.
                    ledger.raise_control(job, JobControl::Cancel, now)?;
                    Ok(if found {
                        format!("job {job} is being cancelled; a run that has begun may still be charged")
                    } else {
                        format!("job {job} is not active yet; it is cancelled when its turn comes")
                    })
                })
                .await;
            let answer = match said {
                Ok(said) => Ok(said),
                // It is being prepared and has no row yet: its task gets the cancel before anything
                // is sent.
                Err(LedgerError::NoSuchJob(_)) if found => Ok(format!("job {job} is cancelled")),
                Err(error) => Err(not_cancelled(job, &error)),
            };
            let outcome = if answer.is_ok() { TaskOutcome::Cancel(job) } else { TaskOutcome::Nothing };
            drop(reply.send(answer));
            outcome
        });
    }

    /// Tells the task of a job, if it is active, that a person cancelled it.
    pub(crate) fn cancel_running(&self, job: JobId) {
        let at_work =
            |project: &&ProjectState| project.job.as_ref().is_some_and(|at_work| at_work.id == job);
        if let Some(project) = self.projects.values().find(at_work) {
            project.set_control(Control::Cancel);
        }
    }

    /// Asks a deployment for its facts if that never happened: at the start and after a reload.
    /// Later, jobs repeat it.
    pub(crate) fn fetch_facts(&mut self) {
        let config = Arc::clone(&self.config.borrow());
        if config
            .at(crate::domain::job::choose_backend::BackendKind::Serverless)
            .as_ref()
            .is_ok_and(
                crate::daemon::services::runtime_config::backends::ConfiguredBackend::facts_unknown,
            )
        {
            let services = Arc::clone(&self.services);
            self.tasks.spawn(TaskName::Background, async move {
                crate::daemon::jobs::early_work::fetch_facts(&services, &config).await;
                TaskOutcome::Nothing
            });
        }
    }

    /// Places an earlier job's artifacts again.
    fn restore(&mut self, job: JobId, reply: oneshot::Sender<Result<Restored, CommandError>>) {
        let places: BTreeMap<ProjectId, (PathBuf, Targets)> = self
            .projects
            .iter()
            .map(|(id, project_state)| {
                (*id, (project_state.config.root.clone(), project_state.targets()))
            })
            .collect();
        let services = Arc::clone(&self.services);
        let config = services.config.borrow().clone();
        let workshop = RestoreContext {
            clock: self.clock,
            store: services.store.clone(),
            history: Arc::clone(&services.history),
            locks: services.locks.clone(),
        };
        self.tasks.spawn(TaskName::Background, async move {
            let row = workshop.store.with(move |ledger| ledger.job(job)).await;
            let restored = match row.map_err(|error| refused(&error)) {
                Ok(row) => match places.get(&row.project) {
                    Some((root, targets)) => {
                        let lock_status = services.root_locks.check(row.project).await;
                        if let LockStatus::Withheld(reason) = lock_status {
                            let command_error =
                                CommandError::new(CommandErrorKind::TryAgain, reason);
                            drop(reply.send(Err(command_error)));
                            return TaskOutcome::Nothing;
                        }
                        let notify_conjure = should_hand_over(&config, root).await;
                        let restored = workshop.restore(&row, root, targets, notify_conjure).await;
                        restored.map(|restored| (row, restored, notify_conjure))
                    }
                    None => Err(not_served(job)),
                },
                Err(command_error) => Err(command_error),
            };
            let known = restored
                .as_ref()
                .ok()
                .map(|(row, _, notify_conjure)| (row.project, *notify_conjure));
            drop(reply.send(restored.map(|(_, restored, _)| restored)));
            let Some((project, notify_conjure)) = known else { return TaskOutcome::Nothing };
            if notify_conjure && let Some((root, targets)) = places.get(&project).cloned() {
                hand_over_again(&services, project, job, root, targets).await;
            }
            TaskOutcome::Restored(project)
        });
    }

    pub(crate) fn on_job_report(&mut self, report: JobReport) {
        match report {
            JobReport::Started { project, job, inputs } => {
                if let Some(inputs) = inputs {
                    self.handle(Event::InputsTaken { project, inputs });
                }
                if let Some(reply) = self.starting.remove(&job) {
                    drop(reply.send(Ok(job)));
                }
                self.refresh_history(project);
            }
            JobReport::StageChanged { project, stage } => {
                self.handle(Event::StageChanged { project, stage });
            }
            JobReport::Imported { project } => self.handle(Event::Imported { project }),
            JobReport::LockStatus { project, lock_status } => {
                self.on_lock_status(project, lock_status);
            }
            JobReport::StatusChanged { project, job } => {
                if let Some(at_work) = self
                    .projects
                    .get_mut(&project)
                    .and_then(|project_state| project_state.job.as_mut())
                    && at_work.id == job.id
                {
                    at_work.status = Some(job);
                    self.dirty = true;
                }
            }
            JobReport::Warning(warning) => self.warn([warning]),
            JobReport::Unwritten { what, problem } => {
                match problem {
                    Some(problem) => self.unwritten.insert(what, problem),
                    None => self.unwritten.remove(what),
                };
                self.dirty = true;
            }
            JobReport::Facts(warnings) => {
                self.warn(warnings);
                self.dirty = true;
            }
            JobReport::TokenRefused => self.on_token_refused(),
            JobReport::Machines(machines) => {
                self.machines = machines;
                self.dirty = true;
            }
            JobReport::MachineMoney => {
                // The figures of any project include the sums.
                if let Some(project) = self.projects.keys().next().copied() {
                    self.refresh_history(project);
                }
            }
            JobReport::Balance(balance) => {
                self.balance = Some(balance);
                self.dirty = true;
            }
        }
    }

    /// Handles the end of a job's task. Returns how the daemon ends, if that was the one job it was
    /// started for.
    pub(crate) fn on_job_end(
        &mut self,
        project: ProjectId,
        job: JobId,
        end: JobEnd,
    ) -> Option<DaemonEnd> {
        if let Some(project_state) = self.projects.get_mut(&project) {
            project_state.job = None;
        }
        let reply = self.starting.remove(&job);
        let event = match end {
            JobEnd::NotStarted { kind, reason, retry_after } => {
                tracing::warn!(job = %job, "not started: {reason}");
                if let Some(reply) = reply {
                    drop(reply.send(Err(CommandError::new(kind, reason.clone()))));
                }
                let retry_at = retry_after.map(|wait| self.clock.now().moment.plus(wait));
                Event::NotStarted { project, retry_at, reason }
            }
            JobEnd::Ended { state, placed } => {
                if state == JobState::Unknown && self.one_job.is_none() && self.one_job_id.is_none()
                {
                    self.resubmit(job);
                }
                if let Some(reply) = reply {
                    drop(reply.send(Ok(job)));
                }
                Event::Ended { project, placed }
            }
            JobEnd::Stopped => Event::Ended { project, placed: false },
        };
        let next = self.waiting_jobs.iter().position(|row| row.project == project);
        match next.filter(|_| self.stopping.is_none()) {
            // An unfinished job of an earlier session comes before anything new.
            Some(at) => {
                let row = self.waiting_jobs.remove(at);
                self.resume_after(Some(event), project, row);
            }
            None => self.handle(event),
        }
        self.refresh_history(project);
        self.adopt_current_inputs(project);
        self.prune();
        if let Some(loaded) = self.pending_projects.take() {
            self.change_projects(&loaded);
        }
        (self.one_job_id == Some(job)).then_some(DaemonEnd::OneJob(Ok(job)))
    }

    /// A panic fails its job; what it left behind in the ledger stays true, and is asked for first.
    pub(crate) fn job_panicked(&mut self, project: ProjectId, job: JobId, message: String) {
        tracing::error!(job = %job, message, "the job's task panicked: a bug in conjured");
        let store = self.services.store.clone();
        self.tasks.spawn(TaskName::Panicked(project, job), async move {
            let row = store.with(move |ledger| ledger.job(job)).await.ok();
            TaskOutcome::Panicked(message, row.map(Box::new))
        });
    }

    /// Decides what becomes of a job whose task panicked.
    pub(crate) fn resolve_panicked_job(
        &mut self,
        project: ProjectId,
        job: JobId,
        message: &str,
        row: Option<JobRow>,
    ) -> Option<DaemonEnd> {
        let Some(row) = row else {
            // It never came to the ledger: nothing was sent.
            let reason = format!("a bug in conjured ended it before it was sent ({message})");
            let kind = CommandErrorKind::TryAgain;
            return self.on_job_end(
                project,
                job,
                JobEnd::NotStarted { kind, reason, retry_after: None },
            );
        };
        let paid = row.request.is_some() && !row.state.is_final();
        if paid && self.panicked.insert(job) {
            // Its result is paid for: it is resumed once from what the ledger says.
            if let Some(project_state) = self.projects.get_mut(&project) {
                project_state.job = None;
            }
            self.resume(project, row);
            return None;
        }
        let (store, now) = (self.services.store.clone(), self.clock.now().wall);
        let text = format!(
            "a bug in conjured ended it ({message}); if it was sent, it may have been charged"
        );
        let reason = Reason::new("panic", text);
        self.tasks.spawn(TaskName::Background, async move {
            let record = move |ledger: &mut crate::ledger::Ledger| {
                let row = ledger.job(job)?;
                match row.state {
                    // It is not known whether the request left.
                    JobState::Submitting => ledger.unknown(job, &reason, now),
                    _ => ledger.failed(job, &reason, row.job_cost().0, now),
                }
            };
            if let Err(error) = store.record("the panic of a job's task", record).await {
                tracing::error!(job = %job, %error, "could not record the job's failure");
            }
            TaskOutcome::Nothing
        });
        self.on_job_end(project, job, JobEnd::Ended { state: JobState::Failed, placed: false })
    }

    /// Reads from the ledger what `status` shows of past jobs and of money.
    pub(crate) fn refresh_history(&mut self, project: ProjectId) {
        let services = Arc::clone(&self.services);
        let windows = crate::daemon::services::budget_windows::windows(self.clock.now().wall);
        self.tasks.spawn(TaskName::Refresh(project), async move {
            let session = services.session;
            let fresh = services
                .store
                .with(move |ledger| {
                    let unknown = JobFilter {
                        states: vec![JobState::Unknown],
                        project: Some(project),
                        limit: Some(MAX_UNKNOWN),
                        before: None,
                    };
                    Ok::<_, LedgerError>(Refreshed {
                        last_job: ledger.last_finished(project)?.map(last_job),
                        unknown: ledger.jobs(&unknown)?.into_iter().map(|row| row.id).collect(),
                        spent: ledger.spent(session, &windows)?,
                    })
                })
                .await;
            match fresh {
                Ok(fresh) => TaskOutcome::Refreshed(Box::new(fresh)),
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "could not read the latest figures; the status shows older ones"
                    );
                    TaskOutcome::Nothing
                }
            }
        });
    }
}

/// Returns why a job was not cancelled.
pub(crate) fn not_cancelled(job: JobId, error: &LedgerError) -> CommandError {
    match error {
        LedgerError::Illegal { from, .. } if from.is_placing() => CommandError::new(
            CommandErrorKind::TryAgain,
            format!(
                "job {job} is being placed, so it can no longer be cancelled; nothing was changed. \
                 `conjured jobs restore` can show an earlier result again when it is done"
            ),
        ),
        LedgerError::Illegal { from, .. } => CommandError::new(
            CommandErrorKind::Usage,
            format!("job {job} is already `{from}`; nothing was cancelled"),
        ),
        LedgerError::NoSuchJob(_) => {
            CommandError::new(CommandErrorKind::NotFound, error.to_string())
        }
        _ => CommandError::new(CommandErrorKind::TryAgain, error.to_string()),
    }
}

fn last_job(row: JobRow) -> status::LastJob {
    status::LastJob {
        id: row.id,
        state: row.state,
        cost: row.spent(),
        ended_at: row.ended_at,
        reason: row.reason.map(|reason| reason.text),
    }
}

/// Waits for the one job's answer; stays pending if there is none to wait for.
pub(crate) async fn await_reply(
    receiver: &mut Option<oneshot::Receiver<Result<JobId, CommandError>>>,
) -> Result<JobId, CommandError> {
    let Some(answer) = receiver.as_mut() else { return std::future::pending().await };
    let answer = answer.await;
    *receiver = None;
    answer.unwrap_or_else(|_| {
        Err(CommandError::new(CommandErrorKind::TryAgain, "the request was dropped"))
    })
}
