//! The event loop: waits for one event, gives it to the engine, applies the effects.
//!
//! Owns the [`Engine`] and everything that changes with it, on one thread and without locks. It
//! blocks on nothing but its `select!`: files, the ledger and the network are handled by tasks that
//! report back.

pub mod start;
pub(crate) mod outcomes;
pub(crate) mod effects;
pub(crate) mod scans;
pub(crate) mod watching;
pub mod projects;
pub(crate) mod commands;
pub(crate) mod reload;
mod resubmit;
pub(crate) mod prune;
pub(crate) mod signals;
pub(crate) mod systemd;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

use self::{
    commands::await_reply,
    outcomes::{DaemonEnd, TaskName, TaskOutcome},
    projects::TakenProject,
    prune::Pruning,
    signals::{Signal, SignalStream, stop_requested},
    systemd::ServiceManager,
    watching::Watching,
};
use super::{
    api::status_view,
    inputs::{
        project_state::{ProjectState, SharedStatus},
        wake_queue::WakeQueue,
    },
    services::{
        Services,
        command::UserRequest,
        messages::{Control, JobReport},
        store::blocking,
        tasks::Tasks,
    },
};
use crate::{
    clock::Clock,
    config::settings::ProjectConfig,
    daemon::services::{
        command::{Command, CommandError},
        runtime_config::RuntimeConfig,
    },
    disk::lock::Lock,
    domain::{
        engine::{
            Engine,
            event::{Effect, Event, ProjectId, RequestTicket},
        },
        job::JobId,
        money::{MicroUsd, budget::Spent},
        status,
        time::Moment,
    },
};

/// The message of a stop.
pub(crate) const STOPPING_MESSAGE: &str =
    "stopping: remote jobs continue, and the next start picks them up";

/// How long a stop may take: jobs finish what must not be broken off, the ledger is closed.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// How long the ledger and the locks may take to be closed then.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(400);

/// The interval of the periodic checks: folders without file events, locks, the deployment's facts.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// How far the status may lag behind: in a storm of events it is not rebuilt for each of them.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);
/// The most warnings that are kept for `status`.
const MAX_WARNINGS: usize = 20;

pub(crate) struct EventLoop {
    pub(crate) clock: Clock,
    pub(crate) engine: Engine,
    pub(crate) projects: BTreeMap<ProjectId, ProjectState>,
    pub(crate) services: Arc<Services>,
    pub(crate) config: watch::Sender<Arc<RuntimeConfig>>,
    /// Counts configurations, so that early work for an older one is discarded.
    pub(crate) generation: u64,
    pub(crate) tasks: Tasks<TaskName, TaskOutcome>,
    pub(crate) reports: mpsc::Receiver<JobReport>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) wake_queue: Arc<WakeQueue>,
    pub(crate) watching: Watching,
    pub(crate) polling: bool,
    pub(crate) requested: BTreeMap<RequestTicket, (ProjectId, UserRequest)>,
    pub(crate) next_ticket: u64,
    /// The callers that wait for a job to be in the ledger.
    pub(crate) starting: BTreeMap<JobId, oneshot::Sender<Result<JobId, CommandError>>>,
    pub(crate) daemon: status::Daemon,
    pub(crate) spent: Spent,
    pub(crate) balance: Option<MicroUsd>,
    pub(crate) warnings: Vec<String>,
    /// The rented machines, as `status` shows them.
    pub(crate) machines: Vec<status::Machine>,
    /// Whether the task that manages rented machines is still running.
    pub(crate) servers_running: bool,
    /// The writes that wait for the ledger, and why.
    pub(crate) unwritten: BTreeMap<&'static str, String>,
    pub(crate) status: watch::Sender<SharedStatus>,
    pub(crate) revision: u64,
    pub(crate) dirty: bool,
    pub(crate) published_at: Moment,
    pub(crate) service_manager: ServiceManager,
    pub(crate) reload: reload::ConfigSource,
    /// The lock of the state folder, held for the life of the process.
    pub(crate) lock: Lock,
    /// The one job of `conjured once`; the loop ends with it.
    pub(crate) one_job: Option<oneshot::Receiver<Result<JobId, CommandError>>>,
    pub(crate) one_job_id: Option<JobId>,
    pub(crate) next_housekeeping: Moment,
    pub(crate) next_poll: Option<Moment>,
    /// When the locks that are not ours are checked again.
    pub(crate) next_locks: Option<Moment>,
    pub(crate) stopping: Option<Moment>,
    /// Unfinished jobs that wait behind another one of their project.
    pub(crate) waiting_jobs: Vec<crate::ledger::rows::JobRow>,
    /// Prepared jobs of an earlier session: they are sent only if the first scan finds their
    /// inputs unchanged.
    pub(crate) prepared: Vec<crate::ledger::rows::JobRow>,
    /// Jobs whose task panicked once and was restarted.
    pub(crate) panicked: BTreeSet<JobId>,
    /// Changed projects that take effect when an active job ends.
    pub(crate) pending_projects: Option<crate::config::Loaded>,
    /// Whether a reload is in progress, and whether another one is requested.
    pub(crate) reloading: bool,
    pub(crate) reload_again: bool,
    /// Since when a check of the watches is under way.
    pub(crate) checking_watches: Option<Moment>,
    /// Projects that were taken over and wait for a job at work to end.
    pub(crate) taken_projects: Vec<TakenProject>,
    /// Projects that are being taken over, and whose drives do not answer.
    pub(crate) unresponsive_projects: Vec<ProjectConfig>,
    pub(crate) pruning: Pruning,
    /// Jobs whose answers an earlier session lost, until the first scan.
    pub(crate) lost_answers: Vec<JobId>,
    /// How the daemon ends, after its active jobs have stopped.
    pub(crate) ending: Option<DaemonEnd>,
    /// The address where the command line finds this daemon.
    pub(crate) socket: std::path::PathBuf,
}

