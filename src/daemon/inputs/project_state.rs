//! A project as the loop serves it: its configuration, when to look at it, what was seen, the job at work.
//!
//! Owns the rhythm of looks: at once after quiet, spaced by their own cost in a storm, again by itself while a file is
//! unfinished. What a sight means for jobs is the engine's.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::{
    prepare::{PrepareFault, Ready},
    scan::{Eyes, Glance, Look},
};
use crate::{
    config::settings::ProjectConfig,
    daemon::services::{drives::PATIENCE, messages::Wish},
    domain::{
        inputs::{debounce::Sight, prompt::Prompt},
        job::{Inputs, JobId, placement::Targets},
        money::estimate::{Estimate, Learned},
        status,
        time::{Moment, WallTime},
    },
};

/// A look costs about a millisecond; between two of them lies at least this multiple of it, so that a storm of writes takes
/// a fifth of a core and not all of it.
const SPACING: u32 = 4;

/// The least time between two looks at one project.
const LEAST_SPACING: Duration = Duration::from_millis(5);

/// The first and the longest wait before an unfinished file is looked at unasked.
const RECHECK: (Duration, Duration) = (Duration::from_millis(60), Duration::from_secs(2));

/// The early work for one snapshot.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) inputs: Inputs,
    /// Under which configuration it was made: a reload makes it void.
    pub(crate) generation: u64,
    pub(crate) ready: oneshot::Receiver<Result<Early, PrepareFault>>,
}

/// What the early work brought.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) ready: Ready,
    pub(crate) learned: Learned,
    pub(crate) estimate: Estimate,
    /// When the expectation was made: a machine goes cold with time.
    pub(crate) made_at: Moment,
}

/// The job at work, as the loop holds it.
#[derive(Debug)]
pub(crate) struct AtWork {
    pub(crate) id: JobId,
    pub(crate) wish: watch::Sender<Wish>,
    pub(crate) shown: Option<Box<status::Job>>,
}

/// One project.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) config: ProjectConfig,
    /// `None` while a look is under way on the blocking pool.
    pub(crate) eyes: Option<Eyes>,
    pub(crate) prompt: Option<Prompt>,
    pub(crate) render: Option<Bytes>,
    pub(crate) polled: bool,
    pub(crate) prepared: Option<Prepared>,
    pub(crate) job: Option<AtWork>,
    pub(crate) last_job: Option<status::LastJob>,
    pub(crate) unknown: Vec<JobId>,
    /// Looked at least once.
    pub(crate) looked: bool,
    /// Why nothing is released for it, where its lock is not ours.
    pub(crate) withheld: Option<String>,
    /// Since when it is ours again, after another process had it.
    pub(crate) regained: Option<WallTime>,
    /// What has changed until now was another process's business: it becomes the baseline when no
    /// job is at work.
    pub(crate) leaves_changes: bool,
    /// Its drive does not answer: it is not looked at until it does.
    pub(crate) silent: bool,
    /// Its lock is being checked.
    pub(crate) checking: bool,
    /// Counts the changes of paths and rules: what older eyes saw is void.
    epoch: u64,
    /// It is not looked at at all.
    closed: bool,
    due: Option<Moment>,
    began: Moment,
    not_before: Moment,
    rechecks: u32,
}

impl Served {
    pub(crate) fn new(config: ProjectConfig, now: Moment) -> Self {
        let eyes = Eyes::new(config.prompt.clone(), config.render.clone(), 0);
        Self {
            config,
            eyes: Some(eyes),
            prompt: None,
            render: None,
            polled: false,
            prepared: None,
            job: None,
            last_job: None,
            unknown: Vec::new(),
            looked: false,
            withheld: None,
            regained: None,
            leaves_changes: false,
            silent: false,
            checking: false,
            epoch: 0,
            closed: false,
            due: Some(now),
            began: now,
            not_before: now,
            rechecks: 0,
        }
    }

    /// Something may have happened: look as soon as the spacing allows.
    pub(crate) fn wake(&mut self, now: Moment) {
        self.rechecks = 0;
        self.look_at(now.max(self.not_before));
    }

