//! The answer that says how a run ended, with its files and its error.
//!
//! Owns the shapes of `outputs` (node, channel, list; a list; or the `output` of RunComfy's other
//! products) and of `error` (a list, an object, a string). It collects files but selects none, and
//! it does not check URLs.

use serde_json::{Map, Value};

use super::{
    errors,
    reply::{Reply, as_code, text_of},
    timestamp,
    wire::{StatusWord, is_run_error, unreadable},
};
use crate::{
    backend::{CallError, Phase, RunResult, RunTimes},
    domain::job::artifact::RemoteFile,
};

/// The maximum number of files that is accepted. A run makes a handful.
const MAX_FILES: usize = 1000;

/// The longest URL that is accepted. Signed URLs have about one thousand characters.
const MAX_URL: usize = 8 * 1024;

/// How deep files may be nested under a channel. RunComfy nests them one list deep.
const MAX_DEPTH: usize = 16;

/// Reads the answer to a request for the result.
pub(super) fn result(reply: &Reply<'_>) -> Result<RunResult, CallError> {
    let code = reply.code();
    if code == Some(errors::NOT_READY) {
        return Ok(RunResult::Pending(Phase::Running));
    }
    let body = reply.json();
    let word = if reply.is_success() { StatusWord::read(reply) } else { None };
    let times = RunTimes {
        created_at: timestamp::parse(body.get("created_at")),
        finished_at: timestamp::parse(body.get("finished_at")),
    };
    let failed = || {
        let files = files(body, reply);
        RunResult::Failed { fault: run_fault(reply), files, times }
    };
    let has_failed = code.is_some() || body.get("error").is_some_and(|error| !is_empty(error));
    match word {
        Some(StatusWord::Queued | StatusWord::Unknown(_)) => {
            Ok(RunResult::Pending(Phase::Queued { position: None }))
        }
        Some(StatusWord::Running) => Ok(RunResult::Pending(Phase::Running)),
        Some(StatusWord::Cancelled) => Ok(RunResult::Cancelled { times }),
        Some(StatusWord::Failed) => Ok(failed()),
        // Either word together with a code is an error that came with HTTP 200. `completed` alone
        // does not say whether the run succeeded.
        Some(StatusWord::Succeeded) if code.is_none() => {
            Ok(RunResult::Succeeded { files: files(body, reply), times })
        }
        Some(StatusWord::Succeeded | StatusWord::Completed) if has_failed => Ok(failed()),
        Some(StatusWord::Succeeded | StatusWord::Completed) => {
            Ok(RunResult::Succeeded { files: files(body, reply), times })
        }
        None if is_run_error(code) => Ok(failed()),
        None if code.is_some() || !reply.is_success() => Err(reply.to_call_error()),
        // There is no status at all. Outputs or an error are sufficient; anything less is not.
        None if has_failed => Ok(failed()),
        None => match files(body, reply) {
            files if files.is_empty() => Err(unreadable(reply)),
            files => Ok(RunResult::Succeeded { files, times }),
        },
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.iter().all(is_empty),
        Value::Object(members) => members.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// Finds the code and the text of a failed run: in `error`, otherwise at the top level of the body.
fn run_fault(reply: &Reply<'_>) -> crate::backend::ServiceFault {
    let error = reply.json().get("error").unwrap_or(&Value::Null);
    let entries = match error {
        Value::Array(list) => list.as_slice(),
        _ => std::slice::from_ref(error),
    };
    let code = entries.iter().find_map(code_of_entry).or_else(|| reply.code());
    let words: Vec<String> = entries
        .iter()
        .take(5)
        .map(message_of_entry)
        .filter(|message| !message.is_empty())
        .collect();
    if words.is_empty() {
        let top = reply.fault();
        return errors::fault(
            code,
            reply.status,
            if code == top.code { top.message } else { String::new() },
        );
    }
    errors::fault(code, reply.status, reply.line(&words.join("; ")))
}

fn code_of_entry(entry: &Value) -> Option<u32> {
    ["errorCode", "error_code", "code", "type", "name"]
        .iter()
        .find_map(|key| as_code(entry.get(key)?))
}

/// Returns the text of one error: the string itself, or the values of the known members.
fn message_of_entry(entry: &Value) -> String {
    if let Some(text) = text_of(entry) {
        return text;
    }
    let words: Vec<String> = ["error", "message", "error_message", "details", "debugInfo"]
        .iter()
        .filter_map(|key| text_of(entry.get(key)?))
        .collect();
    words.join(": ")
}

/// Collects every object with a URL, in any channel of any node.
fn files(body: &Value, reply: &Reply<'_>) -> Vec<RemoteFile> {
    let mut found = Collection { files: Vec::new(), reply };
    for key in ["outputs", "output"] {
        if found.files.is_empty() {
            found.top(body.get(key).unwrap_or(&Value::Null));
        }
    }
    found.files
}

struct Collection<'a> {
    files: Vec<RemoteFile>,
    reply: &'a Reply<'a>,
}

impl Collection<'_> {
    fn top(&mut self, outputs: &Value) {
        match outputs {
            Value::Object(members) if !members.contains_key("url") => {
                for (node, channels) in members {
                    self.node(node, channels);
                }
            }
            Value::Array(list) => list.iter().for_each(|entry| self.entry(entry)),
            _ => self.entry(outputs),
        }
    }

    /// Collects an entry of a list without nodes: a file, a node that names itself, or just a URL.
    fn entry(&mut self, entry: &Value) {
        match entry {
            Value::String(url) if url.starts_with("https://") || url.starts_with("http://") => {
                let name = url.split(['?', '#']).next().and_then(|path| path.rsplit('/').next());
                self.push("", "", url, name.unwrap_or_default(), "");
            }
            Value::Object(members) => {
                let node = ["node_id", "node"].iter().find_map(|key| members.get(*key)?.as_str());
                self.node(node.unwrap_or_default(), entry);
            }
            _ => {}
        }
    }

    fn node(&mut self, node: &str, channels: &Value) {
        match channels {
            Value::Object(members) if !has_url(members) => {
                for (channel, value) in members {
                    self.walk(node, channel, value, 0);
                }
            }
            _ => self.walk(node, "", channels, 0),
        }
    }

    /// Collects the files below `value`. Strings never count as files here: text nodes put any
    /// string into their channel, even a URL.
    fn walk(&mut self, node: &str, channel: &str, value: &Value, depth: usize) {
        if depth > MAX_DEPTH || self.files.len() >= MAX_FILES {
            return;
        }
        match value {
            Value::Array(list) => {
                for entry in list {
                    self.walk(node, channel, entry, depth + 1);
                }
            }
            Value::Object(members) => {
                let text = |key: &str| members.get(key).and_then(Value::as_str).unwrap_or_default();
                let name =
                    if text("filename").is_empty() { text("name") } else { text("filename") };
                self.push(node, channel, text("url"), name, text("type"));
                members.values().for_each(|inner| self.walk(node, channel, inner, depth + 1));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn push(&mut self, node: &str, channel: &str, url: &str, filename: &str, file_type: &str) {
        let url = url.trim();
        if url.is_empty() || url.len() > MAX_URL || self.files.len() >= MAX_FILES {
            return;
        }
        self.files.push(RemoteFile {
            node: self.reply.line(node),
            channel: self.reply.line(channel),
            url: url.to_owned(),
            filename: self.reply.line(filename),
            file_type: self.reply.line(file_type),
        });
    }
}

fn has_url(members: &Map<String, Value>) -> bool {
    members.get("url").is_some_and(Value::is_string)
}

#[cfg(test)]
mod tests;
