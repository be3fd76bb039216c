//! A project as the event loop serves it: its configuration, when to scan it, what was seen, its
//! active job.
//!
//! Owns the timing of scans: at once after a pause, spaced by their own cost in a storm of events,
//! and repeated while a file is unfinished. What the inputs mean for jobs is decided by the engine.

use std::{sync::Arc, time::Duration};

use super::{
    prepare::{PreparedRequest, SnapshotContent},
    scan::{InputReader, Scan, StampCheck},
};
use crate::{
    config::settings::ProjectConfig,
    daemon::services::{drives::ANSWER_TIMEOUT, root_locks::LockStatus},
    domain::{
        inputs::{debounce::InputState, prompt::Prompt},
        job::{Inputs, JobId, placement::Targets},
        money::estimate::{Estimate, PastTimings},
        status,
        time::{Moment, WallTime},
    },
};
use bytes::Bytes;

/// The gap between two scans, as a multiple of a scan's duration (about a millisecond), so that a
/// storm of writes takes a fifth of a core and not all of it.
const SCAN_SPACING: u32 = 4;

/// The shortest gap between two scans of one project.
const MIN_SCAN_SPACING: Duration = Duration::from_millis(5);

/// The first and the longest wait before an unfinished file is scanned again without an event.
const RECHECK_BACKOFF: (Duration, Duration) = (Duration::from_millis(60), Duration::from_secs(2));

#[derive(Debug)]
pub(crate) struct EarlyWork {
    pub(crate) request: PreparedRequest,
    pub(crate) learned: PastTimings,
    pub(crate) estimate: Estimate,
    /// When the estimate was made: a machine goes cold with time.
    pub(crate) made_at: Moment,
}

/// For which snapshot early work was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EarlyWorkKey {
    inputs: Inputs,
    /// The configuration for which it is done: a reload makes it unusable.
    generation: u64,
}

/// The active job.
#[derive(Debug)]
struct RunningJob {
    id: JobId,
    status: Box<status::Job>,
}

#[derive(Debug)]
pub(crate) struct ProjectState {
    config: ProjectConfig,
    /// `None` while a scan runs on the blocking pool.
    reader: Option<InputReader>,
    prompt: Option<Prompt>,
    render: Option<Bytes>,
    polled: bool,
    early: Option<EarlyWorkKey>,
    job: Option<RunningJob>,
    last_job: Option<status::LastJob>,
    unknown: Vec<JobId>,
    /// Whether it was scanned at least once.
    scanned: bool,
    /// Why nothing is released for it, if its lock is not ours.
    withheld: Option<String>,
    /// Since when it is ours again, after another process had it.
    regained: Option<WallTime>,
    /// The changes until now belong to another process: they become the baseline as soon as no job
    /// is active.
    leaves_changes: bool,
    /// Its drive does not answer: it is not scanned until it does.
    unresponsive: bool,
    /// Its lock is being checked.
    checking_lock: bool,
    /// Counts the changes of paths and rules: the results of older scans are discarded.
    epoch: u64,
    /// Whether it is not scanned at all.
    scans_stopped: bool,
    next_scan_at: Option<Moment>,
    scan_began: Moment,
    not_before: Moment,
    rechecks: u32,
}

impl ProjectState {
    pub(crate) fn new(config: ProjectConfig, now: Moment) -> Self {
        let reader = InputReader::new(config.prompt.clone(), config.render.clone(), 0);
        Self {
            config,
            reader: Some(reader),
            prompt: None,
            render: None,
            polled: false,
            early: None,
            job: None,
            last_job: None,
            unknown: Vec::new(),
            scanned: false,
            withheld: None,
            regained: None,
            leaves_changes: false,
            unresponsive: false,
            checking_lock: false,
            epoch: 0,
            scans_stopped: false,
            next_scan_at: Some(now),
            scan_began: now,
            not_before: now,
            rechecks: 0,
        }
    }

    /// Requests a scan after a possible change, as soon as the spacing allows.
    pub(crate) fn wake(&mut self, now: Moment) {
        self.rechecks = 0;
        self.scan_at(now.max(self.not_before));
    }

    /// Requests a scan at `at`, or earlier if one is due earlier.
    pub(crate) fn scan_at(&mut self, at: Moment) {
        self.next_scan_at = Some(self.next_scan_at.map_or(at, |due| due.min(at)));
    }

    /// Returns when a scan is due, unless one is in progress.
    pub(crate) fn scan_due(&self) -> Option<Moment> {
        self.reader.as_ref()?;
        self.next_scan_at.filter(|_| !self.unresponsive)
    }

