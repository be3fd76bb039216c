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
    last_states: Option<[StampState; 2]>,
    recheck_at: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StampState {
    Present(Stamp),
    Missing,
    Unreadable,
}

impl PollState {
    /// Starts without memory: the first look reports a change.
    pub fn new(inputs: &WatchedInputs) -> Self {
        let files = inputs.files().map(std::path::Path::to_path_buf);
        Self { files, last_states: None, recheck_at: None }
    }

    /// Checks both files. Returns whether there may be something new to read.
    pub fn check(&mut self, now: Moment) -> bool {
        // Opened and not only queried: that makes a network drive fetch fresh times.
        let glimpses = self.files.each_ref().map(|file| match stamp(file) {
            Ok(Some(stamp)) => StampState::Present(stamp),
            Ok(None) => StampState::Missing,
            Err(_) => StampState::Unreadable,
        });
        if self.last_states != Some(glimpses) {
            self.last_states = Some(glimpses);
            self.recheck_at = Some(now.plus(GRANULARITY));
            return true;
        }
        let again = self.recheck_at.is_some_and(|at| now >= at);
        if again {
            self.recheck_at = None;
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
        assert!(state.check(at(0)), "nothing is known yet");
        assert!(!state.check(at(1000)));
        assert!(state.check(at(2000)), "the second report");
        assert!(!state.check(at(3000)) && !state.check(at(9000)), "then silence");
        fs::write(&inputs.prompt, b"a carrot").expect("writes");
        assert!(state.check(at(10_000)), "it came");
        fs::create_dir(temp.path().join("folder")).expect("makes");
        assert!(!state.check(at(10_500)));
        fs::write(&inputs.render, b"png").expect("writes");
        assert!(state.check(at(11_000)), "the other one came");
        assert!(!state.check(at(12_500)), "the wait began anew");
        assert!(state.check(at(13_000)));
        fs::remove_file(&inputs.prompt).expect("removes");
        assert!(state.check(at(14_000)), "it went");
        assert!(!state.check(at(15_000)));
    }
}
