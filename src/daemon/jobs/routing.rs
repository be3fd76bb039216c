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
        Services, command::CommandErrorKind, health::Permit, messages::JobReport,
        runtime_config::RuntimeConfig,
    },
    domain::{
        job::choose_backend::{
            Availability, BackendKind, PastAttempt, Route, RouteCandidate, route,
        },
        time::Moment,
    },
};

/// How long it may take to find out whether a backend is back while another one could begin.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Chooses the backend for a job that is to be sent now.
pub(crate) async fn choose_backend(
    services: &Services,
    config: &RuntimeConfig,
    tried: &[PastAttempt],
    person: bool,
) -> Route {
    let mut candidates = Vec::new();
    for &backend in &config.order {
        let availability = availability(services, config, backend, person).await;
        let serves = availability == Availability::Ready && tried.is_empty();
        let workflow = config.workflows.at(backend).version();
        candidates.push(RouteCandidate { backend, availability, workflow });
        // The remaining backends need no call, because the job would not go there.
        if serves {
            break;
        }
    }
    route(&candidates, tried, config.settings.local.after_unknown)
}

/// Returns the backend that early work is most likely for. Makes no call.
pub(crate) fn likely_backend(services: &Services, config: &RuntimeConfig) -> BackendKind {
    let now = services.clock.now().moment;
    let well = |backend: &&BackendKind| {
        config.at(**backend).is_ok() && services.health.at(**backend).is_healthy(now, config)
    };
    config.order.iter().find(well).copied().unwrap_or_else(|| config.first())
}

/// Returns the kind of refusal if no backend can run a job: that of the first backend, which the
/// person expects to be used.
pub(crate) fn unroutable_kind(config: &RuntimeConfig) -> CommandErrorKind {
    let reasons = config.order.iter().filter_map(|backend| config.at(*backend).as_ref().err());
    reasons.map(|unavailable| unavailable.kind).next().unwrap_or(CommandErrorKind::Configuration)
}

async fn availability(
    services: &Services,
    config: &RuntimeConfig,
    backend: BackendKind,
    person: bool,
) -> Availability {
    let configured = match config.at(backend) {
        Ok(configured) => configured,
        Err(unavailable) => return Availability::Unusable { reason: unavailable.reason.clone() },
    };
    // Without an alternative a job waits in its own task, and can be controlled there.
    if config.order.len() < 2 {
        return Availability::Ready;
    }
    let health = services.health.at(backend);
    match health.request_permit(services.clock.now().moment, config, person) {
        Permit::Proceed => Availability::Ready,
        Permit::Wait(until, reason) => Availability::Paused { until, reason },
        Permit::Probe => {
            services.wait_for_call(backend).await;
            let silent = || CallError::Transient {
                reason: "it does not answer".to_owned(),
                retry_after: None,
            };
            let answer = tokio::time::timeout(PROBE_TIMEOUT, configured.backend().warm_up()).await;
            let answer = answer.unwrap_or_else(|_| Err(silent()));
            let now = services.clock.now().moment;
            health.record_call(now, config, &answer);
            match answer {
                Ok(Some(balance)) => {
                    drop(services.reports.send(JobReport::Balance(balance)).await);
                    Availability::Ready
                }
                Ok(None) => Availability::Ready,
                Err(error) => {
                    if matches!(&error, CallError::Fault(fault) if fault.kind == FaultKind::Token) {
                        drop(services.reports.send(JobReport::TokenRefused).await);
                    }
                    let until = until(services, config, backend, now);
                    Availability::Paused { until, reason: error.to_string() }
                }
            }
        }
    }
}

fn until(services: &Services, config: &RuntimeConfig, backend: BackendKind, now: Moment) -> Moment {
    let problem = services.health.at(backend).problem(config);
    problem.and_then(|problem| problem.until).unwrap_or_else(|| now.plus(PROBE_TIMEOUT))
}
