//! The start, the reports and the end of a job.

use super::*;
use crate::daemon::{
    event_loop::{spawn_job, state::jobs::caller_left},
    jobs::setup::JobInput,
    services::{command::CommandErrorKind, messages::Control},
};

#[test]
fn a_changed_prompt_is_prepared_early_and_started_from_that() {
    let mut fixture = Fixture::new(1);
    let actions = fixture.change_prompt(FIRST, "a throne");
    assert_eq!(labels(&actions), ["prepare", "start from early work"]);
    let Some(Action::StartJob { job, .. }) = actions.last() else { panic!("it starts") };
    assert_eq!(Some(job.id), fixture.state.projects[&FIRST].job_id());
    assert_eq!(job.id, JobId::from_parts(fixture.now.wall, 7));
}

#[test]
fn early_work_for_an_older_configuration_is_not_used() {
    let mut fixture = Fixture::new(1);
    let path = fixture.state.projects[&FIRST].config().prompt.clone();
    std::fs::write(path, "a throne").expect("a prompt");
    fixture.pass(Duration::from_millis(20));
    let woken = fixture.handle(LoopEvent::Woken { projects: vec![FIRST], config: false });
    assert_eq!(labels(&fixture.scans(woken)), ["prepare"]);
    let (loaded, runtime_config) = fixture.reloaded(|config| config.max_in_flight = 2);
    reload::finish(&mut fixture, loaded, runtime_config);
    fixture.pass(Duration::from_millis(400));
    let actions = fixture.handle(LoopEvent::Timer);
    assert_eq!(labels(&actions), ["start"]);
}

#[test]
fn a_job_whose_render_is_not_in_memory_scans_again_and_is_retried() {
    let mut fixture = Fixture::new(1);
    let path = fixture.state.projects[&FIRST].config().prompt.clone();
    std::fs::write(path, "a throne").expect("a prompt");
    fixture.pass(Duration::from_millis(20));
    let woken = fixture.handle(LoopEvent::Woken { projects: vec![FIRST], config: false });
    fixture.scans(woken);
    let project = fixture.state.projects.get_mut(&FIRST).expect("served");
    project.release_render();
    project.discard_early_work();
    fixture.pass(Duration::from_millis(400));
    assert_eq!(labels(&fixture.handle(LoopEvent::Timer)), ["end unstarted"]);
    let retry = JobEnd::NotStarted {
        kind: CommandErrorKind::TryAgain,
        reason: "the render is being written".to_owned(),
        retry_after: Some(Duration::from_millis(500)),
    };
    let actions = fixture.end_job(FIRST, retry);
    assert_eq!(labels(&actions), ["answer TryAgain", "refresh", "prune"]);
    let scan = fixture.handle(LoopEvent::Timer);
    assert_eq!(labels(&scan), ["scan 1"]);
    fixture.scans(scan);
    fixture.pass(Duration::from_millis(600));
    let actions = fixture.handle(LoopEvent::Timer);
    assert_eq!(labels(&actions), ["start"]);
}

#[test]
fn a_finished_job_answers_its_caller_refreshes_the_figures_and_prunes_the_history() {
    let mut fixture = Fixture::new(1);
    let job = fixture.start(FIRST);
    let started = fixture.report(JobReport::Started { project: FIRST, job, inputs: None });
    assert_eq!(labels(&started), ["answer", "refresh"]);
    let actions = fixture.end_job(FIRST, ended(JobState::Done));
    assert_eq!(labels(&actions), ["answer", "refresh", "prune"]);
    assert_eq!(fixture.state.projects[&FIRST].job_id(), None);

    fixture.start(FIRST);
    let actions = fixture.end_job(FIRST, ended(JobState::Failed));
    assert_eq!(labels(&actions), ["answer", "refresh"], "one pruning at a time");
    let pruned = fixture.returned(TaskName::Background, TaskOutcome::Pruned(None));
    assert_eq!(labels(&pruned), ["prune"], "and once more for what came meanwhile");
}

#[test]
fn a_job_that_cannot_start_tells_its_caller_why() {
    let mut fixture = Fixture::new(1);
    fixture.start(FIRST);
    let end = JobEnd::NotStarted {
        kind: CommandErrorKind::Unavailable,
        reason: "no backend".to_owned(),
        retry_after: None,
    };
    let actions = fixture.end_job(FIRST, end);
    assert_eq!(labels(&actions), ["answer Unavailable", "refresh", "prune"]);
}

#[test]
fn a_queued_job_is_superseded_by_a_newer_snapshot_and_a_running_one_is_not() {
    for (stage, expected) in
        [(JobStage::Queued, vec!["control Supersede"]), (JobStage::Running, vec![])]
    {
        let mut fixture = Fixture::new(1);
        fixture.change_prompt(FIRST, "a throne");
        fixture.stage(FIRST, stage);
        let mut actions = fixture.change_prompt(FIRST, "a stool");
        actions.retain(|action| !matches!(action, Action::PrepareEarly { .. }));
        assert_eq!(labels(&actions), expected, "{stage:?}");
    }
}

