//! The warnings that `status` shows.
//!
//! Owns how many are kept, and that a repeated text is kept and logged once.

use std::collections::BTreeMap;

use super::DaemonState;

/// The most warnings that are kept for `status`.
const MAX_WARNINGS: usize = 20;

/// The beginning of the warning about a configuration that was refused.
pub(super) const REFUSED: &str = "the new configuration was refused";

/// Warnings, oldest first, and the writes that wait for the ledger.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    kept: Vec<String>,
    /// The pending writes, and why each one waits.
    unwritten: BTreeMap<&'static str, String>,
}

impl Warnings {
    /// Keeps a warning and logs it. Returns whether it is new.
    fn add(&mut self, warning: String) -> bool {
        if self.kept.contains(&warning) {
            return false;
        }
        tracing::warn!("{warning}");
        if self.kept.len() >= MAX_WARNINGS {
            self.kept.remove(0);
        }
        self.kept.push(warning);
        true
    }

    pub(super) fn kept(&self) -> &[String] {
        &self.kept
    }

    pub(super) const fn unwritten(&self) -> &BTreeMap<&'static str, String> {
        &self.unwritten
    }
}

impl DaemonState {
    /// Keeps warnings for `status`; a repeated text is kept once.
    pub(crate) fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        for warning in warnings {
            if self.warnings.add(warning) {
                self.publication.mark_changed();
            }
        }
    }

    /// Drops the warning about a refused configuration, because a valid one was read.
    pub(super) fn drop_refusal(&mut self) {
        self.warnings.kept.retain(|warning| !warning.starts_with(REFUSED));
        self.publication.mark_changed();
    }

    /// Records that a write waits for the ledger, or with `None` that it no longer does.
    pub(super) fn set_unwritten(&mut self, what: &'static str, problem: Option<String>) {
        match problem {
            Some(problem) => self.warnings.unwritten.insert(what, problem),
            None => self.warnings.unwritten.remove(what),
        };
        self.publication.mark_changed();
    }
}
