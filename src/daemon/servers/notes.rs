//! Events about machines that still have to be written to the ledger.
//!
//! Owns the order of the notes and the retries if the disk refuses them. A full disk must not keep
//! a machine running, so a note never delays a stop: it stays queued and is written as soon as
//! possible. What must be on the disk *before* a step (the mark of a launch) is not a note.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use crate::{
    daemon::services::store::Store,
    domain::time::Moment,
    ledger::{Ledger, error::LedgerError},
};

/// The delay before a refused write is retried.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

type Write = Arc<dyn Fn(&mut Ledger) -> Result<(), LedgerError> + Send + Sync>;

#[derive(Default)]
pub(crate) struct Notes {
    queue: VecDeque<Write>,
    /// When the next attempt is due.
    pub(crate) retry_at: Option<Moment>,
    /// Why the first note could not be written.
    pub(crate) problem: Option<String>,
}

impl Notes {
    pub(crate) fn add(
        &mut self,
        write: impl Fn(&mut Ledger) -> Result<(), LedgerError> + Send + Sync + 'static,
    ) {
        self.queue.push_back(Arc::new(write));
    }

    /// Returns whether everything is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Writes what can be written, in order. Returns whether something was written.
    pub(crate) async fn write_pending(&mut self, store: &Store, now: Moment) -> bool {
        if self.retry_at.is_some_and(|again| again > now) {
            return false;
        }
        let mut wrote = false;
        while let Some(note) = self.queue.front().map(Arc::clone) {
            match store.with(move |ledger| note(ledger)).await {
                Err(LedgerError::Store(error)) => {
                    tracing::error!(%error, "an event of a machine cannot be written to the \
                        ledger yet");
                    self.problem = Some(error.to_string());
                    self.retry_at = Some(now.plus(RETRY_INTERVAL));
                    return wrote;
                }
                Err(error) => {
                    tracing::error!(%error, "the ledger refused an event of a machine");
                }
                Ok(()) => wrote = true,
            }
            self.queue.pop_front();
        }
        self.retry_at = None;
        self.problem = None;
        wrote
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notes").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}
