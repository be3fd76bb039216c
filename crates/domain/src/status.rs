//! The status report of the daemon: the stable, documented data format behind
//! `conjured status --json`.
//!
//! Owns the field names and units only (milliseconds, micro-dollars, Unix milliseconds). Fields are
//! added, never renamed or removed, as long as [`SCHEMA`] stays the same.

use serde::{Deserialize, Serialize};

use super::{
    job::{Cause, JobId, JobState, progress::Progress},
    machines::MachineStage,
    money::MicroUsd,
    time::WallTime,
};

/// The version of this format.
pub const SCHEMA: u32 = 1;

/// The complete status at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Increases with every change; `GET /v1/status?after=N` waits for a higher one.
    pub revision: u64,
    /// The time of this report.
    pub at: WallTime,
    /// The daemon process.
    pub daemon: Daemon,
    /// One entry for each served project.
    pub projects: Vec<Project>,
    /// The money spent and left.
    pub budget: Budget,
    /// One entry for each backend.
    pub backends: Vec<BackendHealth>,
    /// One entry for each rented machine that may cost money.
    #[serde(default)]
    pub machines: Vec<Machine>,
    /// What a person should know, newest last: failed reloads, polling instead of watching, …
    pub warnings: Vec<String>,
}

impl Status {
    /// Returns the status before the daemon has reported anything.
    pub fn starting() -> Self {
        Self {
            schema: SCHEMA,
            revision: 0,
            at: WallTime::default(),
            daemon: Daemon::default(),
            projects: Vec::new(),
            budget: Budget::default(),
            backends: Vec::new(),
            machines: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// The daemon process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// The version of `conjured`.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// When this session began.
    pub since: WallTime,
    /// The folder of the ledger and the history.
    pub state_dir: String,
    /// Whether it is stopping.
    pub stopping: bool,
}

/// One project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// The name in the configuration.
    pub name: String,
    /// The CONJURE checkout.
    pub root: String,
    /// `native` or `poll`.
    pub watching: String,
    /// The prompt.
    pub prompt: Input,
    /// The render.
    pub render: Input,
    /// Why the next job does not start, as a sentence.
    pub waiting: String,
    /// When that may change without any event.
    pub waiting_until: Option<WallTime>,
    /// The active job.
    pub job: Option<Job>,
    /// The last job that ended.
    pub last_job: Option<LastJob>,
    /// Jobs with a lost answer: it is not known whether they were charged.
    pub unknown: Vec<JobId>,
}

/// One input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Its path.
    pub path: String,
    /// `whole`, `unfinished`, `missing`, `refused`, or `unseen` before the first scan.
    pub state: String,
    /// Why it is refused, or how much of it exists.
    pub detail: Option<String>,
    /// The first twelve digits of the fingerprint, if complete.
    pub fingerprint: Option<String>,
}

/// The active job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Its current state.
    pub state: JobState,
    /// What started it.
    pub cause: Cause,
    /// What it is doing, as a sentence.
    pub doing: String,
    /// When it was released.
    pub since: WallTime,
    /// The backend that makes it.
    pub backend: String,
    /// Why a backend that `mode` prefers was not used.
    #[serde(default)]
    pub why: Option<String>,
    /// The progress of the run, if the backend reports it.
    #[serde(default)]
    pub progress: Option<Progress>,
    /// The backend's own id.
    pub request: Option<String>,
    /// How many requests are before this one; 0 = next.
    pub queue_position: Option<u64>,
    /// Whether a machine has to start first, as far as is known.
    pub cold: Option<bool>,
    /// Milliseconds since the release.
    pub elapsed_ms: u64,
    /// The expected time of placement, from past jobs of this backend and workflow.
    pub eta: Option<Eta>,
    /// Bytes received and expected during a download of artifacts.
    pub received: Option<Received>,
    /// The estimated cost.
    pub estimate: MicroUsd,
}

/// An expected duration with its spread, in milliseconds since the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eta {
    /// One job in ten was faster.
    pub p10_ms: u64,
    /// The median.
    pub median_ms: u64,
    /// One job in ten was slower.
    pub p90_ms: u64,
    /// The number of past jobs it is based on; 0 = a documented default.
    pub samples: u32,
}

/// A download in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Bytes on disk.
    pub bytes: u64,
    /// The total size in bytes, if the storage reports it.
    pub total: Option<u64>,
}

/// A job that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastJob {
    /// Its id.
    pub id: JobId,
    /// Its final state.
    pub state: JobState,
    /// The reason, unless `done`.
    pub reason: Option<String>,
    /// When it ended.
    pub ended_at: Option<WallTime>,
    /// The booked cost, or the reservation while nothing is booked.
    pub cost: MicroUsd,
}

/// The budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Spent or reserved in this session.
    pub session: MicroUsd,
    /// Spent or reserved today.
    pub day: MicroUsd,
    /// Spent or reserved this month.
    pub month: MicroUsd,
    /// The session's limit; absent = none.
    pub session_limit: Option<MicroUsd>,
    /// The day's limit; absent = none.
    pub day_limit: Option<MicroUsd>,
    /// The month's limit; absent = none.
    pub month_limit: Option<MicroUsd>,
    /// The account's balance, as last reported by the service.
    pub balance: Option<MicroUsd>,
    /// The price of the machine per hour.
    #[serde(default)]
    pub hourly: MicroUsd,
    /// The source of that price, as text.
    #[serde(default)]
    pub hourly_from: String,
    /// The machine's tier; absent if the rate itself is configured.
    #[serde(default)]
    pub hardware: Option<String>,
    /// How long a machine idles before it sleeps, in milliseconds; this time is billed.
    #[serde(default)]
    pub keep_warm_ms: u64,
    /// The source of that time, as text.
    #[serde(default)]
    pub keep_warm_from: String,
    /// Whether a machine never sleeps; its standing cost belongs to no job.
    #[serde(default)]
    pub never_sleeps: bool,
}

/// The health of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendHealth {
    /// Its name.
    pub name: String,
    /// `ready`, `unconfigured` or `failing`.
    pub state: String,
    /// Why it is not ready.
    pub reason: Option<String>,
    /// When it is retried automatically, if it is paused.
    #[serde(default)]
    pub until: Option<WallTime>,
    /// Where the token came from; never the token.
    pub token_from: Option<String>,
}

/// A rented machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Our id of its launch.
    pub id: String,
    /// The first characters of the service's id; the whole id would give access to the machine.
    pub server: Option<String>,
    /// The service's name for the type of machine.
    pub server_type: String,
    /// Its current stage.
    pub stage: MachineStage,
    /// What it is doing, as a fragment.
    pub doing: String,
    /// When its launch was recorded.
    pub since: WallTime,
    /// When its billing starts.
    pub ready_at: Option<WallTime>,
    /// When it is stopped if nothing else happens.
    pub stops_at: Option<WallTime>,
    /// Its price per hour.
    pub hourly: MicroUsd,
    /// The amount reserved for it.
    pub reserved: MicroUsd,
    /// Why a person must look at it.
    pub alarm: Option<String>,
}
