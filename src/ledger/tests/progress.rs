//! Steps, events, projects and queries, in the order in which a daemon uses them.

use super::*;
use crate::{
    domain::{
        job::{JobState, attempt::AttemptEnd, control::JobControl},
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
    let mut fixture = LedgerFixture::new();
    let job = fixture.finish(1, duration_of(5, 70, true));
    let details = fixture.ledger.details(job).expect("a story");
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
    assert_eq!(
        (attempt.ended_at, attempt.outcome.map(AttemptEnd::name)),
        (Some(at(3)), Some("succeeded"))
    );
    assert_eq!(details.artifacts, artifacts(job));
    assert_eq!(fixture.ledger.outputs(job).expect("no error"), None, "forgotten once fetched");

    let row = details.job;
    let sent = fixture.new_job(1);
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
    let mut fixture = LedgerFixture::new();
    let older = fixture.release(1, ReleaseMode::PreparedOnly);
    let mut sent = fixture.new_job(2);
    sent.workflow_version = Fingerprint::of(b"the graph");
    sent.body_digest = Fingerprint::of(b"the body");
    (sent.seed, sent.mesh_seed) = (Some(3), Some(4));
    sent.retry_of = Some(older);
    let hot = ReleaseMode::Submitting;
    fixture.ledger.release(&sent, &BudgetLimits::default(), &windows(), hot).expect("released");
    let job = sent.id;
    fixture.ledger.submitted(job, &request(2), at(3)).expect("submitted");
    fixture.ledger.running(job, Some("machine-a"), None, at(4)).expect("running");
    fixture.ledger.raise_control(job, JobControl::Cancel, at(5)).expect("wanted");
    fixture.ledger.replaced(job, Some(older), Booking::Cost(cents(2)), at(6)).expect("replaced");
    fixture.ledger.rate(job, 2, "odd", at(7)).expect("rated");
    let terms = PriceTerms::default();
    let expected = JobRow {
        id: job,
        project: fixture.project,
        session: fixture.session,
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
        cached_from: None,
        out: None,
        reserved: cents(10),
        booked: Some(cents(2)),
        basis: Some(CostBasis::Measured),
        terms,
        observed: ObservedTimes::default(),
        timing: Timing::default(),
        control: JobControl::Cancel,
        request: Some(request(2)),
        instance: Some("machine-a".into()),
        submitted_at: Some(at(3)),
        running_at: Some(at(4)),
        busy_at: Some(at(6)),
        body_bytes: 1234,
        received_bytes: 0,
        rating: Some(Rating { stars: 2, note: "odd".into() }),
    };
    assert_eq!(fixture.ledger.job(job).expect("a row"), expected);
}

#[test]
fn the_hot_release_and_the_two_steps_leave_the_same_job() {
    let mut fixture = LedgerFixture::new();
    let hot = fixture.release(1, ReleaseMode::Submitting);
    let cold = fixture.release(2, ReleaseMode::PreparedOnly);
    assert_eq!(fixture.ledger.job(cold).expect("a row").state, JobState::Prepared);
    assert_eq!(fixture.ledger.details(cold).expect("a story").attempts, []);
    fixture.ledger.leaves(cold, at(3)).expect("submitting");
    for job in [hot, cold] {
        let details = fixture.ledger.details(job).expect("a story");
        assert_eq!(details.job.state, JobState::Submitting);
        assert_eq!((details.events.len(), details.attempts.len()), (2, 1));
    }
}

#[test]
fn what_was_not_sent_is_tried_again_as_a_second_attempt_with_its_money_still_reserved() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::Submitting);
    fixture.ledger.not_sent(job, "connection refused", at(2)).expect("not sent");
    assert_eq!(fixture.ledger.job(job).expect("a row").state, JobState::Prepared);
    assert_eq!(fixture.ledger.spent(fixture.session, &windows()).expect("sums").session, cents(10));
    fixture.ledger.leaves(job, at(3)).expect("again");
    fixture.ledger.submitted(job, &request(9), at(4)).expect("submitted");
    let details = fixture.ledger.details(job).expect("a story");
    let outcomes: Vec<_> =
        details.attempts.iter().map(|a| a.outcome.map(AttemptEnd::name)).collect();
    assert_eq!(outcomes, [Some("not sent"), None]);
    assert_eq!(details.job.request, Some(request(9)));
    let audit: Vec<_> =
        fixture.ledger.audits(9).expect("rows").into_iter().map(|a| a.outcome).collect();
    assert_eq!(audit, ["accepted", "not sent"]);
}

