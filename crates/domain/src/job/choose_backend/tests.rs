//! The modes as a table: candidates and earlier attempts → the backend of a job.

use std::time::Duration;

use super::*;
use AttemptOutcome::{Askable, Failed, Lost, NotSent, Refused, Unknown, Workflow};
use BackendKind::{Cloud, Comfyui, Huggingface, Serverless};

fn version(name: &str) -> Fingerprint {
    Fingerprint::of(name.as_bytes())
}

/// The paid queue and the rented machine run one graph, the local server and the Spaces each run
/// their own.
fn workflow(backend: BackendKind) -> Fingerprint {
    match backend {
        Serverless | Cloud => version("flux"),
        Comfyui => version("local"),
        Huggingface => version("spaces"),
    }
}

fn at(seconds: u64) -> Moment {
    Moment::default().plus(Duration::from_secs(seconds))
}

fn ready(backend: BackendKind) -> RouteCandidate {
    RouteCandidate { backend, availability: Availability::Ready, workflow: workflow(backend) }
}

fn missing(backend: BackendKind) -> RouteCandidate {
    RouteCandidate { availability: Availability::Unusable, ..ready(backend) }
}

fn away(backend: BackendKind, until: u64) -> RouteCandidate {
    let availability = Availability::Paused { until: at(until) };
    RouteCandidate { availability, ..ready(backend) }
}

fn tried(list: &[(BackendKind, AttemptOutcome)]) -> Vec<PastAttempt> {
    list.iter()
        .map(|&(backend, outcome)| PastAttempt { backend, workflow: workflow(backend), outcome })
        .collect()
}

/// Returns the route of a job as one word or two: `comfyui`, `wait serverless`, `nowhere`.
fn goes(
    candidates: &[RouteCandidate],
    so_far: &[(BackendKind, AttemptOutcome)],
    after_unknown: bool,
) -> String {
    match route(candidates, &tried(so_far), after_unknown) {
        Route::Use { backend, .. } => backend.to_string(),
        Route::Probe { backend } => format!("probe {backend}"),
        Route::Wait { backend, .. } => format!("wait {backend}"),
        Route::Unroutable { .. } => "nowhere".to_owned(),
    }
}

#[test]
fn the_first_that_can_serve_serves() {
    let auto = [ready(Serverless), ready(Comfyui), ready(Huggingface)];
    let table: [(&[RouteCandidate], &str); 9] = [
        (&auto, "serverless"),
        (&auto[1..], "comfyui"),
        (&[missing(Serverless), ready(Comfyui)], "comfyui"),
        (&[away(Serverless, 9), ready(Comfyui)], "comfyui"),
        (&[missing(Serverless), away(Comfyui, 9), ready(Huggingface)], "huggingface"),
        (&[away(Serverless, 9), away(Comfyui, 5)], "wait comfyui"),
        (&[away(Serverless, 5), away(Comfyui, 5)], "wait serverless"),
        (&[missing(Serverless), missing(Comfyui)], "nowhere"),
        (&[], "nowhere"),
    ];
    for (candidates, expected) in table {
        assert_eq!(goes(candidates, &[], false), expected, "{candidates:?}");
    }
}

#[test]
fn earlier_attempts_decide_the_next_backend() {
    let auto = [ready(Serverless), ready(Comfyui), ready(Huggingface)];
    let table: [(&[(BackendKind, AttemptOutcome)], &str); 14] = [
        (&[(Serverless, NotSent)], "comfyui"),
        (&[(Serverless, Refused)], "comfyui"),
        (&[(Serverless, Failed)], "comfyui"),
        // Another workflow may do what this one could not.
        (&[(Serverless, Workflow)], "comfyui"),
        (&[(Serverless, Unknown)], "nowhere"),
        (&[(Serverless, NotSent), (Comfyui, NotSent)], "huggingface"),
        (&[(Serverless, NotSent), (Comfyui, Refused)], "huggingface"),
        (&[(Serverless, Refused), (Comfyui, Workflow)], "huggingface"),
        (&[(Comfyui, Lost)], "serverless"),
        // All were unreachable: the one tried least often, then the first.
        (&[(Serverless, NotSent), (Comfyui, NotSent), (Huggingface, NotSent)], "serverless"),
        (
            &[
                (Serverless, NotSent),
                (Serverless, NotSent),
                (Comfyui, NotSent),
                (Huggingface, Refused),
            ],
            "comfyui",
        ),
        (&[(Serverless, Failed), (Comfyui, Failed), (Huggingface, Failed)], "nowhere"),
        (&[(Serverless, Failed), (Comfyui, NotSent), (Huggingface, Failed)], "comfyui"),
        (&[(Serverless, Failed), (Comfyui, Unknown), (Huggingface, Failed)], "nowhere"),
    ];
    for (so_far, expected) in table {
        assert_eq!(goes(&auto, so_far, false), expected, "{so_far:?}");
    }
}

