//! Decides which backend makes a job: the `mode` setting as one pure function of the configuration,
//! the health of each backend and the job's earlier attempts.
//!
//! Owns the order of backends and its exceptions. It calls no backend (health is an argument), does
//! not wait and keeps no state; why a backend was passed over is a value, and the words for it are
//! made elsewhere. Three rules always hold:
//! - after a request that may have been charged, no other request is sent that could be charged;
//! - if a workflow itself caused the failure, the job is not tried again with the same workflow;
//! - a free backend follows a paid one only after a known end: refused or failed. As long as the
//!   paid request may still succeed, one save could produce two results; only a person may allow
//!   that (`local.after_unknown`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{fingerprint::Fingerprint, time::Moment};

/// A backend that can make a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// RunComfy's queue, billed per second of a run.
    Serverless,
    /// The user's own ComfyUI server.
    Comfyui,
    /// Two Hugging Face Spaces, free within a quota.
    Huggingface,
    /// A machine rented from RunComfy, billed per second while it is up.
    Cloud,
}

impl BackendKind {
    /// Every backend.
    pub const ALL: [Self; 4] = [Self::Serverless, Self::Comfyui, Self::Huggingface, Self::Cloud];

    /// Returns the name that people and the ledger see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serverless => "serverless",
            Self::Comfyui => "comfyui",
            Self::Huggingface => "huggingface",
            Self::Cloud => "cloud",
        }
    }

    /// Returns the backend with this name.
    pub fn from_name(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.name() == word)
    }

    /// Returns whether work on this backend costs money.
    pub const fn is_paid(self) -> bool {
        matches!(self, Self::Serverless | Self::Cloud)
    }

    /// Returns whether a request with a lost answer may be sent again to this backend: either the
    /// backend is searched for it first, or it is free. RunComfy's queue accepts no id from us and
    /// lists no requests.
    pub const fn is_repeatable(self) -> bool {
        !matches!(self, Self::Serverless)
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a backend can serve now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can serve, as far as is known.
    Ready,
    /// It may be back after failures. A call that costs nothing shows whether it is.
    Unproven,
    /// It cannot serve until a person acts: not configured, switched off, or no token.
    Unusable,
    /// It is paused.
    Paused {
        /// When the pause ends.
        until: Moment,
    },
}

/// A backend from the configuration, in the configured order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteCandidate {
    /// The backend.
    pub backend: BackendKind,
    /// Whether it can serve now.
    pub availability: Availability,
    /// The workflow that runs there.
    pub workflow: Fingerprint,
}

/// How an earlier attempt of the same job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The request certainly did not arrive.
    NotSent,
    /// It was refused, or would have been: over budget, no token, no such deployment. Nothing ran.
    Refused,
    /// The workflow or its input caused the failure.
    Workflow,
    /// It is not known whether the request arrived.
    Unknown,
    /// It is not known whether the request arrived, and this backend can still be asked for it.
    Askable,
    /// It ran, or may have run, and failed for a reason of the backend's own.
    Failed,
    /// A free backend lost the job, because a server was restarted.
    Lost,
}

/// An earlier attempt of the same job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastAttempt {
    /// The backend.
    pub backend: BackendKind,
    /// The workflow that ran there.
    pub workflow: Fingerprint,
    /// How it ended.
    pub outcome: AttemptOutcome,
}

/// How often a free backend may lose one job before it is not tried again.
pub const MAX_LOST: usize = 2;

/// Why a backend was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It cannot serve until a person acts.
    Unusable,
    /// It is paused after failures.
    Paused,
    /// An earlier request may have been charged, and this backend is paid.
    MayBeCharged,
    /// An earlier request may have been charged, and `local.after_unknown` is off.
    AfterUnknown,
    /// An earlier attempt rules it out: its place in the list of past attempts.
    Attempt(usize),
    /// It lost the job too often.
    LostTooOften,
}

/// The backends that were passed over, in the configured order.
pub type Skipped = Vec<(BackendKind, Skip)>;

/// The routing decision for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Send the job to this backend.
    Use {
        /// The backend.
        backend: BackendKind,
        /// Why the backends before it were skipped; empty for the first one.
        skipped: Skipped,
    },
    /// Find out first whether this backend is back; it would be used.
    Probe {
        /// The backend.
        backend: BackendKind,
    },
    /// Wait for a backend that is paused.
    Wait {
        /// The backend.
        backend: BackendKind,
        /// When the pause ends.
        until: Moment,
    },
    /// No backend can make the job.
    Unroutable {
        /// Why not, for each backend.
        skipped: Skipped,
    },
}

