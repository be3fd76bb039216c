//! The daemon's state, and how it handles an event: plain and synchronous, so that a test can call
//! it without a runtime.
//!
//! Owns the [`Engine`] and everything that changes with it. It reads no clock and no file, starts
//! no task and sends nothing: what has to be done is returned as [`Action`]s, which
//! [`super::performer`] carries out. The log is the only thing that it writes to. Each file below
//! owns one part of the state, and only it writes to that part.

mod commands;
mod ending;
mod housekeeping;
pub(crate) mod jobs;
mod locks;
mod projects;
mod publication;
mod reload;
mod resubmit;
mod resumptions;
mod scans;
mod warnings;
mod watching;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use self::{
    commands::Requests,
    ending::Ending,
    housekeeping::Housekeeping,
    locks::LockChecks,
    projects::ProjectsTaken,
    publication::{Figures, Publication},
    reload::Reloading,
    resumptions::Resumptions,
    warnings::Warnings,
    watching::Watching,
};
use super::{
    action::Action,
    event::{DaemonEnd, LoopEvent, TaskName, TaskOutcome},
};
use crate::{
    daemon::{
        inputs::project_state::ProjectState,
        services::{messages::Control, runtime_config::RuntimeConfig, tasks::Finished},
    },
    domain::{
        engine::{
            Engine,
            event::{Effect, Event, ProjectId},
        },
        job::JobId,
        money::budget::Spent,
        status,
        time::Now,
    },
    logging::Logging,
};

/// The state of the daemon.
pub(crate) struct DaemonState {
    engine: Engine,
    projects: BTreeMap<ProjectId, ProjectState>,
    config: Arc<RuntimeConfig>,
    /// What `status` shows of the daemon itself.
    daemon: status::Daemon,
    requests: Requests,
    resumptions: Resumptions,
    reloading: Reloading,
    taken: ProjectsTaken,
    lock_checks: LockChecks,
    watching: Watching,
    housekeeping: Housekeeping,
    publication: Publication,
    figures: Figures,
    warnings: Warnings,
    ending: Ending,
    /// Returns the random part of a new job's id.
    random: fn() -> u128,
    /// What the event that is being handled leads to.
    actions: Vec<Action>,
}

/// What a daemon begins with.
pub(crate) struct Beginning {
    pub(crate) engine: Engine,
    pub(crate) config: Arc<RuntimeConfig>,
    pub(crate) daemon: status::Daemon,
    pub(crate) spent: Spent,
    /// The log, whose level a reload may change.
    pub(crate) log: Option<Logging>,
    /// Whether it was started for one job.
    pub(crate) one_job: bool,
    pub(crate) random: fn() -> u128,
}

impl DaemonState {
    /// Creates the state of a daemon without projects.
    pub(crate) fn new(beginning: Beginning, now: Now) -> Self {
        let Beginning { engine, config, daemon, spent, log, one_job, random } = beginning;
        Self {
            engine,
            projects: BTreeMap::new(),
            daemon,
            requests: Requests::default(),
            resumptions: Resumptions::default(),
            reloading: Reloading::new(&config.settings, log),
            config,
            taken: ProjectsTaken::default(),
            lock_checks: LockChecks::default(),
            watching: Watching::default(),
            housekeeping: Housekeeping::new(now.moment),
            publication: Publication::new(),
            figures: Figures::new(spent),
            warnings: Warnings::default(),
            ending: Ending::new(one_job),
            random,
            actions: Vec::new(),
        }
    }

    /// Handles an event. Returns what has to be done, in this order.
    pub(crate) fn handle(&mut self, event: LoopEvent, now: Now) -> Vec<Action> {
        match event {
            LoopEvent::Started => self.fetch_facts(),
            LoopEvent::TaskFinished(finished) => {
                if let Some(end) = self.on_task_finished(finished, now) {
                    self.end(end, now);
                }
            }
            LoopEvent::Reported(report) => self.on_job_report(report, now),
            LoopEvent::Commanded(command) => self.on_command(command, now),
            LoopEvent::Signalled(signal) => self.on_signal(signal, now),
            LoopEvent::StopOrdered => self.stop(now),
            LoopEvent::Woken { projects, config } => self.on_wakes(projects, config, now),
            LoopEvent::OneJobAnswered(answer) => self.on_one_job_answer(answer, now),
            LoopEvent::Timer => self.on_timer(now),
        }
        self.publish_if_due(now.moment);
        self.end_if_idle(now.moment);
        self.take_actions()
    }

