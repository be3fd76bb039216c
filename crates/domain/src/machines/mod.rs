//! The life of one rented machine (RunComfy's Server API): what is to be done next, and when.
//!
//! Owns the decisions, on virtual time: when a machine is asked about, kept longer, stopped, given up or taken for gone, and
//! which of the machines of an account is ours after an answer was lost. It sends nothing, writes nothing down and bills
//! nothing ([`super::money::server_cost`]).
//!
//! A machine costs money until somebody stops it, so every doubt ends in a stop: one that errs, that does not become ready,
//! that idles, that reaches the ceiling. A stop is repeated until the service says that it happened. The service itself is
//! a second pair of eyes: a machine is launched for a short time only and kept longer in steps, so that one that nobody
//! minds any more ends by itself.
//!
//! A job that runs when the ceiling comes is not waited for: the ceiling is the one promise that holds whatever else goes
//! wrong. It is told beforehand ([`Life::warning`]), and a machine with too little time left is not given another job.

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

/// How long after its launch a machine may be unknown to the service: "some seconds", generously.
pub const YOUNG: Duration = Duration::from_secs(90);

/// How long a machine must have been unknown to count as gone; one answer may be a slip.
const ABSENT: Duration = Duration::from_secs(5);

/// How often a machine that starts is asked about.
const ASK_STARTING: Duration = Duration::from_secs(3);

/// How often a ready machine is asked about: whether it lives, and until when.
const ASK_READY: Duration = Duration::from_secs(60);

/// How long before its end a machine is kept longer.
const EXTEND_BEFORE: Duration = Duration::from_secs(120);

/// How long after it was kept longer that is not tried again.
const EXTEND_AGAIN: Duration = Duration::from_secs(30);

/// How much later a new end must be to be worth a call.
const WORTH_A_CALL: Duration = Duration::from_secs(30);

/// How long the service is searched for a machine whose launch was not answered.
const SEARCH: Duration = Duration::from_secs(60);

/// How often the service must have listed its machines without ours before the launch counts as one that never arrived.
const SEARCHES: u32 = 3;

/// How often an account with an unclear machine is looked at.
const ASK_LOST: Duration = Duration::from_secs(60);

/// Between two tries of a call that fails.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_secs(2), Duration::from_secs(30))
}

/// What a person allows a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long it may idle (`cloud.idle_stop_s`).
    pub idle_stop: Duration,
    /// How long it may take to become ready (`cloud.start_timeout_s`); the reference says 1 to 5 minutes and more.
    pub start: Duration,
    /// How long it may run once it is ready (`cloud.max_minutes`).
    pub max_run: Duration,
}

impl Rules {
    /// Returns for how long a machine is launched: until it is ready, has done one job and has idled, or a little longer.
    pub fn first_term(&self, run: Duration) -> Duration {
        self.start + (run + self.idle_stop).min(self.max_run)
    }

    /// Returns what a launch is expected to be billed for: one job and the idling afterwards. The start is free.
    pub fn expected(&self, run: Duration) -> Duration {
        (run + self.idle_stop).min(self.max_run)
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// List the account's machines: ours is among them, or it is not.
    List,
    /// Nothing ever came of the launch: say so and let it go.
    NeverCame,
    /// Ask how it is.
    Ask,
    /// Keep it until then.
    Extend(Moment),
    /// Decide to stop it: write the mark.
    Stop(Why),
    /// Send the stop.
    Delete,
}

/// One machine's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Where it is.
    pub stage: Stage,
    /// When the mark of its launch was written.
    pub launched: Moment,
    /// When it became ready, or the last moment at which it was not yet.
    pub ready: Option<Moment>,
    /// Whether that is known to a few seconds.
    pub ready_seen: bool,
    /// When the service stops it by itself.
    pub stops_at: Option<Moment>,
    /// Since when no job wants it; `None` while one does.
    pub idle_since: Option<Moment>,
    /// How much longer a job needs that has it.
    pub run: Duration,
    /// When it was last asked about with an answer.
    heard: Option<Moment>,
    /// When it was last seen to start.
    starting: Option<Moment>,
    /// Before that it is not kept longer again: the service is given time to say that it did.
    extend_after: Option<Moment>,
    /// When the next try of a call is due.
    due: Option<Moment>,
    /// Calls that failed in a row.
    failures: u32,
    /// Since when the service does not know it.
    absent: Option<Moment>,
    /// Listings without it.
    searches: u32,
    /// What must be stopped, and why.
    doomed: Option<Why>,
}

impl Life {
    /// Begins with the mark of a launch, for a job.
    pub const fn launching(now: Moment) -> Self {
        Self::at(Stage::Launching, now)
    }

    /// Takes up a life that another session began: it is asked about at once.
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

    /// Tells whether a job may be given to it: it is not on its way out, and has `run` left to work.
    pub fn serves(&self, now: Moment, rules: &Rules, run: Duration) -> bool {
        // Where the ceiling is lower than that, half of it must do: else no machine ever would.
        let need = run.min(rules.max_run / 2);
        self.is_alive() && self.ceiling(rules).is_none_or(|ceiling| ceiling.since(now) >= need)
    }

