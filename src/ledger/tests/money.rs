//! What is reserved, booked and used for estimates. The `budget` tests cover what may be spent.

use proptest::prelude::*;

use super::*;
use crate::{
    domain::money::{
        budget::{LimitKind, Spent},
        estimate::MachineActivity,
        job_cost::{DurationRange, ObservedTimes, PriceTerms},
    },
    ledger::{
        error::ReleaseError,
        rows::{Booking, JobFilter, JobRow, Reason, RunEnd},
    },
};

fn spent(fixture: &LedgerFixture) -> MicroUsd {
    fixture.ledger.spent(fixture.session, &windows()).expect("sums").session
}

#[test]
fn a_refused_job_leaves_no_trace() {
    let mut fixture = LedgerFixture::new();
    let limits = BudgetLimits { per_session: Some(cents(15)), ..BudgetLimits::default() };
    let (first, second) = (fixture.new_job(1), fixture.new_job(2));
    fixture.ledger.release(&first, &limits, &windows(), ReleaseMode::Submitting).expect("fits");
    match fixture.ledger.release(&second, &limits, &windows(), ReleaseMode::Submitting) {
        Err(ReleaseError::Budget(refusal)) => {
            assert_eq!((refusal.limit, refusal.used), (LimitKind::Session, cents(10)));
        }
        other => panic!("{other:?}"),
    }
    assert!(fixture.ledger.job(second.id).is_err());
    assert_eq!(spent(&fixture), cents(10));
    let row = fixture.project_row();
    assert_eq!(row.baseline_prompt, Some(first.inputs.prompt));
}

#[test]
fn each_sum_counts_its_own_window() {
    let mut fixture = LedgerFixture::new();
    for number in [10, 20, 30] {
        fixture.release(number, ReleaseMode::PreparedOnly);
    }
    let next = fixture.ledger.begin_session("test", at(40)).expect("a session");
    let job = new_job(next, fixture.project, 50);
    fixture
        .ledger
        .release(&job, &BudgetLimits::default(), &windows(), ReleaseMode::PreparedOnly)
        .expect("released");
    let windows = BudgetWindows { day_start: at(30), month_start: at(20) };
    let sums = fixture.ledger.spent(next, &windows).expect("sums");
    assert_eq!(sums, Spent { session: cents(10), day: cents(20), month: cents(30) });
}

#[test]
fn an_end_books_what_is_known_and_keeps_the_reservation_where_nothing_is() {
    let reason = Reason::new("x", "y");
    let ended = |end: &dyn Fn(&mut Ledger, JobId), announce| {
        let mut fixture = LedgerFixture::new();
        let job = fixture.release(1, announce);
        end(&mut fixture.ledger, job);
        spent(&fixture)
    };
    let hot = ReleaseMode::Submitting;
    let fail = |booking| {
        let reason = reason.clone();
        move |ledger: &mut Ledger, job| {
            ledger.failed(job, &reason, booking, at(2)).expect("failed");
        }
    };
    assert_eq!(ended(&fail(Booking::Cost(cents(3))), hot), cents(3));
    assert_eq!(ended(&fail(Booking::Reserved), hot), cents(10));
    assert_eq!(ended(&fail(Booking::Nothing), hot), cents(0));
    let never_sent = ReleaseMode::PreparedOnly;
    assert_eq!(ended(&fail(Booking::Reserved), never_sent), cents(0), "nothing ever left");
    let replace = |ledger: &mut Ledger, job| {
        ledger.replaced(job, None, Booking::Reserved, at(2)).expect("replaced");
    };
    assert_eq!(ended(&replace, never_sent), cents(0));
    let lose = |ledger: &mut Ledger, job| {
        ledger.unknown(job, &reason, at(2)).expect("unknown");
    };
    assert_eq!(ended(&lose, hot), cents(10), "it may run");
}

#[test]
fn a_person_can_settle_an_unknown_job() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::Submitting);
    fixture.ledger.unknown(job, &Reason::new("timeout", "cut"), at(2)).expect("unknown");
    let word = Reason::new("person", "it never ran");
    fixture.ledger.cancelled(job, &word, Booking::Nothing, at(3)).expect("settled");
    assert_eq!(spent(&fixture), cents(0));
}

#[test]
fn times_are_learned_from_the_newest_successes_of_the_same_backend_and_workflow() {
    let mut fixture = LedgerFixture::new();
    let graph = fixture.new_job(1).workflow_version;
    assert_eq!(fixture.ledger.learned("serverless", &graph).expect("an answer").run, None);
    for number in 1..=60 {
        fixture.finish(number, duration_of(number, 100 + number, number % 10 == 0));
    }
    let failed = fixture.release(61, ReleaseMode::Submitting);
    let reason = Reason::new("10011", "x");
    fixture.ledger.failed(failed, &reason, Booking::Nothing, at(9)).expect("failed");

    let learned = fixture.ledger.learned("serverless", &graph).expect("an answer");
    let (run, cold) = (learned.run.expect("runs"), learned.cold.expect("cold starts"));
    assert_eq!((run.samples, cold.samples), (50, 6), "fifty runs, but every cold start");
    assert_eq!(learned.queue.expect("warm waits").samples, 50);
    assert_eq!(fixture.ledger.learned("comfyui", &graph).expect("an answer").run, None);
    let other = Fingerprint::of(b"another graph");
    assert_eq!(fixture.ledger.learned("serverless", &other).expect("an answer").run, None);
}

