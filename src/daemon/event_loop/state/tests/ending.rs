//! How the daemon stops, and for which reason it ends.

use super::*;
use crate::daemon::{event_loop::signals::Signal, services::command::CommandErrorKind};

/// What every stop begins with, apart from the jobs.
const STOP: [&str; 3] = ["notify Stopping", "close the servers", "drop the watcher"];

fn servers_end(fixture: &mut Fixture) -> Vec<String> {
    labels(&fixture.returned(TaskName::Machines, TaskOutcome::Nothing))
}

#[test]
fn an_idle_daemon_ends_as_soon_as_its_servers_have() {
    let mut fixture = Fixture::new(1);
    assert_eq!(labels(&fixture.handle(LoopEvent::Signalled(Signal::Stop))), STOP);
    assert_eq!(servers_end(&mut fixture), ["end Stopped"]);
}

#[test]
fn a_stop_tells_every_job_and_waits_for_them() {
    let mut fixture = Fixture::with(2, |config| config.max_in_flight = 2);
    fixture.start(FIRST);
    fixture.pass(Duration::from_millis(1));
    fixture.start(SECOND);
    let actions = fixture.handle(LoopEvent::StopOrdered);
    let expected = [STOP[0], "control Stop", "control Stop", STOP[1], STOP[2]];
    assert_eq!(labels(&actions), expected);
    assert_eq!(servers_end(&mut fixture), [""; 0]);
    let first = labels(&fixture.end_job(FIRST, JobEnd::Stopped));
    assert_eq!(first, ["drop the caller", "refresh", "prune"]);
    let second = labels(&fixture.end_job(SECOND, JobEnd::Stopped));
    assert_eq!(second, ["drop the caller", "refresh", "end Stopped"]);
}

#[test]
fn a_stop_waits_for_four_seconds_and_a_second_one_changes_nothing() {
    let mut fixture = Fixture::new(1);
    fixture.start(FIRST);
    let until = fixture.now.moment.plus(Duration::from_secs(4));
    fixture.handle(LoopEvent::StopOrdered);
    fixture.pass(Duration::from_secs(3));
    assert_eq!(labels(&fixture.handle(LoopEvent::Signalled(Signal::Stop))), [""; 0]);
    assert_eq!(fixture.state.deadline(fixture.now.moment), Some(until));
    fixture.pass(Duration::from_secs(1));
    assert_eq!(labels(&fixture.handle(LoopEvent::Timer)), ["end Stopped"]);
}

#[test]
fn nothing_new_begins_while_the_daemon_stops() {
    let mut fixture = Fixture::new(1);
    fixture.start(FIRST);
    fixture.handle(LoopEvent::StopOrdered);
    let (actions, _answer) = fixture.request(FIRST);
    assert_eq!(labels(&actions), [""; 0]);
    fixture.pass(Duration::from_millis(20));
    let woken = fixture.handle(LoopEvent::Woken { projects: vec![FIRST], config: false });
    assert_eq!(labels(&woken), [""; 0], "no scan");
    let actions = fixture.end_job(FIRST, ended(JobState::Done));
    assert_eq!(labels(&actions), ["answer", "refresh", "prune"], "no start");
    let reply = oneshot::channel().0;
    let actions = fixture.handle(LoopEvent::Commanded(Command::Stop { reply }));
    assert_eq!(labels(&actions), ["reply"], "it stops already");
}

#[test]
fn a_command_to_stop_is_answered_before_the_stop() {
    let mut fixture = Fixture::new(1);
    let reply = oneshot::channel().0;
    let actions = fixture.handle(LoopEvent::Commanded(Command::Stop { reply }));
    assert_eq!(labels(&actions), [&["reply"], STOP.as_slice()].concat());
}

#[test]
fn once_ends_with_its_job_and_with_no_other() {
    let mut fixture = Fixture::unscanned(2, true, |config| config.max_in_flight = 2);
    fixture.state.stop_scans();
    let job = fixture.start(FIRST);
    assert_eq!(labels(&fixture.handle(LoopEvent::OneJobAnswered(Ok(job)))), [""; 0]);
    fixture.pass(Duration::from_millis(1));
    fixture.start(SECOND);
    let other = fixture.end_job(SECOND, ended(JobState::Done));
    assert_eq!(labels(&other), ["answer", "refresh", "prune"]);
    let own = labels(&fixture.end_job(FIRST, ended(JobState::Done)));
    assert_eq!(own, [&["answer", "refresh"], STOP.as_slice()].concat());
    assert_eq!(servers_end(&mut fixture), [format!("end OneJob(Ok({job:?}))")]);
}

#[test]
fn once_ends_with_the_refusal_of_its_job() {
    let mut fixture = Fixture::unscanned(1, true, |_| {});
    let error = CommandError::new(CommandErrorKind::Token, "no token");
    let actions = fixture.handle(LoopEvent::OneJobAnswered(Err(error)));
    assert_eq!(labels(&actions), STOP);
    let end = servers_end(&mut fixture);
    assert!(end[0].starts_with("end OneJob(Err("), "{end:?}");
}

#[test]
fn once_ends_if_its_job_was_over_before_its_answer_came() {
    let mut fixture = Fixture::unscanned(1, true, |_| {});
    let job = fixture.start(FIRST);
    let actions = fixture.end_job(FIRST, ended(JobState::Done));
    assert_eq!(labels(&actions), ["answer", "refresh", "prune"]);
    assert_eq!(labels(&fixture.handle(LoopEvent::OneJobAnswered(Ok(job)))), STOP);
}

#[test]
fn once_never_sends_a_lost_answer_again() {
    let adapt = |config: &mut Config| config.serverless.resubmit_unknown = true;
    let mut fixture = Fixture::unscanned(1, true, adapt);
    fixture.start(FIRST);
    let actions = fixture.end_job(FIRST, ended(JobState::Unknown));
    assert_eq!(labels(&actions), ["answer", "refresh", "prune"]);
}

#[test]
fn the_end_of_a_standing_task_ends_the_daemon_and_the_first_reason_counts() {
    let mut fixture = Fixture::new(1);
    let stopped = TaskOutcome::Stopped("the socket is gone".to_owned());
    assert_eq!(labels(&fixture.returned(TaskName::Api, stopped)), STOP);
    assert_eq!(labels(&fixture.panicked(TaskName::Machines)), [""; 0]);
    assert_eq!(servers_end(&mut fixture), ["end Broken(\"the socket is gone\")"]);
}

#[test]
fn a_panic_ends_the_daemon_except_in_early_work_and_the_like() {
    let mut fixture = Fixture::new(1);
    assert_eq!(labels(&fixture.panicked(TaskName::Background)), [""; 0]);
    assert_eq!(fixture.state.warnings.kept(), ["a bug in conjured ended some early work: a bug"]);
    assert_eq!(labels(&fixture.panicked(TaskName::Scan(FIRST))), STOP);
    let end = servers_end(&mut fixture);
    assert_eq!(end, ["end Broken(\"the task Scan(ProjectId(1)) panicked: a bug\")"]);
}
