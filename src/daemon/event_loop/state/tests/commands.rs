//! People's commands, and what is refused at once.

use super::*;
use crate::{
    daemon::services::command::{CommandErrorKind, Reply},
    domain::engine::MAX_REQUESTED,
};

fn text() -> Reply<String> {
    oneshot::channel().0
}

#[test]
fn a_request_starts_at_once_or_waits_for_its_turn() {
    let mut fixture = Fixture::new(2);
    let first = fixture.start(FIRST);
    let (actions, _answer) = fixture.request(SECOND);
    assert_eq!(labels(&actions), [""; 0], "`max_in_flight` is 1");
    fixture.pass(Duration::from_millis(1));
    let actions = fixture.end_job(FIRST, ended(JobState::Done));
    assert_eq!(labels(&actions), ["answer", "start, as requested", "refresh", "prune"]);
    assert!(!fixture.state.runs(first));
    assert!(!fixture.state.projects[&SECOND].is_idle());
}

#[test]
fn a_request_names_its_project_unless_there_is_one_only() {
    let mut fixture = Fixture::new(2);
    let mut ask = |project: Option<&str>| {
        let request = OnceRequest { project: project.map(str::to_owned), ..OnceRequest::default() };
        let reply = oneshot::channel().0;
        fixture.handle(LoopEvent::Commanded(Command::Once { request, reply }))
    };
    for (project, message) in [
        (None, "several projects are served (p1, p2): choose one with --project"),
        (Some("p3"), "there is no project `p3`; the served projects are: p1, p2"),
    ] {
        let actions = ask(project);
        let [Action::ReplyJob { answer: Err(error), .. }] = actions.as_slice() else {
            panic!("{:?}", labels(&actions));
        };
        assert_eq!((error.kind, error.message.as_str()), (CommandErrorKind::Usage, message));
    }
    let mut fixture = Fixture::new(1);
    let (request, reply) = (OnceRequest::default(), oneshot::channel().0);
    let actions = fixture.handle(LoopEvent::Commanded(Command::Once { request, reply }));
    assert_eq!(labels(&actions), ["start, as requested"]);
}

#[test]
fn too_many_requests_are_refused() {
    let mut fixture = Fixture::new(1);
    fixture.start(FIRST);
    let answers: Vec<_> = (0..MAX_REQUESTED).map(|_| fixture.request(FIRST)).collect();
    assert!(answers.iter().all(|(actions, _)| actions.is_empty()));
    let (actions, _answer) = fixture.request(FIRST);
    assert_eq!(labels(&actions), ["reply TryAgain"]);
}

#[test]
fn a_cancel_is_recorded_first_and_says_whether_the_job_is_active() {
    let mut fixture = Fixture::new(1);
    let job = fixture.start(FIRST);
    let waiting = JobId::from_parts(fixture.now.wall, 8);
    let row = resumptions::row(&fixture, waiting, FIRST, JobState::Submitted);
    fixture.state.resume_all(vec![row], true, fixture.now);

    let actions = fixture.handle(LoopEvent::Commanded(Command::Cancel { job, reply: text() }));
    assert_eq!(labels(&actions), ["cancel, active: true"]);
    let cancel = Command::Cancel { job: waiting, reply: text() };
    let actions = fixture.handle(LoopEvent::Commanded(cancel));
    assert_eq!(labels(&actions), ["cancel, active: false"], "it waits behind the other one");
    let actions = fixture.returned(TaskName::Background, TaskOutcome::Cancel(waiting));
    assert_eq!(labels(&actions), [""; 0], "it has no task to tell");
    let actions = fixture.end_job(FIRST, ended(JobState::Cancelled));
    assert_eq!(labels(&actions), ["answer", "resume Submitted", "refresh", "prune"]);
    let actions = fixture.returned(TaskName::Background, TaskOutcome::Cancel(waiting));
    assert_eq!(labels(&actions), ["control Cancel"], "now it has one");
}

#[test]
fn the_ledgers_commands_are_passed_on_with_what_they_need() {
    let mut fixture = Fixture::new(2);
    let job = JobId::from_parts(fixture.now.wall, 8);
    let restore = Command::Restore { job, reply: oneshot::channel().0 };
    let actions = fixture.handle(LoopEvent::Commanded(restore));
    let [Action::Restore { places, .. }] = actions.as_slice() else {
        panic!("{:?}", labels(&actions));
    };
    assert!(places.keys().eq(&[FIRST, SECOND]), "every project that is served");
    let rate = crate::daemon::services::command::RatingRequest { stars: 5, note: String::new() };
    let rate = Command::Rate { job, rate, reply: text() };
    assert_eq!(labels(&fixture.handle(LoopEvent::Commanded(rate))), ["rate"]);
}

#[test]
fn a_project_is_found_by_its_present_name() {
    let mut fixture = Fixture::new(1);
    let (loaded, config) = fixture.reloaded(|config| config.projects[0].name = "owl".to_owned());
    reload::finish(&mut fixture, loaded, config);
    let mut ask = |name: &str| {
        let request = OnceRequest { project: Some(name.to_owned()), ..OnceRequest::default() };
        let reply = oneshot::channel().0;
        labels(&fixture.handle(LoopEvent::Commanded(Command::Once { request, reply })))
    };
    assert_eq!(ask("p1"), ["reply Usage"]);
    assert_eq!(ask("owl"), ["start, as requested"]);
}
