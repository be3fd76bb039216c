//! An entry of the server's history: how a run ended, its files, its fault and its times.
//!
//! Owns the shape of `GET /history/{id}` and the reading of `status`, which alone decides: outputs
//! are listed for failed runs, too, and an interrupt differs from a failure only in its last
//! message. It collects files but selects none.

use serde_json::{Map, Value};

use super::{faults, progress::integer_of, view, wire::Wire};
use crate::{
    backend::{RunResult, RunTimes},
    domain::{job::artifact::RemoteFile, time::WallTime},
};

/// The maximum number of files that is accepted. A run makes a handful.
const MAX_FILES: usize = 1000;

/// How deep files may be nested below a node. ComfyUI nests them one list deep.
const MAX_DEPTH: usize = 8;

/// Reads an entry. Returns `None` if it says neither how the run ended nor what it made.
pub(super) fn result(entry: &Value, wire: &Wire) -> Option<RunResult> {
    let messages = Messages::of(entry);
    let times = times(entry, &messages);
    let files = files(entry.get("outputs").unwrap_or(&Value::Null), wire);
    if messages.find("execution_interrupted").is_some() {
        return Some(RunResult::Cancelled { times });
    }
    let word = entry.pointer("/status/status_str").and_then(Value::as_str);
    let failed = || faults::from_run(messages.find("execution_error"), graph(entry), wire);
    match word {
        Some("success") => Some(RunResult::Succeeded { files, times }),
        Some("error") => Some(RunResult::Failed { fault: failed(), files, times }),
        _ if messages.find("execution_error").is_some() => {
            Some(RunResult::Failed { fault: failed(), files, times })
        }
        // A server that keeps no status (null): files are then the only sign of success.
        _ => (!files.is_empty()).then_some(RunResult::Succeeded { files, times }),
    }
}

fn graph(entry: &Value) -> &Value {
    entry.pointer("/prompt/2").unwrap_or(&Value::Null)
}

/// The server's messages during the run: pairs of a name and its data.
struct Messages<'a>(Vec<(&'a str, &'a Value)>);

impl<'a> Messages<'a> {
    fn of(entry: &'a Value) -> Self {
        let list = entry.pointer("/status/messages").and_then(Value::as_array);
        let pairs = list.into_iter().flatten().filter_map(|message| {
            let pair = message.as_array()?;
            Some((pair.first()?.as_str()?, pair.get(1)?))
        });
        Self(pairs.collect())
    }

    fn find(&self, word: &str) -> Option<&'a Value> {
        self.0.iter().rev().find(|(said, _)| *said == word).map(|(_, data)| *data)
    }
}

/// Returns the times in milliseconds of the server's clock: `create_time` if it is sent (0.33),
/// otherwise the times of the run's own messages.
fn times(entry: &Value, messages: &Messages<'_>) -> RunTimes {
    let at = |value: Option<&Value>| {
        let millis = i64::try_from(integer_of(value?)?).ok()?;
        (millis > 0).then(|| WallTime::from_unix_millis(millis))
    };
    let stamp = |(_, data): &(&str, &Value)| at(data.get("timestamp"));
    RunTimes {
        created_at: at(entry.pointer("/prompt/3/create_time"))
            .or_else(|| messages.0.iter().find_map(stamp)),
        finished_at: messages.0.iter().rev().find_map(stamp).filter(|_| messages.0.len() > 1),
    }
}

/// Collects every object with a `filename`, in any list of any node.
fn files(outputs: &Value, wire: &Wire) -> Vec<RemoteFile> {
    let mut found = Vec::new();
    for (node, channels) in outputs.as_object().into_iter().flatten() {
        for (channel, value) in channels.as_object().into_iter().flatten() {
            walk(&mut found, wire, (node, channel), value, 0);
        }
    }
    found
}

fn walk(
    found: &mut Vec<RemoteFile>,
    wire: &Wire,
    place: (&str, &str),
    value: &Value,
    depth: usize,
) {
    if depth > MAX_DEPTH || found.len() >= MAX_FILES {
        return;
    }
    match value {
        Value::Array(list) => {
            for entry in list {
                walk(found, wire, place, entry, depth + 1);
            }
        }
        Value::Object(members) => match file(wire, place, members) {
            Some(file) => found.push(file),
            None => {
                for inner in members.values() {
                    walk(found, wire, place, inner, depth + 1);
                }
            }
        },
        // A string is never a file: text nodes put any string into their list, and Preview3D a path
        // that is not an output.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn file(
    wire: &Wire,
    (node, channel): (&str, &str),
    members: &Map<String, Value>,
) -> Option<RemoteFile> {
    let text = |key: &str| members.get(key).and_then(Value::as_str).unwrap_or_default();
    let filename = text("filename");
    if filename.is_empty() || filename.len() > view::MAX_NAME {
        return None;
    }
    // The server's own default for a file without a type.
    let kind = if text("type").is_empty() { "output" } else { text("type") };
    Some(RemoteFile {
        node: wire.line(node),
        channel: wire.line(channel),
        url: view::address(filename, text("subfolder"), kind),
        filename: wire.line(filename),
        file_type: wire.line(kind),
    })
}
