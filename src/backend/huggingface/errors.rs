//! The meaning of a Space's refusals: by HTTP class, by the app's own text, and by how a call
//! was lost.
//!
//! Owns the sentences for people and the detection of a used-up quota in an app's text. We have
//! never seen the service's proxy refuse a call, and the app's exact texts are not guaranteed. So
//! HTTP classes decide, and texts are only shown.

use std::time::Duration;

use super::gradio::reply::{Content, Reply};
use crate::{
    backend::{CallError, FaultKind, ServiceFault},
    domain::job::backoff::RETRY_AFTER_CAP,
};

/// How long a Space is not called after its quota is used up, if its text names no time. The
/// service counts the quota per day, so half an hour loses little.
const QUOTA_PAUSE: Duration = Duration::from_secs(1800);

/// The longest time from such a text that is accepted.
const MAX_QUOTA_PAUSE: Duration = Duration::from_secs(24 * 3600);

const TOKEN_ADVICE: &str = "The Space is private, or the token was refused. Check HUGGINGFACE_HUB_ACCESS_TOKEN and its permissions, \
     or remove it to use public Spaces anonymously.";
const PRIVATE_ADVICE: &str = "The Space is private or asks for a password. Set HUGGINGFACE_HUB_ACCESS_TOKEN to a token that may use it; \
     a Space with a password of its own cannot be used.";
const ABSENT_ADVICE: &str = "There is no such Space, or the address is not a Gradio app's. Check `local.flux_space` and \
     `local.mesh_space`; use the base URL for a private copy.";
const REDIRECT_ADVICE: &str = "The address answers with a redirect, which is not followed, so that the token is not sent to another host. Write the \
     final address into `local.flux_space` or `local.mesh_space`.";
const CHANGED_ADVICE: &str = "The Space does not offer a function that CONJURE needs. It may have changed: point `local.flux_space` or \
     `local.mesh_space` at a copy that still has it.";
const OWNER_ADVICE: &str = "Its owner must act. Duplicate the Space and name the copy in `local.flux_space` or `local.mesh_space`.";
const QUOTA_ADVICE: &str = "The free GPU time is used up. It comes back automatically; until then the Space is not called. A token in \
     HUGGINGFACE_HUB_ACCESS_TOKEN, or a copy of the Space on your own hardware, has more.";
const INPUT_ADVICE: &str = "The Space refused the input; the same input would fail again.";
const RUN_ADVICE: &str = "The Space's app failed. Nothing was charged; a retry may work.";
const LOST_ADVICE: &str = "The result is lost, because Gradio delivers a result only once. Nothing was charged, and the job can be \
     retried.";
const REFUSED_ADVICE: &str = "The Space refused the call.";

/// Creates a fault about a Space.
fn fault(status: u16, message: String, advice: &'static str, kind: FaultKind) -> ServiceFault {
    ServiceFault { code: None, status, message, advice, kind }
}

/// Returns the fault of a Space that lacks something we need.
pub(super) fn incompatible_space(message: String) -> CallError {
    CallError::Fault(fault(200, message, CHANGED_ADVICE, FaultKind::Account))
}

/// Returns the fault of a value that the Space does not accept.
pub(super) fn invalid_value(message: String) -> CallError {
    CallError::Fault(fault(200, message, INPUT_ADVICE, FaultKind::Workflow))
}

/// Returns the fault of a Space whose owner must act.
pub(super) fn owner_must_act(message: String) -> CallError {
    CallError::Fault(fault(200, message, OWNER_ADVICE, FaultKind::Account))
}

/// Returns the fault of a request that belongs to an earlier process.
pub(super) fn unknown_request() -> CallError {
    let message = "the call of the Space belongs to an earlier run of the daemon, and Gradio cannot resume it".to_owned();
    CallError::Fault(fault(404, message, LOST_ADVICE, FaultKind::Gone))
}

/// Returns the fault of a call whose result is no longer available.
pub(super) fn lost(message: String) -> ServiceFault {
    fault(200, message, LOST_ADVICE, FaultKind::Service)
}

/// Returns the fault of an app that reported success but returned no file.
pub(super) fn empty_result(message: String) -> ServiceFault {
    fault(200, message, RUN_ADVICE, FaultKind::Service)
}

/// Returns the fault of an app that reported an error. `text` is empty if it gave no reason.
pub(super) fn app_fault(space: &str, text: &str) -> ServiceFault {
    if text.is_empty() {
        let message = format!("{space} failed without saying why");
        return fault(200, message, RUN_ADVICE, FaultKind::Service);
    }
    let message = format!("{space}: {text}");
    if is_quota(text) {
        fault(200, message, QUOTA_ADVICE, FaultKind::Service)
    } else if is_input_error(text) {
        fault(200, message, INPUT_ADVICE, FaultKind::Workflow)
    } else {
        fault(200, message, RUN_ADVICE, FaultKind::Service)
    }
}

