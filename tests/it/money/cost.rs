//! `conjured cost` as a person and a program read it.
//!
//! Owns its output formats and texts. The cost of a job is decided elsewhere: here ledgers are
//! written by hand.

use conjured::{
    domain::{
        engine::event::ProjectId,
        fingerprint::Fingerprint,
        job::{Cause, Inputs, JobId, JobState, RequestId},
        money::{
            MicroUsd,
            budget::{BudgetLimits, BudgetWindows},
            job_cost::PriceTerms,
        },
        time::WallTime,
    },
    ledger::{
        FILE, Ledger,
        rows::{Booking, NewJob, Reason, ReleaseMode, SessionId, Timing},
    },
};
use serde_json::Value;

use super::complaints;
use crate::support::stage::DemoProject;

/// The values of `--by`.
const WORDS: [&str; 7] = ["session", "day", "month", "project", "deployment", "mode", "workflow"];

/// Noon of 2024-03-05 UTC.
const NOON: i64 = 1_709_640_000_000;

const DAY: i64 = 24 * 3600 * 1000;

/// A ledger that is written by hand.
struct Books {
    ledger: Ledger,
    session: SessionId,
    jobs: u128,
}

impl Books {
    fn new(stage: &DemoProject) -> Self {
        std::fs::create_dir_all(stage.state_dir()).expect("makes");
        let mut ledger = Ledger::open(&stage.state_dir().join(FILE)).expect("a new ledger");
        let session = ledger.begin_session("test", at(0)).expect("a session");
        Self { ledger, session, jobs: 0 }
    }

    fn project(&mut self, name: &str) -> ProjectId {
        self.ledger.touch_project(&format!("/{name}"), name, at(0)).expect("a project").id
    }

    /// Releases a job of ten cents and takes it to `state`; one that ran cost four cents.
    fn add(&mut self, project: ProjectId, state: JobState, released: WallTime) -> JobId {
        self.jobs += 1;
        let job = new_job(self.session, project, self.jobs, released);
        let always = BudgetWindows { day_start: at(0), month_start: at(0) };
        let announce = if state == JobState::Prepared {
            ReleaseMode::PreparedOnly
        } else {
            ReleaseMode::Submitting
        };
        let Self { ledger, .. } = self;
        ledger.release(&job, &BudgetLimits::default(), &always, announce).expect("released");
        let (job, reason) = (job.id, Reason::new("10011", "a node raised"));
        let later =
            |seconds: i64| WallTime::from_unix_millis(released.unix_millis() + seconds * 1000);
        let cost = MicroUsd::from_cents(4);
        match state {
            JobState::Prepared | JobState::Submitting => {}
            JobState::Unknown => ledger.unknown(job, &reason, later(1)).expect("unknown"),
            _ => {
                let request = RequestId::new(&format!("request-{}", self.jobs)).expect("plain");
                ledger.submitted(job, &request, later(1)).expect("submitted");
                ledger.running(job, None, None, later(20)).expect("running");
                match state {
                    JobState::Running => {}
                    JobState::Failed => {
                        ledger.failed(job, &reason, Booking::AtMost(cost), later(40)).expect("it");
                    }
                    JobState::Cancelled => {
                        ledger.cancelled(job, &reason, Booking::Cost(cost), later(40)).expect("it");
                    }
                    JobState::Replaced => {
                        ledger.replaced(job, None, Booking::Cost(cost), later(40)).expect("it");
                    }
                    _ => {
                        ledger.outputs_known(job, &[], later(50), later(50)).expect("known");
                        ledger.fetched(job, &[], later(55)).expect("fetched");
                        ledger.placing(job, later(56)).expect("placing");
                        ledger.placed(job, later(57)).expect("placed");
                        ledger.done(job, cost, Timing::default(), later(60)).expect("done");
                    }
                }
            }
        }
        job
    }
}

fn at(millis: i64) -> WallTime {
    WallTime::from_unix_millis(NOON + millis)
}

