//! When the status is published, and the figures in it that belong to no project.
//!
//! Owns the rule that the status lags behind by at most 50 ms and is not rebuilt more often than
//! that. [`crate::daemon::api::status_view`] builds it.

use std::time::Duration;

use super::DaemonState;
use crate::{
    daemon::{
        api::status_view::StatusView, inputs::project_state::ProjectState,
        services::health::HealthRegistry,
    },
    domain::{
        money::{MicroUsd, budget::Spent},
        status,
        time::Moment,
    },
};

use super::super::action::Action;

/// How far the status may lag behind: in a storm of events it is not rebuilt for each of them.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);

/// Which status was published when, and whether there is a newer one.
#[derive(Debug)]
pub(super) struct Publication {
    revision: u64,
    changed: bool,
    published_at: Moment,
}

impl Publication {
    /// Creates a publication that is due at once.
    pub(super) fn new() -> Self {
        Self { revision: 0, changed: true, published_at: Moment::default() }
    }

    /// Notes that the status changed.
    pub(super) fn mark_changed(&mut self) {
        self.changed = true;
    }

    /// Returns whether everything was published.
    pub(super) fn is_current(&self) -> bool {
        !self.changed
    }

    /// Returns when the next status is due; `None` if nothing changed.
    pub(super) fn due_at(&self) -> Option<Moment> {
        self.changed.then(|| self.published_at.plus(STATUS_INTERVAL))
    }

    /// Returns whether a status is due now, and if so counts it as published.
    fn take_due(&mut self, now: Moment) -> bool {
        let due = self.due_at().is_some_and(|at| at <= now);
        if due {
            self.changed = false;
            self.published_at = now;
            self.revision += 1;
        }
        due
    }
}

/// Figures that `status` shows and nothing else depends on.
#[derive(Debug)]
pub(super) struct Figures {
    /// The sums spent.
    spent: Spent,
    /// The account's balance, once it is known.
    balance: Option<MicroUsd>,
    /// The rented machines.
    machines: Vec<status::Machine>,
}

impl Figures {
    pub(super) const fn new(spent: Spent) -> Self {
        Self { spent, balance: None, machines: Vec::new() }
    }
}

impl DaemonState {
    pub(super) fn set_spent(&mut self, spent: Spent) {
        self.figures.spent = spent;
        self.publication.mark_changed();
    }

    pub(super) fn set_balance(&mut self, balance: MicroUsd) {
        self.figures.balance = Some(balance);
        self.publication.mark_changed();
    }

    pub(super) fn set_machines(&mut self, machines: Vec<status::Machine>) {
        self.figures.machines = machines;
        self.publication.mark_changed();
    }

    /// Publishes the status if it changed and the last one is old enough.
    pub(super) fn publish_if_due(&mut self, now: Moment) {
        if self.publication.take_due(now) {
            self.push(Action::PublishStatus);
        }
    }

    /// Returns what the status is built from.
    pub(crate) fn status_view<'a>(&'a self, health: &'a HealthRegistry) -> StatusView<'a> {
        StatusView {
            engine: &self.engine,
            projects: &self.projects,
            config: &self.config,
            daemon: &self.daemon,
            unresponsive_projects: self.taken.unresponsive(),
            spent: self.figures.spent,
            balance: self.figures.balance,
            health,
            warnings: self.warnings.kept(),
            machines: &self.figures.machines,
            unwritten: self.warnings.unwritten(),
            revision: self.publication.revision,
        }
    }

    /// Returns whether every input was scanned and `status` shows it, so that a status call after
    /// "ready" is not older than that.
    pub(crate) fn is_ready(&self) -> bool {
        self.publication.is_current() && self.projects.values().all(ProjectState::is_scanned)
    }
}
