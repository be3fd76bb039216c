//! What may be spent: boundaries of days, clocks that jump, warnings that are given once, prices
//! that rise before a submit, and concurrent writers that cannot spend the same cents.

use std::sync::Barrier;

use super::*;
use crate::{
    domain::money::budget::{BudgetRefusal, LimitKind, Spent, WarnedLimits},
    ledger::{
        error::StoreError,
        rows::{Booking, Reason},
    },
};

const HOUR: i64 = 3600;

/// Returns windows whose day began `seconds` after the tests did, and whose month began
/// long before.
fn day_since(seconds: i64) -> BudgetWindows {
    BudgetWindows { day_start: at(seconds), month_start: at(-40 * 24 * HOUR) }
}

fn a_day(limit: i64) -> BudgetLimits {
    BudgetLimits { per_day: Some(cents(limit)), ..BudgetLimits::default() }
}

/// Releases a job of ten cents.
#[track_caller]
fn try_release(
    fixture: &mut LedgerFixture,
    number: u64,
    when: WallTime,
    limits: &BudgetLimits,
    windows: &BudgetWindows,
) -> Result<Spent, BudgetRefusal> {
    let job = NewJob {
        id: JobId::from_parts(when, u128::from(number)),
        at: when,
        ..fixture.new_job(number)
    };
    match fixture.ledger.release(&job, limits, windows, ReleaseMode::Submitting) {
        Ok(released) => Ok(released.spent),
        Err(ReleaseError::Budget(refusal)) => Err(refusal),
        Err(ReleaseError::Ledger(error)) => panic!("{error}"),
    }
}

#[test]
fn a_day_s_limit_ends_with_the_day_and_not_a_moment_sooner() {
    // In most time zones midnight is a whole hour of UTC; in some it is not.
    for midnight in [0, 45 * 60, 1] {
        let mut fixture = LedgerFixture::new();
        let limits = a_day(10);
        let (yesterday, today) = (day_since(midnight - 24 * HOUR), day_since(midnight));
        let last = at(midnight).minus(Duration::from_millis(1));
        try_release(&mut fixture, 1, last, &limits, &yesterday).expect("the first");
        try_release(&mut fixture, 2, last, &limits, &yesterday).expect_err("still the same day");
        let spent =
            try_release(&mut fixture, 3, at(midnight), &limits, &today).expect("another day");
        assert_eq!((spent.day, spent.month), (cents(10), cents(20)), "the month goes on");
        try_release(&mut fixture, 4, at(midnight), &limits, &today).expect_err("spent as well");
    }
}

#[test]
fn a_clock_that_was_set_back_escapes_no_limit() {
    let mut fixture = LedgerFixture::new();
    let month = BudgetLimits { per_month: Some(cents(25)), ..a_day(15) };
    try_release(&mut fixture, 1, at(0), &month, &day_since(-HOUR)).expect("within");
    for back in [HOUR, 24 * HOUR, 31 * 24 * HOUR, 400 * 24 * HOUR] {
        let then =
            BudgetWindows { day_start: at(-back - HOUR), month_start: at(-back - 9 * 24 * HOUR) };
        let refusal = try_release(&mut fixture, 2, at(-back), &month, &then)
            .expect_err("what was spent in the future is spent");
        assert_eq!((refusal.limit, refusal.used), (LimitKind::Day, cents(10)), "{back} s back");
    }
    let session = BudgetLimits { per_session: Some(cents(15)), ..BudgetLimits::default() };
    let far = day_since(900 * 24 * HOUR);
    let refusal = try_release(&mut fixture, 3, at(900 * 24 * HOUR), &session, &far)
        .expect_err("a session knows no clock");
    assert_eq!(refusal.limit, LimitKind::Session);
}

#[test]
fn each_step_of_a_limit_is_told_once_on_the_way_to_it() {
    let mut fixture = LedgerFixture::new();
    let mut warned = WarnedLimits::default();
    let limits = a_day(100);
    let mut steps = Vec::new();
    for number in 1..=40 {
        let job = fixture.new_job(number);
        let Ok(released) =
            fixture.ledger.release(&job, &limits, &windows(), ReleaseMode::Submitting)
        else {
            break;
        };
        let news = warned.new_warnings(&limits, &windows(), &released.before, &released.spent);
        steps.extend(news.into_iter().map(|warning| (number, warning.percent)));
        if number % 2 == 0 {
            // It was cheaper than expected: the sum falls below a step that was already reported.
            let reason = Reason::new("x", "y");
            fixture.ledger.failed(job.id, &reason, Booking::Cost(cents(5)), at(9)).expect("failed");
        }
    }
    // 10, 20 → 15, 25, 35 → 30 … the sixth job reaches 50 and its booking falls below it again, the
    // tenth reaches 80.
    assert_eq!(steps, [(6, 50), (10, 80), (13, 100)]);
}

