//! Assembles the daemon: locks, ledger, history, projects, unfinished jobs, watching, the socket.
//!
//! Owns the order of these steps, which matters: nothing is swept, marked or resumed before the
//! locks are held, and no job is sent before the first scan, because a newer snapshot may have
//! replaced it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    EventLoop,
    outcomes::{DaemonEnd, TaskName, TaskOutcome},
    projects::take_projects,
    prune::Pruning,
    reload::{ConfigSource, FixedPaths},
    signals::SignalStream,
    systemd::ServiceManager,
    watching::{self, Watching},
};
pub use crate::daemon::services::errors::StartError;
use crate::{
    clock::Clock,
    config::{Loaded, sources::Sources},
    daemon::{
        api::{
            routes::routes,
            socket::{address, listen},
        },
        inputs::wake_queue::WakeQueue,
        servers::manager::ServerManager,
        services::{
            Services,
            command::{self, OnceRequest, RepeatKind, UserRequest},
            leases::{self, ManagerHandle},
            project_locks::ProjectLocks,
            rate_limiter::RateLimiter,
            root_locks::RootLocks,
            runtime_config::RuntimeConfig,
            store::Store,
            tasks::Tasks,
        },
    },
    disk::{
        dirs,
        history::History,
        lock::{Holder, Lock},
    },
    domain::{
        engine::{Engine, event::ProjectId},
        inputs::debounce::InputState,
        job::{Cause, JobId, JobState},
        status,
        time::{Moment, Now},
    },
    ledger::{
        Ledger,
        error::LedgerError,
        rows::{Booking, JobFilter, SessionId},
    },
    logging::Logging,
};

/// The purpose of a start.
#[derive(Debug)]
pub enum Purpose {
    /// Serve until a signal arrives.
    Serve,
    /// Run one job now, without watching.
    OneJob(OnceRequest),
}

/// Everything a daemon needs.
pub struct Options {
    /// The configuration.
    pub loaded: Loaded,
    /// Its sources, for reloads.
    pub sources: Sources,
    /// The configuration as working parts.
    pub runtime_config: RuntimeConfig,
    /// The log, whose level a reload may change.
    pub log: Option<Logging>,
    /// The purpose of the start.
    pub purpose: Purpose,
    /// Whether it takes over the signals of the process.
    pub signals: bool,
    /// Receives the order to stop, as a signal would give it.
    pub stop: Option<oneshot::Receiver<()>>,
    /// Where the status is published; a reader may watch it.
    pub status: watch::Sender<Arc<status::Status>>,
}

/// The interval of status calls, over all projects: five per second.
const CALL_INTERVAL: Duration = Duration::from_millis(200);

/// The interval of submits, over all projects.
const SUBMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Starts a daemon and runs it to its end.
pub async fn run(options: Options) -> Result<DaemonEnd, StartError> {
    let signals =
        options.signals.then(SignalStream::new).transpose().map_err(StartError::Signals)?;
    let mut options = options;
    let stop = options.stop.take();
    let event_loop = Box::pin(assemble(options)).await?;
    Ok(event_loop.run(signals, stop).await)
}

