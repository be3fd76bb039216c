//! Reloads: one reading at a time, what takes effect when, and which projects are served then.

use super::*;
use crate::{
    daemon::{
        event_loop::{
            event::Replies,
            signals::Signal,
            tasks::{
                projects::{LockAttempt, TakenProject},
                reload::Reloaded,
            },
        },
        services::{command::Reply, errors::StartError},
    },
    disk::lock::{Holder, project_lock::ProjectLock},
};

/// The actions of a reload's begin.
const BEGIN: [&str; 2] = ["notify Reloading", "reload for 0"];

/// Lets a reading end with a valid configuration.
pub(super) fn finish(
    fixture: &mut Fixture,
    loaded: Loaded,
    runtime_config: RuntimeConfig,
) -> Vec<Action> {
    let reloaded = Reloaded { loaded, runtime_config, attempts: Vec::new() };
    answered(fixture, Ok(reloaded), Vec::new())
}

fn answered(
    fixture: &mut Fixture,
    result: Result<Reloaded, String>,
    replies: Replies,
) -> Vec<Action> {
    fixture.returned(TaskName::Reload, TaskOutcome::Reloaded(Box::new(result), replies))
}

fn command() -> (LoopEvent, oneshot::Receiver<Result<String, CommandError>>) {
    let (reply, answer): (Reply<String>, _) = oneshot::channel();
    (LoopEvent::Commanded(Command::Reload { reply }), answer)
}

#[test]
fn a_reload_during_a_reload_is_read_afterwards_and_answered_by_its_own_reading() {
    let mut fixture = Fixture::new(1);
    let (first, _answer) = command();
    let mut actions = fixture.handle(first);
    assert_eq!(labels(&actions), ["notify Reloading", "reload for 1"]);
    let Some(Action::Reload { replies, known_roots }) = actions.pop() else { panic!("a reload") };
    assert!(known_roots.iter().eq([&fixture.folder.path().join("1")]));

    let (second, _other) = command();
    assert_eq!(labels(&fixture.handle(second)), [""; 0]);
    assert_eq!(labels(&fixture.handle(LoopEvent::Signalled(Signal::Reload))), [""; 0]);
    let (loaded, runtime_config) = fixture.reloaded(|_| {});
    let reloaded = Reloaded { loaded, runtime_config, attempts: Vec::new() };
    let actions = answered(&mut fixture, Ok(reloaded), replies);
    assert_eq!(labels(&actions), ["configure", "notify Reloading", "reload for 1", "reply"]);
    let actions = answered(&mut fixture, Err("line 3".to_owned()), Vec::new());
    assert_eq!(labels(&actions), ["notify Reloaded"]);
}

#[test]
fn a_refused_configuration_changes_nothing_and_its_warning_lasts_until_a_valid_one() {
    let mut fixture = Fixture::new(1);
    let (event, _answer) = command();
    let Some(Action::Reload { replies, .. }) = fixture.handle(event).pop() else { panic!() };
    let before = Arc::clone(&fixture.state.config);
    let actions = answered(&mut fixture, Err("line 3".to_owned()), replies);
    assert_eq!(labels(&actions), ["notify Reloaded", "reply Configuration"]);
    assert!(Arc::ptr_eq(&before, &fixture.state.config));
    assert_eq!(fixture.state.warnings.kept().len(), 1);

    fixture.handle(LoopEvent::Signalled(Signal::Reload));
    let (loaded, config) = fixture.reloaded(|_| {});
    assert_eq!(labels(&finish(&mut fixture, loaded, config)), ["configure", "notify Reloaded"]);
    assert_eq!(fixture.state.warnings.kept(), [""; 0]);
}

#[test]
fn a_saved_file_is_read_when_it_was_unchanged_for_300_ms() {
    let mut fixture = Fixture::new(1);
    let saved = || LoopEvent::Woken { projects: Vec::new(), config: true };
    assert_eq!(labels(&fixture.handle(saved())), [""; 0]);
    fixture.pass(Duration::from_millis(200));
    fixture.handle(saved());
    fixture.pass(Duration::from_millis(299));
    assert_eq!(labels(&fixture.handle(LoopEvent::Timer)), [""; 0]);
    fixture.pass(Duration::from_millis(1));
    assert_eq!(labels(&fixture.handle(LoopEvent::Timer)), BEGIN);
}

