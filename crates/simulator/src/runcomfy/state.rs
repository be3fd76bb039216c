//! Everything the simulator remembers, behind one lock.
//!
//! Owns the requests, the counters, the balance, the token and the deployment's record, and the
//! simulator's own clock: Tokio's (so that a paused test clock also applies here) plus what
//! `advance` has skipped. A std mutex is enough, because it is never held across an `.await`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::time::Instant;

use conjured_domain::{
    money::{MicroUsd, cost_of},
    time::Moment,
};

use super::{
    billing, deployments,
    intake::PlannedRun,
    machines::{self, Machine, Meter},
    queue::{End, Phase, Queue, QueueSettings, Stuck},
    request::{Outcome, Request, words},
};
use crate::{
    Settings,
    behaviour::Behaviour,
    comfyui::Comfy,
    faults::{Call, Fault, Orders},
    produce::{self, Content, Product},
    stats::{MachineRecord, RequestRecord, Stats},
};

/// The total size of the pictures kept to make products from, in bytes; beyond it older requests
/// lose theirs and count as expired.
const MAX_PICTURE_BYTES: usize = 256 << 20;

/// The code of a run that was active when the deployment was disabled.
const DISABLED: u32 = 10002;

/// The state, and the clock that drives it.
pub(crate) struct Shared {
    state: Mutex<State>,
    started: Instant,
    /// The wall-clock time at the start: times in answers are derived from it and from `started`.
    epoch: Timestamp,
    /// The address that result URLs begin with.
    pub(crate) storage_url: String,
    /// The address that submit replies point to.
    pub(crate) api_url: String,
    /// The ComfyUI of each rented machine.
    comfy_servers: Mutex<BTreeMap<String, Comfy>>,
}

/// The data behind the lock.
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) behaviour: Behaviour,
    pub(crate) orders: Orders,
    pub(crate) counts: Stats,
    pub(crate) enabled: bool,
    pub(crate) token: String,
    pub(crate) revoked: bool,
    /// The deployment's changeable members, as `GET /deployments/{id}` shows them.
    pub(crate) record: Map<String, Value>,
    pub(crate) queue: Queue,
    /// Rented machines, oldest first.
    pub(crate) machines: Vec<Machine>,
    /// The limit on calls of the Server API.
    pub(crate) meter: Meter,
    requests: Vec<Request>,
    balance: MicroUsd,
    skipped: Duration,
    session: u32,
    numbered: usize,
}