#[expect(clippy::too_many_lines, reason = "one list of steps whose order matters")]
async fn assemble(options: Options) -> Result<EventLoop, StartError> {
    let Options { loaded, sources, runtime_config: config, log, purpose, signals, status, .. } =
        options;
    let clock = Clock;
    let now = clock.now();
    let state_dir = config.settings.state_dir.clone();
    dirs::make_private(&state_dir)?;
    if matches!(purpose, Purpose::Serve) {
        tracing::info!(
            "conjured {} starts; ledger and history are in {}",
            env!("CARGO_PKG_VERSION"),
            state_dir.display()
        );
    }

    let socket = address(&state_dir);
    let what = match purpose {
        Purpose::Serve => "conjured run",
        Purpose::OneJob(OnceRequest { again: Some(again), .. }) => match again.kind {
            RepeatKind::Rerun => "conjured jobs rerun",
            RepeatKind::Retry | RepeatKind::Resubmit | RepeatKind::Free => "conjured jobs retry",
        },
        Purpose::OneJob(_) => "conjured once",
    };
    let holder = Holder {
        pid: std::process::id(),
        since: now.wall,
        socket: Some(socket.display().to_string()),
        what: what.to_owned(),
    };
    let lock = Lock::acquire_state(&state_dir, &holder)?;
    #[cfg(unix)]
    dirs::restrict_file(lock.path())?;

    let mut ledger = Ledger::open(&state_dir.join(crate::ledger::FILE))?;
    let lost = ledger.mark_lost_answers(now.wall)?;
    let session = ledger.begin_session(env!("CARGO_PKG_VERSION"), now.wall)?;
    let history = History::open(&state_dir)?;
    let swept = history.sweep();

    let mut warnings = loaded.warnings.clone();
    warnings.extend(swept.err().map(|error| format!("could not clean up the history: {error}")));
    warnings.extend(config.warnings.iter().cloned());
    warnings.extend(lost.iter().map(|job| {
        format!(
            "job {job}: the answer to its submit was lost; it may have been charged, and `conjured \
             jobs retry {job}` sends it again"
        )
    }));

    let (reports_in, reports) = mpsc::channel(64);
    let (keeper, inbox) = ManagerHandle::new();
    let (live_in, live_out) = watch::channel(Arc::new(config));
    let services = Arc::new(Services {
        clock,
        store: Store::new(ledger, reports_in.clone()),
        history: Arc::new(history),
        session,
        submit_limiter: RateLimiter::new(SUBMIT_INTERVAL, clock),
        call_limiter: RateLimiter::new(CALL_INTERVAL, clock),
        health: crate::daemon::services::health::HealthRegistry::default(),
        warned: Mutex::default(),
        reports: reports_in,
        config: live_out,
        locks: ProjectLocks::default(),
        root_locks: RootLocks::default(),
        servers: keeper,
    });

    let config = Arc::clone(&live_in.borrow());
    let (engine, spent) = engine(&services, &config, session, now).await?;
    let projects = config.settings.projects.clone();
    let attempts = take_projects(&services, projects, &holder, now.wall).await;

    let (commands_in, commands) = mpsc::channel(command::COMMANDS);
    let mut tasks = Tasks::new();
    let manager = ServerManager::new(Arc::clone(&services), inbox, leases::connect);
    tasks.spawn(TaskName::Machines, async move {
        manager.run().await;
        TaskOutcome::Nothing
    });
    let serving = listen(&socket, routes(status.subscribe(), commands_in))?;
    tasks.spawn(TaskName::Api, async move { TaskOutcome::Stopped(serving.await) });

    let daemon = status::Daemon {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        since: now.wall,
        state_dir: state_dir.display().to_string(),
        stopping: false,
    };
    let mut event_loop = EventLoop {
        clock,
        engine,
        projects: BTreeMap::new(),
        services,
        generation: 0,
        tasks,
        reports,
        commands,
        wake_queue: Arc::new(WakeQueue::default()),
        watching: Watching::default(),
        polling: false,
        requested: BTreeMap::new(),
        next_ticket: 0,
        starting: BTreeMap::new(),
        daemon,
        spent,
        service_manager: match purpose {
            // The process that handles signals is the one that the service manager started.
            Purpose::Serve if signals => {
                ServiceManager::of(&sources.env, std::process::id(), now.moment)
            }
            _ => ServiceManager::disabled(now.moment),
        },
        balance: None,
        warnings: Vec::new(),
        machines: Vec::new(),
        servers_running: true,
        unwritten: BTreeMap::new(),
        status,
        revision: 0,
        dirty: true,
        published_at: Moment::default(),
        reload: ConfigSource::new(sources, log, FixedPaths::of(&config.settings)),
        lock,
        one_job: None,
        one_job_id: None,
        next_housekeeping: now.moment.plus(Duration::from_secs(60)),
        next_poll: None,
        next_locks: None,
        stopping: None,
        waiting_jobs: Vec::new(),
        prepared: Vec::new(),
        panicked: std::collections::BTreeSet::new(),
        pending_projects: None,
        reloading: false,
        reload_again: false,
        checking_watches: None,
        taken_projects: Vec::new(),
        unresponsive_projects: Vec::new(),
        pruning: Pruning::default(),
        lost_answers: Vec::new(),
        ending: None,
        socket,
        config: live_in,
    };
    event_loop.on_lock_attempts(attempts)?;
    for taken in std::mem::take(&mut event_loop.taken_projects) {
        let root = taken.root().to_path_buf();
        let project = config.settings.projects.iter().find(|project| project.root == root);
        if let Some(project) = project.cloned() {
            event_loop.serve(project, taken);
        }
    }
    event_loop.warn(warnings);
    if !loaded.not_in_effect.is_empty() {
        event_loop.warn([format!(
            "set, but not supported in this version: {}",
            loaded.not_in_effect.join(", ")
        )]);
    }
    event_loop.begin(purpose, &loaded, lost).await?;
    event_loop.prune();
    Ok(event_loop)
}

