//! Assigns machines to jobs, and launches one if there is none.
//!
//! Owns two rules: no launch while the result of the previous one is unknown, and no request before
//! its mark and its money are on the disk.

use std::sync::PoisonError;

use super::manager::{ManagedServer, ServerManager, job_label, reserve, usable};
use crate::{
    backend::{CallError, FaultKind, SubmitError, runcomfy::machines::Launch},
    daemon::services::{
        budget_windows,
        command::CommandErrorKind,
        leases::{Lease, NoServer, ServerRequest},
        messages::JobReport,
        runtime_config::{
            RuntimeConfig,
            server_api::{Cloud, ServerKind},
        },
    },
    domain::{
        job::backoff::Backoff,
        machines::{Lifecycle, MachineId, MachineStage, ServerId},
        money::{
            MicroUsd,
            budget::{BudgetLimits, BudgetWindows},
            cost_of,
            job_cost::CostBasis,
        },
        time::WallTime,
    },
    ledger::{
        error::ReleaseError,
        rows::{BudgetChange, MachineRow, NewMachine},
    },
};

/// The shortest and longest delay after a failed launch.
const RELAUNCH_BACKOFF: (std::time::Duration, std::time::Duration) =
    (std::time::Duration::from_secs(2), std::time::Duration::from_secs(30));

type Answer = Result<Lease, NoServer>;

impl ServerManager {
    /// Assigns machines to waiting jobs, and records which machines are idle.
    pub(crate) async fn allocate(&mut self) {
        let mut rest = Vec::new();
        for (request, mut on) in std::mem::take(&mut self.waiting) {
            if request.reply.is_closed() {
                continue;
            }
            // A job keeps waiting for the same machine as long as that one is starting.
            match self.try_answer(&request, &mut on).await {
                Some(answer) => drop(request.reply.send(answer)),
                None => rest.push((request, on)),
            }
        }
        self.waiting.append(&mut rest);
        let now = self.services.clock.now();
        for at in 0..self.servers.len() {
            let (id, wanted) = (self.servers[at].id, self.is_requested(self.servers[at].id));
            let server = &mut self.servers[at];
            server.expected = server.expected.filter(|until| *until > now.moment);
            let idles = server.leases.is_empty() && !wanted && server.expected.is_none();
            if idles == server.lifecycle.idle_since.is_some() {
                continue;
            }
            let since = idles.then_some(now.wall);
            if idles {
                server.lifecycle.record_released(now.moment);
            } else {
                server.lifecycle.record_leased(server.lifecycle.run);
            }
            self.notes.add(move |ledger| ledger.machine_idle(id, since));
        }
    }

