//! Decides what to do next with one rented machine (RunComfy's Server API), and when.
//!
//! Owns the decisions, on virtual time: when a machine is polled, extended, stopped, given up or
//! considered gone, and which machine of an account is ours after a lost answer. It sends nothing,
//! stores nothing and bills nothing ([`super::money::server_cost`]).
//!
//! A machine costs money until it is stopped, so every doubt ends in a stop: one that reports an
//! error, does not become ready, idles, or reaches its maximum run time. A stop is repeated until
//! the service confirms it. The service is a second safeguard: a machine is launched for a short
//! term only and extended in steps, so that a machine without a supervisor ends automatically.
//!
//! A job that is running when the maximum run time ends is not waited for: this limit must hold
//! whatever else goes wrong. There is a warning before it ([`Lifecycle::warning`]), and a machine
//! with too little time left gets no further job.

pub mod deployment;
mod adopt;
mod names;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::{
    adopt::{LaunchSearch, ListedMachine, find_launched_machine},
    names::{MachineId, MachineStage, NotAMachineId, ReportedStage, ServerId, StopReason},
};
use super::{job::backoff::Backoff, money::job_cost::EXACT_TOLERANCE, time::Moment};

/// How long after its launch a machine may be unknown to the service: "some seconds", with a
/// generous margin.
pub const LISTING_LAG: Duration = Duration::from_secs(90);

/// How long a machine must be unknown before it counts as gone; a single answer may be an error.
const UNLISTED_GRACE: Duration = Duration::from_secs(5);

/// How often to poll a starting machine.
const STARTING_POLL_INTERVAL: Duration = Duration::from_secs(3);

/// How often to poll a ready machine: whether it is still up, and until when.
const READY_POLL_INTERVAL: Duration = Duration::from_secs(60);

/// How long before its end a machine is extended.
const EXTENSION_LEAD: Duration = Duration::from_secs(120);

/// How long after an extension no other one is tried.
const EXTENSION_COOLDOWN: Duration = Duration::from_secs(30);

/// How much later a new end must be to be worth a call.
const MIN_EXTENSION: Duration = Duration::from_secs(30);

/// How long to search for a machine whose launch got no answer.
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);

/// How many listings without our machine are needed before the launch counts as never received.
const MAX_SEARCHES: u32 = 3;

/// How often to list an account in which our machine could not be identified.
const LOST_POLL_INTERVAL: Duration = Duration::from_secs(60);

/// Returns the back-off between retries of a failing call.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_secs(2), Duration::from_secs(30))
}

/// The limits that a person sets for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerRules {
    /// How long it may idle (`cloud.idle_stop_s`).
    pub idle_stop: Duration,
    /// How long it may take to become ready (`cloud.start_timeout_s`); the reference says 1 to 5
    /// minutes and more.
    pub start: Duration,
    /// How long it may run once it is ready (`cloud.max_minutes`).
    pub max_run: Duration,
}

impl ServerRules {
    /// Returns the term of a launch: long enough to start, run one job and idle, or a
    /// little longer.
    pub fn first_term(&self, run: Duration) -> Duration {
        self.start + (run + self.idle_stop).min(self.max_run)
    }

    /// Returns the expected billed time of a launch: one job and the idling afterwards. The
    /// start is free.
    pub fn expected(&self, run: Duration) -> Duration {
        (run + self.idle_stop).min(self.max_run)
    }
}

/// The next action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// List the account's machines to find out whether ours is among them.
    List,
    /// The launch was never received: report it and forget the machine.
    LaunchFailed,
    /// Poll its state.
    CheckStatus,
    /// Extend it until that moment.
    Extend(Moment),
    /// Decide to stop it and record that.
    Stop(StopReason),
    /// Send the stop.
    Delete,
}

