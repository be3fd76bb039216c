//! Rented machines in the ledger: money is reserved before anything is sent, sums include machines,
//! and a restart finds them.

use super::*;
use crate::{
    domain::{
        machines::{MachineId, MachineStage, ServerId, StopReason},
        money::job_cost::CostBasis,
    },
    ledger::rows::NewMachine,
};

fn server(text: &str) -> ServerId {
    ServerId::new(text).expect("plain")
}

fn new_machine(fixture: &LedgerFixture, number: u64, reserve: MicroUsd) -> NewMachine {
    let at = at(i64::try_from(number).expect("small"));
    NewMachine {
        id: MachineId::from_parts(at, u128::from(number)),
        session: fixture.session,
        account: "user-1".into(),
        server_type: "large".into(),
        workflow_version: "version-1".into(),
        known_before: vec![server("a-persons-own")],
        hourly: cents(175),
        reserve,
        at,
    }
}

fn launch(fixture: &mut LedgerFixture, number: u64, reserve: MicroUsd) -> MachineId {
    let new = new_machine(fixture, number, reserve);
    fixture.ledger.launching(&new, &BudgetLimits::default(), &windows()).expect("marked");
    new.id
}

#[test]
fn a_machine_counts_from_its_mark_on_and_is_booked_at_its_end() {
    let mut fixture = LedgerFixture::new();
    let spent = |fixture: &LedgerFixture| {
        fixture.ledger.check().expect("the sums agree");
        fixture.ledger.spent(fixture.session, &windows()).expect("sums").session
    };
    let id = launch(&mut fixture, 1, cents(40));
    assert_eq!(spent(&fixture), cents(40), "before anything is sent");
    let ledger = &mut fixture.ledger;
    ledger.launched(id, &server("srv-1"), false, at(2)).expect("launched");
    ledger.machine_ready(id, at(60), true).expect("ready");
    ledger.extending(id, cents(90)).expect("raised");
    ledger.extending(id, cents(10)).expect("never lowered");
    assert_eq!(spent(&fixture), cents(90));
    let ledger = &mut fixture.ledger;
    ledger.machine_stopping(id, StopReason::Idle, at(100)).expect("marked");
    ledger.machine_gone(id, Some(cents(7)), CostBasis::Measured, "stopped", at(101)).expect("gone");
    assert_eq!(spent(&fixture), cents(7));
    assert_eq!(fixture.ledger.machines_open().expect("rows"), []);
    let row = &fixture.ledger.machines(at(0)).expect("rows")[0];
    assert_eq!(
        (row.stage, row.booked, row.basis),
        (MachineStage::Gone, Some(cents(7)), Some(CostBasis::Measured))
    );
    assert_eq!(row.reason_code.as_deref(), Some("idle"), "the first reason stays");
}

#[test]
fn a_machine_without_room_in_the_budget_is_not_marked_and_a_job_that_takes_one_pays_the_rest() {
    let mut fixture = LedgerFixture::new();
    let limits = BudgetLimits { per_session: Some(cents(50)), ..BudgetLimits::default() };
    let big = new_machine(&fixture, 1, cents(51));
    assert!(matches!(
        fixture.ledger.launching(&big, &limits, &windows()),
        Err(ReleaseError::Budget(_))
    ));
    assert_eq!(fixture.ledger.machines(at(0)).expect("rows"), []);
    let id = launch(&mut fixture, 2, cents(40));
    let job = fixture.release(3, ReleaseMode::PreparedOnly);
    let (session, windows) = (fixture.session, windows());
    // The job of these tests reserves ten cents itself, so the limit is reached.
    let taken = |ledger: &mut Ledger, reserve| {
        ledger.machine_leased(id, session, job, reserve, &limits, &windows)
    };
    assert!(matches!(taken(&mut fixture.ledger, cents(41)), Err(ReleaseError::Budget(_))));
    taken(&mut fixture.ledger, cents(40)).expect("it is paid for already");
    let row = fixture.ledger.job(job).expect("a row");
    assert_eq!(row.deployment, Some(id.to_string()), "the job says where it runs");
}

#[test]
fn what_a_restart_finds_is_every_machine_that_may_cost_money() {
    let mut fixture = LedgerFixture::new();
    let lost = launch(&mut fixture, 1, cents(1));
    let unclear = launch(&mut fixture, 2, cents(1));
    let never = launch(&mut fixture, 3, cents(1));
    let runs = launch(&mut fixture, 4, cents(1));
    let ledger = &mut fixture.ledger;
    ledger.launch_unclear(unclear, MachineStage::Lost, at(5)).expect("told");
    ledger
        .machine_gone(never, Some(MicroUsd::ZERO), CostBasis::Nothing, "not_sent", at(5))
        .expect("gone");
    ledger.launched(runs, &server("srv-4"), true, at(6)).expect("found");
    ledger.machine_alive(runs, Some(at(900)), at(7)).expect("seen");
    ledger.machine_idle(runs, Some(at(8))).expect("idle");
    let path = fixture.path();
    let reader = Ledger::open_read_only(&path).expect("opens");
    let open = reader.machines_open().expect("rows");
    let found: Vec<_> = open.iter().map(|row| (row.id, row.stage)).collect();
    assert_eq!(
        found,
        [
            (lost, MachineStage::Launching),
            (unclear, MachineStage::Lost),
            (runs, MachineStage::Starting)
        ]
    );
    let row = &open[2];
    assert_eq!(
        (row.server.clone(), row.stops_at, row.idle_since),
        (Some(server("srv-4")), Some(at(900)), Some(at(8)))
    );
    assert_eq!(row.known_before, [server("a-persons-own")]);
}
