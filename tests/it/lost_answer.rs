//! Submits whose answer is lost, late or a refusal: when one may be sent again, and when never.
//!
//! Owns the rule with the most expensive failure: a request that the service may have accepted is
//! never automatically sent again.

use std::time::Duration;

use conjured::{
    domain::job::JobState,
    simulator::faults::{Fault, Order},
};

#[cfg(unix)]
use rustix::process::Signal;

#[cfg(unix)]
use crate::support::patience::eventually;
use crate::support::{patience::stays, stage::DemoProject};

/// Long enough for a retrying client to retry.
const LONG_ENOUGH: Duration = Duration::from_millis(1500);

fn http(status: u16, retry_after: Option<&str>) -> Order {
    let retry_after = retry_after.map(str::to_owned);
    Fault::Http { status, retry_after, body: None, accepted: false }.into()
}

#[test]
fn a_submit_whose_answer_is_cut_is_unknown_counted_and_never_sent_again() {
    let stage = DemoProject::new();
    stage.service.order(Fault::AcceptThenDrop);
    let daemon = stage.start();
    stage.say("a clay owl");
    let jobs = stage.ended(1);
    assert_eq!(jobs[0].state, JobState::Unknown);
    stays(LONG_ENOUGH, "one post", || stage.submits() == 1);
    assert_eq!(stage.accepted(), 1);
    let id = jobs[0].id.to_string();

    let listed = stage.json(&["jobs", "list", "--json"]);
    assert_eq!(listed[0]["state"], "unknown", "{listed}");
    let reserved = listed[0]["reserved_microusd"].as_i64().expect("a number");
    assert!(reserved > 0, "the money is reserved: {listed}");
    let status = stage.json(&["status", "--json"]);
    assert_eq!(status["projects"][0]["unknown"][0], *id, "{status}");
    let spent = status["budget"]["session"].as_i64().expect("a number");
    assert!(spent >= reserved, "the reservation counts as spent: {status}");

    daemon.kill();
    let daemon = stage.start();
    stays(LONG_ENOUGH, "still one post after a restart", || stage.submits() == 1);
    assert_eq!(stage.jobs()[0].state, JobState::Unknown);
    let status = daemon.status().expect("it answers");
    assert_eq!(status.projects[0].unknown, [jobs[0].id]);
    assert!(status.budget.day.0 >= reserved, "and its money still counts");

    stage.say("a clay fox");
    let jobs = stage.ended(2);
    assert_eq!((jobs[0].state, jobs[1].state), (JobState::Unknown, JobState::Done));
    assert_eq!(stage.submits(), 2);
    stage.assert_public_whole();
}

#[test]
fn a_throttled_submit_is_sent_again_and_taken_in_once() {
    let stage = DemoProject::new();
    stage.service.order(http(429, Some("1")));
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.accepted), (2, 1));
}

#[test]
fn a_service_that_is_away_for_a_named_time_is_asked_again() {
    let stage = DemoProject::new();
    stage.service.order(http(503, Some("1")));
    let _daemon = stage.start();
    stage.say("a clay owl");
    stage.done(1);
    let stats = stage.service.stats();
    assert_eq!((stats.submits, stats.accepted), (2, 1));
}

#[test]
fn a_503_without_a_time_leaves_the_job_unknown() {
    assert_unknown(http(503, None));
}

#[test]
fn an_unreadable_answer_leaves_the_job_unknown() {
    assert_unknown(Fault::InvalidJson.into());
}

#[track_caller]
fn assert_unknown(order: Order) {
    let stage = DemoProject::new();
    stage.service.order(order);
    let _daemon = stage.start();
    stage.say("a clay owl");
    let jobs = stage.ended(1);
    assert_eq!(jobs[0].state, JobState::Unknown);
    assert!(jobs[0].reason.is_some(), "a person is told why");
    stays(LONG_ENOUGH, "one post", || stage.submits() == 1);
    assert_eq!(stage.jobs().len(), 1);
}

// Only Unix can stop a process from outside.
#[cfg(unix)]
#[test]
fn a_daemon_that_was_stopped_past_the_time_out_reads_the_answer_that_came_meanwhile() {
    let mut stage = DemoProject::new();
    stage.set("serverless.submit_timeout_s", "1");
    stage.service.order(Fault::Hang { ms: Some(300) });
    let daemon = stage.start();
    stage.say("a clay owl");
    eventually("the submit arrives", || (stage.submits() == 1).then_some(()));
    daemon.signal(Signal::STOP);
    // The answer arrives, and the second in which it had to arrive passes.
    stays(LONG_ENOUGH, "nothing is sent by a process that stands still", || stage.submits() == 1);
    daemon.signal(Signal::CONT);
    stage.done(1);
    assert_eq!(stage.submits(), 1);
}
