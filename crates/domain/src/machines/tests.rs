//! The life cycle of a machine as tables: each action and when it is due, and what must
//! never happen.

use proptest::prelude::*;

use super::*;

const RULES: ServerRules = ServerRules {
    idle_stop: Duration::from_secs(300),
    start: Duration::from_secs(900),
    max_run: Duration::from_secs(3600),
};

const RUN: Duration = Duration::from_secs(200);

fn s(seconds: u64) -> Moment {
    Moment::from_millis(1_000_000_000 + seconds * 1000)
}

fn id(text: &str) -> ServerId {
    ServerId::new(text).expect("plain")
}

/// Launched at 0, known to the service at 1, ready at 100 and reported so at once; it stops
/// automatically at 1400.
fn ready() -> Lifecycle {
    let mut lifecycle = Lifecycle::launching(s(0));
    lifecycle.record_leased(RUN);
    lifecycle.record_started(s(1));
    lifecycle.record_status(s(98), ReportedStage::Starting, None, None);
    lifecycle.record_status(s(100), ReportedStage::Ready, Some(s(1400)), Some(Duration::ZERO));
    lifecycle
}

fn idle_from(at: u64) -> Lifecycle {
    let mut lifecycle = ready();
    lifecycle.record_released(s(at));
    lifecycle
}

#[test]
fn each_stage_does_what_it_must_and_when() {
    let mut failed = ready();
    failed.record_status(s(200), ReportedStage::Failed, None, None);
    let mut elsewhere = ready();
    elsewhere.record_status(s(200), ReportedStage::Ending, None, None);
    let mut starting = Lifecycle::launching(s(0));
    starting.record_leased(RUN);
    starting.record_started(s(1));
    let mut slow = starting.clone();
    slow.record_status(s(897), ReportedStage::Starting, None, None);
    let mut stopping = ready();
    stopping.record_stopping();
    let mut refused = stopping.clone();
    refused.record_failure(s(200), 1.0, None);
    let mut gone = ready();
    gone.record_gone();
    let table = [
        (
            "a launch without an answer is looked for",
            Lifecycle::launching(s(0)),
            0,
            Ok(Action::List),
        ),
        ("what starts is asked about at once", starting.clone(), 1, Ok(Action::CheckStatus)),
        ("and every three seconds", slow.clone(), 898, Err(s(900))),
        (
            "what is not ready in time is stopped",
            slow,
            900,
            Ok(Action::Stop(StopReason::NeverReady)),
        ),
        ("what works is left alone for a minute", ready(), 101, Err(s(160))),
        ("and asked then", ready(), 160, Ok(Action::CheckStatus)),
        ("idle, not long enough", idle_from(155), 156, Err(s(160))),
        ("idle for long enough", idle_from(120), 420, Ok(Action::Stop(StopReason::Idle))),
        ("what fails is stopped", failed, 200, Ok(Action::Stop(StopReason::Failed))),
        (
            "what others stop is stopped for certain",
            elsewhere,
            200,
            Ok(Action::Stop(StopReason::StoppedExternally)),
        ),
        (
            "the ceiling holds with a job at work",
            ready(),
            3700,
            Ok(Action::Stop(StopReason::MaxRun)),
        ),
        ("a stop is sent at once", stopping, 100, Ok(Action::Delete)),
        ("and again after a while", refused.clone(), 201, Err(s(202))),
        ("for as long as it takes", refused, 202, Ok(Action::Delete)),
        ("what is gone is gone", gone, 9999, Err(NEVER)),
    ];
    for (name, lifecycle, at, wanted) in table {
        assert_eq!(lifecycle.next(s(at), &RULES), wanted, "{name}");
    }
}

#[test]
fn a_machine_is_kept_longer_only_while_it_is_wanted_and_never_beyond_the_ceiling() {
    let busy = ready();
    assert_eq!(busy.next(s(1280), &RULES), Ok(Action::Extend(s(1280 + 200 + 300))));
    // Idle: its idle time ends before the end that the service has planned.
    let mut idle = ready();
    idle.record_status(s(1250), ReportedStage::Ready, None, None);
    idle.record_released(s(1000));
    assert_eq!(idle.next(s(1280), &RULES), Err(s(1300)), "only the idle stop is waited for");
    // Near the maximum run time (3700) that is the end, and it stays there.
    let mut late = ready();
    late.record_extended(s(3200), s(3300));
    assert_eq!(late.next(s(3250), &RULES), Ok(Action::Extend(s(3700))));
    late.record_extended(s(3250), s(3700));
    late.record_status(s(3690), ReportedStage::Ready, Some(s(3700)), None);
    assert_eq!(late.next(s(3695), &RULES), Err(s(3700)));
    assert!(late.warning(s(3650), &RULES).expect("a warning").contains("in 50 s"));
    assert_eq!(late.warning(s(1000), &RULES), None);
    assert!(!late.can_serve(s(3600), &RULES, RUN), "too little time is left for another job");
    assert!(ready().can_serve(s(200), &RULES, RUN));
}