/// The life cycle of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// The current stage.
    pub stage: MachineStage,
    /// When the launch was recorded.
    pub launched: Moment,
    /// When it became ready, or the last moment at which it was not ready yet.
    pub ready: Option<Moment>,
    /// Whether `ready` is accurate to a few seconds.
    pub ready_is_exact: bool,
    /// When the service stops it automatically.
    pub stops_at: Option<Moment>,
    /// Since when no job needs it; `None` while one does.
    pub idle_since: Option<Moment>,
    /// How much longer the job on it needs.
    pub run: Duration,
    /// When a poll was last answered.
    answered_at: Option<Moment>,
    /// When it was last observed to be starting.
    starting: Option<Moment>,
    /// No extension before this moment: the service gets time to report the last one.
    extend_after: Option<Moment>,
    /// When the next retry of a call is due.
    next_check_at: Option<Moment>,
    /// How many calls failed in a row.
    failures: u32,
    /// Since when the service does not know it.
    unlisted_since: Option<Moment>,
    /// How many listings did not contain it.
    searches: u32,
    /// Why it must be stopped, if it must.
    stop_scheduled: Option<StopReason>,
}

impl Lifecycle {
    /// Starts the life cycle at the recorded launch, for a job.
    pub const fn launching(now: Moment) -> Self {
        Self::resume(MachineStage::Launching, now)
    }

    /// Continues the life cycle from an earlier session: the machine is polled at once.
    pub const fn resume(stage: MachineStage, launched: Moment) -> Self {
        Self {
            stage,
            launched,
            ready: None,
            ready_is_exact: false,
            stops_at: None,
            idle_since: None,
            run: Duration::ZERO,
            answered_at: None,
            starting: None,
            extend_after: None,
            next_check_at: None,
            failures: 0,
            unlisted_since: None,
            searches: 0,
            stop_scheduled: None,
        }
    }

    /// Returns whether it can take a job: it is not being stopped, and has `run` left to work.
    pub fn can_serve(&self, now: Moment, rules: &ServerRules, run: Duration) -> bool {
        // If the maximum run time is shorter than the job, half of it must be enough: otherwise no
        // machine would do.
        let need = run.min(rules.max_run / 2);
        self.is_alive() && self.max_run_end(rules).is_none_or(|ceiling| ceiling.since(now) >= need)
    }

    /// Returns whether it is starting or ready, and not to be stopped.
    pub fn is_alive(&self) -> bool {
        matches!(self.stage, MachineStage::Starting | MachineStage::Ready)
            && self.stop_scheduled.is_none()
    }

    /// Returns the last moment at which it may run.
    pub fn max_run_end(&self, rules: &ServerRules) -> Option<Moment> {
        self.ready.map(|ready| ready.plus(rules.max_run))
    }

    /// Returns until when it is needed, as far as is known.
    fn needed_until(&self, now: Moment, rules: &ServerRules) -> Moment {
        let wanted = match self.idle_since {
            Some(since) => since.plus(rules.idle_stop),
            None => {
                // A job on a starting machine begins only when the machine is ready.
                let begin =
                    if self.ready.is_some() { now } else { self.start_deadline(now, rules) };
                begin.plus(self.run.max(EXTENSION_LEAD) + rules.idle_stop)
            }
        };
        self.max_run_end(rules).map_or(wanted, |ceiling| wanted.min(ceiling))
    }

    fn start_deadline(&self, now: Moment, rules: &ServerRules) -> Moment {
        self.launched.plus(rules.start).max(now)
    }

    /// Returns the action that is due now, or else the moment to call again.
    pub fn next(&self, now: Moment, rules: &ServerRules) -> Result<Action, Moment> {
        let act = match self.stage {
            MachineStage::Gone => return Err(NEVER),
            MachineStage::Launching if self.launch_failed(now) => return Ok(Action::LaunchFailed),
            MachineStage::Launching | MachineStage::Lost => Action::List,
            MachineStage::Stopping => Action::Delete,
            MachineStage::Starting | MachineStage::Ready => {
                if let Some(why) = self.stop_now(now, rules) {
                    return Ok(Action::Stop(why));
                }
                self.extension_due(now, rules).map_or(Action::CheckStatus, Action::Extend)
            }
        };
        let due = match act {
            Action::CheckStatus => {
                self.next_check_at.unwrap_or_else(|| self.next_check(now, rules))
            }
            _ => self.next_check_at.unwrap_or(now),
        };
        // A decision must not wait for a poll.
        let due = self.next_decision(rules).map_or(due, |decision| due.min(decision));
        if due > now { Err(due) } else { Ok(act) }
    }

