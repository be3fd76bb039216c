//! The event loop: waits for one event, gives it to the engine, applies the effects.
//!
//! Owns the [`Engine`] and everything that changes with it, on one thread and without locks. It
//! blocks on nothing but its `select!`: files, the ledger and the network are handled by tasks that
//! report back.

pub mod start;
mod options;
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
    commands::first_answer,
    outcomes::{Ended, Outcome, TaskName},
    projects::Taken,
    prune::Tidying,
    signals::{Signal, SignalStream, told_to_stop},
    systemd::Manager,
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
        command::Asked,
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
pub(crate) const STOPPING: &str = "stopping: remote jobs go on and are picked up at the next start";

/// How long a stop may take: jobs finish what must not be broken off, the ledger is closed.
const STOP_PATIENCE: Duration = Duration::from_secs(4);

/// How long the ledger and the locks may take to be closed then.
const CLOSE_PATIENCE: Duration = Duration::from_millis(400);

/// The interval of the periodic checks: folders without file events, locks, the deployment's facts.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// How far the status may lag behind: in a storm of events it is not rebuilt for each of them.
const SHOW_EVERY: Duration = Duration::from_millis(50);
/// The most warnings that are kept for `status`.
const MOST_WARNINGS: usize = 20;

/// The state of the event loop.
pub(crate) struct Shell {
    pub(crate) clock: Clock,
    pub(crate) engine: Engine,
    pub(crate) served: BTreeMap<ProjectId, ProjectState>,
    pub(crate) tools: Arc<Services>,
    pub(crate) live: watch::Sender<Arc<RuntimeConfig>>,
    /// Counts configurations, so that early work for an older one is discarded.
    pub(crate) generation: u64,
    pub(crate) tasks: Tasks<TaskName, Outcome>,
    pub(crate) reports: mpsc::Receiver<JobReport>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) wakes: Arc<WakeQueue>,
    pub(crate) watching: Watching,
    pub(crate) polling: bool,
    pub(crate) asked: BTreeMap<RequestTicket, (ProjectId, Asked)>,
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
    pub(crate) keeping: bool,
    /// The writes that wait for the ledger, and why.
    pub(crate) unwritten: BTreeMap<&'static str, String>,
    pub(crate) status: watch::Sender<SharedStatus>,
    pub(crate) revision: u64,
    pub(crate) dirty: bool,
    pub(crate) shown_at: Moment,
    pub(crate) manager: Manager,
    pub(crate) reload: reload::Source,
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
    pub(crate) later: Vec<crate::ledger::rows::JobRow>,
    /// Prepared jobs of an earlier session: they are sent only if the first scan finds their
    /// inputs unchanged.
    pub(crate) unsent: Vec<crate::ledger::rows::JobRow>,
    /// Jobs whose task panicked once and was restarted.
    pub(crate) panicked: BTreeSet<JobId>,
    /// Changed projects that take effect when an active job ends.
    pub(crate) projects_later: Option<crate::config::Loaded>,
    /// Whether a reload is in progress, and whether another one is requested.
    pub(crate) reloading: bool,
    pub(crate) reload_again: bool,
    /// Since when a check of the watches is under way.
    pub(crate) tending: Option<Moment>,
    /// Projects that were taken over and wait for a job at work to end.
    pub(crate) spare: Vec<Taken>,
    /// Projects that are being taken over, and whose drives do not answer.
    pub(crate) awaited: Vec<ProjectConfig>,
    pub(crate) tidying: Tidying,
    /// Jobs whose answers an earlier session lost, until the first scan.
    pub(crate) lost: Vec<JobId>,
    /// How the daemon ends, after its active jobs have stopped.
    pub(crate) ending: Option<Ended>,
    /// The address where the command line finds this daemon.
    pub(crate) socket: std::path::PathBuf,
}

impl Shell {
    /// Runs until a signal, the end of the one job, or the end of a background task.
    pub(crate) async fn run(
        mut self,
        mut signals: Option<SignalStream>,
        mut stop: Option<oneshot::Receiver<()>>,
    ) -> Ended {
        self.ask_facts();
        let ended = loop {
            self.show_if_due();
            self.beat();
            if let Some(ended) = self.over() {
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
                    if let Some(ended) = self.finished(finished) {
                        self.end(ended);
                    }
                }
                Some(report) = self.reports.recv() => self.reported(report),
                Some(command) = self.commands.recv() => self.command(command),
                signal = signal => self.signal(signal),
                () = told_to_stop(&mut stop) => self.stop(),
                () = self.wakes.touched() => self.woken(),
                answer = first_answer(&mut self.one_job) => {
                    match answer {
                        Ok(job) => {
                            self.one_job_id = Some(job);
                            let at_work = |project: &ProjectState| {
                                project.job.as_ref().is_some_and(|at_work| at_work.id == job)
                            };
                            if !self.served.values().any(at_work) {
                                self.end(Ended::OneJob(Ok(job)));
                            }
                        }
                        Err(error) => self.end(Ended::OneJob(Err(error))),
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
                    if let Some(project_state) = self.served.get(&project) {
                        project_state.set_control(Control::Supersede);
                    }
                }
                Effect::CheckHands { project } => self.check_hands(project),
                Effect::SetBaseline { project, prompt, render } => {
                    self.rebase(project, prompt, render)
                }
            }
        }
        self.dirty = true;
    }