#[test]
fn a_panic_before_the_ledger_knows_the_job_sends_nothing_and_answers() {
    let mut fixture = Fixture::new(1);
    let job = fixture.start(FIRST);
    let name = TaskName::Job(FIRST, job);
    assert_eq!(labels(&fixture.panicked(name)), ["read panicked"]);
    assert!(fixture.state.runs(job), "until the ledger has answered");
    let outcome = TaskOutcome::Panicked("a bug".to_owned(), None);
    let actions = fixture.returned(TaskName::Panicked(FIRST, job), outcome);
    assert_eq!(labels(&actions), ["answer TryAgain", "refresh", "prune"]);
}

#[test]
fn a_paid_job_is_resumed_after_its_first_panic_and_fails_with_the_second() {
    let mut fixture = Fixture::new(1);
    let job = fixture.start(FIRST);
    let row = resumptions::row(&fixture, job, FIRST, JobState::Running);
    let outcome = || TaskOutcome::Panicked("a bug".to_owned(), Some(Box::new(row.clone())));
    let name = TaskName::Panicked(FIRST, job);
    assert_eq!(labels(&fixture.panicked(TaskName::Job(FIRST, job))), ["read panicked"]);
    assert_eq!(labels(&fixture.returned(name, outcome())), ["resume Running"]);
    assert!(fixture.state.runs(job));
    assert_eq!(labels(&fixture.panicked(TaskName::Job(FIRST, job))), ["read panicked"]);
    let actions = fixture.returned(name, outcome());
    assert_eq!(labels(&actions), ["record the panic", "answer", "refresh", "prune"]);
    assert!(!fixture.state.runs(job));
}

#[test]
fn a_panic_of_a_job_without_a_request_fails_it_at_once() {
    let mut fixture = Fixture::new(1);
    let job = fixture.start(FIRST);
    let row = resumptions::row(&fixture, job, FIRST, JobState::Prepared);
    let outcome = TaskOutcome::Panicked("a bug".to_owned(), Some(Box::new(row)));
    let actions = fixture.returned(TaskName::Panicked(FIRST, job), outcome);
    assert_eq!(labels(&actions), ["record the panic", "answer", "refresh", "prune"]);
}

#[test]
fn a_lost_answer_is_sent_again_only_if_the_configuration_says_so() {
    for (resubmit, free, expected) in
        [(false, false, ""), (true, false, "record Resubmit"), (false, true, "record Free")]
    {
        let mut fixture = Fixture::with(1, |config| {
            config.serverless.resubmit_unknown = resubmit;
            config.local.after_unknown = free;
        });
        fixture.start(FIRST);
        let actions = fixture.end_job(FIRST, ended(JobState::Unknown));
        let recorded = labels(&actions).into_iter().find(|label| label.starts_with("record"));
        assert_eq!(recorded.unwrap_or_default(), expected);
    }
}

#[test]
fn a_lost_answer_that_a_newer_change_replaces_is_not_sent_again() {
    let mut fixture = Fixture::with(1, |config| config.serverless.resubmit_unknown = true);
    let job = JobId::from_parts(fixture.now.wall, 3);
    let mut row = resumptions::row(&fixture, job, FIRST, JobState::Unknown);
    let kind = crate::daemon::services::command::RepeatKind::Resubmit;
    let resubmit =
        |row: &crate::ledger::rows::JobRow| TaskOutcome::Resubmit(Box::new(row.clone()), kind);
    let actions = fixture.returned(TaskName::Background, resubmit(&row));
    assert_eq!(labels(&actions), [""; 0], "its inputs are not the newest");
    row.inputs = fixture.state.engine.snapshot(FIRST).expect("a snapshot");
    let actions = fixture.returned(TaskName::Background, resubmit(&row));
    assert_eq!(labels(&actions), ["log the resubmit", "start, as requested"]);
}

#[test]
fn a_control_goes_to_the_active_job_only() {
    let mut fixture = Fixture::new(2);
    let job = fixture.start(FIRST);
    let other = JobId::from_parts(fixture.now.wall, 8);
    let actions = fixture.returned(TaskName::Background, TaskOutcome::Cancel(other));
    assert_eq!(labels(&actions), [""; 0]);
    let actions = fixture.returned(TaskName::Background, TaskOutcome::Cancel(job));
    let [Action::ControlJob { job: told, control: Control::Cancel }] = actions.as_slice() else {
        panic!("{:?}", labels(&actions));
    };
    assert_eq!(*told, job);
}

#[test]
fn a_request_whose_caller_has_left_is_not_paid_for() {
    let mut fixture = Fixture::new(1);
    let (mut actions, answer) = fixture.request(FIRST);
    let Some(Action::StartJob { source, .. }) = actions.pop() else { panic!("it starts") };
    drop(answer);
    let end = spawn_job::input(source, None).err();
    assert_eq!(end, Some(caller_left()));
}

#[test]
fn a_caller_who_waits_is_kept_apart_from_the_request() {
    let mut fixture = Fixture::new(1);
    let (mut actions, mut answer) = fixture.request(FIRST);
    let Some(Action::StartJob { source, job }) = actions.pop() else { panic!("it starts") };
    let Ok((JobInput::Requested(asked, _), Some(reply))) = spawn_job::input(source, None) else {
        panic!("a request");
    };
    assert!(asked.reply.send(Ok(job.id)).is_err(), "nobody waits for this one");
    assert!(answer.try_recv().is_err());
    reply.send(Ok(job.id)).expect("the caller waits");
    assert_eq!(answer.try_recv(), Ok(Ok(job.id)));
}
