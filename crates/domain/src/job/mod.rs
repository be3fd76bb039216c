//! A job's identity, its states, and why it was started or ended.
//!
//! Owns the words that `jobs list` prints. [`super::engine`] and the daemon decide when a job
//! moves from one state to the next; each state is written to the ledger before the step that
//! it announces.

pub mod flow;
pub mod attempt;
pub mod control;
pub mod cancel;
pub mod choose_backend;
pub mod breaker;
pub mod backoff;
pub mod poll_interval;
pub mod remote;
pub mod artifact;
pub mod progress;
pub mod placement;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{fingerprint::Fingerprint, time::WallTime};

/// Identifies a job: a ULID, so ids sort by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(ulid::Ulid);

/// The error for a text that is not a ULID.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a job id: an id has 26 letters and digits, see `conjured jobs list`")]
pub struct NotAJobId(pub String);

impl JobId {
    /// Creates an id from the time and 80 random bits, both given by the caller.
    pub fn from_parts(wall: WallTime, random: u128) -> Self {
        let millis = u64::try_from(wall.unix_millis()).unwrap_or(0);
        Self(ulid::Ulid::from_parts(millis, random))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = NotAJobId;
    fn from_str(text: &str) -> Result<Self, NotAJobId> {
        ulid::Ulid::from_string(text.trim())
            .map(Self)
            .map_err(|_| NotAJobId(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for JobId {
    type Error = NotAJobId;
    fn try_from(text: String) -> Result<Self, NotAJobId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

/// The backend's own id for an attempt. Checked on receipt: not empty, no path separators, no
/// white space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(String);

impl RequestId {
    /// The longest id that is accepted; RunComfy's have 36 characters.
    pub const MAX_LEN: usize = 200;

    /// Accepts an id that can be used in a URL path as it is: letters, digits, `-`, `_`, `.`, but
    /// not only dots.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fits = (1..=Self::MAX_LEN).contains(&text.len());
        (fits && text.chars().all(plain) && text.chars().any(|c| c != '.'))
            .then(|| Self(text.to_owned()))
    }

    /// Returns our own id for a job's request, for backends that let the client choose. It is
    /// always the same for a job, so it need not be stored, and a request with a lost answer can be
    /// found by it. It has the form of a version 4 UUID, the only form that ComfyUI accepts.
    pub fn for_job(job: JobId) -> Self {
        let digest = blake3::hash(format!("conjured request {job}").as_bytes());
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&digest.as_bytes()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut text = String::with_capacity(36);
        for (index, byte) in bytes.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        Self(text)
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The progress of a job. A state says what is true, and is in the ledger before the next
/// step begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Inputs are copied and money is reserved; nothing has left the machine.
    Prepared,
    /// The request may be on its way: from here on it is never sent again automatically.
    Submitting,
    /// The backend returned its id; the request waits in the backend's queue.
    Submitted,
    /// The backend is executing the job.
    Running,
    /// Every artifact is in history and checked.
    Fetched,
    /// Artifacts are being placed, or wait until the folders are writable.
    Placing,
    /// Every public name shows this job's artifacts.
    Placed,
    /// CONJURE was asked to import the mesh and has not taken it yet.
    #[serde(rename = "handing over")]
    HandingOver,
    /// Finished.
    Done,
    /// Ended without the mesh; the reason is in the row.
    Failed,
    /// Cancelled by a person.
    Cancelled,
    /// Superseded by a newer snapshot.
    Replaced,
    /// It is not known whether the backend has the request. Its money counts as spent; a
    /// person decides.
    Unknown,
}

impl JobState {
    /// Every state, in the order of a job's progress.
    pub const ALL: [Self; 13] = [
        Self::Prepared,
        Self::Submitting,
        Self::Submitted,
        Self::Running,
        Self::Fetched,
        Self::Placing,
        Self::Placed,
        Self::HandingOver,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
        Self::Replaced,
        Self::Unknown,
    ];

    /// Returns the word that people and the ledger see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Submitting => "submitting",
            Self::Submitted => "submitted",
            Self::Running => "running",
            Self::Fetched => "fetched",
            Self::Placing => "placing",
            Self::Placed => "placed",
            Self::HandingOver => "handing over",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Replaced => "replaced",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the state with this word.
    pub fn from_name(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == word)
    }

    /// Returns whether the job's artifacts are being placed or are placed: from here on it can no
    /// longer be cancelled.
    pub const fn is_placing(self) -> bool {
        matches!(self, Self::Placing | Self::Placed | Self::HandingOver)
    }

    /// Returns whether the daemon has nothing left to do for a job in this state.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled | Self::Replaced | Self::Unknown)
    }

    /// Returns whether a job in this state may occupy a paid machine.
    pub const fn is_in_flight(self) -> bool {
        matches!(self, Self::Prepared | Self::Submitting | Self::Submitted | Self::Running)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What started a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The prompt changed.
    Prompt,
    /// The render changed.
    Render,
    /// Both changed.
    Both,
    /// The inputs differed from the last job's when the daemon started.
    Start,
    /// A person requested it (`conjured once`, the page).
    Person,
}

impl Cause {
    /// Returns the word that people and the ledger see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Render => "render",
            Self::Both => "both",
            Self::Start => "start",
            Self::Person => "person",
        }
    }

    /// Returns the cause with this word.
    pub fn from_name(word: &str) -> Option<Self> {
        [Self::Prompt, Self::Render, Self::Both, Self::Start, Self::Person]
            .into_iter()
            .find(|cause| cause.name() == word)
    }
}

/// The fingerprints of one snapshot: two jobs with equal fingerprints are the same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Inputs {
    /// The prompt's fingerprint.
    pub prompt: Fingerprint,
    /// The render's fingerprint.
    pub render: Fingerprint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_word_of_its_own() {
        for state in JobState::ALL {
            assert_eq!(JobState::from_name(state.name()), Some(state));
            let json = serde_json::to_value(state).expect("a state serialises");
            assert_eq!(json, state.name(), "JSON and ledger say the same");
        }
    }

    #[test]
    fn a_request_id_that_could_bend_a_url_is_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "a?b", "a#b", "a%2f", "é"] {
            assert_eq!(RequestId::new(bad), None, "{bad:?}");
        }
        assert!(RequestId::new("R-1_2.x").is_some());
    }

    #[test]
    fn a_job_has_one_id_of_ours_and_no_other_job_has_it() {
        let job = |random| JobId::from_parts(WallTime::from_unix_millis(1_700_000_000_000), random);
        let first = RequestId::for_job(job(7));
        assert_eq!(first, RequestId::for_job(job(7)), "it need not be remembered");
        assert_ne!(first, RequestId::for_job(job(8)));
        let groups: Vec<usize> = first.as_str().split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{first}");
        assert_eq!(first.as_str().as_bytes()[14], b'4', "{first} is no version 4");
        assert!(matches!(first.as_str().as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{first}");
        assert_eq!(RequestId::new(first.as_str()), Some(first));
    }
}
