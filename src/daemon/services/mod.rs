//! What every room of the daemon is handed: the ledger, the backends, limits, locks, tasks, and the messages between them.
//!
//! Owns no decision. It names no other room; all of them may name it.

pub mod command;
pub mod errors;
pub(crate) mod messages;
pub mod runtime_config;
pub(crate) mod store;
pub(crate) mod leases;
pub(crate) mod health;
pub(crate) mod rate_limiter;
pub(crate) mod project_locks;
pub(crate) mod root_locks;
pub(crate) mod drives;
pub(crate) mod budget_windows;
pub(crate) mod tasks;
pub mod probes;

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};

use self::{
    health::HealthBook, leases::Keeper, messages::Report, project_locks::Claims,
    rate_limiter::Gate, root_locks::RootLocks, runtime_config::Live, store::Store,
};
use crate::{
    clock::Clock,
    disk::history::History,
    domain::{job::choose_backend::Place, money::budget::Told},
    ledger::rows::SessionId,
};

/// What every job's task shares.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) history: Arc<History>,
    pub(crate) session: SessionId,
    /// One submit a second.
    pub(crate) submits: Gate,
    /// Five other calls a second.
    pub(crate) calls: Gate,
    /// Which places are left alone, and why.
    pub(crate) health: HealthBook,
    /// What a person has been told of the limits. A plain mutex: it is never held across an await.
    pub(crate) told: Mutex<Told>,
    pub(crate) reports: mpsc::Sender<Report>,
    /// What the configuration says now; a reload puts a new one here.
    pub(crate) live: watch::Receiver<Arc<Live>>,
    /// Whose history is being read, and who is placing.
    pub(crate) claims: Claims,
    /// Which projects are ours.
    pub(crate) root_locks: RootLocks,
    /// Where machines are asked for.
    pub(crate) machines: Keeper,
}

impl Tools {
    /// Waits for a place among the calls of a second. RunComfy's patience is not to be tried; one's own server has no such limit.
    pub(crate) async fn pass_call(&self, place: Place) {
        if place.is_paid() {
            self.calls.pass().await;
        }
    }
}
