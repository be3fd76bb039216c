//! Jobs of an earlier session: which one continues when.

use super::*;
use crate::{
    domain::{
        fingerprint::Fingerprint,
        job::{Cause, Inputs, RequestId, control::JobControl},
        money::{
            MicroUsd,
            job_cost::{ObservedTimes, PriceTerms},
        },
    },
    ledger::{
        Ledger,
        rows::{JobRow, Timing},
    },
};

/// Returns a job as the ledger has it. It has a request if its state says that it was sent.
pub(super) fn row(fixture: &Fixture, id: JobId, project: ProjectId, state: JobState) -> JobRow {
    let mut ledger = Ledger::open(&fixture.folder.path().join("ledger.sqlite")).expect("a ledger");
    let at = fixture.now.wall;
    let none = Fingerprint::of(b"");
    JobRow {
        id,
        project,
        session: ledger.begin_session("0", at).expect("a session"),
        cause: Cause::Prompt,
        state,
        inputs: Inputs { prompt: none, render: none },
        prompt_excerpt: String::new(),
        workflow: String::new(),
        workflow_version: none,
        body_digest: none,
        seed: None,
        mesh_seed: None,
        summary: String::new(),
        mode: "auto".to_owned(),
        backend: "serverless".to_owned(),
        deployment: None,
        created_at: at,
        state_at: at,
        ended_at: None,
        reason: None,
        replaced_by: None,
        retry_of: None,
        stands_in_for: None,
        cached_from: None,
        out: None,
        reserved: MicroUsd::ZERO,
        booked: None,
        basis: None,
        terms: PriceTerms::default(),
        observed: ObservedTimes::default(),
        timing: Timing::default(),
        control: JobControl::Continue,
        request: (state != JobState::Prepared).then(|| RequestId::for_job(id)),
        instance: None,
        submitted_at: None,
        running_at: None,
        busy_at: None,
        rating: None,
        body_bytes: 0,
        received_bytes: 0,
    }
}

fn job(fixture: &Fixture, number: u128) -> JobId {
    JobId::from_parts(fixture.now.wall, number)
}

#[test]
fn the_jobs_of_a_project_continue_one_after_the_other_and_before_anything_new() {
    let mut fixture = Fixture::new(2);
    let rows: Vec<_> = [
        (1, FIRST, JobState::Running),
        (2, FIRST, JobState::Submitted),
        (3, SECOND, JobState::HandingOver),
    ]
    .into_iter()
    .map(|(number, project, state)| row(&fixture, job(&fixture, number), project, state))
    .collect();
    fixture.state.resume_all(rows, true, fixture.now);
    let actions = fixture.state.take_actions();
    assert_eq!(labels(&actions), ["resume Running", "resume HandingOver"]);
    let (actions, _answer) = fixture.request(FIRST);
    assert_eq!(labels(&actions), [""; 0]);

    let actions = fixture.end_job(FIRST, ended(JobState::Done));
    assert_eq!(labels(&actions), ["answer", "resume Submitted", "refresh", "prune"]);
    let actions = fixture.end_job(FIRST, ended(JobState::Done));
    assert_eq!(labels(&actions), ["answer", "start, as requested", "refresh"]);
}

#[test]
fn nothing_is_resumed_while_the_daemon_stops() {
    let mut fixture = Fixture::new(1);
    let rows = [1, 2].map(|n| row(&fixture, job(&fixture, n), FIRST, JobState::Running));
    fixture.state.resume_all(rows.into(), true, fixture.now);
    fixture.handle(LoopEvent::StopOrdered);
    let actions = fixture.end_job(FIRST, JobEnd::Stopped);
    assert_eq!(labels(&actions), ["drop the caller", "refresh", "prune"]);
}

#[test]
fn a_prepared_job_continues_only_if_the_first_scan_finds_its_inputs() {
    for (same, expected) in [(true, "resume Prepared"), (false, "record replaced")] {
        // Scanned by another daemon before, so that its inputs are known.
        let inputs = Fixture::new(1).state.engine.snapshot(FIRST).expect("a snapshot");
        let mut fixture = Fixture::unscanned(1, false, |_| {});
        let mut prepared = row(&fixture, job(&fixture, 1), FIRST, JobState::Prepared);
        if same {
            prepared.inputs = inputs;
        }
        fixture.state.resume_all(vec![prepared], true, fixture.now);
        assert_eq!(labels(&fixture.state.take_actions()), [""; 0], "the scan comes first");
        let scan = fixture.handle(LoopEvent::Timer);
        let actions = labels(&fixture.scans(scan));
        assert!(actions.contains(&expected.to_owned()), "{actions:?}");
    }
}

#[test]
fn a_prepared_job_of_a_person_continues_whatever_the_inputs_are() {
    let mut fixture = Fixture::new(1);
    let mut prepared = row(&fixture, job(&fixture, 1), FIRST, JobState::Prepared);
    prepared.cause = Cause::Person;
    fixture.state.resume_all(vec![prepared], true, fixture.now);
    assert_eq!(labels(&fixture.state.take_actions()), ["resume Prepared"]);
}

#[test]
fn a_job_of_a_project_that_is_not_served_is_a_warning() {
    let mut fixture = Fixture::new(1);
    let row = row(&fixture, job(&fixture, 1), SECOND, JobState::Running);
    fixture.state.resume_all(vec![row], true, fixture.now);
    assert_eq!(labels(&fixture.state.take_actions()), [""; 0]);
    assert!(fixture.state.warnings.kept()[0].contains("no longer served is `running`"));
}

#[test]
fn a_lost_answer_is_sent_again_only_after_the_first_scan() {
    let adapt = |config: &mut Config| config.serverless.resubmit_unknown = true;
    let mut fixture = Fixture::unscanned(1, false, adapt);
    fixture.state.set_lost_answers(vec![job(&fixture, 1)]);
    let scan = fixture.handle(LoopEvent::Timer);
    assert_eq!(labels(&scan), ["scan 1"]);
    let actions = fixture.scans(scan);
    assert_eq!(labels(&actions), ["baseline", "record Resubmit"]);
}

#[test]
fn a_resumed_job_gets_its_task_before_it_is_told_to_make_room_for_a_newer_snapshot() {
    let mut fixture = Fixture::new(1);
    let rows = [(1, JobState::Placing), (2, JobState::Submitted)];
    let rows = rows.map(|(number, state)| row(&fixture, job(&fixture, number), FIRST, state));
    fixture.state.resume_all(rows.into(), true, fixture.now);
    assert_eq!(labels(&fixture.state.take_actions()), ["resume Placing"]);
    let actions = fixture.change_prompt(FIRST, "a throne");
    assert_eq!(labels(&actions), [""; 0], "the first job is too far to make room");
    let actions = fixture.end_job(FIRST, ended(JobState::Done));
    let expected = ["answer", "resume Submitted", "control Supersede", "refresh", "prune"];
    assert_eq!(labels(&actions), expected);
}
