//! Jobs that switch to another backend: what is booked, what stays forbidden, and what happens to a
//! lost answer.

use super::*;
use crate::{
    domain::{
        job::{JobState, attempt::AttemptEnd, choose_backend::BackendKind},
        money::job_cost::CostBasis,
    },
    ledger::rows::{BackendSwitch, Booking, Reason},
};

fn to(job: JobId, backend: BackendKind, booking: Booking) -> BackendSwitch {
    BackendSwitch {
        job,
        backend: backend.name().to_owned(),
        deployment: None,
        workflow: "other".to_owned(),
        workflow_version: Fingerprint::of(b"other"),
        body_digest: Fingerprint::of(b"other body"),
        body_bytes: 7,
        summary: serde_json::json!({}),
        booking,
        outcome: AttemptEnd::Failed,
        reason: "the run failed".to_owned(),
        why: "serverless: down".to_owned(),
        at: at(20),
    }
}

/// Returns a job whose request was accepted by the paid backend.
fn taken(fixture: &mut LedgerFixture, number: u64) -> JobId {
    let job = fixture.release(number, ReleaseMode::Submitting);
    fixture.ledger.submitted(job, &request(number), at(10)).expect("submitted");
    job
}

#[test]
fn what_was_refused_costs_nothing_at_the_next_backend_and_is_a_second_attempt() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::Submitting);
    fixture
        .ledger
        .switch_backend(&to(job, BackendKind::Comfyui, Booking::Nothing))
        .expect("it may");
    let row = fixture.ledger.job(job).expect("a row");
    assert_eq!((row.state, row.backend.as_str()), (JobState::Prepared, "comfyui"));
    assert_eq!((row.reserved, row.basis, row.workflow.as_str()), (MicroUsd::ZERO, None, "other"));
    fixture.ledger.leaves(job, at(21)).expect("leaves");
    fixture.ledger.submitted(job, &request(1), at(22)).expect("submitted");
    let details = fixture.ledger.details(job).expect("a story");
    let attempts: Vec<_> = details
        .attempts
        .iter()
        .map(|a| (a.backend.as_str(), a.outcome.map(AttemptEnd::name)))
        .collect();
    assert_eq!(attempts, [("serverless", Some("failed")), ("comfyui", None)]);
    assert_eq!(details.attempts[0].reason.as_deref(), Some("the run failed"));
    let versions: Vec<_> = details.attempts.iter().map(|a| a.workflow_version).collect();
    assert_ne!(versions[0], versions[1], "each attempt keeps the workflow that it sent");
    assert_eq!(
        fixture.ledger.spent(fixture.session, &windows()).expect("a sum").session,
        MicroUsd::ZERO
    );
}

#[test]
fn a_lost_answer_of_a_rented_machine_is_asked_for_there_and_at_no_other_paid_backend() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::PreparedOnly);
    fixture.ledger.switch_backend(&to(job, BackendKind::Cloud, Booking::Nothing)).expect("it may");
    fixture.ledger.leaves(job, at(21)).expect("leaves");
    fixture.ledger.retry_same_backend(job, "the answer was lost", at(22)).expect("asked again");
    let refused =
        fixture.ledger.switch_backend(&to(job, BackendKind::Serverless, Booking::Nothing));
    assert!(matches!(refused, Err(LedgerError::ChargedBefore { .. })), "{refused:?}");
    fixture.ledger.leaves(job, at(23)).expect("the machine is asked for the request");
}

#[test]
fn what_never_arrived_may_fail_over_too() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::Submitting);
    fixture.ledger.not_sent(job, "refused", at(15)).expect("not sent");
    fixture
        .ledger
        .switch_backend(&to(job, BackendKind::Comfyui, Booking::Nothing))
        .expect("it may");
    let details = fixture.ledger.details(job).expect("a story");
    assert_eq!(details.attempts[0].outcome.map(AttemptEnd::name), Some("not sent"));
    assert_eq!((details.job.state, details.job.backend.as_str()), (JobState::Prepared, "comfyui"));
}

