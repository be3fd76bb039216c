//! What the daemon tells about itself: the stable, documented shape behind `conjured status --json`.
//!
//! Owns the words and units only (milliseconds, micro-dollars, Unix milliseconds). Fields are added, never renamed or
//! removed, as long as [`SCHEMA`] stays the same.

use serde::{Deserialize, Serialize};

use super::{
    job::{Cause, JobId, State, progress::Progress},
    machines::Stage,
    money::MicroUsd,
    time::WallTime,
};

/// The version of this shape.
pub const SCHEMA: u32 = 1;

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Counts up with every change; `GET /v1/status?after=N` waits for a higher one.
    pub revision: u64,
    /// When this was true.
    pub at: WallTime,
    /// The process.
    pub daemon: Daemon,
    /// One entry for each project served.
    pub projects: Vec<Project>,
    /// Money spent and left.
    pub budget: Budget,
    /// One entry for each backend.
    pub backends: Vec<BackendHealth>,
    /// One entry for each rented machine that may cost money.
    #[serde(default)]
    pub machines: Vec<Machine>,
    /// What a person should know about, newest last: bad reloads, polling instead of watching, …
    pub warnings: Vec<String>,
}

impl Status {
    /// Returns what is true before the daemon has said anything.
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

/// The process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// `conjured`'s version.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// When this session began.
    pub since: WallTime,
    /// Where the ledger and the history are.
    pub state_dir: String,
    /// Whether it is on its way out.
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
    /// Why the next job does not start, in a sentence.
    pub waiting: String,
    /// When that may change by itself.
    pub waiting_until: Option<WallTime>,
    /// The job at work.
    pub job: Option<Job>,
    /// The last job that ended.
    pub last_job: Option<LastJob>,
    /// Jobs whose answer was lost: it is not known whether they were charged.
    pub unknown: Vec<JobId>,
}

/// One input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Its path.
    pub path: String,
    /// `whole`, `unfinished`, `missing`, `refused`, or `unseen` before the first look.
    pub state: String,
    /// Why it is refused, or how much of it is there.
    pub detail: Option<String>,
    /// The fingerprint's first twelve digits, when whole.
    pub fingerprint: Option<String>,
}

/// The job at work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Where it is on its road.
    pub state: State,
    /// What started it.
    pub cause: Cause,
    /// What it is doing, in a sentence.
    pub doing: String,
    /// When it was released.
    pub since: WallTime,
    /// Where the work happens.
    pub backend: String,
    /// Why not at a place that the mode names before it.
    #[serde(default)]
    pub why: Option<String>,
    /// How far the run is, where the backend tells.
    #[serde(default)]
    pub progress: Option<Progress>,
    /// The backend's own id.
    pub request: Option<String>,
    /// Requests before this one; 0 = next.
    pub queue_position: Option<u64>,
    /// Whether a machine has to start first, as far as is known.
    pub cold: Option<bool>,
    /// Milliseconds since it was released.
    pub elapsed_ms: u64,
    /// When it is expected to be placed, from past jobs of this backend and workflow.
    pub eta: Option<Eta>,
    /// Bytes received and expected, while artifacts come in.
    pub received: Option<Received>,
    /// What it is estimated to cost.
    pub estimate: MicroUsd,
}

/// An expectation with its spread, in milliseconds from the release on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eta {
    /// One job in ten was faster.
    pub p10_ms: u64,
    /// The middle one.
    pub median_ms: u64,
    /// One job in ten was slower.
    pub p90_ms: u64,
    /// How many jobs this was learned from; 0 = a documented default.
    pub samples: u32,
}

/// A download under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes in all, where the storage tells.
    pub total: Option<u64>,
}

/// A job that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastJob {
    /// Its id.
    pub id: JobId,
    /// How it ended.
    pub state: State,
    /// Why, when not `done`.
    pub reason: Option<String>,
    /// When.
    pub ended_at: Option<WallTime>,
    /// What is booked, or reserved while nothing is.
    pub cost: MicroUsd,
}

/// Money.
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
    /// The account's balance, as the service last told.
    pub balance: Option<MicroUsd>,
    /// What an hour of the machine costs.
    #[serde(default)]
    pub hourly: MicroUsd,
    /// Where that comes from, in words.
    #[serde(default)]
    pub hourly_from: String,
    /// The machine's tier; absent where the rate itself is configured.
    #[serde(default)]
    pub hardware: Option<String>,
    /// How long a machine idles before it sleeps, in milliseconds; it is paid for.
    #[serde(default)]
    pub keep_warm_ms: u64,
    /// Where that comes from, in words.
    #[serde(default)]
    pub keep_warm_from: String,
    /// Whether a machine never sleeps; its standing cost is no job's.
    #[serde(default)]
    pub never_sleeps: bool,
}

/// How a backend does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendHealth {
    /// Its name.
    pub name: String,
    /// `ready`, `unconfigured` or `failing`.
    pub state: String,
    /// Why it is not ready.
    pub reason: Option<String>,
    /// When it is tried again by itself, where it is left alone.
    #[serde(default)]
    pub until: Option<WallTime>,
    /// Where the token came from; never what it is.
    pub token_from: Option<String>,
}

/// A rented machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Our name of its launch.
    pub id: String,
    /// The beginning of the service's id; all of it would open the machine.
    pub server: Option<String>,
    /// The service's word for the machine.
    pub server_type: String,
    /// Where it is in its life.
    pub stage: Stage,
    /// What it does, in a fragment.
    pub doing: String,
    /// When its launch was marked.
    pub since: WallTime,
    /// From when on it is billed.
    pub ready_at: Option<WallTime>,
    /// When it is stopped if nothing else happens.
    pub stops_at: Option<WallTime>,
    /// What an hour of it costs.
    pub hourly: MicroUsd,
    /// What is reserved for it.
    pub reserved: MicroUsd,
    /// Why a person must look at it.
    pub alarm: Option<String>,
}
