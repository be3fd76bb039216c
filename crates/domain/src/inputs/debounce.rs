//! Debounces the inputs: one [`DebouncedInput`] for the prompt, one for the render.
//!
//! Owns the two debounce windows and the baseline, which is the content that the last job used.
//! Scan results and times are arguments: it reads nothing, and it does not know what a job costs or
//! whether one is running ([`super::trigger`]).
//!
//! The rule: only a *fingerprint* that differs from the baseline opens a window, and only another
//! new fingerprint restarts it. A re-render with identical content has no effect.

use std::time::Duration;

use crate::{fingerprint::Fingerprint, time::Moment};

/// The state of one input, as a scan found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputState {
    /// Complete and usable.
    Complete(Fingerprint),
    /// Still being written, or truncated. The size distinguishes one incomplete state from
    /// the next.
    Incomplete {
        /// The current size in bytes; `u64::MAX` if the file changed while it was read.
        size: u64,
    },
    /// The file does not exist.
    Missing,
    /// The file exists but cannot be used for a job; the reason is for people.
    Refused(String),
}

/// The timing of a debounce window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How long an input must stay unchanged.
    pub quiet: Duration,
    /// The longest wait after the first change, however often the input changes again; `None` =
    /// no limit.
    pub max_wait: Option<Duration>,
}

/// How long an input counts as being written after an observed change. Blender writes in pieces a
/// few milliseconds apart and needs 60 to 115 ms for the whole file, so after 300 ms without a
/// change no write is in progress.
pub const WRITE_BURST: Duration = Duration::from_millis(300);

/// One input over time.
#[derive(Clone, Debug, Default)]
pub struct DebouncedInput {
    /// What the last scan found.
    state: Option<InputState>,
    /// The newest complete content; it stays while the file is being rewritten.
    current: Option<Fingerprint>,
    /// The content that the last job, or the first start, used.
    baseline: Option<Fingerprint>,
    pending: Option<PendingChange>,
    /// When the content last changed.
    changed_at: Option<Moment>,
    /// When an incomplete file last changed; `None` once it is complete.
    growing_since: Option<Moment>,
    /// When a file last went from incomplete to complete, even with the same content.
    rewritten_at: Option<Moment>,
}

/// An open debounce window: the content differs from the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PendingChange {
    first: Moment,
    last: Moment,
}

impl DebouncedInput {
    /// Creates an input with the baseline from the ledger, if any.
    pub fn new(baseline: Option<Fingerprint>) -> Self {
        Self { baseline, ..Self::default() }
    }

    /// Processes a scan result. Returns whether the newest complete content changed.
    pub fn observe(&mut self, now: Moment, state: InputState, quiet: Window) -> bool {
        let before = self.current;
        match &state {
            InputState::Complete(fingerprint) => {
                let changed = self.current != Some(*fingerprint);
                let back = self.current.is_none() || self.is_refused();
                self.current = Some(*fingerprint);
                if changed {
                    self.changed_at = Some(now);
                }
                // A re-render that ends with the same content is only a rewrite, not a change.
                if self.growing_since.take().is_some() {
                    self.rewritten_at = Some(now);
                }
                if self.baseline == Some(*fingerprint) {
                    self.pending = None;
                } else if changed || self.pending.is_none() || back {
                    self.open_window(now, quiet);
                }
            }
            InputState::Incomplete { size } => {
                // A file that changed while it was read counts as being written, although its size
                // is not known.
                if self.state.as_ref() != Some(&state) || *size == u64::MAX {
                    self.growing_since = Some(now);
                }
            }
            // The content is gone, so no complete input is left to send. The window stays open, so
            // that an input that flickers (truncate, then write) cannot evade the maximum wait.
            InputState::Missing | InputState::Refused(_) => {
                if self.current.is_some() {
                    self.changed_at = Some(now);
                }
                self.growing_since = None;
                self.current = None;
            }
        }
        self.state = Some(state);
        self.current != before
    }

    fn is_refused(&self) -> bool {
        matches!(self.state, Some(InputState::Missing | InputState::Refused(_)))
    }

    fn open_window(&mut self, now: Moment, quiet: Window) {
        // A window that stayed open long ago because the input was unusable does not count as
        // waiting since then.
        let still_open =
            self.pending.filter(|window| now.since(window.last) <= quiet.quiet.saturating_mul(2));
        let first = still_open.map_or(now, |window| window.first);
        self.pending = Some(PendingChange { first, last: now });
    }

    /// Returns what the last scan found.
    pub const fn state(&self) -> Option<&InputState> {
        self.state.as_ref()
    }

    /// Returns the newest complete and usable content.
    pub const fn current(&self) -> Option<Fingerprint> {
        self.current
    }

    /// Returns the content that the last job used.
    pub const fn baseline(&self) -> Option<Fingerprint> {
        self.baseline
    }

    /// Returns when the first change happened that no job has used yet.
    pub fn pending_since(&self) -> Option<Moment> {
        self.current?;
        self.pending.map(|window| window.first)
    }

    /// Returns when the window closes, if one is open and the content is usable.
    pub fn ready_at(&self, quiet: Window) -> Option<Moment> {
        self.current?;
        let window = self.pending?;
        let settled = window.last.plus(quiet.quiet);
        Some(match quiet.max_wait {
            Some(ceiling) => settled.min(window.first.plus(ceiling)),
            None => settled,
        })
    }

    /// Returns whether the file was rewritten after `since`, with the same or other content.
    pub fn is_rewritten(&self, since: Moment) -> bool {
        self.rewritten_at.is_some_and(|at| at > since)
    }

    /// Returns until when the input counts as being written, if it does at `now`.
    pub fn write_burst_until(&self, now: Moment) -> Option<Moment> {
        self.changed_at
            .max(self.growing_since)
            .map(|touched| touched.plus(WRITE_BURST))
            .filter(|until| *until > now)
    }

    /// Sets `content` as the baseline. A window for other content stays open.
    pub fn set_baseline(&mut self, content: Option<Fingerprint>) {
        self.baseline = content;
        if self.current == content {
            self.pending = None;
        }
    }

    /// Restores the baseline of a job that was not started, so that its change is pending again.
    pub fn restore_pending(&mut self, now: Moment, baseline: Option<Fingerprint>) {
        self.baseline = baseline;
        if self.current.is_some() && self.current != baseline && self.pending.is_none() {
            self.pending = Some(PendingChange { first: now, last: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_whenever_it_is_read_stays_in_flux() {
        let quiet = Window { quiet: Duration::from_secs(4), max_wait: None };
        let mut input = DebouncedInput::new(None);
        input.observe(Moment::default(), InputState::Complete(Fingerprint::of(b"whole")), quiet);
        for look in 1..100 {
            let now = Moment::from_millis(look * 10);
            input.observe(now, InputState::Incomplete { size: u64::MAX }, quiet);
            assert_eq!(input.write_burst_until(now), Some(now.plus(WRITE_BURST)));
        }
        // A file that stays incomplete without changing is not being written.
        let late = Moment::from_millis(5000);
        input.observe(Moment::from_millis(4000), InputState::Incomplete { size: 7 }, quiet);
        input.observe(late, InputState::Incomplete { size: 7 }, quiet);
        assert_eq!(input.write_burst_until(late), None);
    }
}