    fn launch_failed(&self, now: Moment) -> bool {
        self.searches >= MAX_SEARCHES && now >= self.launched.plus(SEARCH_INTERVAL)
    }

    fn stop_now(&self, now: Moment, rules: &ServerRules) -> Option<StopReason> {
        if self.stop_scheduled.is_some() {
            return self.stop_scheduled;
        }
        if self.max_run_end(rules).is_some_and(|ceiling| now >= ceiling) {
            return Some(StopReason::MaxRun);
        }
        if self.stage == MachineStage::Starting && now >= self.launched.plus(rules.start) {
            return Some(StopReason::NeverReady);
        }
        let idle = self.idle_since.is_some_and(|since| now >= since.plus(rules.idle_stop));
        idle.then_some(StopReason::Idle)
    }

    /// Returns when the result of [`Self::stop_now`] changes without any event.
    fn next_decision(&self, rules: &ServerRules) -> Option<Moment> {
        if !matches!(self.stage, MachineStage::Starting | MachineStage::Ready) {
            return None;
        }
        let starting =
            (self.stage == MachineStage::Starting).then(|| self.launched.plus(rules.start));
        let idle = self.idle_since.map(|since| since.plus(rules.idle_stop));
        [starting, idle, self.max_run_end(rules)].into_iter().flatten().min()
    }

    fn extension_due(&self, now: Moment, rules: &ServerRules) -> Option<Moment> {
        let stops_at = self.stops_at?;
        if self.extend_after.is_some_and(|after| after > now) {
            return None;
        }
        let wanted = self.needed_until(now, rules);
        (now.plus(EXTENSION_LEAD) >= stops_at && wanted >= stops_at.plus(MIN_EXTENSION))
            .then_some(wanted)
    }

    fn next_check(&self, now: Moment, rules: &ServerRules) -> Moment {
        let Some(heard) = self.answered_at else { return now };
        let every = if self.stage == MachineStage::Ready && self.unlisted_since.is_none() {
            READY_POLL_INTERVAL
        } else {
            STARTING_POLL_INTERVAL
        };
        let look = heard.plus(every);
        // Poll in time for an extension.
        let wanted = self.needed_until(now, rules);
        match self.stops_at {
            Some(end) if wanted >= end.plus(MIN_EXTENSION) => look.min(end.minus(EXTENSION_LEAD)),
            _ => look,
        }
    }

    /// Returns a warning for a stop that is about to happen.
    pub fn warning(&self, now: Moment, rules: &ServerRules) -> Option<String> {
        let left = self.max_run_end(rules)?.since(now);
        let busy = self.idle_since.is_none() && self.stage == MachineStage::Ready;
        (busy && left <= EXTENSION_LEAD).then(|| {
            format!(
                "the machine reaches `cloud.max_minutes` in {} s and is then stopped, even if its job is not finished",
                left.as_secs()
            )
        })
    }

    // Events.

    /// Notes that the launch was answered, or the machine was found.
    pub fn record_started(&mut self, now: Moment) {
        self.stage = MachineStage::Starting;
        self.reset_failures(now);
        self.answered_at = None;
    }