    /// Answers a request, if that is possible now. `on` is the machine that the job waits for.
    async fn try_answer(
        &mut self,
        request: &ServerRequest,
        on: &mut Option<MachineId>,
    ) -> Option<Answer> {
        let config = self.config();
        let says = |message: String| drop(request.progress.send(message));
        if let Some(id) = request.previous {
            let Some(server) = self.server_mut(id) else {
                return Some(Err(NoServer::gone(
                    "the RunComfy machine that it ran on was stopped, so the run is lost",
                )));
            };
            *on = Some(id);
            return match server.lifecycle.stage {
                MachineStage::Stopping
                | MachineStage::Gone
                | MachineStage::Lost
                | MachineStage::Launching => Some(Err(NoServer::gone(
                    "the RunComfy machine that it ran on is being stopped, so the run is lost",
                ))),
                MachineStage::Starting | MachineStage::Ready => {
                    self.try_assign(request, id, &config).await
                }
            };
        }
        let cloud = match &config.cloud {
            Ok(cloud) => cloud,
            Err(unavailable) => {
                return Some(Err(NoServer::new(unavailable.kind, unavailable.reason.clone())));
            }
        };
        let fit = match &cloud.kind {
            Ok(fit) => fit,
            Err(unavailable) => {
                return Some(Err(NoServer::new(unavailable.kind, unavailable.reason.clone())));
            }
        };
        let now = self.now();
        let before = on.take();
        let fits = |server: &&ManagedServer| {
            let waited = before == Some(server.id) && server.lifecycle.is_alive();
            server.kind == *fit
                && server.account == cloud.account
                && (waited || server.lifecycle.can_serve(now, &cloud.rules, request.run))
        };
        if let Some(id) = self.servers.iter().find(fits).map(|server| server.id) {
            *on = Some(id);
            return self.try_assign(request, id, &config).await;
        }
        for server in &mut self.servers {
            match server.lifecycle.stage {
                // It has too little time left for another job.
                MachineStage::Ready if server.leases.is_empty() && server.kind == *fit => {
                    server.lifecycle.schedule_stop(crate::domain::machines::StopReason::MaxRun);
                }
                MachineStage::Lost => {
                    return Some(Err(NoServer::new(
                        CommandErrorKind::Unavailable,
                        "it is unknown which machine the last launch created, so no other one is \
                         launched: in RunComfy's dashboard, stop the one that you did not start",
                    )));
                }
                MachineStage::Launching => {
                    says(
                        "the answer to a launch was lost; checking whether it created a machine"
                            .to_owned(),
                    );
                    return None;
                }
                MachineStage::Starting
                | MachineStage::Ready
                | MachineStage::Stopping
                | MachineStage::Gone => {}
            }
        }
        self.launch(request, on, cloud, &fit.clone(), &config).await
    }

    /// Assigns a starting or ready machine, as soon as its ComfyUI answers.
    async fn try_assign(
        &mut self,
        request: &ServerRequest,
        id: MachineId,
        config: &RuntimeConfig,
    ) -> Option<Answer> {
        let says = |message: String| drop(request.progress.send(message));
        let now = self.now();
        let server = self.server_mut(id)?;
        let before = server.lifecycle.clone();
        server.lifecycle.record_leased(request.run);
        let Some(backend) =
            server.backend.clone().filter(|_| server.lifecycle.stage == MachineStage::Ready)
        else {
            says(match &server.problem {
                Some(problem) => {
                    format!("waiting for the RunComfy machine {}: {problem}", server.name())
                }
                None => format!(
                    "starting the RunComfy machine {}, which takes 1 to 5 minutes and sometimes \
                     more",
                    server.name()
                ),
            });
            return None;
        };
        if !server.answers {
            says(format!("waiting for ComfyUI on the RunComfy machine {}", server.name()));
            server.probe_at.get_or_insert(now);
            return None;
        }
        if request.previous.is_some() {
            return Some(Ok(self.lease(id, backend)));
        }
        let Some(cloud) = usable(config, &server.account) else {
            return Some(Err(NoServer::new(
                CommandErrorKind::Configuration,
                "the RunComfy machine belongs to another `cloud.user_id`",
            )));
        };
        let reserve = reserve(&server.lifecycle, now, request.run, &cloud.rules, server.hourly);
        let (limits, windows) =
            (config.limits, budget_windows::windows(self.services.clock.now().wall));
        let (session, job) = (self.services.session, request.job);
        let taken = self
            .services
            .store
            .with(move |ledger| ledger.machine_leased(id, session, job, reserve, &limits, &windows))
            .await;
        match taken {
            Ok(released) => {
                let server = self.server_mut(id)?;
                server.reserved = server.reserved.max(reserve);
                self.report_money(&limits, &windows, &released).await;
                tracing::info!(machine = %id, %job, "the machine has a job");
                Some(Ok(self.lease(id, backend)))
            }
            Err(refused) => {
                // The machine is not assigned and stays idle: a job that is refused for hours must
                // not keep it alive.
                self.server_mut(id)?.lifecycle = before;
                let message = match refused {
                    ReleaseError::Budget(refusal) => refusal.to_string(),
                    ReleaseError::Ledger(error) => error.to_string(),
                };
                Some(Err(NoServer::new(CommandErrorKind::TryAgain, message)))
            }
        }
    }

