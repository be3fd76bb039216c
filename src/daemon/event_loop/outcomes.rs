//! The event loop's tasks and their results.
//!
//! Owns the names and the dispatch of the results. What a result means is decided by the function
//! that receives it.

use std::path::PathBuf;

use tokio::sync::oneshot;

use super::{EventLoop, projects::TakenProject, reload::Reloaded, watching::BuiltWatcher};
use crate::{
    daemon::{
        inputs::scan::{InputReader, Scan},
        services::{
            command::{CommandError, RepeatKind},
            errors::StartError,
            messages::JobEnd,
            root_locks::LockStatus,
            tasks::Finished,
        },
    },
    domain::{
        engine::event::{Event, ProjectId},
        job::JobId,
        money::budget::Spent,
        status,
    },
    ledger::rows::JobRow,
};

/// The loop's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskName {
    Scan(ProjectId),
    Job(ProjectId, JobId),
    /// Early work, notes, answers to commands: their results are sent through other channels.
    Background,
    Refresh(ProjectId),
    Reload,
    Housekeeping,
    Hands(ProjectId),
    Lock(ProjectId),
    /// A watcher is made.
    Watch,
    /// A drive that did not answer does.
    DriveBack(ProjectId),
    /// A project is taken over.
    TakeProject,
    /// What the ledger says of a job whose task panicked.
    Panicked(ProjectId, JobId),
    /// The socket's server; it never ends.
    Api,
    /// The manager of rented machines; it ends with the daemon.
    Machines,
}

/// The results of the tasks.
pub(crate) enum TaskOutcome {
    /// With the warnings of the watches, and whether those could be repaired before.
    Scanned(Box<(InputReader, Scan)>, Vec<String>, bool),
    Job(JobEnd),
    Refreshed(Box<Refreshed>),
    Reloaded(Box<Result<Reloaded, String>>, Replies),
    WatchesChecked(Box<WatchCheck>),
    Watching(Box<BuiltWatcher>),
    ProjectTaken(PathBuf, Box<Result<TakenProject, StartError>>),
    /// The message, and the job as the ledger has it.
    Panicked(String, Option<Box<JobRow>>),
    Hands(bool),
    LockStatus(LockStatus),
    Nothing,
    /// History was pruned, or the reason why not.
    Pruned(Option<String>),
    /// An earlier job's artifacts are public again in this project.
    Restored(ProjectId),
    /// The ledger records that a person cancelled this job.
    Cancel(JobId),
    /// A lost answer may be sent again.
    Resubmit(Box<JobRow>, RepeatKind),
    Stopped(String),
}

/// What a check of the watches brought.
pub(crate) struct WatchCheck {
    /// Of which watcher.
    pub(crate) generation: u64,
    pub(crate) warnings: Vec<String>,
    /// Which of the watched are polled.
    pub(crate) polled: Vec<bool>,
    /// Which projects changed without an event.
    pub(crate) changed: Vec<ProjectId>,
    /// Whose each project is.
    pub(crate) lock_statuses: Vec<(ProjectId, LockStatus)>,
}

/// Who waits to hear how a reload goes.
pub(crate) type Replies = Vec<oneshot::Sender<Result<String, CommandError>>>;

/// What the ledger says after a job ended.
pub(crate) struct Refreshed {
    pub(crate) last_job: Option<status::LastJob>,
    pub(crate) unknown: Vec<JobId>,
    pub(crate) spent: Spent,
}

/// How the daemon ended.
#[derive(Debug)]
pub enum DaemonEnd {
    /// It was told to stop.
    Stopped,
    /// The one job that it was started for ended.
    OneJob(Result<JobId, CommandError>),
    /// A background task ended.
    Broken(String),
}

impl EventLoop {
    /// Handles a task's result or the message of its panic; returns how the daemon ends, if
    /// it does.
    pub(crate) fn on_task_finished(
        &mut self,
        finished: Finished<TaskName, TaskOutcome>,
    ) -> Option<DaemonEnd> {
        match finished {
            Finished::Returned(
                TaskName::Scan(project),
                TaskOutcome::Scanned(seen, warnings, mended),
            ) => {
                self.warn(warnings);
                self.record_repair(project, mended);
                self.mark_responsive(project);
                let (reader, scan) = *seen;
                self.on_scan(project, reader, scan);
            }
            Finished::Returned(TaskName::Job(project, job), TaskOutcome::Job(end)) => {
                return self.on_job_end(project, job, end);
            }
            Finished::Returned(TaskName::Refresh(project), TaskOutcome::Refreshed(fresh)) => {
                self.spent = fresh.spent;
                if let Some(project_state) = self.projects.get_mut(&project) {
                    project_state.last_job = fresh.last_job;
                    project_state.unknown = fresh.unknown;
                }
                self.dirty = true;
            }
            Finished::Returned(TaskName::Reload, TaskOutcome::Reloaded(result, replies)) => {
                self.on_reloaded(*result, replies);
            }
            Finished::Returned(TaskName::Housekeeping, TaskOutcome::WatchesChecked(tended)) => {
                self.on_watches_checked(*tended);
            }
            Finished::Returned(TaskName::Watch, TaskOutcome::Watching(built)) => {
                self.on_watcher_built(*built);
            }
            Finished::Returned(TaskName::DriveBack(project), _) => self.mark_responsive(project),
            Finished::Returned(TaskName::TakeProject, TaskOutcome::ProjectTaken(root, taken)) => {
                self.on_project_taken(&root, *taken);
            }
            Finished::Returned(
                TaskName::Panicked(project, job),
                TaskOutcome::Panicked(message, row),
            ) => {
                return self.resolve_panicked_job(project, job, &message, row.map(|row| *row));
            }
            Finished::Returned(TaskName::Hands(project), TaskOutcome::Hands(tracked)) => {
                self.handle(Event::HandsChecked { project, tracked });
            }
            Finished::Returned(TaskName::Lock(project), TaskOutcome::LockStatus(lock_status)) => {
                if let Some(project_state) = self.projects.get_mut(&project) {
                    project_state.checking = false;
                }
                self.on_lock_status(project, lock_status);
            }
            Finished::Returned(TaskName::Api, TaskOutcome::Stopped(reason)) => {
                return Some(DaemonEnd::Broken(reason));
            }
            Finished::Returned(TaskName::Machines, _) => self.servers_running = false,
            Finished::Returned(_, TaskOutcome::Restored(project)) => {
                self.handle(Event::Restored { project });
            }
            Finished::Returned(_, TaskOutcome::Cancel(job)) => self.cancel_running(job),
            Finished::Returned(_, TaskOutcome::Pruned(fault)) => self.on_pruned(fault),
            Finished::Returned(_, TaskOutcome::Resubmit(row, kind)) => {
                self.resubmit_now(&row, kind);
            }
            Finished::Returned(_, _) => {}
            Finished::Panicked(TaskName::Job(project, job), message) => {
                self.job_panicked(project, job, message);
            }
            Finished::Panicked(TaskName::Background, message) => {
                // Its caller sees that no result comes; one broken picture must not stop
                // every project.
                self.warn([format!("a bug in conjured ended some early work: {message}")]);
            }
            Finished::Panicked(name, message) => {
                let reason = format!("the task {name:?} panicked: {message}");
                tracing::error!("{reason}");
                return Some(DaemonEnd::Broken(reason));
            }
        }
        None
    }
}
