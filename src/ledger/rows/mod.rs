//! The input and output types of the ledger: plain values, one type per row.
//!
//! Owns the types. `sql` maps them to columns, and the modules of the operations change them.

mod machine;

use std::time::Duration;

use serde::Serialize;

use crate::domain::{
    engine::event::ProjectId,
    fingerprint::Fingerprint,
    job::{
        Cause, Inputs, JobId, JobState, RequestId, artifact::ArtifactKind, attempt::AttemptEnd,
        control::JobControl,
    },
    money::{
        MicroUsd,
        budget::Spent,
        job_cost::{self, CostBasis, ObservedTimes, PriceTerms},
    },
    time::WallTime,
};

pub use self::machine::{MachineRow, NewMachine};
pub use crate::domain::money::job_cost::Booking;

/// A run of the daemon, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SessionId(pub(super) i64);

/// A project in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectRow {
    /// Its number.
    pub id: ProjectId,
    /// Its folder, as the daemon resolved it.
    pub root: String,
    /// Its name in the configuration.
    pub name: String,
    /// The prompt that is already handled: the last job's, or the one found first.
    pub baseline_prompt: Option<Fingerprint>,
    /// The render that is already handled.
    pub baseline_render: Option<Fingerprint>,
    /// When it was first served.
    pub first_seen: WallTime,
    /// When it was last served.
    pub last_seen: WallTime,
    /// Whether the ledger did not know it before.
    pub is_new: bool,
}

/// A job to release.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// Its project.
    pub project: ProjectId,
    /// The session that pays.
    pub session: SessionId,
    /// What started it.
    pub cause: Cause,
    /// The fingerprints of its snapshot.
    pub inputs: Inputs,
    /// The prompt. The ledger stores an excerpt for lists, history stores all of it.
    pub prompt: String,
    /// The workflow's name.
    pub workflow: String,
    /// The fingerprint of the workflow's graph.
    pub workflow_version: Fingerprint,
    /// The fingerprint of the request body. Equal bodies are equal work.
    pub body_digest: Fingerprint,
    /// The size of the request body.
    pub body_bytes: u64,
    /// The picture's seed, if the workflow has one.
    pub seed: Option<u64>,
    /// The mesh's seed, if the workflow has one.
    pub mesh_seed: Option<u64>,
    /// The overrides without the picture, for people.
    pub summary: serde_json::Value,
    /// The word of the configuration's `mode`.
    pub mode: String,
    /// The name of the first attempt's backend.
    pub backend: String,
    /// The deployment, if the backend has deployments.
    pub deployment: Option<String>,
    /// The job that this one repeats.
    pub retry_of: Option<JobId>,
    /// The job whose lost answer this one stands in for. That request may have been charged, so
    /// this job may only ever be sent to a free backend.
    pub stands_in_for: Option<JobId>,
    /// The earlier job whose artifacts this one shows again, free of charge: it is never sent.
    pub cached_from: Option<JobId>,
    /// Why this backend and not an earlier one in the mode's order; a line of the job's story.
    pub why: Option<String>,
    /// A folder for the artifacts, used instead of the project's public names.
    pub out: Option<String>,
    /// Whether its inputs are the project's own, so that they count as handled from now on.
    pub moves_baseline: bool,
    /// The estimated cost to reserve; zero on the user's own machine.
    pub reserve: MicroUsd,
    /// The terms of the submit, which its bill is computed from.
    pub terms: PriceTerms,
    /// When it was released.
    pub at: WallTime,
}

/// How far a release goes in its one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseMode {
    /// To `prepared`: no request is about to be sent.
    PreparedOnly,
    /// To `submitting`: the request is sent immediately afterwards. One disk sync instead of two.
    Submitting,
}

/// The effect of a release on the budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetChange {
    /// The money spent or reserved before.
    pub before: Spent,
    /// The money spent or reserved now, including this job.
    pub spent: Spent,
}

/// A job whose request is sent some time after its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedSubmit {
    /// The job.
    pub job: JobId,
    /// The session whose limit applies now.
    pub session: SessionId,
    /// Its expected cost now.
    pub reserve: MicroUsd,
    /// The terms of that expectation; `None` keeps the old ones.
    pub terms: Option<PriceTerms>,
    /// When the request is about to leave.
    pub at: WallTime,
}

