//! The handoff as a table of cases: states of the file with their times in, decisions with
//! theirs out.

use std::{path::Path, time::Duration};

use super::{
    decide::{HandoffChannel, HandoffFlow, HandoffRules, HandoffStep, HandoffWait, StateRead},
    *,
};
use crate::time::{Moment, WallTime};

fn job(number: u128) -> JobId {
    JobId::from_parts(WallTime::from_unix_millis(1_700_000_000_000), number)
}

const FOLDER: &str = "/c/results";

fn ticket() -> HandoffTicket {
    HandoffTicket::new(job(1), 0, Path::new(FOLDER)).expect("a good folder")
}

/// Builds a state from four words: `app command path mark`, where `-` is null and `mine`, `staged`,
/// `older`, `other` say whose path or marker it is.
fn look(message: &str) -> StateRead {
    let [app, command, path, mark] = message.split_whitespace().collect::<Vec<_>>()[..] else {
        return match message {
            "missing" => StateRead::Missing,
            "torn" => StateRead::Unreadable("it is empty".to_owned()),
            other => unreachable!("{other}"),
        };
    };
    let ours = |number| HandoffTicket::new(job(number), 0, Path::new(FOLDER)).expect("good");
    let some = |word: &str| (word != "-").then(|| word.to_owned());
    StateRead::State(ConjureState {
        app_status: some(app),
        command: some(command).map(|c| if c == "import" { COMMAND.to_owned() } else { c }),
        mesh_path: match path {
            "mine" => Some(ours(1).path()),
            "older" => Some(ours(2).path()),
            word => some(word),
        },
        marker: match mark {
            "mine" => Some(ours(1).mark()),
            "staged" => Some(ours(1).staged_mark()),
            "older" => Some(ours(2).mark()),
            word => some(word),
        },
        command_misplaced: false,
        ..ConjureState::default()
    })
}

fn say(next: &HandoffStep) -> String {
    let channel = |channel: &HandoffChannel| match channel {
        HandoffChannel::Api => "api",
        HandoffChannel::File => "file",
    };
    match next {
        HandoffStep::Wait(_, waiting) => match waiting {
            HandoffWait::Busy(command) => {
                format!("wait busy {}", command.replace(COMMAND, "import"))
            }
            HandoffWait::Unreadable(_) => "wait unreadable".to_owned(),
            HandoffWait::Unreachable(_) => "wait unreachable".to_owned(),
            other => format!("wait {other:?}").to_lowercase(),
        },
        HandoffStep::Stage(way) => format!("stage {}", channel(way)),
        HandoffStep::Request(way) => format!("ask {}", channel(way)),
        HandoffStep::Taken => "taken".to_owned(),
        HandoffStep::GiveUp { waiting, requested: asked } => {
            let what = format!("{waiting:?}").to_lowercase();
            format!(
                "give up {}{}",
                what.split('(').next().unwrap_or_default(),
                if *asked { ", asked" } else { "" }
            )
        }
    }
}

struct Case {
    name: &'static str,
    rules: HandoffRules,
    /// `(milliseconds, state of the file, decision)`.
    steps: &'static [(u64, &'static str, &'static str)],
}

fn by_file() -> HandoffRules {
    HandoffRules { api: false, ..HandoffRules::default() }
}

fn insisting() -> HandoffRules {
    HandoffRules { force: true, ..by_file() }
}