    /// Returns what has to be done since the last call.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Gives an event to the engine and handles its effects.
    fn decide(&mut self, event: Event, now: Now) {
        self.decide_all([event], now);
    }

    /// Gives events that belong together to the engine and handles its effects.
    fn decide_all(&mut self, events: impl IntoIterator<Item = Event>, now: Now) {
        for effect in self.engine.handle_all(now.moment, events) {
            match effect {
                Effect::Prepare { project, inputs } => self.prepare(project, inputs),
                Effect::Start { project, work, cause } => self.start(project, work, cause, now),
                Effect::Supersede { project } => self.control(project, Control::Supersede),
                Effect::CheckHands { project } => self.check_hands(project),
                Effect::SetBaseline { project, prompt, render } => {
                    self.push(Action::SetBaseline { project, prompt, render });
                }
            }
        }
        self.publication.mark_changed();
    }

    /// Puts a configuration into effect.
    fn configure(&mut self, config: Arc<RuntimeConfig>) {
        self.config = Arc::clone(&config);
        self.push(Action::Configure(config));
    }

    /// Returns the served projects.
    pub(crate) const fn projects(&self) -> &BTreeMap<ProjectId, ProjectState> {
        &self.projects
    }

    /// Returns whether a job is active.
    pub(crate) fn runs(&self, job: JobId) -> bool {
        self.projects.values().any(|project| project.runs(job))
    }

    /// Handles a task's result or the message of its panic. Returns how the daemon ends, if
    /// it does.
    fn on_task_finished(
        &mut self,
        finished: Finished<TaskName, TaskOutcome>,
        now: Now,
    ) -> Option<DaemonEnd> {
        match finished {
            Finished::Returned(name, outcome) => return self.on_returned(name, outcome, now),
            Finished::Panicked(TaskName::Job(project, job), message) => {
                self.on_job_panicked(project, job, message);
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

    fn on_returned(&mut self, name: TaskName, outcome: TaskOutcome, now: Now) -> Option<DaemonEnd> {
        match (name, outcome) {
            (TaskName::Scan(project), TaskOutcome::Scanned(seen, warnings, repaired)) => {
                self.warn(warnings);
                self.record_repair(project, repaired, now.moment);
                self.mark_responsive(project, now);
                let (reader, scan) = *seen;
                self.on_scan(project, reader, scan, now);
            }
            (TaskName::Job(project, job), TaskOutcome::Job(end)) => {
                return self.on_job_end(project, job, end, now);
            }
            (TaskName::Refresh(project), TaskOutcome::Refreshed(fresh)) => {
                self.on_refreshed(project, *fresh);
            }
            (TaskName::Reload, TaskOutcome::Reloaded(result, replies)) => {
                self.on_reloaded(*result, replies, now);
            }
            (TaskName::Housekeeping, TaskOutcome::WatchesChecked(checked)) => {
                self.on_watches_checked(*checked, now);
            }
            (TaskName::Watch, TaskOutcome::Watching(built)) => self.on_watcher_built(*built, now),
            (TaskName::DriveBack(project), _) => self.mark_responsive(project, now),
            (TaskName::TakeProject, TaskOutcome::ProjectTaken(root, taken)) => {
                self.on_project_taken(&root, *taken, now);
            }
            (TaskName::Panicked(project, job), TaskOutcome::Panicked(message, row)) => {
                let row = row.map(|row| *row);
                return self.resolve_panicked_job(project, job, &message, row, now);
            }
            (TaskName::Hands(project), TaskOutcome::Hands(tracked)) => {
                self.decide(Event::HandsChecked { project, tracked }, now);
            }
            (TaskName::Lock(project), TaskOutcome::LockStatus(lock_status)) => {
                self.on_lock_checked(project, lock_status, now);
            }
            (TaskName::Api, TaskOutcome::Stopped(reason)) => {
                return Some(DaemonEnd::Broken(reason));
            }
            (TaskName::Machines, _) => self.on_servers_ended(),
            (_, TaskOutcome::Restored(project)) => self.decide(Event::Restored { project }, now),
            (_, TaskOutcome::Cancel(job)) => self.cancel_running(job),
            (_, TaskOutcome::Pruned(fault)) => self.on_pruned(fault),
            (_, TaskOutcome::Resubmit(row, kind)) => self.resubmit_now(&row, kind, now),
            (_, _) => {}
        }
        None
    }
}
