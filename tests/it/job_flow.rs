//! The flow of one job: its rules as data (`cases/job.toml`), and what holds for every sequence of
//! answers, losses, deaths, controls, reloads and clocks that are set.

mod model;
mod perform;
mod properties;

use std::collections::BTreeMap;

use conjured::domain::{
    job::{
        Cause,
        choose_backend::{Availability, BackendKind},
        control::JobControl,
        flow::Do,
    },
    money::job_cost::Booking,
};
use serde::Deserialize;

use self::model::{Model, Script, some_job};

#[derive(Deserialize)]
struct File {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "serverless")]
    order: Vec<BackendKind>,
    cause: Option<Cause>,
    #[serde(default)]
    answers: Script,
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    given: Vec<String>,
    sent: Option<usize>,
    placed: Option<bool>,
    settled: Option<Vec<String>>,
    expect: Vec<String>,
}

fn serverless() -> Vec<BackendKind> {
    vec![BackendKind::Serverless]
}

/// The name of a step in the cases.
fn step_name(step: &Do) -> String {
    match step {
        Do::Fetch(kind) => format!("fetch {kind}"),
        Do::Wait(_, what) => format!("wait {what:?}").to_lowercase(),
        Do::UseCached(_) => "use cached".to_owned(),
        Do::ChooseBackend(_) => "switch".to_owned(),
        Do::Probe(_) => "probe".to_owned(),
        Do::Prepare => "prepare".to_owned(),
        Do::AcquireServer => "acquire server".to_owned(),
        Do::MarkSubmitting => "mark submitting".to_owned(),
        Do::Submit => "submit".to_owned(),
        Do::RecordAccepted => "record accepted".to_owned(),
        Do::RecordNotSent => "record not sent".to_owned(),
        Do::RecordAnswerLost => "record answer lost".to_owned(),
        Do::Poll => "poll".to_owned(),
        Do::AskResult => "ask result".to_owned(),
        Do::Cancel(_) => "cancel".to_owned(),
        Do::KeepImage => "keep image".to_owned(),
        Do::RecordFetched => "record fetched".to_owned(),
        Do::MarkPlacing => "mark placing".to_owned(),
        Do::Place => "place".to_owned(),
        Do::HandOff => "hand off".to_owned(),
        Do::Suspend => "suspend".to_owned(),
        Do::End(_) => "end".to_owned(),
        Do::Ended(_) => "ended".to_owned(),
    }
}

fn play(case: &Case) -> Model {
    let cause = case.cause.unwrap_or(Cause::Prompt);
    let mut model = Model::new(&case.order, cause, case.answers.clone());
    for given in &case.given {
        match given.as_str() {
            "stands in" => model.record.stands_in_for = Some(some_job()),
            "cached" => {
                model.record.cached_from = Some(some_job());
                model.record.reserved = conjured::domain::money::MicroUsd::ZERO;
            }
            "own folder" => model.record.own_folder = true,
            "no conjure" => model.handoff = false,
            "after unknown" => model.after_unknown = true,
            other => panic!("{}: nothing is `{other}`", case.name),
        }
    }
    let mut asked: BTreeMap<String, u32> = BTreeMap::new();
    let mut happened = vec![false; case.events.len()];
    for _ in 0..20_000 {
        let step = model.next();
        let name = step_name(&step);
        let times = asked.entry(name.clone()).or_default();
        *times += 1;
        let key = format!("before {times} {name}");
        let event = case.events.iter().position(|event| event.split(": ").next() == Some(&key));
        if let Some(index) = event.filter(|index| !happened[*index]) {
            happened[index] = true;
            let what = case.events[index].split(": ").nth(1).expect("an event");
            match what.split_once(' ').unwrap_or((what, "")) {
                ("cancel", _) => model.control = model.control.max(JobControl::Cancel),
                ("supersede", _) => model.control = model.control.max(JobControl::Supersede),
                ("stop", _) => model.stopping = true,
                ("restart", _) => model.restart(60),
                ("unusable", _) => model.usable = false,
                ("usable", _) => model.usable = true,
                ("disk", how) => model.disk_silent = how == "silent",
                ("pause", backend) => {
                    let backend = BackendKind::from_name(backend).expect("a backend");
                    let until = model.now.moment.plus(std::time::Duration::from_secs(60));
                    model.availability.insert(backend, Availability::Paused { until });
                }
                ("dies", _) => {
                    model.dies_unrecorded = true;
                    model.perform(step);
                    model.restart(60);
                }
                (other, _) => panic!("{}: nothing is `{other}`", case.name),
            }
            continue;
        }
        let is_over = matches!(step, Do::Suspend | Do::End(_) | Do::Ended(_));
        model.perform(step);
        if is_over {
            assert!(
                happened.iter().all(|event| *event),
                "{}: not every event happened: {:?}",
                case.name,
                model.trace
            );
            return model;
        }
    }
    panic!("{}: no end: {:?}", case.name, model.trace);
}

#[test]
fn the_rules_hold() {
    let file: File = toml::from_str(include_str!("cases/job.toml")).expect("the cases");
    let mut wrong = Vec::new();
    for case in &file.case {
        let model = play(case);
        if model.trace != case.expect {
            wrong.push(format!(
                "{}\n  expected {:?}\n  found    {:?}",
                case.name, case.expect, model.trace
            ));
            continue;
        }
        if case.sent.is_some_and(|sent| sent != model.sent.len()) {
            wrong.push(format!("{}: sent {:?}", case.name, model.sent));
        }
        if case.placed.is_some_and(|placed| placed != model.placed) {
            wrong.push(format!("{}: placed: {}", case.name, model.placed));
        }
        let settled = model.settled.iter().filter(|(_, booking)| *booking != Booking::Nothing);
        let settled: Vec<String> = settled
            .map(|(backend, booking)| format!("{backend} {}", perform::booked(*booking)))
            .collect();
        if case.settled.as_ref().is_some_and(|expected| *expected != settled) {
            wrong.push(format!("{}: settled {settled:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), file.case.len(), wrong.join("\n"));
}
