//! What happens without an event from outside: periodic checks, deadlines, the pruning of the
//! history.
//!
//! Owns their times. What a check finds belongs to the file of its noun.

use std::time::Duration;

use super::{super::action::Action, DaemonState};
use crate::{
    daemon::services::runtime_config::backends::ConfiguredBackend,
    disk::history::RetentionLimits,
    domain::{
        engine::event::Event,
        job::choose_backend::BackendKind,
        time::{Moment, Now},
    },
};

/// The interval of the periodic checks: folders without file events, locks, the deployment's facts.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// When the periodic checks are due, and whether the history is being pruned.
#[derive(Debug)]
pub(super) struct Housekeeping {
    next: Moment,
    pruning: bool,
    prune_again: bool,
}

impl Housekeeping {
    pub(super) fn new(now: Moment) -> Self {
        Self { next: now.plus(HOUSEKEEPING), pruning: false, prune_again: false }
    }

    /// Returns whether the periodic checks are due, and if so schedules the next ones.
    fn take_due(&mut self, now: Moment) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.plus(HOUSEKEEPING);
        }
        due
    }
}

impl DaemonState {
    /// Returns when [`super::super::event::LoopEvent::Timer`] is due if no other event arrives
    /// first.
    pub(crate) fn deadline(&self, now: Moment) -> Option<Moment> {
        let work = [
            self.engine.deadline(now),
            self.scan_due_at(),
            Some(self.housekeeping.next),
            self.watching.next_poll(),
            self.lock_checks.due_at(),
            self.drive_timeout_at(),
        ];
        let work = if self.ending.is_stopping() { None } else { work.into_iter().flatten().min() };
        let asked = [self.reloading.due_at(), self.publication.due_at(), self.ending.stop_until()];
        asked.into_iter().flatten().chain(work).min()
    }

    /// Does what is due.
    pub(super) fn on_timer(&mut self, now: Now) {
        self.reload_if_due(now.moment);
        self.skip_unresponsive(now.moment);
        if self.housekeeping.take_due(now.moment) {
            self.check_watches(true, now.moment);
            self.fetch_facts();
        } else if self.watching.poll_is_due(now.moment) {
            self.check_watches(false, now.moment);
        }
        self.check_locks_if_due(now.moment);
        self.scan_where_due(now.moment);
        self.decide(Event::Tick, now);
    }

    /// Asks a deployment for its facts if that never happened: at the start and after a reload.
    /// Later, jobs repeat it.
    pub(super) fn fetch_facts(&mut self) {
        let serverless = self.config.at(BackendKind::Serverless);
        if serverless.as_ref().is_ok_and(ConfiguredBackend::facts_unknown) {
            self.push(Action::FetchFacts);
        }
    }

    /// Prunes the history to its limits; one pruning at a time.
    pub(crate) fn prune(&mut self) {
        if std::mem::replace(&mut self.housekeeping.pruning, true) {
            self.housekeeping.prune_again = true;
            return;
        }
        let bounds = &self.config.settings.history;
        let limits = RetentionLimits {
            jobs: usize::try_from(bounds.keep_jobs).unwrap_or(usize::MAX),
            bytes: bounds.keep_mb.saturating_mul(1024 * 1024),
        };
        self.push(Action::Prune(limits));
    }

    pub(super) fn on_pruned(&mut self, fault: Option<String>) {
        self.housekeeping.pruning = false;
        self.warn(fault);
        if std::mem::take(&mut self.housekeeping.prune_again) {
            self.prune();
        }
    }
}
