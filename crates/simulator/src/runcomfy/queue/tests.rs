//! Tests of the queue and the machines in virtual time.

use proptest::prelude::*;

use super::*;

const fn plan() -> QueueSettings {
    QueueSettings {
        cold_start: Duration::from_secs(200),
        warm_delay: Duration::from_secs(2),
        keep_warm: Duration::from_secs(60),
        max_instances: 1,
        queue_size: 1,
    }
}

const fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1000)
}

const RUN: Duration = Duration::from_secs(30);

fn ended(at: Moment, how: End) -> Phase {
    Phase::Ended { at, how }
}

#[test]
fn the_first_request_waits_for_the_cold_start_and_a_warm_one_does_not() {
    let mut queue = Queue::new(plan());
    let first = queue.submit(at(0), RUN, None);
    assert_eq!(queue.phase(first, at(199)), Phase::Waiting { position: 0 });
    assert_eq!(queue.instance(first), None);
    assert_eq!(queue.phase(first, at(200)), Phase::Running { ends: at(230) });
    assert!(queue.instance(first).is_some());
    assert_eq!(queue.phase(first, at(231)), ended(at(230), End::Natural));

    let second = queue.submit(at(289), RUN, None);
    assert_eq!(queue.phase(second, at(290)), Phase::Waiting { position: 0 });
    assert_eq!(queue.phase(second, at(291)), Phase::Running { ends: at(321) });
    assert_eq!(queue.instance(second), queue.instance(first), "the same machine");

    let third = queue.submit(at(400), RUN, None);
    assert_eq!(queue.phase(third, at(599)), Phase::Waiting { position: 0 }, "cold again");
    assert_ne!(queue.instance(third), queue.instance(first));
}

#[test]
fn keep_warm_is_booked_once_per_burst() {
    let mut queue = Queue::new(plan());
    queue.submit(at(0), RUN, None);
    queue.submit(at(10), RUN, None);
    let spans: Vec<_> = queue.spans(at(10_000)).collect();
    // 200 cold, 30, 2 between, 30, 60 idle.
    assert_eq!(spans, [Span { from: at(0), to: at(322) }]);
}

#[test]
fn each_request_has_its_own_cold_start_and_run_and_idling_is_nobodys() {
    let time = |cold, run| (Duration::from_secs(cold), Duration::from_secs(run));
    let mut queue = Queue::new(plan());
    let first = queue.submit(at(0), RUN, None);
    let second = queue.submit(at(10), RUN, None);
    assert_eq!(queue.charged_time(first, at(50)), time(50, 0), "so far");
    assert_eq!(queue.charged_time(first, at(999)), time(200, 30));
    assert_eq!(queue.charged_time(second, at(999)), time(0, 30));

    // One request is cancelled while the machine wakes, and another takes its place.
    let third = queue.submit(at(1000), RUN, None);
    queue.cancel(third, at(1050), None);
    let fourth = queue.submit(at(1060), RUN, None);
    assert_eq!(queue.charged_time(third, at(2000)), time(60, 0));
    assert_eq!(queue.charged_time(fourth, at(2000)), time(140, 30));

    // One request is cancelled and none follows: the machine wakes anyway.
    let fifth = queue.submit(at(3000), RUN, None);
    queue.cancel(fifth, at(3050), None);
    assert_eq!(queue.charged_time(fifth, at(4000)), time(200, 0));
}

#[test]
fn positions_count_down_to_zero() {
    let mut queue = Queue::new(plan());
    for _ in 0..4 {
        queue.submit(at(0), RUN, None);
    }
    assert_eq!(queue.phase(3, at(1)), Phase::Waiting { position: 3 });
    assert_eq!(queue.phase(3, at(201)), Phase::Waiting { position: 2 });
    assert_eq!(queue.phase(3, at(240)), Phase::Waiting { position: 1 });
    assert_eq!(queue.phase(3, at(270)), Phase::Waiting { position: 0 });
    assert_eq!(queue.phase(3, at(200 + 3 * 32)), Phase::Running { ends: at(326) });
}

#[test]
fn another_machine_starts_when_more_wait_than_the_queue_size() {
    let mut queue = Queue::new(QueueSettings { max_instances: 2, ..plan() });
    queue.submit(at(0), RUN, None);
    queue.submit(at(1), RUN, None);
    assert_eq!(queue.awake(at(1)), 1, "one more may wait");
    queue.submit(at(2), RUN, None);
    assert_eq!(queue.awake(at(2)), 2);
    for _ in 0..20 {
        queue.submit(at(3), RUN, None);
    }
    assert_eq!(queue.awake(at(3)), 2, "never more than allowed");

    let mut eager = Queue::new(QueueSettings { max_instances: 2, queue_size: 0, ..plan() });
    eager.submit(at(0), RUN, None);
    eager.submit(at(1), RUN, None);
    assert_eq!(eager.awake(at(1)), 2, "a second concurrent request, a second bill");
}

