//! The small answers of the queue: submit, status, cancel, balance.
//!
//! Owns what each answer means for the job. The rule for a submit: a clear refusal is trusted, an
//! id is trusted, and every other answer may be a paid run. The rule for the other calls: an
//! unclear answer never ends a job.
//!
//! Results are in a separate file, [`super::result`].

use std::time::Duration;

use serde_json::Value;

use super::{
    errors,
    reply::{Content, Reply},
};
use crate::{
    backend::{CallError, CancelReply, FaultKind, Observation, Phase, SubmitError},
    domain::{job::RequestId, machines::deployment::DeploymentFacts, money::MicroUsd},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StatusWord {
    /// `in_queue`, `queued`.
    Queued,
    /// `in_progress`, and `cancellation_requested`, because such a run may continue.
    Running,
    /// `completed`: the run is over; only the result contains its outcome.
    Completed,
    /// `succeeded`.
    Succeeded,
    /// `failed`, `error`.
    Failed,
    /// `canceled`, `cancelled`.
    Cancelled,
    /// A word that no reference documents. It counts as pending.
    Unknown(String),
}

impl StatusWord {
    /// Parses the word under `status`. Returns `None` if there is none.
    pub(super) fn read(reply: &Reply<'_>) -> Option<Self> {
        let text = reply.json().get("status")?.as_str()?;
        let plain = text.trim().to_ascii_lowercase().replace(['-', ' '], "_");
        Some(match plain.as_str() {
            "" => return None,
            "in_queue" | "queued" => Self::Queued,
            "in_progress" | "cancellation_requested" => Self::Running,
            "completed" => Self::Completed,
            "succeeded" => Self::Succeeded,
            "failed" | "error" => Self::Failed,
            "canceled" | "cancelled" => Self::Cancelled,
            _ => Self::Unknown(reply.line(text)),
        })
    }

    /// Returns whether nothing runs any more.
    const fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed | Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// Reads the answer to a submit.
pub(super) fn submitted(reply: &Reply<'_>) -> Result<RequestId, SubmitError> {
    let code = reply.code();
    // The code is the clearest statement, whatever HTTP status it came with.
    if let Some(meaning) = code.and_then(errors::code_meaning) {
        return Err(if meaning.ends_request {
            SubmitError::Refused(reply.fault())
        } else if is_surely_rejected(reply) {
            rejected(reply)
        } else {
            unknown(reply)
        });
    }
    match reply.status {
        200..300 if code.is_none() => {
            let id = reply.json().get("request_id").and_then(Value::as_str);
            id.and_then(RequestId::new).ok_or_else(|| unknown(reply))
        }
        _ if is_surely_rejected(reply) => Err(rejected(reply)),
        // 303 says that the request was accepted and the answer is at another address. 408 also
        // comes from intermediate servers.
        303 | 408 => Err(unknown(reply)),
        300..500 => Err(SubmitError::Refused(reply.fault())),
        _ => Err(unknown(reply)),
    }
}

/// Returns whether the service rejected the request without reading it: 429, or 503 with
/// a `Retry-After`.
const fn is_surely_rejected(reply: &Reply<'_>) -> bool {
    reply.status == 429 || (reply.status == 503 && reply.retry_after.is_some())
}

fn rejected(reply: &Reply<'_>) -> SubmitError {
    SubmitError::NotSent { reason: reply.fault().message, retry_after: reply.retry_after }
}

fn unknown(reply: &Reply<'_>) -> SubmitError {
    let reason = match &reply.content {
        Content::Unreadable(reason) => format!("HTTP {}: {reason}", reply.status),
        Content::Json(_) if reply.is_success() && reply.code().is_none() => {
            "the answer contains no usable request id".to_owned()
        }
        Content::Text(_) if reply.is_success() => "the answer is not JSON".to_owned(),
        Content::Json(_) | Content::Text(_) => {
            format!("HTTP {}: {}", reply.status, reply.fault().message)
        }
    };
    SubmitError::Unknown { reason }
}

/// Reads the answer to a status call.
pub(super) fn observed(reply: &Reply<'_>) -> Result<Observation, CallError> {
    let word = if reply.is_success() { StatusWord::read(reply) } else { None };
    // A statement about the run itself ends it, as a word or as a code. The result contains
    // the details.
    if word.as_ref().is_some_and(StatusWord::is_terminal) || is_run_error(reply.code()) {
        return Ok(Observation {
            phase: Phase::Ended,
            instance: instance(reply),
            unknown_status: None,
            progress: None,
        });
    }
    if !reply.is_success() || reply.code().is_some() {
        return Err(reply.to_call_error());
    }
    let Some(word) = word else { return Err(unreadable(reply)) };
    let phase = match word {
        StatusWord::Queued | StatusWord::Unknown(_) => {
            Phase::Queued { position: reply.json().get("queue_position").and_then(as_position) }
        }
        StatusWord::Running => Phase::Running,
        StatusWord::Completed
        | StatusWord::Succeeded
        | StatusWord::Failed
        | StatusWord::Cancelled => Phase::Ended,
    };
    let unknown_word = if let StatusWord::Unknown(text) = word { Some(text) } else { None };
    Ok(Observation {
        phase,
        instance: instance(reply),
        unknown_status: unknown_word,
        progress: None,
    })
}

fn instance(reply: &Reply<'_>) -> Option<String> {
    let text = reply.json().get("instance_id")?.as_str()?;
    Some(reply.line(text)).filter(|text| !text.is_empty())
}

/// Returns whether a code that ends a request is about this run, and not about the token, account
/// or address. Those can be corrected, and then the result of the paid run is still available.
pub(super) const fn is_run_error(code: Option<u32>) -> bool {
    matches!(code, Some(10_008 | 10_009 | 10_011 | 10_012 | 10_013))
}

/// Returns the error for a success that cannot be read: ask again later.
pub(super) fn unreadable(reply: &Reply<'_>) -> CallError {
    let reason = match &reply.content {
        Content::Unreadable(reason) => reason.clone(),
        Content::Text(_) => "the answer is not JSON".to_owned(),
        Content::Json(_) => "the answer contains no status".to_owned(),
    };
    CallError::Transient { reason, retry_after: reply.retry_after }
}

/// Reads a queue position. It counts from 0, so 0 is a valid value. Other types than whole numbers
/// were never seen; they are accepted if they are unambiguous.
fn as_position(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Reads the answer to a cancel, in both of its shapes: `status` alone, or `outcome` beside a
/// `status` of `completed`, which then describes the cancel call and not the job. A success in any
/// other shape means that the cancel was accepted.
pub(super) fn cancelled(reply: &Reply<'_>) -> Result<CancelReply, CallError> {
    if reply.code().is_some() || !reply.is_success() {
        // 409 means that it is too late. Other codes carry their own meaning.
        let is_conflict = reply.status == 409 && reply.code().is_none();
        return if is_conflict { Ok(CancelReply::TooLate) } else { Err(reply.to_call_error()) };
    }
    let word = ["outcome", "status"].iter().find_map(|key| reply.json().get(key)?.as_str());
    let word = word.unwrap_or_default().trim().to_ascii_lowercase();
    Ok(match word.as_str() {
        "not_cancellable" | "not_cancelable" | "completed" | "succeeded" | "failed" => {
            CancelReply::TooLate
        }
        _ => CancelReply::Requested,
    })
}

/// The longest keep-warm time that is trusted, in seconds: one day. The API documents no maximum; a
/// typing error or a bug of the service must not make every job look too expensive to submit.
const MAX_KEEP_WARM_S: u32 = 24 * 3600;

/// Returns a deployment's record. The service sends it without a wrapper; a wrapper or a list with
/// one entry is also accepted.
pub(super) fn record<'a>(reply: &'a Reply<'_>) -> Result<&'a Value, CallError> {
    if reply.code().is_some() || !reply.is_success() {
        return Err(reply.to_call_error());
    }
    let body = reply.json();
    let body = body.get("deployment").filter(|inner| inner.is_object()).unwrap_or(body);
    let body = match body.as_array().map(Vec::as_slice) {
        Some([only]) => only,
        // With several entries it is unclear which one is ours.
        _ => body,
    };
    if !body.is_object() {
        return Err(unreadable(reply));
    }
    Ok(body)
}

/// Reads the values that jobs and their price depend on. A missing value or one of another type
/// counts as unknown.
pub(super) fn facts(record: &Value) -> DeploymentFacts {
    let number = |key: &str| {
        let value = record.get(key)?;
        let whole = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
        u32::try_from(whole?).ok()
    };
    // A list with exactly one entry. With several machines it is unclear which one is billed, so
    // the hardware counts as unknown.
    let hardware = record.get("hardware").and_then(|value| match value.as_array() {
        Some(list) => list.first().filter(|_| list.len() == 1)?.as_str(),
        None => value.as_str(),
    });
    let hardware = hardware.map(str::trim).filter(|sku| !sku.is_empty());
    DeploymentFacts {
        hardware: hardware.map(|sku| sku.chars().take(40).collect()),
        keep_warm: number("keep_warm_duration_in_seconds")
            .filter(|seconds| *seconds <= MAX_KEEP_WARM_S)
            .map(|seconds| Duration::from_secs(seconds.into())),
        min_instances: number("min_instances"),
        max_instances: number("max_instances"),
        is_enabled: record.get("is_enabled").and_then(Value::as_bool),
    }
}

/// Reads the balance: exact micro-dollars if there are any, otherwise dollars. Zero and negative
/// values are valid. An answer without a balance is not an error, because this call only opens the
/// connection and checks the token.
pub(super) fn balance(reply: &Reply<'_>) -> Result<Option<MicroUsd>, CallError> {
    if let Content::Unreadable(reason) = &reply.content {
        return Err(CallError::Transient {
            reason: reason.clone(),
            retry_after: reply.retry_after,
        });
    }
    if reply.code().is_some() || !reply.is_success() {
        return match reply.to_call_error() {
            CallError::Fault(fault)
                if !matches!(fault.kind, FaultKind::Token | FaultKind::Account) =>
            {
                Ok(None)
            }
            trouble => Err(trouble),
        };
    }
    let exact = reply.json().get("balance_microdollars").and_then(Value::as_i64);
    let dollars = || {
        let value = reply.json().get("balance_usd")?;
        let dollars = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
        let magnitude = MicroUsd::from_dollars(dollars.abs())?;
        Some(MicroUsd(if dollars < 0.0 { -magnitude.0 } else { magnitude.0 }))
    };
    Ok(exact.map(MicroUsd).or_else(dollars))
}

#[cfg(test)]
pub(super) mod tests;
