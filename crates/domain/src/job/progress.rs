//! How far a run is, where a backend tells more than that it runs.
//!
//! Owns plain values and their one line for people; who asks for them and how often is the daemon's matter.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// How far a run is. Every part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is done at the moment: a node's title, a Space's own words. Cut to a readable length, free of control characters.
    pub doing: Option<String>,
    /// The step of it and how many there are.
    pub step: Option<(u64, u64)>,
    /// How many parts (nodes, Spaces) are finished, and how many there are.
    pub parts: Option<(u64, u64)>,
    /// How long the backend thinks that it will take from now, in milliseconds.
    pub left_ms: Option<u64>,
}

impl Progress {
    /// Returns the backend's own estimate of what is left.
    pub fn left(&self) -> Option<Duration> {
        self.left_ms.map(Duration::from_millis)
    }
}

impl fmt::Display for Progress {
    /// `PartPacker_Sampler, step 12 of 50, part 5 of 7`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.doing.clone());
        parts.extend(self.step.map(|(step, of)| format!("step {step} of {of}")));
        parts.extend(self.parts.map(|(done, of)| format!("part {} of {of}", (done + 1).min(of))));
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_one_line_and_leaves_out_what_is_not_known() {
        let whole = Progress {
            doing: Some("KSampler".to_owned()),
            step: Some((3, 20)),
            parts: Some((4, 12)),
            left_ms: None,
        };
        assert_eq!(whole.to_string(), "KSampler, step 3 of 20, part 5 of 12");
        assert_eq!(Progress { parts: Some((12, 12)), ..whole }.parts, Some((12, 12)));
        assert_eq!(Progress::default().to_string(), "");
        let done = Progress { parts: Some((12, 12)), ..Progress::default() };
        assert_eq!(done.to_string(), "part 12 of 12", "there is no thirteenth");
    }
}
