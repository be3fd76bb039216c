//! How each backend does, for every job and for `status`: the breaker, and a token that was refused.
//!
//! Owns one [`Breaker`] a place behind a lock, what counts as the backend's own fault, and the one line in the log when that
//! changes. It sends nothing and waits for nothing: that is the road of a job ([`crate::daemon::jobs`]). Memory only, see [`Breaker`].

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use secrecy::SecretString;

use super::runtime_config::Live;
use crate::{
    backend::{CallError, ServiceFault, SubmitError, Verdict},
    domain::{
        job::{
            breaker::{self, Breaker, Failure, Permit},
            choose_backend::Place,
        },
        time::Moment,
    },
};

/// How long after a refusal of the token it is tried again unasked, with a call that costs nothing.
const TOKEN_PROBE: Duration = Duration::from_secs(60);

/// The health of every place.
#[derive(Debug)]
pub(crate) struct HealthBook([Health; Place::ALL.len()]);

impl Default for HealthBook {
    fn default() -> Self {
        Self(Place::ALL.map(|place| Health { place, inner: Mutex::default() }))
    }
}

impl HealthBook {
    /// Returns the health of a place.
    pub(crate) fn at(&self, place: Place) -> &Health {
        let [serverless, comfyui, huggingface, cloud] = &self.0;
        match place {
            Place::Serverless => serverless,
            Place::Comfyui => comfyui,
            Place::Huggingface => huggingface,
            Place::Cloud => cloud,
        }
    }
}

/// The health of a backend.
#[derive(Debug)]
pub(crate) struct Health {
    place: Place,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    breaker: Breaker,
    refused: Option<RefusedToken>,
    /// Whether the log has been told that it is left alone, and not yet that it is back.
    told: bool,
}

/// A token that the service does not take.
#[derive(Clone, Debug)]
struct RefusedToken {
    /// Which: another one is not refused.
    token: Option<SecretString>,
    probe_at: Moment,
    words: String,
}

/// What a job that wants to send may do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// Send.
    Go,
    /// Ask for the balance first, and tell what came of it.
    Probe,
    /// Wait until then, for that reason.
    Wait(Moment, String),
}

/// Health as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Why, in a sentence.
    pub(crate) reason: String,
    /// When it is tried again by itself.
    pub(crate) until: Option<Moment>,
}

impl Health {
    /// Tells whether a job may be sent.
    pub(crate) fn ask(&self, now: Moment, live: &Live, person: bool) -> May {
        self.with(|inner| {
            if let Some(refused) = inner.refused_by(live, self.place) {
                if now < refused.probe_at && !person {
                    return May::Wait(refused.probe_at, refused.words.clone());
                }
                refused.probe_at = now.plus(TOKEN_PROBE);
                return May::Probe;
            }
            match inner.breaker.ask(now, person) {
                Permit::Go => May::Go,
                Permit::Probe => May::Probe,
                Permit::Wait(until) => {
                    let reason = match inner.breaker.health() {
                        breaker::Health::Open { reason, .. }
                        | breaker::Health::Probing { reason, .. } => reason.clone(),
                        breaker::Health::Closed => String::new(),
                    };
                    May::Wait(until, format!("the service failed repeatedly: {reason}"))
                }
            }
        })
    }

    /// Tells whether a job may be sent without any ado. Asking changes nothing.
    pub(crate) fn is_well(&self, now: Moment, live: &Live) -> bool {
        self.with(|inner| {
            inner.refused_by(live, self.place).is_none()
                && inner.breaker.clone().ask(now, false) == Permit::Go
        })
    }

    /// Notes how a submit went.
    pub(crate) fn submitted<T>(&self, now: Moment, live: &Live, answer: &Result<T, SubmitError>) {
        match answer {
            Ok(_) => self.note(Breaker::taken),
            Err(SubmitError::NotSent { reason, retry_after }) => {
                self.failed(now, Failure::Call, reason, *retry_after);
            }
            Err(SubmitError::Unknown { reason }) => self.failed(now, Failure::Call, reason, None),
            Err(SubmitError::Refused(fault)) => self.faulted(now, live, fault),
        }
    }

