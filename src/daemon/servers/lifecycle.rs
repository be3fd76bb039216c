//! The calls for a machine that exists or may exist: find it, poll it, extend it, stop it; and the
//! booking at its end.
//!
//! Owns what an answer means for a machine's life and its ledger row. A stop is sent whether or not
//! its mark can be written: a full disk must not cost hours of a machine.

use std::time::Duration;

use super::manager::{ManagedServer, ServerManager, usable};
use crate::{
    backend::{
        CallError, FaultKind,
        runcomfy::machines::{Server, Stopped},
    },
    daemon::services::messages::JobReport,
    domain::{
        machines::{
            Action, LaunchSearch, MachineId, MachineStage, ServerId, StopReason,
            find_launched_machine,
        },
        money::{
            MicroUsd, cost_of,
            job_cost::{CostBasis, EXACT_TOLERANCE},
            server_cost::{BilledTime, server_cost},
        },
        time::Moment,
    },
};

/// How often the ledger records that a machine is alive.
const SEEN_WRITE_INTERVAL: Duration = Duration::from_secs(60);

/// By how much a machine's end must move to be recorded.
const END_TOLERANCE: Duration = Duration::from_secs(5);

/// How often a ComfyUI that does not answer yet is retried.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

impl ServerManager {
    /// Performs the first action that is due. Returns whether there was one.
    pub(crate) async fn act_once(&mut self) -> bool {
        let (now, config) = (self.now(), self.config());
        for at in 0..self.servers.len() {
            let server = &self.servers[at];
            let id = server.id;
            let Some(cloud) = usable(&config, &server.account) else { continue };
            if let Some(message) = server.lifecycle.warning(now, &cloud.rules)
                && !server.warned
            {
                self.servers[at].warned = true;
                self.warn(message).await;
            }
            let server = &self.servers[at];
            let probe = server.probe_at.is_some_and(|at| at <= now);
            if probe && server.lifecycle.stage == MachineStage::Ready && self.is_requested(id) {
                self.probe(id).await;
                return true;
            }
            if let Ok(act) = server.lifecycle.next(now, &cloud.rules) {
                self.perform(id, act).await;
                return true;
            }
        }
        false
    }

    /// Does the same for the machines to stop at the end of the daemon.
    pub(crate) async fn stop_one(&mut self, ids: &[MachineId]) -> bool {
        let (now, config) = (self.now(), self.config());
        for id in ids {
            let Some(server) = self.servers.iter().find(|server| server.id == *id) else {
                continue;
            };
            let Some(cloud) = usable(&config, &server.account) else { continue };
            if let Ok(act @ (Action::Stop(_) | Action::Delete)) =
                server.lifecycle.next(now, &cloud.rules)
            {
                self.perform(*id, act).await;
                return true;
            }
        }
        false
    }

    async fn perform(&mut self, id: MachineId, act: Action) {
        match act {
            Action::List => self.search(id).await,
            Action::LaunchFailed => {
                self.warn(
                    "the launch whose answer was lost created no machine, according to RunComfy's \
                     list; its reserved amount still counts as spent"
                        .to_owned(),
                )
                .await;
                self.book_and_remove(id, "never_came", None);
            }
            Action::CheckStatus => self.check_status(id).await,
            Action::Extend(until) => self.extend(id, until).await,
            Action::Stop(why) => self.decide_stop(id, why).await,
            Action::Delete => self.delete(id).await,
        }
    }

    /// Looks for the machine of a launch whose answer was lost.
    async fn search(&mut self, id: MachineId) {
        let Some(listed) = self.list(id).await else { return };
        let now = self.now();
        let others: Vec<ServerId> = self
            .servers
            .iter()
            .filter(|entry| entry.id != id)
            .filter_map(|entry| entry.server.clone())
            .collect();
        let Some(entry) = self.server_mut(id) else { return };
        let before: Vec<ServerId> = entry.known_before.iter().cloned().chain(others).collect();
        let seen: Vec<_> = listed.iter().map(Server::listed).collect();
        let mut found = find_launched_machine(
            &seen,
            &before,
            &entry.kind.server_type,
            &entry.kind.workflow_version,
        );
        if entry.lifecycle.stage == MachineStage::Lost
            && let LaunchSearch::Found(one) = found
        {
            // One of several candidates is left, but the other one is as likely to have been ours.
            found = LaunchSearch::Ambiguous(vec![one]);
        }
        let was = entry.lifecycle.stage;
        entry.lifecycle.record_search(now, &found);
        let (stage, wall) = (entry.lifecycle.stage, self.services.clock.now().wall);
        match found {
            LaunchSearch::Found(server) => {
                let Some(entry) = self.server_mut(id) else { return };
                entry.lifecycle.record_started(now);
                entry.server = Some(server.clone());
                entry.problem = None;
                self.warn(format!(
                    "the launch whose answer was lost created a RunComfy machine ({server}); it \
                     was found and is managed"
                ))
                .await;
                self.notes.add(move |ledger| ledger.launched(id, &server, true, wall));
            }
            LaunchSearch::Ambiguous(servers) if was != MachineStage::Lost => {
                let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
                self.warn(format!(
                    "a launch whose answer was lost may have created one of these RunComfy \
                     machines, and it is unknown which: {}. None of them was changed; in \
                     RunComfy's dashboard, stop the one that you did not start, because it costs \
                     money",
                    names.join(", ")
                ))
                .await;
                self.notes.add(move |ledger| ledger.launch_unclear(id, MachineStage::Lost, wall));
            }
            LaunchSearch::NotFound if stage == MachineStage::Gone => {
                self.book_and_remove(id, "never_told", None);
            }
            LaunchSearch::Ambiguous(_) | LaunchSearch::NotFound => {}
        }
    }