#[expect(clippy::too_many_lines, reason = "one table")]
fn cases() -> Vec<Case> {
    let case = |name, rules, steps| Case { name, rules, steps };
    vec![
        case(
            "the plain road by the file",
            by_file(),
            &[
                (0, "running - - -", "stage file"),
                (5, "running - mine staged", "wait settling"),
                (130, "running - mine staged", "ask file"),
                (140, "running import mine mine", "wait untaken"),
                (170, "running - mine mine", "taken"),
            ],
        ),
        case(
            "the API goes first, and is believed when the mark appears in our file",
            HandoffRules::default(),
            &[
                (0, "running - - -", "stage api"),
                (5, "running - - -", "wait settling"),
                (300, "running - mine staged", "wait settling"),
                (430, "running - mine staged", "ask api"),
                (450, "running - mine mine", "taken"),
            ],
        ),
        case(
            "an API of another checkout is never given the command",
            HandoffRules::default(),
            &[
                (0, "running - - -", "stage api"),
                (400, "running - - -", "wait settling"),
                (510, "running - - -", "stage file"),
                (515, "running - mine staged", "wait settling"),
                (700, "running - mine staged", "ask file"),
            ],
        ),
        case("nobody at home: placed and done", by_file(), &[(0, "missing", "give up nostate")]),
        case(
            "a launcher that has stopped is not told",
            by_file(),
            &[(0, "shutting_down - - -", "give up notrunning")],
        ),
        case(
            "a state without a status is not told",
            by_file(),
            &[(0, "- - - -", "give up notrunning")],
        ),
        case(
            "a launcher that starts is waited for",
            by_file(),
            &[(0, "initializing - - -", "wait starting"), (9000, "running - - -", "stage file")],
        ),
        case(
            "who insists writes without a launcher, but not without a file",
            insisting(),
            &[(0, "missing", "wait nostate"), (1000, "- - - -", "stage file")],
        ),
        case(
            "who insists does not wait for ever",
            insisting(),
            &[(0, "missing", "wait nostate"), (60_000, "missing", "give up nostate")],
        ),
        case(
            "what cannot be parsed is never written over",
            by_file(),
            &[
                (0, "torn", "wait unreadable"),
                (30_000, "torn", "wait unreadable"),
                (60_000, "torn", "give up unreadable"),
            ],
        ),
        case(
            "another's command is waited for",
            by_file(),
            &[
                (0, "running fuse_mesh - -", "wait busy fuse_mesh"),
                (500, "running import /x.glb -", "wait busy import"),
                (900, "running - /x.glb -", "stage file"),
            ],
        ),
        case(
            "another's command comes between",
            by_file(),
            &[
                (0, "running - - -", "stage file"),
                (5, "running - mine staged", "wait settling"),
                (50, "running fuse_mesh mine staged", "wait busy fuse_mesh"),
                (300, "running - mine staged", "wait settling"),
                (430, "running - mine staged", "ask file"),
            ],
        ),
        case(
            "a command that stays is not waited for without end",
            by_file(),
            &[
                (0, "running fuse_mesh - -", "wait busy fuse_mesh"),
                (60_000, "running fuse_mesh - -", "give up busy"),
            ],
        ),
        case(
            "another's mesh under our mark is not ours",
            by_file(),
            &[
                (0, "running import /x.glb mine", "wait busy import"),
                (100, "running - /x.glb mine", "stage file"),
            ],
        ),
        case(
            "what was staged and is gone is staged again",
            by_file(),
            &[
                (0, "running - - -", "stage file"),
                (5, "running - mine staged", "wait settling"),
                (50, "running - - -", "stage file"),
                (60, "running - mine staged", "wait settling"),
                (120, "running - mine staged", "wait settling"),
                (190, "running - mine staged", "ask file"),
            ],
        ),
        case(
            "what was asked and is gone is asked again, after a while",
            by_file(),
            &[
                (0, "running - mine staged", "wait settling"),
                (120, "running - mine staged", "ask file"),
                (140, "running - mine staged", "wait overwritten"),
                (4000, "running - mine staged", "wait overwritten"),
                (4140, "running - mine staged", "wait settling"),
                (4260, "running - mine staged", "ask file"),
                (4280, "running import mine mine", "wait untaken"),
                (4300, "running - mine mine", "taken"),
            ],
        ),
        case(
            "an import that was under way puts the mark back",
            by_file(),
            &[
                (0, "running - mine staged", "wait settling"),
                (120, "running - mine staged", "ask file"),
                (140, "running - - -", "wait overwritten"),
                (3000, "running - mine mine", "taken"),
            ],
        ),
        case(
            "a launcher that stops takes the request along",
            by_file(),
            &[
                (0, "running - mine staged", "wait settling"),
                (120, "running - mine staged", "ask file"),
                (500, "stopped - - -", "give up notrunning"),
            ],
        ),
        case(
            "a request that nobody takes is left lying",
            by_file(),
            &[
                (0, "running import mine mine", "wait untaken"),
                (60_000, "running import mine mine", "give up untaken, asked"),
            ],
        ),
        case(
            "after a crash a request that was taken is taken",
            by_file(),
            &[(0, "running - mine mine", "taken")],
        ),
        case(
            "after a crash a request that lies there is not repeated",
            by_file(),
            &[
                (0, "running import mine mine", "wait untaken"),
                (40, "running - mine mine", "taken"),
            ],
        ),
        case(
            "an older job's request makes room when nobody takes it",
            by_file(),
            &[
                (0, "running import older older", "wait busy an older mesh of conjured"),
                (4900, "running import older older", "wait busy an older mesh of conjured"),
                (5000, "running import older older", "ask file"),
                (5050, "running import mine mine", "wait untaken"),
            ],
        ),
        case(
            "an older job's request that is taken in time is taken",
            by_file(),
            &[
                (0, "running import older older", "wait busy an older mesh of conjured"),
                (100, "running - older older", "stage file"),
            ],
        ),
    ]
}