impl Shared {
    /// Creates the state of a simulator that starts now.
    pub(crate) fn new(settings: Settings, api_url: String, storage_url: String) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the simulator stands for another machine, which has a wall clock of its own; read once"
        )]
        let now = std::time::SystemTime::now();
        Self {
            state: Mutex::new(State::new(settings, 0, Duration::ZERO)),
            started: Instant::now(),
            epoch: Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH),
            storage_url,
            api_url,
            comfy_servers: Mutex::default(),
        }
    }

    /// Stores the ComfyUI of a rented machine.
    pub(crate) fn add_comfy(&self, machine: String, comfy: Comfy) {
        self.comfy_servers().insert(machine, comfy);
    }

    /// Closes the ComfyUI of each machine that is over: its clients see their connections break.
    pub(crate) fn close_ended(&self) {
        let (state, now) = self.lock();
        let over = |id: &String| {
            state.machines.iter().all(|machine| machine.id != *id || machine.over(now).is_some())
        };
        self.comfy_servers().retain(|id, _| !over(id));
    }

    /// Closes the ComfyUI of every machine.
    pub(crate) fn close(&self) {
        self.comfy_servers().clear();
    }

    fn comfy_servers(&self) -> MutexGuard<'_, BTreeMap<String, Comfy>> {
        self.comfy_servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock and reads the clock.
    pub(crate) fn lock(&self) -> (MutexGuard<'_, State>, Moment) {
        // A panic in other code does not make the numbers wrong: every change is one assignment.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = self.started.elapsed().saturating_add(state.skipped);
        // The last moment means "never" in the queue, so the clock stops before it.
        let now = Moment::default().plus(elapsed).min(Moment::from_micros(u64::MAX - 1));
        (state, now)
    }

    /// Converts a moment to civil time.
    pub(crate) fn civil(&self, moment: Moment) -> Timestamp {
        let micros = i64::try_from(moment.as_micros()).unwrap_or(i64::MAX);
        let micros = self.epoch.as_microsecond().saturating_add(micros);
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }

    /// Counts a call and takes the fault that was ordered for it.
    pub(crate) fn take_fault(&self, call: Call) -> Option<Fault> {
        let (mut state, _) = self.lock();
        let counts = &mut state.counts;
        match call {
            Call::Submit => counts.submits += 1,
            Call::Status => counts.status_calls += 1,
            Call::Result => counts.result_calls += 1,
            Call::Cancel => counts.cancel_calls += 1,
            Call::Balance => counts.balance_calls += 1,
            Call::Download => counts.downloads += 1,
            Call::Deployment
            | Call::Launch
            | Call::Servers
            | Call::Server
            | Call::Extend
            | Call::Stop
            | Call::Any => {}
        }
        // A download's product is known only after its address was read, so `storage`
        // asks separately.
        if call == Call::Download { None } else { state.orders.at(call, None) }
    }

    pub(crate) fn stats(&self) -> Stats {
        let (mut state, now) = self.lock();
        let requests =
            (0..state.requests.len()).map(|at| self.record(&mut state, at, now)).collect();
        let mut report = state.counts.clone();
        report.instances_awake = state.queue.awake(now);
        report.machines = state.machines.iter().map(|machine| self.machine(machine, now)).collect();
        report.bill = state.bill(now);
        report.balance = state.balance(now);
        report.enabled = state.enabled;
        report.requests = requests;
        report
    }

    fn machine(&self, machine: &Machine, now: Moment) -> MachineRecord {
        let over = machine.over(now);
        let civil = |moment| self.civil(moment).as_millisecond();
        let prompts = self.comfy_servers().get(&machine.id).map_or(0, Comfy::prompts);
        MachineRecord {
            prompts,
            id: machine.id.clone(),
            server_type: machine.server_type.clone(),
            runs: machine.phase(now) == machines::Phase::Ready,
            over: over.is_some(),
            billed_ms: u64::try_from(machine.billed(now).as_millis()).unwrap_or(u64::MAX),
            billed: machine.cost(now),
            launched_at: civil(machine.launched),
            ended_at: over.map(civil),
        }
    }

    fn record(&self, state: &mut State, at: usize, now: Moment) -> RequestRecord {
        let phase = state.phase(at, now);
        let outcome = state.outcome(at, now);
        let (cold, run) = state.queue.charged_time(at, now);
        let hourly = state.settings.hourly;
        let request = &state.requests[at];
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let finished = match phase {
            Phase::Ended { at, .. } => Some(self.civil(at).to_string()),
            Phase::Waiting { .. } | Phase::Running { .. } => None,
        };
        RequestRecord {
            id: request.id.clone(),
            phase: outcome.name().to_owned(),
            overrides: request.work.overrides.clone(),
            prompt: request.work.prompt.clone(),
            seed: request.work.seed,
            mesh_seed: request.work.mesh_seed,
            picture: request.work.picture_record.clone(),
            failure: request.failure.as_ref().map(|(code, _)| *code),
            created_at: self.civil(request.created).to_string(),
            finished_at: finished,
            billed_cold_ms: millis(cold),
            billed_run_ms: millis(run),
            billed: cost_of(cold + run, hourly),
            status_calls: request.status_calls,
            result_calls: request.result_calls,
            cancel_calls: request.cancel_calls,
            downloads: request.downloads,
        }
    }
}