    /// Processes a state report. `stops_at`: when it stops automatically; `ready_for`: how long it
    /// has been ready.
    pub fn record_status(
        &mut self,
        now: Moment,
        word: ReportedStage,
        stops_at: Option<Moment>,
        ready_for: Option<Duration>,
    ) {
        if !matches!(self.stage, MachineStage::Starting | MachineStage::Ready) {
            return;
        }
        self.reset_failures(now);
        self.unlisted_since = None;
        self.stops_at = stops_at.or(self.stops_at);
        match word {
            ReportedStage::Starting => self.starting = Some(now),
            ReportedStage::Ready => {
                if self.ready.is_none() {
                    // Billing starts between the previous poll and this one; the reported time is
                    // better if it is plausible.
                    let earliest = self.starting.unwrap_or(self.launched);
                    let reported = ready_for.map(|span| now.minus(span));
                    let reported =
                        reported.filter(|reported| reported.plus(EXACT_TOLERANCE) >= earliest);
                    self.ready_is_exact =
                        reported.is_some() || now.since(earliest) <= EXACT_TOLERANCE;
                    self.ready = Some(reported.unwrap_or(earliest).max(self.launched));
                }
                self.stage = MachineStage::Ready;
            }
            ReportedStage::Ending => self.schedule_stop(StopReason::StoppedExternally),
            ReportedStage::Failed => self.schedule_stop(StopReason::Failed),
        }
    }

    /// Notes that the service does not know the machine.
    pub fn record_unlisted(&mut self, now: Moment) {
        self.reset_failures(now);
        let young = self.stage == MachineStage::Starting && now < self.launched.plus(LISTING_LAG);
        let since = *self.unlisted_since.get_or_insert(now);
        if self.stage == MachineStage::Stopping || (!young && now.since(since) >= UNLISTED_GRACE) {
            self.stage = MachineStage::Gone;
        }
    }

    /// Notes a listing in which our machine was missing or could not be identified.
    pub fn record_search(&mut self, now: Moment, found: &LaunchSearch) {
        self.reset_failures(now);
        match found {
            LaunchSearch::NotFound => {
                self.searches += 1;
                if self.stage == MachineStage::Lost {
                    // The candidate is no longer there.
                    self.stage = MachineStage::Gone;
                } else {
                    self.next_check_at = Some(now.plus(STARTING_POLL_INTERVAL));
                }
            }
            LaunchSearch::Found(_) => {}
            LaunchSearch::Ambiguous(_) => {
                self.stage = MachineStage::Lost;
                self.next_check_at = Some(now.plus(LOST_POLL_INTERVAL));
            }
        }
    }

    /// Notes a failed call; `random` is between 0 and 1.
    pub fn record_failure(&mut self, now: Moment, random: f64, retry_after: Option<Duration>) {
        self.failures += 1;
        self.next_check_at = Some(now.plus(backoff().wait(self.failures, random, retry_after)));
    }

    /// Notes an extension.
    pub fn record_extended(&mut self, now: Moment, until: Moment) {
        self.reset_failures(now);
        self.stops_at = Some(until);
        self.extend_after = Some(now.plus(EXTENSION_COOLDOWN));
        // Poll again, so that the service confirms it.
        self.answered_at = None;
    }

    /// Notes that the stop was recorded.
    pub fn record_stopping(&mut self) {
        self.stage = MachineStage::Stopping;
        self.next_check_at = None;
        self.failures = 0;
    }

    /// Notes that the service stopped it, or that it certainly does not exist.
    pub const fn record_gone(&mut self) {
        self.stage = MachineStage::Gone;
    }

    /// Notes that a job that needs `run` uses it.
    pub fn record_leased(&mut self, run: Duration) {
        self.idle_since = None;
        self.run = self.run.max(run);
    }

    /// Notes that no job uses it any more.
    pub const fn record_released(&mut self, now: Moment) {
        self.idle_since = Some(now);
        self.run = Duration::ZERO;
    }

    /// Requests a stop, whatever else is true. The first reason is kept.
    pub fn schedule_stop(&mut self, why: StopReason) {
        self.stop_scheduled.get_or_insert(why);
    }

    /// Returns when it last answered.
    pub const fn record_answer(&self) -> Option<Moment> {
        self.answered_at
    }

    /// Returns when it was last observed to be starting.
    pub const fn record_starting(&self) -> Option<Moment> {
        self.starting
    }

    /// Returns how many calls failed in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    fn reset_failures(&mut self, now: Moment) {
        self.answered_at = Some(now);
        self.next_check_at = None;
        self.failures = 0;
    }
}

/// A moment that is never reached.
const NEVER: Moment = Moment::from_micros(u64::MAX);
