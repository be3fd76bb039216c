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
//! whatever else goes wrong. There is a warning before it ([`Life::warning`]), and a machine with
//! too little time left gets no further job.

pub mod deployment;
mod adopt;
mod names;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::{
    adopt::{Found, Seen, which_is_ours},
    names::{MachineId, NotAMachineId, ServerId, Stage, Why, Word},
};
use super::{job::backoff::Backoff, money::job_cost::SEEN_WITHIN, time::Moment};

/// How long after its launch a machine may be unknown to the service: "some seconds", with a
/// generous margin.
pub const YOUNG: Duration = Duration::from_secs(90);

/// How long a machine must be unknown before it counts as gone; a single answer may be an error.
const ABSENT: Duration = Duration::from_secs(5);

/// How often to poll a starting machine.
const ASK_STARTING: Duration = Duration::from_secs(3);

/// How often to poll a ready machine: whether it is still up, and until when.
const ASK_READY: Duration = Duration::from_secs(60);

/// How long before its end a machine is extended.
const EXTEND_BEFORE: Duration = Duration::from_secs(120);

/// How long after an extension no other one is tried.
const EXTEND_AGAIN: Duration = Duration::from_secs(30);

/// How much later a new end must be to be worth a call.
const WORTH_A_CALL: Duration = Duration::from_secs(30);

/// How long to search for a machine whose launch got no answer.
const SEARCH: Duration = Duration::from_secs(60);

/// How many listings without our machine are needed before the launch counts as never received.
const SEARCHES: u32 = 3;

/// How often to list an account in which our machine could not be identified.
const ASK_LOST: Duration = Duration::from_secs(60);

/// Returns the back-off between retries of a failing call.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_secs(2), Duration::from_secs(30))
}

/// The limits that a person sets for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long it may idle (`cloud.idle_stop_s`).
    pub idle_stop: Duration,
    /// How long it may take to become ready (`cloud.start_timeout_s`); the reference says 1 to 5
    /// minutes and more.
    pub start: Duration,
    /// How long it may run once it is ready (`cloud.max_minutes`).
    pub max_run: Duration,
}

impl Rules {
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
pub enum Act {
    /// List the account's machines to find out whether ours is among them.
    List,
    /// The launch was never received: report it and forget the machine.
    NeverCame,
    /// Poll its state.
    Ask,
    /// Extend it until that moment.
    Extend(Moment),
    /// Decide to stop it and record that.
    Stop(Why),
    /// Send the stop.
    Delete,
}

/// The life cycle of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The current stage.
    pub stage: Stage,
    /// When the launch was recorded.
    pub launched: Moment,
    /// When it became ready, or the last moment at which it was not ready yet.
    pub ready: Option<Moment>,
    /// Whether `ready` is accurate to a few seconds.
    pub ready_seen: bool,
    /// When the service stops it automatically.
    pub stops_at: Option<Moment>,
    /// Since when no job needs it; `None` while one does.
    pub idle_since: Option<Moment>,
    /// How much longer the job on it needs.
    pub run: Duration,
    /// When a poll was last answered.
    heard: Option<Moment>,
    /// When it was last observed to be starting.
    starting: Option<Moment>,
    /// No extension before this moment: the service gets time to report the last one.
    extend_after: Option<Moment>,
    /// When the next retry of a call is due.
    due: Option<Moment>,
    /// How many calls failed in a row.
    failures: u32,
    /// Since when the service does not know it.
    absent: Option<Moment>,
    /// How many listings did not contain it.
    searches: u32,
    /// Why it must be stopped, if it must.
    doomed: Option<Why>,
}

impl Life {
    /// Starts the life cycle at the recorded launch, for a job.
    pub const fn launching(now: Moment) -> Self {
        Self::at(Stage::Launching, now)
    }

    /// Continues the life cycle from an earlier session: the machine is polled at once.
    pub const fn at(stage: Stage, launched: Moment) -> Self {
        Self {
            stage,
            launched,
            ready: None,
            ready_seen: false,
            stops_at: None,
            idle_since: None,
            run: Duration::ZERO,
            heard: None,
            starting: None,
            extend_after: None,
            due: None,
            failures: 0,
            absent: None,
            searches: 0,
            doomed: None,
        }
    }

    /// Returns whether it can take a job: it is not being stopped, and has `run` left to work.
    pub fn serves(&self, now: Moment, rules: &Rules, run: Duration) -> bool {
        // If the maximum run time is shorter than the job, half of it must be enough: otherwise no
        // machine would do.
        let need = run.min(rules.max_run / 2);
        self.is_alive() && self.ceiling(rules).is_none_or(|ceiling| ceiling.since(now) >= need)
    }