    fn woken(&mut self) {
        let (projects, config) = self.wakes.drain();
        let now = self.clock.now().moment;
        for project in projects {
            if let Some(project_state) = self.served.get_mut(&project) {
                project_state.wake(now);
                self.handle(Event::Touched { project });
            } else {
                self.wakes.scan_began(project);
            }
        }
        self.scan_where_due();
        if config {
            self.reload_soon();
        }
    }

    fn tick(&mut self) {
        self.reload_if_due();
        let now = self.clock.now().moment;
        self.mind_silence(now);
        if now >= self.next_housekeeping {
            self.next_housekeeping = now.plus(HOUSEKEEPING);
            self.check_watches(true);
            self.ask_facts();
        } else if self.next_poll.is_some_and(|at| now >= at) {
            self.check_watches(false);
        }
        if self.next_locks.is_some_and(|at| now >= at) {
            self.check_locks();
        }
        self.scan_where_due();
        self.handle(Event::Tick);
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Reload => self.reload(None),
            Signal::Stop => {
                tracing::info!("{STOPPING}");
                self.stop();
            }
        }
    }

    /// Starts no new work; active jobs may finish what must not be interrupted.
    pub(crate) fn stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(self.clock.now().moment.plus(STOP_PATIENCE));
        self.daemon.stopping = true;
        self.manager.stopping();
        self.handle(Event::Stopping);
        for project in self.served.values() {
            project.set_control(Control::Stop);
        }
        self.tools.servers.close();
        // A look at a drive that hangs may hold it; the process ends all the same.
        let watcher = std::mem::take(&mut self.watching.watcher);
        self.tasks.spawn(TaskName::Errand, async move {
            blocking(move || drop(watcher)).await;
            Outcome::Nothing
        });
    }

    /// Ends the daemon, with the same time for active jobs as after a signal.
    fn end(&mut self, ended: Ended) {
        self.ending.get_or_insert(ended);
        self.stop();
    }

    fn over(&mut self) -> Option<Ended> {
        let until = self.stopping?;
        let idle = !self.keeping && self.served.values().all(|project| project.job.is_none());
        (idle || self.clock.now().moment >= until)
            .then(|| self.ending.take().unwrap_or(Ended::Stopped))
    }

    fn deadline(&self) -> Option<Moment> {
        let now = self.clock.now().moment;
        let looks = self.served.values().filter_map(ProjectState::due).min();
        let looks = looks.filter(|_| self.free_scan_slots() > 0);
        let show = self.dirty.then(|| self.shown_at.plus(SHOW_EVERY));
        let work = [
            self.engine.deadline(now),
            looks,
            Some(self.next_housekeeping),
            self.next_poll,
            self.next_locks,
            self.silence_at(),
        ];
        let work = if self.stopping.is_some() { None } else { work.into_iter().flatten().min() };
        let asked = [self.reload.due, self.manager.deadline(), show, self.stopping];
        asked.into_iter().flatten().chain(work).min()
    }

    /// Publishes the status if it changed and the last one is old enough.
    fn show_if_due(&mut self) {
        let now = self.clock.now();
        if !self.dirty || now.moment < self.shown_at.plus(SHOW_EVERY) {
            return;
        }
        self.dirty = false;
        self.shown_at = now.moment;
        self.revision += 1;
        let config = Arc::clone(&self.live.borrow());
        let view = status_view::StatusView {
            engine: &self.engine,
            projects: &self.served,
            config: &config,
            daemon: &self.daemon,
            awaited: &self.awaited,
            spent: self.spent,
            balance: self.balance,
            health: &self.tools.health,
            warnings: &self.warnings,
            machines: &self.machines,
            unwritten: &self.unwritten,
            revision: self.revision,
        };
        let status = status_view::status(&view, now);
        self.manager.show(|| status_view::one_line(&status));
        self.status.send_replace(Arc::new(status));
    }

    /// Keeps warnings for `status`; a repeated text is kept once.
    pub(crate) fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        for warning in warnings {
            if self.warnings.contains(&warning) {
                continue;
            }
            tracing::warn!("{warning}");
            if self.warnings.len() >= MOST_WARNINGS {
                self.warnings.remove(0);
            }
            self.warnings.push(warning);
            self.dirty = true;
        }
    }

    /// Records the end of the session and releases the locks.
    async fn close(mut self) {
        self.tasks.abort_all();
        let (session, now) = (self.tools.session, self.clock.now().wall);
        let closing = self.tools.store.with(move |ledger| {
            ledger.end_session(session, now)?;
            ledger.checkpoint()
        });
        // Each on a thread of its own: one whose drive does not answer ends with the process.
        let locks = tokio::time::timeout(CLOSE_PATIENCE, self.tools.root_locks.release_all());
        let closing = tokio::time::timeout(CLOSE_PATIENCE, closing);
        match futures_util::future::join(closing, locks).await.0 {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the session's end is not in the ledger"),
            Err(_) => tracing::warn!("the ledger took too long to close; nothing is lost"),
        }
        // Last of all, for whoever waits for this state folder.
        let lock = self.lock;
        let released = tokio::time::timeout(CLOSE_PATIENCE / 4, blocking(move || drop(lock)));
        if released.await.is_err() {
            tracing::warn!("the lock of the state folder ends with the process");
        }
    }
}