/// A job that switches to another backend.
#[derive(Clone, Debug)]
pub struct BackendSwitch {
    /// The job.
    pub job: JobId,
    /// The new backend's name.
    pub backend: String,
    /// The deployment, if that backend has deployments.
    pub deployment: Option<String>,
    /// The workflow that runs there.
    pub workflow: String,
    /// The fingerprint of that workflow.
    pub workflow_version: Fingerprint,
    /// The fingerprint of the new request.
    pub body_digest: Fingerprint,
    /// The size of the new request.
    pub body_bytes: u64,
    /// The new request without the picture, for people.
    pub summary: serde_json::Value,
    /// The cost of the current attempt.
    pub booking: Booking,
    /// How the current attempt ended.
    pub outcome: AttemptEnd,
    /// Why the current attempt ended so, for people.
    pub reason: String,
    /// The reason for the switch, for people.
    pub why: String,
    /// When it switches.
    pub at: WallTime,
}

/// A job in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Its project.
    pub project: ProjectId,
    /// The session that released it.
    pub session: SessionId,
    /// What started it.
    pub cause: Cause,
    /// Its state.
    pub state: JobState,
    /// The fingerprints of its snapshot.
    pub inputs: Inputs,
    /// The beginning of its prompt.
    pub prompt_excerpt: String,
    /// The workflow's name.
    pub workflow: String,
    /// The fingerprint of the workflow's graph.
    pub workflow_version: Fingerprint,
    /// The fingerprint of the request body.
    pub body_digest: Fingerprint,
    /// The picture's seed.
    pub seed: Option<u64>,
    /// The mesh's seed.
    pub mesh_seed: Option<u64>,
    /// The overrides without the picture, as JSON.
    pub summary: String,
    /// The word of the configuration's `mode` at its release.
    pub mode: String,
    /// The name of the newest attempt's backend.
    pub backend: String,
    /// The newest attempt's deployment, if its backend has deployments.
    pub deployment: Option<String>,
    /// When it was released.
    pub created_at: WallTime,
    /// When it entered its state.
    pub state_at: WallTime,
    /// When it ended; `None` while it has not.
    pub ended_at: Option<WallTime>,
    /// Why it ended, unless it succeeded.
    pub reason: Option<Reason>,
    /// The newer job that replaced it.
    pub replaced_by: Option<JobId>,
    /// The job that this one repeats.
    pub retry_of: Option<JobId>,
    /// The job whose lost answer it stands in for: no paid backend may be asked for it.
    pub stands_in_for: Option<JobId>,
    /// The earlier job whose artifacts it shows again: it is never sent.
    pub cached_from: Option<JobId>,
    /// A folder for the artifacts, used instead of the project's public names.
    pub out: Option<String>,
    /// The money reserved for it.
    pub reserved: MicroUsd,
    /// Its cost; `None` while the reservation counts.
    pub booked: Option<MicroUsd>,
    /// How its cost was determined; `None` before its end.
    pub basis: Option<CostBasis>,
    /// The terms of its newest submit.
    pub terms: PriceTerms,
    /// What is known about the newest attempt's run.
    pub observed: ObservedTimes,
    /// How long it took.
    pub timing: Timing,
    /// What was decided about it from outside.
    pub control: JobControl,
    /// The request of the newest attempt.
    pub request: Option<RequestId>,
    /// The machine of the newest attempt.
    pub instance: Option<String>,
    /// When the newest attempt's request was accepted.
    pub submitted_at: Option<WallTime>,
    /// When the newest attempt was first seen running.
    pub running_at: Option<WallTime>,
    /// When a machine was last known to be working on the newest attempt.
    pub busy_at: Option<WallTime>,
    /// The artist's rating.
    pub rating: Option<Rating>,
    /// The size of the request body.
    pub body_bytes: u64,
    /// The bytes downloaded for it, including failed downloads.
    pub received_bytes: u64,
}

impl JobRow {
    /// Returns the amount that it counts for in the budget.
    pub fn spent(&self) -> MicroUsd {
        self.booked.unwrap_or(self.reserved)
    }