    /// Returns whether it is starting or ready, and not to be stopped.
    pub fn is_alive(&self) -> bool {
        matches!(self.stage, Stage::Starting | Stage::Ready) && self.doomed.is_none()
    }

    /// Returns the last moment at which it may run.
    pub fn ceiling(&self, rules: &Rules) -> Option<Moment> {
        self.ready.map(|ready| ready.plus(rules.max_run))
    }

    /// Returns until when it is needed, as far as is known.
    fn wanted_until(&self, now: Moment, rules: &Rules) -> Moment {
        let wanted = match self.idle_since {
            Some(since) => since.plus(rules.idle_stop),
            None => {
                // A job on a starting machine begins only when the machine is ready.
                let begin = if self.ready.is_some() { now } else { self.start_ends(now, rules) };
                begin.plus(self.run.max(EXTEND_BEFORE) + rules.idle_stop)
            }
        };
        self.ceiling(rules).map_or(wanted, |ceiling| wanted.min(ceiling))
    }

    fn start_ends(&self, now: Moment, rules: &Rules) -> Moment {
        self.launched.plus(rules.start).max(now)
    }

    /// Returns the action that is due now, or else the moment to call again.
    pub fn next(&self, now: Moment, rules: &Rules) -> Result<Act, Moment> {
        let act = match self.stage {
            Stage::Gone => return Err(NEVER),
            Stage::Launching if self.never_came(now) => return Ok(Act::NeverCame),
            Stage::Launching | Stage::Lost => Act::List,
            Stage::Stopping => Act::Delete,
            Stage::Starting | Stage::Ready => {
                if let Some(why) = self.stop_now(now, rules) {
                    return Ok(Act::Stop(why));
                }
                self.extension(now, rules).map_or(Act::Ask, Act::Extend)
            }
        };
        let due = match act {
            Act::Ask => self.due.unwrap_or_else(|| self.next_look(now, rules)),
            _ => self.due.unwrap_or(now),
        };
        // A decision must not wait for a poll.
        let due = self.next_decision(rules).map_or(due, |decision| due.min(decision));
        if due > now { Err(due) } else { Ok(act) }
    }

    fn never_came(&self, now: Moment) -> bool {
        self.searches >= SEARCHES && now >= self.launched.plus(SEARCH)
    }

    fn stop_now(&self, now: Moment, rules: &Rules) -> Option<Why> {
        if self.doomed.is_some() {
            return self.doomed;
        }
        if self.ceiling(rules).is_some_and(|ceiling| now >= ceiling) {
            return Some(Why::Ceiling);
        }
        if self.stage == Stage::Starting && now >= self.launched.plus(rules.start) {
            return Some(Why::NeverReady);
        }
        let idle = self.idle_since.is_some_and(|since| now >= since.plus(rules.idle_stop));
        idle.then_some(Why::Idle)
    }

    /// Returns when the result of [`Self::stop_now`] changes without any event.
    fn next_decision(&self, rules: &Rules) -> Option<Moment> {
        if !matches!(self.stage, Stage::Starting | Stage::Ready) {
            return None;
        }
        let starting = (self.stage == Stage::Starting).then(|| self.launched.plus(rules.start));
        let idle = self.idle_since.map(|since| since.plus(rules.idle_stop));
        [starting, idle, self.ceiling(rules)].into_iter().flatten().min()
    }

    fn extension(&self, now: Moment, rules: &Rules) -> Option<Moment> {
        let stops_at = self.stops_at?;
        if self.extend_after.is_some_and(|after| after > now) {
            return None;
        }
        let wanted = self.wanted_until(now, rules);
        (now.plus(EXTEND_BEFORE) >= stops_at && wanted >= stops_at.plus(WORTH_A_CALL))
            .then_some(wanted)
    }

    fn next_look(&self, now: Moment, rules: &Rules) -> Moment {
        let Some(heard) = self.heard else { return now };
        let every = if self.stage == Stage::Ready && self.absent.is_none() {
            ASK_READY
        } else {
            ASK_STARTING
        };
        let look = heard.plus(every);
        // Poll in time for an extension.
        let wanted = self.wanted_until(now, rules);
        match self.stops_at {
            Some(end) if wanted >= end.plus(WORTH_A_CALL) => look.min(end.minus(EXTEND_BEFORE)),
            _ => look,
        }
    }

    /// Returns a warning for a stop that is about to happen.
    pub fn warning(&self, now: Moment, rules: &Rules) -> Option<String> {
        let left = self.ceiling(rules)?.since(now);
        let busy = self.idle_since.is_none() && self.stage == Stage::Ready;
        (busy && left <= EXTEND_BEFORE).then(|| {
            format!(
                "the machine reaches `cloud.max_minutes` in {} s and is then stopped, even if its job is not finished",
                left.as_secs()
            )
        })
    }