    /// Tells whether it starts or works, and is not to be stopped.
    pub fn is_alive(&self) -> bool {
        matches!(self.stage, Stage::Starting | Stage::Ready) && self.doomed.is_none()
    }

    /// Returns the last moment at which it may run.
    pub fn ceiling(&self, rules: &Rules) -> Option<Moment> {
        self.ready.map(|ready| ready.plus(rules.max_run))
    }

    /// Returns until when it is wanted, as far as is known.
    fn wanted_until(&self, now: Moment, rules: &Rules) -> Moment {
        let wanted = match self.idle_since {
            Some(since) => since.plus(rules.idle_stop),
            None => {
                // A job whose start takes its time begins only then.
                let begin = if self.ready.is_some() { now } else { self.start_ends(now, rules) };
                begin.plus(self.run.max(EXTEND_BEFORE) + rules.idle_stop)
            }
        };
        self.ceiling(rules).map_or(wanted, |ceiling| wanted.min(ceiling))
    }

    fn start_ends(&self, now: Moment, rules: &Rules) -> Moment {
        self.launched.plus(rules.start).max(now)
    }

    /// Says what to do now, or else when to ask again.
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
        // A decision must not wait for a look.
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

    /// Returns when [`Self::stop_now`] changes its mind by itself.
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
        // In time to keep it longer.
        let wanted = self.wanted_until(now, rules);
        match self.stops_at {
            Some(end) if wanted >= end.plus(WORTH_A_CALL) => look.min(end.minus(EXTEND_BEFORE)),
            _ => look,
        }
    }

    /// Says what a person should know before it happens.
    pub fn warning(&self, now: Moment, rules: &Rules) -> Option<String> {
        let left = self.ceiling(rules)?.since(now);
        let busy = self.idle_since.is_none() && self.stage == Stage::Ready;
        (busy && left <= EXTEND_BEFORE).then(|| {
            format!(
                "the machine reaches `cloud.max_minutes` in {} s and is stopped then, whether or not its job is done",
                left.as_secs()
            )
        })
    }

    // What happened.

    /// The launch was answered, or the machine was found.
    pub fn started(&mut self, now: Moment) {
        self.stage = Stage::Starting;
        self.calmed(now);
        self.heard = None;
    }

    /// The service told how it is. `stops_at`: when it stops by itself; `ready_for`: for how long it is ready.
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
                    // What it is billed from lies between the last look and this one; the service's word is better where it fits.
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

    /// The service does not know it.
    pub fn unknown_there(&mut self, now: Moment) {
        self.calmed(now);
        let young = self.stage == Stage::Starting && now < self.launched.plus(YOUNG);
        let since = *self.absent.get_or_insert(now);
        if self.stage == Stage::Stopping || (!young && now.since(since) >= ABSENT) {
            self.stage = Stage::Gone;
        }
    }

    /// The machines were listed and it was not clear which is ours, or none was.
    pub fn searched(&mut self, now: Moment, found: &Found) {
        self.calmed(now);
        match found {
            Found::None => {
                self.searches += 1;
                if self.stage == Stage::Lost {
                    // What was unclear is not there any more.
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

    /// A call failed; `random` is between 0 and 1.
    pub fn failed(&mut self, now: Moment, random: f64, retry_after: Option<Duration>) {
        self.failures += 1;
        self.due = Some(now.plus(backoff().wait(self.failures, random, retry_after)));
    }

    /// It was kept longer.
    pub fn extended(&mut self, now: Moment, until: Moment) {
        self.calmed(now);
        self.stops_at = Some(until);
        self.extend_after = Some(now.plus(EXTEND_AGAIN));
        // The service's own word on it is wanted.
        self.heard = None;
    }

    /// The mark of the stop is written.
    pub fn stopping(&mut self) {
        self.stage = Stage::Stopping;
        self.due = None;
        self.failures = 0;
    }

    /// The service stopped it, or it is known not to be.
    pub const fn gone(&mut self) {
        self.stage = Stage::Gone;
    }

    /// A job that needs `run` has it.
    pub fn taken(&mut self, run: Duration) {
        self.idle_since = None;
        self.run = self.run.max(run);
    }

    /// No job has it any more.
    pub const fn left(&mut self, now: Moment) {
        self.idle_since = Some(now);
        self.run = Duration::ZERO;
    }

    /// It is to be stopped, whatever else is true.
    pub fn doom(&mut self, why: Why) {
        self.doomed.get_or_insert(why);
    }

    /// Returns when it last answered.
    pub const fn heard(&self) -> Option<Moment> {
        self.heard
    }

    /// Returns when it was last seen to start.
    pub const fn heard_starting(&self) -> Option<Moment> {
        self.starting
    }

    /// Calls that failed in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    fn calmed(&mut self, now: Moment) {
        self.heard = Some(now);
        self.due = None;
        self.failures = 0;
    }
}

/// A moment that does not come.
const NEVER: Moment = Moment::from_micros(u64::MAX);