#[test]
fn what_a_paid_attempt_cost_stays_booked_however_a_free_one_ends() {
    let endings: [fn(&mut Ledger, JobId); 3] = [
        |ledger, job| ledger.done(job, cents(0), Timing::default(), at(40)).expect("done"),
        |ledger, job| {
            let reason = Reason::new("x", "y");
            ledger.failed(job, &reason, Booking::Nothing, at(40)).expect("failed");
        },
        |ledger, job| {
            let reason = Reason::new("x", "y");
            ledger.cancelled(job, &reason, Booking::Cost(cents(0)), at(40)).expect("cancelled");
        },
    ];
    for (number, end) in (1..).zip(endings) {
        let mut fixture = LedgerFixture::new();
        let job = taken(&mut fixture, number);
        fixture
            .ledger
            .switch_backend(&to(job, BackendKind::Comfyui, Booking::Cost(cents(9))))
            .expect("free");
        assert_eq!(fixture.ledger.job(job).expect("a row").spent(), cents(9), "while it is open");
        // As the daemon does it: at the price of the free backend.
        let leaving = DelayedSubmit {
            job,
            session: fixture.session,
            reserve: MicroUsd::ZERO,
            terms: Some(PriceTerms::default()),
            at: at(21),
        };
        let limits = BudgetLimits::default();
        fixture.ledger.submitting(&leaving, &limits, &windows()).expect("leaves");
        assert_eq!(
            fixture.ledger.job(job).expect("a row").spent(),
            cents(9),
            "while it is under way"
        );
        fixture.ledger.submitted(job, &request(number), at(22)).expect("submitted");
        if number == 1 {
            let ledger = &mut fixture.ledger;
            ledger.outputs_known(job, &[remote_file()], at(3), at(23)).expect("outputs known");
            ledger.fetched(job, &artifacts(job), at(24)).expect("fetched");
            ledger.placing(job, at(25)).expect("placing");
            ledger.placed(job, at(26)).expect("placed");
        }
        end(&mut fixture.ledger, job);
        let row = fixture.ledger.job(job).expect("a row");
        assert_eq!(
            (row.booked, row.basis),
            (Some(cents(9)), Some(CostBasis::Measured)),
            "{number}"
        );
        let spent = fixture.ledger.spent(fixture.session, &windows()).expect("a sum");
        assert_eq!(spent.session, cents(9), "{number}");
    }
}

#[test]
fn after_a_free_attempt_a_paid_backend_may_follow_and_after_a_paid_one_never() {
    let mut fixture = LedgerFixture::new();
    let job = fixture.release(1, ReleaseMode::Submitting);
    fixture
        .ledger
        .switch_backend(&to(job, BackendKind::Comfyui, Booking::Nothing))
        .expect("it was refused");
    fixture.ledger.leaves(job, at(21)).expect("leaves");
    fixture.ledger.submitted(job, &request(1), at(22)).expect("submitted");
    fixture
        .ledger
        .switch_backend(&to(job, BackendKind::Serverless, Booking::Nothing))
        .expect("nothing was paid");

    let job = taken(&mut fixture, 2);
    fixture
        .ledger
        .switch_backend(&to(job, BackendKind::Comfyui, Booking::Cost(cents(9))))
        .expect("free");
    let refused =
        fixture.ledger.switch_backend(&to(job, BackendKind::Serverless, Booking::Nothing));
    let charged =
        |refused: &Result<(), _>| matches!(refused, Err(LedgerError::ChargedBefore { .. }));
    assert!(charged(&refused), "before it left: {refused:?}");
    fixture.ledger.leaves(job, at(31)).expect("leaves");
    fixture.ledger.submitted(job, &request(2), at(32)).expect("submitted");
    let refused =
        fixture.ledger.switch_backend(&to(job, BackendKind::Serverless, Booking::Nothing));
    assert!(charged(&refused), "and after: {refused:?}");
}

