//! What goes into the ledger and what comes out: plain values, one type a row.
//!
//! Owns the shapes. How they stand in columns is `sql`'s, what may change them `jobs`'.

mod machine;

use std::time::Duration;

use serde::Serialize;

use crate::domain::{
    bill::{self, Basis, Seen, Terms},
    budget::Spent,
    engine::event::ProjectId,
    fingerprint::Fingerprint,
    job::{Cause, Inputs, JobId, RequestId, State},
    moment::WallTime,
    money::MicroUsd,
    product::Kind,
};

pub use self::machine::{MachineRow, NewMachine};

/// A run of the daemon, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SessionId(pub(super) i64);

/// A project as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectRow {
    /// Its number.
    pub id: ProjectId,
    /// Its folder, as the daemon resolved it.
    pub root: String,
    /// Its name in the configuration.
    pub name: String,
    /// The prompt that is taken care of: the last job's, or the one found first.
    pub baseline_prompt: Option<Fingerprint>,
    /// The render that is taken care of.
    pub baseline_render: Option<Fingerprint>,
    /// When it was first served.
    pub first_seen: WallTime,
    /// When it was last served.
    pub last_seen: WallTime,
    /// Whether the ledger had never heard of it.
    pub is_new: bool,
}

/// A job to be released.
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
    /// The prompt; the ledger keeps an excerpt for lists, history keeps the whole.
    pub prompt: String,
    /// The workflow's name.
    pub workflow: String,
    /// The fingerprint of the workflow's graph.
    pub workflow_version: Fingerprint,
    /// The fingerprint of the request's body: equal bodies are equal work.
    pub body_digest: Fingerprint,
    /// The size of the request's body.
    pub body_bytes: u64,
    /// The picture's seed, where the workflow has one.
    pub seed: Option<u64>,
    /// The mesh's seed, where the workflow has one.
    pub mesh_seed: Option<u64>,
    /// The overrides without the picture, for people.
    pub summary: serde_json::Value,
    /// The configured mode.
    pub mode: String,
    /// The backend that gets it.
    pub backend: String,
    /// The deployment, where the backend has such.
    pub deployment: Option<String>,
    /// The job that this one does again.
    pub retry_of: Option<JobId>,
    /// The job whose lost answer this one stands in for. That request may have been charged, so this
    /// job may only ever be sent to a free backend.
    pub stands_in_for: Option<JobId>,
    /// Why this backend and not an earlier one in the mode's order; a line of the job's story.
    pub why: Option<String>,
    /// A folder for the artifacts instead of the project's public names.
    pub out: Option<String>,
    /// Whether its inputs are the project's own, so that they are taken care of from now on.
    pub moves_baseline: bool,
    /// The estimate, to be reserved; zero on one's own machine.
    pub reserve: MicroUsd,
    /// The terms on which it is sent: what its bill is made of.
    pub terms: Terms,
    /// When it was released.
    pub at: WallTime,
}

/// How far a release goes in its one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// To `prepared`: nothing is about to leave yet.
    PreparedOnly,
    /// To `submitting`: the request leaves right after. One sync of the disk instead of two.
    Submitting,
}

/// What a release did to the budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// What was spent or reserved before.
    pub before: Spent,
    /// What is spent or reserved now, this job included.
    pub spent: Spent,
}

/// A job whose request leaves some time after its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Which.
    pub job: JobId,
    /// The session whose limit holds now.
    pub session: SessionId,
    /// What it is expected to cost now.
    pub reserve: MicroUsd,
    /// The terms of that expectation; `None` keeps the old ones.
    pub terms: Option<Terms>,
    /// The time.
    pub at: WallTime,
}

/// A job that goes to another backend.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// Which.
    pub job: JobId,
    /// Where it goes.
    pub backend: String,
    /// The deployment, where that backend has such.
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
    /// What the attempt so far cost.
    pub booking: Booking,
    /// How the attempt so far ended: a word.
    pub outcome: String,
    /// Why it goes there, for people.
    pub why: String,
    /// When.
    pub at: WallTime,
}

