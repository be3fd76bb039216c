//! Chooses the backend for a job: the rule of [`crate::domain::job::choose_backend`], applied to
//! the configuration and the health of each backend.
//!
//! Owns the check whether a backend that was paused after failures is back, if another one could
//! run the job meanwhile: a call that costs nothing, with a short time limit. If there is no other
//! backend, the job waits in its own task instead.

use std::time::Duration;

use crate::{
    backend::{CallError, FaultKind},
    daemon::services::{
        Tools, command::RefusedKind, health::May, messages::Report, runtime_config::Live,
    },
    domain::{
        job::choose_backend::{
            Availability, BackendKind, PastAttempt, Route, RouteCandidate, route,
        },
        time::Moment,
    },
};

/// How long it may take to find out whether a backend is back while another one could begin.
const PROBE: Duration = Duration::from_millis(1500);

/// Chooses the backend for a job that is to be sent now.
pub(crate) async fn choose(
    tools: &Tools,
    live: &Live,
    tried: &[PastAttempt],
    person: bool,
) -> Route {
    let mut candidates = Vec::new();
    for &backend in &live.order {
        let standing = standing(tools, live, backend, person).await;
        let serves = standing == Availability::Ready && tried.is_empty();
        let workflow = live.recipes.at(backend).version();
        candidates.push(RouteCandidate { backend, availability: standing, workflow });
        // The remaining backends need no call, because the job would not go there.
        if serves {
            break;
        }
    }
    route(&candidates, tried, live.config.local.after_unknown)
}

/// Returns the backend that early work is most likely for. Makes no call.
pub(crate) fn likely(tools: &Tools, live: &Live) -> BackendKind {
    let now = tools.clock.now().moment;
    let well = |backend: &&BackendKind| {
        live.at(**backend).is_ok() && tools.health.at(**backend).is_well(now, live)
    };
    live.order.iter().find(well).copied().unwrap_or_else(|| live.first())
}

/// Returns the kind of refusal if no backend can run a job: that of the first backend, which the
/// person expects to be used.
pub(crate) fn kind_of_nowhere(live: &Live) -> RefusedKind {
    let reasons = live.order.iter().filter_map(|backend| live.at(*backend).as_ref().err());
    reasons.map(|unready| unready.kind).next().unwrap_or(RefusedKind::Configuration)
}

async fn standing(tools: &Tools, live: &Live, backend: BackendKind, person: bool) -> Availability {
    let ready = match live.at(backend) {
        Ok(ready) => ready,
        Err(unready) => return Availability::Unusable { reason: unready.reason.clone() },
    };
    // Without an alternative a job waits in its own task, and can be controlled there.
    if live.order.len() < 2 {
        return Availability::Ready;
    }
    let health = tools.health.at(backend);
    match health.ask(tools.clock.now().moment, live, person) {
        May::Go => Availability::Ready,
        May::Wait(until, reason) => Availability::Paused { until, reason },
        May::Probe => {
            tools.pass_call(backend).await;
            let silent = || CallError::Transient {
                reason: "it does not answer".to_owned(),
                retry_after: None,
            };
            let answer = tokio::time::timeout(PROBE, ready.backend().warm_up()).await;
            let answer = answer.unwrap_or_else(|_| Err(silent()));
            let now = tools.clock.now().moment;
            health.called(now, live, &answer);
            match answer {
                Ok(Some(balance)) => {
                    drop(tools.reports.send(Report::Balance(balance)).await);
                    Availability::Ready
                }
                Ok(None) => Availability::Ready,
                Err(error) => {
                    if matches!(&error, CallError::Fault(fault) if fault.kind == FaultKind::Token) {
                        drop(tools.reports.send(Report::TokenRefused).await);
                    }
                    let until = until(tools, live, backend, now);
                    Availability::Paused { until, reason: error.to_string() }
                }
            }
        }
    }
}

fn until(tools: &Tools, live: &Live, backend: BackendKind, now: Moment) -> Moment {
    let trouble = tools.health.at(backend).trouble(live);
    trouble.and_then(|trouble| trouble.until).unwrap_or_else(|| now.plus(PROBE))
}