#[test]
fn an_illegal_step_is_refused_and_changes_nothing() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::PreparedOnly);
    let before = fixture.ledger.details(job).expect("a story");
    let refused = [
        fixture.ledger.submitted(job, &request(1), at(2)),
        fixture.ledger.running(job, None, None, at(2)),
        fixture.ledger.outputs_known(job, &[], at(2), at(2)),
        fixture.ledger.placing(job, at(2)),
        fixture.ledger.placed(job, at(2)),
        fixture.ledger.handing_over(job, "", at(2)),
        fixture.ledger.done(job, cents(1), Timing::default(), at(2)),
        fixture.ledger.not_sent(job, "", at(2)),
        fixture.ledger.unknown(job, &Reason::new("x", "y"), at(2)),
    ];
    for result in refused {
        assert!(
            matches!(result, Err(LedgerError::Illegal { from: JobState::Prepared, .. })),
            "{result:?}"
        );
    }
    assert_eq!(fixture.ledger.details(job).expect("a story"), before);
}

#[test]
fn no_operation_moves_a_job_that_has_ended() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.finish(1, duration_of(1, 2, false));
    let gone = Reason::new("person", "cancelled by a person");
    let results = [
        fixture.ledger.leaves(job, at(9)),
        fixture.ledger.cancelled(job, &gone, Booking::Nothing, at(9)),
        fixture.ledger.failed(job, &gone, Booking::Nothing, at(9)),
        fixture.ledger.replaced(job, None, Booking::Nothing, at(9)),
        fixture.ledger.raise_control(job, JobControl::Cancel, at(9)),
    ];
    for result in results {
        assert!(matches!(result, Err(LedgerError::Illegal { .. })), "{result:?}");
    }
    assert_eq!(fixture.ledger.job(job).expect("a row").booked, Some(cents(7)));
}

