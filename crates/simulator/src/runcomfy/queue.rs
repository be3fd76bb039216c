//! The queue and the machines as a pure computation: which requests wait, which run, which machines
//! are awake.
//!
//! Everything follows from known times: a request's phase is computed when a caller asks, by
//! replaying what must have happened since the last call. Nothing runs in the background and no
//! clock is read, so a test can let an hour pass in a microsecond. Prices are [`super::billing`]'s.

use std::{collections::VecDeque, time::Duration};

use conjured_domain::time::Moment;

/// The end of time, for what never ends.
const NEVER: Moment = Moment::from_micros(u64::MAX);

/// Durations, and how many machines there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueSettings {
    /// From the wake signal until a machine accepts requests.
    pub(crate) cold_start: Duration,
    /// From accepting a request to running it on a warm machine.
    pub(crate) warm_delay: Duration,
    /// How long an idle machine stays awake.
    pub(crate) keep_warm: Duration,
    /// The maximum number of machines at once, at least one.
    pub(crate) max_instances: u32,
    /// How many requests may wait per machine before another machine is started.
    pub(crate) queue_size: u32,
}

/// A request in the queue, by its number.
#[derive(Clone, Copy, Debug)]
struct QueueEntry {
    submitted: Moment,
    run: Duration,
    /// How much of a machine's cold start is charged to this request.
    cold: Duration,
    stuck: Option<Stuck>,
    instance: Option<u64>,
    starts: Moment,
    ends: Moment,
    end: End,
}

/// Where a request stays forever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// It never leaves the queue, and wakes no machine.
    InQueue,
    /// It never ends.
    InProgress,
}

/// How a request ended, or will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// On its own: success or failure, as the run decides.
    Natural,
    /// By a cancel.
    Cancelled,
    /// Because the deployment was disabled.
    Disabled,
}

/// The state of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits behind `position` others.
    Waiting {
        /// Counts from 0.
        position: usize,
    },
    /// A machine works on it, until `ends`.
    Running {
        /// When it will have ended, if nothing interferes.
        ends: Moment,
    },
    /// It is over.
    Ended {
        /// When it ended.
        at: Moment,
        /// How it ended.
        how: End,
    },
}

/// The outcome of a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// The request will end, or has ended.
    Promised,
    /// Too late, or not allowed.
    Refused,
}

/// A machine that is awake.
#[derive(Clone, Copy, Debug)]
struct Instance {
    id: u64,
    woken: Moment,
    /// The request for which it was woken.
    waker: usize,
    state: InstanceState,
}

#[derive(Clone, Copy, Debug)]
enum InstanceState {
    Starting { ready: Moment },
    Busy { with: usize, until: Moment },
    Idle { since: Moment },
}

/// A period in which a machine was awake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// When it was woken.
    pub(crate) from: Moment,
    /// When it was shut down; for a machine that is still awake, the time of the call.
    pub(crate) to: Moment,
}

/// The queue and the machines.
pub(crate) struct Queue {
    pub(crate) plan: QueueSettings,
    entries: Vec<QueueEntry>,
    waiting: VecDeque<usize>,
    instances: Vec<Instance>,
    woken: u64,
    spans: Vec<Span>,
}

impl Queue {
    /// Creates an empty queue with all machines asleep.
    pub(crate) fn new(plan: QueueSettings) -> Self {
        Self {
            plan,
            entries: Vec::new(),
            waiting: VecDeque::new(),
            instances: Vec::new(),
            woken: 0,
            spans: Vec::new(),
        }
    }

    /// Accepts a request that will run for `run`; returns its number, counted from 0.
    pub(crate) fn submit(&mut self, now: Moment, run: Duration, stuck: Option<Stuck>) -> usize {
        self.advance_to(now);
        let number = self.entries.len();
        self.entries.push(QueueEntry {
            submitted: now,
            run,
            cold: Duration::ZERO,
            stuck,
            instance: None,
            starts: NEVER,
            ends: NEVER,
            end: End::Natural,
        });
        if stuck != Some(Stuck::InQueue) {
            self.waiting.push_back(number);
            self.assign(now, self.plan.warm_delay);
            self.scale(now, number);
        }
        number
    }