#[test]
fn after_a_request_that_was_taken_no_paid_backend_follows() {
    for backend in [BackendKind::Serverless, BackendKind::Cloud] {
        let mut fixture = LedgerFixture::new();
        let job = taken(&mut fixture, 1);
        let refused = fixture.ledger.switch_backend(&to(job, backend, Booking::Nothing));
        assert!(
            matches!(refused, Err(LedgerError::ChargedBefore { .. })),
            "{backend}: {refused:?}"
        );
        assert_eq!(fixture.ledger.job(job).expect("a row").state, JobState::Submitted, "as it was");
    }
    let mut fixture = LedgerFixture::new();
    let job = taken(&mut fixture, 1);
    fixture.ledger.unknown(job, &Reason::new("x", "y"), at(11)).expect("unknown");
    for backend in BackendKind::ALL {
        let refused = fixture.ledger.switch_backend(&to(job, backend, Booking::Nothing));
        assert!(matches!(refused, Err(LedgerError::Illegal { .. })), "{backend}: {refused:?}");
    }
}

#[test]
fn an_answer_lost_at_a_free_backend_is_asked_for_and_one_at_the_paid_queue_is_unknown() {
    let mut fixture = LedgerFixture::new();
    let paid = fixture.release(1, ReleaseMode::Submitting);
    let free = fixture.release(2, ReleaseMode::Submitting);
    fixture
        .ledger
        .switch_backend(&to(free, BackendKind::Huggingface, Booking::Nothing))
        .expect("it may");
    fixture.ledger.leaves(free, at(21)).expect("leaves");
    assert_eq!(fixture.ledger.mark_lost_answers(at(30)).expect("marked"), [paid]);
    let state = |job| fixture.ledger.job(job).expect("a row").state;
    assert_eq!((state(paid), state(free)), (JobState::Unknown, JobState::Prepared));

    fixture.ledger.leaves(free, at(31)).expect("leaves once more");
    fixture.ledger.retry_same_backend(free, "silence", at(32)).expect("asked again");
    assert_eq!(fixture.ledger.job(free).expect("a row").state, JobState::Prepared);
}

#[test]
fn a_job_that_stands_in_for_a_lost_answer_is_never_sent_to_a_paid_backend() {
    let mut fixture = LedgerFixture::new();
    let lost = fixture.release(1, ReleaseMode::Submitting);
    fixture.ledger.unknown(lost, &Reason::new("x", "y"), at(11)).expect("unknown");

    let limits = BudgetLimits::default();
    let mut stand_in = new_job(fixture.session, fixture.project, 2);
    stand_in.stands_in_for = Some(lost);
    for backend in [BackendKind::Serverless, BackendKind::Cloud] {
        stand_in.backend = backend.name().to_owned();
        let refused =
            fixture.ledger.release(&stand_in, &limits, &windows(), ReleaseMode::Submitting);
        let is_gate =
            matches!(refused, Err(ReleaseError::Ledger(LedgerError::ChargedBefore { .. })));
        assert!(is_gate, "{backend}: {refused:?}");
        assert!(fixture.ledger.job(stand_in.id).is_err(), "nothing of it is written");
    }

    stand_in.backend = BackendKind::Comfyui.name().to_owned();
    let free = stand_in.id;
    fixture
        .ledger
        .release(&stand_in, &limits, &windows(), ReleaseMode::Submitting)
        .expect("it is free");
    assert_eq!(fixture.ledger.job(free).expect("a row").stands_in_for, Some(lost));
    fixture.ledger.not_sent(free, "connection refused", at(20)).expect("not sent");
    let refused =
        fixture.ledger.switch_backend(&to(free, BackendKind::Serverless, Booking::Nothing));
    assert!(matches!(refused, Err(LedgerError::ChargedBefore { .. })), "{refused:?}");
    fixture
        .ledger
        .switch_backend(&to(free, BackendKind::Huggingface, Booking::Nothing))
        .expect("free as well");
    fixture.ledger.leaves(free, at(31)).expect("leaves");
}
