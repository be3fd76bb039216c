//! Which backend makes a job: the modes as one pure function over what is configured, how each backend does, and what has
//! happened to the job so far.
//!
//! Owns the order and its exceptions. It asks nobody (how a backend does is an argument), waits for nothing and keeps nothing.
//! Three rules hold whatever else is true:
//! - after a request that may have been charged no other one is sent that could be charged;
//! - what a workflow itself was found guilty of is not tried again with the same workflow;
//! - a free place follows a paid one whose end is known: refused, or failed. Where nobody knows whether the paid one still comes to
//!   something, both roads would be taken for one save, and that only a person may ask for (`local.after_unknown`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{fingerprint::Fingerprint, time::Moment};

/// Where an attempt can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// RunComfy's queue, paid by the second of a run.
    Serverless,
    /// A ComfyUI server of one's own.
    Comfyui,
    /// Two Hugging Face Spaces, free within a quota.
    Huggingface,
    /// A machine rented from RunComfy, paid by the second it is up.
    Cloud,
}

impl Place {
    /// Every place.
    pub const ALL: [Self; 4] = [Self::Serverless, Self::Comfyui, Self::Huggingface, Self::Cloud];

    /// Returns the word that people and the ledger see.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Serverless => "serverless",
            Self::Comfyui => "comfyui",
            Self::Huggingface => "huggingface",
            Self::Cloud => "cloud",
        }
    }

    /// Finds the place of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|place| place.word() == word)
    }

    /// Tells whether work there costs money.
    pub const fn is_paid(self) -> bool {
        matches!(self, Self::Serverless | Self::Cloud)
    }

    /// Tells whether a request whose answer was lost may be sent again there: it is looked for first, or costs nothing.
    /// RunComfy's queue knows neither an id of ours nor a list of requests.
    pub const fn is_repeatable(self) -> bool {
        !matches!(self, Self::Serverless)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How a place does at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As far as is known it can serve.
    Ready,
    /// It cannot serve before a person does something: it is not configured, switched off, without a token.
    Missing {
        /// Why.
        reason: String,
    },
    /// It is left alone.
    Away {
        /// Until when.
        until: Moment,
        /// Why.
        reason: String,
    },
}

/// A place that the configuration names, in the configured order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub place: Place,
    /// How it does.
    pub standing: Standing,
    /// What runs there.
    pub workflow: Fingerprint,
}

/// How an earlier attempt of the same job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It surely did not arrive.
    NotSent,
    /// It was refused, or would have been: over budget, no token, no such deployment. Nothing ran.
    Refused,
    /// The workflow or its input is at fault.
    Workflow,
    /// Nobody knows whether it arrived.
    Unknown,
    /// It ran, or may have, and failed for the place's own reasons.
    Failed,
    /// A free place forgot it: a server was started anew.
    Lost,
}

/// An earlier attempt of the same job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Where.
    pub place: Place,
    /// What ran there.
    pub workflow: Fingerprint,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, for people.
    pub reason: String,
}

/// How often a free place may forget one job before it is not asked again.
pub const MOST_LOST: usize = 2;

/// Where a job goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// There.
    Go {
        /// Where.
        place: Place,
        /// Why not to a place that comes before it; empty when it is the first.
        why: String,
    },
    /// To a place that is left alone for now.
    Wait {
        /// Which.
        place: Place,
        /// Until when.
        until: Moment,
        /// Why.
        reason: String,
    },
    /// Nowhere, for these reasons, one a place.
    Nowhere {
        /// Why, for people.
        reason: String,
    },
}

/// Finds the place for a job. `after_unknown` lets a free place make what may have been charged already.
pub fn route(candidates: &[Candidate], tried: &[Tried], after_unknown: bool) -> Route {
    let mut reasons: Vec<(Place, String)> = Vec::new();
    let mut waits: Vec<(Place, Moment, String)> = Vec::new();
    let mut again: Option<(Place, usize)> = None;
    for candidate in candidates {
        let place = candidate.place;
        if let Some(reason) = ruled_out(candidate, tried, after_unknown) {
            reasons.push((place, reason));
            continue;
        }
        match &candidate.standing {
            Standing::Missing { reason } => reasons.push((place, reason.clone())),
            Standing::Away { until, reason } => {
                reasons.push((place, reason.clone()));
                waits.push((place, *until, reason.clone()));
            }
            Standing::Ready => {
                let unreached = tried.iter().rev().find(|tried| {
                    tried.place == place && matches!(tried.outcome, Outcome::NotSent)
                });
                let Some(unreached) = unreached else {
                    return Route::Go { place, why: in_words(&reasons) };
                };
                // Asked again when nobody else can serve, and the one that was asked least first.
                let times = tried.iter().filter(|tried| tried.place == place).count();
                reasons.push((place, unreached.reason.clone()));
                if again.is_none_or(|(_, least)| times < least) {
                    again = Some((place, times));
                }
            }
        }
    }
    if let Some((place, _)) = again {
        reasons.retain(|(other, _)| *other != place);
        return Route::Go { place, why: in_words(&reasons) };
    }
    // The soonest; of two equal ones the first in the order.
    match waits.into_iter().min_by_key(|(_, until, _)| *until) {
        Some((place, until, reason)) => Route::Wait { place, until, reason },
        None => Route::Nowhere { reason: in_words(&reasons) },
    }
}

/// Says why a place must not be asked, whatever it could do.
fn ruled_out(candidate: &Candidate, tried: &[Tried], after_unknown: bool) -> Option<String> {
    let place = candidate.place;
    if place.is_paid()
        && let Some(paid) = tried.iter().find(|tried| {
            tried.place.is_paid() && !matches!(tried.outcome, Outcome::NotSent | Outcome::Refused)
        })
    {
        return Some(match paid.outcome {
            Outcome::Unknown => "an earlier request may have been charged".to_owned(),
            _ => paid.reason.clone(),
        });
    }
    if !place.is_paid()
        && !after_unknown
        && tried.iter().any(|tried| tried.place.is_paid() && tried.outcome == Outcome::Unknown)
    {
        return Some("an earlier request may have been charged (`local.after_unknown`)".to_owned());
    }
    if let Some(guilty) = tried
        .iter()
        .find(|tried| tried.outcome == Outcome::Workflow && tried.workflow == candidate.workflow)
    {
        return Some(guilty.reason.clone());
    }
    let here = || tried.iter().filter(|tried| tried.place == place);
    if let Some(over) = here().find(|tried| {
        matches!(tried.outcome, Outcome::Refused | Outcome::Workflow | Outcome::Failed)
    }) {
        return Some(over.reason.clone());
    }
    // A free place whose answer was lost was asked again as often as is sensible before it came here.
    if let Some(lost) = here().find(|tried| tried.outcome == Outcome::Unknown) {
        return Some(lost.reason.clone());
    }
    let forgotten = here().filter(|tried| tried.outcome == Outcome::Lost).count();
    (forgotten >= MOST_LOST).then(|| format!("it forgot the job {forgotten} times"))
}

fn in_words(reasons: &[(Place, String)]) -> String {
    let parts: Vec<String> =
        reasons.iter().map(|(place, reason)| format!("{place}: {reason}")).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests;
