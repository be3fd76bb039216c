//! The background task: its order of work, recovery after an earlier session, and shutdown.
//!
//! Owns the machines of the process and the waiting between two steps. It does one thing at a time,
//! with at most one call per second (the service answers 429 to more), and makes no call without a
//! machine or a request for one.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::notes::Notes;
use crate::{
    backend::{Backend, runcomfy::machines::MachineUrl},
    daemon::services::{
        Services,
        leases::{ManagerInbox, ManagerMessage, ServerRequest},
        messages::JobReport,
        rate_limiter::RateLimiter,
        runtime_config::{
            RuntimeConfig,
            server_api::{Cloud, Connect, ServerKind},
        },
    },
    domain::{
        job::{JobId, JobState},
        machines::{Lifecycle, MachineId, MachineStage, ServerId, ServerRules, StopReason},
        money::MicroUsd,
        status,
        time::{Moment, WallTime},
    },
    ledger::rows::MachineRow,
};

/// The shortest interval between calls to the service, which otherwise answers 429.
const CALL_INTERVAL: Duration = Duration::from_secs(1);

/// The longest single sleep: timers stop while the computer sleeps, but a machine keeps running.
const MAX_SLEEP: Duration = Duration::from_secs(20);

/// How long a job of an earlier session may take to request the machine that it runs on.
const RECLAIM_TIME: Duration = Duration::from_secs(30);

/// How long a stopping daemon waits for jobs to release their machines, and then for the stops.
const RELEASE_TIME: Duration = Duration::from_millis(1500);
const SHUTDOWN_CALLS_TIMEOUT: Duration = Duration::from_millis(2500);

/// How long a stopping daemon waits for the answer to a launch.
const LAUNCH_ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// A machine that this process manages.
#[derive(Debug)]
pub(crate) struct ManagedServer {
    pub(crate) id: MachineId,
    pub(crate) server: Option<ServerId>,
    pub(crate) account: String,
    pub(crate) kind: ServerKind,
    pub(crate) known_before: Vec<ServerId>,
    pub(crate) created_at: WallTime,
    pub(crate) hourly: MicroUsd,
    pub(crate) reserved: MicroUsd,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) why: Option<StopReason>,
    pub(crate) url: Option<MachineUrl>,
    pub(crate) backend: Option<Arc<dyn Backend>>,
    pub(crate) answers: bool,
    /// When its ComfyUI is probed again.
    pub(crate) probe_at: Option<Moment>,
    /// The total duration for which it was launched or extended, as the service reported.
    pub(crate) term: Option<Duration>,
    /// The numbers of the leases on it.
    pub(crate) leases: BTreeSet<u64>,
    pub(crate) ended: watch::Sender<Option<String>>,
    /// The problem to show in `status`.
    pub(crate) problem: Option<String>,
    /// When the ledger last recorded that it is alive.
    pub(crate) alive_written_at: Moment,
    /// A job of an earlier session runs on it and may request it until then.
    pub(crate) expected: Option<Moment>,
    pub(crate) warned: bool,
}

impl ManagedServer {
    pub(crate) fn new(row: &MachineRow, lifecycle: Lifecycle) -> Self {
        Self {
            id: row.id,
            server: row.server.clone(),
            account: row.account.clone(),
            kind: ServerKind {
                workflow_version: row.workflow_version.clone(),
                server_type: row.server_type.clone(),
            },
            known_before: row.known_before.clone(),
            created_at: row.created_at,
            hourly: row.hourly,
            reserved: row.reserved,
            lifecycle,
            why: None,
            url: None,
            backend: None,
            answers: false,
            probe_at: None,
            term: None,
            leases: BTreeSet::new(),
            ended: watch::channel(None).0,
            problem: None,
            alive_written_at: Moment::default(),
            expected: None,
            warned: false,
        }
    }

