//! A project's lock that is removed under a running daemon: a change is still paid for only once.
//!
//! Owns the two cases: another daemon has taken the project meanwhile, or none has.

use conjured::{disk::lock::PROJECT_LOCK, domain::job::JobState};

use crate::support::{
    daemon::TestDaemon, media, patience::eventually, service::quick, stage::DemoProject,
};

/// Removes the lock as `git clean -fdx` does.
fn clean(stage: &DemoProject) {
    std::fs::remove_file(stage.root().join(PROJECT_LOCK)).expect("it was there");
}

fn second(stage: &DemoProject) -> TestDaemon {
    let state_dir = stage.path("another-state");
    let command = stage.command_with(&state_dir, &["run"]);
    TestDaemon::spawn(command, state_dir, stage.path("stderr-of-the-second"))
}

fn waiting(daemon: &TestDaemon) -> Option<String> {
    Some(daemon.status()?.projects.first()?.waiting.clone())
}

#[test]
fn a_change_is_paid_for_once_when_another_daemon_took_a_lock_that_was_removed() {
    let stage = DemoProject::new();
    let first = stage.start();
    clean(&stage);
    let second = second(&stage).ready();
    stage.say("a clay owl");
    let held = format!("is held by process {}", second.pid());
    let said = eventually("the first one says who has the project", || {
        waiting(&first).filter(|message| message.contains(&held))
    });
    assert!(said.contains("stop it first"), "and what to do: {said}");
    eventually("the other one's result is placed", || {
        stage.public().iter().all(|path| media::fault(path).is_none()).then_some(())
    });
    assert_eq!(stage.submits(), 1);
    assert_eq!(stage.jobs().len(), 0, "the first one has released nothing");

    assert_eq!(second.stop().code(), Some(0));
    eventually("the first one has the project again", || {
        waiting(&first).filter(|message| message == "waiting for a change")
    });
    stage.say("a clay fox");
    stage.done(1);
    let prompts: Vec<_> =
        stage.service.stats().requests.into_iter().map(|request| request.prompt).collect();
    assert_eq!(prompts, ["a clay owl", "a clay fox"], "each was paid for once");
}

#[test]
fn a_removed_lock_that_nobody_took_is_taken_again_before_anything_is_paid_for() {
    let stage = DemoProject::new();
    let first = stage.start();
    clean(&stage);
    stage.say("a clay owl");
    stage.done(1);
    let second = second(&stage);
    let said = second.stderr.clone();
    assert_eq!(second.ended().code(), Some(75));
    let said = std::fs::read_to_string(said).expect("reads");
    assert!(said.contains(&format!("is held by process {}", first.pid())), "{said}");
    stage.say("a clay fox");
    stage.done(2);
    assert_eq!(stage.submits(), 2);
    assert_eq!(first.stop().code(), Some(0));
    assert!(!stage.root().join(PROJECT_LOCK).exists(), "a good end leaves nothing behind");
}

#[test]
fn what_was_sent_before_another_daemon_took_the_project_is_followed_and_placed() {
    let mut settings = quick();
    settings.run = std::time::Duration::from_secs(3600);
    let stage = DemoProject::with(settings);
    let _first = stage.start();
    stage.say("a clay owl");
    stage.newest_is(JobState::Running);
    clean(&stage);
    let _second = second(&stage).ready();
    stage.service.advance(std::time::Duration::from_secs(3600));
    stage.done(1);
    assert_eq!(stage.submits(), 1);
}
