//! The event loop's tasks and their results.
//!
//! Owns the names and the dispatch of the results. What a result means is decided by the function
//! that receives it.

use tokio::sync::oneshot;

use super::{Shell, reload::Reloaded};
use crate::{
    daemon::{
        inputs::scan::{Eyes, Look},
        services::{
            command::{AgainKind, Refused},
            messages::JobEnd,
            root_locks::Standing,
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
    Look(ProjectId),
    Job(ProjectId, JobId),
    /// Early work, notes, answers to commands: their results are sent through other channels.
    Errand,
    Refresh(ProjectId),
    Reload,
    Housekeeping,
    Hands(ProjectId),
    Lock(ProjectId),
    /// The socket's server; it never ends.
    Api,
    /// The manager of rented machines; it ends with the daemon.
    Machines,
}

/// The results of the tasks.
pub(crate) enum Outcome {
    Looked(Box<(Eyes, Look)>, Vec<String>),
    Job(JobEnd),
    Refreshed(Box<Refreshed>),
    Reloaded(Box<Result<Reloaded, String>>, Option<oneshot::Sender<Result<String, Refused>>>),
    /// Warnings, which of the watched projects are polled, and which ones changed without an event.
    Tended(Vec<String>, Vec<bool>, Vec<ProjectId>),
    Hands(bool),
    Standing(Standing),
    Nothing,
    /// History was pruned, or the reason why not.
    Tidied(Option<String>),
    /// An earlier job's artifacts are public again in this project.
    Restored(ProjectId),
    /// The ledger records that a person cancelled this job.
    Cancel(JobId),
    /// A lost answer may be sent again.
    Resubmit(Box<JobRow>, AgainKind),
    Stopped(String),
}

/// What the ledger says after a job ended.
pub(crate) struct Refreshed {
    pub(crate) last_job: Option<status::LastJob>,
    pub(crate) unknown: Vec<JobId>,
    pub(crate) spent: Spent,
}

/// How the daemon ended.
#[derive(Debug)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// The one job that it was started for ended.
    OneJob(Result<JobId, Refused>),
    /// A background task ended.
    Broken(String),
}

impl Shell {
    /// Handles a task's result or the message of its panic; returns how the daemon ends, if
    /// it does.
    pub(crate) fn finished(&mut self, finished: Finished<TaskName, Outcome>) -> Option<Ended> {
        match finished {
            Finished::Returned(TaskName::Look(project), Outcome::Looked(seen, warnings)) => {
                self.warn(warnings);
                let (eyes, look) = *seen;
                self.looked(project, eyes, look);
            }
            Finished::Returned(TaskName::Job(project, job), Outcome::Job(end)) => {
                return self.job_ended(project, job, end);
            }
            Finished::Returned(TaskName::Refresh(project), Outcome::Refreshed(fresh)) => {
                self.spent = fresh.spent;
                if let Some(served) = self.served.get_mut(&project) {
                    served.last_job = fresh.last_job;
                    served.unknown = fresh.unknown;
                }
                self.dirty = true;
            }
            Finished::Returned(TaskName::Reload, Outcome::Reloaded(result, reply)) => {
                self.reloaded(*result, reply);
            }
            Finished::Returned(
                TaskName::Housekeeping,
                Outcome::Tended(warnings, polled, changed),
            ) => {
                self.tending = false;
                self.warn(warnings);
                self.note_polled(&polled);
                let now = self.clock.now().moment;
                for project in changed {
                    if let Some(served) = self.served.get_mut(&project) {
                        served.look_at(now);
                    }
                }
                self.look_where_due();
            }
            Finished::Returned(TaskName::Hands(project), Outcome::Hands(tracked)) => {
                self.handle(Event::Hands { project, tracked });
            }
            Finished::Returned(TaskName::Lock(project), Outcome::Standing(standing)) => {
                if let Some(served) = self.served.get_mut(&project) {
                    served.checking = false;
                }
                self.stands(project, standing);
            }
            Finished::Returned(TaskName::Api, Outcome::Stopped(reason)) => {
                return Some(Ended::Broken(reason));
            }
            Finished::Returned(TaskName::Machines, _) => self.keeping = false,
            Finished::Returned(_, Outcome::Restored(project)) => {
                self.handle(Event::Restored { project });
            }
            Finished::Returned(_, Outcome::Cancel(job)) => self.cancel_at_work(job),
            Finished::Returned(_, Outcome::Tidied(fault)) => self.tidied(fault),
            Finished::Returned(_, Outcome::Resubmit(row, kind)) => self.resubmit_now(&row, kind),
            Finished::Returned(_, _) => {}
            Finished::Panicked(TaskName::Job(project, job), message) => {
                return self.job_panicked(project, job, &message);
            }
            Finished::Panicked(TaskName::Errand, message) => {
                // Its caller sees that no result comes; one broken picture must not stop
                // every project.
                self.warn([format!("a bug in conjured ended some early work: {message}")]);
            }
            Finished::Panicked(name, message) => {
                let reason = format!("the task {name:?} panicked: {message}");
                tracing::error!("{reason}");
                return Some(Ended::Broken(reason));
            }
        }
        None
    }
}
