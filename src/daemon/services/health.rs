//! The health of each backend, for every job and for `status`: the circuit breaker, and a
//! rejected token.
//!
//! Owns one [`Breaker`] per backend behind a lock, the rule for what counts as the backend's own
//! fault, and the single log line when that changes. It sends nothing and waits for nothing; jobs
//! do that ([`crate::daemon::jobs`]). It is kept in memory only, see [`Breaker`].

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use secrecy::SecretString;

use super::runtime_config::RuntimeConfig;
use crate::{
    backend::{CallError, FaultKind, ServiceFault, SubmitError},
    domain::{
        job::{
            breaker::{self, Breaker, BreakerPermit, FailureKind},
            choose_backend::BackendKind,
        },
        time::Moment,
    },
};

/// How long after a rejection of the token it is automatically checked again, with a call that
/// costs nothing.
const TOKEN_PROBE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct HealthRegistry([HealthRecord; BackendKind::ALL.len()]);

impl Default for HealthRegistry {
    fn default() -> Self {
        Self(BackendKind::ALL.map(|backend| HealthRecord { backend, inner: Mutex::default() }))
    }
}

impl HealthRegistry {
    pub(crate) fn at(&self, backend: BackendKind) -> &HealthRecord {
        let [serverless, comfyui, huggingface, cloud] = &self.0;
        match backend {
            BackendKind::Serverless => serverless,
            BackendKind::Comfyui => comfyui,
            BackendKind::Huggingface => huggingface,
            BackendKind::Cloud => cloud,
        }
    }
}

/// The health of a backend.
#[derive(Debug)]
pub(crate) struct HealthRecord {
    backend: BackendKind,
    inner: Mutex<HealthState>,
}

#[derive(Clone, Debug, Default)]
struct HealthState {
    breaker: Breaker,
    refused: Option<RefusedToken>,
    /// Whether the log has reported that it is paused, and not yet that it is back.
    warned: bool,
}

/// A token that the service rejected.
#[derive(Clone, Debug)]
struct RefusedToken {
    /// The rejected token; a different one is not rejected.
    token: Option<SecretString>,
    probe_at: Moment,
    message: String,
}

/// What a job that is ready to submit may do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Submit.
    Proceed,
    /// Ask for the balance first, and report the result.
    Probe,
    /// Wait until then, for this reason.
    Wait(Moment, String),
}

/// A backend's problem as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthProblem {
    /// The reason, in one sentence.
    pub(crate) reason: String,
    /// When it is automatically retried.
    pub(crate) until: Option<Moment>,
}

impl HealthRecord {
    /// Returns whether a job may be submitted.
    pub(crate) fn request_permit(
        &self,
        now: Moment,
        config: &RuntimeConfig,
        person: bool,
    ) -> Permit {
        self.with(|inner| inner.permit(now, config, self.backend, person))
    }

    /// Returns what [`Self::request_permit`] would return. Changes nothing, so the permission to
    /// probe is still free.
    pub(crate) fn peek_permit(&self, now: Moment, config: &RuntimeConfig, person: bool) -> Permit {
        self.with(|inner| inner.clone()).permit(now, config, self.backend, person)
    }

    /// Returns whether a job may be submitted without waiting or probing. Changes nothing.
    pub(crate) fn is_healthy(&self, now: Moment, config: &RuntimeConfig) -> bool {
        self.with(|inner| {
            inner.token_rejection(config, self.backend).is_none()
                && inner.breaker.clone().request_permit(now, false) == BreakerPermit::Proceed
        })
    }

    /// Records the result of a submit.
    pub(crate) fn record_submit<T>(
        &self,
        now: Moment,
        config: &RuntimeConfig,
        answer: &Result<T, SubmitError>,
    ) {
        match answer {
            Ok(_) => self.update_breaker(Breaker::record_accepted),
            Err(SubmitError::NotSent { reason, retry_after }) => {
                self.record_failure(now, FailureKind::Call, reason, *retry_after);
            }
            Err(SubmitError::Unknown { reason }) => {
                self.record_failure(now, FailureKind::Call, reason, None);
            }
            Err(SubmitError::Refused(fault)) => self.record_fault(now, config, fault),
        }
    }

    /// Records the result of a free call.
    pub(crate) fn record_call<T>(
        &self,
        now: Moment,
        config: &RuntimeConfig,
        answer: &Result<T, CallError>,
    ) {
        match answer {
            Ok(_) => {
                self.with(|inner| inner.refused = None);
                self.update_breaker(Breaker::record_probe_success);
            }
            Err(CallError::Transient { reason, retry_after }) => {
                self.record_failure(now, FailureKind::Call, reason, *retry_after);
            }
            Err(CallError::Fault(fault)) => self.record_fault(now, config, fault),
        }
    }

    /// Records how a run ended: `None` is success, or an end that was requested.
    pub(crate) fn record_run(&self, now: Moment, fault: Option<&ServiceFault>) {
        match fault {
            Some(fault) if fault.kind == FaultKind::Service => {
                self.record_failure(now, FailureKind::Run, &fault.message, None);
            }
            _ => self.update_breaker(Breaker::record_run),
        }
    }

