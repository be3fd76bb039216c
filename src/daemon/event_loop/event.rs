//! What the event loop waits for, as values: each of its sources becomes a [`LoopEvent`].
//!
//! Owns the types, among them the names of the loop's tasks and their results. What an event means
//! is decided by [`super::state`].

use std::path::PathBuf;

use super::{
    signals::Signal,
    tasks::{projects::TakenProject, reload::Reloaded, watching::BuiltWatcher},
};
use crate::{
    daemon::{
        inputs::scan::{InputReader, Scan},
        services::{
            command::{Command, CommandError, RepeatKind, Reply},
            errors::StartError,
            messages::{JobEnd, JobReport},
            root_locks::LockStatus,
            tasks::Finished,
        },
    },
    domain::{engine::event::ProjectId, job::JobId, money::budget::Spent, status},
    ledger::rows::JobRow,
};

/// One thing that happened.
pub(crate) enum LoopEvent {
    /// The loop begins.
    Started,
    /// A task of the loop ended.
    TaskFinished(Finished<TaskName, TaskOutcome>),
    /// A job's task, or another background task, reports.
    Reported(JobReport),
    /// A person's command.
    Commanded(Command),
    /// The process received a signal.
    Signalled(Signal),
    /// The owner of the daemon orders it to stop.
    StopOrdered,
    /// The watcher saw something that may be a change.
    Woken {
        /// The projects whose inputs may have changed.
        projects: Vec<ProjectId>,
        /// Whether a configuration file may have changed.
        config: bool,
    },
    /// The one job of `conjured once` is in the ledger, or was refused.
    OneJobAnswered(Result<JobId, CommandError>),
    /// A deadline has passed.
    Timer,
}

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
    /// A watcher is built.
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

/// The result of a check of the watches.
pub(crate) struct WatchCheck {
    /// The number of the watcher that was checked.
    pub(crate) generation: u64,
    pub(crate) warnings: Vec<String>,
    /// Which of the watched are polled.
    pub(crate) polled: Vec<bool>,
    /// Which projects changed without an event.
    pub(crate) changed: Vec<ProjectId>,
    /// Whether each project's lock is still ours.
    pub(crate) lock_statuses: Vec<(ProjectId, LockStatus)>,
}

/// The callers that wait for the result of a reload.
pub(crate) type Replies = Vec<Reply<String>>;

/// What the ledger says after a job ended.
#[derive(Debug)]
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
