//! What every room of the daemon uses: the ledger, the backends, limits, locks, tasks, and the
//! messages between them.
//!
//! Owns no decision. It uses no other room; all of them may use it.

pub mod command;
pub mod errors;
pub(crate) mod messages;
pub mod runtime_config;
pub(crate) mod store;
pub(crate) mod leases;
pub(crate) mod health;
pub(crate) mod rate_limiter;
pub(crate) mod in_flight;
pub(crate) mod project_locks;
pub(crate) mod root_locks;
pub(crate) mod drives;
pub(crate) mod budget_windows;
pub(crate) mod tasks;
pub mod probes;

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};

use self::{
    health::HealthRegistry, in_flight::InFlight, leases::ManagerHandle, messages::JobReport,
    project_locks::ProjectLocks, rate_limiter::RateLimiter, root_locks::RootLocks,
    runtime_config::RuntimeConfig, store::Store,
};
use crate::{
    clock::Clock,
    disk::history::History,
    domain::{job::choose_backend::BackendKind, money::budget::WarnedLimits},
    ledger::rows::SessionId,
};

/// What every job's task shares.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) history: Arc<History>,
    pub(crate) session: SessionId,
    /// One submit a second.
    pub(crate) submit_limiter: RateLimiter,
    /// Five other calls a second.
    pub(crate) call_limiter: RateLimiter,
    /// How many jobs are at the services.
    pub(crate) in_flight: Arc<InFlight>,
    /// Which backends are paused, and why.
    pub(crate) health: HealthRegistry,
    /// The budget warnings that were already given. A plain mutex: it is never held across
    /// an await.
    pub(crate) warned: Mutex<WarnedLimits>,
    pub(crate) reports: mpsc::Sender<JobReport>,
    /// The current configuration; a reload publishes a new one here.
    pub(crate) config: watch::Receiver<Arc<RuntimeConfig>>,
    /// Which history folders are being read, and which projects are being placed.
    pub(crate) locks: ProjectLocks,
    /// The locks of the projects served.
    pub(crate) root_locks: RootLocks,
    /// The handle for requests of rented machines.
    pub(crate) servers: ManagerHandle,
}

impl Services {
    /// Waits for its turn among the calls of a second. This protects RunComfy's queue from too many
    /// calls; a local server needs no such limit.
    pub(crate) async fn wait_for_call(&self, backend: BackendKind) {
        if backend.is_paid() {
            self.call_limiter.wait().await;
        }
    }
}