#[test]
fn every_case_of_the_table_holds() {
    for case in cases() {
        let mut flow = HandoffFlow::new(case.rules, ticket());
        for (millis, message, expected) in case.steps {
            let next = flow.next(Moment::from_millis(1_000_000 + millis), &look(message));
            assert_eq!(say(&next), *expected, "{} at {millis}: {message}", case.name);
        }
    }
}

#[test]
fn asking_again_is_bounded() {
    let mut flow = HandoffFlow::new(by_file(), ticket());
    let mut now = Moment::from_millis(1);
    let mut asks = 0;
    let end = loop {
        match flow.next(now, &look("running - mine staged")) {
            HandoffStep::Request(_) => asks += 1,
            end @ HandoffStep::GiveUp { .. } => break end,
            _ => {}
        }
        now = now.plus(Duration::from_millis(100));
        assert!(now < Moment::from_millis(600_000), "it ends");
    };
    assert_eq!(asks, by_file().max_requests);
    assert_eq!(say(&end), "give up overwritten");
}

#[test]
fn a_call_without_an_answer_is_called_back_before_the_file_is_used() {
    let mut flow = HandoffFlow::new(HandoffRules::default(), ticket());
    let at = Moment::from_millis;
    assert_eq!(flow.next(at(1), &look("running - - -")), HandoffStep::Stage(HandoffChannel::Api));
    flow.record_unanswered();
    let before = flow.ticket().path();
    assert_eq!(
        flow.next(at(5000), &look("running - - -")),
        HandoffStep::Stage(HandoffChannel::File)
    );
    assert_ne!(flow.ticket().path(), before, "the late call names a file that is gone");
    // The late call is carried out after all: its marker proves nothing.
    let late = flow.next(at(5100), &look("running - mine mine"));
    assert_eq!(late, HandoffStep::Stage(HandoffChannel::File));
}

#[test]
fn a_call_without_an_answer_that_was_carried_out_is_not_repeated() {
    let mut flow = HandoffFlow::new(HandoffRules::default(), ticket());
    let at = Moment::from_millis;
    assert!(matches!(flow.next(at(1), &look("running - mine staged")), HandoffStep::Wait(..)));
    assert_eq!(
        flow.next(at(200), &look("running - mine staged")),
        HandoffStep::Request(HandoffChannel::Api)
    );
    flow.record_unanswered();
    assert_eq!(flow.next(at(5300), &look("running - mine mine")), HandoffStep::Taken);
}

#[test]
fn without_an_api_only_the_api_way_waits_and_ends() {
    let rules = HandoffRules { file: false, force: true, ..HandoffRules::default() };
    let mut flow = HandoffFlow::new(rules, ticket());
    let mut now = Moment::from_millis(1);
    let end = loop {
        if let HandoffStep::Stage(channel) = flow.next(now, &look("running - - -")) {
            assert_eq!(channel, HandoffChannel::Api, "the file is not ours to write");
        }
        match flow.record_refused(now, HandoffChannel::Api, "nothing answers") {
            HandoffStep::Wait(wait, _) => now = now.plus(wait),
            end => break end,
        }
    };
    assert_eq!(say(&end), "give up unreachable");
}

#[test]
fn no_path_is_added_while_an_import_command_is_outside_of_its_key() {
    let state = ConjureState {
        command_misplaced: true,
        app_status: Some("running".into()),
        ..ConjureState::default()
    };
    let next = HandoffFlow::new(by_file(), ticket())
        .next(Moment::from_millis(1), &StateRead::State(state));
    assert!(say(&next).starts_with("wait busy import"), "{next:?}");
}

#[test]
fn a_folder_that_cannot_be_named_is_refused() {
    let refused = |folder: &str| HandoffTicket::new(job(1), 0, Path::new(folder)).is_err();
    assert!(refused("data/x") && refused(&format!("/x/{COMMAND}/y")));
    let path = ticket().path();
    assert!(
        path.starts_with(FOLDER) && !path.contains(SPLIT_MARKER) && !path.contains(COMMAND),
        "{path}"
    );
    assert!(!path.ends_with("partpacker_result_0.glb"));
}

#[test]
fn only_copies_of_ours_are_taken_for_such() {
    let own = ticket().path();
    let name = own.rsplit('/').next().expect("a name");
    assert_eq!(job_of_copy(name), Some(job(1)));
    let again = HandoffTicket::new(job(1), 7, Path::new(FOLDER)).expect("good").path();
    assert_eq!(job_of_copy(again.rsplit('/').next().expect("a name")), Some(job(1)));
    for stranger in ["partpacker_result_0.glb", "partpacker_result_1337.glb", "result.glb", "x"] {
        assert_eq!(job_of_copy(stranger), None, "{stranger}");
    }
    assert_eq!(job_of_copy(&name.to_lowercase()), None, "nobody but us spells it so");
}