fn new_job(session: SessionId, project: ProjectId, number: u128, at: WallTime) -> NewJob {
    let fingerprint = Fingerprint::of(&number.to_le_bytes());
    NewJob {
        id: JobId::from_parts(at, number),
        project,
        session,
        cause: Cause::Prompt,
        inputs: Inputs { prompt: fingerprint, render: fingerprint },
        prompt: "a carrot that is a chair".into(),
        workflow: "conjure_flux_mesh".into(),
        workflow_version: Fingerprint::of(b"graph"),
        body_digest: fingerprint,
        body_bytes: 1,
        seed: None,
        mesh_seed: None,
        summary: serde_json::json!({}),
        mode: "auto".into(),
        backend: "serverless".into(),
        deployment: Some("deployment-a".into()),
        retry_of: None,
        stands_in_for: None,
        cached_from: None,
        why: None,
        out: None,
        moves_baseline: false,
        reserve: MicroUsd::from_cents(10),
        terms: PriceTerms::default(),
        at,
    }
}

#[track_caller]
fn text(stage: &DemoProject, arguments: &[&str]) -> String {
    let output = stage.cli(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn before_the_first_job_there_is_nothing_and_that_is_no_fault() {
    let stage = DemoProject::new();
    for books in [false, true] {
        if books {
            drop(Books::new(&stage));
        }
        let output = stage.cli(&["cost"]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was spent"));
        let json = stage.json(&["cost", "--json"]);
        assert_eq!(
            (&json["schema"], &json["rows"], &json["total"]["jobs"]),
            (&1.into(), &Value::Array(Vec::new()), &0.into())
        );
        assert_eq!(text(&stage, &["cost", "--csv"]).matches("\r\n").count(), 1, "the header");
    }
    assert!(!stage.path("home").join(".local/state/conjured").exists(), "a question makes nothing");
}

#[test]
fn jobs_of_all_ends_are_counted_each_in_its_place() {
    let stage = DemoProject::new();
    let mut books = Books::new(&stage);
    let project = books.project("art");
    for (minute, state) in (0..).zip(JobState::ALL) {
        books.add(project, state, at(minute * 60_000));
    }
    let total = &stage.json(&["cost", "--json"])["total"];
    let number = |key: &str| total[key].as_i64().unwrap_or(-1);
    assert_eq!(number("jobs"), i64::try_from(JobState::ALL.len()).expect("few"));
    // `add` takes every other state that a job passes through to its successful end.
    assert_eq!((number("failed"), number("cancelled"), number("unknown")), (1, 2, 1));
    assert_eq!(number("done") + number("open") + 4, number("jobs"), "{total}");
    assert_eq!(number("open"), 3, "prepared, submitting, running");
    assert_eq!(number("reserved_microusd"), 4 * 100_000, "{total}");
    assert_eq!(number("booked_microusd"), (number("done") + 3) * 40_000, "{total}");
    assert_eq!(number("bounded_microusd"), 40_000, "the failed one ran unseen");

    let table = text(&stage, &["cost"]);
    let heads = ["day", "jobs", "done", "failed", "unknown", "booked", "reserved", "total", "≤"];
    for word in heads {
        assert!(table.contains(word), "{word} is missing:\n{table}");
    }
    assert!(!table.contains('\x1b'), "no colours where nobody looks");
}

#[test]
fn each_word_of_by_gives_rows_whose_sums_are_the_total() {
    let stage = DemoProject::new();
    let mut books = Books::new(&stage);
    let (art, craft) = (books.project("art"), books.project("craft"));
    for day in 0..40 {
        let project = if day % 3 == 0 { craft } else { art };
        books.add(project, JobState::Done, at(day * DAY));
    }
    books.session = books.ledger.begin_session("test", at(41 * DAY)).expect("another");
    books.add(art, JobState::Done, at(41 * DAY));
    for (word, rows) in WORDS.into_iter().zip([2, 41, 2, 2, 1, 1, 1]) {
        let json = stage.json(&["cost", "--by", word, "--json"]);
        let found = json["rows"].as_array().expect("rows");
        assert_eq!((found.len(), &json["by"]), (rows, &word.into()), "{word}");
        for key in ["jobs", "done", "booked_microusd"] {
            let sum: i64 = found.iter().filter_map(|row| row[key].as_i64()).sum();
            assert_eq!(Some(sum), json["total"][key].as_i64(), "{word} {key}");
        }
        let csv = text(&stage, &["cost", "--by", word, "--csv"]);
        assert_eq!(csv.matches("\r\n").count(), rows + 1, "{word}: {csv}");
        assert!(text(&stage, &["cost", "--by", word]).contains("total"));
    }
    assert_eq!(stage.cli(&["cost", "--by", "moon"]).status.code(), Some(64));
    assert_eq!(stage.cli(&["cost", "--json", "--csv"]).status.code(), Some(64));
}

#[test]
fn since_takes_a_day_or_a_span_and_refuses_rubbish() {
    let stage = DemoProject::new();
    let mut books = Books::new(&stage);
    let project = books.project("art");
    for day in 0..10 {
        books.add(project, JobState::Done, at(day * DAY));
    }
    let now = conjured::clock::Clock.now().wall;
    books.add(project, JobState::Done, now.minus(std::time::Duration::from_secs(5 * 24 * 3600)));
    let jobs =
        |since: &str| stage.json(&["cost", "--since", since, "--json"])["total"]["jobs"].clone();
    assert_eq!(jobs("2024-03-10"), 6, "five of the ten, and the new one");
    assert_eq!(jobs("2020-01-01"), 11);
    assert_eq!(jobs("7d"), 1);
    assert_eq!(jobs("1w"), 1);
    assert_eq!(jobs("24h"), 0);
    for rubbish in ["", "yesterday", "-7d", "7", "2026-02-30", "99999999999d", "7d7d", "٧d", "1e3h"]
    {
        let output = stage.cli(&["cost", &format!("--since={rubbish}")]);
        assert_eq!(output.status.code(), Some(64), "{rubbish:?}: {output:?}");
        assert!(output.stdout.is_empty(), "nothing beside the complaint");
    }
}

#[test]
fn the_csv_is_that_of_rfc_4180_whatever_a_project_is_called() {
    let stage = DemoProject::new();
    let mut books = Books::new(&stage);
    let names = ["plain", "a, b", "the \"big\" one", "two\nlines", "Größe\r\n", " =1+1"];
    for (minute, name) in (0..).zip(names) {
        let project = books.project(name);
        books.add(project, JobState::Done, at(minute * 60_000));
    }
    let csv = text(&stage, &["cost", "--by", "project", "--csv"]);
    let records = parse(&csv);
    let header = "key,jobs,done,failed,cancelled,unknown,open,success_rate,booked_usd,bounded_usd,reserved_usd,\
                  cost_per_result_usd,median_cold_s,median_warm_s,mean_rating,rated,machines,machines_usd";
    assert_eq!(records[0].join(","), header, "columns are only ever added at the end");
    let mut keys: Vec<&str> = records[1..].iter().map(|record| record[0].as_str()).collect();
    keys.sort_unstable();
    let mut wanted = names;
    wanted.sort_unstable();
    assert_eq!(keys, wanted);
    for record in &records[1..] {
        assert_eq!(record.len(), records[0].len(), "{record:?}");
        assert_eq!((record[1].as_str(), record[8].as_str()), ("1", "0.040000"));
    }
    let table = text(&stage, &["cost", "--by", "project"]);
    assert_eq!(table.lines().filter(|line| line.contains("two lines")).count(), 1, "{table}");
}

/// Parses RFC 4180 according to its grammar, and accepts nothing else.
fn parse(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut rest = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = rest.next() {
        match (quoted, c) {
            (true, '"') if rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            (true, '"') => quoted = false,
            (true, c) => field.push(c),
            (false, '"') => {
                assert!(field.is_empty(), "a quote within a bare field: {field}");
                quoted = true;
            }
            (false, ',') => record.push(std::mem::take(&mut field)),
            (false, '\r') => {
                assert_eq!(rest.next(), Some('\n'), "a bare carriage return");
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            (false, c) => {
                assert_ne!(c, '\n', "a bare line feed");
                field.push(c);
            }
        }
    }
    assert!(!quoted && field.is_empty() && record.is_empty(), "the last line has its end");
    records
}

#[test]
fn it_answers_while_a_daemon_writes() {
    let stage = DemoProject::new();
    let daemon = stage.start();
    for (number, message) in (1..=3_u64).zip(["a clay owl", "a clay fox", "a clay wolf"]) {
        stage.say(message);
        loop {
            let json = stage.json(&["cost", "--json"]);
            let total = &json["total"];
            let (done, jobs) = (total["done"].as_u64(), total["jobs"].as_u64());
            assert!(jobs <= Some(number), "{total}");
            let status = daemon.status().expect("it answers");
            assert!(complaints(&status).is_empty(), "the daemon is not hindered: {status:?}");
            if done == Some(number) {
                break;
            }
            assert_ne!(total["failed"], 1, "{total}");
            assert!(stage.jobs().len() <= usize::try_from(number).expect("few"));
        }
    }
    stage.done(3);
}