/// Returns whether an app's text is about a quota.
pub(super) fn is_quota(text: &str) -> bool {
    text.to_ascii_lowercase().contains("quota")
}

/// Returns whether a text is one of Gradio's own messages about a value out of bounds.
fn is_input_error(text: &str) -> bool {
    ["is less than minimum value", "is greater than maximum value"]
        .iter()
        .any(|message| text.contains(message))
}

/// Returns how long a Space is not called because of its quota: from `Try again in 1:02:03` if the
/// text contains that.
pub(super) fn quota_pause(text: &str) -> Duration {
    let told = text.to_ascii_lowercase().split_once(" in ").map(|(_, rest)| rest.to_owned());
    let clock = told.and_then(|rest| {
        let clock: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == ':').collect();
        let mut seconds = 0_u64;
        for part in clock.split(':') {
            seconds = seconds.checked_mul(60)?.checked_add(part.parse().ok()?)?;
        }
        clock.contains(':').then(|| Duration::from_secs(seconds))
    });
    clock.unwrap_or(QUOTA_PAUSE).clamp(Duration::from_secs(60), MAX_QUOTA_PAUSE)
}

/// Returns the error for a Space whose quota is used up for another `left`.
pub(super) fn quota_paused(message: &str, left: Duration) -> CallError {
    CallError::Transient {
        reason: format!("{message}; not called for {} more minutes", left.as_secs().div_ceil(60)),
        retry_after: Some(left.min(RETRY_AFTER_CAP)),
    }
}

pub(super) fn answer_problem(reply: &Reply<'_>, space: &str, has_token: bool) -> CallError {
    let said = match &reply.content {
        Content::Page => "its proxy answered with a web page instead of the app".to_owned(),
        _ => reply.message(),
    };
    let message = match said.as_str() {
        "" => format!("{space} answered HTTP {}", reply.status),
        _ => format!("{space} answered HTTP {}: {said}", reply.status),
    };
    let passing = |reason: String| CallError::Transient { reason, retry_after: reply.retry_after };
    let (advice, kind) = match reply.status {
        300..=399 => (REDIRECT_ADVICE, FaultKind::Account),
        401 if has_token => (TOKEN_ADVICE, FaultKind::Token),
        403 if has_token => (TOKEN_ADVICE, FaultKind::Account),
        401 | 403 => (PRIVATE_ADVICE, FaultKind::Account),
        404 | 410 => (ABSENT_ADVICE, FaultKind::Gone),
        413 => ("The render is too large for the Space. Save a smaller one.", FaultKind::Workflow),
        405 | 422 => (CHANGED_ADVICE, FaultKind::Account),
        503 if matches!(reply.content, Content::Page | Content::Text(_)) => {
            return passing(format!(
                "{message}; it sleeps, is being built or is overloaded (a call wakes it up)"
            ));
        }
        // This includes a success that could not be read: some proxies answer "in a moment"
        // like this.
        200..300 | 408 | 425 | 429 | 500..600 => return passing(message),
        _ => (REFUSED_ADVICE, FaultKind::Service),
    };
    if kind == FaultKind::Service {
        return passing(message);
    }
    CallError::Fault(fault(reply.status, message, advice, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_found_loosely_and_rests_as_long_as_it_says() {
        for text in [
            "You have exceeded your GPU quota (60s requested vs. 0s left).",
            "GPU QUOTA exceeded",
            "'Your daily quota is used up.'",
        ] {
            let fault = app_fault("FLUX", text);
            assert_eq!((fault.kind, fault.advice), (FaultKind::Service, QUOTA_ADVICE), "{text}");
            assert_eq!(quota_pause(text), QUOTA_PAUSE);
        }
        assert_eq!(quota_pause("quota. Try again in 1:02:03"), Duration::from_secs(3723));
        assert_eq!(quota_pause("quota. Try again in 0:05"), Duration::from_secs(60));
        assert_eq!(quota_pause("quota. Try again in 99999999999999999999:00"), QUOTA_PAUSE);
        assert_eq!(quota_pause("quota in 1000:00:00"), MAX_QUOTA_PAUSE);
        assert_eq!(quota_pause("quota in the sky"), QUOTA_PAUSE);
    }

    #[test]
    fn a_value_out_of_bounds_is_the_inputs_fault_and_other_words_are_the_apps() {
        let table = [
            ("Value 64 is less than minimum value 256.", FaultKind::Workflow),
            ("Value 64 is greater than maximum value 50.", FaultKind::Workflow),
            ("CUDA out of memory", FaultKind::Service),
            ("", FaultKind::Service),
        ];
        for (text, kind) in table {
            assert_eq!(app_fault("FLUX", text).kind, kind, "{text}");
        }
    }
}