#[test]
fn a_waiting_request_is_cancelled_at_once_and_a_running_one_later() {
    let mut queue = Queue::new(plan());
    let running = queue.submit(at(0), RUN, None);
    let waiting = queue.submit(at(0), RUN, None);
    let grace = Some(Duration::from_secs(5));
    assert_eq!(queue.cancel(waiting, at(210), grace), Cancelled::Promised);
    assert_eq!(queue.phase(waiting, at(210)), ended(at(210), End::Cancelled));
    assert_eq!(queue.cancel(running, at(211), None), Cancelled::Refused);
    assert_eq!(queue.cancel(running, at(211), grace), Cancelled::Promised);
    assert_eq!(queue.phase(running, at(212)), Phase::Running { ends: at(216) });
    assert_eq!(queue.phase(running, at(217)), ended(at(216), End::Cancelled));
    assert_eq!(queue.cancel(running, at(218), grace), Cancelled::Refused);
    assert_eq!(queue.spans(at(999)).next(), Some(Span { from: at(0), to: at(276) }));
}

#[test]
fn a_run_that_ends_before_the_grace_completes_all_the_same() {
    let mut queue = Queue::new(plan());
    let number = queue.submit(at(0), RUN, None);
    queue.cancel(number, at(225), Some(Duration::from_secs(60)));
    assert_eq!(queue.phase(number, at(300)), ended(at(230), End::Natural));
}

#[test]
fn stuck_requests_stay_where_they_are_and_only_a_running_one_costs() {
    let mut queue = Queue::new(plan());
    let waits = queue.submit(at(0), RUN, Some(Stuck::InQueue));
    assert_eq!(queue.phase(waits, at(1_000_000)), Phase::Waiting { position: 0 });
    assert_eq!(queue.spans(at(1_000_000)).count(), 0);
    let runs = queue.submit(at(0), RUN, Some(Stuck::InProgress));
    assert!(matches!(queue.phase(runs, at(2_000_000)), Phase::Running { .. }));
    assert_eq!(queue.awake(at(2_000_000)), 1);
    queue.cancel(runs, at(2_000_000), Some(Duration::ZERO));
    assert_eq!(queue.phase(runs, at(2_000_000)), ended(at(2_000_000), End::Cancelled));
}

#[test]
fn disabling_ends_everything_and_stops_the_meter() {
    let mut queue = Queue::new(plan());
    queue.submit(at(0), RUN, None);
    queue.submit(at(0), RUN, None);
    queue.disable(at(210));
    for number in 0..2 {
        assert_eq!(queue.phase(number, at(500)), ended(at(210), End::Disabled));
    }
    assert_eq!(queue.spans(at(900)).collect::<Vec<_>>(), [Span { from: at(0), to: at(210) }]);
}

proptest! {
    /// In any order of events, every request ends, no phase goes backwards, and no machine stays
    /// awake forever.
    #[test]
    fn everything_ends_and_nothing_goes_backwards(
        steps in prop::collection::vec((0_u64..400, 0_u64..90, any::<bool>()), 1..40),
        max_instances in 0_u32..4,
        queue_size in 0_u32..3,
        keep_warm in 0_u64..100,
    ) {
        let keep_warm = Duration::from_secs(keep_warm);
        let mut queue = Queue::new(QueueSettings { keep_warm, max_instances, queue_size, ..plan() });
        let mut now = 0;
        let mut ranks = vec![0; steps.len()];
        for (number, (pause, run, cancel)) in steps.iter().enumerate() {
            now += pause;
            let new = queue.submit(at(now), Duration::from_secs(*run), None);
            prop_assert_eq!(new, number);
            if *cancel {
                queue.cancel(number / 2, at(now), Some(Duration::from_secs(1)));
            }
            prop_assert!(queue.awake(at(now)) <= max_instances.max(1) as usize);
            for (earlier, rank) in ranks.iter_mut().enumerate().take(number + 1) {
                let next = match queue.phase(earlier, at(now)) {
                    Phase::Waiting { .. } => 0,
                    Phase::Running { .. } => 1,
                    Phase::Ended { .. } => 2,
                };
                prop_assert!(next >= *rank);
                *rank = next;
            }
        }
        let end = at(now + 100_000);
        for number in 0..steps.len() {
            let over = matches!(queue.phase(number, end), Phase::Ended { .. });
            prop_assert!(over);
        }
        prop_assert_eq!(queue.awake(end), 0);
    }
}