#[test]
fn what_is_unknown_right_after_its_launch_is_waited_for_and_later_it_is_gone() {
    let mut young = Lifecycle::launching(s(0));
    young.record_started(s(1));
    for at in [2, 30, 89] {
        young.record_unlisted(s(at));
        assert_eq!(young.stage, MachineStage::Starting, "{at}");
    }
    young.record_unlisted(s(95));
    assert_eq!(young.stage, MachineStage::Gone);

    let mut slip = ready();
    slip.record_unlisted(s(200));
    assert_eq!(slip.stage, MachineStage::Ready, "one answer may be a slip");
    assert_eq!(slip.next(s(203), &RULES), Ok(Action::CheckStatus), "it is asked again soon");
    slip.record_status(s(203), ReportedStage::Ready, None, None);
    slip.record_unlisted(s(300));
    assert_eq!(slip.stage, MachineStage::Ready);
    slip.record_unlisted(s(306));
    assert_eq!(slip.stage, MachineStage::Gone);

    let mut stopping = ready();
    stopping.record_stopping();
    stopping.record_unlisted(s(300));
    assert_eq!(stopping.stage, MachineStage::Gone);
}

#[test]
fn a_lost_launch_is_searched_for_until_it_is_clear() {
    let mut lifecycle = Lifecycle::launching(s(0));
    for at in [5, 8] {
        lifecycle.record_search(s(at), &LaunchSearch::NotFound);
        assert_eq!(lifecycle.next(s(at + 3), &RULES), Ok(Action::List));
    }
    lifecycle.record_search(s(50), &LaunchSearch::NotFound);
    assert_eq!(lifecycle.next(s(55), &RULES), Ok(Action::List), "too early to give it up");
    assert_eq!(lifecycle.next(s(60), &RULES), Ok(Action::LaunchFailed));

    let mut unclear = Lifecycle::launching(s(0));
    unclear.record_search(s(5), &LaunchSearch::Ambiguous(vec![id("a"), id("b")]));
    assert_eq!(unclear.stage, MachineStage::Lost);
    assert_eq!(unclear.next(s(10), &RULES), Err(s(65)));
    unclear.record_search(s(65), &LaunchSearch::NotFound);
    assert_eq!(unclear.stage, MachineStage::Gone, "they are not there any more");
}

#[test]
fn billing_begins_at_the_reported_ready_time_or_else_at_the_last_poll_before_it() {
    let ready_at = |reported: Option<u64>| {
        let mut lifecycle = Lifecycle::launching(s(0));
        lifecycle.record_started(s(1));
        lifecycle.record_status(s(50), ReportedStage::Starting, None, None);
        lifecycle.record_status(
            s(120),
            ReportedStage::Ready,
            None,
            reported.map(Duration::from_secs),
        );
        (lifecycle.ready, lifecycle.ready_is_exact)
    };
    assert_eq!(ready_at(Some(30)), (Some(s(90)), true));
    assert_eq!(ready_at(None), (Some(s(50)), false), "nobody saw it: the longer time");
    assert_eq!(ready_at(Some(500)), (Some(s(50)), false), "it was seen starting after that");
    // An earlier session launched it and died; this one sees it ready.
    let mut resumed = Lifecycle::resume(MachineStage::Starting, s(0));
    resumed.record_status(s(500), ReportedStage::Ready, None, Some(Duration::from_secs(100)));
    assert_eq!((resumed.ready, resumed.ready_is_exact), (Some(s(400)), true));
}

