//! Decides which backend makes a job: the `mode` setting as one pure function of the configuration,
//! the health of each backend and the job's earlier attempts.
//!
//! Owns the order of backends and its exceptions. It calls no backend (health is an argument), does
//! not wait and keeps no state. Three rules always hold:
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can serve, as far as is known.
    Ready,
    /// It cannot serve until a person acts: not configured, switched off, or no token.
    Unusable {
        /// The reason.
        reason: String,
    },
    /// It is paused.
    Paused {
        /// When the pause ends.
        until: Moment,
        /// The reason.
        reason: String,
    },
}

/// A backend from the configuration, in the configured order.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// It ran, or may have run, and failed for a reason of the backend's own.
    Failed,
    /// A free backend lost the job, because a server was restarted.
    Lost,
}

/// An earlier attempt of the same job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastAttempt {
    /// The backend.
    pub backend: BackendKind,
    /// The workflow that ran there.
    pub workflow: Fingerprint,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The reason, for people.
    pub reason: String,
}

/// How often a free backend may lose one job before it is not tried again.
pub const MAX_LOST: usize = 2;

/// The routing decision for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Send the job to this backend.
    Use {
        /// The backend.
        backend: BackendKind,
        /// Why the backends before it were skipped; empty for the first one.
        why: String,
    },
    /// Wait for a backend that is paused.
    Wait {
        /// The backend.
        backend: BackendKind,
        /// When the pause ends.
        until: Moment,
        /// The reason.
        reason: String,
    },
    /// No backend can make the job.
    Unroutable {
        /// One reason per backend, for people.
        reason: String,
    },
}

/// Chooses the backend for a job. `after_unknown` allows a free backend after a request that may
/// have been charged.
pub fn route(candidates: &[RouteCandidate], tried: &[PastAttempt], after_unknown: bool) -> Route {
    let mut reasons: Vec<(BackendKind, String)> = Vec::new();
    let mut waits: Vec<(BackendKind, Moment, String)> = Vec::new();
    let mut again: Option<(BackendKind, usize)> = None;
    for candidate in candidates {
        let backend = candidate.backend;
        if let Some(reason) = ruled_out(candidate, tried, after_unknown) {
            reasons.push((backend, reason));
            continue;
        }
        match &candidate.availability {
            Availability::Unusable { reason } => reasons.push((backend, reason.clone())),
            Availability::Paused { until, reason } => {
                reasons.push((backend, reason.clone()));
                waits.push((backend, *until, reason.clone()));
            }
            Availability::Ready => {
                let unreached = tried.iter().rev().find(|tried| {
                    tried.backend == backend && matches!(tried.outcome, AttemptOutcome::NotSent)
                });
                let Some(unreached) = unreached else {
                    return Route::Use { backend, why: describe_reasons(&reasons) };
                };
                // Retry only if no other backend can serve, and start with the one that was tried
                // least often.
                let times = tried.iter().filter(|tried| tried.backend == backend).count();
                reasons.push((backend, unreached.reason.clone()));
                if again.is_none_or(|(_, least)| times < least) {
                    again = Some((backend, times));
                }
            }
        }
    }
    if let Some((backend, _)) = again {
        reasons.retain(|(other, _)| *other != backend);
        return Route::Use { backend, why: describe_reasons(&reasons) };
    }
    // Take the earliest; of two equal ones, the first in the configured order.
    match waits.into_iter().min_by_key(|(_, until, _)| *until) {
        Some((backend, until, reason)) => Route::Wait { backend, until, reason },
        None => Route::Unroutable { reason: describe_reasons(&reasons) },
    }
}

/// Returns why a backend must not be used for this job, whatever its health.
fn ruled_out(
    candidate: &RouteCandidate,
    tried: &[PastAttempt],
    after_unknown: bool,
) -> Option<String> {
    let backend = candidate.backend;
    if backend.is_paid()
        && let Some(paid) = tried.iter().find(|tried| {
            tried.backend.is_paid()
                && !matches!(tried.outcome, AttemptOutcome::NotSent | AttemptOutcome::Refused)
        })
    {
        return Some(match paid.outcome {
            AttemptOutcome::Unknown => "an earlier request may have been charged".to_owned(),
            _ => paid.reason.clone(),
        });
    }
    if !backend.is_paid()
        && !after_unknown
        && tried
            .iter()
            .any(|tried| tried.backend.is_paid() && tried.outcome == AttemptOutcome::Unknown)
    {
        return Some("an earlier request may have been charged (`local.after_unknown`)".to_owned());
    }
    if let Some(guilty) = tried.iter().find(|tried| {
        tried.outcome == AttemptOutcome::Workflow && tried.workflow == candidate.workflow
    }) {
        return Some(guilty.reason.clone());
    }
    let here = || tried.iter().filter(|tried| tried.backend == backend);
    if let Some(over) = here().find(|tried| {
        matches!(
            tried.outcome,
            AttemptOutcome::Refused | AttemptOutcome::Workflow | AttemptOutcome::Failed
        )
    }) {
        return Some(over.reason.clone());
    }
    // A free backend with a lost answer was already retried as often as is sensible before
    // this call.
    if let Some(lost) = here().find(|tried| tried.outcome == AttemptOutcome::Unknown) {
        return Some(lost.reason.clone());
    }
    let forgotten = here().filter(|tried| tried.outcome == AttemptOutcome::Lost).count();
    (forgotten >= MAX_LOST).then(|| format!("it lost the job {forgotten} times"))
}

fn describe_reasons(reasons: &[(BackendKind, String)]) -> String {
    let parts: Vec<String> =
        reasons.iter().map(|(backend, reason)| format!("{backend}: {reason}")).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests;