    /// Wants a look at `at`, or earlier if one is due earlier.
    pub(crate) fn look_at(&mut self, at: Moment) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Returns when a look is due, unless one is under way.
    pub(crate) fn due(&self) -> Option<Moment> {
        self.eyes.as_ref()?;
        self.due.filter(|_| !self.silent)
    }

    /// Returns when a look that is under way has taken too long.
    pub(crate) fn overdue_at(&self) -> Option<Moment> {
        (self.is_looking() && !self.silent).then(|| self.began.plus(PATIENCE))
    }

    /// Takes the eyes for a look that is due.
    pub(crate) fn begin_look(&mut self, now: Moment) -> Option<Eyes> {
        self.due.filter(|due| *due <= now && !self.silent)?;
        let eyes = self.eyes.take()?;
        self.due = None;
        self.began = now;
        Some(eyes)
    }

    /// Lets the render go when no job waits for it; the next one that does has it read again.
    pub(crate) fn rest(&mut self) {
        if let Some(eyes) = &mut self.eyes {
            eyes.let_go();
            self.render = None;
        }
    }

    /// Returns what tells whether a look is worth its while; `None` while one is under way.
    pub(crate) fn glance(&self) -> Option<Glance> {
        Some(self.eyes.as_ref()?.glance())
    }

    /// Looks no more: a daemon that was started for one job starts no others.
    pub(crate) fn close_eyes(&mut self) {
        self.closed = true;
        self.eyes = None;
        self.due = None;
    }

    /// Gives the eyes back and keeps what they saw. Returns whether it counts: after a reload, what old eyes saw is void.
    pub(crate) fn end_look(&mut self, now: Moment, eyes: Eyes, look: &Look) -> bool {
        if eyes.epoch() != self.epoch {
            return false;
        }
        self.eyes = Some(eyes);
        let cost = now.since(self.began);
        self.not_before = now.plus(cost.saturating_mul(SPACING).max(LEAST_SPACING));
        if let Some(due) = self.due {
            self.due = Some(due.max(self.not_before));
        }
        if look.prompt.content.is_some() {
            self.prompt.clone_from(&look.prompt.content);
        }
        if look.render.content.is_some() {
            self.render.clone_from(&look.render.content);
        }
        let unfinished = |sight: &Sight| matches!(sight, Sight::Unfinished { .. });
        if unfinished(&look.prompt.sight) || unfinished(&look.render.sight) {
            let wait = RECHECK.0.saturating_mul(1 << self.rechecks.min(10)).min(RECHECK.1);
            self.rechecks += 1;
            self.look_at(now.plus(wait).max(self.not_before));
        } else {
            self.rechecks = 0;
        }
        true
    }

    /// Serves the same checkout under another configuration.
    pub(crate) fn change(&mut self, config: ProjectConfig, now: Moment) {
        self.config = config;
        self.look_anew(now);
    }

    /// Looks at both files as if for the first time: paths or rules may be other ones.
    pub(crate) fn look_anew(&mut self, now: Moment) {
        self.epoch += 1;
        let (prompt, render) = (self.config.prompt.clone(), self.config.render.clone());
        self.eyes = Some(Eyes::new(prompt, render, self.epoch));
        self.prepared = None;
        self.wake(now);
    }

    /// Tells whether a look is under way.
    pub(crate) fn is_looking(&self) -> bool {
        self.eyes.is_none() && !self.closed
    }

    /// Tells whether there was a look before the last one, and remembers that there is one now.
    pub(crate) fn looked_before(&mut self) -> bool {
        std::mem::replace(&mut self.looked, true)
    }

    /// Returns the public names of the project.
    pub(crate) fn targets(&self) -> Targets {
        Targets { image: self.config.image.clone(), mesh: self.config.mesh.clone() }
    }

    /// Wants something of the job at work.
    pub(crate) fn wish(&self, wish: Wish) {
        if let Some(job) = &self.job {
            wish.raise(&job.wish);
        }
    }
}

/// The status as it is handed round.
pub(crate) type Shown = Arc<status::Status>;
