//! A job on a rented machine, and every way in which the machine's life can be cut short: what is
//! charged afterwards.
//!
//! Owns the scenarios of cloud mode: one job; a launch whose answer is lost; a machine that fails;
//! a stop that is refused; an insufficient budget; and, with the feature `failpoints`, death at
//! every durable step of a machine's life (complete by construction, except for those in
//! `UNREACHED`). `tests/real/cloud-kills` kills at random moments instead.

use std::time::Duration;

use conjured::{
    domain::{
        job::JobState,
        money::{MicroUsd, job_cost::CostBasis},
    },
    ledger::{FILE, Ledger, rows::MachineRow},
    simulator::{
        Settings,
        faults::{Call, Fault, Order},
    },
};

use super::support::{patience::eventually, service::quick, stage::DemoProject};

/// The price of one second of the machine `large`, which polling cannot observe.
const SECOND: MicroUsd = MicroUsd(1_750_000 / 3600 + 1);

/// Creates a stage in cloud mode with a fast service.
fn cloud() -> DemoProject {
    let settings = Settings {
        machine_start: Duration::from_millis(800),
        machine_unknown: Duration::from_millis(300),
        ..quick()
    };
    let user = format!("\"{}\"", settings.user);
    let mut stage = DemoProject::with(settings);
    for (key, value) in [
        ("cloud.user_id", user.as_str()),
        ("cloud.workflow_version_id", "\"simulated-version\""),
        ("cloud.server_type", "\"large\""),
        ("cloud.idle_stop_s", "1"),
    ] {
        stage.set(key, value);
    }
    stage.set_mode("cloud");
    stage
}

fn rows(stage: &DemoProject) -> Vec<MachineRow> {
    let Ok(reader) = Ledger::open_read_only(&stage.state_dir().join(FILE)) else {
        return Vec::new();
    };
    reader.machines(conjured::domain::time::WallTime::from_unix_millis(0)).unwrap_or_default()
}

/// Waits until no machine runs at the service and the ledger knows of none; then checks that money
/// and machines agree.
#[track_caller]
fn all_over(stage: &DemoProject) -> Vec<MachineRow> {
    eventually("no machine runs any more", || {
        let none = stage.service.stats().machines.iter().all(|machine| machine.over);
        let known = rows(stage).iter().all(|row| row.ended_at.is_some());
        (none && known).then_some(())
    });
    let (rows, stats) = (rows(stage), stage.service.stats());
    for machine in &stats.machines {
        let row = rows
            .iter()
            .find(|row| row.server.as_ref().is_some_and(|server| server.as_str() == machine.id));
        let row = row.expect("every machine is in the ledger");
        let spent = row.booked.unwrap_or(row.reserved);
        assert!(spent + SECOND >= machine.billed, "{} on the books, {}", spent, machine.billed);
    }
    let reader = Ledger::open_read_only(&stage.state_dir().join(FILE)).expect("opens");
    reader.check().expect("the sums are the sums of jobs and machines");
    rows
}

#[test]
fn one_save_rents_one_machine_which_is_stopped_when_it_idles_and_booked_by_the_second() {
    let stage = cloud();
    let daemon = stage.start();
    stage.say("an owl of clay");
    let jobs = stage.done(1);
    let rows = all_over(&stage);
    assert_eq!((rows.len(), stage.service.stats().launches), (1, 1));
    let (row, machine) = (&rows[0], &stage.service.stats().machines[0]);
    assert_eq!(jobs[0].deployment.as_deref(), Some(row.id.to_string().as_str()));
    assert_eq!(jobs[0].spent(), MicroUsd::ZERO, "the machine is paid for, not the job");
    assert_eq!((row.basis, row.reason_code.as_deref()), (Some(CostBasis::Measured), Some("idle")));
    let booked = row.booked.expect("booked");
    assert!(booked.0 <= machine.billed.0 + 3 * SECOND.0, "{booked} against {}", machine.billed);
    let log = std::fs::read_to_string(stage.path("stderr")).unwrap_or_default();
    assert!(!log.contains(&machine.id), "the whole id opens the machine");
    let cost = stage.json(&["cost", "--json"]);
    assert_eq!(cost["total"]["machines"], 1);
    assert_eq!(cost["total"]["machines_microusd"], booked.0);
    drop(daemon);
}

#[test]
fn a_launch_whose_answer_is_lost_is_found_and_none_is_launched_beside_it() {
    let stage = cloud();
    let daemon = stage.start();
    stage.service.order(Order::from(Fault::AcceptThenDrop).on(Call::Launch));
    stage.say("an owl of clay");
    stage.done(1);
    all_over(&stage);
    assert_eq!(stage.service.stats().launches, 1);
    drop(daemon);
}

