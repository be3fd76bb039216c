//! A free backend stands in for a paid request whose answer is lost, the process dies at any
//! durable step of that, and the free backend is gone when it is started again: nothing is ever
//! sent to the paid one a second time.
//!
//! Owns this one scenario. Its steps are not listed but traced: a run that does not die
//! records them.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use conjured::{
    domain::job::JobState,
    failpoint::{TRACE, VARIABLE},
    simulator::{comfyui::Comfy, faults::Fault},
};

use super::AT_ONCE;
use crate::support::{
    daemon::TestDaemon,
    patience::{eventually, stays},
    service::{Far, comfyui},
    stage::DemoProject,
};

const WORDS: &str = "a clay owl";

/// How long a run on the free backend takes.
const RUN: Duration = Duration::from_millis(100);

/// Creates a world in which the answer to the first paid submit is lost.
fn world() -> (DemoProject, Far<Comfy>) {
    let mut stage = DemoProject::new();
    let free = comfyui(RUN);
    stage.set("local.providers", r#"["comfyui"]"#);
    stage.set("local.comfyui_url", &format!("{:?}", free.url()));
    stage.set("local.after_unknown", "true");
    stage.set_mode("auto");
    // The project is known: the next prompt is a change, wherever the daemon dies.
    stage.start().stop();
    stage.service.order(Fault::AcceptThenDrop);
    stage.say(WORDS);
    (stage, free)
}

fn daemon(stage: &DemoProject, variable: &str, value: &str) -> TestDaemon {
    let mut command = stage.command(&["run"]);
    command.env(variable, value);
    TestDaemon::spawn(command, stage.state_dir(), stage.path("stderr"))
}

/// Returns every visit of a durable step in the scenario, as an order to die there.
fn visits() -> Vec<String> {
    let (stage, _free) = world();
    let trace = stage.path("trace");
    let running = daemon(&stage, TRACE, &trace.display().to_string()).ready();
    let jobs = stage.ended(2);
    assert_eq!([jobs[0].state, jobs[1].state], [JobState::Unknown, JobState::Done]);
    assert!(running.stop().success());
    let mut counts = BTreeMap::new();
    let text = fs::read_to_string(trace).expect("a trace");
    let visit = |line: &str| {
        let count = counts.entry(line.to_owned()).or_insert(0);
        *count += 1;
        format!("{line}:{count}")
    };
    let all: Vec<String> = text.lines().map(visit).collect();
    // The steps before the answer is lost are part of every other scenario.
    let lost = all.iter().position(|visit| visit == "ledger.unknown:before:1").expect("it is lost");
    all[lost..].to_vec()
}

/// Dies at one visit, and continues without the free backend until that was observed. Returns
/// whether the visit was reached: how often a step is visited may differ by one between two runs.
fn play(order: &str) -> Result<bool, String> {
    let (stage, free) = world();
    let mut dying = daemon(&stage, VARIABLE, order);
    let done = |stage: &DemoProject| {
        let jobs = stage.jobs();
        jobs.len() == 2 && jobs.iter().all(|job| job.state.is_final())
    };
    // A visit that comes after the end of the scenario is reached only by a clean stop.
    eventually("the daemon dies, or has nothing left to do", || {
        (dying.has_ended().is_some() || done(&stage)).then_some(())
    });
    if dying.has_ended().is_none() {
        dying.signal(rustix::process::Signal::TERM);
    }
    // A death at a durable step is a signal, an end without it an exit code.
    let was_reached = dying.ended().code().is_none();
    let address = free.url().trim_start_matches("http://").to_owned();
    drop(free);
    let running = daemon(&stage, "LANG", "C");
    let said_before = running.stderr_text().len();
    let running = running.ready();
    eventually("the free backend is asked in vain, or nothing is left to do", || {
        let is_open = stage.jobs().iter().any(|job| !job.state.is_final());
        // At this log level the HTTP library names each connection that it tries.
        let asked = running.stderr_text()[said_before..].contains(&address);
        (!is_open || asked || stage.submits() > 1).then_some(())
    });
    stays(Duration::from_millis(700), "no second paid submit", || stage.submits() <= 1);
    let (submits, states) = (
        stage.submits(),
        stage.jobs().iter().map(|job| (job.backend.clone(), job.state)).collect::<Vec<_>>(),
    );
    // A death between the mark and the POST leaves the request unsent, and the job `unknown` all
    // the same.
    if submits > 1 {
        return Err(format!("{order}: {submits} paid submits; {states:?}"));
    }
    Ok(was_reached)
}

#[test]
fn a_free_stand_in_is_never_sent_to_the_paid_backend_wherever_the_process_dies() {
    let orders = visits();
    assert!(orders.len() > 30, "the play has many durable steps: {orders:?}");
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    let missed = Mutex::new(Vec::new());
    let note = |list: &Mutex<Vec<String>>, line: String| {
        list.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(order) = orders.get(next.fetch_add(1, Ordering::SeqCst)) {
                    match play(order) {
                        Ok(true) => {}
                        Ok(false) => note(&missed, order.clone()),
                        Err(fault) => note(&faults, fault),
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(
        faults.is_empty(),
        "{} of {} deaths:\n{}",
        faults.len(),
        orders.len(),
        faults.join("\n")
    );
    let missed = missed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(missed.len() * 10 <= orders.len(), "too many deaths did not happen: {missed:?}");
}
