//! Simulates polling for jobs of every length, with and without learned times, and counts calls
//! and lateness.

use proptest::prelude::*;

use super::*;

const PACE: PollInterval =
    PollInterval { min: Duration::from_millis(250), max: Duration::from_secs(5) };

/// The cost of following one job: status calls until the end was seen, and the delay after the end.
#[derive(Debug)]
struct Followed {
    calls: u32,
    late: Duration,
}

/// Simulates a job that waits for `queue`, runs for `run`, and whose answers take `answer` each.
fn follow(
    queue: Duration,
    run: Duration,
    expected: Option<DurationSpread>,
    answer: Duration,
) -> Followed {
    let end = queue + run;
    let (mut now, mut calls, mut seen_running) = (Duration::ZERO, 0, None);
    loop {
        let stage = match seen_running {
            None => PollStage::Queued { age: now },
            Some(since) => PollStage::Running { age: now.saturating_sub(since), expected },
        };
        now += PACE.next_poll(stage);
        let asked = now;
        now += answer;
        calls += 1;
        if asked >= end {
            return Followed { calls, late: now.saturating_sub(end) };
        }
        if asked >= queue && seen_running.is_none() {
            seen_running = Some(now);
        }
    }
}

/// Simulates jobs whose lengths are within one second around `run`. Returns the median delay and
/// the most calls.
fn follow_many(
    queue: Duration,
    run: Duration,
    expected: Option<DurationSpread>,
) -> (Duration, u32) {
    let runs: Vec<Followed> = (0..100)
        .map(|n| run.saturating_sub(Duration::from_secs(1)) + Duration::from_millis(n * 20))
        .map(|run| follow(queue, run, expected, Duration::from_millis(5)))
        .collect();
    let mut late: Vec<Duration> = runs.iter().map(|followed| followed.late).collect();
    late.sort_unstable();
    (late[50], runs.iter().map(|followed| followed.calls).max().unwrap_or(0))
}

fn spread(p10: u64, median: u64, p90: u64) -> DurationSpread {
    let seconds = Duration::from_secs;
    DurationSpread { p10: seconds(p10), median: seconds(median), p90: seconds(p90), samples: 9 }
}

#[test]
fn each_kind_of_job_is_seen_soon_after_its_end_for_few_calls() {
    // Queue and run in milliseconds, learned times, then the limits: median delay in milliseconds
    // and number of calls.
    let table = [
        // The product's requirement: half a minute, at most 40 calls, with and without
        // learned times.
        ("30 s, first job ever", 500, 29_500, None, 460, 40),
        ("30 s, a short queue", 3_000, 27_000, None, 460, 40),
        ("30 s, like all before", 500, 29_500, Some(spread(29, 30, 31)), 260, 40),
        ("30 s, runs differ a lot", 500, 29_500, Some(spread(20, 30, 45)), 460, 40),
        ("a minute, first job ever", 500, 60_000, None, 1_000, 80),
        ("a minute, like all before", 500, 60_000, Some(spread(57, 60, 63)), 400, 50),
        ("usual cold start, first job ever", 240_000, 45_000, None, 700, 190),
        ("usual cold start, known run", 240_000, 45_000, Some(spread(43, 45, 47)), 400, 170),
        ("half as long as before", 500, 15_000, Some(spread(29, 30, 31)), 1_200, 40),
        ("twice as long as before", 500, 60_000, Some(spread(29, 30, 31)), 1_400, 90),
        ("a quarter of an hour", 500, 900_000, None, 4_500, 300),
        ("over at once", 0, 1_100, None, 450, 5),
    ];
    let millis = Duration::from_millis;
    let table = table.map(|(name, queue, run, known, late, calls)| {
        let followed = follow_many(millis(queue), millis(run), known);
        (name, followed, (millis(late), calls))
    });
    for (name, (late, calls), (late_bar, calls_bar)) in table {
        assert!(late <= late_bar && calls <= calls_bar, "{name}: {late:?} late, {calls} calls");
    }
}

#[test]
fn the_window_of_the_expected_end_begins_with_a_call() {
    let expected = Some(spread(30, 30, 30));
    let wait = PACE.next_poll(PollStage::Running { age: Duration::from_secs(26), expected });
    assert_eq!(wait, Duration::from_secs(1), "the window opens at 27 s");
}

#[test]
fn the_last_wait_before_the_window_is_never_below_the_minimum() {
    let expected = Some(spread(30, 30, 30));
    let wait = PACE.next_poll(PollStage::Running { age: Duration::from_millis(26_999), expected });
    assert_eq!(wait, PACE.min);
}

#[test]
fn a_slow_answer_does_not_repeat_the_quick_calls() {
    let followed =
        follow(Duration::from_secs(60), Duration::from_secs(1), None, Duration::from_secs(3));
    assert!(followed.calls <= 20, "{followed:?}");
}

#[test]
fn a_maximum_below_the_minimum_gives_way() {
    let pace = PollInterval::new(Duration::from_secs(3), Duration::from_secs(1));
    let wait = pace.next_poll(PollStage::Queued { age: Duration::ZERO });
    assert_eq!(wait, Duration::from_secs(3));
}

proptest! {
    #[test]
    fn no_stage_breaks_the_bounds(
        min in 1_u64..10_000,
        max in 1_u64..60_000,
        age: Duration,
        samples: Vec<Duration>,
        running: bool,
    ) {
        let pace = PollInterval::new(Duration::from_millis(min), Duration::from_millis(max));
        let expected = DurationSpread::of(samples.clone());
        let stage = if running { PollStage::Running { age, expected } } else { PollStage::Queued { age } };
        let wait = pace.next_poll(stage);
        prop_assert!((pace.min..=pace.max).contains(&wait));
    }
}