#[test]
fn a_machine_is_active_from_its_first_sign_until_its_run_is_over() {
    let mut fixture = LedgerFixture::new();
    let activity =
        |fixture: &LedgerFixture| fixture.ledger.last_activity("deployment-a").expect("an answer");
    assert_eq!(activity(&fixture), MachineActivity::Never);
    let job = fixture.release(1, ReleaseMode::Submitting);
    fixture.ledger.submitted(job, &request(1), at(2)).expect("submitted");
    assert_eq!(activity(&fixture), MachineActivity::Never, "it waits in the queue");
    fixture.ledger.running(job, None, None, at(3)).expect("running");
    assert_eq!(activity(&fixture), MachineActivity::Now);
    fixture.ledger.outputs_known(job, &[], at(70), at(75)).expect("outputs known");
    assert_eq!(
        activity(&fixture),
        MachineActivity::Until(at(70)),
        "the machine's end, not our noticing"
    );
    fixture.ledger.fetched(job, &[], at(80)).expect("fetched");
    assert_eq!(activity(&fixture), MachineActivity::Until(at(70)));
    assert_eq!(
        fixture.ledger.last_activity("deployment-b").expect("an answer"),
        MachineActivity::Never
    );
}

#[test]
fn a_failed_run_warms_its_machine_too() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::Submitting);
    fixture.ledger.submitted(job, &request(1), at(2)).expect("submitted");
    fixture.ledger.running(job, None, None, at(3)).expect("running");
    let reason = Reason::new("10011", "a node raised");
    fixture.ledger.failed(job, &reason, Booking::Cost(cents(2)), at(50)).expect("failed");
    let activity = fixture.ledger.last_activity("deployment-a").expect("an answer");
    assert_eq!(activity, MachineActivity::Until(at(50)));
}

#[test]
fn a_sum_that_disagrees_with_its_jobs_is_found() {
    let mut fixture = LedgerFixture::new();
    fixture.release(1, ReleaseMode::PreparedOnly);
    fixture.ledger.check().expect("sound");
    fixture.ledger.connection.execute("UPDATE tally SET spent = 0", []).expect("tampered");
    let error = fixture.ledger.check().expect_err("money is missing").to_string();
    assert!(error.contains("0.1000 USD"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The stored sums equal the sums of the jobs, whatever was booked and wherever a
    /// window begins.
    #[test]
    fn kept_sums_are_the_sums_of_the_jobs(
        jobs in prop::collection::vec((0_u64..200_000, prop::option::of(0_i64..50)), 1..8),
        day in 0_i64..200_000, month in 0_i64..200_000,
    ) {
        let mut fixture = LedgerFixture::new();
        let other = fixture.ledger.begin_session("test", at(0)).expect("a session");
        for (number, (when, cost)) in jobs.into_iter().enumerate() {
            let mut job = fixture.new_job(when);
            job.id = JobId::from_parts(at(0), number as u128);
            job.session = if number % 3 == 0 { other } else { fixture.session };
            let hot = ReleaseMode::Submitting;
            fixture.ledger.release(&job, &BudgetLimits::default(), &windows(), hot).expect("released");
            if let Some(cost) = cost {
                let booking = Booking::Cost(MicroUsd(cost));
                fixture.ledger.failed(job.id, &Reason::new("x", "y"), booking, at(1)).expect("failed");
            }
        }
        let windows = BudgetWindows { day_start: at(day), month_start: at(month) };
        let rows = fixture.ledger.jobs(&JobFilter::default()).expect("rows");
        let since = |start| -> MicroUsd {
            rows.iter().filter(|row| row.created_at >= start).map(JobRow::spent).sum()
        };
        let session = rows.iter().filter(|row| row.session == other).map(JobRow::spent).sum();
        let expected = Spent { session, day: since(at(day)), month: since(at(month)) };
        prop_assert_eq!(fixture.ledger.spent(other, &windows).expect("sums"), expected);
        fixture.ledger.check().expect("sound");
    }
}

#[test]
fn what_was_seen_of_a_run_outlives_the_session_and_makes_its_bill() {
    let seconds = Duration::from_secs;
    let terms = PriceTerms { cold_start: None, keep_warm: seconds(60), hourly: cents(3600) };
    let waited = Some(DurationRange { min: seconds(3), max: seconds(5) });
    let mut fixture = LedgerFixture::new();
    let job = NewJob { terms, ..fixture.new_job(1) };
    let announce = ReleaseMode::Submitting;
    fixture.ledger.release(&job, &BudgetLimits::default(), &windows(), announce).expect("released");
    fixture.ledger.submitted(job.id, &request(1), at(1)).expect("submitted");
    fixture.ledger.running(job.id, None, waited, at(6)).expect("running");
    let later = Some(DurationRange { min: seconds(0), max: seconds(9000) });
    fixture.ledger.running(job.id, Some("another"), later, at(9000)).expect("again");
    assert_eq!(
        fixture.ledger.job(job.id).expect("a row").job_cost().0,
        Booking::Reserved,
        "not over yet"
    );

    let times = ObservedTimes { reported: Some(seconds(40)), ..ObservedTimes::default() };
    let end = RunEnd { at: at(42), observed: times };
    fixture.ledger.outputs_known(job.id, &[remote_file()], end, at(42)).expect("known");
    let copy = fixture.folder.path().join("after-a-kill.sqlite");
    copy_as_after_a_kill(&fixture.path(), &copy, None);
    let ledger = Ledger::open(&copy).expect("opens");
    let row = ledger.job(job.id).expect("a row");
    assert_eq!((row.terms, row.observed), (terms, ObservedTimes { waited, ..times }));
    let (booking, timing) = row.job_cost();
    assert_eq!(
        booking,
        Booking::Cost(cents(37 + 60)),
        "from the last look at the queue, and idling"
    );
    assert_eq!(
        timing,
        Timing { queue: waited.map(|w| w.max), run: Some(seconds(35)), cold: Some(false) }
    );
}