    /// Returns the state of request `number`.
    pub(crate) fn phase(&mut self, number: usize, now: Moment) -> Phase {
        self.advance_to(now);
        let Some(place) = self.entries.get(number) else {
            return Phase::Ended { at: now, how: End::Disabled };
        };
        if place.ends <= now {
            Phase::Ended { at: place.ends, how: place.end }
        } else if place.starts <= now {
            Phase::Running { ends: place.ends }
        } else {
            let position = self.waiting.iter().position(|&waiting| waiting == number);
            Phase::Waiting { position: position.unwrap_or(0) }
        }
    }

    /// Returns the machine of a request, once it has one.
    pub(crate) fn instance(&self, number: usize) -> Option<u64> {
        self.entries.get(number)?.instance
    }

    /// Returns whether a machine is awake.
    pub(crate) fn is_awake(&mut self, instance: u64, now: Moment) -> bool {
        self.advance_to(now);
        self.instances.iter().any(|awake| awake.id == instance)
    }

    /// Returns how many machines are awake.
    pub(crate) fn awake(&mut self, now: Moment) -> usize {
        self.advance_to(now);
        self.instances.len()
    }

    /// Cancels a request. A running one ends after `grace`; `None` means that running ones cannot
    /// be cancelled.
    pub(crate) fn cancel(
        &mut self,
        number: usize,
        now: Moment,
        grace: Option<Duration>,
    ) -> Cancelled {
        match (self.phase(number, now), grace) {
            (Phase::Ended { .. }, _) | (Phase::Running { .. }, None) => Cancelled::Refused,
            (Phase::Waiting { .. }, _) => {
                self.waiting.retain(|&waiting| waiting != number);
                self.end(number, now, End::Cancelled);
                Cancelled::Promised
            }
            (Phase::Running { ends }, Some(grace)) => {
                let stop = now.plus(grace);
                if stop < ends {
                    self.end(number, stop, End::Cancelled);
                }
                Cancelled::Promised
            }
        }
    }

    /// Ends everything at once, as a deployment does when it is disabled.
    pub(crate) fn disable(&mut self, now: Moment) {
        self.advance_to(now);
        for place in self.entries.iter_mut().filter(|place| place.ends > now) {
            place.ends = now;
            place.end = End::Disabled;
        }
        self.waiting.clear();
        for instance in self.instances.drain(..) {
            if matches!(instance.state, InstanceState::Starting { .. }) {
                self.entries[instance.waker].cold = now.since(instance.woken);
            }
            self.spans.push(Span { from: instance.woken, to: now });
        }
    }

    /// Returns the periods in which the machines were awake so far.
    pub(crate) fn spans(&mut self, now: Moment) -> impl Iterator<Item = Span> {
        self.advance_to(now);
        let awake = self.instances.iter().map(move |one| Span { from: one.woken, to: now });
        self.spans.iter().copied().chain(awake)
    }

    /// Applies, in order, every change that must have happened up to `now`.
    fn advance_to(&mut self, now: Moment) {
        while let Some((at, which)) = self.next_change() {
            if at > now {
                break;
            }
            match self.instances[which].state {
                InstanceState::Starting { .. } => {
                    self.instances[which].state = InstanceState::Idle { since: at };
                    self.assign(at, Duration::ZERO);
                    self.charge_cold_start(which, at);
                }
                InstanceState::Busy { .. } => {
                    self.instances[which].state = InstanceState::Idle { since: at };
                    self.assign(at, self.plan.warm_delay);
                }
                InstanceState::Idle { .. } => {
                    let asleep = self.instances.remove(which);
                    self.spans.push(Span { from: asleep.woken, to: at });
                }
            }
        }
    }

