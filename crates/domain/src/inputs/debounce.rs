//! Waiting until an input has settled: one [`Channel`] for the prompt, one for the render.
//!
//! Owns the two quiet windows and the memory of what the last job had (the baseline). It is told what was seen and
//! when; it reads nothing, and it does not know what a job costs or whether one is running ([`super::trigger`]).
//!
//! The rule: only a *fingerprint* that differs from the baseline opens a window, and only another fingerprint
//! restarts it. An identical re-render is no event at all.

use std::time::Duration;

use crate::{fingerprint::Fingerprint, time::Moment};

/// What a look at one input found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is whole and usable.
    Whole(Fingerprint),
    /// It is being written, or was cut off: its size tells one unfinished state from the next.
    Unfinished {
        /// Bytes there now; `u64::MAX` when it changed while it was read.
        size: u64,
    },
    /// It is not there.
    Missing,
    /// It is there and no job can be made of it; the reason is for people.
    Refused(String),
}

/// The lengths of the windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// How long an input must stay the same.
    pub quiet: Duration,
    /// The longest wait after the first change, however often it changes again; `None` = no ceiling.
    pub max_wait: Option<Duration>,
}

/// How long an input counts as in flux after it stirred. Blender's pieces arrive every few milliseconds and its
/// whole write takes 60 to 115 ms, so 300 ms without a stir means that nobody is writing.
pub const FLUX: Duration = Duration::from_millis(300);

/// One input over time.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// What the last look found.
    sight: Option<Sight>,
    /// The newest whole content; it stays while the file is being rewritten.
    current: Option<Fingerprint>,
    /// What the last job, or the first start, had.
    baseline: Option<Fingerprint>,
    window: Option<Window>,
    /// When the content changed last.
    changed: Option<Moment>,
    /// When an unfinished file grew last; nothing once it is whole.
    growing: Option<Moment>,
    /// When a file that was seen unfinished became whole last, be it with the same content.
    rewritten: Option<Moment>,
}

/// An open window: the content differs from the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    first: Moment,
    last: Moment,
}

impl Channel {
    /// Starts with the baseline that the ledger remembers, if any.
    pub fn new(baseline: Option<Fingerprint>) -> Self {
        Self { baseline, ..Self::default() }
    }

    /// Takes in what a look found. Returns whether the newest whole content is another than before.
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
                // A re-render that ends with the same content was no stir, only a rewrite.
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
                // One that changed while it was read stirs although nobody knows its size.
                if self.sight.as_ref() != Some(&sight) || *size == u64::MAX {
                    self.growing = Some(now);
                }
            }
            // What was there is gone: nothing whole is left to send. The window stays open, so that an input that
            // flickers (truncate, then write) does not escape its ceiling.
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
        // A window that was left open by something unusable long ago does not count as waiting since then.
        let still_open =
            self.window.filter(|window| now.since(window.last) <= quiet.quiet.saturating_mul(2));
        let first = still_open.map_or(now, |window| window.first);
        self.window = Some(Window { first, last: now });
    }

    /// Returns what the last look found.
    pub const fn sight(&self) -> Option<&Sight> {
        self.sight.as_ref()
    }

    /// Returns the newest whole and usable content.
    pub const fn current(&self) -> Option<Fingerprint> {
        self.current
    }

    /// Returns what the last job had.
    pub const fn baseline(&self) -> Option<Fingerprint> {
        self.baseline
    }

    /// Returns the moment of the first change that is not yet in a job.
    pub fn pending_since(&self) -> Option<Moment> {
        self.current?;
        self.window.map(|window| window.first)
    }

    /// Returns when the window closes, if one is open over something usable.
    pub fn ready_at(&self, quiet: Quiet) -> Option<Moment> {
        self.current?;
        let window = self.window?;
        let settled = window.last.plus(quiet.quiet);
        Some(match quiet.max_wait {
            Some(ceiling) => settled.min(window.first.plus(ceiling)),
            None => settled,
        })
    }

    /// Tells whether the file was seen to be written anew after `since`, with whatever content.
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

    /// Takes `content` as what the last job had. A window over other content stays open.
    pub fn rebase(&mut self, content: Option<Fingerprint>) {
        self.baseline = content;
        if self.current == content {
            self.window = None;
        }
    }

    /// Gives back a change whose job was not started after all.
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
        // One that stands still half-written is nobody's work in progress.
        let late = Moment::from_millis(5000);
        channel.see(Moment::from_millis(4000), Sight::Unfinished { size: 7 }, quiet);
        channel.see(late, Sight::Unfinished { size: 7 }, quiet);
        assert_eq!(channel.flux_until(late), None);
    }
}
