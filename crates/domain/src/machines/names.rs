//! The ids and enumerations of a rented machine: its two ids, its stages, the service's states, the
//! reasons for a stop.
//!
//! Owns how they are written and parsed. [`super`] decides what follows from them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{job::RequestId, time::WallTime};

/// Identifies a launch: a ULID that we create before anything is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(ulid::Ulid);

/// The error for a text that is not a launch id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a machine id")]
pub struct NotAMachineId(pub String);

impl MachineId {
    /// Creates an id from the time and 80 random bits, both given by the caller.
    pub fn from_parts(wall: WallTime, random: u128) -> Self {
        Self(ulid::Ulid::from_parts(u64::try_from(wall.unix_millis()).unwrap_or(0), random))
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MachineId {
    type Err = NotAMachineId;
    fn from_str(text: &str) -> Result<Self, NotAMachineId> {
        let bad = |_| NotAMachineId(text.chars().take(40).collect());
        ulid::Ulid::from_string(text.trim()).map(Self).map_err(bad)
    }
}

impl TryFrom<String> for MachineId {
    type Error = NotAMachineId;
    fn try_from(text: String) -> Result<Self, NotAMachineId> {
        text.parse()
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.to_string()
    }
}

/// The service's id of a machine. The address is derived from it and is the only protection of the
/// machine, so `Display` and `Debug` shorten the id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(RequestId);

impl ServerId {
    /// How many characters are shown: enough to find the machine in the account's list.
    const SHOWN_CHARS: usize = 8;

    /// Accepts an id that can be used in a URL path as it is.
    pub fn new(text: &str) -> Option<Self> {
        RequestId::new(text).map(Self)
    }

    /// Returns the whole id, for an address or the ledger.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str();
        match text.char_indices().nth(Self::SHOWN_CHARS) {
            None => f.write_str(text),
            Some((end, _)) => write!(f, "{}…", &text[..end]),
        }
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The stage of a machine's life. It is in the ledger before the next step begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineStage {
    /// The launch may be on its way, or its answer was lost: the account is searched for
    /// the machine.
    Launching,
    /// A machine may exist but cannot be identified: a person must look.
    Lost,
    /// The service has it, and it is starting.
    Starting,
    /// It is up and billed.
    Ready,
    /// It is to be stopped; the service has not confirmed that yet.
    Stopping,
    /// It is stopped, or never existed.
    Gone,
}

impl MachineStage {
    /// Every stage, in order.
    pub const ALL: [Self; 6] =
        [Self::Launching, Self::Lost, Self::Starting, Self::Ready, Self::Stopping, Self::Gone];

    /// Returns its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Launching => "launching",
            Self::Lost => "lost",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Gone => "gone",
        }
    }
}

/// The state that the service reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportedStage {
    /// `Starting`, `Initializing`, and every word that the reference does not list.
    Starting,
    /// `Ready`, with an address.
    Ready,
    /// `Deleting`, `Stopping`: stopped from outside.
    Ending,
    /// `Error`.
    Failed,
}

impl ReportedStage {
    /// Parses the service's word, ignoring case. The flag is `false` if the reference does not list
    /// the word.
    pub fn read(text: &str) -> (Self, bool) {
        let known = |word| (word, true);
        match text.trim().to_ascii_lowercase().as_str() {
            "starting" | "initializing" | "pending" | "creating" => known(Self::Starting),
            "ready" | "running" => known(Self::Ready),
            "deleting" | "deleted" | "stopping" | "stopped" => known(Self::Ending),
            "error" | "failed" => known(Self::Failed),
            _ => (Self::Starting, false),
        }
    }
}

/// Why a machine is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It had nothing left to do.
    Idle,
    /// It reached its maximum run time.
    MaxRun,
    /// The service reported a failure.
    Failed,
    /// It did not become ready in time.
    NeverReady,
    /// It was stopped from outside.
    StoppedExternally,
    /// The configuration now asks for another kind of machine.
    KindChanged,
    /// The daemon is stopping.
    DaemonStopping,
    /// An earlier session left it running, and it cannot be used.
    LeftOver,
}

impl StopReason {
    /// Returns its word for the ledger.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::MaxRun => "ceiling",
            Self::Failed => "failed",
            Self::NeverReady => "never_ready",
            Self::StoppedExternally => "elsewhere",
            Self::KindChanged => "unfit",
            Self::DaemonStopping => "closing",
            Self::LeftOver => "left_over",
        }
    }

    /// Returns its text for people.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Idle => "it was idle for too long (`cloud.idle_stop_s`)",
            Self::MaxRun => "it reached its maximum run time (`cloud.max_minutes`)",
            Self::Failed => "the service reported that it failed",
            Self::NeverReady => "it did not become ready in time (`cloud.start_timeout_s`)",
            Self::StoppedExternally => "it was stopped from outside conjured",
            Self::KindChanged => "the configuration now asks for another type of machine",
            Self::DaemonStopping => "conjured is stopping",
            Self::LeftOver => "an earlier session left it running",
        }
    }
}
