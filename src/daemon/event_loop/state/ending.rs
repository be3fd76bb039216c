//! The end of the daemon: how it stops, and for which reason.
//!
//! Owns the order of a stop, how long active jobs may take, and the one job of `conjured once`,
//! with which the loop ends.

use std::time::Duration;

use super::{
    super::{
        action::{Action, ManagerNotice},
        event::DaemonEnd,
        signals::Signal,
    },
    DaemonState,
};
use crate::{
    daemon::{
        inputs::project_state::ProjectState,
        services::{command::CommandError, messages::Control},
    },
    domain::{
        engine::event::Event,
        job::JobId,
        time::{Moment, Now},
    },
};

/// The message of a stop.
pub(super) const STOPPING_MESSAGE: &str =
    "stopping: remote jobs continue, and the next start picks them up";

/// How long a stop may take: jobs finish what must not be broken off, the ledger is closed.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// Whether and how the daemon ends.
#[derive(Debug)]
pub(super) struct Ending {
    /// Until when active jobs may take, once the daemon stops.
    stop_until: Option<Moment>,
    /// How the daemon ends, after its active jobs have stopped.
    end: Option<DaemonEnd>,
    one_job: OneJob,
    /// Whether the task that manages rented machines is still running.
    servers_running: bool,
}

/// The one job that a daemon was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OneJob {
    /// There is none, or it was refused.
    None,
    /// It is not in the ledger yet.
    Requested,
    /// It is in the ledger.
    Known(JobId),
}

impl Ending {
    pub(super) const fn new(one_job: bool) -> Self {
        let one_job = if one_job { OneJob::Requested } else { OneJob::None };
        Self { stop_until: None, end: None, one_job, servers_running: true }
    }

    /// Returns whether the daemon stops.
    pub(super) const fn is_stopping(&self) -> bool {
        self.stop_until.is_some()
    }

    /// Returns until when active jobs may take, once the daemon stops.
    pub(super) const fn stop_until(&self) -> Option<Moment> {
        self.stop_until
    }

    /// Returns the one job that the daemon was started for.
    pub(super) const fn one_job(&self) -> OneJob {
        self.one_job
    }
}

impl DaemonState {
    pub(super) fn on_signal(&mut self, signal: Signal, now: Now) {
        match signal {
            Signal::Reload => self.reload(None),
            Signal::Stop => {
                tracing::info!("{STOPPING_MESSAGE}");
                self.stop(now);
            }
        }
    }

    /// Starts no new work; active jobs may finish what must not be interrupted.
    pub(super) fn stop(&mut self, now: Now) {
        if self.ending.is_stopping() {
            return;
        }
        self.ending.stop_until = Some(now.moment.plus(STOP_TIMEOUT));
        self.daemon.stopping = true;
        self.push(Action::NotifyManager(ManagerNotice::Stopping));
        self.decide(Event::Stopping, now);
        let jobs: Vec<JobId> = self.projects.values().filter_map(ProjectState::job_id).collect();
        for job in jobs {
            self.push(Action::ControlJob { job, control: Control::Stop });
        }
        self.push(Action::CloseServers);
        self.push(Action::DropWatcher);
    }

    /// Ends the daemon, with the same time for active jobs as after a signal. The first reason
    /// counts.
    pub(super) fn end(&mut self, end: DaemonEnd, now: Now) {
        self.ending.end.get_or_insert(end);
        self.stop(now);
    }

    /// Ends the loop if the daemon stops and nothing is active any more, or the time is over.
    pub(super) fn end_if_idle(&mut self, now: Moment) {
        let Some(until) = self.ending.stop_until else { return };
        let idle =
            !self.ending.servers_running && self.projects.values().all(ProjectState::is_idle);
        if idle || now >= until {
            let end = self.ending.end.take().unwrap_or(DaemonEnd::Stopped);
            self.push(Action::End(end));
        }
    }

    /// The task that manages rented machines has ended.
    pub(super) fn on_servers_ended(&mut self) {
        self.ending.servers_running = false;
    }

    /// The one job is in the ledger, or was refused.
    pub(super) fn on_one_job_answer(&mut self, answer: Result<JobId, CommandError>, now: Now) {
        match answer {
            Ok(job) => {
                self.ending.one_job = OneJob::Known(job);
                if !self.projects.values().any(|project| project.runs(job)) {
                    self.end(DaemonEnd::OneJob(Ok(job)), now);
                }
            }
            Err(error) => {
                self.ending.one_job = OneJob::None;
                self.end(DaemonEnd::OneJob(Err(error)), now);
            }
        }
    }
}
