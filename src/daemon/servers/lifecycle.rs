//! The calls for a machine that exists or may exist: find it, poll it, extend it, stop it; and the
//! booking at its end.
//!
//! Owns what an answer means for a machine's life and its ledger row. A stop is sent whether or not
//! its mark can be written: a full disk must not cost hours of a machine.

use std::time::Duration;

use super::manager::{Held, Work, usable};
use crate::{
    backend::{
        CallError, FaultKind,
        runcomfy::machines::{Server, Stopped},
    },
    daemon::services::messages::JobReport,
    domain::{
        machines::{
            Action, LaunchMatch, MachineId, MachineStage, ServerId, StopReason, which_is_ours,
        },
        money::{
            MicroUsd, cost_of,
            job_cost::{CostBasis, EXACT_WITHIN},
            server_cost::{BilledTime, server_cost},
        },
        time::Moment,
    },
};

/// How often the ledger records that a machine is alive.
const SEEN_EVERY: Duration = Duration::from_secs(60);

/// By how much a machine's end must move to be recorded.
const END_MOVED: Duration = Duration::from_secs(5);

/// How often a ComfyUI that does not answer yet is retried.
const PROBE_EVERY: Duration = Duration::from_secs(2);

impl Work {
    /// Performs the first action that is due. Returns whether there was one.
    pub(crate) async fn act(&mut self) -> bool {
        let (now, config) = (self.now(), self.live());
        for at in 0..self.held.len() {
            let held = &self.held[at];
            let id = held.id;
            let Some(cloud) = usable(&config, &held.account) else { continue };
            if let Some(words) = held.life.warning(now, &cloud.rules)
                && !held.warned
            {
                self.held[at].warned = true;
                self.warn(words).await;
            }
            let held = &self.held[at];
            let probe = held.probe_at.is_some_and(|at| at <= now);
            if probe && held.life.stage == MachineStage::Ready && self.is_wanted(id) {
                self.probe(id).await;
                return true;
            }
            if let Ok(act) = held.life.next(now, &cloud.rules) {
                self.perform(id, act).await;
                return true;
            }
        }
        false
    }

