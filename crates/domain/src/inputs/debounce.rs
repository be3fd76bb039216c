//! Debounces the inputs: one [`Channel`] for the prompt, one for the render.
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
pub enum Sight {
    /// Complete and usable.
    Whole(Fingerprint),
    /// Still being written, or truncated. The size distinguishes one incomplete state from
    /// the next.
    Unfinished {
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
pub struct Quiet {
    /// How long an input must stay unchanged.
    pub quiet: Duration,
    /// The longest wait after the first change, however often the input changes again; `None` =
    /// no limit.
    pub max_wait: Option<Duration>,
}

/// How long an input counts as being written after an observed change. Blender writes in pieces a
/// few milliseconds apart and needs 60 to 115 ms for the whole file, so after 300 ms without a
/// change no write is in progress.
pub const FLUX: Duration = Duration::from_millis(300);

/// One input over time.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// What the last scan found.
    sight: Option<Sight>,
    /// The newest complete content; it stays while the file is being rewritten.
    current: Option<Fingerprint>,
    /// The content that the last job, or the first start, used.
    baseline: Option<Fingerprint>,
    window: Option<Window>,
    /// When the content last changed.
    changed: Option<Moment>,
    /// When an incomplete file last changed; `None` once it is complete.
    growing: Option<Moment>,
    /// When a file last went from incomplete to complete, even with the same content.
    rewritten: Option<Moment>,
}

/// An open debounce window: the content differs from the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    first: Moment,
    last: Moment,
}

impl Channel {
    /// Creates an input with the baseline from the ledger, if any.
    pub fn new(baseline: Option<Fingerprint>) -> Self {
        Self { baseline, ..Self::default() }
    }

    /// Processes a scan result. Returns whether the newest complete content changed.
    pub fn see(&mut self, now: Moment, sight: Sight, quiet: Quiet) -> bool {
        let before = self.current;
        match &sight {
            Sight::Whole(fingerprint) => {
                let changed = self.current != Some(*fingerprint);
                let back = self.current.is_none() || self.is_refused();
                self.current = Some(*fingerprint);
                if changed {
                    self.changed = Some(now);
                }
                // A re-render that ends with the same content is only a rewrite, not a change.
                if self.growing.take().is_some() {
                    self.rewritten = Some(now);
                }
                if self.baseline == Some(*fingerprint) {
                    self.window = None;
                } else if changed || self.window.is_none() || back {
                    self.open(now, quiet);
                }
            }
            Sight::Unfinished { size } => {
                // A file that changed while it was read counts as being written, although its size
                // is not known.
                if self.sight.as_ref() != Some(&sight) || *size == u64::MAX {
                    self.growing = Some(now);
                }
            }
            // The content is gone, so no complete input is left to send. The window stays open, so
            // that an input that flickers (truncate, then write) cannot evade the maximum wait.
            Sight::Missing | Sight::Refused(_) => {
                if self.current.is_some() {
                    self.changed = Some(now);
                }
                self.growing = None;
                self.current = None;
            }
        }
        self.sight = Some(sight);
        self.current != before
    }

    fn is_refused(&self) -> bool {
        matches!(self.sight, Some(Sight::Missing | Sight::Refused(_)))
    }

    fn open(&mut self, now: Moment, quiet: Quiet) {
        // A window that stayed open long ago because the input was unusable does not count as
        // waiting since then.
        let still_open =
            self.window.filter(|window| now.since(window.last) <= quiet.quiet.saturating_mul(2));
        let first = still_open.map_or(now, |window| window.first);
        self.window = Some(Window { first, last: now });
    }

    /// Returns what the last scan found.
    pub const fn sight(&self) -> Option<&Sight> {
        self.sight.as_ref()
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
        self.window.map(|window| window.first)
    }

    /// Returns when the window closes, if one is open and the content is usable.
    pub fn ready_at(&self, quiet: Quiet) -> Option<Moment> {
        self.current?;
        let window = self.window?;
        let settled = window.last.plus(quiet.quiet);
        Some(match quiet.max_wait {
            Some(ceiling) => settled.min(window.first.plus(ceiling)),
            None => settled,
        })
    }

    /// Returns whether the file was rewritten after `since`, with the same or other content.
    pub fn is_rewritten(&self, since: Moment) -> bool {
        self.rewritten.is_some_and(|at| at > since)
    }

    /// Returns until when the input counts as being written, if it does at `now`.
    pub fn flux_until(&self, now: Moment) -> Option<Moment> {
        self.changed
            .max(self.growing)
            .map(|stirred| stirred.plus(FLUX))
            .filter(|until| *until > now)
    }

    /// Sets `content` as the baseline. A window for other content stays open.
    pub fn rebase(&mut self, content: Option<Fingerprint>) {
        self.baseline = content;
        if self.current == content {
            self.window = None;
        }
    }

    /// Restores the baseline of a job that was not started, so that its change is pending again.
    pub fn give_back(&mut self, now: Moment, baseline: Option<Fingerprint>) {
        self.baseline = baseline;
        if self.current.is_some() && self.current != baseline && self.window.is_none() {
            self.window = Some(Window { first: now, last: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_whenever_it_is_read_stays_in_flux() {
        let quiet = Quiet { quiet: Duration::from_secs(4), max_wait: None };
        let mut channel = Channel::new(None);
        channel.see(Moment::default(), Sight::Whole(Fingerprint::of(b"whole")), quiet);
        for look in 1..100 {
            let now = Moment::from_millis(look * 10);
            channel.see(now, Sight::Unfinished { size: u64::MAX }, quiet);
            assert_eq!(channel.flux_until(now), Some(now.plus(FLUX)));
        }
        // A file that stays incomplete without changing is not being written.
        let late = Moment::from_millis(5000);
        channel.see(Moment::from_millis(4000), Sight::Unfinished { size: 7 }, quiet);
        channel.see(late, Sight::Unfinished { size: 7 }, quiet);
        assert_eq!(channel.flux_until(late), None);
    }
}