    /// Splits the cold start that ended at `ready`: the request that waited first and then got the
    /// machine is charged from its own submit on; the request that woke the machine (and was
    /// cancelled meanwhile) is charged for the time before. If no other request got the machine,
    /// the one that woke it is charged for all of it.
    fn charge_cold_start(&mut self, which: usize, ready: Moment) {
        let Instance { woken, waker, state: doing, .. } = self.instances[which];
        let first = match doing {
            InstanceState::Busy { with, .. } => with,
            InstanceState::Starting { .. } | InstanceState::Idle { .. } => waker,
        };
        let from = if first == waker { woken } else { self.entries[first].submitted.max(woken) };
        self.entries[first].cold += ready.since(from);
        if first != waker {
            self.entries[waker].cold += from.since(woken);
        }
    }

    /// Returns the machine time charged to request `number` up to `now`: the cold start, and the
    /// run. Idle time of a machine before, between and after runs belongs to no request.
    pub(crate) fn charged_time(&mut self, number: usize, now: Moment) -> (Duration, Duration) {
        self.advance_to(now);
        let Some(place) = self.entries.get(number) else { return Default::default() };
        let starting = self
            .instances
            .iter()
            .find(|one| one.waker == number && matches!(one.state, InstanceState::Starting { .. }));
        let cold = place.cold + starting.map_or(Duration::ZERO, |one| now.since(one.woken));
        let until = place.ends.min(now);
        let run = if place.starts < until { until.since(place.starts) } else { Duration::ZERO };
        (cold, run)
    }

    fn next_change(&self) -> Option<(Moment, usize)> {
        let changes = self.instances.iter().enumerate().map(|(which, instance)| {
            let at = match instance.state {
                InstanceState::Starting { ready } => ready,
                InstanceState::Busy { until, .. } => until,
                InstanceState::Idle { since } => since.plus(self.plan.keep_warm),
            };
            (at, which)
        });
        changes.filter(|&(at, _)| at < NEVER).min()
    }

    /// Assigns waiting requests to idle machines.
    fn assign(&mut self, at: Moment, delay: Duration) {
        for instance in &mut self.instances {
            if !matches!(instance.state, InstanceState::Idle { .. }) {
                continue;
            }
            let Some(number) = self.waiting.pop_front() else { return };
            let place = &mut self.entries[number];
            place.instance = Some(instance.id);
            place.starts = at.plus(delay);
            place.ends = match place.stuck {
                Some(_) => NEVER,
                None => place.starts.plus(place.run),
            };
            instance.state = InstanceState::Busy { with: number, until: place.ends };
        }
    }

    /// Wakes a machine when there is none, or when more requests wait than the others may have
    /// queued. A machine that is starting already has its first request.
    fn scale(&mut self, now: Moment, waker: usize) {
        let awake = self.instances.len();
        let starting = |one: &&Instance| matches!(one.state, InstanceState::Starting { .. });
        let promised = self.instances.iter().filter(starting).count();
        let unclaimed = self.waiting.len().saturating_sub(promised);
        let bearable = awake.saturating_mul(self.plan.queue_size as usize);
        let room = awake < self.plan.max_instances.max(1) as usize;
        if room && unclaimed > 0 && (awake == 0 || unclaimed > bearable) {
            self.woken += 1;
            let ready = now.plus(self.plan.cold_start);
            let doing = InstanceState::Starting { ready };
            self.instances.push(Instance { id: self.woken, woken: now, waker, state: doing });
            // A cold start of zero length must not leave the request waiting until the next call.
            self.advance_to(now);
        }
    }

    /// Moves a request's end to `at`, and frees its machine then.
    fn end(&mut self, number: usize, at: Moment, how: End) {
        let place = &mut self.entries[number];
        place.ends = at;
        place.end = how;
        for instance in &mut self.instances {
            if let InstanceState::Busy { with, until } = &mut instance.state
                && *with == number
            {
                *until = at;
            }
        }
    }
}

#[cfg(test)]
mod tests;