    /// Returns when a look that is under way has taken too long.
    pub(crate) fn overdue_at(&self) -> Option<Moment> {
        (self.is_scanning() && !self.unresponsive).then(|| self.scan_began.plus(ANSWER_TIMEOUT))
    }

    /// Takes the scanner for a scan that is due.
    pub(crate) fn begin_scan(&mut self, now: Moment) -> Option<InputReader> {
        self.next_scan_at.filter(|due| *due <= now && !self.unresponsive)?;
        let reader = self.reader.take()?;
        self.next_scan_at = None;
        self.scan_began = now;
        Some(reader)
    }

    /// Releases the render if no job waits for it; the next job reads it again.
    pub(crate) fn release_render(&mut self) {
        if let Some(reader) = &mut self.reader {
            reader.release_render();
            self.render = None;
        }
    }

    /// Returns what is needed to check whether a scan is needed; `None` while one is in progress.
    pub(crate) fn stamp_check(&self) -> Option<StampCheck> {
        Some(self.reader.as_ref()?.stamp_check())
    }

    /// Ends all scans: a daemon that was started for one job starts no others.
    pub(crate) fn stop_scans(&mut self) {
        self.scans_stopped = true;
        self.reader = None;
        self.next_scan_at = None;
    }

    /// Takes the scanner back and keeps its result. Returns whether the result counts: after a
    /// reload, an older scan is discarded.
    pub(crate) fn end_scan(&mut self, now: Moment, reader: InputReader, scan: &Scan) -> bool {
        if reader.epoch() != self.epoch {
            return false;
        }
        self.reader = Some(reader);
        let cost = now.since(self.scan_began);
        self.not_before = now.plus(cost.saturating_mul(SCAN_SPACING).max(MIN_SCAN_SPACING));
        if let Some(due) = self.next_scan_at {
            self.next_scan_at = Some(due.max(self.not_before));
        }
        if scan.prompt.content.is_some() {
            self.prompt.clone_from(&scan.prompt.content);
        }
        if scan.render.content.is_some() {
            self.render.clone_from(&scan.render.content);
        }
        let unfinished = |state: &InputState| matches!(state, InputState::Incomplete { .. });
        if unfinished(&scan.prompt.state) || unfinished(&scan.render.state) {
            let wait =
                RECHECK_BACKOFF.0.saturating_mul(1 << self.rechecks.min(10)).min(RECHECK_BACKOFF.1);
            self.rechecks += 1;
            self.scan_at(now.plus(wait).max(self.not_before));
        } else {
            self.rechecks = 0;
        }
        true
    }

    /// Serves the same checkout under another configuration.
    pub(crate) fn reconfigure(&mut self, config: ProjectConfig, now: Moment) {
        self.config = config;
        self.rescan(now);
    }

    /// Scans both files as if for the first time, because paths or rules may have changed.
    pub(crate) fn rescan(&mut self, now: Moment) {
        self.epoch += 1;
        let (prompt, render) = (self.config.prompt.clone(), self.config.render.clone());
        self.reader = Some(InputReader::new(prompt, render, self.epoch));
        self.early = None;
        self.wake(now);
    }

    /// Returns whether a scan is in progress.
    pub(crate) fn is_scanning(&self) -> bool {
        self.reader.is_none() && !self.scans_stopped
    }

    /// Returns whether there was an earlier scan, and records that there is one now.
    pub(crate) fn was_scanned_before(&mut self) -> bool {
        std::mem::replace(&mut self.scanned, true)
    }

    /// Returns the public names of the project.
    pub(crate) fn targets(&self) -> Targets {
        Targets { image: self.config.image.clone(), mesh: self.config.mesh.clone() }
    }

    /// Returns its configuration.
    pub(crate) const fn config(&self) -> &ProjectConfig {
        &self.config
    }

    /// Returns the content of a snapshot, if it is still in memory.
    pub(crate) fn snapshot_content(&self, inputs: Inputs) -> Option<SnapshotContent> {
        let prompt = self.prompt.as_ref().filter(|p| p.fingerprint == inputs.prompt)?;
        let render = self.render.as_ref()?;
        Some(SnapshotContent { inputs, prompt: prompt.text.clone(), render: render.clone() })
    }

    /// Returns whether it was scanned at least once.
    pub(crate) const fn is_scanned(&self) -> bool {
        self.scanned
    }

    /// Returns whether its inputs are polled.
    pub(crate) const fn is_polled(&self) -> bool {
        self.polled
    }

    /// Records whether its inputs are polled. Returns whether that changed.
    pub(crate) const fn set_polled(&mut self, polled: bool) -> bool {
        std::mem::replace(&mut self.polled, polled) != polled
    }

