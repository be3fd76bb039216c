//! The life cycle of a machine as tables: each action and when it is due, and what must
//! never happen.

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
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
fn ready() -> Life {
    let mut life = Life::launching(s(0));
    life.taken(RUN);
    life.started(s(1));
    life.told(s(98), Word::Starting, None, None);
    life.told(s(100), Word::Ready, Some(s(1400)), Some(Duration::ZERO));
    life
}

fn idle_from(at: u64) -> Life {
    let mut life = ready();
    life.left(s(at));
    life
}

#[test]
fn each_stage_does_what_it_must_and_when() {
    let mut failed = ready();
    failed.told(s(200), Word::Failed, None, None);
    let mut elsewhere = ready();
    elsewhere.told(s(200), Word::Ending, None, None);
    let mut starting = Life::launching(s(0));
    starting.taken(RUN);
    starting.started(s(1));
    let mut slow = starting.clone();
    slow.told(s(897), Word::Starting, None, None);
    let mut stopping = ready();
    stopping.stopping();
    let mut refused = stopping.clone();
    refused.failed(s(200), 1.0, None);
    let mut gone = ready();
    gone.gone();
    let table = [
        ("a launch without an answer is looked for", Life::launching(s(0)), 0, Ok(Act::List)),
        ("what starts is asked about at once", starting.clone(), 1, Ok(Act::Ask)),
        ("and every three seconds", slow.clone(), 898, Err(s(900))),
        ("what is not ready in time is stopped", slow, 900, Ok(Act::Stop(Why::NeverReady))),
        ("what works is left alone for a minute", ready(), 101, Err(s(160))),
        ("and asked then", ready(), 160, Ok(Act::Ask)),
        ("idle, not long enough", idle_from(155), 156, Err(s(160))),
        ("idle for long enough", idle_from(120), 420, Ok(Act::Stop(Why::Idle))),
        ("what fails is stopped", failed, 200, Ok(Act::Stop(Why::Failed))),
        ("what others stop is stopped for certain", elsewhere, 200, Ok(Act::Stop(Why::Elsewhere))),
        ("the ceiling holds with a job at work", ready(), 3700, Ok(Act::Stop(Why::Ceiling))),
        ("a stop is sent at once", stopping, 100, Ok(Act::Delete)),
        ("and again after a while", refused.clone(), 201, Err(s(202))),
        ("for as long as it takes", refused, 202, Ok(Act::Delete)),
        ("what is gone is gone", gone, 9999, Err(NEVER)),
    ];
    for (name, life, at, wanted) in table {
        assert_eq!(life.next(s(at), &RULES), wanted, "{name}");
    }
}

#[test]
fn a_machine_is_kept_longer_only_while_it_is_wanted_and_never_beyond_the_ceiling() {
    let busy = ready();
    assert_eq!(busy.next(s(1280), &RULES), Ok(Act::Extend(s(1280 + 200 + 300))));
    // Idle: its idle time ends before the end that the service has planned.
    let mut idle = ready();
    idle.told(s(1250), Word::Ready, None, None);
    idle.left(s(1000));
    assert_eq!(idle.next(s(1280), &RULES), Err(s(1300)), "only the idle stop is waited for");
    // Near the maximum run time (3700) that is the end, and it stays there.
    let mut late = ready();
    late.extended(s(3200), s(3300));
    assert_eq!(late.next(s(3250), &RULES), Ok(Act::Extend(s(3700))));
    late.extended(s(3250), s(3700));
    late.told(s(3690), Word::Ready, Some(s(3700)), None);
    assert_eq!(late.next(s(3695), &RULES), Err(s(3700)));
    assert!(late.warning(s(3650), &RULES).expect("a warning").contains("in 50 s"));
    assert_eq!(late.warning(s(1000), &RULES), None);
    assert!(!late.serves(s(3600), &RULES, RUN), "too little time is left for another job");
    assert!(ready().serves(s(200), &RULES, RUN));
}

#[test]
fn what_is_unknown_right_after_its_launch_is_waited_for_and_later_it_is_gone() {
    let mut young = Life::launching(s(0));
    young.started(s(1));
    for at in [2, 30, 89] {
        young.unknown_there(s(at));
        assert_eq!(young.stage, Stage::Starting, "{at}");
    }
    young.unknown_there(s(95));
    assert_eq!(young.stage, Stage::Gone);

    let mut slip = ready();
    slip.unknown_there(s(200));
    assert_eq!(slip.stage, Stage::Ready, "one answer may be a slip");
    assert_eq!(slip.next(s(203), &RULES), Ok(Act::Ask), "it is asked again soon");
    slip.told(s(203), Word::Ready, None, None);
    slip.unknown_there(s(300));
    assert_eq!(slip.stage, Stage::Ready);
    slip.unknown_there(s(306));
    assert_eq!(slip.stage, Stage::Gone);

    let mut stopping = ready();
    stopping.stopping();
    stopping.unknown_there(s(300));
    assert_eq!(stopping.stage, Stage::Gone);
}

