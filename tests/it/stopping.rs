//! Signals and locks, and where the token must not appear.
//!
//! Owns what a service manager and a second terminal see of the process.

use std::{path::MAIN_SEPARATOR, time::Duration};

use conjured::{
    disk::lock::{PROJECT_LOCK, STATE_LOCK},
    domain::job::JobState,
    simulator::faults::{Call, Fault, Order},
};

use crate::support::{
    daemon::TestDaemon,
    patience::eventually,
    service::{TOKEN, quick},
    stage::{DemoProject, files_below},
};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn sigterm_with_a_job_in_flight_leaves_it_alone_and_the_next_start_takes_it_up() {
    let mut settings = quick();
    settings.run = HOUR;
    let stage = DemoProject::with(settings);
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    assert_eq!(daemon.stop().code(), Some(0), "it does not wait for the run");
    assert_eq!(stage.cli(&["status"]).status.code(), Some(69), "no daemon answers any more");

    let _daemon = stage.start();
    stage.service.advance(HOUR);
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.cancel_calls), (1, 0));
}

#[test]
fn sigterm_while_an_answer_is_awaited_ends_without_it_and_never_sends_twice() {
    let stage = DemoProject::new();
    stage.service.order(Fault::Hang { ms: None });
    let daemon = stage.start();
    stage.say("a clay owl");
    eventually("the submit arrives", || (stage.submits() == 1).then_some(()));
    // The answer never comes, and the time-out of a submit is longer than any wait of a test.
    assert_eq!(daemon.stop().code(), Some(0), "it does not wait for the answer");

    let _daemon = stage.start();
    let jobs = stage.ended(1);
    assert_eq!(jobs[0].state, JobState::Unknown);
    assert_eq!(stage.submits(), 1);
}

#[test]
fn a_stop_that_is_asked_for_over_the_socket_is_like_a_first_signal() {
    let mut settings = quick();
    settings.run = HOUR;
    let stage = DemoProject::with(settings);
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    // The daemon may be gone before its whole answer is read.
    drop(daemon.ask("POST /v1/stop"));
    assert_eq!(daemon.ended().code(), Some(0));

    let _daemon = stage.start();
    stage.service.advance(HOUR);
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.cancel_calls), (1, 0));
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_a_stop_that_waits_at_once() {
    use rustix::process::Signal;

    let stage = DemoProject::new();
    stage.service.order(Fault::Hang { ms: None });
    let daemon = stage.start();
    stage.say("a clay owl");
    eventually("the submit arrives", || (stage.submits() == 1).then_some(()));
    daemon.signal(Signal::TERM);
    eventually("it is stopping", || daemon.status()?.daemon.stopping.then_some(()));
    daemon.signal(Signal::INT);
    // Alone, the first one would have waited three seconds for the answer, and ended with 0.
    assert_eq!(daemon.ended().code(), Some(1));

    let _daemon = stage.start();
    assert_eq!(stage.ended(1)[0].state, JobState::Unknown);
    assert_eq!(stage.submits(), 1);
}

#[test]
fn a_second_daemon_for_the_same_state_or_project_ends_with_75_and_names_the_first() {
    let stage = DemoProject::new();
    let first = stage.start();
    let pid = first.pid().to_string();
    // The answer must say which lock it met: otherwise a lock that holds nothing off would go
    // unnoticed behind the other one.
    for (state_dir, lock) in
        [(stage.state_dir(), STATE_LOCK), (stage.path("another-state"), PROJECT_LOCK)]
    {
        let stderr = stage.path("stderr-of-the-second");
        let command = stage.command_with(&state_dir, &["run"]);
        // Always waited for with a deadline, because two running daemons are exactly the fault
        // to detect.
        let second = TestDaemon::spawn(command, state_dir.clone(), stderr.clone());
        assert_eq!(second.ended().code(), Some(75), "{}", state_dir.display());
        let said = std::fs::read_to_string(&stderr).expect("reads");
        let held = format!("{MAIN_SEPARATOR}{lock} is held by process {pid}");
        assert!(said.contains(&held), "{}: {said}", state_dir.display());
        std::fs::remove_file(&stderr).expect("removes");
    }
    stage.say("a clay owl");
    stage.done(1);
    assert_eq!(stage.submits(), 1, "the first one is unharmed and alone");
}

#[test]
fn the_token_appears_nowhere() {
    let mut stage = DemoProject::new();
    stage.set("log.level", r#""trace""#);
    let command = stage.command(&["-vv", "run"]);
    let daemon = TestDaemon::spawn(command, stage.state_dir(), stage.path("stderr")).ready();
    stage.say("a clay owl");
    stage.done(1);
    // A careless program shows what it sent when it is refused.
    let refusal = Fault::Http { status: 401, retry_after: None, body: None, accepted: false };
    stage.service.order(Order::from(refusal).on(Call::Submit));
    stage.say("a clay fox");
    stage.ended(2);

    let mut shown =
        vec![("standard error".to_owned(), std::fs::read(&daemon.stderr).expect("reads"))];
    for arguments in [&["status", "--json"][..], &["status"], &["jobs", "list", "--json"]] {
        let output = stage.cli(arguments);
        assert!(!output.stdout.is_empty(), "{arguments:?} says something: {output:?}");
        shown.push((format!("{arguments:?}"), [output.stdout, output.stderr].concat()));
    }
    #[cfg(target_os = "linux")]
    {
        let path = format!("/proc/{}/cmdline", daemon.pid());
        let line = std::fs::read(&path).expect("reads");
        assert!(!line.is_empty());
        shown.push((path, line));
    }
    assert_eq!(daemon.stop().code(), Some(0));
    for folder in ["state", "log", "CONJURE"] {
        let files = files_below(&stage.path(folder));
        assert!(!files.is_empty(), "{folder} holds files");
        for file in files {
            shown.push((file.display().to_string(), std::fs::read(&file).unwrap_or_default()));
        }
    }
    for (place, bytes) in shown {
        let found = bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
        assert!(!found, "the token is in {place}");
    }
}
