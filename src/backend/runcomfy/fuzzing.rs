//! The oracle of the fuzz targets: what must hold for every answer of the service, however odd.
//!
//! Compiled only for `cargo fuzz`. It is in this folder because the wire types are private to it.

#![expect(
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a fuzz target complains by panicking"
)]

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::{reply::Reply, result, timestamp, wire};
use crate::backend::{
    CallError, RunResult, ServiceFault, SubmitError,
    http::{
        answer::Answer,
        message::{MAX_CHARS, TextSanitizer},
    },
};

/// The token of a fuzzed client. No message for people may contain it.
const TOKEN: &str = "the-token-that-must-not-be-seen";

/// Reads `data` as the answer to each kind of call. Two bytes are the HTTP status, one is the
/// `Retry-After`, the rest is the body.
pub fn answers(data: &[u8]) {
    let [low, high, wait, body @ ..] = data else { return };
    let status = 200 + u16::from_le_bytes([*low, *high]) % 400;
    let retry_after = (*wait > 127).then(|| Duration::from_secs(u64::from(*wait)));
    let sanitizer = TextSanitizer::new(TOKEN.to_owned().into());
    let answer =
        || Answer { status, retry_after, date: None, body: Ok(Bytes::copy_from_slice(body)) };
    let reply = Reply::open(answer(), &sanitizer);

    match wire::submitted(&reply) {
        Ok(request) => {
            assert!(
                (200..300).contains(&status) && reply.code().is_none(),
                "an id beside an error"
            );
            assert!(!request.as_str().contains(['/', '?', '#', '%']), "it stands in a URL");
        }
        // The only error that allows sending a request again: the service rejected it without
        // reading it.
        Err(SubmitError::NotSent { reason, .. }) => {
            assert!(
                status == 429 || status == 503 && retry_after.is_some(),
                "sent again after {status}"
            );
            clean(&reason);
        }
        Err(SubmitError::Refused(fault)) => check(&fault),
        Err(SubmitError::Unknown { reason }) => clean(&reason),
    }
    match wire::observed(&reply) {
        Ok(seen) => clean(&seen.unknown_status.unwrap_or_default()),
        Err(error) => call(error),
    }
    match result::result(&reply) {
        Ok(RunResult::Succeeded { files, .. }) => {
            assert!((200..300).contains(&status), "a success with {status}");
            assert!(files.len() <= 1000);
        }
        Ok(RunResult::Failed { fault, .. }) => check(&fault),
        Ok(RunResult::Pending(_) | RunResult::Cancelled { .. }) => {}
        Err(error) => call(error),
    }
    if let Err(error) = wire::cancelled(&reply) {
        call(error);
    }
    if let Err(error) = wire::balance(&reply) {
        call(error);
    }
}

/// Parses `text` as a timestamp. Every accepted time can be written and read again.
pub fn timestamp(text: &str) {
    let Some(at) = timestamp::parse(Some(&Value::from(text))) else { return };
    let Ok(written) = jiff::Timestamp::from_millisecond(at.unix_millis()) else {
        panic!("{text:?} is read as {} ms, which is no time", at.unix_millis());
    };
    assert_eq!(timestamp::parse(Some(&Value::from(written.to_string()))), Some(at), "{text:?}");
}

fn call(error: CallError) {
    match error {
        CallError::Transient { reason, .. } => clean(&reason),
        CallError::Fault(fault) => check(&fault),
    }
}

fn check(fault: &ServiceFault) {
    clean(&fault.message);
    assert!(!fault.advice.is_empty(), "a fault without advice");
}

/// Checks that a message for people contains no token and no control characters, and is not
/// too long.
fn clean(message: &str) {
    assert!(!message.contains(TOKEN), "the token is in {message:?}");
    assert!(message.chars().count() <= 2 * MAX_CHARS, "{} characters", message.chars().count());
    assert!(!message.chars().any(char::is_control), "{message:?}");
}