impl EventLoop {
    /// Resumes unfinished jobs, begins to watch, and scans for the first time.
    async fn begin(
        &mut self,
        purpose: Purpose,
        loaded: &Loaded,
        lost: Vec<JobId>,
    ) -> Result<(), StartError> {
        for id in self.projects.keys().copied().collect::<Vec<_>>() {
            self.refresh_history(id);
        }
        let unfinished = self.services.store.with(|ledger| ledger.unfinished()).await?;
        match purpose {
            Purpose::Serve => {
                // Watching begins before the first look, so that no change falls between the two.
                self.watching.wanted = true;
                self.watching.files = loaded.files.iter().chain(&loaded.absent).cloned().collect();
                let request = self.watch_request();
                let built = watching::build_watcher(request).await;
                self.on_watcher_built(built);
            }
            Purpose::OneJob(request) => {
                let (reply, answer) = oneshot::channel();
                self.one_job = Some(answer);
                for project in self.projects.values_mut() {
                    project.stop_scans();
                }
                self.resume_all(unfinished, false);
                self.enqueue_request(UserRequest { request, reply });
                return Ok(());
            }
        }
        self.resume_all(unfinished, true);
        let services = Arc::clone(&self.services);
        self.tasks.spawn(TaskName::Background, async move {
            crate::daemon::jobs::job_json::write_missing_records(
                &services.store,
                &services.history,
            )
            .await;
            TaskOutcome::Nothing
        });
        self.lost_answers = lost;
        self.scan_where_due();
        for project in self.projects.values() {
            tracing::info!(
                "serving project \"{}\" in {}",
                project.config.name,
                project.config.root.display()
            );
        }
        Ok(())
    }

    pub(crate) fn resume_all(&mut self, rows: Vec<crate::ledger::rows::JobRow>, looks: bool) {
        for row in rows {
            let project = row.project;
            let own = row.cause != Cause::Person && row.out.is_none();
            if looks
                && own
                && row.state == JobState::Prepared
                && self.projects.contains_key(&project)
            {
                // Nothing was sent yet: the first scan decides whether it is still wanted.
                self.prepared.push(row);
                continue;
            }
            match self.projects.get(&project) {
                Some(project_state) if project_state.job.is_none() => self.resume(project, row),
                Some(_) => self.waiting_jobs.push(row),
                None if !self.unresponsive_projects.is_empty() => self.waiting_jobs.push(row),
                None => self.warn([format!(
                    "job {} of a project that is no longer served is `{}`: serve the project again \
                     to finish it",
                    row.id, row.state
                )]),
            }
        }
    }

    /// Decides about the jobs that an earlier session prepared and did not send: with unchanged
    /// inputs they continue, otherwise they are replaced at no cost.
    pub(crate) fn resolve_unsent(
        &mut self,
        project: ProjectId,
        scan: &crate::daemon::inputs::scan::Scan,
    ) {
        let (own, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.prepared).into_iter().partition(|row| row.project == project);
        self.prepared = others;
        for row in own {
            let same = scan.prompt.state == InputState::Complete(row.inputs.prompt)
                && scan.render.state == InputState::Complete(row.inputs.render);
            let idle = self
                .projects
                .get(&project)
                .is_some_and(|project_state| project_state.job.is_none());
            if same && idle {
                self.resume(project, row);
                continue;
            }
            let (store, now, job) = (self.services.store.clone(), self.clock.now().wall, row.id);
            self.tasks.spawn(TaskName::Background, async move {
                let record =
                    move |ledger: &mut Ledger| ledger.replaced(job, None, Booking::Nothing, now);
                if let Err(error) = store.record("the replacement of an unsent job", record).await {
                    tracing::error!(
                        job = %job, %error,
                        "could not record that this job was replaced; nothing was sent for it, and \
                         it stays `prepared`"
                    );
                }
                TaskOutcome::Nothing
            });
        }
    }

    /// Returns the holder that the lock files name.
    pub(crate) fn holder(&self) -> Holder {
        Holder {
            pid: self.daemon.pid,
            since: self.daemon.since,
            socket: Some(self.socket.display().to_string()),
            what: "conjured run".to_owned(),
        }
    }
}

async fn engine(
    services: &Services,
    config: &RuntimeConfig,
    session: SessionId,
    now: Now,
) -> Result<(Engine, crate::domain::money::budget::Spent), StartError> {
    let windows = crate::daemon::services::budget_windows::windows(now.wall);
    let limit = config.trigger.max_jobs_per_hour;
    let (recent, spent) = services
        .store
        .with(move |ledger| {
            let newest = JobFilter { limit: Some(limit), ..JobFilter::default() };
            Ok::<_, LedgerError>((ledger.jobs(&newest)?, ledger.spent(session, &windows)?))
        })
        .await?;
    let mut starts: Vec<Moment> = recent
        .iter()
        .map(|row| now.wall.since(row.created_at))
        .filter(|age| *age < Duration::from_secs(3600))
        .map(|age| now.moment.minus(age))
        .collect();
    starts.sort_unstable();
    let max_in_flight = usize::try_from(config.settings.max_in_flight).unwrap_or(1);
    Ok((Engine::new(config.trigger, max_in_flight, starts), spent))
}