#[test]
fn only_what_is_certain_is_taken_for_ours() {
    let seen = |name: &str, kind: Option<&str>, version: Option<&str>| ListedMachine {
        id: id(name),
        server_type: kind.map(str::to_owned),
        workflow_version: version.map(str::to_owned),
        is_ending: false,
    };
    let ours = || seen("new", Some("Large"), Some("v"));
    let find = |listed: &[ListedMachine]| find_launched_machine(listed, &[id("old")], "large", "v");
    assert_eq!(find(&[]), LaunchSearch::NotFound);
    assert_eq!(
        find(&[seen("old", Some("large"), Some("v"))]),
        LaunchSearch::NotFound,
        "it was there before"
    );
    assert_eq!(
        find(&[seen("new", Some("medium"), Some("v"))]),
        LaunchSearch::NotFound,
        "another type"
    );
    assert_eq!(
        find(&[seen("new", Some("large"), Some("w"))]),
        LaunchSearch::NotFound,
        "another workflow"
    );
    assert_eq!(find(&[ListedMachine { is_ending: true, ..ours() }]), LaunchSearch::NotFound);
    assert_eq!(find(&[ours(), seen("old", None, None)]), LaunchSearch::Found(id("new")));
    assert_eq!(
        find(&[seen("new", None, None)]),
        LaunchSearch::Found(id("new")),
        "the list tells little"
    );
    assert_eq!(
        find(&[ours(), seen("person", None, None)]),
        LaunchSearch::Ambiguous(vec![id("new"), id("person")])
    );
}

#[test]
fn words_of_the_service_are_read_in_any_case_and_new_ones_are_waited_on() {
    for (text, wanted) in [
        ("Starting", (ReportedStage::Starting, true)),
        ("initializing", (ReportedStage::Starting, true)),
        (" READY ", (ReportedStage::Ready, true)),
        ("Deleting", (ReportedStage::Ending, true)),
        ("Stopping", (ReportedStage::Ending, true)),
        ("Error", (ReportedStage::Failed, true)),
        ("Hibernating", (ReportedStage::Starting, false)),
    ] {
        assert_eq!(ReportedStage::read(text), wanted, "{text}");
    }
}

#[test]
fn the_services_id_is_shown_cut_because_the_address_follows_from_it() {
    let server = id("0123456789abcdef");
    assert_eq!(server.to_string(), "01234567…");
    assert_eq!(format!("{server:?}"), "01234567…");
    assert_eq!(server.as_str(), "0123456789abcdef");
    assert_eq!(ServerId::new("a/b"), None);
}

proptest! {
    /// Whatever the service answers and however calls fail: no machine is kept beyond its maximum
    /// run time, none idles longer than allowed, and none may take forever to become ready.
    #[test]
    fn every_life_ends(steps in proptest::collection::vec((0_u8..8, 1_u64..400), 1..120)) {
        let mut lifecycle = Lifecycle::launching(s(0));
        lifecycle.record_leased(RUN);
        lifecycle.record_started(s(1));
        let mut at = 1;
        for (what, wait) in steps {
            at += wait;
            let now = s(at);
            match what {
                0 => lifecycle.record_status(now, ReportedStage::Starting, None, None),
                1 | 2 => lifecycle.record_status(now, ReportedStage::Ready, Some(s(at + 130)), None),
                3 => lifecycle.record_failure(now, 0.5, None),
                4 => lifecycle.record_released(now),
                5 => lifecycle.record_leased(RUN),
                6 => lifecycle.record_extended(now, s(at + 600)),
                _ => lifecycle.record_unlisted(now),
            }
            if let (Ok(Action::Extend(until)), Some(ceiling)) =
                (lifecycle.next(now, &RULES), lifecycle.max_run_end(&RULES))
            {
                prop_assert!(until <= ceiling);
            }
            // Called again at the moment that it returned, it decides.
            if let Err(next) = lifecycle.next(now, &RULES) {
                prop_assert!(lifecycle.stage == MachineStage::Gone || next <= now.plus(Duration::from_secs(901)));
            }
            if matches!(lifecycle.stage, MachineStage::Starting | MachineStage::Ready) {
                let over = [
                    lifecycle.max_run_end(&RULES),
                    lifecycle.idle_since.map(|since| since.plus(RULES.idle_stop)),
                    (lifecycle.stage == MachineStage::Starting).then(|| lifecycle.launched.plus(RULES.start)),
                ];
                if over.into_iter().flatten().any(|end| now >= end) {
                    prop_assert!(matches!(lifecycle.next(now, &RULES), Ok(Action::Stop(_))));
                }
            }
        }
    }
}