    // Events.

    /// Notes that the launch was answered, or the machine was found.
    pub fn started(&mut self, now: Moment) {
        self.stage = Stage::Starting;
        self.calmed(now);
        self.heard = None;
    }

    /// Processes a state report. `stops_at`: when it stops automatically; `ready_for`: how long it
    /// has been ready.
    pub fn told(
        &mut self,
        now: Moment,
        word: Word,
        stops_at: Option<Moment>,
        ready_for: Option<Duration>,
    ) {
        if !matches!(self.stage, Stage::Starting | Stage::Ready) {
            return;
        }
        self.calmed(now);
        self.absent = None;
        self.stops_at = stops_at.or(self.stops_at);
        match word {
            Word::Starting => self.starting = Some(now),
            Word::Ready => {
                if self.ready.is_none() {
                    // Billing starts between the previous poll and this one; the reported time is
                    // better if it is plausible.
                    let earliest = self.starting.unwrap_or(self.launched);
                    let told = ready_for.map(|span| now.minus(span));
                    let told = told.filter(|told| told.plus(SEEN_WITHIN) >= earliest);
                    self.ready_seen = told.is_some() || now.since(earliest) <= SEEN_WITHIN;
                    self.ready = Some(told.unwrap_or(earliest).max(self.launched));
                }
                self.stage = Stage::Ready;
            }
            Word::Ending => self.doom(Why::Elsewhere),
            Word::Failed => self.doom(Why::Failed),
        }
    }

    /// Notes that the service does not know the machine.
    pub fn unknown_there(&mut self, now: Moment) {
        self.calmed(now);
        let young = self.stage == Stage::Starting && now < self.launched.plus(YOUNG);
        let since = *self.absent.get_or_insert(now);
        if self.stage == Stage::Stopping || (!young && now.since(since) >= ABSENT) {
            self.stage = Stage::Gone;
        }
    }

    /// Notes a listing in which our machine was missing or could not be identified.
    pub fn searched(&mut self, now: Moment, found: &Found) {
        self.calmed(now);
        match found {
            Found::None => {
                self.searches += 1;
                if self.stage == Stage::Lost {
                    // The candidate is no longer there.
                    self.stage = Stage::Gone;
                } else {
                    self.due = Some(now.plus(ASK_STARTING));
                }
            }
            Found::Ours(_) => {}
            Found::Unclear(_) => {
                self.stage = Stage::Lost;
                self.due = Some(now.plus(ASK_LOST));
            }
        }
    }

    /// Notes a failed call; `random` is between 0 and 1.
    pub fn failed(&mut self, now: Moment, random: f64, retry_after: Option<Duration>) {
        self.failures += 1;
        self.due = Some(now.plus(backoff().wait(self.failures, random, retry_after)));
    }

    /// Notes an extension.
    pub fn extended(&mut self, now: Moment, until: Moment) {
        self.calmed(now);
        self.stops_at = Some(until);
        self.extend_after = Some(now.plus(EXTEND_AGAIN));
        // Poll again, so that the service confirms it.
        self.heard = None;
    }

    /// Notes that the stop was recorded.
    pub fn stopping(&mut self) {
        self.stage = Stage::Stopping;
        self.due = None;
        self.failures = 0;
    }

    /// Notes that the service stopped it, or that it certainly does not exist.
    pub const fn gone(&mut self) {
        self.stage = Stage::Gone;
    }

    /// Notes that a job that needs `run` uses it.
    pub fn taken(&mut self, run: Duration) {
        self.idle_since = None;
        self.run = self.run.max(run);
    }

    /// Notes that no job uses it any more.
    pub const fn left(&mut self, now: Moment) {
        self.idle_since = Some(now);
        self.run = Duration::ZERO;
    }

    /// Requests a stop, whatever else is true. The first reason is kept.
    pub fn doom(&mut self, why: Why) {
        self.doomed.get_or_insert(why);
    }

    /// Returns when it last answered.
    pub const fn heard(&self) -> Option<Moment> {
        self.heard
    }

    /// Returns when it was last observed to be starting.
    pub const fn heard_starting(&self) -> Option<Moment> {
        self.starting
    }

    /// Returns how many calls failed in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    fn calmed(&mut self, now: Moment) {
        self.heard = Some(now);
        self.due = None;
        self.failures = 0;
    }
}

/// A moment that is never reached.
const NEVER: Moment = Moment::from_micros(u64::MAX);
