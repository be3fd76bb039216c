//! What holds for every job, whatever happens around it.

use std::time::Duration;

use conjured::domain::{
    job::{
        Cause, JobState,
        choose_backend::{Availability, BackendKind},
        control::JobControl,
        flow::{Do, world::WaitFor},
    },
    money::{cost_of, job_cost::Booking},
};
use proptest::prelude::*;

use super::model::{Model, Script};

/// The longest time that a job is watched.
const HORIZON: Duration = Duration::from_secs(10 * 24 * 3600);

/// More steps than this without any time in between are a busy loop.
const MAX_AT_ONCE: u32 = 60;

/// Something that happens before the step with this number.
#[derive(Clone, Debug)]
enum Happening {
    Cancel,
    Supersede,
    Stop,
    /// The process dies and another one takes the job up, with the wall clock set by so many
    /// seconds.
    Restart(i64),
    /// The next step has its effect, and the process dies before it is recorded.
    Dies(i64),
    /// The wall clock is set.
    Clock(i64),
    Unusable,
    Usable,
    Disk(bool),
    Pause(BackendKind),
    /// A reload: other backends, in another order.
    Reload(Vec<BackendKind>),
}

fn set() -> impl Strategy<Value = i64> {
    prop_oneof![Just(5), -200_000_i64..200_000]
}

fn backends() -> impl Strategy<Value = Vec<BackendKind>> {
    let all = BackendKind::ALL.to_vec();
    proptest::sample::subsequence(all, 1..=4).prop_shuffle()
}

fn happening() -> impl Strategy<Value = Happening> {
    let backend = proptest::sample::select(BackendKind::ALL.to_vec());
    prop_oneof![
        2 => Just(Happening::Cancel),
        2 => Just(Happening::Supersede),
        1 => Just(Happening::Stop),
        4 => set().prop_map(Happening::Restart),
        4 => set().prop_map(Happening::Dies),
        1 => set().prop_map(Happening::Clock),
        1 => Just(Happening::Unusable),
        2 => Just(Happening::Usable),
        2 => proptest::bool::weighted(0.3).prop_map(Happening::Disk),
        1 => backend.prop_map(Happening::Pause),
        1 => backends().prop_map(Happening::Reload),
    ]
}

fn answers(words: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    let word = proptest::sample::select(words).prop_map(str::to_owned);
    proptest::collection::vec(word, 0..5)
}

fn script() -> impl Strategy<Value = Script> {
    const SUBMIT: &[&str] = &[
        "accepted", "accepted", "accepted", "not sent", "lost", "account", "token", "service",
        "workflow", "cut off",
    ];
    const POLL: &[&str] = &[
        "queued", "running", "running", "ended", "ended", "silent", "gone", "token", "service",
        "account",
    ];
    const RESULT: &[&str] = &[
        "succeeded",
        "succeeded",
        "succeeded meshless",
        "succeeded imageless",
        "pending",
        "cancelled",
        "silent",
        "gone",
        "failed service",
        "failed workflow",
        "failed account",
    ];
    let submits = (answers(SUBMIT), answers(SUBMIT), answers(SUBMIT), answers(SUBMIT));
    let calls = (
        answers(POLL),
        answers(RESULT),
        answers(&["requested", "requested", "too late", "refused", "no answer"]),
        answers(&["back", "away", "token"]),
        answers(&["ok", "ok", "ok", "over budget", "locked", "turn"]),
    );
    let files = (
        answers(&["ok", "ok", "cut", "gone", "bad", "refused"]),
        answers(&["ok", "ok", "cut", "gone", "bad", "refused"]),
        answers(&["ok", "ok", "full", "lost"]),
        answers(&["ready", "ready", "later", "never", "gone"]),
    );
    (submits, calls, files).prop_map(|(submits, calls, files)| {
        let named = |name: &str, list| (name.to_owned(), list);
        [
            named("submit serverless", submits.0),
            named("submit comfyui", submits.1),
            named("submit huggingface", submits.2),
            named("submit cloud", submits.3),
            named("poll", calls.0),
            named("result", calls.1),
            named("cancel", calls.2),
            named("probe serverless", calls.3),
            named("mark", calls.4),
            named("fetch image", files.0),
            named("fetch mesh", files.1),
            named("place", files.2),
            named("server", files.3),
        ]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .collect()
    })
}

/// What is watched beside the model.
#[derive(Default)]
struct Watch {
    /// A person cancelled the job before it was being placed.
    cancelled: bool,
    /// The paid queue is known to have begun to run it, or its answer was lost.
    may_be_charged: bool,
    at_once: u32,
    /// Nobody sets the wall clock back, so that nothing seems to be shorter than it was.
    clock_is_right: bool,
}

