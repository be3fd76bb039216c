//! What happened to machines and waits to be written down.
//!
//! Owns the order of notes and the patience with a disk that refuses them. A full disk must not keep a machine running, so a
//! note never holds up a stop: it waits in line and is written when it can be. What must be on the disk *before* a step (the
//! mark of a launch) is not a note.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use crate::{
    daemon::services::store::Store,
    domain::time::Moment,
    ledger::{Ledger, error::LedgerError},
};

/// How long a disk that refused a note is left alone.
const AGAIN: Duration = Duration::from_secs(5);

type Write = Arc<dyn Fn(&mut Ledger) -> Result<(), LedgerError> + Send + Sync>;

/// The notes in line.
#[derive(Default)]
pub(crate) struct Notes {
    line: VecDeque<Write>,
    /// When the next try is due.
    pub(crate) again: Option<Moment>,
    /// Why the first one waits.
    pub(crate) trouble: Option<String>,
}

impl Notes {
    /// Adds a note.
    pub(crate) fn add(
        &mut self,
        write: impl Fn(&mut Ledger) -> Result<(), LedgerError> + Send + Sync + 'static,
    ) {
        self.line.push_back(Arc::new(write));
    }

    /// Tells whether all is written down.
    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Writes what can be written, in order. Returns whether something was.
    pub(crate) async fn write(&mut self, store: &Store, now: Moment) -> bool {
        if self.again.is_some_and(|again| again > now) {
            return false;
        }
        let mut wrote = false;
        while let Some(note) = self.line.front().map(Arc::clone) {
            match store.with(move |ledger| note(ledger)).await {
                Err(LedgerError::Store(error)) => {
                    tracing::error!(%error, "what happened to a machine cannot be written down yet");
                    self.trouble = Some(error.to_string());
                    self.again = Some(now.plus(AGAIN));
                    return wrote;
                }
                Err(error) => {
                    tracing::error!(%error, "the ledger refuses what happened to a machine");
                }
                Ok(()) => wrote = true,
            }
            self.line.pop_front();
        }
        self.again = None;
        self.trouble = None;
        wrote
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notes").field("waiting", &self.line.len()).finish_non_exhaustive()
    }
}
