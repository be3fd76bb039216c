//! Wakes, scans, checks of watches and locks, and their deadlines.

use std::collections::BTreeSet;

use super::*;
use crate::{
    daemon::{
        event_loop::{event::WatchCheck, tasks::watching::BuiltWatcher},
        services::{drives::ANSWER_TIMEOUT, root_locks::LockStatus},
    },
    disk::watch::{WatchMode, Watcher},
};

fn woken(projects: &[ProjectId]) -> LoopEvent {
    LoopEvent::Woken { projects: projects.to_vec(), config: false }
}

#[test]
fn a_wake_leads_to_a_scan_and_one_of_an_unknown_project_is_forgotten() {
    let mut fixture = Fixture::new(1);
    fixture.pass(Duration::from_millis(20));
    let actions = fixture.handle(woken(&[FIRST, ProjectId(9)]));
    assert_eq!(labels(&actions), ["forget the wake", "scan 1"]);
}

#[test]
fn a_wake_during_a_scan_is_scanned_after_it() {
    let mut fixture = Fixture::new(1);
    fixture.pass(Duration::from_millis(20));
    let first = fixture.handle(woken(&[FIRST]));
    assert_eq!(labels(&fixture.handle(woken(&[FIRST]))), [""; 0]);
    fixture.scans(first);
    fixture.pass(Duration::from_millis(20));
    assert_eq!(labels(&fixture.handle(LoopEvent::Timer)), ["scan 1"]);
}

#[test]
fn four_scans_run_at_once() {
    let mut fixture = Fixture::unscanned(6, false, |_| {});
    let actions = fixture.handle(LoopEvent::Timer);
    assert_eq!(labels(&actions), ["scan 1", "scan 2", "scan 3", "scan 4"]);
    let due = fixture.state.deadline(fixture.now.moment);
    assert!(due > Some(fixture.now.moment), "the others wait for an end and not for a time");
    let rest = fixture.scans(actions);
    assert_eq!(labels(&rest).len(), 6, "each has its first baseline: {:?}", labels(&rest));
}

#[test]
fn a_scan_that_does_not_come_back_holds_up_its_own_project_only() {
    let mut fixture = Fixture::new(2);
    fixture.pass(Duration::from_millis(20));
    let scan = fixture.handle(woken(&[FIRST]));
    fixture.pass(ANSWER_TIMEOUT);
    fixture.handle(LoopEvent::Timer);
    assert!(fixture.state.projects[&FIRST].is_unresponsive());
    assert_eq!(labels(&fixture.handle(woken(&[FIRST, SECOND]))), ["scan 2"]);
    fixture.scans(scan);
    assert!(!fixture.state.projects[&FIRST].is_unresponsive(), "its drive has answered");
}

#[test]
fn once_a_minute_everything_is_compared_and_one_check_runs_at_a_time() {
    let mut fixture = Fixture::new(1);
    fixture.pass(Duration::from_secs(59));
    assert_eq!(labels(&fixture.handle(LoopEvent::Timer)), [""; 0]);
    fixture.pass(Duration::from_secs(1));
    let actions = fixture.handle(LoopEvent::Timer);
    assert_eq!(labels(&actions), ["check watches, all: true"]);
    let Some(Action::CheckWatches(check)) = actions.first() else { panic!("a check") };
    assert_eq!((check.stamp_checks.len(), check.locks.as_slice()), (1, [FIRST].as_slice()));
    fixture.state.check_watches(true, fixture.now.moment);
    assert_eq!(labels(&fixture.state.take_actions()), [""; 0], "the first is not back");
}

#[test]
fn a_change_without_an_event_is_found_by_a_check_unless_that_is_outdated() {
    for (generation, expected) in [(0, vec!["scan 1"]), (1, vec![])] {
        let mut fixture = Fixture::new(1);
        fixture.pass(Duration::from_secs(60));
        fixture.handle(LoopEvent::Timer);
        let checked = WatchCheck {
            generation,
            warnings: Vec::new(),
            polled: vec![false],
            changed: vec![FIRST],
            lock_statuses: Vec::new(),
        };
        let outcome = TaskOutcome::WatchesChecked(Box::new(checked));
        let actions = fixture.returned(TaskName::Housekeeping, outcome);
        assert_eq!(labels(&actions), expected, "of watcher {generation}");
    }
}

#[test]
fn what_is_polled_is_checked_at_the_configured_interval() {
    let mut fixture = Fixture::new(1);
    let checked = |fixture: &mut Fixture| {
        let checked = WatchCheck {
            generation: 0,
            warnings: Vec::new(),
            polled: vec![true],
            changed: Vec::new(),
            lock_statuses: Vec::new(),
        };
        let outcome = TaskOutcome::WatchesChecked(Box::new(checked));
        fixture.returned(TaskName::Housekeeping, outcome)
    };
    assert_eq!(labels(&checked(&mut fixture)), [""; 0]);
    for _ in 0..2 {
        fixture.pass(Duration::from_millis(999));
        assert_eq!(labels(&fixture.handle(LoopEvent::Timer)), [""; 0]);
        fixture.pass(Duration::from_millis(1));
        assert_eq!(labels(&fixture.handle(LoopEvent::Timer)), ["check watches, all: false"]);
        assert_eq!(labels(&checked(&mut fixture)), [""; 0]);
    }
}