    /// Returns the booking of a job that ran, and the times for future estimates.
    pub fn job_cost(&self) -> (Booking, Timing) {
        let cost = job_cost::job_cost(&self.terms, &self.observed);
        let timing = cost.as_ref().map_or_else(Timing::default, |cost| Timing {
            queue: cost.queue,
            run: cost.run,
            cold: cost.run.map(|_| self.terms.cold_start.is_some()),
        });
        // Without anything to bill the times are still useful.
        let booking = job_cost::booking(&self.terms, &self.observed, self.reserved);
        (booking, timing)
    }
}

/// How long a job took, as far as that was observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the submit to the start of the run.
    pub queue: Option<Duration>,
    /// From the start of the run to its end.
    pub run: Option<Duration>,
    /// Whether the machine had a cold start.
    pub cold: Option<bool>,
}

/// Why a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A code for programs (`10011`, `queue_timeout`, …).
    pub code: String,
    /// A sentence for people, free of secrets.
    pub text: String,
}

impl Reason {
    /// Creates a reason.
    pub fn new(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into() }
    }
}

/// The end of a run, as it is recorded with its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// When it ended, from the backend if it says so, otherwise when the end was observed.
    pub at: WallTime,
    /// What is known about the run.
    pub observed: ObservedTimes,
}

impl From<WallTime> for RunEnd {
    fn from(at: WallTime) -> Self {
        Self { at, observed: ObservedTimes::default() }
    }
}

/// The artist's rating of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rating {
    /// 1 to 5.
    pub stars: u8,
    /// The artist's comment; may be empty.
    pub note: String,
}

/// An attempt of a job on a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// Counted from 1.
    pub number: u32,
    /// The backend's name.
    pub backend: String,
    /// The deployment, if the backend has deployments.
    pub deployment: Option<String>,
    /// The backend's id, once it was received.
    pub request: Option<RequestId>,
    /// The machine, once the backend names it.
    pub instance: Option<String>,
    /// The last time at which nothing had been sent yet.
    pub prepared_at: WallTime,
    /// When the request may have been sent.
    pub submitting_at: WallTime,
    /// When its id was received.
    pub submitted_at: Option<WallTime>,
    /// When it was first seen running.
    pub running_at: Option<WallTime>,
    /// When it ended.
    pub ended_at: Option<WallTime>,
    /// The version of the workflow that it sent.
    pub workflow_version: Fingerprint,
    /// How it ended; `None` while it has not.
    pub outcome: Option<AttemptEnd>,
    /// Why it ended so, for people.
    pub reason: Option<String>,
}

/// A line of a job's events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventRow {
    /// When it happened.
    pub at: WallTime,
    /// The word of a state, or another kind of event.
    pub kind: String,
    /// A sentence; may be empty.
    pub note: String,
}

/// An artifact in the history folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArtifactRow {
    /// Image or mesh.
    pub kind: ArtifactKind,
    /// Relative to the history folder, with `/`.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The digest of its bytes.
    pub blake3: Fingerprint,
    /// The number of vertices of a mesh.
    pub vertices: Option<u64>,
}

/// All records of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobDetails {
    /// The job.
    pub job: JobRow,
    /// Its attempts, oldest first.
    pub attempts: Vec<AttemptRow>,
    /// Its events, oldest first.
    pub events: Vec<EventRow>,
    /// Its artifacts, image before mesh.
    pub artifacts: Vec<ArtifactRow>,
    /// The calls that spent money or changed something outside for it, oldest first.
    pub audits: Vec<AuditRow>,
}

/// Which jobs to list. The default is all of them.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Only jobs in one of these states; empty for all.
    pub states: Vec<JobState>,
    /// Only jobs of this project.
    pub project: Option<ProjectId>,
    /// Only jobs older than this one: the next page.
    pub before: Option<JobId>,
    /// The maximum number of jobs; `None` for all.
    pub limit: Option<u32>,
}

/// A call that spent money or changed something outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// When the call was made.
    pub at: WallTime,
    /// The call (`submit`, `cancel`, …).
    pub what: String,
    /// The job that it was made for.
    pub job: Option<JobId>,
    /// Its outcome in a few words (`not sent`, …).
    pub outcome: String,
    /// Its actual or possible cost.
    pub cost: MicroUsd,
}
