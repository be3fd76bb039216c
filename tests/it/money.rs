//! Money that a real process spends: limits that several jobs reach at once, the hourly limit
//! across a restart, the price of a request that is sent late, and what the deployment reports
//! about its machine.
//!
//! Owns what needs a whole process. The sums themselves are tested in `ledger/tests/budget.rs`, and
//! `cost` in the file below.

mod cost;
mod racers;

use std::time::Duration;

use conjured::{
    domain::{job::JobState, money::MicroUsd, status::Status},
    simulator::faults::{Call, Fault, Order, Times},
};

use crate::support::{
    daemon::TestDaemon,
    patience::{eventually, stays},
    service::quick,
    stage::DemoProject,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Returns the warnings, except the one about settings that are not supported yet.
fn complaints(status: &Status) -> Vec<&String> {
    status
        .warnings
        .iter()
        .filter(|warning| !warning.contains("not supported in this version"))
        .collect()
}

fn waiting(daemon: &TestDaemon) -> Option<String> {
    Some(daemon.status()?.projects.first()?.waiting.clone())
}

#[test]
fn the_hourly_limit_is_not_forgotten_by_a_restart() {
    let mut stage = DemoProject::new();
    stage.set("trigger.max_jobs_per_hour", "2");
    let daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    stage.say("a clay fox");
    stage.done(2);
    daemon.kill();

    let daemon = stage.start();
    stage.say("a clay wolf");
    eventually("status says which limit holds it", || {
        waiting(&daemon)?.contains("max_jobs_per_hour").then_some(())
    });
    stays(Duration::from_millis(900), "no third job within the hour", || stage.submits() == 2);
    let status = daemon.status().expect("it answers");
    let until = status.projects[0].waiting_until.expect("a time");
    assert!(until.since(status.at) > HOUR / 2, "until the first of them is an hour old");
    assert_eq!(stage.jobs().len(), 2);

    stage.set("trigger.max_jobs_per_hour", "3");
    stage.done(3);
    assert_eq!(stage.service.stats().requests[2].prompt, "a clay wolf", "it was not forgotten");
}

#[test]
fn a_request_that_leaves_late_leaves_at_the_price_of_then_or_waits_for_room() {
    let mut stage = DemoProject::new();
    stage.set("budget.per_job_usd", "0.50");
    // The new price must be in effect before the wait is over, also where a reload takes seconds.
    let wait = Some("10".to_owned());
    stage.service.order(Fault::Http {
        status: 429,
        retry_after: wait,
        body: None,
        accepted: false,
    });
    let daemon = stage.start();
    stage.say("a clay owl");
    let doing = |daemon: &TestDaemon| Some(daemon.status()?.projects[0].job.clone()?.doing);
    eventually("the first try did not arrive", || {
        doing(&daemon)?.starts_with("not sent yet").then_some(())
    });
    let reserved = stage.jobs()[0].reserved;
    assert!(reserved < MicroUsd::from_cents(50), "{reserved}");

    // While it waits, its machine becomes three and a half times as expensive.
    stage.set("budget.hardware", "\"3x-large\"");
    eventually("it is over budget by now", || {
        doing(&daemon)?.contains("over budget").then_some(())
    });
    assert_eq!((stage.submits(), stage.jobs()[0].reserved), (1, reserved), "nothing has changed");
    assert_eq!(stage.jobs()[0].state, JobState::Prepared);

    stage.set("budget.per_job_usd", "5.00");
    let jobs = stage.done(1);
    assert_eq!((stage.submits(), stage.accepted()), (2, 1));
    assert!(jobs[0].reserved > MicroUsd::from_cents(50), "{}", jobs[0].reserved);
    let terms = jobs[0].terms;
    assert_eq!(terms.hourly, MicroUsd::from_cents(875));
}

#[test]
fn what_the_deployment_says_of_its_machine_is_what_jobs_are_booked_by() {
    let mut settings = quick();
    settings.hourly = MicroUsd::from_cents(175);
    settings.keep_warm = Duration::from_secs(120);
    let stage = DemoProject::with(settings);
    let daemon = stage.start();
    eventually("the deployment has told", || {
        (daemon.status()?.budget.hourly_from == "the deployment").then_some(())
    });
    let budget = &stage.json(&["status", "--json"])["budget"];
    assert_eq!(budget["hourly"], 1_750_000, "{budget}");
    assert_eq!(budget["hardware"], "large", "{budget}");
    assert_eq!(
        (&budget["keep_warm_ms"], &budget["keep_warm_from"]),
        (&120_000.into(), &"the deployment".into())
    );
    stage.say("a clay owl");
    let jobs = stage.done(1);
    let terms = jobs[0].terms;
    assert_eq!((terms.hourly, terms.keep_warm.as_secs()), (MicroUsd::from_cents(175), 120));
    let status = daemon.status().expect("it answers");
    assert_eq!(complaints(&status), Vec::<&String>::new());
}

#[test]
fn a_deployment_that_does_not_tell_is_served_at_the_configured_price() {
    let stage = DemoProject::new();
    let fault = Fault::Http { status: 500, retry_after: None, body: None, accepted: false };
    stage.service.order(Order { on: Call::Deployment, times: Times::Next(1000), ..fault.into() });
    let daemon = stage.start();
    stage.say("a clay owl");
    let jobs = stage.done(1);
    assert_eq!(jobs[0].terms.hourly, MicroUsd::from_cents(250));
    let status = daemon.status().expect("it answers");
    assert_eq!(status.budget.hourly_from, "the default");
    assert_eq!(complaints(&status), Vec::<&String>::new());
}

#[test]
fn another_machine_than_the_configured_one_is_told_once() {
    let mut stage = DemoProject::new();
    stage.set("budget.hardware", "\"large\"");
    let daemon = stage.start();
    let told = || {
        let warnings = daemon.status()?.warnings;
        let about: Vec<_> = warnings.into_iter().filter(|w| w.contains("AMPERE_48")).collect();
        (!about.is_empty()).then_some(about)
    };
    let about = eventually("the mismatch is told", told);
    assert!(about[0].contains("1.7500 USD per hour instead of 2.5000 USD"), "{about:?}");
    for (number, message) in (1..).zip(["a clay owl", "a clay fox"]) {
        stage.say(message);
        let jobs = stage.done(number);
        let hourly = jobs[number - 1].terms.hourly;
        assert_eq!(hourly, MicroUsd::from_cents(175), "what a person wrote wins");
    }
    assert_eq!(told().map(|about| about.len()), Some(1), "once, whatever is sent");
}
