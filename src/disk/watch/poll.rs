//! Polls one project: has either input another stamp than last time?
//!
//! Owns the rule for coarse file times: a second write within the same tick leaves the same stamp,
//! so every change is reported twice, immediately and again when the stamp has been the same for
//! [`GRANULARITY`]. It has no timer and no thread; the caller decides when to poll.

use std::path::PathBuf;

use super::WatchedInputs;
use crate::{
    disk::{
        read::stamp,
        stamp::{GRANULARITY, Stamp},
    },
    domain::time::Moment,
};

/// What polling remembers about a project.
#[derive(Debug)]
pub struct PollState {
    files: [PathBuf; 2],
    seen: Option<[Glimpse; 2]>,
    again_at: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Glimpse {
    There(Stamp),
    Missing,
    Unreadable,
}

impl PollState {
    /// Starts without memory: the first look reports a change.
    pub fn new(inputs: &WatchedInputs) -> Self {
        let files = inputs.files().map(std::path::Path::to_path_buf);
        Self { files, seen: None, again_at: None }
    }

    /// Checks both files. Returns whether there may be something new to read.
    pub fn look(&mut self, now: Moment) -> bool {
        // Opened and not only queried: that makes a network drive fetch fresh times.
        let glimpses = self.files.each_ref().map(|file| match stamp(file) {
            Ok(Some(stamp)) => Glimpse::There(stamp),
            Ok(None) => Glimpse::Missing,
            Err(_) => Glimpse::Unreadable,
        });
        if self.seen != Some(glimpses) {
            self.seen = Some(glimpses);
            self.again_at = Some(now.plus(GRANULARITY));
            return true;
        }
        let again = self.again_at.is_some_and(|at| now >= at);
        if again {
            self.again_at = None;
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_change_is_reported_at_once_and_again_when_file_times_cannot_hide_another() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let inputs = WatchedInputs {
            root: temp.path().into(),
            prompt: temp.path().join("prompt.txt"),
            render: temp.path().join("folder/render.png"),
        };
        let mut state = PollState::new(&inputs);
        let at = Moment::from_millis;
        assert!(state.look(at(0)), "nothing is known yet");
        assert!(!state.look(at(1000)));
        assert!(state.look(at(2000)), "the second report");
        assert!(!state.look(at(3000)) && !state.look(at(9000)), "then silence");
        fs::write(&inputs.prompt, b"a carrot").expect("writes");
        assert!(state.look(at(10_000)), "it came");
        fs::create_dir(temp.path().join("folder")).expect("makes");
        assert!(!state.look(at(10_500)));
        fs::write(&inputs.render, b"png").expect("writes");
        assert!(state.look(at(11_000)), "the other one came");
        assert!(!state.look(at(12_500)), "the wait began anew");
        assert!(state.look(at(13_000)));
        fs::remove_file(&inputs.prompt).expect("removes");
        assert!(state.look(at(14_000)), "it went");
        assert!(!state.look(at(15_000)));
    }
}