    /// Does the same for the machines to stop at the end of the daemon.
    pub(crate) async fn stop_one(&mut self, ids: &[MachineId]) -> bool {
        let (now, config) = (self.now(), self.live());
        for id in ids {
            let Some(held) = self.held.iter().find(|held| held.id == *id) else { continue };
            let Some(cloud) = usable(&config, &held.account) else { continue };
            if let Ok(act @ (Action::Stop(_) | Action::Delete)) = held.life.next(now, &cloud.rules)
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
                self.end(id, "never_came", None);
            }
            Action::CheckStatus => self.ask(id).await,
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
            .held
            .iter()
            .filter(|held| held.id != id)
            .filter_map(|held| held.server.clone())
            .collect();
        let Some(held) = self.at(id) else { return };
        let before: Vec<ServerId> = held.known_before.iter().cloned().chain(others).collect();
        let seen: Vec<_> = listed.iter().map(Server::listed).collect();
        let mut found =
            which_is_ours(&seen, &before, &held.kind.server_type, &held.kind.workflow_version);
        if held.life.stage == MachineStage::Lost
            && let LaunchMatch::Ours(one) = found
        {
            // One of several candidates is left, but the other one is as likely to have been ours.
            found = LaunchMatch::Unclear(vec![one]);
        }
        let was = held.life.stage;
        held.life.record_search(now, &found);
        let (stage, wall) = (held.life.stage, self.tools.clock.now().wall);
        match found {
            LaunchMatch::Ours(server) => {
                let Some(held) = self.at(id) else { return };
                held.life.started(now);
                held.server = Some(server.clone());
                held.trouble = None;
                self.warn(format!(
                    "the launch whose answer was lost created a RunComfy machine ({server}); it \
                     was found and is managed"
                ))
                .await;
                self.notes.add(move |ledger| ledger.launched(id, &server, true, wall));
            }
            LaunchMatch::Unclear(servers) if was != MachineStage::Lost => {
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
            LaunchMatch::None if stage == MachineStage::Gone => self.end(id, "never_told", None),
            LaunchMatch::Unclear(_) | LaunchMatch::None => {}
        }
    }

    async fn ask(&mut self, id: MachineId) {
        let config = self.live();
        let Some((cloud, server)) = self
            .at(id)
            .and_then(|held| Some((usable(&config, &held.account)?, held.server.clone()?)))
        else {
            return;
        };
        self.gate.wait().await;
        let Some(answer) = self.bounded(cloud.machines.state(&server), false).await else { return };
        match answer {
            Ok(Some(told)) => self.told(id, &told),
            Ok(None) => self.unknown_there(id, &server).await,
            Err(error) => self.call_failed(id, error).await,
        }
    }

    /// Applies what the service reports about a machine.
    fn told(&mut self, id: MachineId, told: &Server) {
        let now = self.now();
        let config = self.live();
        let connect = self.connect;
        let Some(held) = self.at(id) else { return };
        let was = held.life.stage;
        let stops_at = told.stops_in.map(|span| now.plus(span));
        let moved = match (held.life.stops_at, stops_at) {
            (Some(old), Some(new)) => old.since(new).max(new.since(old)) > END_MOVED,
            (None, new) => new.is_some(),
            (Some(_), None) => false,
        };
        held.life.record_status(now, told.reported_stage, stops_at, told.ready_for);
        held.term = told.duration.or(held.term);
        held.trouble = match (&told.unknown_status, &told.refused_host) {
            (_, Some(host)) => Some(format!(
                "RunComfy returned an address for it that is not trusted ({host}): see \
                 `serverless.download_hosts`"
            )),
            (Some(word), None) => Some(format!(
                "RunComfy reports the unknown state `{word}`, which is treated as starting"
            )),
            (None, None) => None,
        };
        if let Some(url) = &told.url
            && held.url.as_ref() != Some(url)
        {
            match connect(url, &config.settings) {
                Ok(backend) => held.backend = Some(backend),
                Err(reason) => held.trouble = Some(reason),
            }
            held.url = Some(url.clone());
            held.answers = false;
            held.probe_at = Some(now);
        }
        let became_ready = was == MachineStage::Starting && held.life.stage == MachineStage::Ready;
        let write_seen = moved || now.since(held.seen_written) >= SEEN_EVERY;
        let (ready, seen) = (held.life.ready, held.life.ready_is_exact);
        if write_seen {
            held.seen_written = now;
        }
        if became_ready {
            let ready_at = self.wall(ready.unwrap_or(now));
            tracing::info!(machine = %id, "the RunComfy machine is ready, and billed from now on");
            self.notes.add(move |ledger| ledger.machine_ready(id, ready_at, seen));
        }
        if write_seen {
            let (stops, wall) = (stops_at.map(|at| self.wall(at)), self.wall(now));
            self.notes.add(move |ledger| ledger.machine_alive(id, stops, wall));
        }
    }

    /// Handles the answer that the service does not know a machine. Only its list decides whether
    /// that is true, because a wrong address must not make a machine look gone.
    async fn unknown_there(&mut self, id: MachineId, server: &ServerId) {
        let Some(listed) = self.list(id).await else { return };
        if let Some(told) = listed.iter().find(|one| one.id == *server).cloned() {
            let now = self.now();
            if let Some(held) = self.at(id)
                && held.life.stage == MachineStage::Stopping
            {
                if told.listed().is_ending {
                    held.life.record_gone();
                    self.end(id, "stopped", None);
                } else {
                    held.life.record_failure(now, rand::random(), None);
                }
                return;
            }
            self.told(id, &told);
            return;
        }
        let now = self.now();
        let Some(held) = self.at(id) else { return };
        held.life.record_unlisted(now);
        if held.life.stage == MachineStage::Gone {
            let outcome = if held.why.is_some() { "stopped" } else { "was_gone" };
            if held.why.is_none() {
                let words = format!(
                    "the RunComfy machine {} is gone: it was stopped outside conjured",
                    held.name()
                );
                held.over.send_replace(Some(words.clone()));
                if !held.leases.is_empty() {
                    self.warn(words).await;
                }
            }
            self.end(id, outcome, None);
        }
    }

    /// Lists the account's machines; a failed call returns `None` and is recorded at the machine.
    async fn list(&mut self, id: MachineId) -> Option<Vec<Server>> {
        let config = self.live();
        let account = self.at(id)?.account.clone();
        let cloud = usable(&config, &account)?;
        self.gate.wait().await;
        match self.bounded(cloud.machines.list(), false).await? {
            Ok(listed) => Some(listed),
            Err(error) => {
                self.call_failed(id, error).await;
                None
            }
        }
    }

    async fn call_failed(&mut self, id: MachineId, error: CallError) {
        let now = self.now();
        let (words, retry_after) = match error {
            CallError::Transient { reason, retry_after } => (reason, retry_after),
            CallError::Fault(fault) => {
                if fault.kind == FaultKind::Token {
                    self.report(JobReport::TokenRefused).await;
                }
                (format!("{}. {}", fault.message, fault.advice), None)
            }
        };
        let Some(held) = self.at(id) else { return };
        held.life.record_failure(now, rand::random(), retry_after);
        tracing::warn!(machine = %id, failures = held.life.failures(), "a call about the machine \
            failed at RunComfy: {words}");
        held.trouble = Some(words);
    }

    /// Extends a machine: reserves the money first.
    async fn extend(&mut self, id: MachineId, until: Moment) {
        let (config, now) = (self.live(), self.now());
        let Some(held) = self.at(id) else { return };
        let Some(server) = held.server.clone() else { return };
        let Some(cloud) = usable(&config, &held.account) else { return };
        let from = held.life.ready.unwrap_or(now);
        let reserve = cost_of(until.since(from), held.hourly).max(held.reserved);
        held.reserved = reserve;
        // The total duration, as at the launch; the result is read back from the service's record.
        let whole = match (held.term, held.life.stops_at) {
            (Some(term), Some(stops)) => term + until.since(stops),
            _ => until.since(held.life.launched),
        };
        let extending = self.tools.store.with(move |ledger| ledger.extending(id, reserve)).await;
        if let Err(error) = extending {
            // The money is spent in any case: without an extension the run would be lost too.
            tracing::warn!(machine = %id, %error, "the higher reservation is not in the ledger");
        }
        self.gate.wait().await;
        let Some(answer) = self.bounded(cloud.machines.extend(&server, whole), false).await else {
            return;
        };
        let now = self.now();
        let wall = self.wall(now);
        match answer {
            Ok(Some(())) => {
                let stops = self.wall(until);
                let Some(held) = self.at(id) else { return };
                held.life.record_extended(now, until);
                held.term = Some(whole);
                tracing::info!(machine = %id, "the RunComfy machine was extended by {} s", until.since(now).as_secs());
                self.notes.add(move |ledger| ledger.extended(id, Some(stops), "accepted", wall));
            }
            Ok(None) => self.unknown_there(id, &server).await,
            Err(error) => {
                self.notes.add(move |ledger| ledger.extended(id, None, "failed", wall));
                self.call_failed(id, error).await;
            }
        }
        self.report(JobReport::MachineMoney).await;
    }

    /// Records the mark of a stop, and notifies the jobs that use the machine.
    async fn decide_stop(&mut self, id: MachineId, why: StopReason) {
        let wall = self.tools.clock.now().wall;
        let Some(held) = self.at(id) else { return };
        held.life.record_stopping();
        held.why = Some(why);
        held.trouble = None;
        let words = format!("stopping the RunComfy machine {}: {}", held.name(), why.message());
        held.over.send_replace(Some(words.clone()));
        let busy = !held.leases.is_empty();
        self.notes.add(move |ledger| ledger.machine_stopping(id, why, wall));
        self.notes.write(&self.tools.store, self.now()).await;
        if busy {
            self.warn(format!("{words}; a job was running on it")).await;
        } else {
            tracing::info!(machine = %id, "{words}");
        }
    }

    async fn delete(&mut self, id: MachineId) {
        let config = self.live();
        let Some((cloud, server)) = self
            .at(id)
            .and_then(|held| Some((usable(&config, &held.account)?, held.server.clone()?)))
        else {
            return;
        };
        self.gate.wait().await;
        // Not interrupted when the daemon stops: the caller has its own time limit.
        match cloud.machines.stop(&server).await {
            Ok(Stopped::Now) => {
                if let Some(held) = self.at(id) {
                    held.life.record_gone();
                }
                self.end(id, "stopped", Some(self.now()));
            }
            Ok(Stopped::Unknown) => self.unknown_there(id, &server).await,
            Err(error) => {
                self.call_failed(id, error).await;
                if let Some(held) = self.at(id)
                    && held.life.failures() == 2
                {
                    let words = format!(
                        "the RunComfy machine {} could not be stopped and still costs money; \
                         conjured keeps trying, and you can stop it in RunComfy's dashboard",
                        held.name()
                    );
                    self.warn(words).await;
                }
            }
        }
    }

    /// Probes a machine's ComfyUI: the service reports it as ready a little before it answers.
    async fn probe(&mut self, id: MachineId) {
        let Some(backend) = self.at(id).and_then(|held| held.backend.clone()) else { return };
        let warm = tokio::time::timeout(Duration::from_secs(10), backend.warm_up());
        let Some(answer) = self.bounded(warm, false).await else { return };
        let now = self.now();
        let Some(held) = self.at(id) else { return };
        match answer {
            Ok(Ok(_)) => {
                held.answers = true;
                held.probe_at = None;
            }
            Ok(Err(error)) => {
                tracing::debug!(machine = %id, "ComfyUI on the machine does not answer yet: {error}");
                held.probe_at = Some(now.plus(PROBE_EVERY));
            }
            Err(_) => held.probe_at = Some(now.plus(PROBE_EVERY)),
        }
    }

    /// Books and removes a machine that is gone. `stopped` is when the service accepted the stop.
    fn end(&mut self, id: MachineId, outcome: &'static str, stopped: Option<Moment>) {
        let now = self.now();
        let Some(at) = self.held.iter().position(|held| held.id == id) else { return };
        let held = self.held.remove(at);
        if held.over.borrow().is_none() {
            held.over.send_replace(Some(format!("the RunComfy machine {} is gone", held.name())));
        }
        let (booked, basis) = match held.server {
            // It is unknown whether there was a machine.
            None => (None, CostBasis::Reserved),
            Some(_) => {
                let (cost, basis) = cost(&held, stopped, now);
                (Some(cost), basis)
            }
        };
        let wall = self.tools.clock.now().wall;
        tracing::info!(
            machine = %id, cost = %booked.unwrap_or(held.reserved),
            "the RunComfy machine {} is gone", held.name()
        );
        self.notes.add(move |ledger| ledger.machine_gone(id, booked, basis, outcome, wall));
    }
}

/// Returns what a machine cost, and how that is known.
fn cost(held: &Held, stopped: Option<Moment>, now: Moment) -> (MicroUsd, CostBasis) {
    let life = &held.life;
    // The end: observed, or at the latest now, or at the service's own stop if that has passed.
    let end =
        stopped.unwrap_or_else(|| life.stops_at.map_or(now, |at| at.plus(EXACT_WITHIN).min(now)));
    let end_seen =
        stopped.is_some() || life.record_answer().is_some_and(|at| end.since(at) <= EXACT_WITHIN);
    let (begin, begin_seen) = match life.ready {
        Some(ready) => (ready, life.ready_is_exact),
        // It was never seen ready: its cost is for the time between the last poll and the end.
        None => match life.record_starting() {
            Some(heard) => (heard, end.since(heard) <= EXACT_WITHIN),
            None => (life.launched, false),
        },
    };
    let ran = BilledTime { max: end.since(begin), is_exact: begin_seen && end_seen };
    server_cost(ran, held.hourly)
}