#[test]
fn a_stop_that_is_refused_is_repeated_and_told() {
    let stage = cloud();
    let daemon = stage.start();
    let http = Fault::Http { status: 503, retry_after: None, body: None, accepted: false };
    let order = Order::from(http).on(Call::Stop);
    stage.service.order(order.clone());
    stage.service.order(order);
    stage.say("an owl of clay");
    stage.done(1);
    eventually("status tells of a machine that is not stopped", || {
        let status = stage.json(&["status", "--json"]);
        status["machines"][0]["alarm"]
            .as_str()
            .filter(|alarm| alarm.contains("could not be stopped"))?;
        Some(())
    });
    all_over(&stage);
    drop(daemon);
}

#[test]
fn a_machine_that_fails_is_stopped_and_another_one_makes_the_job() {
    let stage = cloud();
    let daemon = stage.start();
    stage.service.order(Fault::MachineFails);
    stage.say("an owl of clay");
    stage.done(1);
    let rows = all_over(&stage);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].reason_code.as_deref(), Some("failed"));
    drop(daemon);
}

#[test]
fn a_machine_that_does_not_fit_the_budget_is_not_launched() {
    let mut stage = cloud();
    stage.set("budget.per_session_usd", "0.01");
    let daemon = stage.start();
    let output = stage.cli(&["once", "--prompt", "an owl of clay"]);
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("over budget"), "{said}");
    assert_eq!(stage.service.stats().launches, 0);
    assert_eq!(rows(&stage).len(), 0);
    drop(daemon);
}

#[test]
fn a_daemon_that_stops_takes_its_idle_machine_with_it() {
    let mut stage = cloud();
    stage.set("cloud.idle_stop_s", "600");
    let daemon = stage.start();
    stage.say("an owl of clay");
    stage.done(1);
    assert!(daemon.stop().success());
    let rows = all_over(&stage);
    assert_eq!(rows[0].reason_code.as_deref(), Some("closing"));
    assert_eq!(stage.jobs()[0].state, JobState::Done);
}

/// Steps that no fast scenario reaches; they are tested elsewhere.
#[cfg(feature = "failpoints")]
const UNREACHED: [&str; 2] = ["machine.extending", "machine.extended"];

#[cfg(feature = "failpoints")]
#[test]
fn a_death_at_any_step_of_a_machines_life_leaves_none_running() {
    use conjured::failpoint::{Point, VARIABLE};

    use super::support::daemon::TestDaemon;

    let names = Point::ALL.iter().map(|point| point.name());
    let steps: Vec<&str> =
        names.filter(|name| name.starts_with("machine.") && !UNREACHED.contains(name)).collect();
    assert!(steps.len() >= 10, "{steps:?}");
    let orders: Vec<String> = steps
        .iter()
        .flat_map(|step| ["before", "after"].map(|side| format!("{step}:{side}")))
        .collect();
    std::thread::scope(|scope| {
        for share in orders.chunks(orders.len().div_ceil(6)) {
            scope.spawn(move || {
                for order in share {
                    let stage = cloud();
                    let mut command = stage.command(&["run"]);
                    command.env(VARIABLE, order);
                    let mut daemon =
                        TestDaemon::spawn(command, stage.state_dir(), stage.path("stderr")).ready();
                    if order.starts_with("machine.unclear") {
                        let lost = Order::from(Fault::AcceptThenDrop).on(Call::Launch);
                        stage.service.order(lost);
                    }
                    stage.say("an owl of clay");
                    let end = eventually(&format!("{order}: it dies"), || daemon.has_ended());
                    assert!(!end.success(), "{order}");
                    let daemon = stage.start();
                    if order == "machine.launching:after" {
                        // It is not known that nothing was sent, so the daemon looks for the
                        // machine for a minute and launches nothing.
                        eventually("the mark is taken up", || {
                            let status = stage.json(&["status", "--json"]);
                            (status["machines"][0]["stage"] == "launching").then_some(())
                        });
                        assert_eq!(stage.service.stats().launches, 0);
                        continue;
                    }
                    let jobs = eventually(&format!("{order}: the job ends"), || {
                        let jobs = stage.jobs();
                        let over = jobs.iter().all(|job| job.state.is_final());
                        (over && !jobs.is_empty()).then_some(jobs)
                    });
                    assert_eq!(jobs[0].state, JobState::Done, "{order}: {:?}", jobs[0].reason);
                    all_over(&stage);
                    drop(daemon);
                }
            });
        }
    });
}
