//! Reads the answers of the Server API.
//!
//! Owns the parsing, which trusts nothing: members may be missing, of another type, or new. The
//! rule for a launch: a clear refusal is trusted, an id is trusted, and every other answer may be a
//! machine that costs money.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::{MachineUrl, Machines, Server, SubmitError};
use crate::{
    backend::{
        CallError,
        runcomfy::{errors, reply::Reply, timestamp, wire},
    },
    domain::{
        machines::{ReportedStage, ServerId},
        time::WallTime,
    },
};

/// The longest duration that is accepted, in seconds: one week. A longer one is a mistake.
const MAX_SECONDS: f64 = 7.0 * 24.0 * 3600.0;

/// The resolution of an HTTP date.
const DATE_STEP: Duration = Duration::from_secs(1);

/// Reads the answer to a launch.
pub(super) fn launched(
    reply: &Reply<'_>,
    date: Option<i64>,
    machines: &Machines,
) -> Result<Server, SubmitError> {
    let unknown = || SubmitError::Unknown { reason: reason(reply) };
    let turned_away = reply.status == 429 || (reply.status == 503 && reply.retry_after.is_some());
    if turned_away {
        let reason = reply.fault().message;
        return Err(SubmitError::NotSent { reason, retry_after: reply.retry_after });
    }
    if let Some(meaning) = reply.code().and_then(errors::code_meaning) {
        return Err(if meaning.ends_request {
            SubmitError::Refused(reply.fault())
        } else {
            unknown()
        });
    }
    match reply.status {
        200..300 if reply.code().is_none() => {
            server(record(reply.json()), reply, date, machines, None).ok_or_else(unknown)
        }
        // 303 says that the request was accepted and the answer is at another address. 408 also
        // comes from intermediate servers.
        303 | 408 => Err(unknown()),
        300..500 => Err(SubmitError::Refused(reply.fault())),
        _ => Err(unknown()),
    }
}

/// Reads a list of machines, either bare or under `servers`. An entry without a usable id makes the
/// whole list unreadable, because it could be our machine.
pub(super) fn list(
    reply: &Reply<'_>,
    date: Option<i64>,
    machines: &Machines,
) -> Result<Vec<Server>, CallError> {
    if !reply.is_success() || reply.code().is_some() {
        return Err(reply.to_call_error());
    }
    let body = reply.json();
    let wrapped = ["servers", "data", "items"].iter().find_map(|key| body.get(key)?.as_array());
    let Some(entries) = body.as_array().or(wrapped) else { return Err(wire::unreadable(reply)) };
    let read =
        |entry| server(entry, reply, date, machines, None).ok_or_else(|| wire::unreadable(reply));
    entries.iter().map(read).collect()
}

/// Reads one machine's record. If it does not repeat the id, it is taken for the requested machine.
pub(super) fn one(
    reply: &Reply<'_>,
    date: Option<i64>,
    machines: &Machines,
    asked: Option<&ServerId>,
) -> Result<Server, CallError> {
    done(reply)?;
    let body = record(reply.json());
    // The log-in page of a hotel is a success, too.
    let is_record = body.get("current_status").is_some() || body.get("server_id").is_some();
    let read = is_record.then(|| server(body, reply, date, machines, asked)).flatten();
    read.ok_or_else(|| wire::unreadable(reply))
}

/// Reads an answer that only confirms.
pub(super) fn done(reply: &Reply<'_>) -> Result<(), CallError> {
    if reply.is_success() && reply.code().is_none() { Ok(()) } else { Err(reply.to_call_error()) }
}

/// Finds the record in an answer: bare, under `server` or `data`, or in a list with one entry.
fn record(body: &Value) -> &Value {
    let inner = ["server", "data"].iter().find_map(|key| body.get(key));
    let body = inner.filter(|inner| inner.is_object()).unwrap_or(body);
    match body.as_array().map(Vec::as_slice) {
        Some([only]) => only,
        _ => body,
    }
}

fn server(
    body: &Value,
    reply: &Reply<'_>,
    date: Option<i64>,
    machines: &Machines,
    asked: Option<&ServerId>,
) -> Option<Server> {
    let text = |keys: &[&str]| {
        let found = keys.iter().find_map(|key| body.get(key)?.as_str());
        found.map(str::trim).filter(|text| !text.is_empty())
    };
    let reported = match body.get("server_id").or_else(|| body.get("id")) {
        Some(Value::String(id)) => Some(ServerId::new(id.trim())?),
        Some(Value::Number(id)) => Some(ServerId::new(&id.to_string())?),
        _ => None,
    };
    let id = match (reported, asked) {
        // Another machine's record says nothing about ours.
        (Some(reported), Some(asked)) if reported != *asked => return None,
        (Some(reported), _) => reported,
        (None, asked) => asked?.clone(),
    };
    let said = text(&["current_status", "status"]);
    let (word, is_known) = said.map_or((ReportedStage::Starting, true), ReportedStage::read);
    let told_url = text(&["main_service_url"]).and_then(|url| Url::parse(url).ok());
    let (url, refused) = match told_url {
        Some(url) if machines.is_allowed_url(&url) => (Some(MachineUrl(url)), None),
        Some(url) => (None, url.host_str().map(|host| reply.line(host))),
        None => (None, None),
    };
    // A machine that is ready but whose address is unknown is not ready for us.
    let word =
        if word == ReportedStage::Ready && url.is_none() { ReportedStage::Starting } else { word };
    let time = |key| timestamp::parse(body.get(key));
    let now = date.map(|seconds| WallTime::from_unix_millis(seconds.saturating_mul(1000)));
    Some(Server {
        id,
        server_type: text(&["server_type"]).map(|text| reply.line(text)),
        workflow_version: text(&["workflow_version_id", "version_id"]).map(|text| reply.line(text)),
        reported_stage: word,
        unknown_status: said.filter(|_| !is_known).map(|word| reply.line(word)),
        url,
        refused_host: refused,
        // A `Date` has no fraction, so the server's time is up to one second later than it says.
        ready_for: now
            .zip(time("service_ready_at"))
            .map(|(now, ready)| now.since(ready) + DATE_STEP),
        stops_in: now.zip(time("estimated_stopping_at")).map(|(now, stops)| stops.since(now)),
        duration: body.get("estimated_duration").and_then(parse_seconds),
    })
}

/// Reads a duration in seconds: a number or a text.
fn parse_seconds(value: &Value) -> Option<Duration> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (0.0..=MAX_SECONDS).contains(&number).then(|| Duration::from_secs_f64(number))
}

fn reason(reply: &Reply<'_>) -> String {
    if reply.is_success() {
        "the answer contains no usable server id".to_owned()
    } else {
        format!("HTTP {}: {}", reply.status, reply.fault().message)
    }
}
