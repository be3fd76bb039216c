//! Assembles the daemon: locks, ledger, history, projects, unfinished jobs, watching, the socket.
//!
//! Owns the order of these steps, which matters: nothing is swept, marked or resumed before the
//! locks are held, and no job is sent before the first scan, because a newer snapshot may have
//! replaced it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    EventLoop, Inbox,
    event::{DaemonEnd, TaskName, TaskOutcome},
    performer::{JobChannels, Performer},
    signals::SignalStream,
    state::{Beginning, DaemonState},
    systemd::ServiceManager,
    tasks::{projects::take_projects, scans::SharedWatcher, watching::build_watcher},
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
        engine::Engine,
        job::JobId,
        status,
        time::{Moment, Now},
    },
    ledger::{
        Ledger,
        error::LedgerError,
        rows::{JobFilter, SessionId},
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
    let event_loop = Box::pin(assemble(options, signals)).await?;
    Ok(event_loop.run().await)
}

#[expect(clippy::too_many_lines, reason = "one list of steps whose order matters")]
async fn assemble(
    options: Options,
    signals: Option<SignalStream>,
) -> Result<EventLoop, StartError> {
    let Options { loaded, sources, runtime_config: config, log, purpose, stop, status, .. } =
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
        in_flight: Arc::default(),
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
        pid: holder.pid,
        since: now.wall,
        state_dir: state_dir.display().to_string(),
        stopping: false,
    };
    let service_manager = match purpose {
        // The process that handles signals is the one that the service manager started.
        Purpose::Serve if signals.is_some() => {
            ServiceManager::of(&sources.env, std::process::id(), now.moment)
        }
        _ => ServiceManager::disabled(now.moment),
    };
    let wake_queue = Arc::new(WakeQueue::default());
    let beginning = Beginning {
        engine,
        config: Arc::clone(&config),
        daemon,
        spent,
        log,
        one_job: matches!(purpose, Purpose::OneJob(_)),
        random: rand::random,
    };
    let performer = Performer {
        services,
        tasks,
        config: live_in,
        status,
        service_manager,
        wake_queue: Arc::clone(&wake_queue),
        watcher: SharedWatcher::default(),
        jobs: JobChannels::default(),
        sources,
        holder: Holder { what: "conjured run".to_owned(), ..holder },
    };
    let mut event_loop = EventLoop {
        clock,
        state: DaemonState::new(beginning, now),
        performer,
        inbox: Inbox { reports, commands, wake_queue, one_job: None, signals, stop },
        lock,
    };
    let state = &mut event_loop.state;
    state.on_lock_attempts(attempts)?;
    state.serve_taken(&config.settings.projects, clock.now());
    state.warn(warnings);
    if !loaded.not_in_effect.is_empty() {
        state.warn([format!(
            "set, but not supported in this version: {}",
            loaded.not_in_effect.join(", ")
        )]);
    }
    event_loop.begin(purpose, &loaded, lost).await?;
    event_loop.state.prune();
    event_loop.act_now();
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
        self.state.refresh_all();
        self.act_now();
        let store = self.performer.services.store.clone();
        let unfinished = store.with(|ledger| ledger.unfinished()).await?;
        match purpose {
            Purpose::Serve => {
                // Watching begins before the first scan, so that no change falls between the two.
                let request = self.state.begin_watching(loaded, self.clock.now().moment);
                let wake_queue = Arc::clone(&self.inbox.wake_queue);
                let built = build_watcher(request, wake_queue).await;
                self.state.on_watcher_built(built, self.clock.now());
            }
            Purpose::OneJob(request) => {
                let (reply, answer) = oneshot::channel();
                self.inbox.one_job = Some(answer);
                self.state.stop_scans();
                let now = self.clock.now();
                self.state.resume_all(unfinished, false, now);
                self.state.enqueue_request(UserRequest { request, reply }, now);
                return Ok(());
            }
        }
        let now = self.clock.now();
        self.state.resume_all(unfinished, true, now);
        self.act_now();
        let services = Arc::clone(&self.performer.services);
        self.performer.spawn(async move {
            crate::daemon::jobs::job_json::write_missing_records(
                &services.store,
                &services.history,
            )
            .await;
            TaskOutcome::Nothing
        });
        self.state.set_lost_answers(lost);
        self.state.scan_where_due(now.moment);
        for project in self.state.projects().values() {
            tracing::info!(
                "serving project \"{}\" in {}",
                project.config().name,
                project.config().root.display()
            );
        }
        Ok(())
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