/// A job as the ledger knows it.
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
    /// Where it is.
    pub state: State,
    /// The fingerprints of its snapshot.
    pub inputs: Inputs,
    /// The beginning of its prompt.
    pub prompt_excerpt: String,
    /// The workflow's name.
    pub workflow: String,
    /// The fingerprint of the workflow's graph.
    pub workflow_version: Fingerprint,
    /// The fingerprint of the request's body.
    pub body_digest: Fingerprint,
    /// The picture's seed.
    pub seed: Option<u64>,
    /// The mesh's seed.
    pub mesh_seed: Option<u64>,
    /// The overrides without the picture, as JSON.
    pub summary: String,
    /// The configured mode.
    pub mode: String,
    /// The backend.
    pub backend: String,
    /// The deployment.
    pub deployment: Option<String>,
    /// When it was released.
    pub created_at: WallTime,
    /// When it entered its state.
    pub state_at: WallTime,
    /// When it ended; `None` while it has not.
    pub ended_at: Option<WallTime>,
    /// Why it ended, where that was not a success.
    pub reason: Option<Reason>,
    /// The newer job that took its place.
    pub replaced_by: Option<JobId>,
    /// The job that this one does again.
    pub retry_of: Option<JobId>,
    /// The job whose lost answer it stands in for: no paid backend may be asked for it.
    pub stands_in_for: Option<JobId>,
    /// A folder for the artifacts instead of the project's public names.
    pub out: Option<String>,
    /// What was reserved for it.
    pub reserved: MicroUsd,
    /// What it cost; `None` while the reservation counts.
    pub booked: Option<MicroUsd>,
    /// How what it cost came about; `None` before its end, and for ends of an older version.
    pub basis: Option<Basis>,
    /// The terms on which it was sent; `None` for jobs of an older version.
    pub terms: Option<Terms>,
    /// What is known of the newest attempt's run.
    pub seen: Seen,
    /// How long it took.
    pub timing: Timing,
    /// Whether a person wants it cancelled.
    pub cancel_wanted: bool,
    /// The newest attempt's request.
    pub request: Option<RequestId>,
    /// The newest attempt's machine.
    pub instance: Option<String>,
    /// When the newest attempt's request was taken in.
    pub submitted_at: Option<WallTime>,
    /// When the newest attempt was first seen at work.
    pub running_at: Option<WallTime>,
    /// When a machine was last known to be at work on the newest attempt.
    pub busy_at: Option<WallTime>,
    /// How the artist liked it.
    pub rating: Option<Rating>,
    /// The size of the request's body; `None` for jobs that an older version released.
    pub body_bytes: Option<u64>,
    /// What was downloaded for it, also in vain.
    pub received_bytes: u64,
}

impl JobRow {
    /// Returns what it counts for in the budget.
    pub fn spent(&self) -> MicroUsd {
        self.booked.unwrap_or(self.reserved)
    }

    /// Returns what is booked for a job that ran, and the times to learn from.
    pub fn bill(&self) -> (Booking, Timing) {
        let bill = self.terms.and_then(|terms| Some((terms, bill::bill(&terms, &self.seen)?)));
        let timing = bill.as_ref().map_or_else(Timing::default, |(terms, bill)| Timing {
            queue: bill.queue,
            run: bill.run,
            cold: bill.run.map(|_| terms.cold_start.is_some()),
        });
        let booking = match bill {
            // Free, or the same work as before: there is nothing to be billed, and yet something to learn.
            _ if self.reserved == MicroUsd::ZERO => Booking::Nothing,
            Some((_, bill)) => bill.into(),
            None => Booking::Reserved,
        };
        (booking, timing)
    }
}

/// How long a job took, as far as that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the submit to the start of the run.
    pub queue: Option<Duration>,
    /// From the start of the run to its end.
    pub run: Option<Duration>,
    /// Whether the machine had to wake first.
    pub cold: Option<bool>,
}

