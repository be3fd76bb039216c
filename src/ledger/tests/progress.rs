//! Steps, events, projects and queries, in the order in which a daemon uses them.

use super::*;
use crate::{
    domain::{
        job::JobState,
        money::job_cost::{CostBasis, ObservedTimes},
    },
    ledger::{
        error::LedgerError,
        job::transition::may_become,
        rows::{Booking, JobFilter, JobRow, Rating, Reason},
    },
};

#[test]
fn a_complete_job_leaves_its_events_its_attempt_and_its_artifacts() {
    let mut desk = Desk::new();
    let job = desk.finish(1, duration_of(5, 70, true));
    let details = desk.ledger.details(job).expect("a story");
    let kinds: Vec<_> = details.events.iter().map(|event| &*event.kind).collect();
    assert_eq!(
        kinds,
        [
            "prepared",
            "submitting",
            "submitted",
            "running",
            "outputs known",
            "fetched",
            "placing",
            "placed",
            "done"
        ]
    );
    let [attempt] = &details.attempts[..] else { panic!("one attempt: {:?}", details.attempts) };
    assert_eq!(attempt.request, Some(request(1)));
    assert_eq!(attempt.instance.as_deref(), Some("machine-a"));
    assert_eq!((attempt.ended_at, attempt.outcome.as_deref()), (Some(at(3)), Some("succeeded")));
    assert_eq!(details.artifacts, artifacts(job));
    assert_eq!(desk.ledger.outputs(job).expect("no error"), None, "forgotten once fetched");

    let row = details.job;
    let sent = desk.new_job(1);
    assert_eq!((row.inputs, row.seed, row.mesh_seed), (sent.inputs, Some(u64::MAX), None));
    assert_eq!(
        (row.state, row.booked, row.ended_at),
        (JobState::Done, Some(cents(7)), Some(at(8)))
    );
    assert_eq!(row.timing, duration_of(5, 70, true));
    assert_eq!(row.summary, r#"{"steps":20}"#);
}

#[test]
fn every_column_comes_back_in_the_field_it_went_in_by() {
    let mut desk = Desk::new();
    let older = desk.release(1, ReleaseMode::PreparedOnly);
    let mut sent = desk.new_job(2);
    sent.workflow_version = Fingerprint::of(b"the graph");
    sent.body_digest = Fingerprint::of(b"the body");
    (sent.seed, sent.mesh_seed) = (Some(3), Some(4));
    sent.retry_of = Some(older);
    let hot = ReleaseMode::Submitting;
    desk.ledger.release(&sent, &BudgetLimits::default(), &windows(), hot).expect("released");
    let job = sent.id;
    desk.ledger.submitted(job, &request(2), at(3)).expect("submitted");
    desk.ledger.running(job, Some("machine-a"), at(4)).expect("running");
    desk.ledger.request_cancel(job, at(5)).expect("wanted");
    desk.ledger.replaced(job, Some(older), Booking::Cost(cents(2)), at(6)).expect("replaced");
    desk.ledger.rate(job, 2, "odd", at(7)).expect("rated");
    let terms = PriceTerms::default();
    let expected = JobRow {
        id: job,
        project: desk.project,
        session: desk.session,
        cause: sent.cause,
        state: JobState::Replaced,
        inputs: sent.inputs,
        prompt_excerpt: sent.prompt,
        workflow: sent.workflow,
        workflow_version: sent.workflow_version,
        body_digest: sent.body_digest,
        seed: Some(3),
        mesh_seed: Some(4),
        summary: sent.summary.to_string(),
        mode: sent.mode,
        backend: sent.backend,
        deployment: sent.deployment,
        created_at: at(2),
        state_at: at(6),
        ended_at: Some(at(6)),
        reason: Some(Reason::new("replaced", "a newer prompt or render replaced it")),
        replaced_by: Some(older),
        retry_of: Some(older),
        stands_in_for: None,
        out: None,
        reserved: cents(10),
        booked: Some(cents(2)),
        basis: Some(CostBasis::Measured),
        terms: Some(terms),
        observed: ObservedTimes::default(),
        timing: Timing::default(),
        cancel_requested: true,
        request: Some(request(2)),
        instance: Some("machine-a".into()),
        submitted_at: Some(at(3)),
        running_at: Some(at(4)),
        busy_at: Some(at(6)),
        body_bytes: Some(1234),
        received_bytes: 0,
        rating: Some(Rating { stars: 2, note: "odd".into() }),
    };
    assert_eq!(desk.ledger.job(job).expect("a row"), expected);
}

#[test]
fn the_hot_release_and_the_two_steps_leave_the_same_job() {
    let mut desk = Desk::new();
    let hot = desk.release(1, ReleaseMode::Submitting);
    let cold = desk.release(2, ReleaseMode::PreparedOnly);
    assert_eq!(desk.ledger.job(cold).expect("a row").state, JobState::Prepared);
    assert_eq!(desk.ledger.details(cold).expect("a story").attempts, []);
    desk.ledger.leaves(cold, at(3)).expect("submitting");
    for job in [hot, cold] {
        let details = desk.ledger.details(job).expect("a story");
        assert_eq!(details.job.state, JobState::Submitting);
        assert_eq!((details.events.len(), details.attempts.len()), (2, 1));
    }
}

#[test]
fn what_was_not_sent_is_tried_again_as_a_second_attempt_with_its_money_still_reserved() {
    let mut desk = Desk::new();
    let job = desk.release(1, ReleaseMode::Submitting);
    desk.ledger.not_sent(job, "connection refused", at(2)).expect("not sent");
    assert_eq!(desk.ledger.job(job).expect("a row").state, JobState::Prepared);
    assert_eq!(desk.ledger.spent(desk.session, &windows()).expect("sums").session, cents(10));
    desk.ledger.leaves(job, at(3)).expect("again");
    desk.ledger.submitted(job, &request(9), at(4)).expect("submitted");
    let details = desk.ledger.details(job).expect("a story");
    let outcomes: Vec<_> = details.attempts.iter().map(|a| a.outcome.as_deref()).collect();
    assert_eq!(outcomes, [Some("not sent"), None]);
    assert_eq!(details.job.request, Some(request(9)));
    let audit: Vec<_> =
        desk.ledger.audits(9).expect("rows").into_iter().map(|a| a.outcome).collect();
    assert_eq!(audit, ["accepted", "not sent"]);
}

#[test]
fn an_illegal_step_is_refused_and_changes_nothing() {
    let mut desk = Desk::new();
    let job = desk.release(1, ReleaseMode::PreparedOnly);
    let before = desk.ledger.details(job).expect("a story");
    let refused = [
        desk.ledger.submitted(job, &request(1), at(2)),
        desk.ledger.running(job, None, at(2)),
        desk.ledger.outputs_known(job, &[], at(2), at(2)),
        desk.ledger.placing(job, at(2)),
        desk.ledger.placed(job, at(2)),
        desk.ledger.handing_over(job, "", at(2)),
        desk.ledger.done(job, cents(1), Timing::default(), at(2)),
        desk.ledger.not_sent(job, "", at(2)),
        desk.ledger.unknown(job, &Reason::new("x", "y"), at(2)),
    ];
    for result in refused {
        assert!(
            matches!(result, Err(LedgerError::Illegal { from: JobState::Prepared, .. })),
            "{result:?}"
        );
    }
    assert_eq!(desk.ledger.details(job).expect("a story"), before);
}

#[test]
fn no_operation_moves_a_job_that_has_ended() {
    let mut desk = Desk::new();
    let job = desk.finish(1, duration_of(1, 2, false));
    let gone = Reason::new("person", "cancelled by a person");
    let results = [
        desk.ledger.leaves(job, at(9)),
        desk.ledger.cancelled(job, &gone, Booking::Nothing, at(9)),
        desk.ledger.failed(job, &gone, Booking::Nothing, at(9)),
        desk.ledger.replaced(job, None, Booking::Nothing, at(9)),
        desk.ledger.request_cancel(job, at(9)),
    ];
    for result in results {
        assert!(matches!(result, Err(LedgerError::Illegal { .. })), "{result:?}");
    }
    assert_eq!(desk.ledger.job(job).expect("a row").booked, Some(cents(7)));
}

#[test]
fn an_end_time_stands_exactly_in_the_final_states() {
    // Every state, reached by the shortest legal sequence through the core of the real operations.
    for target in JobState::ALL {
        let mut desk = Desk::new();
        let job = desk.release(1, ReleaseMode::PreparedOnly);
        let road = road_to(target);
        desk.ledger
            .write(crate::failpoint::Point::Note, |transaction| {
                for &state in &road {
                    super::super::job::events::transition(transaction, job, state, at(2), "")?;
                }
                Ok(())
            })
            .expect("a legal road");
        let row = desk.ledger.job(job).expect("a row");
        assert_eq!(row.state, target);
        assert_eq!(row.ended_at.is_some(), target.is_final(), "{target}");
        let unfinished = desk.ledger.unfinished().expect("rows").len();
        assert_eq!(unfinished == 0, target.is_final(), "{target}");
    }
}

fn road_to(target: JobState) -> Vec<JobState> {
    let mut roads = vec![vec![JobState::Prepared]];
    loop {
        if let Some(road) = roads.iter().find(|road| road.last() == Some(&target)) {
            return road[1..].to_vec();
        }
        let longer = |road: &Vec<JobState>| {
            let last = *road.last().expect("never empty");
            let next =
                JobState::ALL.into_iter().filter(move |&to| to != last && may_become(last, to));
            next.map(|to| [road.clone(), vec![to]].concat()).collect::<Vec<_>>()
        };
        roads = roads.iter().flat_map(longer).collect();
    }
}

#[test]
fn a_job_whose_work_was_done_before_needs_no_submit() {
    let mut desk = Desk::new();
    let first = desk.finish(1, duration_of(1, 2, false));
    let NewJob { workflow_version, body_digest, .. } = desk.new_job(1);
    let found = desk.ledger.find_same_work(&workflow_version, &body_digest).expect("an answer");
    assert_eq!(found, Some(first));
    let other = Fingerprint::of(b"another graph");
    assert_eq!(desk.ledger.find_same_work(&other, &body_digest).expect("an answer"), None);
    let cached = desk.release(2, ReleaseMode::PreparedOnly);
    desk.ledger.fetched(cached, &artifacts(first), at(3)).expect("straight from history");
    assert_eq!(desk.ledger.job(cached).expect("a row").state, JobState::Fetched);
}

#[test]
fn a_project_is_new_once_and_a_release_moves_its_baseline() {
    let mut desk = Desk::new();
    let again = desk.ledger.touch_project("/art", "renamed", at(1)).expect("a project");
    assert_eq!((again.id, again.is_new, &*again.name), (desk.project, false, "renamed"));
    assert_eq!(again.baseline_prompt, None);
    assert!(desk.ledger.touch_project("/other", "other", at(1)).expect("a project").is_new);

    let found = Fingerprint::of(b"found at the first start");
    desk.ledger.set_baseline(desk.project, None, Some(found), at(2)).expect("set");
    let row = desk.ledger.project("/art").expect("no error").expect("known");
    assert_eq!((row.baseline_prompt, row.baseline_render), (None, Some(found)));

    desk.release(1, ReleaseMode::PreparedOnly);
    let inputs = desk.new_job(1).inputs;
    let row = desk.ledger.project("/art").expect("no error").expect("known");
    assert_eq!(row.baseline_prompt, Some(inputs.prompt));
    assert_eq!(row.baseline_render, Some(inputs.render));
}

#[test]
fn lists_are_newest_first_filtered_and_in_pages() {
    let mut desk = Desk::new();
    let ids: Vec<_> = (1..=5).map(|n| desk.release(n, ReleaseMode::PreparedOnly)).collect();
    let by = Reason::new("person", "x");
    desk.ledger.failed(ids[1], &by, Booking::Nothing, at(9)).expect("failed");
    let list = |filter: JobFilter| -> Vec<JobId> {
        desk.ledger.jobs(&filter).expect("rows").into_iter().map(|row| row.id).collect()
    };
    assert_eq!(list(JobFilter::default()), [ids[4], ids[3], ids[2], ids[1], ids[0]]);
    let page = JobFilter { before: Some(ids[3]), limit: Some(2), ..JobFilter::default() };
    assert_eq!(list(page), [ids[2], ids[1]]);
    let failed =
        JobFilter { states: vec![JobState::Failed, JobState::Done], ..JobFilter::default() };
    assert_eq!(list(failed), [ids[1]]);
    let elsewhere = JobFilter { project: Some(ProjectId(99)), ..JobFilter::default() };
    assert_eq!(list(elsewhere), []);
    let ended = desk.ledger.last_finished(desk.project).expect("no error").expect("one has ended");
    assert_eq!(ended.id, ids[1]);
    assert_eq!(desk.ledger.unfinished().expect("rows").len(), 4);
    assert_eq!(desk.ledger.jobs_since(at(3)).expect("a count"), 3);
}

#[test]
fn a_job_is_found_by_its_id_or_by_a_beginning_of_its_own() {
    let mut desk = Desk::new();
    let job = desk.release(1, ReleaseMode::PreparedOnly);
    let text = job.to_string();
    assert_eq!(desk.ledger.find(&text).expect("found"), job);
    assert_eq!(desk.ledger.find(&text[..8].to_lowercase()).expect("found"), job);
    for nonsense in ["", " ", "%", "~", "8ZZZ", "é", "01' OR 1=1"] {
        let result = desk.ledger.find(nonsense);
        assert!(matches!(result, Err(LedgerError::NoSuchJob(_))), "{nonsense:?}: {result:?}");
    }
    let other = desk.release(2, ReleaseMode::PreparedOnly);
    match desk.ledger.find(&text[..6]) {
        Err(LedgerError::Ambiguous { candidates, .. }) => assert_eq!(candidates, [job, other]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cancel_requests_notes_and_ratings_stay_with_the_job() {
    let mut desk = Desk::new();
    let job = desk.release(1, ReleaseMode::Submitting);
    desk.ledger.request_cancel(job, at(2)).expect("wanted");
    desk.ledger.note(job, "taken", "CONJURE imported it", at(3)).expect("noted");
    desk.ledger.rate(job, 4, "nice legs", at(4)).expect("rated");
    let details = desk.ledger.details(job).expect("a story");
    assert!(details.job.cancel_requested);
    assert_eq!(details.job.rating, Some(Rating { stars: 4, note: "nice legs".into() }));
    let kinds: Vec<_> = details.events.iter().skip(2).map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["cancel wanted", "taken", "rated"]);
    assert!(matches!(desk.ledger.rate(job, 6, "", at(5)), Err(LedgerError::NotARating(6))));
    let stranger = JobId::from_parts(at(1), 99);
    let nobody = desk.ledger.note(stranger, "x", "y", at(5));
    assert!(matches!(nobody, Err(LedgerError::NoSuchJob(_))), "{nobody:?}");
}

#[test]
fn pages_of_words_are_cut() {
    let mut desk = Desk::new();
    let mut long = desk.new_job(1);
    long.prompt = "é".repeat(100_000);
    let none = BudgetLimits::default();
    desk.ledger.release(&long, &none, &windows(), ReleaseMode::Submitting).expect("released");
    let trace = Reason::new("10011", "line\n".repeat(100_000));
    desk.ledger.failed(long.id, &trace, Booking::Nothing, at(2)).expect("failed");
    let details = desk.ledger.details(long.id).expect("a story");
    assert_eq!(details.job.prompt_excerpt.chars().count(), 161);
    let kept = details.job.reason.expect("a reason");
    assert_eq!(kept.text.chars().count(), 2001);
    assert!(details.events.iter().all(|event| event.note.len() < 3000));
}