    fn lease(
        &mut self,
        id: MachineId,
        backend: std::sync::Arc<dyn crate::backend::Backend>,
    ) -> Lease {
        let number = self.next_number();
        let back = self.inbox.back.clone();
        let mut over = None;
        if let Some(server) = self.server_mut(id) {
            server.leases.insert(number);
            server.expected = None;
            over = Some(server.ended.subscribe());
        }
        let over = over.unwrap_or_else(|| tokio::sync::watch::channel(None).1);
        Lease { machine: id, backend, ended_reason: over, number, back }
    }

    /// Describes the machine for the ledger, before anything is sent for it.
    fn new_machine(
        &self,
        request: &ServerRequest,
        cloud: &Cloud,
        fit: &ServerKind,
        known_before: Vec<ServerId>,
        at: WallTime,
    ) -> NewMachine {
        NewMachine {
            id: MachineId::from_parts(at, rand::random()),
            session: self.services.session,
            account: cloud.account.clone(),
            server_type: fit.server_type.clone(),
            workflow_version: fit.workflow_version.clone(),
            known_before,
            hourly: cloud.hourly,
            reserve: cost_of(cloud.rules.expected(request.run), cloud.hourly),
            at,
        }
    }

    /// Launches a machine, once.
    async fn launch(
        &mut self,
        request: &ServerRequest,
        on: &mut Option<MachineId>,
        cloud: &Cloud,
        fit: &ServerKind,
        config: &RuntimeConfig,
    ) -> Option<Answer> {
        let says = |message: String| drop(request.progress.send(message));
        if self.launch_after.is_some_and(|after| after > self.now()) {
            return None;
        }
        if !self.notes.is_empty() {
            says("no machine is launched while the ledger cannot be written".to_owned());
            return None;
        }
        says(format!(
            "checking the RunComfy account before launching a machine ({})",
            fit.server_type
        ));
        self.limiter.wait().await;
        // Existing machines are listed first, so that ours can be recognized if the answer is lost.
        let listed = match self.until_stopped(cloud.machines.list(), false).await? {
            Ok(listed) => listed,
            Err(error) => return self.not_launched(request, error).await,
        };
        let now = self.services.clock.now();
        let known_before = listed.iter().map(|server| server.id.clone()).collect();
        let new = self.new_machine(request, cloud, fit, known_before, now.wall);
        let (limits, windows) = (config.limits, budget_windows::windows(now.wall));
        let row = new.clone();
        let marked =
            self.services.store.with(move |ledger| ledger.launching(&row, &limits, &windows)).await;
        match marked {
            Ok(released) => self.report_money(&limits, &windows, &released).await,
            Err(ReleaseError::Budget(refusal)) => {
                return Some(Err(NoServer::new(CommandErrorKind::TryAgain, refusal.to_string())));
            }
            Err(ReleaseError::Ledger(error)) => {
                let reason = format!("no machine was launched: {error}");
                return Some(Err(NoServer::new(CommandErrorKind::TryAgain, reason)));
            }
        }
        let id = new.id;
        let mut lifecycle = Lifecycle::launching(now.moment);
        lifecycle.record_leased(request.run);
        self.servers.push(ManagedServer::new(&row_of(&new), lifecycle));
        *on = Some(id);
        says(format!(
            "launching a RunComfy machine ({}, {} an hour once it is ready) for {}",
            fit.server_type,
            cloud.hourly,
            job_label(request.job)
        ));
        let launch = Launch {
            workflow_version: fit.workflow_version.clone(),
            server_type: fit.server_type.clone(),
            duration: cloud.rules.first_term(request.run),
        };
        self.limiter.wait().await;
        // If this is interrupted, the mark stays, and the next start looks for the machine.
        let answer = self.until_stopped(cloud.machines.launch(&launch), true).await?;
        let wall = self.services.clock.now().wall;
        let now = self.now();
        match answer {
            Ok(server) => {
                self.launch_failures = 0;
                self.launch_after = None;
                tracing::info!(machine = %id, server = %server.id, "RunComfy launches a machine");
                let own = server.id.clone();
                self.notes.add(move |ledger| ledger.launched(id, &own, false, wall));
                let entry = self.server_mut(id)?;
                entry.lifecycle.record_started(now);
                entry.server = Some(server.id.clone());
                entry.term = Some(server.duration.unwrap_or(launch.duration));
                None
            }
            Err(SubmitError::NotSent { reason, retry_after }) => {
                self.cancel_launch(id, "not_sent");
                *on = None;
                self.not_launched(request, CallError::Transient { reason, retry_after }).await
            }
            Err(SubmitError::Refused(fault)) => {
                self.cancel_launch(id, "refused");
                *on = None;
                self.not_launched(request, CallError::Fault(fault)).await
            }
            Err(SubmitError::Unknown { reason }) => {
                self.notes
                    .add(move |ledger| ledger.launch_unclear(id, MachineStage::Launching, wall));
                self.warn(format!(
                    "the answer to the launch of a RunComfy machine was lost ({reason}); the \
                     machine may be running and cost money, so conjured searches for it and \
                     launches no other one"
                ))
                .await;
                None
            }
        }
    }