#[test]
fn a_lost_launch_is_searched_for_until_it_is_clear() {
    let mut life = Life::launching(s(0));
    for at in [5, 8] {
        life.searched(s(at), &Found::None);
        assert_eq!(life.next(s(at + 3), &RULES), Ok(Act::List));
    }
    life.searched(s(50), &Found::None);
    assert_eq!(life.next(s(55), &RULES), Ok(Act::List), "too early to give it up");
    assert_eq!(life.next(s(60), &RULES), Ok(Act::NeverCame));

    let mut unclear = Life::launching(s(0));
    unclear.searched(s(5), &Found::Unclear(vec![id("a"), id("b")]));
    assert_eq!(unclear.stage, Stage::Lost);
    assert_eq!(unclear.next(s(10), &RULES), Err(s(65)));
    unclear.searched(s(65), &Found::None);
    assert_eq!(unclear.stage, Stage::Gone, "they are not there any more");
}

#[test]
fn billing_begins_at_the_reported_ready_time_or_else_at_the_last_poll_before_it() {
    let ready_at = |told: Option<u64>| {
        let mut life = Life::launching(s(0));
        life.started(s(1));
        life.told(s(50), Word::Starting, None, None);
        life.told(s(120), Word::Ready, None, told.map(Duration::from_secs));
        (life.ready, life.ready_seen)
    };
    assert_eq!(ready_at(Some(30)), (Some(s(90)), true));
    assert_eq!(ready_at(None), (Some(s(50)), false), "nobody saw it: the longer time");
    assert_eq!(ready_at(Some(500)), (Some(s(50)), false), "it was seen starting after that");
    // An earlier session launched it and died; this one sees it ready.
    let mut resumed = Life::at(Stage::Starting, s(0));
    resumed.told(s(500), Word::Ready, None, Some(Duration::from_secs(100)));
    assert_eq!((resumed.ready, resumed.ready_seen), (Some(s(400)), true));
}

#[test]
fn only_what_is_certain_is_taken_for_ours() {
    let seen = |name: &str, kind: Option<&str>, version: Option<&str>| Seen {
        id: id(name),
        server_type: kind.map(str::to_owned),
        workflow_version: version.map(str::to_owned),
        is_ending: false,
    };
    let ours = || seen("new", Some("Large"), Some("v"));
    let find = |listed: &[Seen]| which_is_ours(listed, &[id("old")], "large", "v");
    assert_eq!(find(&[]), Found::None);
    assert_eq!(find(&[seen("old", Some("large"), Some("v"))]), Found::None, "it was there before");
    assert_eq!(find(&[seen("new", Some("medium"), Some("v"))]), Found::None, "another type");
    assert_eq!(find(&[seen("new", Some("large"), Some("w"))]), Found::None, "another workflow");
    assert_eq!(find(&[Seen { is_ending: true, ..ours() }]), Found::None);
    assert_eq!(find(&[ours(), seen("old", None, None)]), Found::Ours(id("new")));
    assert_eq!(find(&[seen("new", None, None)]), Found::Ours(id("new")), "the list tells little");
    assert_eq!(
        find(&[ours(), seen("person", None, None)]),
        Found::Unclear(vec![id("new"), id("person")])
    );
}

#[test]
fn words_of_the_service_are_read_in_any_case_and_new_ones_are_waited_on() {
    for (text, wanted) in [
        ("Starting", (Word::Starting, true)),
        ("initializing", (Word::Starting, true)),
        (" READY ", (Word::Ready, true)),
        ("Deleting", (Word::Ending, true)),
        ("Stopping", (Word::Ending, true)),
        ("Error", (Word::Failed, true)),
        ("Hibernating", (Word::Starting, false)),
    ] {
        assert_eq!(Word::read(text), wanted, "{text}");
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
        let mut life = Life::launching(s(0));
        life.taken(RUN);
        life.started(s(1));
        let mut at = 1;
        for (what, wait) in steps {
            at += wait;
            let now = s(at);
            match what {
                0 => life.told(now, Word::Starting, None, None),
                1 | 2 => life.told(now, Word::Ready, Some(s(at + 130)), None),
                3 => life.failed(now, 0.5, None),
                4 => life.left(now),
                5 => life.taken(RUN),
                6 => life.extended(now, s(at + 600)),
                _ => life.unknown_there(now),
            }
            if let (Ok(Act::Extend(until)), Some(ceiling)) =
                (life.next(now, &RULES), life.ceiling(&RULES))
            {
                prop_assert!(until <= ceiling);
            }
            // Called again at the moment that it returned, it decides.
            if let Err(next) = life.next(now, &RULES) {
                prop_assert!(life.stage == Stage::Gone || next <= now.plus(Duration::from_secs(901)));
            }
            if matches!(life.stage, Stage::Starting | Stage::Ready) {
                let over = [
                    life.ceiling(&RULES),
                    life.idle_since.map(|since| since.plus(RULES.idle_stop)),
                    (life.stage == Stage::Starting).then(|| life.launched.plus(RULES.start)),
                ];
                if over.into_iter().flatten().any(|end| now >= end) {
                    prop_assert!(matches!(life.next(now, &RULES), Ok(Act::Stop(_))));
                }
            }
        }
    }
}
