//! What is done with finished jobs: retried, run again, restored, rated, and eventually removed
//! from the history.
//!
//! Owns the `conjured jobs` commands with and without a daemon. The rule with the most expensive
//! failure here is that a person is asked before money may be spent twice.

mod history;
mod resubmit;
mod restore;

use std::{process::Output, time::Duration};

use conjured::{
    domain::job::JobState,
    ledger::rows::JobRow,
    simulator::faults::{Fault, Order},
};
use serde_json::Value;

use crate::support::{service::quick, stage::DemoProject};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs one job with the given prompt, without a daemon.
#[track_caller]
fn once(stage: &DemoProject, message: &str) -> JobRow {
    let output = stage.cli(&["once", "--prompt", message]);
    assert!(output.status.success(), "{output:?}");
    stage.jobs().pop().expect("a job")
}

/// Runs one job whose answer is lost, without a daemon.
#[track_caller]
fn lost(stage: &DemoProject, message: &str) -> JobRow {
    stage.service.order(Fault::AcceptThenDrop);
    let output = stage.cli(&["once", "--prompt", message]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let job = stage.jobs().pop().expect("a job");
    assert_eq!(job.state, JobState::Unknown);
    job
}

/// Returns the audit as `(what, outcome)`, oldest first.
fn audit(stage: &DemoProject) -> Vec<(String, String)> {
    let rows = stage.json(&["jobs", "audit", "--json", "--limit", "1000"]);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let rows = rows.as_array().expect("an array").iter().rev();
    rows.map(|row| (text(&row["what"]), text(&row["outcome"]))).collect()
}

#[test]
fn an_unknown_job_is_not_sent_again_before_a_person_says_so() {
    let stage = DemoProject::new();
    let id = lost(&stage, "a clay owl").id.to_string();
    for daemon in [false, true] {
        let _daemon = daemon.then(|| stage.start());
        let output = stage.cli(&["jobs", "retry", &id]);
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        assert!(said(&output).contains("TWICE"), "{output:?}");
        assert!(said(&output).contains("--yes"), "{output:?}");
        assert_eq!((stage.submits(), stage.jobs().len()), (1, 1));
        assert_eq!(stage.jobs()[0].state, JobState::Unknown);
    }
}

#[test]
fn a_confirmed_retry_sends_once_and_settles_the_old_job_with_its_money() {
    for with_daemon in [false, true] {
        let stage = DemoProject::new();
        let old = lost(&stage, "a clay owl");
        let daemon = with_daemon.then(|| stage.start());
        let output = stage.cli(&["jobs", "retry", &old.id.to_string()[..18], "--yes", "--json"]);
        assert!(output.status.success(), "{output:?}");
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let jobs = stage.ended(2);
        assert_eq!((jobs[0].state, jobs[1].state), (JobState::Cancelled, JobState::Done));
        assert_eq!((jobs[0].replaced_by, jobs[0].booked), (Some(jobs[1].id), None));
        assert_eq!(jobs[0].reserved, old.reserved, "its reservation stays counted");
        assert_eq!(jobs[1].retry_of, Some(old.id));
        assert_eq!((jobs[1].seed, jobs[1].mesh_seed), (old.seed, old.mesh_seed));
        assert_eq!(told["job"], jobs[1].id.to_string(), "{told}");
        assert_eq!(told["files"].as_array().map(Vec::len), Some(2), "{told}");
        assert_eq!((stage.submits(), stage.accepted()), (2, 2));
        let sent = stage.service.stats().requests;
        assert_eq!(sent[1].prompt, "a clay owl");
        assert_eq!(sent[0].overrides, sent[1].overrides);
        stage.assert_public_whole();
        if let Some(daemon) = &daemon {
            let status = daemon.status().expect("it answers");
            assert!(status.projects[0].unknown.is_empty(), "it is not asked about any more");
        }

        let again = stage.cli(&["jobs", "retry", &old.id.to_string(), "--yes"]);
        assert_eq!(again.status.code(), Some(64), "{again:?}");
        assert!(said(&again).contains(&jobs[1].id.to_string()), "{again:?}");
        assert_eq!(stage.submits(), 2, "a second retry sends nothing");
        let audit = audit(&stage);
        assert!(audit.contains(&("settle".into(), "retried".into())), "{audit:?}");
    }
}

#[test]
fn the_budget_holds_for_a_retry_and_leaves_the_unknown_job_as_it_is() {
    let mut stage = DemoProject::new();
    let old = lost(&stage, "a clay owl");
    stage.set("budget.per_job_usd", "0.0001");
    let output = stage.cli(&["jobs", "retry", &old.id.to_string(), "--yes"]);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert_eq!((stage.submits(), stage.jobs().len()), (1, 1));
    assert_eq!(stage.jobs()[0].state, JobState::Unknown, "nothing was settled for nothing");
}

#[test]
fn a_failed_job_is_retried_without_a_question() {
    let stage = DemoProject::new();
    stage.service.order(Order::from(Fault::Http {
        status: 422,
        retry_after: None,
        body: None,
        accepted: false,
    }));
    let output = stage.cli(&["once", "--prompt", "a clay owl"]);
    assert!(!output.status.success(), "{output:?}");
    let old = stage.jobs().pop().expect("a job");
    assert_eq!(old.state, JobState::Failed);
    let output = stage.cli(&["jobs", "retry", &old.id.to_string()]);
    assert!(output.status.success(), "{output:?}");
    assert!(said(&output).contains("estimated at"), "{output:?}");
    let jobs = stage.ended(2);
    assert_eq!((jobs[0].state, jobs[1].state), (JobState::Failed, JobState::Done));
    assert_eq!(jobs[1].retry_of, Some(old.id));

    let output = stage.cli(&["jobs", "retry", &jobs[1].id.to_string()]);
    assert_eq!(output.status.code(), Some(64), "a success is not retried: {output:?}");
    assert!(said(&output).contains("jobs rerun"), "{output:?}");
}

#[test]
fn a_rerun_sends_the_very_same_bytes_and_takes_nothing_from_history() {
    for with_daemon in [false, true] {
        let mut stage = DemoProject::new();
        stage.set("generation.seed", "\"random\"");
        let old = once(&stage, "a clay owl");
        // A configuration change in the meantime does not matter.
        stage.set("generation.steps_flux", "7");
        stage.set("generation.seed", "5");
        stage.film(3);
        let _daemon = with_daemon.then(|| stage.start());
        let output = stage.cli(&["jobs", "rerun", &old.id.to_string()]);
        assert!(output.status.success(), "{output:?}");
        assert!(said(&output).contains("estimated at"), "{output:?}");
        let new = stage.jobs().into_iter().find(|job| job.retry_of == Some(old.id)).expect("a job");
        assert_eq!((new.state, new.body_digest), (JobState::Done, old.body_digest));
        assert_eq!((new.seed, new.mesh_seed), (old.seed, old.mesh_seed));
        let sent = stage.service.stats().requests;
        assert_eq!(sent.len(), 2, "it was sent, not taken from history");
        assert_eq!(sent[0].overrides, sent[1].overrides);
        assert_eq!(sent[0].picture, sent[1].picture);
        stage.assert_public_whole();
    }
}

#[test]
fn a_rerun_that_would_not_be_the_same_request_is_refused_before_it_is_sent() {
    let mut stage = DemoProject::new();
    let old = once(&stage, "a clay owl");
    let prompt = stage.state_dir().join("history").join(old.id.to_string()).join("prompt.txt");
    std::fs::write(&prompt, "a clay fox").expect("writes");
    let output = stage.cli(&["jobs", "rerun", &old.id.to_string()]);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    std::fs::remove_file(&prompt).expect("removes");
    let output = stage.cli(&["jobs", "rerun", &old.id.to_string()]);
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    assert!(said(&output).contains("no longer in the history"), "{output:?}");
    stage.set("generation.steps_flux", "9");
    assert_eq!((stage.submits(), stage.jobs().len()), (1, 1));
}

#[test]
fn a_detached_retry_returns_when_the_service_has_it_and_the_next_daemon_places_it() {
    // Runs that end when the test says so: the command returns long before.
    let run = Duration::from_secs(3600);
    let stage = DemoProject::with(conjured::simulator::Settings { run, ..quick() });
    let old = lost(&stage, "a clay owl");
    let output = stage.cli(&["jobs", "retry", &old.id.to_string(), "--yes", "--detach"]);
    assert!(output.status.success(), "{output:?}");
    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let new = stage.jobs().pop().expect("a job");
    assert_eq!(id, new.id.to_string());
    assert_eq!(stage.submits(), 2);
    let _daemon = stage.start();
    // The run whose answer was lost comes first.
    stage.service.advance(run);
    stage.service.advance(run);
    let jobs = stage.ended(2);
    assert_eq!(jobs[1].state, JobState::Done);
    assert_eq!(stage.submits(), 2);
}

#[test]
fn jobs_that_cannot_be_done_again_are_refused_with_a_sentence() {
    let stage = DemoProject::new();
    let old = once(&stage, "a clay owl");
    for (arguments, code) in [
        (&["jobs", "retry", "01ZZZ"][..], 64),
        (&["jobs", "rerun", ""], 64),
        (&["jobs", "restore", "../../etc"], 64),
        (&["jobs", "rate", "01ZZZ", "3"], 64),
        (&["jobs", "rate", &old.id.to_string(), "6"], 64),
        (&["jobs", "rate", &old.id.to_string()], 64),
    ] {
        let output = stage.cli(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    let unknown = lost(&stage, "a clay fox").id.to_string();
    let output = stage.cli(&["jobs", "rerun", &unknown]);
    assert!(said(&output).contains("jobs retry"), "{output:?}");
    let output = stage.cli(&["jobs", "rate", &unknown, "3"]);
    assert!(said(&output).contains("no result to rate"), "{output:?}");
    assert_eq!(stage.submits(), 2);
}

#[test]
fn a_rating_is_kept_beside_a_daemon_and_without_one() {
    let stage = DemoProject::new();
    let id = once(&stage, "a clay owl").id.to_string();
    let rated = stage.json(&["jobs", "rate", &id, "2", "dull", "back", "--json"]);
    assert_eq!(rated["job"], *id);
    let shown = stage.json(&["jobs", "show", &id, "--json"]);
    assert_eq!(shown["rating"]["stars"], 2, "{shown}");
    assert_eq!(shown["rating"]["note"], "dull back");
    let _daemon = stage.start();
    stage.json(&["jobs", "rate", &id, "5", "--json"]);
    let shown = stage.json(&["jobs", "show", &id, "--json"]);
    assert_eq!((&shown["rating"]["stars"], &shown["rating"]["note"]), (&5.into(), &"".into()));
}

#[test]
fn the_whole_story_of_a_job_is_shown() {
    let stage = DemoProject::new();
    let job = once(&stage, "a clay owl");
    let id = job.id.to_string();
    let shown = stage.json(&["jobs", "show", &id, "--json"]);
    let events = shown["events"].as_array().expect("events");
    let states: Vec<_> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
    assert_eq!(states.first(), Some(&"prepared"), "{shown}");
    assert_eq!(states.last(), Some(&"done"), "{shown}");
    assert!(events[0]["lasted_ms"].is_u64(), "{shown}");
    assert!(events.last().expect("one")["lasted_ms"].is_null(), "{shown}");
    assert!(shown["sent_bytes"].as_u64() > Some(1000), "{shown}");
    let kept: u64 = shown["artifacts"]
        .as_array()
        .expect("artifacts")
        .iter()
        .inspect(|artifact| assert_eq!(artifact["in_history"], true, "{shown}"))
        .filter_map(|artifact| artifact["bytes"].as_u64())
        .sum();
    assert!(shown["received_bytes"].as_u64() >= Some(kept / 2), "{shown}");
    assert_eq!(shown["audit"][0]["what"], "submit", "{shown}");
    assert_eq!(shown["audit"][0]["outcome"], "accepted", "{shown}");
    let text = stage.cli(&["jobs", "show", &id]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for word in ["accepted after", "blake3", "audit", "received", "submitting", "attempt"] {
        assert!(text.contains(word), "{word}: {text}");
    }

    let cached = once(&stage, "a clay owl").id.to_string();
    let shown = stage.json(&["jobs", "show", &cached, "--json"]);
    assert_eq!(shown["cache_of"], *id, "{shown}");
}