    /// Returns its name for messages: its type, and the beginning of the service's id.
    pub(crate) fn name(&self) -> String {
        match &self.server {
            Some(server) => format!("{} ({server})", self.kind.server_type),
            None => self.kind.server_type.clone(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct ServerManager {
    pub(crate) services: Arc<Services>,
    pub(crate) inbox: ManagerInbox,
    pub(crate) connect: Connect,
    pub(crate) servers: Vec<ManagedServer>,
    pub(crate) waiting: Vec<(ServerRequest, Option<MachineId>)>,
    pub(crate) notes: Notes,
    pub(crate) limiter: RateLimiter,
    pub(crate) number: u64,
    pub(crate) launch_failures: u32,
    pub(crate) launch_after: Option<Moment>,
    pub(crate) shown: Vec<status::Machine>,
}

impl ServerManager {
    pub(crate) fn new(services: Arc<Services>, inbox: ManagerInbox, connect: Connect) -> Self {
        let limiter = RateLimiter::new(CALL_INTERVAL, services.clock);
        Self {
            services,
            inbox,
            connect,
            servers: Vec::new(),
            waiting: Vec::new(),
            notes: Notes::default(),
            limiter,
            number: 0,
            launch_failures: 0,
            launch_after: None,
            shown: Vec::new(),
        }
    }

    /// Manages the machines until the daemon stops.
    pub(crate) async fn run(mut self) {
        self.recover().await;
        let mut config = self.services.config.clone();
        loop {
            self.drain_messages();
            if self.is_closing() {
                self.close_down().await;
                return;
            }
            if self.notes.write_pending(&self.services.store, self.now()).await {
                self.report(JobReport::MachineMoney).await;
            }
            self.allocate().await;
            self.check_kind();
            let acted = !self.is_closing() && self.act_once().await;
            self.show().await;
            if acted {
                continue;
            }
            let rest = self.idle_time();
            let timer = async {
                match rest {
                    Some(rest) => tokio::time::sleep(rest).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ask = self.inbox.messages.recv() => {
                    if let Some(ask) = ask {
                        self.on_message(ask);
                    }
                }
                _ = self.inbox.closing.changed() => {}
                _ = config.changed() => {}
                () = timer => {}
            }
        }
    }

    /// Takes over the machines of an earlier session. Nothing is launched before that.
    async fn recover(&mut self) {
        let now = self.services.clock.now();
        let read = self
            .services
            .store
            .with(|ledger| {
                Ok::<_, crate::ledger::error::LedgerError>((
                    ledger.machines_open()?,
                    ledger.unfinished()?,
                ))
            })
            .await;
        let (rows, jobs) = match read {
            Ok(read) => read,
            Err(error) => {
                let message = format!(
                    "the ledger cannot be read, so a RunComfy machine of an earlier session may \
                     still run and cost money ({error}): check RunComfy's dashboard"
                );
                self.report(JobReport::Warning(message)).await;
                return;
            }
        };
        for row in rows {
            let at = |wall: WallTime| now.moment.minus(now.wall.since(wall));
            let mut lifecycle = Lifecycle::resume(row.stage, at(row.created_at));
            lifecycle.ready = row.ready_at.map(at);
            lifecycle.ready_is_exact = row.ready_is_exact;
            lifecycle.stops_at = row.stops_at.map(|stops| now.moment.plus(stops.since(now.wall)));
            // No job has it yet. The start of its idle time is in the ledger, because otherwise
            // repeated crashes would keep restarting the wait. If a paid run is on it, its job
            // waits for that instead.
            let its = row.id.to_string();
            let is_expected = jobs.iter().any(|job| {
                job.state.is_in_flight() && job.deployment.as_deref() == Some(its.as_str())
            });
            if !is_expected {
                lifecycle.record_released(row.idle_since.map_or(now.moment, at));
            }
            let mut server = ManagedServer::new(&row, lifecycle);
            server.expected = is_expected.then(|| now.moment.plus(RECLAIM_TIME));
            let id = row.id;
            let idles = row.idle_since.is_none() && !is_expected;
            if idles && matches!(row.stage, MachineStage::Starting | MachineStage::Ready) {
                let wall = now.wall;
                self.notes.add(move |ledger| ledger.machine_idle(id, Some(wall)));
            }
            tracing::warn!(
                machine = %row.id, stage = row.stage.name(),
                "an earlier session left a RunComfy machine: {}", server.name()
            );
            self.servers.push(server);
        }
    }

    fn drain_messages(&mut self) {
        while let Ok(ask) = self.inbox.messages.try_recv() {
            self.on_message(ask);
        }
    }

    fn on_message(&mut self, ask: ManagerMessage) {
        match ask {
            ManagerMessage::Request(request) => self.waiting.push((request, None)),
            ManagerMessage::Released(number) => {
                for server in &mut self.servers {
                    server.leases.remove(&number);
                }
            }
        }
    }

    /// Stops machines that can no longer be used, because another kind is configured, or none.
    fn check_kind(&mut self) {
        let config = self.config();
        let Ok(cloud) = &config.cloud else { return };
        for server in &mut self.servers {
            let wanted = self.waiting.iter().any(|(_, on)| *on == Some(server.id));
            if !server.leases.is_empty() || server.expected.is_some() || wanted {
                continue;
            }
            match &cloud.kind {
                Ok(fit) if *fit == server.kind => {}
                Ok(_) => server.lifecycle.schedule_stop(StopReason::KindChanged),
                Err(_) => server.lifecycle.schedule_stop(StopReason::LeftOver),
            }
        }
    }

    /// Returns how long there is nothing to do; `None` until the next request.
    fn idle_time(&self) -> Option<Duration> {
        let now = self.now();
        let config = self.config();
        let lives = self.servers.iter().filter_map(|server| {
            let cloud = usable(&config, &server.account)?;
            let next = server.lifecycle.next(now, &cloud.rules).err().unwrap_or(now);
            let probe = server.probe_at.filter(|_| self.is_requested(server.id));
            [Some(next), probe, server.expected].into_iter().flatten().min()
        });
        let launch = self.launch_after.filter(|_| !self.waiting.is_empty());
        let due = lives.chain(launch).chain(self.notes.retry_at).min()?;
        // The minimum keeps a bug in here from turning the loop without end.
        Some(due.since(now).clamp(Duration::from_millis(10), MAX_SLEEP))
    }

    pub(crate) fn is_requested(&self, id: MachineId) -> bool {
        self.waiting.iter().any(|(_, on)| *on == Some(id))
    }

    /// Stops machines without a job of ours while there is time; the next start does the rest.
    async fn close_down(&mut self) {
        self.waiting.clear();
        let leave = self.now().plus(RELEASE_TIME);
        while self.servers.iter().any(|server| !server.leases.is_empty()) {
            let left = leave.since(self.now());
            match tokio::time::timeout(left, self.inbox.messages.recv()).await {
                Ok(Some(ask)) => self.on_message(ask),
                Ok(None) | Err(_) => break,
            }
        }
        self.waiting.clear();
        let jobs = self.services.store.with(|ledger| ledger.unfinished()).await;
        let needed = |server: &ManagedServer| {
            let its = server.id.to_string();
            match &jobs {
                Ok(jobs) => jobs.iter().any(|job| {
                    let remote = matches!(
                        job.state,
                        JobState::Submitting | JobState::Submitted | JobState::Running
                    );
                    remote && job.deployment.as_deref() == Some(its.as_str())
                }),
                // It is unknown: a paid run is not thrown away, and the machine ends automatically.
                Err(_) => !server.leases.is_empty(),
            }
        };
        let mut stop = Vec::new();
        for server in &mut self.servers {
            if needed(server) {
                tracing::warn!(
                    machine = %server.id,
                    "the RunComfy machine {} keeps running (and is billed): a job runs on it, and \
                     the next start picks it up", server.name()
                );
            } else if server.server.is_some() {
                server.lifecycle.schedule_stop(StopReason::DaemonStopping);
                stop.push(server.id);
            }
        }
        let last = self.now().plus(SHUTDOWN_CALLS_TIMEOUT);
        loop {
            let left = last.since(self.now());
            let open = self.servers.iter().any(|server| stop.contains(&server.id));
            if !open || left.is_zero() {
                break;
            }
            match tokio::time::timeout(left, self.stop_one(&stop)).await {
                Ok(true) => {}
                Ok(false) => tokio::time::sleep(Duration::from_millis(100).min(left)).await,
                Err(_) => break,
            }
        }
        self.notes.retry_at = None;
        self.notes.write_pending(&self.services.store, self.now()).await;
        for server in self.servers.iter().filter(|server| stop.contains(&server.id)) {
            tracing::error!(
                machine = %server.id,
                "the RunComfy machine {} could not be stopped in time and may still cost money: \
                 the next start stops it, or stop it in RunComfy's dashboard", server.name()
            );
        }
    }

    /// Waits for a call; returns `None` if the daemon stops first. A launch gets some extra time.
    pub(crate) async fn until_stopped<T>(
        &self,
        call: impl Future<Output = T>,
        is_launch: bool,
    ) -> Option<T> {
        let mut closing = self.inbox.closing.clone();
        let stopping = async {
            if closing.wait_for(|closing| *closing).await.is_err() {
                // The event loop is gone, so the process is ending.
            }
            if is_launch {
                tokio::time::sleep(LAUNCH_ANSWER_TIMEOUT).await;
            }
        };
        tokio::select! {
            biased;
            answer = call => Some(answer),
            () = stopping => None,
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.inbox.closing.borrow()
    }

    pub(crate) fn now(&self) -> Moment {
        self.services.clock.now().moment
    }

    pub(crate) fn config(&self) -> Arc<RuntimeConfig> {
        Arc::clone(&self.services.config.borrow())
    }

    pub(crate) async fn report(&self, report: JobReport) {
        // The event loop is gone only when the process ends.
        drop(self.services.reports.send(report).await);
    }

    pub(crate) async fn warn(&self, message: String) {
        self.report(JobReport::Warning(message)).await;
    }

    pub(crate) fn to_wall_time(&self, moment: Moment) -> WallTime {
        let now = self.services.clock.now();
        if moment >= now.moment {
            now.wall.plus(moment.since(now.moment))
        } else {
            now.wall.minus(now.moment.since(moment))
        }
    }

    pub(crate) fn server_mut(&mut self, id: MachineId) -> Option<&mut ManagedServer> {
        self.servers.iter_mut().find(|server| server.id == id)
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

/// Returns the Server API of an account, if that account is the configured one.
pub(crate) fn usable<'a>(config: &'a RuntimeConfig, account: &str) -> Option<&'a Cloud> {
    config.cloud.as_ref().ok().filter(|cloud| cloud.account == account)
}

/// Returns the amount to reserve when a job takes a machine: time so far, job, idle time
/// afterwards.
pub(crate) fn reserve(
    lifecycle: &Lifecycle,
    now: Moment,
    run: Duration,
    rules: &ServerRules,
    hourly: MicroUsd,
) -> MicroUsd {
    let ran = lifecycle.ready.map_or(Duration::ZERO, |ready| now.since(ready));
    crate::domain::money::cost_of((ran + run + rules.idle_stop).min(rules.max_run), hourly)
}

pub(crate) fn job_label(job: JobId) -> String {
    format!("job {job}")
}