#[test]
fn a_rejected_token_is_read_again_at_most_every_15_s() {
    let mut fixture = Fixture::new(1);
    let mut refused = |after: u64| {
        fixture.pass(Duration::from_secs(after));
        fixture.report(JobReport::TokenRefused);
        fixture.pass(Duration::from_millis(300));
        let begun = labels(&fixture.handle(LoopEvent::Timer));
        if begun == BEGIN {
            let (loaded, config) = fixture.reloaded(|_| {});
            finish(&mut fixture, loaded, config);
        }
        begun == BEGIN
    };
    assert_eq!([refused(0), refused(10), refused(5)], [true, false, true]);
}

#[test]
fn changed_projects_wait_for_an_active_job_that_they_concern() {
    let mut fixture = Fixture::new(2);
    fixture.start(FIRST);
    fixture.handle(LoopEvent::Signalled(Signal::Reload));
    let (loaded, config) = fixture.reloaded(|config| drop(config.projects.remove(0)));
    let actions = finish(&mut fixture, loaded, config);
    assert_eq!(labels(&actions), ["configure", "notify Reloaded"]);
    assert_eq!(fixture.state.projects.len(), 2);
    let warning = "the changed projects take effect when the running job of p1 has ended";
    assert_eq!(fixture.state.warnings.kept(), [warning]);

    let actions = fixture.end_job(FIRST, ended(JobState::Done));
    assert_eq!(labels(&actions), ["answer", "refresh", "prune", "release the lock"]);
    assert!(fixture.state.projects.keys().eq([&SECOND]));
}

#[test]
fn changed_projects_do_not_wait_for_the_job_of_another_project() {
    let mut fixture = Fixture::new(2);
    fixture.start(SECOND);
    let (_, _answer) = fixture.request(FIRST);
    fixture.handle(LoopEvent::Signalled(Signal::Reload));
    let (loaded, config) = fixture.reloaded(|config| drop(config.projects.remove(0)));
    let actions = finish(&mut fixture, loaded, config);
    let expected = ["configure", "reply Configuration", "release the lock", "notify Reloaded"];
    assert_eq!(labels(&actions), expected, "who waited for a job of it is told");
    assert!(fixture.state.projects.keys().eq([&SECOND]));
}

#[test]
fn a_project_that_was_taken_over_is_served_if_it_is_configured() {
    let mut fixture = Fixture::new(1);
    let add = |config: &mut Config, name: &str| {
        let root = config.projects[0].root.with_file_name(name);
        std::fs::create_dir_all(&root).expect("a folder");
        config.projects.push(project(root));
    };
    let (loaded, runtime_config) = fixture.reloaded(|config| add(config, "2"));
    let (mut unwanted, _) = fixture.reloaded(|config| add(config, "3"));
    let new = [loaded.config.projects[1].clone(), unwanted.config.projects.remove(1)];
    let attempts = new.into_iter().zip(2..).map(|(project, number)| {
        let holder =
            Holder { pid: 1, since: fixture.now.wall, socket: None, what: "a test".to_owned() };
        let lock = ProjectLock::take(&project.root, fixture.folder.path(), &holder).expect("free");
        let taken = TakenProject { id: ProjectId(number), remembered: Baseline::default(), lock };
        (project, LockAttempt::Done(Box::new(Ok(taken))))
    });
    let attempts = attempts.collect();
    fixture.handle(LoopEvent::Signalled(Signal::Reload));
    let reloaded = Reloaded { loaded, runtime_config, attempts };
    let actions = answered(&mut fixture, Ok(reloaded), Vec::new());
    let expected = ["configure", "keep the lock", "release the project", "notify Reloaded"];
    assert_eq!(labels(&actions), expected);
    assert!(fixture.state.projects.keys().eq(&[FIRST, SECOND]));
}

#[test]
fn a_project_that_another_daemon_serves_is_a_warning() {
    let mut fixture = Fixture::new(1);
    let (loaded, runtime_config) = fixture.reloaded(|_| {});
    let project = loaded.config.projects[0].clone();
    let error = std::io::Error::other("taken");
    let refused = LockAttempt::Done(Box::new(Err(StartError::Signals(error))));
    fixture.handle(LoopEvent::Signalled(Signal::Reload));
    let attempts = vec![(project, refused)];
    let reloaded = Reloaded { loaded, runtime_config, attempts };
    answered(&mut fixture, Ok(reloaded), Vec::new());
    assert_eq!(fixture.state.warnings.kept().len(), 1);
}

#[test]
fn a_restart_is_needed_for_another_state_folder() {
    let mut fixture = Fixture::new(1);
    fixture.handle(LoopEvent::Signalled(Signal::Reload));
    let (loaded, config) = fixture.reloaded(|config| config.state_dir.push("other"));
    finish(&mut fixture, loaded, config);
    let warning = "a change of `state_dir` or `log.dir` takes effect only after a restart";
    assert_eq!(fixture.state.warnings.kept(), [warning]);
}