#[test]
fn a_request_that_leaves_later_leaves_at_the_price_of_then() {
    let mut fixture = LedgerFixture::new();
    let limits = BudgetLimits { per_session: Some(cents(40)), ..BudgetLimits::default() };
    let job = fixture.release(1, ReleaseMode::PreparedOnly);
    let other = fixture.release(2, ReleaseMode::Submitting);
    let seconds = Duration::from_secs;
    let terms =
        PriceTerms { cold_start: Some(seconds(240)), keep_warm: seconds(60), hourly: cents(250) };
    let leaving = |reserve| DelayedSubmit {
        job,
        session: fixture.session,
        reserve: cents(reserve),
        terms: Some(terms),
        at: at(900),
    };
    let (cheap, dear, too_dear) = (leaving(5), leaving(30), leaving(31));
    let before = fixture.ledger.details(job).expect("a story");

    match fixture.ledger.submitting(&too_dear, &limits, &windows()) {
        Err(ReleaseError::Budget(refusal)) => {
            assert_eq!((refusal.cost, refusal.used), (cents(31), cents(10)), "the other job's");
        }
        unexpected => panic!("{unexpected:?}"),
    }
    assert_eq!(fixture.ledger.details(job).expect("a story"), before, "a refusal leaves no trace");

    let released = fixture.ledger.submitting(&dear, &limits, &windows()).expect("fits exactly");
    assert_eq!((released.before.session, released.spent.session), (cents(20), cents(40)));
    let row = fixture.ledger.job(job).expect("a row");
    assert_eq!((row.reserved, row.terms), (cents(30), terms));

    fixture.ledger.not_sent(job, "no route", at(901)).expect("not sent");
    let released = fixture.ledger.submitting(&cheap, &limits, &windows()).expect("cheaper");
    assert_eq!(released.spent.session, cents(15), "the machine is awake: money is free again");

    fixture.ledger.not_sent(job, "no route", at(902)).expect("not sent");
    let nothing = BudgetLimits { per_session: Some(cents(1)), ..BudgetLimits::default() };
    fixture.ledger.submitting(&cheap, &nothing, &windows()).expect("what is reserved may be spent");
    fixture.ledger.check().expect("the sums are those of the jobs");
    assert_eq!(fixture.ledger.job(other).expect("a row").reserved, cents(10));
}

#[test]
fn racers_for_the_last_cents_never_cross_a_limit() {
    const ROUNDS: usize = 20;
    // Some fit only once; the last one is tried until nothing is left.
    let costs = [37, 23, 11, 5, 5, 1].map(cents);
    let mut fixture = LedgerFixture::new();
    let sessions: Vec<SessionId> = (0..ROUNDS)
        .map(|_| fixture.ledger.begin_session("test", at(0)).expect("a session"))
        .collect();
    let limits = BudgetLimits { per_session: Some(MicroUsd(1_000_003)), ..BudgetLimits::default() };
    let (path, project) = (fixture.path(), fixture.project);
    let start = Barrier::new(4);
    let race = |racer: u64| {
        let mut ledger = Ledger::open(&path).expect("a connection of its own");
        let mut number = racer * 1_000_000;
        for &session in &sessions {
            start.wait();
            let mut costs = costs.into_iter();
            let mut cost = costs.next();
            while let Some(reserve) = cost {
                number += 1;
                let job = NewJob { reserve, ..new_job(session, project, number) };
                match ledger.release(&job, &limits, &windows(), ReleaseMode::Submitting) {
                    Ok(released) => assert!(Some(released.spent.session) <= limits.per_session),
                    Err(ReleaseError::Budget(_)) => cost = costs.next(),
                    Err(ReleaseError::Ledger(LedgerError::Store(StoreError::Locked {
                        ..
                    }))) => {}
                    Err(ReleaseError::Ledger(error)) => panic!("{error}"),
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for racer in [1, 2, 3, 4] {
            scope.spawn(move || race(racer));
        }
    });
    for session in sessions {
        let spent = fixture.ledger.spent(session, &windows()).expect("sums").session;
        assert_eq!(spent, cents(100), "to the last cent, and not one more");
    }
    fixture.ledger.check().expect("the sums are those of the jobs");
}