#[test]
fn an_end_time_stands_exactly_in_the_final_states() {
    // Every state, reached by the shortest legal sequence through the core of the real operations.
    for target in JobState::ALL {
        let mut fixture = LedgerFixture::new();
        let job = fixture.release(1, ReleaseMode::PreparedOnly);
        let road = road_to(target);
        fixture
            .ledger
            .write(crate::failpoint::Point::Note, |transaction| {
                for &state in &road {
                    super::super::job::events::transition(transaction, job, state, at(2), "")?;
                }
                Ok(())
            })
            .expect("a legal road");
        let row = fixture.ledger.job(job).expect("a row");
        assert_eq!(row.state, target);
        assert_eq!(row.ended_at.is_some(), target.is_final(), "{target}");
        let unfinished = fixture.ledger.unfinished().expect("rows").len();
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
    let mut fixture = LedgerFixture::new();
    let first = fixture.finish(1, duration_of(1, 2, false));
    let NewJob { workflow_version, body_digest, .. } = fixture.new_job(1);
    let found = fixture.ledger.find_same_work(&workflow_version, &body_digest).expect("an answer");
    assert_eq!(found, Some(first));
    let other = Fingerprint::of(b"another graph");
    assert_eq!(fixture.ledger.find_same_work(&other, &body_digest).expect("an answer"), None);
    let cached = fixture.release(2, ReleaseMode::PreparedOnly);
    fixture.ledger.fetched(cached, &artifacts(first), at(3)).expect("straight from history");
    assert_eq!(fixture.ledger.job(cached).expect("a row").state, JobState::Fetched);
}

#[test]
fn a_project_is_new_once_and_a_release_moves_its_baseline() {
    let mut fixture = LedgerFixture::new();
    let again = fixture.ledger.touch_project("/art", "renamed", at(1)).expect("a project");
    assert_eq!((again.id, again.is_new, &*again.name), (fixture.project, false, "renamed"));
    assert_eq!(again.baseline_prompt, None);
    assert!(fixture.ledger.touch_project("/other", "other", at(1)).expect("a project").is_new);

    let found = Fingerprint::of(b"found at the first start");
    fixture.ledger.set_baseline(fixture.project, None, Some(found), at(2)).expect("set");
    let row = fixture.project_row();
    assert_eq!((row.baseline_prompt, row.baseline_render), (None, Some(found)));

    fixture.release(1, ReleaseMode::PreparedOnly);
    let inputs = fixture.new_job(1).inputs;
    let row = fixture.project_row();
    assert_eq!(row.baseline_prompt, Some(inputs.prompt));
    assert_eq!(row.baseline_render, Some(inputs.render));
}

#[test]
fn lists_are_newest_first_filtered_and_in_pages() {
    let mut fixture = LedgerFixture::new();
    let ids: Vec<_> = (1..=5).map(|n| fixture.release(n, ReleaseMode::PreparedOnly)).collect();
    let by = Reason::new("person", "x");
    fixture.ledger.failed(ids[1], &by, Booking::Nothing, at(9)).expect("failed");
    let list = |filter: JobFilter| -> Vec<JobId> {
        fixture.ledger.jobs(&filter).expect("rows").into_iter().map(|row| row.id).collect()
    };
    assert_eq!(list(JobFilter::default()), [ids[4], ids[3], ids[2], ids[1], ids[0]]);
    let page = JobFilter { before: Some(ids[3]), limit: Some(2), ..JobFilter::default() };
    assert_eq!(list(page), [ids[2], ids[1]]);
    let failed =
        JobFilter { states: vec![JobState::Failed, JobState::Done], ..JobFilter::default() };
    assert_eq!(list(failed), [ids[1]]);
    let elsewhere = JobFilter { project: Some(ProjectId(99)), ..JobFilter::default() };
    assert_eq!(list(elsewhere), []);
    let ended =
        fixture.ledger.last_finished(fixture.project).expect("no error").expect("one has ended");
    assert_eq!(ended.id, ids[1]);
    assert_eq!(fixture.ledger.unfinished().expect("rows").len(), 4);
}

#[test]
fn a_job_is_found_by_its_id_or_by_a_beginning_of_its_own() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::PreparedOnly);
    let text = job.to_string();
    assert_eq!(fixture.ledger.find(&text).expect("found"), job);
    assert_eq!(fixture.ledger.find(&text[..8].to_lowercase()).expect("found"), job);
    for nonsense in ["", " ", "%", "~", "8ZZZ", "é", "01' OR 1=1"] {
        let result = fixture.ledger.find(nonsense);
        assert!(matches!(result, Err(LedgerError::NoSuchJob(_))), "{nonsense:?}: {result:?}");
    }
    let other = fixture.release(2, ReleaseMode::PreparedOnly);
    match fixture.ledger.find(&text[..6]) {
        Err(LedgerError::Ambiguous { candidates, .. }) => assert_eq!(candidates, [job, other]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cancel_requests_notes_and_ratings_stay_with_the_job() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::Submitting);
    fixture.ledger.raise_control(job, JobControl::Cancel, at(2)).expect("wanted");
    fixture.ledger.note(job, "taken", "CONJURE imported it", at(3)).expect("noted");
    fixture.ledger.rate(job, 4, "nice legs", at(4)).expect("rated");
    let details = fixture.ledger.details(job).expect("a story");
    assert_eq!(details.job.control, JobControl::Cancel);
    assert_eq!(details.job.rating, Some(Rating { stars: 4, note: "nice legs".into() }));
    let kinds: Vec<_> = details.events.iter().skip(2).map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["cancel wanted", "taken", "rated"]);
    assert!(matches!(fixture.ledger.rate(job, 6, "", at(5)), Err(LedgerError::NotARating(6))));
    let stranger = JobId::from_parts(at(1), 99);
    let nobody = fixture.ledger.note(stranger, "x", "y", at(5));
    assert!(matches!(nobody, Err(LedgerError::NoSuchJob(_))), "{nobody:?}");
}