impl EventLoop {
    /// Runs until a signal, the end of the one job, or the end of a background task.
    pub(crate) async fn run(
        mut self,
        mut signals: Option<SignalStream>,
        mut stop: Option<oneshot::Receiver<()>>,
    ) -> DaemonEnd {
        self.fetch_facts();
        let ended = loop {
            self.show_if_due();
            self.tick_service_manager();
            if let Some(ended) = self.end_if_idle() {
                break ended;
            }
            let deadline = self.deadline();
            let now = self.clock.now().moment;
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep(at.since(now)).await,
                    None => std::future::pending().await,
                }
            };
            let signal = async {
                match signals.as_mut() {
                    Some(signals) => signals.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                finished = self.tasks.next() => {
                    if let Some(ended) = self.on_task_finished(finished) {
                        self.end(ended);
                    }
                }
                Some(report) = self.reports.recv() => self.on_job_report(report),
                Some(command) = self.commands.recv() => self.on_command(command),
                signal = signal => self.on_signal(signal),
                () = stop_requested(&mut stop) => self.stop(),
                () = self.wake_queue.wait() => self.handle_wakes(),
                answer = await_reply(&mut self.one_job) => {
                    match answer {
                        Ok(job) => {
                            self.one_job_id = Some(job);
                            let at_work = |project: &ProjectState| {
                                project.job.as_ref().is_some_and(|at_work| at_work.id == job)
                            };
                            if !self.projects.values().any(at_work) {
                                self.end(DaemonEnd::OneJob(Ok(job)));
                            }
                        }
                        Err(error) => self.end(DaemonEnd::OneJob(Err(error))),
                    }
                }
                () = timer => self.tick(),
            }
        };
        self.close().await;
        ended
    }

    /// Gives an event to the engine and applies the effects.
    pub(crate) fn handle(&mut self, event: Event) {
        self.handle_all([event]);
    }

    /// Gives events that belong together to the engine and applies the effects.
    pub(crate) fn handle_all(&mut self, events: impl IntoIterator<Item = Event>) {
        let now = self.clock.now().moment;
        for effect in self.engine.handle_all(now, events) {
            match effect {
                Effect::Prepare { project, inputs } => self.prepare(project, inputs),
                Effect::Start { project, work, cause } => self.start(project, work, cause),
                Effect::Supersede { project } => {
                    if let Some(project_state) = self.projects.get(&project) {
                        project_state.set_control(Control::Supersede);
                    }
                }
                Effect::CheckHands { project } => self.check_hands(project),
                Effect::SetBaseline { project, prompt, render } => {
                    self.set_baseline(project, prompt, render);
                }
            }
        }
        self.dirty = true;
    }

    fn handle_wakes(&mut self) {
        let (projects, config) = self.wake_queue.drain();
        let now = self.clock.now().moment;
        for project in projects {
            if let Some(project_state) = self.projects.get_mut(&project) {
                project_state.wake(now);
                self.handle(Event::Touched { project });
            } else {
                self.wake_queue.scan_began(project);
            }
        }
        self.scan_where_due();
        if config {
            self.schedule_reload();
        }
    }

    fn tick(&mut self) {
        self.reload_if_due();
        let now = self.clock.now().moment;
        self.skip_unresponsive(now);
        if now >= self.next_housekeeping {
            self.next_housekeeping = now.plus(HOUSEKEEPING);
            self.check_watches(true);
            self.fetch_facts();
        } else if self.next_poll.is_some_and(|at| now >= at) {
            self.check_watches(false);
        }
        if self.next_locks.is_some_and(|at| now >= at) {
            self.check_locks();
        }
        self.scan_where_due();
        self.handle(Event::Tick);
    }

    pub(crate) fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Reload => self.reload(None),
            Signal::Stop => {
                tracing::info!("{STOPPING_MESSAGE}");
                self.stop();
            }
        }
    }

    /// Starts no new work; active jobs may finish what must not be interrupted.
    pub(crate) fn stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(self.clock.now().moment.plus(STOP_TIMEOUT));
        self.daemon.stopping = true;
        self.service_manager.stopping();
        self.handle(Event::Stopping);
        for project in self.projects.values() {
            project.set_control(Control::Stop);
        }
        self.services.servers.close();
        // A look at a drive that hangs may hold it; the process ends all the same.
        let watcher = std::mem::take(&mut self.watching.watcher);
        self.tasks.spawn(TaskName::Background, async move {
            blocking(move || drop(watcher)).await;
            TaskOutcome::Nothing
        });
    }

    /// Ends the daemon, with the same time for active jobs as after a signal.
    fn end(&mut self, ended: DaemonEnd) {
        self.ending.get_or_insert(ended);
        self.stop();
    }

    fn end_if_idle(&mut self) -> Option<DaemonEnd> {
        let until = self.stopping?;
        let idle =
            !self.servers_running && self.projects.values().all(|project| project.job.is_none());
        (idle || self.clock.now().moment >= until)
            .then(|| self.ending.take().unwrap_or(DaemonEnd::Stopped))
    }

    fn deadline(&self) -> Option<Moment> {
        let now = self.clock.now().moment;
        let looks = self.projects.values().filter_map(ProjectState::scan_due).min();
        let looks = looks.filter(|_| self.free_scan_slots() > 0);
        let show = self.dirty.then(|| self.published_at.plus(STATUS_INTERVAL));
        let work = [
            self.engine.deadline(now),
            looks,
            Some(self.next_housekeeping),
            self.next_poll,
            self.next_locks,
            self.drive_timeout_at(),
        ];
        let work = if self.stopping.is_some() { None } else { work.into_iter().flatten().min() };
        let asked = [self.reload.reload_at, self.service_manager.deadline(), show, self.stopping];
        asked.into_iter().flatten().chain(work).min()
    }

    /// Publishes the status if it changed and the last one is old enough.
    fn show_if_due(&mut self) {
        let now = self.clock.now();
        if !self.dirty || now.moment < self.published_at.plus(STATUS_INTERVAL) {
            return;
        }
        self.dirty = false;
        self.published_at = now.moment;
        self.revision += 1;
        let config = Arc::clone(&self.config.borrow());
        let view = status_view::StatusView {
            engine: &self.engine,
            projects: &self.projects,
            config: &config,
            daemon: &self.daemon,
            unresponsive_projects: &self.unresponsive_projects,
            spent: self.spent,
            balance: self.balance,
            health: &self.services.health,
            warnings: &self.warnings,
            machines: &self.machines,
            unwritten: &self.unwritten,
            revision: self.revision,
        };
        let status = status_view::status(&view, now);
        self.service_manager.show(|| status_view::one_line(&status));
        self.status.send_replace(Arc::new(status));
    }

    /// Keeps warnings for `status`; a repeated text is kept once.
    pub(crate) fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        for warning in warnings {
            if self.warnings.contains(&warning) {
                continue;
            }
            tracing::warn!("{warning}");
            if self.warnings.len() >= MAX_WARNINGS {
                self.warnings.remove(0);
            }
            self.warnings.push(warning);
            self.dirty = true;
        }
    }

    /// Records the end of the session and releases the locks.
    async fn close(mut self) {
        self.tasks.abort_all();
        let (session, now) = (self.services.session, self.clock.now().wall);
        let closing = self.services.store.with(move |ledger| {
            ledger.end_session(session, now)?;
            ledger.checkpoint()
        });
        // Each on a thread of its own: one whose drive does not answer ends with the process.
        let locks = tokio::time::timeout(CLOSE_TIMEOUT, self.services.root_locks.release_all());
        let closing = tokio::time::timeout(CLOSE_TIMEOUT, closing);
        match futures_util::future::join(closing, locks).await.0 {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "could not record the end of the session"),
            Err(_) => tracing::warn!("the ledger took too long to close; nothing is lost"),
        }
        // Last of all, for whoever waits for this state folder.
        let lock = self.lock;
        let released = tokio::time::timeout(CLOSE_TIMEOUT / 4, blocking(move || drop(lock)));
        if released.await.is_err() {
            tracing::warn!(
                "releasing the state folder's lock took too long; it is released when the process \
                 ends"
            );
        }
    }
}