    async fn check_status(&mut self, id: MachineId) {
        let config = self.config();
        let Some((cloud, server)) = self
            .server_mut(id)
            .and_then(|entry| Some((usable(&config, &entry.account)?, entry.server.clone()?)))
        else {
            return;
        };
        self.limiter.wait().await;
        let Some(answer) = self.until_stopped(cloud.machines.state(&server), false).await else {
            return;
        };
        match answer {
            Ok(Some(reported)) => self.record_status(id, &reported),
            Ok(None) => self.record_unlisted(id, &server).await,
            Err(error) => self.call_failed(id, error).await,
        }
    }

    /// Applies what the service reports about a machine.
    fn record_status(&mut self, id: MachineId, reported: &Server) {
        let now = self.now();
        let config = self.config();
        let connect = self.connect;
        let Some(server) = self.server_mut(id) else { return };
        let was = server.lifecycle.stage;
        let stops_at = reported.stops_in.map(|span| now.plus(span));
        let moved = match (server.lifecycle.stops_at, stops_at) {
            (Some(old), Some(new)) => old.since(new).max(new.since(old)) > END_TOLERANCE,
            (None, new) => new.is_some(),
            (Some(_), None) => false,
        };
        server.lifecycle.record_status(now, reported.reported_stage, stops_at, reported.ready_for);
        server.term = reported.duration.or(server.term);
        server.problem = match (&reported.unknown_status, &reported.refused_host) {
            (_, Some(host)) => Some(format!(
                "RunComfy returned an address for it that is not trusted ({host}): see \
                 `serverless.download_hosts`"
            )),
            (Some(word), None) => Some(format!(
                "RunComfy reports the unknown state `{word}`, which is treated as starting"
            )),
            (None, None) => None,
        };
        if let Some(url) = &reported.url
            && server.url.as_ref() != Some(url)
        {
            match connect(url, &config.settings) {
                Ok(backend) => server.backend = Some(backend),
                Err(reason) => server.problem = Some(reason),
            }
            server.url = Some(url.clone());
            server.answers = false;
            server.probe_at = Some(now);
        }
        let became_ready =
            was == MachineStage::Starting && server.lifecycle.stage == MachineStage::Ready;
        let write_seen = moved || now.since(server.alive_written_at) >= SEEN_WRITE_INTERVAL;
        let (ready, seen) = (server.lifecycle.ready, server.lifecycle.ready_is_exact);
        if write_seen {
            server.alive_written_at = now;
        }
        if became_ready {
            let ready_at = self.to_wall_time(ready.unwrap_or(now));
            tracing::info!(machine = %id, "the RunComfy machine is ready, and billed from now on");
            self.notes.add(move |ledger| ledger.machine_ready(id, ready_at, seen));
        }
        if write_seen {
            let (stops, wall) = (stops_at.map(|at| self.to_wall_time(at)), self.to_wall_time(now));
            self.notes.add(move |ledger| ledger.machine_alive(id, stops, wall));
        }
    }