/// Why a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A word or number for machines (`10011`, `queue_timeout`, …).
    pub code: String,
    /// A sentence for people, free of secrets.
    pub text: String,
}

impl Reason {
    /// Makes a reason.
    pub fn new(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into() }
    }
}

/// What happens to a job's reservation when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Booking {
    /// Nothing ran, so nothing was spent.
    Nothing,
    /// This was spent.
    Cost(MicroUsd),
    /// This or less was spent: some of it happened unseen.
    AtMost(MicroUsd),
    /// Nobody knows: the reservation stays.
    Reserved,
}

impl From<MicroUsd> for Booking {
    fn from(cost: MicroUsd) -> Self {
        Self::Cost(cost)
    }
}

impl From<bill::Bill> for Booking {
    fn from(bill: bill::Bill) -> Self {
        match bill.basis {
            Basis::Nothing | Basis::Measured => Self::Cost(bill.total()),
            Basis::Bounded | Basis::Reserved => Self::AtMost(bill.total()),
        }
    }
}

/// The end of a run, as it is written down with its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// When it was over, as the backend says, else when that was seen.
    pub at: WallTime,
    /// What is known of the run.
    pub seen: Seen,
}

impl From<WallTime> for RunEnd {
    fn from(at: WallTime) -> Self {
        Self { at, seen: Seen::default() }
    }
}

/// How the artist liked a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rating {
    /// 1 to 5.
    pub stars: u8,
    /// The artist's words; may be empty.
    pub note: String,
}

/// A try of a job on a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// 1, 2, …
    pub number: u32,
    /// The backend.
    pub backend: String,
    /// The deployment.
    pub deployment: Option<String>,
    /// The backend's id, once it was received.
    pub request: Option<RequestId>,
    /// The machine, once the backend told.
    pub instance: Option<String>,
    /// When nothing had left yet.
    pub prepared_at: WallTime,
    /// When the request may have left.
    pub submitting_at: WallTime,
    /// When its id was received.
    pub submitted_at: Option<WallTime>,
    /// When it was first seen at work.
    pub running_at: Option<WallTime>,
    /// When it ended.
    pub ended_at: Option<WallTime>,
    /// How it ended: a word.
    pub outcome: Option<String>,
}

/// A line of a job's story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventRow {
    /// When.
    pub at: WallTime,
    /// A state's word, or what else happened.
    pub kind: String,
    /// A sentence; may be empty.
    pub note: String,
}

/// An artifact in the history folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// Image or mesh.
    pub kind: Kind,
    /// Relative to the history folder, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The digest of its bytes.
    pub blake3: Fingerprint,
    /// A mesh's vertices.
    pub vertices: Option<u64>,
}

/// All that is known of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStory {
    /// The job.
    pub job: JobRow,
    /// Its tries, oldest first.
    pub attempts: Vec<AttemptRow>,
    /// What happened, oldest first.
    pub events: Vec<EventRow>,
    /// Its artifacts, image before mesh.
    pub artifacts: Vec<Artifact>,
    /// The calls that spent or changed something outside for it, oldest first.
    pub audits: Vec<AuditRow>,
}

/// Which jobs to list. The default is all of them.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only jobs in one of these states; empty for all.
    pub states: Vec<State>,
    /// Only jobs of this project.
    pub project: Option<ProjectId>,
    /// Only jobs older than this one: the next page.
    pub before: Option<JobId>,
    /// At most so many; `None` for all.
    pub limit: Option<u32>,
}

/// A call that spent or changed something outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// When.
    pub at: WallTime,
    /// What was called (`submit`, `cancel`, …).
    pub what: String,
    /// For which job.
    pub job: Option<JobId>,
    /// How it ended.
    pub outcome: String,
    /// What it cost or may cost.
    pub cost: MicroUsd,
}