#[test]
fn a_free_server_that_loses_a_job_gets_it_again_but_not_forever() {
    let local = [ready(Comfyui), ready(Huggingface)];
    assert_eq!(goes(&local, &[(Comfyui, Lost)], false), "comfyui");
    assert_eq!(goes(&local, &[(Comfyui, Lost); MAX_LOST], false), "huggingface");
    assert_eq!(goes(&local[..1], &[(Comfyui, Lost); MAX_LOST], false), "nowhere");
}

#[test]
fn after_a_request_that_may_have_been_charged_nothing_is_sent_that_could_be_charged() {
    let all = [ready(Serverless), ready(Cloud), ready(Comfyui), ready(Huggingface)];
    for paid in [Serverless, Cloud] {
        for outcome in [Unknown, Failed, Workflow, Lost] {
            for after_unknown in [false, true] {
                let next = goes(&all, &[(paid, outcome)], after_unknown);
                assert!(!["serverless", "cloud"].contains(&next.as_str()), "{paid} {outcome:?}");
            }
        }
    }
    assert_eq!(goes(&all, &[(Serverless, Unknown)], true), "comfyui", "free, and asked for");
    assert_eq!(goes(&all, &[(Serverless, Unknown)], false), "nowhere");
    assert_eq!(goes(&all, &[(Serverless, Refused)], false), "cloud", "nothing was charged");
}

#[test]
fn a_backend_that_can_be_asked_for_a_lost_request_keeps_the_job() {
    let all = [ready(Serverless), ready(Cloud), ready(Comfyui)];
    assert_eq!(goes(&all, &[(Cloud, Askable)], false), "cloud", "nothing else that is paid");
    assert_eq!(goes(&all, &[(Cloud, Askable), (Cloud, NotSent)], false), "cloud");
    assert_eq!(goes(&all[..1], &[(Cloud, Askable)], false), "nowhere");
    assert_eq!(goes(&all[2..], &[(Cloud, Askable)], false), "nowhere", "it may still succeed");
    assert_eq!(goes(&all[2..], &[(Cloud, Askable)], true), "comfyui");
}

#[test]
fn a_workflow_that_caused_a_failure_does_not_run_on_another_backend() {
    let mut local = ready(Comfyui);
    local.workflow = workflow(Serverless);
    assert_eq!(goes(&[ready(Serverless), local], &[(Serverless, Workflow)], false), "nowhere");
}

#[test]
fn a_route_says_why_other_backends_were_skipped() {
    let candidates = [missing(Serverless), away(Comfyui, 3), ready(Huggingface)];
    assert_eq!(
        route(&candidates, &[], false),
        Route::Use {
            backend: Huggingface,
            skipped: vec![(Serverless, Skip::Unusable), (Comfyui, Skip::Paused)],
        }
    );
    let first = route(&[ready(Serverless)], &[], false);
    assert_eq!(first, Route::Use { backend: Serverless, skipped: Vec::new() });
    let so_far = tried(&[(Serverless, NotSent), (Comfyui, Failed)]);
    assert_eq!(
        route(&[ready(Serverless), ready(Comfyui)], &so_far, false),
        Route::Use { backend: Serverless, skipped: vec![(Comfyui, Skip::Attempt(1))] },
        "one that was not reached may be asked again"
    );
}

#[test]
fn a_backend_that_may_be_back_is_asked_before_the_job_is_sent_elsewhere() {
    type Row<'a> = (&'a [RouteCandidate], &'a [(BackendKind, AttemptOutcome)], &'a str);
    let unproven =
        |backend| RouteCandidate { availability: Availability::Unproven, ..ready(backend) };
    let table: [Row<'_>; 4] = [
        (&[unproven(Serverless), ready(Comfyui)], &[], "probe serverless"),
        (&[ready(Serverless), unproven(Comfyui)], &[], "serverless"),
        // Nothing that the job could not be sent to is asked.
        (&[unproven(Serverless), ready(Comfyui)], &[(Serverless, Failed)], "comfyui"),
        (&[ready(Serverless), unproven(Comfyui)], &[(Serverless, NotSent)], "probe comfyui"),
    ];
    for (candidates, so_far, expected) in table {
        assert_eq!(goes(candidates, so_far, false), expected, "{candidates:?}");
    }
}
