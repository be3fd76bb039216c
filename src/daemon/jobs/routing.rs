//! The backends as candidates for a job: what the configuration and the health of each say, and the
//! words for why one was passed over.
//!
//! Owns the check whether a backend that was paused after failures is back: a call that costs
//! nothing. Which backend a job gets is decided by [`crate::domain::job::choose_backend`].

use std::{collections::BTreeMap, time::Duration};

use crate::{
    backend::{CallError, FaultKind},
    daemon::services::{
        Services, command::CommandErrorKind, health::Permit, messages::JobReport,
        runtime_config::RuntimeConfig,
    },
    domain::{
        job::choose_backend::{
            Availability, BackendKind, PastAttempt, Route, RouteCandidate, Skip, route,
        },
        time::Moment,
    },
};

/// How long it may take to find out whether a backend is back while another one could begin.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);

/// The reasons for which backends cannot serve now, for people.
pub(super) type Reasons = BTreeMap<BackendKind, String>;

/// The backends of the configuration, in their order.
pub(super) struct Candidates {
    pub(super) list: Vec<RouteCandidate>,
    pub(super) reasons: Reasons,
}

/// Returns the backends as candidates. `asks` says for which of them the end of a pause is not
/// waited for before it is asked whether it is back. Makes no call.
pub(super) fn candidates(
    services: &Services,
    config: &RuntimeConfig,
    now: Moment,
    asks: impl Fn(BackendKind) -> bool,
) -> Candidates {
    let (mut list, mut reasons) = (Vec::new(), Reasons::new());
    for &backend in &config.order {
        let availability = match config.at(backend) {
            Err(unavailable) => {
                reasons.insert(backend, unavailable.reason.clone());
                Availability::Unusable
            }
            Ok(_) => {
                let health = services.health.at(backend);
                match health.peek_permit(now, config, asks(backend)) {
                    Permit::Proceed => Availability::Ready,
                    Permit::Probe => Availability::Unproven,
                    Permit::Wait(until, reason) => {
                        reasons.insert(backend, reason);
                        Availability::Paused { until }
                    }
                }
            }
        };
        let workflow = config.workflows.at(backend).version();
        list.push(RouteCandidate { backend, availability, workflow });
    }
    Candidates { list, reasons }
}

/// Returns why backends were passed over, one reason after another. `attempt` describes a past
/// attempt by its place.
pub(super) fn describe(
    skipped: &[(BackendKind, Skip)],
    reasons: &Reasons,
    attempt: impl Fn(usize) -> String,
) -> String {
    let reason = |backend: &BackendKind, skip: Skip| match skip {
        Skip::Unusable | Skip::Paused => reasons.get(backend).cloned().unwrap_or_default(),
        Skip::MayBeCharged => "an earlier request may have been charged".to_owned(),
        Skip::AfterUnknown => {
            "an earlier request may have been charged (`local.after_unknown`)".to_owned()
        }
        Skip::Attempt(at) => attempt(at),
        Skip::LostTooOften => {
            format!("it lost the job {} times", crate::domain::job::choose_backend::MAX_LOST)
        }
    };
    let parts: Vec<String> = skipped
        .iter()
        .map(|(backend, skip)| format!("{backend}: {}", reason(backend, *skip)))
        .collect();
    parts.join("; ")
}

/// The backend of a new job.
pub(super) enum Chosen {
    /// It goes there. The reason says why not to an earlier one; empty for the first.
    Use(BackendKind, String),
    /// No backend can make it: why, for people.
    Unroutable(String),
}

/// Chooses the backend for a new job. Where another one could begin meanwhile, a backend that may
/// be back is asked; otherwise the job's own task waits for it, and can be controlled there.
pub(super) async fn choose(
    services: &Services,
    config: &RuntimeConfig,
    tried: &[(PastAttempt, String)],
    person: bool,
) -> Chosen {
    let past: Vec<PastAttempt> = tried.iter().map(|(attempt, _)| *attempt).collect();
    let mut unproven = Reasons::new();
    loop {
        let now = services.clock.now().moment;
        let asks = |backend| person && !unproven.contains_key(&backend);
        let Candidates { list, mut reasons } = candidates(services, config, now, asks);
        for (backend, reason) in &unproven {
            reasons.insert(*backend, reason.clone());
        }
        let told = |skipped: &[(BackendKind, Skip)]| {
            let attempt = |at: usize| tried.get(at).map_or_else(String::new, |one| one.1.clone());
            describe(skipped, &reasons, attempt)
        };
        match route(&list, &past, config.settings.local.after_unknown) {
            Route::Use { backend, skipped } => return Chosen::Use(backend, told(&skipped)),
            Route::Wait { backend, .. } => {
                return Chosen::Use(backend, reasons.remove(&backend).unwrap_or_default());
            }
            Route::Unroutable { skipped } => return Chosen::Unroutable(told(&skipped)),
            Route::Probe { backend } if config.order.len() < 2 => {
                return Chosen::Use(backend, String::new());
            }
            Route::Probe { backend } => {
                match probe(services, config, backend, person, Some(PROBE_TIMEOUT)).await {
                    Probed::Back => {}
                    // It is asked by another job, and that takes as long as it takes.
                    Probed::Later(_, reason) if unproven.contains_key(&backend) => {
                        return Chosen::Use(backend, reason);
                    }
                    Probed::Later(_, reason) => {
                        unproven.insert(backend, reason);
                    }
                    Probed::Away(error) => {
                        unproven.insert(backend, error.to_string());
                    }
                }
            }
        }
    }
}

/// What a probe found out.
pub(super) enum Probed {
    /// The backend is back, or was never away.
    Back,
    /// It is not the time to ask; the reason is for people.
    Later(Moment, String),
    /// It is not back.
    Away(CallError),
}

/// Asks whether a backend is back.
pub(super) async fn probe(
    services: &Services,
    config: &RuntimeConfig,
    backend: BackendKind,
    person: bool,
    limit: Option<Duration>,
) -> Probed {
    let Ok(configured) = config.at(backend) else { return Probed::Back };
    let health = services.health.at(backend);
    match health.request_permit(services.clock.now().moment, config, person) {
        Permit::Proceed => return Probed::Back,
        Permit::Wait(until, reason) => return Probed::Later(until, reason),
        Permit::Probe => {}
    }
    services.wait_for_call(backend).await;
    let call = configured.backend().warm_up();
    let answer = match limit {
        None => call.await,
        Some(limit) => tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
            Err(CallError::Transient { reason: "it does not answer".to_owned(), retry_after: None })
        }),
    };
    health.record_call(services.clock.now().moment, config, &answer);
    match answer {
        Ok(balance) => {
            if let Some(balance) = balance {
                drop(services.reports.send(JobReport::Balance(balance)).await);
            }
            Probed::Back
        }
        Err(error) => {
            if matches!(&error, CallError::Fault(fault) if fault.kind == FaultKind::Token) {
                drop(services.reports.send(JobReport::TokenRefused).await);
            }
            Probed::Away(error)
        }
    }
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