#[test]
fn a_lock_that_is_not_ours_is_checked_every_two_seconds_one_check_at_a_time() {
    let mut fixture = Fixture::new(2);
    let lock_status = LockStatus::Withheld("another process has it".to_owned());
    let project = FIRST;
    fixture.report(JobReport::LockStatus { project, lock_status: lock_status.clone() });
    let due = fixture.now.moment.plus(Duration::from_secs(2));
    fixture.pass(Duration::from_millis(100));
    // Publishes what has changed.
    fixture.handle(LoopEvent::Timer);
    fixture.pass(Duration::from_millis(100));
    fixture.state.publish_if_due(fixture.now.moment);
    assert_eq!(fixture.state.deadline(fixture.now.moment), Some(due));
    fixture.pass(Duration::from_secs(2));
    assert_eq!(labels(&fixture.handle(LoopEvent::Timer)), ["check the lock"]);
    fixture.pass(Duration::from_secs(2));
    assert_eq!(labels(&fixture.handle(LoopEvent::Timer)), [""; 0], "it is not back");
    fixture.returned(TaskName::Lock(FIRST), TaskOutcome::LockStatus(lock_status));
    fixture.pass(Duration::from_secs(2));
    assert_eq!(labels(&fixture.handle(LoopEvent::Timer)), ["check the lock"]);
    let ours = LockStatus::Ours { regained: None };
    fixture.returned(TaskName::Lock(FIRST), TaskOutcome::LockStatus(ours));
    fixture.pass(Duration::from_secs(2));
    assert_eq!(labels(&fixture.handle(LoopEvent::Timer)), [""; 0]);
    assert_eq!(fixture.state.lock_checks.due_at(), None);
}

#[test]
fn what_another_process_may_have_paid_for_becomes_the_baseline_when_no_job_is_active() {
    let mut fixture = Fixture::new(1);
    fixture.start(FIRST);
    let lock_status = LockStatus::Ours { regained: Some(fixture.now.wall) };
    let project = FIRST;
    let actions = fixture.report(JobReport::LockStatus { project, lock_status });
    assert_eq!(labels(&actions), [""; 0], "a job is active");
    let actions = fixture.end_job(FIRST, ended(JobState::Done));
    assert_eq!(labels(&actions), ["answer", "refresh", "baseline", "prune"]);
}

#[test]
fn hands_are_looked_for_in_the_projects_own_root() {
    let mut fixture = Fixture::new(1);
    fixture.state.check_hands(FIRST);
    fixture.state.check_hands(SECOND);
    let actions = fixture.state.take_actions();
    let [Action::CheckHands { project: FIRST, root }] = actions.as_slice() else {
        panic!("{:?}", labels(&actions));
    };
    assert_eq!(*root, fixture.folder.path().join("1"));
}

#[test]
fn an_idle_daemon_wakes_for_its_housekeeping_only() {
    let mut fixture = Fixture::new(1);
    fixture.pass(Duration::from_millis(100));
    fixture.state.publish_if_due(fixture.now.moment);
    let due = Moment::from_millis(1_060_000);
    assert_eq!(fixture.state.deadline(fixture.now.moment), Some(due));
}

/// Lets a watcher be built, and carries out the scans that follow.
fn built(fixture: &mut Fixture, generation: u64) -> Vec<String> {
    let (watcher, _) = Watcher::new(Vec::new(), WatchMode::Poll, BTreeSet::new(), |_| {});
    let (polled, warnings, silent) = (vec![false], Vec::new(), Vec::new());
    let built = BuiltWatcher { generation, watcher, polled, warnings, silent };
    let actions = fixture.returned(TaskName::Watch, TaskOutcome::Watching(Box::new(built)));
    let names = labels(&actions);
    fixture.scans(actions);
    names
}

#[test]
fn one_watcher_is_built_at_a_time_and_an_outdated_one_is_not_used() {
    let mut fixture = Fixture::new(1);
    let now = fixture.now.moment;
    fixture.state.rewatch(now);
    assert_eq!(labels(&fixture.state.take_actions()), [""; 0], "nothing is watched yet");
    let first = fixture.state.begin_watching(&fixture.loaded, now);
    assert_eq!((first.generation, first.projects.len()), (0, 1));
    assert_eq!(built(&mut fixture, 0), ["use the watcher", "scan 1"], "for what came before it");

    fixture.state.rewatch(now);
    assert_eq!(labels(&fixture.state.take_actions()), ["build a watcher"]);
    fixture.state.rewatch(now);
    assert_eq!(labels(&fixture.state.take_actions()), [""; 0]);
    assert_eq!(built(&mut fixture, 1), ["build a watcher"], "the next one is wanted already");
    assert_eq!(built(&mut fixture, 3), ["use the watcher", "scan 1"]);
}

#[test]
fn a_watcher_that_takes_too_long_is_no_longer_waited_for() {
    let mut fixture = Fixture::new(1);
    fixture.state.begin_watching(&fixture.loaded, fixture.now.moment);
    fixture.pass(ANSWER_TIMEOUT * 3);
    let actions = labels(&fixture.handle(LoopEvent::Timer));
    assert_eq!(actions, ["build a watcher"]);
    assert_eq!(built(&mut fixture, 0), [""; 0], "it came too late");
    assert_eq!(built(&mut fixture, 1), ["use the watcher", "scan 1"]);
}

#[test]
fn a_project_whose_watches_could_not_be_repaired_is_scanned_again_when_they_are() {
    let mut fixture = Fixture::new(2);
    let mut scan = |project: ProjectId, repaired: bool| {
        fixture.pass(Duration::from_millis(20));
        let Some(Action::Scan { mut reader, ignore, .. }) = fixture.handle(woken(&[project])).pop()
        else {
            panic!("a scan");
        };
        let scan = reader.scan(&ignore, fixture.now.moment);
        let outcome = TaskOutcome::Scanned(Box::new((*reader, scan)), Vec::new(), repaired);
        labels(&fixture.returned(TaskName::Scan(project), outcome))
    };
    assert_eq!(scan(FIRST, false), [""; 0]);
    assert_eq!(scan(SECOND, true), ["scan 1"]);
}