    /// Returns whether its drive does not answer.
    pub(crate) const fn is_unresponsive(&self) -> bool {
        self.unresponsive
    }

    /// Records whether its drive does not answer. Returns whether that changed.
    pub(crate) const fn set_unresponsive(&mut self, unresponsive: bool) -> bool {
        std::mem::replace(&mut self.unresponsive, unresponsive) != unresponsive
    }
}

/// Early work and the active job.
impl ProjectState {
    /// Records that early work for a snapshot is requested, in place of any other.
    pub(crate) const fn begin_early_work(&mut self, inputs: Inputs, generation: u64) {
        self.early = Some(EarlyWorkKey { inputs, generation });
    }

    /// Ends the early work. Returns whether it was for this snapshot and configuration.
    pub(crate) fn take_early_work(&mut self, inputs: Inputs, generation: u64) -> bool {
        self.early.take() == Some(EarlyWorkKey { inputs, generation })
    }

    /// Discards the early work, because it can no longer be used.
    pub(crate) const fn discard_early_work(&mut self) {
        self.early = None;
    }

    /// Returns whether there is early work that may be used.
    pub(crate) const fn has_early_work(&self) -> bool {
        self.early.is_some()
    }

    /// Makes a job the active one. Its status shows it from now on.
    pub(crate) fn begin_job(&mut self, status: status::Job) {
        self.job = Some(RunningJob { id: status.id, status: Box::new(status) });
    }

    /// Ends the active job.
    pub(crate) fn end_job(&mut self) {
        self.job = None;
    }

    /// Replaces the status of the active job. Returns whether it is that job's.
    pub(crate) fn show_job(&mut self, status: Box<status::Job>) -> bool {
        let running = self.job.as_mut().filter(|running| running.id == status.id);
        let is_own = running.is_some();
        if let Some(running) = running {
            running.status = status;
        }
        is_own
    }

    /// Returns the active job.
    pub(crate) fn job_id(&self) -> Option<JobId> {
        self.job.as_ref().map(|running| running.id)
    }

    /// Returns what `status` shows of the active job.
    pub(crate) fn job_status(&self) -> Option<&status::Job> {
        self.job.as_ref().map(|running| &*running.status)
    }

    /// Returns whether no job is active.
    pub(crate) const fn is_idle(&self) -> bool {
        self.job.is_none()
    }

    /// Returns whether `job` is the active one.
    pub(crate) fn runs(&self, job: JobId) -> bool {
        self.job_id() == Some(job)
    }

    /// Returns the newest job that ended, and the jobs with a lost answer.
    pub(crate) fn past_jobs(&self) -> (Option<&status::LastJob>, &[JobId]) {
        (self.last_job.as_ref(), &self.unknown)
    }

    /// Replaces what is known of past jobs.
    pub(crate) fn set_past_jobs(&mut self, last: Option<status::LastJob>, unknown: Vec<JobId>) {
        (self.last_job, self.unknown) = (last, unknown);
    }
}

/// The lock of its root.
impl ProjectState {
    /// Begins a check of the lock, if it is not ours and no check is under way. Returns whether
    /// it begins.
    pub(crate) const fn begin_lock_check(&mut self) -> bool {
        self.withheld.is_some() && !std::mem::replace(&mut self.checking_lock, true)
    }

    /// Ends a check of the lock.
    pub(crate) const fn end_lock_check(&mut self) {
        self.checking_lock = false;
    }

    /// Returns whether the lock is being checked.
    pub(crate) const fn is_checking_lock(&self) -> bool {
        self.checking_lock
    }

    /// Returns why nothing is released for the project, if its lock is not ours.
    pub(crate) fn withheld(&self) -> Option<&str> {
        self.withheld.as_deref()
    }

    /// Records what is known of the lock. Returns whether the project is withheld for another
    /// reason than before, or no longer.
    pub(crate) fn set_lock_status(&mut self, lock_status: LockStatus) -> bool {
        let (withheld, regained) = match lock_status {
            LockStatus::Ours { regained } => (None, regained),
            LockStatus::Withheld(reason) => (Some(reason), self.regained),
        };
        self.leaves_changes |= self.regained != regained;
        self.regained = regained;
        let changed = self.withheld != withheld;
        self.withheld = withheld;
        changed
    }

    /// Returns whether the present inputs belong to another process and may become the baseline
    /// now.
    pub(crate) const fn may_adopt_inputs(&self) -> bool {
        self.leaves_changes && self.is_idle()
    }

    /// Records that the inputs became the baseline.
    pub(crate) const fn inputs_adopted(&mut self) {
        self.leaves_changes = false;
    }
}

/// The status as it is published.
pub(crate) type SharedStatus = Arc<status::Status>;
