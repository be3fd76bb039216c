//! The ledger's part of the bars: the single commit between a closing window and the socket, and a
//! start with 10 000 jobs.
//!
//! The commit is compared with the cheapest operation that could give the same guarantee: 4 KB
//! appended to a file and synced, in the same folder and the same run. Bars: window to socket 2 ms,
//! start to READY 50 ms, `status` 20 ms.

use std::{
    cell::{Cell, RefCell},
    fs,
    hint::black_box,
    io::Write,
    path::{Path, PathBuf},
};

use conjured::{
    domain::{
        engine::event::ProjectId,
        fingerprint::Fingerprint,
        job::{Cause, Inputs, JobId, RequestId, artifact::ArtifactKind},
        money::{
            MicroUsd,
            budget::{BudgetLimits, BudgetWindows},
            job_cost::PriceTerms,
        },
        time::WallTime,
    },
    ledger::{
        Ledger,
        rows::{ArtifactRow, JobFilter, NewJob, ReleaseMode, SessionId, Timing},
    },
};
use criterion::{BatchSize, Criterion};

/// How many jobs the ledger of a busy year contains.
const JOBS: u64 = 10_000;

/// When the measured jobs are released: after all old jobs.
const NOW: WallTime = WallTime::from_unix_millis(1_900_000_000_000);

/// Milliseconds between two of the old jobs: all of them are within the month, so that its sum
/// covers as many as possible.
const PACE: i64 = 4 * 60 * 1000;

/// Midnight was twelve hours ago, the first of the month 30 days ago.
const WINDOWS: BudgetWindows = BudgetWindows {
    day_start: WallTime::from_unix_millis(NOW.unix_millis() - 12 * 3_600_000),
    month_start: WallTime::from_unix_millis(NOW.unix_millis() - 30 * 24 * 3_600_000),
};

/// Measures the ledger.
///
/// # Panics
///
/// If the temporary folder cannot be written.
pub(crate) fn benches(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("ledger.sqlite");
    fill(&path);
    // A separate file, because the measured commits leave thousands of unfinished jobs, which no
    // real start ever finds.
    let written = folder.path().join("written.sqlite");
    fs::copy(&path, &written).expect("a copy");
    commits(c, &written);
    starts(c, &path);
}