impl State {
    fn new(settings: Settings, numbered: usize, skipped: Duration) -> Self {
        let plan = QueueSettings {
            cold_start: settings.cold_start,
            warm_delay: settings.warm_delay,
            keep_warm: settings.keep_warm,
            max_instances: settings.max_instances,
            queue_size: settings.queue_size,
        };
        Self {
            behaviour: settings.behaviour.clone(),
            orders: Orders::default(),
            counts: Stats::default(),
            enabled: true,
            token: settings.token.clone(),
            revoked: false,
            record: deployments::record(&settings),
            queue: Queue::new(plan),
            machines: Vec::new(),
            meter: Meter::default(),
            requests: Vec::new(),
            balance: settings.balance,
            skipped,
            // Ids must not repeat after a restart: a client may remember some from before.
            session: rand::random(),
            numbered,
            settings,
        }
    }

    /// Forgets everything except the settings; the clock does not go back.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.settings.clone(), self.numbered, self.skipped);
    }

    /// Replaces the accepted token and ends a revocation.
    pub(crate) fn set_token(&mut self, token: String) {
        self.token = token;
        self.revoked = false;
    }

    /// Moves the simulator's clock forward.
    pub(crate) fn advance(&mut self, span: Duration) {
        self.skipped = self.skipped.saturating_add(span);
    }

    /// Accepts a request.
    pub(crate) fn accept(&mut self, work: PlannedRun, now: Moment) -> usize {
        let faults = self.orders.in_a_run();
        let mut failure = work.failure.as_ref().map(|one| (one.code, one.message.clone()));
        let mut stuck = None;
        for fault in &faults {
            match fault {
                Fault::StuckInQueue => stuck = Some(Stuck::InQueue),
                Fault::StuckInProgress => stuck = Some(Stuck::InProgress),
                Fault::RunFails { code, .. } => failure = Some((*code, words(*code).to_owned())),
                _ => {}
            }
        }
        // Errors that ComfyUI detects at validation end the run at once.
        let refused =
            failure.as_ref().is_some_and(|(code, _)| matches!(code, 10004 | 10008 | 10009 | 10013));
        let run = if refused {
            self.settings.run.min(Duration::from_millis(300))
        } else {
            self.settings.run
        };
        let number = self.queue.submit(now, run, stuck);
        self.numbered += 1;
        self.counts.accepted += 1;
        self.requests.push(Request {
            id: format!("sim-{:08x}-{}", self.session, self.numbered),
            created: now,
            work,
            faults,
            failure,
            status_calls: 0,
            result_calls: 0,
            cancel_calls: 0,
            downloads: 0,
            products: [None, None],
        });
        self.forget_pictures();
        number
    }

    fn forget_pictures(&mut self) {
        let mut kept = 0;
        for request in self.requests.iter_mut().rev() {
            kept += request.work.picture.as_ref().map_or(0, bytes::Bytes::len);
            if kept > MAX_PICTURE_BYTES {
                request.work.picture = None;
                request.products = [None, None];
            }
        }
    }

    /// Finds a request that is still remembered, and counts the call for it.
    pub(crate) fn find(&mut self, id: &str, call: Call, now: Moment) -> Option<usize> {
        let at = self.requests.iter().position(|request| request.id == id)?;
        let ended = match self.phase(at, now) {
            Phase::Ended { at, .. } => Some(at),
            Phase::Waiting { .. } | Phase::Running { .. } => None,
        };
        let request = &mut self.requests[at];
        match call {
            Call::Status => request.status_calls += 1,
            Call::Result => request.result_calls += 1,
            Call::Cancel => request.cancel_calls += 1,
            Call::Download => request.downloads += 1,
            Call::Submit
            | Call::Balance
            | Call::Deployment
            | Call::Launch
            | Call::Servers
            | Call::Server
            | Call::Extend
            | Call::Stop
            | Call::Any => {}
        }
        let forgotten = request.faults.contains(&Fault::Forgotten)
            || ended.is_some_and(|ended| now.since(ended) >= self.settings.retention);
        // `storage` answers "expired" itself, after it found out which file was meant.
        (call == Call::Download || ended.is_none() || !forgotten).then_some(at)
    }

    /// Returns request `at`, which [`Self::find`] or [`Self::accept`] returned.
    pub(crate) fn request(&self, at: usize) -> &Request {
        &self.requests[at]
    }

    /// Returns the state of a request.
    pub(crate) fn phase(&mut self, at: usize, now: Moment) -> Phase {
        self.queue.phase(at, now)
    }

    /// Returns the state of a request as the result call reports it.
    pub(crate) fn outcome(&mut self, at: usize, now: Moment) -> Outcome {
        let phase = self.phase(at, now);
        let request = &mut self.requests[at];
        match phase {
            Phase::Waiting { .. } => Outcome::Queued,
            Phase::Running { ends } if request.is_ready_early(ends, now) => request.end(),
            Phase::Running { .. } => Outcome::Running,
            Phase::Ended { how: End::Cancelled, .. } => Outcome::Cancelled,
            Phase::Ended { how: End::Disabled, .. } => {
                request.failure = Some((DISABLED, words(DISABLED).to_owned()));
                Outcome::Failed
            }
            Phase::Ended { how: End::Natural, .. } => request.end(),
        }
    }

    /// Returns the id of the machine that runs a request.
    pub(crate) fn instance(&self, at: usize) -> Option<String> {
        self.queue.instance(at).map(|number| format!("sim-instance-{:08x}-{number}", self.session))
    }

    /// Returns whether a machine is awake.
    pub(crate) fn is_awake(&mut self, instance: &str, now: Moment) -> bool {
        let prefix = format!("sim-instance-{:08x}-", self.session);
        let number = instance.strip_prefix(&prefix).and_then(|number| number.parse().ok());
        number.is_some_and(|number| self.queue.is_awake(number, now))
    }

    /// Returns the newest request that a machine has run.
    pub(crate) fn newest_on(&self, instance: &str) -> Option<usize> {
        (0..self.requests.len()).rev().find(|&at| self.instance(at).as_deref() == Some(instance))
    }

    /// Creates an id for a new rented machine; ids are long and random, like the real ones.
    pub(crate) fn next_machine(&mut self) -> String {
        self.numbered += 1;
        format!("sim-{:016x}-{}", rand::random::<u64>(), self.numbered)
    }

    /// Passes a cancel on to the queue.
    pub(crate) fn cancel(
        &mut self,
        at: usize,
        now: Moment,
        grace: Option<Duration>,
    ) -> super::queue::Cancelled {
        self.queue.cancel(at, now, grace)
    }

    /// Disables the deployment: what waits or runs fails at once.
    pub(crate) fn disable(&mut self, now: Moment) {
        self.enabled = false;
        self.queue.disable(now);
    }

    pub(crate) fn bill(&mut self, now: Moment) -> MicroUsd {
        let rented: MicroUsd = self.machines.iter().map(|machine| machine.cost(now)).sum();
        billing::bill(&mut self.queue, now, self.settings.hourly) + rented
    }

    /// Returns the remaining balance.
    pub(crate) fn balance(&mut self, now: Moment) -> MicroUsd {
        MicroUsd(self.balance.0.saturating_sub(self.bill(now).0))
    }

    /// Sets the remaining balance from now on.
    pub(crate) fn set_balance(&mut self, left: MicroUsd, now: Moment) {
        self.balance = MicroUsd(left.0.saturating_add(self.bill(now).0));
    }

    /// Returns the content of a request's product; generated at the first call, then kept.
    pub(crate) fn content(&mut self, at: usize, product: Product) -> Content {
        let grid = self.settings.mesh_grid;
        let request = &mut self.requests[at];
        let spoiled = request.spoiled(product);
        let recipe = request.recipe(grid);
        let slot = &mut request.products[usize::from(product == Product::Mesh)];
        slot.get_or_insert_with(|| produce::content(&recipe, product, spoiled)).clone()
    }

    /// Returns a picture of the same run that is not its product.
    pub(crate) fn other_picture(&self, at: usize) -> Content {
        let mut recipe = self.requests[at].recipe(self.settings.mesh_grid);
        recipe.prompt.push_str(" (another)");
        produce::content(&recipe, Product::Image, None)
    }
}
