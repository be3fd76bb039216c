//! The breaker as a table: events at given seconds, and what a caller may do afterwards.

use proptest::prelude::*;

use super::*;

const fn at(seconds: u64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn call(breaker: &mut Breaker, second: u64) -> Option<u64> {
    breaker
        .record_failure(at(second), FailureKind::Call, "HTTP 500", 1.0, None)
        .map(|wait| wait.as_secs())
}

fn run(breaker: &mut Breaker, second: u64) -> Option<u64> {
    breaker
        .record_failure(at(second), FailureKind::Run, "10007", 1.0, None)
        .map(|wait| wait.as_secs())
}

/// An event; after each one, the next caller asks for a permit in the same second.
#[derive(Debug)]
enum Step {
    /// A call fails.
    Fails,
    /// The service loses a run.
    Loses,
    /// A call that costs nothing gets an answer.
    Answers,
    /// A submit is accepted.
    Takes,
    /// A run ends well.
    Runs,
    /// No event.
    Asks,
}

/// Second, event, and the permit that the next caller gets.
type Course = &'static [(u64, Step, BreakerPermit)];

const CASES: [(&str, Course); 9] = {
    use BreakerPermit::{Probe, Proceed, Wait};
    use Step::{Answers, Asks, Fails, Loses, Runs, Takes};
    [
        (
            "two failures are an accident",
            &[
                (0, Fails, Proceed),
                (1, Fails, Proceed),
                (2, Takes, Proceed),
                (3, Fails, Proceed),
                (4, Fails, Proceed),
            ],
        ),
        (
            "three are not",
            &[
                (0, Fails, Proceed),
                (1, Fails, Proceed),
                (2, Fails, Wait(at(12))),
                (11, Asks, Wait(at(12))),
                (12, Asks, Probe),
            ],
        ),
        (
            "only one caller probes at a time",
            &[
                (0, Fails, Proceed),
                (0, Fails, Proceed),
                (0, Fails, Wait(at(10))),
                (10, Asks, Probe),
                (11, Asks, Wait(at(70))),
                (70, Asks, Probe),
            ],
        ),
        (
            "a failed probe waits longer",
            &[
                (0, Fails, Proceed),
                (0, Fails, Proceed),
                (0, Fails, Wait(at(10))),
                (10, Asks, Probe),
                (11, Fails, Wait(at(31))),
                (31, Asks, Probe),
                (32, Fails, Wait(at(72))),
            ],
        ),
        (
            "a good probe closes it",
            &[
                (0, Fails, Proceed),
                (0, Fails, Proceed),
                (0, Fails, Wait(at(10))),
                (10, Asks, Probe),
                (11, Answers, Proceed),
            ],
        ),
        (
            "on trial one failure is enough, and the wait has grown",
            &[
                (0, Fails, Proceed),
                (0, Fails, Proceed),
                (0, Fails, Wait(at(10))),
                (10, Asks, Probe),
                (11, Answers, Proceed),
                (12, Fails, Wait(at(32))),
            ],
        ),
        (
            "after a success it takes three again, and the wait is short",
            &[
                (0, Fails, Proceed),
                (0, Fails, Proceed),
                (0, Fails, Wait(at(10))),
                (10, Asks, Probe),
                (11, Answers, Proceed),
                (12, Takes, Proceed),
                (13, Fails, Proceed),
                (13, Fails, Proceed),
                (13, Fails, Wait(at(23))),
            ],
        ),
        (
            "lost runs count although each was taken and followed",
            &[
                (0, Loses, Proceed),
                (1, Takes, Proceed),
                (2, Answers, Proceed),
                (3, Loses, Proceed),
                (4, Takes, Proceed),
                (5, Loses, Wait(at(15))),
                (15, Asks, Probe),
                (15, Answers, Proceed),
                (16, Takes, Proceed),
                (17, Loses, Wait(at(37))),
            ],
        ),
        (
            "one good run is enough",
            &[
                (0, Loses, Proceed),
                (0, Loses, Proceed),
                (0, Runs, Proceed),
                (0, Loses, Proceed),
                (0, Loses, Proceed),
            ],
        ),
    ]
};

#[test]
fn three_in_a_row_open_it_a_probe_closes_it_on_trial_and_a_success_resets_it() {
    use Step::{Answers, Asks, Fails, Loses, Runs, Takes};
    for (name, steps) in CASES {
        let mut breaker = Breaker::default();
        for (second, step, expected) in steps {
            match step {
                Fails => drop(call(&mut breaker, *second)),
                Loses => drop(run(&mut breaker, *second)),
                Answers => drop(breaker.record_probe_success()),
                Takes => drop(breaker.record_accepted()),
                Runs => drop(breaker.record_run()),
                Asks => {}
            }
            assert_eq!(
                breaker.request_permit(at(*second), false),
                *expected,
                "{name}: {step:?} at {second} s"
            );
        }
    }
}

#[test]
fn what_fails_while_it_is_open_neither_prolongs_nor_repeats_the_news() {
    let mut breaker = Breaker::default();
    let news: Vec<_> = (0..10).map(|second| call(&mut breaker, second)).collect();
    assert_eq!(news[2], Some(10));
    assert_eq!(news.iter().flatten().count(), 1);
    assert_eq!(breaker.request_permit(at(12), false), BreakerPermit::Probe);
}

#[test]
fn the_wait_grows_to_five_minutes_and_a_service_may_ask_for_more() {
    let mut breaker = Breaker::default();
    let mut waits = Vec::new();
    let mut now = 0;
    for _ in 0..12 {
        if let Some(wait) = call(&mut breaker, now) {
            waits.push(wait);
            now += wait;
            assert_eq!(breaker.request_permit(at(now), false), BreakerPermit::Probe);
        }
    }
    assert_eq!(waits[..7], [10, 20, 40, 80, 160, 300, 300]);
    let asked = Some(Duration::from_secs(400));
    assert_eq!(breaker.record_failure(at(now), FailureKind::Call, "HTTP 503", 0.0, asked), asked);
}

#[test]
fn a_person_does_not_wait_to_probe() {
    let mut breaker = Breaker::default();
    for _ in 0..3 {
        call(&mut breaker, 0);
    }
    assert_eq!(breaker.request_permit(at(1), false), BreakerPermit::Wait(at(10)));
    assert_eq!(breaker.request_permit(at(1), true), BreakerPermit::Probe);
    assert_eq!(
        breaker.request_permit(at(1), true),
        BreakerPermit::Wait(at(61)),
        "one probe is enough"
    );
}

proptest! {
    #[test]
    fn no_wait_exceeds_the_cap_and_none_is_endless(
        steps in prop::collection::vec((0_u8..6, 0_u64..100_000, 0.0..1.0_f64, prop::option::of(any::<u64>())), 0..60),
    ) {
        let (mut breaker, mut now) = (Breaker::default(), Moment::default());
        for (what, millis, random, asked) in steps {
            now = now.plus(Duration::from_millis(millis));
            let asked = asked.map(Duration::from_secs);
            match what {
                0 => drop(breaker.record_failure(now, FailureKind::Call, "x", random, asked)),
                1 => drop(breaker.record_failure(now, FailureKind::Run, "x", random, asked)),
                2 => drop(breaker.record_probe_success()),
                3 => drop(breaker.record_accepted()),
                4 => drop(breaker.record_run()),
                _ => drop(breaker.request_permit(now, false)),
            }
            if let BreakerPermit::Wait(until) = breaker.clone().request_permit(now, false) {
                prop_assert!(until > now);
                prop_assert!(until.since(now) <= crate::job::backoff::RETRY_AFTER_CAP);
                prop_assert_ne!(breaker.clone().request_permit(until, false), BreakerPermit::Wait(until));
            }
        }
    }
}