/// Chooses the backend for a job. `after_unknown` allows a free backend after a request that may
/// have been charged.
pub fn route(candidates: &[RouteCandidate], tried: &[PastAttempt], after_unknown: bool) -> Route {
    let mut skipped: Skipped = Vec::new();
    let mut waits: Vec<(BackendKind, Moment)> = Vec::new();
    let mut again: Option<(BackendKind, usize)> = None;
    for candidate in candidates {
        let backend = candidate.backend;
        if let Some(skip) = ruled_out(candidate, tried, after_unknown) {
            skipped.push((backend, skip));
            continue;
        }
        match candidate.availability {
            Availability::Unusable => skipped.push((backend, Skip::Unusable)),
            Availability::Paused { until } => {
                skipped.push((backend, Skip::Paused));
                waits.push((backend, until));
            }
            Availability::Unproven => return Route::Probe { backend },
            Availability::Ready => {
                let unreached = tried.iter().rposition(|tried| {
                    tried.backend == backend && tried.outcome == AttemptOutcome::NotSent
                });
                let Some(unreached) = unreached else { return Route::Use { backend, skipped } };
                // Retry only if no other backend can serve, and start with the one that was tried
                // least often.
                let times = tried.iter().filter(|tried| tried.backend == backend).count();
                skipped.push((backend, Skip::Attempt(unreached)));
                if again.is_none_or(|(_, least)| times < least) {
                    again = Some((backend, times));
                }
            }
        }
    }
    if let Some((backend, _)) = again {
        skipped.retain(|(other, _)| *other != backend);
        return Route::Use { backend, skipped };
    }
    // Take the earliest; of two equal ones, the first in the configured order.
    match waits.into_iter().min_by_key(|(_, until)| *until) {
        Some((backend, until)) => Route::Wait { backend, until },
        None => Route::Unroutable { skipped },
    }
}

/// Returns why a backend must not be used for this job, whatever its health.
fn ruled_out(
    candidate: &RouteCandidate,
    tried: &[PastAttempt],
    after_unknown: bool,
) -> Option<Skip> {
    let backend = candidate.backend;
    let find = |matching: &dyn Fn(&PastAttempt) -> bool| tried.iter().position(matching);
    if backend.is_paid()
        && let Some(paid) = find(&|tried| {
            let is_askable = tried.outcome == AttemptOutcome::Askable && tried.backend == backend;
            tried.backend.is_paid()
                && !is_askable
                && !matches!(tried.outcome, AttemptOutcome::NotSent | AttemptOutcome::Refused)
        })
    {
        return Some(match tried[paid].outcome {
            AttemptOutcome::Unknown | AttemptOutcome::Askable => Skip::MayBeCharged,
            _ => Skip::Attempt(paid),
        });
    }
    if !backend.is_paid()
        && !after_unknown
        && tried.iter().any(|tried| {
            let is_open =
                matches!(tried.outcome, AttemptOutcome::Unknown | AttemptOutcome::Askable);
            tried.backend.is_paid() && is_open
        })
    {
        return Some(Skip::AfterUnknown);
    }
    let guilty = find(&|tried| {
        tried.outcome == AttemptOutcome::Workflow && tried.workflow == candidate.workflow
    });
    let here = |outcomes: &[AttemptOutcome]| {
        find(&|tried| tried.backend == backend && outcomes.contains(&tried.outcome))
    };
    let over =
        || here(&[AttemptOutcome::Refused, AttemptOutcome::Workflow, AttemptOutcome::Failed]);
    // A free backend with a lost answer was already retried as often as is sensible before
    // this call.
    if let Some(past) = guilty.or_else(over).or_else(|| here(&[AttemptOutcome::Unknown])) {
        return Some(Skip::Attempt(past));
    }
    let lost =
        |tried: &&PastAttempt| tried.backend == backend && tried.outcome == AttemptOutcome::Lost;
    (tried.iter().filter(lost).count() >= MAX_LOST).then_some(Skip::LostTooOften)
}

#[cfg(test)]
mod tests;