    /// Handles the answer that the service does not know a machine. Only its list decides whether
    /// that is true, because a wrong address must not make a machine look gone.
    async fn record_unlisted(&mut self, id: MachineId, server: &ServerId) {
        let Some(listed) = self.list(id).await else { return };
        if let Some(reported) = listed.iter().find(|one| one.id == *server).cloned() {
            let now = self.now();
            if let Some(entry) = self.server_mut(id)
                && entry.lifecycle.stage == MachineStage::Stopping
            {
                if reported.listed().is_ending {
                    entry.lifecycle.record_gone();
                    self.book_and_remove(id, "stopped", None);
                } else {
                    entry.lifecycle.record_failure(now, rand::random(), None);
                }
                return;
            }
            self.record_status(id, &reported);
            return;
        }
        let now = self.now();
        let Some(entry) = self.server_mut(id) else { return };
        entry.lifecycle.record_unlisted(now);
        if entry.lifecycle.stage == MachineStage::Gone {
            let outcome = if entry.why.is_some() { "stopped" } else { "was_gone" };
            if entry.why.is_none() {
                let message = format!(
                    "the RunComfy machine {} is gone: it was stopped outside conjured",
                    entry.name()
                );
                entry.ended.send_replace(Some(message.clone()));
                if !entry.leases.is_empty() {
                    self.warn(message).await;
                }
            }
            self.book_and_remove(id, outcome, None);
        }
    }

    /// Lists the account's machines; a failed call returns `None` and is recorded at the machine.
    async fn list(&mut self, id: MachineId) -> Option<Vec<Server>> {
        let config = self.config();
        let account = self.server_mut(id)?.account.clone();
        let cloud = usable(&config, &account)?;
        self.limiter.wait().await;
        match self.until_stopped(cloud.machines.list(), false).await? {
            Ok(listed) => Some(listed),
            Err(error) => {
                self.call_failed(id, error).await;
                None
            }
        }
    }

    async fn call_failed(&mut self, id: MachineId, error: CallError) {
        let now = self.now();
        let (message, retry_after) = match error {
            CallError::Transient { reason, retry_after } => (reason, retry_after),
            CallError::Fault(fault) => {
                if fault.kind == FaultKind::Token {
                    self.report(JobReport::TokenRefused).await;
                }
                (format!("{}. {}", fault.message, fault.advice), None)
            }
        };
        let Some(server) = self.server_mut(id) else { return };
        server.lifecycle.record_failure(now, rand::random(), retry_after);
        tracing::warn!(machine = %id, failures = server.lifecycle.failures(), "a call about the machine \
            failed at RunComfy: {message}");
        server.problem = Some(message);
    }

    /// Extends a machine: reserves the money first.
    async fn extend(&mut self, id: MachineId, until: Moment) {
        let (config, now) = (self.config(), self.now());
        let Some(entry) = self.server_mut(id) else { return };
        let Some(server) = entry.server.clone() else { return };
        let Some(cloud) = usable(&config, &entry.account) else { return };
        let from = entry.lifecycle.ready.unwrap_or(now);
        let reserve = cost_of(until.since(from), entry.hourly).max(entry.reserved);
        entry.reserved = reserve;
        // The total duration, as at the launch; the result is read back from the service's record.
        let whole = match (entry.term, entry.lifecycle.stops_at) {
            (Some(term), Some(stops)) => term + until.since(stops),
            _ => until.since(entry.lifecycle.launched),
        };
        let extending = self.services.store.with(move |ledger| ledger.extending(id, reserve)).await;
        if let Err(error) = extending {
            // The money is spent in any case: without an extension the run would be lost too.
            tracing::warn!(machine = %id, %error, "the higher reservation is not in the ledger");
        }
        self.limiter.wait().await;
        let Some(answer) = self.until_stopped(cloud.machines.extend(&server, whole), false).await
        else {
            return;
        };
        let now = self.now();
        let wall = self.to_wall_time(now);
        match answer {
            Ok(Some(())) => {
                let stops = self.to_wall_time(until);
                let Some(entry) = self.server_mut(id) else { return };
                entry.lifecycle.record_extended(now, until);
                entry.term = Some(whole);
                tracing::info!(machine = %id, "the RunComfy machine was extended by {} s", until.since(now).as_secs());
                self.notes.add(move |ledger| ledger.extended(id, Some(stops), "accepted", wall));
            }
            Ok(None) => self.record_unlisted(id, &server).await,
            Err(error) => {
                self.notes.add(move |ledger| ledger.extended(id, None, "failed", wall));
                self.call_failed(id, error).await;
            }
        }
        self.report(JobReport::MachineMoney).await;
    }

    /// Records the mark of a stop, and notifies the jobs that use the machine.
    async fn decide_stop(&mut self, id: MachineId, why: StopReason) {
        let wall = self.services.clock.now().wall;
        let Some(server) = self.server_mut(id) else { return };
        server.lifecycle.record_stopping();
        server.why = Some(why);
        server.problem = None;
        let message = format!("stopping the RunComfy machine {}: {}", server.name(), why.message());
        server.ended.send_replace(Some(message.clone()));
        let busy = !server.leases.is_empty();
        self.notes.add(move |ledger| ledger.machine_stopping(id, why, wall));
        self.notes.write_pending(&self.services.store, self.now()).await;
        if busy {
            self.warn(format!("{message}; a job was running on it")).await;
        } else {
            tracing::info!(machine = %id, "{message}");
        }
    }

