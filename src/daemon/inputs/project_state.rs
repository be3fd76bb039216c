//! A project as the event loop serves it: its configuration, when to scan it, what was seen, its
//! active job.
//!
//! Owns the timing of scans: at once after a pause, spaced by their own cost in a storm of events,
//! and repeated while a file is unfinished. What the inputs mean for jobs is decided by the engine.

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
        inputs::{debounce::InputState, prompt::Prompt},
        job::{Inputs, JobId, placement::Targets},
        money::estimate::{Estimate, PastTimings},
        status,
        time::{Moment, WallTime},
    },
};

/// The gap between two scans, as a multiple of a scan's duration (about a millisecond), so that a
/// storm of writes takes a fifth of a core and not all of it.
const SPACING: u32 = 4;

/// The shortest gap between two scans of one project.
const LEAST_SPACING: Duration = Duration::from_millis(5);

/// The first and the longest wait before an unfinished file is scanned again without an event.
const RECHECK: (Duration, Duration) = (Duration::from_millis(60), Duration::from_secs(2));

/// The early work for one snapshot.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) inputs: Inputs,
    /// The configuration for which it was done: a reload makes it unusable.
    pub(crate) generation: u64,
    pub(crate) ready: oneshot::Receiver<Result<Early, PrepareFault>>,
}

/// The result of early work.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) ready: Ready,
    pub(crate) learned: PastTimings,
    pub(crate) estimate: Estimate,
    /// When the estimate was made: a machine goes cold with time.
    pub(crate) made_at: Moment,
}

/// The active job, as the event loop holds it.
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
    /// `None` while a scan runs on the blocking pool.
    pub(crate) eyes: Option<Eyes>,
    pub(crate) prompt: Option<Prompt>,
    pub(crate) render: Option<Bytes>,
    pub(crate) polled: bool,
    pub(crate) prepared: Option<Prepared>,
    pub(crate) job: Option<AtWork>,
    pub(crate) last_job: Option<status::LastJob>,
    pub(crate) unknown: Vec<JobId>,
    /// Whether it was scanned at least once.
    pub(crate) looked: bool,
    /// Why nothing is released for it, if its lock is not ours.
    pub(crate) withheld: Option<String>,
    /// Since when it is ours again, after another process had it.
    pub(crate) regained: Option<WallTime>,
    /// The changes until now belong to another process: they become the baseline as soon as no job
    /// is active.
    pub(crate) leaves_changes: bool,
    /// Its drive does not answer: it is not looked at until it does.
    pub(crate) silent: bool,
    /// Its lock is being checked.
    pub(crate) checking: bool,
    /// Counts the changes of paths and rules: the results of older scans are discarded.
    epoch: u64,
    /// Whether it is not scanned at all.
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

    /// Requests a scan after a possible change, as soon as the spacing allows.
    pub(crate) fn wake(&mut self, now: Moment) {
        self.rechecks = 0;
        self.look_at(now.max(self.not_before));
    }

    /// Requests a scan at `at`, or earlier if one is due earlier.
    pub(crate) fn look_at(&mut self, at: Moment) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Returns when a scan is due, unless one is in progress.
    pub(crate) fn due(&self) -> Option<Moment> {
        self.eyes.as_ref()?;
        self.due.filter(|_| !self.silent)
    }

    /// Returns when a look that is under way has taken too long.
    pub(crate) fn overdue_at(&self) -> Option<Moment> {
        (self.is_looking() && !self.silent).then(|| self.began.plus(PATIENCE))
    }

    /// Takes the scanner for a scan that is due.
    pub(crate) fn begin_look(&mut self, now: Moment) -> Option<Eyes> {
        self.due.filter(|due| *due <= now && !self.silent)?;
        let eyes = self.eyes.take()?;
        self.due = None;
        self.began = now;
        Some(eyes)
    }

    /// Releases the render if no job waits for it; the next job reads it again.
    pub(crate) fn rest(&mut self) {
        if let Some(eyes) = &mut self.eyes {
            eyes.let_go();
            self.render = None;
        }
    }

    /// Returns what is needed to check whether a scan is needed; `None` while one is in progress.
    pub(crate) fn glance(&self) -> Option<Glance> {
        Some(self.eyes.as_ref()?.glance())
    }

    /// Ends all scans: a daemon that was started for one job starts no others.
    pub(crate) fn close_eyes(&mut self) {
        self.closed = true;
        self.eyes = None;
        self.due = None;
    }

    /// Takes the scanner back and keeps its result. Returns whether the result counts: after a
    /// reload, an older scan is discarded.
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
        let unfinished = |state: &InputState| matches!(state, InputState::Incomplete { .. });
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

    /// Scans both files as if for the first time, because paths or rules may have changed.
    pub(crate) fn look_anew(&mut self, now: Moment) {
        self.epoch += 1;
        let (prompt, render) = (self.config.prompt.clone(), self.config.render.clone());
        self.eyes = Some(Eyes::new(prompt, render, self.epoch));
        self.prepared = None;
        self.wake(now);
    }

    /// Returns whether a scan is in progress.
    pub(crate) fn is_looking(&self) -> bool {
        self.eyes.is_none() && !self.closed
    }

    /// Returns whether there was an earlier scan, and records that there is one now.
    pub(crate) fn looked_before(&mut self) -> bool {
        std::mem::replace(&mut self.looked, true)
    }

    /// Returns the public names of the project.
    pub(crate) fn targets(&self) -> Targets {
        Targets { image: self.config.image.clone(), mesh: self.config.mesh.clone() }
    }

    /// Sends a control to the active job.
    pub(crate) fn wish(&self, wish: Wish) {
        if let Some(job) = &self.job {
            wish.raise(&job.wish);
        }
    }
}

/// The status as it is published.
pub(crate) type Shown = Arc<status::Status>;