    /// Notes how a call went that costs nothing.
    pub(crate) fn called<T>(&self, now: Moment, live: &Live, answer: &Result<T, CallError>) {
        match answer {
            Ok(_) => {
                self.with(|inner| inner.refused = None);
                self.note(Breaker::answered);
            }
            Err(CallError::Passing { reason, retry_after }) => {
                self.failed(now, Failure::Call, reason, *retry_after);
            }
            Err(CallError::Fault(fault)) => self.faulted(now, live, fault),
        }
    }

    /// Notes how a run ended: `None` is success, or an end that somebody wanted.
    pub(crate) fn ran(&self, now: Moment, fault: Option<&ServiceFault>) {
        match fault {
            Some(fault) if fault.verdict == Verdict::Service => {
                self.failed(now, Failure::Run, &fault.words, None);
            }
            _ => self.note(Breaker::ran),
        }
    }

    /// Returns what `status` says of it; `None` while all is well.
    pub(crate) fn trouble(&self, live: &Live) -> Option<Trouble> {
        self.with(|inner| {
            if let Some(refused) = inner.refused_by(live, self.place) {
                let (reason, until) = (refused.words.clone(), Some(refused.probe_at));
                return Some(Trouble { reason, until });
            }
            match inner.breaker.health() {
                breaker::Health::Closed => None,
                breaker::Health::Open { until, reason } => Some(Trouble {
                    reason: format!("left alone after repeated failures: {reason}"),
                    until: Some(*until),
                }),
                breaker::Health::Probing { reason, .. } => Some(Trouble {
                    reason: format!("being tried again after repeated failures: {reason}"),
                    until: None,
                }),
            }
        })
    }

    /// A fault that the service named: its own, the token's, or one that shows that it is well.
    fn faulted(&self, now: Moment, live: &Live, fault: &ServiceFault) {
        match fault.verdict {
            Verdict::Service => self.failed(now, Failure::Call, &fault.words, None),
            Verdict::Token => {
                let ready = live.at(self.place).as_ref().ok();
                let from = ready.and_then(|ready| ready.token_from.as_deref());
                let words = match from {
                    Some(from) => {
                        format!(
                            "the token (from {from}) was refused: {}. {}",
                            fault.words, fault.advice
                        )
                    }
                    None => {
                        format!("{} wants a token: {}. {}", self.place, fault.words, fault.advice)
                    }
                };
                let probe_at = now.plus(TOKEN_PROBE);
                let token = ready.and_then(|ready| ready.token().cloned());
                let news = self.with(|inner| {
                    let news = inner.refused_by(live, self.place).is_none();
                    inner.refused = Some(RefusedToken { token, probe_at, words: words.clone() });
                    news
                });
                if news {
                    tracing::error!("{words} Nothing is sent until there is another one");
                }
                self.note(Breaker::answered);
            }
            Verdict::Workflow | Verdict::Account | Verdict::Gone => {
                // Whoever says this has read the token.
                self.with(|inner| inner.refused = None);
                self.note(Breaker::answered);
            }
        }
    }

    fn failed(&self, now: Moment, failure: Failure, reason: &str, retry_after: Option<Duration>) {
        let opened = self
            .with(|inner| inner.breaker.failed(now, failure, reason, rand::random(), retry_after));
        let Some(wait) = opened else { return };
        let seconds = wait.as_secs();
        if self.with(|inner| std::mem::replace(&mut inner.told, true)) {
            tracing::debug!(place = %self.place, seconds, "the service still fails and is left alone: {reason}");
        } else {
            tracing::warn!(
                place = %self.place,
                seconds,
                "the service failed repeatedly and is left alone, for longer each time: {reason}"
            );
        }
    }

    fn note(&self, change: impl FnOnce(&mut Breaker) -> bool) {
        if self.with(|inner| change(&mut inner.breaker)) {
            self.with(|inner| inner.told = false);
            tracing::info!(place = %self.place, "the service answers again");
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        // A poisoned lock holds counts like any other.
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    /// Returns the refusal of the token that `live` holds.
    fn refused_by(&mut self, live: &Live, place: Place) -> Option<&mut RefusedToken> {
        let ready = live.at(place).as_ref().ok()?;
        self.refused.as_mut().filter(|refused| ready.has_token(refused.token.as_ref()))
    }
}