/// Plays a job to its end, or to what it waits for, and checks each step on the way.
fn play(
    order: &[BackendKind],
    cause: Cause,
    script: Script,
    happenings: &[(u32, Happening)],
) -> Result<(), TestCaseError> {
    let mut model = Model::new(order, cause, script);
    let back = |what: &Happening| match what {
        Happening::Restart(set) | Happening::Dies(set) | Happening::Clock(set) => *set < 0,
        _ => false,
    };
    let clock_is_right = !happenings.iter().any(|(_, what)| back(what));
    let mut watch = Watch { clock_is_right, ..Watch::default() };
    let begin = model.now.moment;
    for number in 0.. {
        let due = happenings.iter().filter(|(at, _)| *at == number).map(|(_, what)| what);
        let mut dies = None;
        for what in due {
            happen(&mut model, &mut watch, what, &mut dies);
        }
        let step = model.next();
        let before = model.now.moment;
        let paid_before = model.sent.iter().any(|sent| sent.backend.is_paid() && sent.may_be_taken);
        match &step {
            Do::Ended(_) => return Ok(()),
            Do::Suspend => model.restart(5),
            Do::Wait(None, what) => {
                prop_assert_eq!(
                    *what,
                    WaitFor::Config,
                    "nothing else is waited for without an end"
                );
                if happenings.iter().all(|(at, _)| *at <= number) {
                    return Ok(());
                }
            }
            Do::Submit if model.record.backend.is_paid() && paid_before => {
                let same = model.record.backend;
                let all_here =
                    model.sent.iter().filter(|sent| sent.may_be_taken && sent.backend.is_paid());
                prop_assert!(
                    same != BackendKind::Serverless
                        && all_here.clone().all(|sent| sent.backend == same),
                    "a second paid request: {:?}",
                    model.trace
                );
            }
            Do::ChooseBackend(_) => {
                prop_assert!(
                    !model.record.outputs_known && !model.in_history[1],
                    "a result was thrown away: {:?}",
                    model.trace
                );
            }
            Do::MarkPlacing | Do::Place => {
                prop_assert!(!watch.cancelled, "a cancelled job is placed: {:?}", model.trace);
            }
            Do::End(end) => {
                check_end(&model, &watch, end.state, end.booking)?;
                return Ok(());
            }
            _ => {}
        }
        let (is_serverless, may_run) = (
            model.record.backend == BackendKind::Serverless,
            matches!(step, Do::Poll | Do::AskResult),
        );
        model.dies_unrecorded = dies.is_some();
        let submits = model.sent.len();
        if !matches!(step, Do::Suspend) {
            model.perform(step);
        }
        if is_serverless && model.sent.len() > submits {
            let newest = model.sent.last().expect("a submit");
            watch.may_be_charged |= newest.may_be_taken
                && model.record.request().is_none()
                && !matches!(
                    model.seen.submit,
                    Some(conjured::domain::job::flow::world::SubmitSeen::Accepted(_))
                );
        }
        if is_serverless && may_run {
            let is_running = model.seen.request.as_ref().is_some_and(|seen| seen.running.is_some());
            watch.may_be_charged |= is_running || model.record.outputs_known;
        }
        if let Some(set) = dies {
            model.restart(set);
        }
        watch.at_once = if model.now.moment == before { watch.at_once + 1 } else { 0 };
        prop_assert!(watch.at_once < MAX_AT_ONCE, "a busy loop: {:?}", model.trace);
        if model.now.moment.since(begin) > HORIZON {
            // It still waits, and says what for: for somebody who does not answer, never for an end
            // of its own.
            prop_assert!(
                model.waits_for != Some(WaitFor::Poll),
                "it is followed for ever: {:?}",
                model.trace
            );
            return Ok(());
        }
    }
    Ok(())
}

fn happen(model: &mut Model, watch: &mut Watch, what: &Happening, dies: &mut Option<i64>) {
    let is_open = !model.record.state.is_final() && !model.record.state.is_placing();
    match what {
        Happening::Cancel if is_open => {
            // The command is recorded before it is answered.
            model.record.control = JobControl::Cancel;
            model.control = JobControl::Cancel;
            watch.cancelled = true;
        }
        Happening::Cancel => {}
        Happening::Supersede => model.control = model.control.max(JobControl::Supersede),
        Happening::Stop => model.stopping = true,
        Happening::Restart(set) => model.restart(*set),
        Happening::Dies(set) => *dies = Some(*set),
        Happening::Clock(set) => {
            let span = Duration::from_secs(set.unsigned_abs());
            let wall = model.now.wall;
            model.now.wall = if *set >= 0 { wall.plus(span) } else { wall.minus(span) };
        }
        Happening::Unusable => model.usable = false,
        Happening::Usable => model.usable = true,
        Happening::Disk(silent) => model.disk_silent = *silent,
        Happening::Pause(backend) => {
            let until = model.now.moment.plus(Duration::from_secs(60));
            model.availability.insert(*backend, Availability::Paused { until });
        }
        Happening::Reload(order) => model.order.clone_from(order),
    }
}

fn check_end(
    model: &Model,
    watch: &Watch,
    state: JobState,
    booking: Booking,
) -> Result<(), TestCaseError> {
    let told = || format!("{:?} {booking:?}", model.trace);
    let is_settled = model.settled.iter().any(|(backend, settled)| {
        *backend == BackendKind::Serverless && *settled != Booking::Nothing
    });
    prop_assert!(
        !watch.may_be_charged || is_settled || booking != Booking::Nothing,
        "what may have been charged is not booked: {}",
        told()
    );
    if let (Booking::Cost(cost) | Booking::AtMost(cost), true) = (booking, watch.clock_is_right) {
        prop_assert!(
            is_settled || cost >= cost_of(model.ran(), model.record.terms.hourly),
            "less than what ran is booked: {} s, {}",
            model.ran().as_secs(),
            told()
        );
    }
    prop_assert!(!watch.cancelled || !model.placed, "a cancelled job is visible: {}", told());
    if state == JobState::Done {
        prop_assert!(model.placed, "done and nowhere: {}", told());
    }
    if state == JobState::Unknown {
        prop_assert!(booking == Booking::Reserved, "{}", told());
        let lost = model.sent.iter().filter(|sent| sent.backend == BackendKind::Serverless);
        prop_assert!(lost.filter(|sent| sent.may_be_taken).count() <= 1);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn money_and_results_are_safe_whatever_happens(
        order in backends(),
        cause in proptest::sample::select(vec![Cause::Prompt, Cause::Person]),
        script in script(),
        happenings in proptest::collection::vec((0_u32..60, happening()), 0..8),
    ) {
        play(&order, cause, script, &happenings)?;
    }
}