fn commits(c: &mut Criterion, path: &Path) {
    let mut group = c.benchmark_group("ledger/commit");
    let mut raw = fs::File::create(path.with_extension("raw")).expect("a file");
    group.bench_function("raw append of 4 KB and sync", |bencher| {
        bencher.iter(|| {
            raw.write_all(&[7; 4096]).expect("written");
            raw.sync_data().expect("synced");
        });
    });
    let mut ledger = Ledger::open(path).expect("the ledger opens");
    let session = ledger.begin_session("bench", NOW).expect("a session");
    let project = ledger.touch_project("/art", "art", NOW).expect("a project").id;
    let limits = BudgetLimits { per_month: MicroUsd::from_dollars(1e9), ..BudgetLimits::default() };
    let number = Cell::new(0_u64);
    let next = || {
        number.set(number.get() + 1);
        new_job(session, project, number.get())
    };
    group.bench_function("release and submitting mark, one commit", |bencher| {
        bencher.iter_batched(
            next,
            |job| {
                ledger.release(&job, &limits, &WINDOWS, ReleaseMode::Submitting).expect("released")
            },
            BatchSize::PerIteration,
        );
    });
    let request = RequestId::new("request-1").expect("a plain id");
    let ledger = RefCell::new(ledger);
    let released = || {
        let job = next();
        let limits = BudgetLimits::default();
        ledger
            .borrow_mut()
            .release(&job, &limits, &WINDOWS, ReleaseMode::Submitting)
            .expect("released");
        job.id
    };
    group.bench_function("request id received", |bencher| {
        bencher.iter_batched(
            released,
            |job| ledger.borrow_mut().submitted(job, &request, NOW).expect("submitted"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn starts(c: &mut Criterion, path: &Path) {
    let mut group = c.benchmark_group("ledger/10000 jobs");
    group.bench_function("open, recover, sums: what READY waits for", |bencher| {
        bencher.iter(|| {
            let mut ledger = Ledger::open(path).expect("the ledger opens");
            let session = ledger.begin_session("bench", NOW).expect("a session");
            black_box(ledger.touch_project("/art", "art", NOW).expect("a project"));
            black_box(ledger.mark_lost_answers(NOW).expect("marked"));
            black_box(ledger.unfinished().expect("rows"));
            black_box(ledger.spent(session, &WINDOWS).expect("sums"));
        });
    });
    group.bench_function("open read-only, newest 50, sums: status", |bencher| {
        bencher.iter(|| {
            let reader = Ledger::open_read_only(path).expect("the ledger opens");
            let filter = JobFilter { limit: Some(50), ..JobFilter::default() };
            black_box(reader.jobs(&filter).expect("rows"))
        });
    });
    let ledger = Ledger::open(path).expect("the ledger opens");
    group.bench_function("learned from the newest 50", |bencher| {
        let graph = Fingerprint::of(b"graph");
        bencher.iter(|| black_box(ledger.learned("serverless", &graph).expect("an answer")));
    });
    group.bench_function("newest 50", |bencher| {
        let filter = JobFilter { limit: Some(50), ..JobFilter::default() };
        bencher.iter(|| black_box(ledger.jobs(&filter).expect("rows")));
    });
    group.bench_function("every job", |bencher| {
        bencher.iter(|| black_box(ledger.jobs(&JobFilter::default()).expect("rows")));
    });
    group.finish();
}

fn new_job(session: SessionId, project: ProjectId, number: u64) -> NewJob {
    NewJob {
        id: JobId::from_parts(NOW, u128::from(number)),
        project,
        session,
        cause: Cause::Prompt,
        inputs: Inputs {
            prompt: Fingerprint::of(&number.to_le_bytes()),
            render: Fingerprint::of(b"render"),
        },
        prompt: "a chair in the shape of a carrot, soft light, white background".into(),
        workflow: "conjure_flux_mesh".into(),
        workflow_version: Fingerprint::of(b"graph"),
        body_digest: Fingerprint::of(&number.to_le_bytes()),
        body_bytes: 1,
        seed: Some(number),
        mesh_seed: Some(number),
        summary: serde_json::json!({
            "41": {"inputs": {"value": "a chair in the shape of a carrot, soft light"}},
            "25": {"inputs": {"noise_seed": number}}, "17": {"inputs": {"steps": 20}},
        }),
        mode: "serverless".into(),
        backend: "serverless".into(),
        deployment: Some("deployment-a".into()),
        retry_of: None,
        stands_in_for: None,
        cached_from: None,
        why: None,
        out: None,
        moves_baseline: true,
        reserve: MicroUsd::from_cents(35),
        terms: PriceTerms::default(),
        at: NOW,
    }
}

/// Fills a ledger: one job is completed with the real operations, and the others are copies of its
/// rows and events.
fn fill(path: &PathBuf) {
    let mut ledger = Ledger::open(path).expect("a new ledger");
    let session = ledger.begin_session("bench", NOW).expect("a session");
    let project = ledger.touch_project("/art", "art", NOW).expect("a project").id;
    let mut first = new_job(session, project, 0);
    first.id = JobId::from_parts(WallTime::default(), 0);
    first.at = WallTime::default();
    let job = first.id;
    ledger
        .release(&first, &BudgetLimits::default(), &WINDOWS, ReleaseMode::Submitting)
        .expect("released");
    let request = RequestId::new("request-0").expect("a plain id");
    ledger.submitted(job, &request, NOW).expect("submitted");
    ledger.running(job, Some("machine-a"), None, NOW).expect("running");
    let artifact = |kind: ArtifactKind| ArtifactRow {
        kind,
        path: format!("{job}/{kind}"),
        bytes: 3_000_000,
        blake3: Fingerprint::of(b"artifact"),
        vertices: None,
    };
    ledger.fetched(job, &ArtifactKind::ALL.map(artifact), NOW).expect("fetched");
    ledger.placing(job, NOW).expect("placing");
    ledger.placed(job, NOW).expect("placed");
    let second = std::time::Duration::from_secs(1);
    let timing = Timing { queue: Some(second), run: Some(second), cold: Some(false) };
    ledger.done(job, MicroUsd::from_cents(7), timing, NOW).expect("done");
    drop(ledger);
    let raw = rusqlite::Connection::open(path).expect("the file opens");
    raw.execute_batch(&format!(
        "BEGIN;
         PRAGMA defer_foreign_keys = ON;
         CREATE TEMP TABLE number AS
             WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < {JOBS} - 1)
             SELECT n FROM count;
         CREATE TEMP TABLE copy AS SELECT job.*, n FROM job, number;
         UPDATE copy SET id = printf('01%024d', n), created_at = {now} - {PACE} * n,
             ended_at = created_at, body_digest = randomblob(32);
         ALTER TABLE copy DROP COLUMN n;
         INSERT INTO event (job, at, kind, note) SELECT copy.id, at, kind, note FROM copy, event;
         CREATE TEMP TABLE tries AS SELECT attempt.*, copy.id AS other FROM copy, attempt;
         UPDATE tries SET job = other;
         ALTER TABLE tries DROP COLUMN other;
         CREATE TEMP TABLE things AS SELECT artifact.*, copy.id AS other FROM copy, artifact;
         UPDATE things SET job = other;
         ALTER TABLE things DROP COLUMN other;
         INSERT INTO job SELECT * FROM copy;
         INSERT INTO attempt SELECT * FROM tries;
         INSERT INTO artifact SELECT * FROM things;
         COMMIT;",
        now = NOW.unix_millis()
    ))
    .expect("copied");
}