    async fn delete(&mut self, id: MachineId) {
        let config = self.config();
        let Some((cloud, server)) = self
            .server_mut(id)
            .and_then(|entry| Some((usable(&config, &entry.account)?, entry.server.clone()?)))
        else {
            return;
        };
        self.limiter.wait().await;
        // Not interrupted when the daemon stops: the caller has its own time limit.
        match cloud.machines.stop(&server).await {
            Ok(Stopped::Now) => {
                if let Some(entry) = self.server_mut(id) {
                    entry.lifecycle.record_gone();
                }
                self.book_and_remove(id, "stopped", Some(self.now()));
            }
            Ok(Stopped::Unknown) => self.record_unlisted(id, &server).await,
            Err(error) => {
                self.call_failed(id, error).await;
                if let Some(entry) = self.server_mut(id)
                    && entry.lifecycle.failures() == 2
                {
                    let message = format!(
                        "the RunComfy machine {} could not be stopped and still costs money; \
                         conjured keeps trying, and you can stop it in RunComfy's dashboard",
                        entry.name()
                    );
                    self.warn(message).await;
                }
            }
        }
    }

    /// Probes a machine's ComfyUI: the service reports it as ready a little before it answers.
    async fn probe(&mut self, id: MachineId) {
        let Some(backend) = self.server_mut(id).and_then(|server| server.backend.clone()) else {
            return;
        };
        let warm = tokio::time::timeout(Duration::from_secs(10), backend.warm_up());
        let Some(answer) = self.until_stopped(warm, false).await else { return };
        let now = self.now();
        let Some(server) = self.server_mut(id) else { return };
        match answer {
            Ok(Ok(_)) => {
                server.answers = true;
                server.probe_at = None;
            }
            Ok(Err(error)) => {
                tracing::debug!(machine = %id, "ComfyUI on the machine does not answer yet: {error}");
                server.probe_at = Some(now.plus(PROBE_INTERVAL));
            }
            Err(_) => server.probe_at = Some(now.plus(PROBE_INTERVAL)),
        }
    }

    /// Books and removes a machine that is gone. `stopped` is when the service accepted the stop.
    fn book_and_remove(&mut self, id: MachineId, outcome: &'static str, stopped: Option<Moment>) {
        let now = self.now();
        let Some(at) = self.servers.iter().position(|server| server.id == id) else { return };
        let server = self.servers.remove(at);
        if server.ended.borrow().is_none() {
            server
                .ended
                .send_replace(Some(format!("the RunComfy machine {} is gone", server.name())));
        }
        let (booked, basis) = match server.server {
            // It is unknown whether there was a machine.
            None => (None, CostBasis::Reserved),
            Some(_) => {
                let (cost, basis) = cost(&server, stopped, now);
                (Some(cost), basis)
            }
        };
        let wall = self.services.clock.now().wall;
        tracing::info!(
            machine = %id, cost = %booked.unwrap_or(server.reserved),
            "the RunComfy machine {} is gone", server.name()
        );
        self.notes.add(move |ledger| ledger.machine_gone(id, booked, basis, outcome, wall));
    }
}

/// Returns what a machine cost, and how that is known.
fn cost(server: &ManagedServer, stopped: Option<Moment>, now: Moment) -> (MicroUsd, CostBasis) {
    let lifecycle = &server.lifecycle;
    // The end: observed, or at the latest now, or at the service's own stop if that has passed.
    let end = stopped
        .unwrap_or_else(|| lifecycle.stops_at.map_or(now, |at| at.plus(EXACT_TOLERANCE).min(now)));
    let end_seen = stopped.is_some()
        || lifecycle.record_answer().is_some_and(|at| end.since(at) <= EXACT_TOLERANCE);
    let (begin, begin_seen) = match lifecycle.ready {
        Some(ready) => (ready, lifecycle.ready_is_exact),
        // It was never seen ready: its cost is for the time between the last poll and the end.
        None => match lifecycle.record_starting() {
            Some(heard) => (heard, end.since(heard) <= EXACT_TOLERANCE),
            None => (lifecycle.launched, false),
        },
    };
    let ran = BilledTime { max: end.since(begin), is_exact: begin_seen && end_seen };
    server_cost(ran, server.hourly)
}
