//! The ledger for async tasks: each operation runs on the blocking pool, one at a time.
//!
//! Owns the retries for a ledger that cannot be written (a full disk). A write that announces a
//! step fails that step, but a write that records something that *has* happened is repeated until
//! it succeeds, because losing it would cost money.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinHandle},
};

use super::messages::JobReport;
use crate::ledger::{
    Ledger,
    error::{LedgerError, StoreError},
};

/// The longest delay between two attempts to record what has happened.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// A handle to the process's only ledger.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    /// Locked only on blocking threads, for the length of one transaction.
    ledger: Arc<Mutex<Ledger>>,
    /// Reports to the event loop that a write is pending, because people look at the status and not
    /// into the log.
    reports: mpsc::Sender<JobReport>,
}

impl Store {
    pub(crate) fn new(ledger: Ledger, reports: mpsc::Sender<JobReport>) -> Self {
        Self { ledger: Arc::new(Mutex::new(ledger)), reports }
    }

    /// Returns a ledger without an event loop, for a command that works alone.
    pub(crate) fn standalone(ledger: Ledger) -> Self {
        Self::new(ledger, mpsc::channel(1).0)
    }

    /// Runs one operation. A panic inside becomes the caller's panic.
    pub(crate) async fn with<T, E>(
        &self,
        operation: impl FnOnce(&mut Ledger) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let ledger = Arc::clone(&self.ledger);
        blocking(move || {
            // A transaction that panicked was rolled back, so the ledger behind a poisoned lock
            // is intact.
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            operation(&mut ledger)
        })
        .await
    }

    /// Records what has happened, for as long as it takes. Only an invalid operation is given up.
    pub(crate) async fn record(
        &self,
        what: &'static str,
        operation: impl Fn(&mut Ledger) -> Result<(), LedgerError> + Clone + Send + 'static,
    ) -> Result<(), LedgerError> {
        let (mut wait, mut waits) = (Duration::from_millis(100), false);
        loop {
            match self.with(operation.clone()).await {
                // A damaged file does not recover, so the report of what it could not store stays.
                Err(LedgerError::Store(error @ StoreError::Corrupt { .. })) => {
                    self.report_unwritten(
                        what,
                        Some(format!("the ledger could not record {what}: {error}")),
                    )
                    .await;
                    return Err(error.into());
                }
                Err(LedgerError::Store(error)) => {
                    tracing::error!(%error, "cannot record {what}; retrying until it works");
                    self.report_unwritten(
                        what,
                        Some(format!("the ledger cannot record {what} yet: {error}; retrying")),
                    )
                    .await;
                    waits = true;
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(MAX_WAIT);
                }
                other => {
                    if waits {
                        self.report_unwritten(what, None).await;
                    }
                    return other;
                }
            }
        }
    }

    /// Reports to the event loop that a write is pending, or no longer is.
    async fn report_unwritten(&self, what: &'static str, problem: Option<String>) {
        // At the very end there is no receiver; the log has the message.
        drop(self.reports.send(JobReport::Unwritten { what, problem }).await);
    }
}

/// Work on the blocking pool that takes longer than somebody would wait.
#[derive(Debug)]
pub(crate) struct PendingWork<T>(JoinHandle<T>);

impl<T> PendingWork<T> {
    /// Waits for it, for as long as it takes.
    pub(crate) async fn wait(self) -> T {
        joined(self.0.await).await
    }
}

/// Runs `work` on the blocking pool for at most `patience` from the moment it begins. It is not
/// broken off then, which nobody can do with a call to a drive that does not answer.
pub(crate) async fn blocking_within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PendingWork<T>> {
    let (begun, begins) = oneshot::channel();
    let span = tracing::Span::current();
    let mut task = tokio::task::spawn_blocking(move || {
        // Nobody waits for that any more where the one who asked is gone.
        let _ = begun.send(());
        span.in_scope(work)
    });
    // An error says that it has ended already.
    let _ = begins.await;
    match tokio::time::timeout(patience, &mut task).await {
        Ok(joining) => Ok(joined(joining).await),
        Err(_) => Err(PendingWork(task)),
    }
}

/// Runs `work` on the blocking pool. A panic in it continues in the caller; during shutdown it
/// never returns.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    // Log lines from there belong to the same job.
    let span = tracing::Span::current();
    joined(tokio::task::spawn_blocking(move || span.in_scope(work)).await).await
}

async fn joined<T>(joining: Result<T, JoinError>) -> T {
    match joining {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => std::panic::resume_unwind(payload),
            // The runtime is shutting down, and nothing waits for this task any more.
            Err(_) => std::future::pending().await,
        },
    }
}