    /// Returns the problem for `status`; `None` if there is none.
    pub(crate) fn problem(&self, config: &RuntimeConfig) -> Option<HealthProblem> {
        self.with(|inner| {
            if let Some(refused) = inner.token_rejection(config, self.backend) {
                let (reason, until) = (refused.message.clone(), Some(refused.probe_at));
                return Some(HealthProblem { reason, until });
            }
            match inner.breaker.state() {
                breaker::BreakerState::Closed => None,
                breaker::BreakerState::Open { until, reason } => Some(HealthProblem {
                    reason: format!("paused after repeated failures: {reason}"),
                    until: Some(*until),
                }),
                breaker::BreakerState::Probing { reason, .. } => Some(HealthProblem {
                    reason: format!("retrying after repeated failures: {reason}"),
                    until: None,
                }),
            }
        })
    }

    /// Records a fault that the service reported: its own, the token's, or one that shows that it
    /// is healthy.
    fn record_fault(&self, now: Moment, config: &RuntimeConfig, fault: &ServiceFault) {
        match fault.kind {
            FaultKind::Service => self.record_failure(now, FailureKind::Call, &fault.message, None),
            FaultKind::Token => {
                let configured = config.at(self.backend).as_ref().ok();
                let from = configured.and_then(|configured| configured.token_from.as_deref());
                let message = match from {
                    Some(from) => {
                        format!(
                            "the token (from {from}) was refused: {}. {}",
                            fault.message, fault.advice
                        )
                    }
                    None => {
                        format!(
                            "{} needs a token: {}. {}",
                            self.backend, fault.message, fault.advice
                        )
                    }
                };
                let probe_at = now.plus(TOKEN_PROBE);
                let token = configured.and_then(|configured| configured.token().cloned());
                let news = self.with(|inner| {
                    let news = inner.token_rejection(config, self.backend).is_none();
                    inner.refused =
                        Some(RefusedToken { token, probe_at, message: message.clone() });
                    news
                });
                if news {
                    tracing::error!("{message} Nothing is sent until there is a new token");
                }
                self.update_breaker(Breaker::record_probe_success);
            }
            FaultKind::Workflow | FaultKind::Account | FaultKind::Gone => {
                // An answer like this means that the token was accepted.
                self.with(|inner| inner.refused = None);
                self.update_breaker(Breaker::record_probe_success);
            }
        }
    }

    fn record_failure(
        &self,
        now: Moment,
        failure: FailureKind,
        reason: &str,
        retry_after: Option<Duration>,
    ) {
        let opened = self.with(|inner| {
            inner.breaker.record_failure(now, failure, reason, rand::random(), retry_after)
        });
        let Some(wait) = opened else { return };
        let seconds = wait.as_secs();
        if self.with(|inner| std::mem::replace(&mut inner.warned, true)) {
            tracing::debug!(place = %self.backend, seconds, "the service still fails and stays \
                paused: {reason}");
        } else {
            tracing::warn!(
                place = %self.backend,
                seconds,
                "the service failed repeatedly and is paused, for longer each time: {reason}"
            );
        }
    }

    fn update_breaker(&self, change: impl FnOnce(&mut Breaker) -> bool) {
        if self.with(|inner| change(&mut inner.breaker)) {
            self.with(|inner| inner.warned = false);
            tracing::info!(place = %self.backend, "the service answers again");
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut HealthState) -> T) -> T {
        // A poisoned lock still contains valid counts.
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HealthState {
    fn permit(
        &mut self,
        now: Moment,
        config: &RuntimeConfig,
        backend: BackendKind,
        person: bool,
    ) -> Permit {
        if let Some(refused) = self.token_rejection(config, backend) {
            if now < refused.probe_at && !person {
                return Permit::Wait(refused.probe_at, refused.message.clone());
            }
            refused.probe_at = now.plus(TOKEN_PROBE);
            return Permit::Probe;
        }
        match self.breaker.request_permit(now, person) {
            BreakerPermit::Proceed => Permit::Proceed,
            BreakerPermit::Probe => Permit::Probe,
            BreakerPermit::Wait(until) => {
                let reason = match self.breaker.state() {
                    breaker::BreakerState::Open { reason, .. }
                    | breaker::BreakerState::Probing { reason, .. } => reason.clone(),
                    breaker::BreakerState::Closed => String::new(),
                };
                Permit::Wait(until, format!("the service failed repeatedly: {reason}"))
            }
        }
    }

    /// Returns the rejection of the token that `live` holds.
    fn token_rejection(
        &mut self,
        config: &RuntimeConfig,
        backend: BackendKind,
    ) -> Option<&mut RefusedToken> {
        let configured = config.at(backend).as_ref().ok()?;
        self.refused.as_mut().filter(|refused| configured.has_token(refused.token.as_ref()))
    }
}
