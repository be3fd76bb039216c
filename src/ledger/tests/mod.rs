//! The ledger's guarantees: in normal steps, after crashes, in races, and with damaged files.
//!
//! Each test uses a real SQLite file in a temporary folder. The `crash` tests copy the file and its
//! log while the ledger is open: that is what the disk holds if the process is killed.

mod budget;
mod crash;
mod damage;
mod machines;
mod failover;
mod money;
mod progress;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    Ledger,
    error::{LedgerError, ReleaseError},
    rows::{ArtifactRow, DelayedSubmit, NewJob, ProjectRow, ReleaseMode, SessionId, Timing},
};
use crate::domain::{
    engine::event::ProjectId,
    fingerprint::Fingerprint,
    job::{
        Cause, Inputs, JobId, RequestId,
        artifact::{ArtifactKind, RemoteFile},
    },
    money::{
        MicroUsd,
        budget::{BudgetLimits, BudgetWindows},
        job_cost::PriceTerms,
    },
    time::WallTime,
};

/// Returns a time in the middle of a day and of a month, `seconds` after the start of the tests.
fn at(seconds: i64) -> WallTime {
    WallTime::from_unix_millis(1_800_000_000_000 + seconds * 1000)
}

/// Returns windows that begin with the tests.
fn windows() -> BudgetWindows {
    BudgetWindows { day_start: at(0), month_start: at(0) }
}

fn cents(cents: i64) -> MicroUsd {
    MicroUsd::from_cents(cents)
}

/// A ledger in its own folder, with a session and a project.
struct LedgerFixture {
    folder: TempDir,
    ledger: Ledger,
    session: SessionId,
    project: ProjectId,
}

impl LedgerFixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ledger.sqlite");
        let mut ledger = Ledger::open(&path).expect("a new ledger");
        let session = ledger.begin_session("test", at(0)).expect("a session");
        let project = ledger.touch_project("/art", "art", at(0)).expect("a project").id;
        Self { folder, ledger, session, project }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.sqlite")
    }

    fn project_row(&self) -> ProjectRow {
        let mut rows = self.ledger.projects().expect("rows").into_iter();
        rows.find(|row| row.id == self.project).expect("known")
    }

    fn new_job(&self, number: u64) -> NewJob {
        new_job(self.session, self.project, number)
    }

    /// Releases job `number` without limits, one second later than the previous one.
    fn release(&mut self, number: u64, announce: ReleaseMode) -> JobId {
        let job = self.new_job(number);
        self.ledger
            .release(&job, &BudgetLimits::default(), &windows(), announce)
            .expect("released");
        job.id
    }

    /// Takes job `number` to a finished run.
    fn finish(&mut self, number: u64, timing: Timing) -> JobId {
        let job = self.release(number, ReleaseMode::Submitting);
        let ledger = &mut self.ledger;
        ledger.submitted(job, &request(number), at(1)).expect("submitted");
        ledger.running(job, Some("machine-a"), None, at(2)).expect("running");
        ledger.outputs_known(job, &[remote_file()], at(3), at(4)).expect("outputs known");
        ledger.fetched(job, &artifacts(job), at(5)).expect("fetched");
        ledger.placing(job, at(6)).expect("placing");
        ledger.placed(job, at(7)).expect("placed");
        ledger.done(job, cents(7), timing, at(8)).expect("done");
        job
    }
}

impl Ledger {
    /// Marks a job as submitting, on the terms of its release and without limits.
    fn leaves(&mut self, job: JobId, now: WallTime) -> Result<(), LedgerError> {
        let row = self.job(job)?;
        let leaving = DelayedSubmit {
            job,
            session: row.session,
            reserve: row.reserved,
            terms: Some(row.terms),
            at: now,
        };
        match self.submitting(&leaving, &BudgetLimits::default(), &windows()) {
            Ok(_) => Ok(()),
            Err(ReleaseError::Ledger(error)) => Err(error),
            Err(ReleaseError::Budget(refusal)) => panic!("{refusal}"),
        }
    }
}

fn new_job(session: SessionId, project: ProjectId, number: u64) -> NewJob {
    let released = at(i64::try_from(number).expect("a small number"));
    NewJob {
        id: JobId::from_parts(released, u128::from(number)),
        project,
        session,
        cause: Cause::Prompt,
        inputs: Inputs {
            prompt: Fingerprint::of(&number.to_le_bytes()),
            render: Fingerprint::of(b"render"),
        },
        prompt: "a carrot that is a chair".into(),
        workflow: "conjure_flux_mesh".into(),
        workflow_version: Fingerprint::of(b"graph"),
        body_digest: Fingerprint::of(&number.to_le_bytes()),
        body_bytes: 1234,
        seed: Some(u64::MAX),
        mesh_seed: None,
        summary: serde_json::json!({"steps": 20}),
        mode: "auto".into(),
        backend: "serverless".into(),
        deployment: Some("deployment-a".into()),
        retry_of: None,
        stands_in_for: None,
        cached_from: None,
        why: None,
        out: None,
        moves_baseline: true,
        reserve: cents(10),
        terms: PriceTerms::default(),
        at: released,
    }
}

fn request(number: u64) -> RequestId {
    RequestId::new(&format!("request-{number}")).expect("a plain id")
}

fn remote_file() -> RemoteFile {
    RemoteFile {
        node: "24".into(),
        channel: "images".into(),
        url: "https://storage.example/a.png?x='\";--".into(),
        filename: "a.png".into(),
        file_type: "output".into(),
    }
}

fn artifacts(job: JobId) -> [ArtifactRow; 2] {
    [(ArtifactKind::Image, "flux.png", None), (ArtifactKind::Mesh, "result.glb", Some(8))].map(
        |(kind, name, vertices)| ArtifactRow {
            kind,
            path: format!("{job}/{name}"),
            bytes: 12,
            blake3: Fingerprint::of(name.as_bytes()),
            vertices,
        },
    )
}

fn duration_of(queue: u64, run: u64, cold: bool) -> Timing {
    let seconds = Duration::from_secs;
    Timing { queue: Some(seconds(queue)), run: Some(seconds(run)), cold: Some(cold) }
}

/// Copies what a killed process leaves: the file and its log, with the first `keep` bytes of
/// the log.
fn copy_as_after_a_kill(from: &Path, to: &Path, keep: Option<usize>) {
    fs::copy(from, to).expect("the file is copied");
    let log = |path: &Path| path.with_extension("sqlite-wal");
    let mut bytes = fs::read(log(from)).expect("the log is there");
    bytes.truncate(keep.unwrap_or(usize::MAX));
    fs::write(log(to), bytes).expect("the log is copied");
}