#[test]
fn a_control_is_only_ever_raised_and_survives_the_process() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::Submitting);
    let mut control = |raised| {
        fixture.ledger.raise_control(job, raised, at(2)).expect("raised");
        fixture.ledger.job(job).expect("a row").control
    };
    assert_eq!(control(JobControl::Continue), JobControl::Continue);
    assert_eq!(control(JobControl::Supersede), JobControl::Supersede);
    assert_eq!(control(JobControl::Cancel), JobControl::Cancel);
    assert_eq!(
        control(JobControl::Supersede),
        JobControl::Cancel,
        "a newer change revokes nothing"
    );
    let details = fixture.ledger.details(job).expect("details");
    let kinds: Vec<_> = details.events.iter().skip(2).map(|event| &*event.kind).collect();
    assert_eq!(kinds, ["newer change", "cancel wanted"], "each once");
}

#[test]
fn the_work_of_a_lost_job_is_sent_again_automatically_once() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::Submitting);
    let once =
        |ledger: &mut Ledger, job| ledger.resubmit_once(job, "again", at(3)).expect("an answer");
    assert!(!once(&mut fixture.ledger, job), "its answer is not lost");
    fixture.ledger.unknown(job, &Reason::new("lost_answer", "lost"), at(3)).expect("unknown");
    assert!(once(&mut fixture.ledger, job));
    assert!(!once(&mut fixture.ledger, job), "once");
    let mut same = fixture.new_job(2);
    same.inputs = fixture.new_job(1).inputs;
    let none = BudgetLimits::default();
    fixture.ledger.release(&same, &none, &windows(), ReleaseMode::Submitting).expect("released");
    fixture.ledger.unknown(same.id, &Reason::new("lost_answer", "lost"), at(4)).expect("unknown");
    assert!(!once(&mut fixture.ledger, same.id), "once for the same inputs");
}

#[test]
fn a_job_that_shows_an_earlier_result_is_never_sent() {
    let mut fixture = LedgerFixture::new();
    let earlier = fixture.release(1, ReleaseMode::Submitting);
    let again = NewJob { cached_from: Some(earlier), ..fixture.new_job(2) };
    let none = BudgetLimits::default();
    fixture.ledger.release(&again, &none, &windows(), ReleaseMode::PreparedOnly).expect("released");
    assert_eq!(fixture.ledger.job(again.id).expect("a row").cached_from, Some(earlier));
    let refused = fixture.ledger.leaves(again.id, at(5));
    assert!(
        matches!(refused, Err(LedgerError::ReusesResult(job)) if job == again.id),
        "{refused:?}"
    );
}

#[test]
fn pages_of_words_are_cut() {
    let mut fixture = LedgerFixture::new();
    let mut long = fixture.new_job(1);
    long.prompt = "é".repeat(100_000);
    let none = BudgetLimits::default();
    fixture.ledger.release(&long, &none, &windows(), ReleaseMode::Submitting).expect("released");
    let trace = Reason::new("10011", "line\n".repeat(100_000));
    fixture.ledger.failed(long.id, &trace, Booking::Nothing, at(2)).expect("failed");
    let details = fixture.ledger.details(long.id).expect("a story");
    assert_eq!(details.job.prompt_excerpt.chars().count(), 161);
    let kept = details.job.reason.expect("a reason");
    assert_eq!(kept.text.chars().count(), 2001);
    assert!(details.events.iter().all(|event| event.note.len() < 3000));
}