    /// Reverts a launch that certainly did not happen.
    fn cancel_launch(&mut self, id: MachineId, outcome: &'static str) {
        let wall = self.services.clock.now().wall;
        self.servers.retain(|server| server.id != id);
        self.notes.add(move |ledger| {
            ledger.machine_gone(id, Some(MicroUsd::ZERO), CostBasis::Nothing, outcome, wall)
        });
    }

    /// Reports that there is no machine yet, or that there will be none.
    async fn not_launched(&mut self, request: &ServerRequest, error: CallError) -> Option<Answer> {
        let (reason, retry_after) = match error {
            CallError::Transient { reason, retry_after } => (reason, retry_after),
            CallError::Fault(fault) => {
                let reason = format!(
                    "RunComfy launched no machine: {}. {} Nothing was charged; check \
                     `cloud.user_id`, `cloud.workflow_version_id` and the token",
                    fault.message, fault.advice
                );
                let kind = if fault.kind == FaultKind::Token {
                    self.report(JobReport::TokenRefused).await;
                    CommandErrorKind::Token
                } else {
                    CommandErrorKind::Unavailable
                };
                return Some(Err(NoServer::new(kind, reason)));
            }
        };
        self.launch_failures += 1;
        let backoff = Backoff::new(RELAUNCH_BACKOFF.0, RELAUNCH_BACKOFF.1);
        let wait = backoff.wait(self.launch_failures, rand::random(), retry_after);
        self.launch_after = Some(self.now().plus(wait));
        drop(request.progress.send(format!("no machine yet, nothing was charged: {reason}")));
        None
    }

    /// Reports that limits are near, and that sums have changed.
    async fn report_money(
        &self,
        limits: &BudgetLimits,
        windows: &BudgetWindows,
        released: &BudgetChange,
    ) {
        let news = {
            let mut warned = self.services.warned.lock().unwrap_or_else(PoisonError::into_inner);
            warned.new_warnings(limits, windows, &released.before, &released.spent)
        };
        for warning in news {
            self.warn(warning.to_string()).await;
        }
        self.report(JobReport::MachineMoney).await;
    }
}

fn row_of(new: &NewMachine) -> MachineRow {
    MachineRow {
        id: new.id,
        session: new.session,
        stage: MachineStage::Launching,
        account: new.account.clone(),
        server: None,
        server_type: new.server_type.clone(),
        workflow_version: new.workflow_version.clone(),
        known_before: new.known_before.clone(),
        created_at: new.at,
        launched_at: None,
        ready_at: None,
        ready_is_exact: false,
        idle_since: None,
        stops_at: None,
        last_seen_at: None,
        stopping_at: None,
        ended_at: None,
        reason_code: None,
        hourly: new.hourly,
        reserved: new.reserve,
        booked: None,
        basis: None,
    }
}
