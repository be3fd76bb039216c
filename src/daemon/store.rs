//! The ledger for tasks: each operation runs on the blocking pool, one at a time.
//!
//! Owns the patience with a ledger that cannot be written (a full disk): what announces a step fails that step, but what
//! records something that *has* happened is repeated until it is written, because forgetting it would cost money.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::ledger::{
    Ledger,
    error::{LedgerError, StoreError},
};

/// The longest wait between two tries to write down what has happened.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// A handle to the one ledger of the process.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    /// Held only on blocking threads, for the length of one transaction.
    ledger: Arc<Mutex<Ledger>>,
}

impl Store {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self { ledger: Arc::new(Mutex::new(ledger)) }
    }

    /// Does one operation. A panic inside is the caller's panic.
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
            // A transaction that panicked was rolled back, so the ledger behind a poisoned lock is whole.
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            operation(&mut ledger)
        })
        .await
    }

    /// Does one operation at once, on this thread: for the few that happen at start and at a reload.
    pub(crate) fn now<T, E>(
        &self,
        operation: impl FnOnce(&mut Ledger) -> Result<T, E>,
    ) -> Result<T, E> {
        operation(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes down what has happened, for as long as it takes. Only an operation that makes no sense is given up.
    pub(crate) async fn record(
        &self,
        what: &'static str,
        operation: impl Fn(&mut Ledger) -> Result<(), LedgerError> + Clone + Send + 'static,
    ) -> Result<(), LedgerError> {
        let mut wait = Duration::from_millis(100);
        loop {
            match self.with(operation.clone()).await {
                // A damaged file does not mend itself.
                Err(LedgerError::Store(error)) if !matches!(error, StoreError::Corrupt { .. }) => {
                    tracing::error!(%error, what, "the ledger cannot be written; trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                other => return other,
            }
        }
    }
}

/// Runs `work` on the blocking pool; a panic in it goes on in the caller, a cancelled runtime never returns.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => std::panic::resume_unwind(payload),
            // The runtime is shutting down: nobody waits for this task any more.
            Err(_) => std::future::pending().await,
        },
    }
}
