//! The progress of a run, for backends that report more than the state.
//!
//! Owns plain values and their one-line text for people. The daemon decides when to query them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The progress of a run. Every part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The current activity: a node's title, or a Space's own words. Shortened to a readable
    /// length, without control characters.
    pub doing: Option<String>,
    /// The current step and the number of steps.
    pub step: Option<(u64, u64)>,
    /// The number of finished parts (nodes, Spaces) and the number of all parts.
    pub parts: Option<(u64, u64)>,
    /// The backend's estimate of the remaining time, in milliseconds.
    pub left_ms: Option<u64>,
}

impl fmt::Display for Progress {
    /// Writes, for example, `PartPacker_Sampler, step 12 of 50, part 5 of 7`.
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
