//! The progress of a run, from the frames of the socket.
//!
//! Owns the frame types and the counting of nodes. Pure: frames in, [`Progress`] out. Nothing here
//! decides how a run ended, because frames may be missing, late or about another run: a job without
//! a `client_id` is reported to every socket.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::queue::Run;
use crate::domain::{job::progress::Progress, request::workflow::graph::link};

/// The longest title that is shown.
const MAX_TITLE: usize = 60;

/// What is known about one request.
#[derive(Debug, Default)]
pub(super) struct RunTracker {
    /// The server's id of the request.
    id: String,
    /// Titles of the nodes that will run.
    titles: BTreeMap<String, String>,
    finished: BTreeSet<String>,
    current: Option<String>,
    step: Option<(u64, u64)>,
    is_over: bool,
}

impl RunTracker {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// Returns whether the nodes are still unknown.
    pub(super) fn is_new(&self) -> bool {
        self.titles.is_empty()
    }

    /// Reads the nodes from the entry in the queue. After a restart of the daemon it is the only
    /// source for them.
    pub(super) fn learn_nodes(&mut self, run: &Run) {
        if self.titles.is_empty() {
            self.id.clone_from(&run.id);
            self.titles = titles(&run.graph, run.outputs.as_deref());
        }
    }

    /// Processes the text of one frame. The socket has a client id that only this request uses, so
    /// a frame without `prompt_id` (the first one after a reconnect) is about this request.
    pub(super) fn on_frame(&mut self, text: &str) {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        let data = frame.get("data").unwrap_or(&Value::Null);
        let word = frame.get("type").and_then(Value::as_str).unwrap_or_default();
        let node = data.get("node").and_then(Value::as_str);
        match data.get("prompt_id") {
            Some(Value::String(id)) if *id == self.id => {}
            // Only `executing` comes like this, and only to the client id whose job runs. A node
            // that we do not have belongs to another run.
            None | Some(Value::Null)
                if word == "executing"
                    && node.is_some_and(|node| self.titles.contains_key(node)) => {}
            _ => return,
        }
        match word {
            "execution_start" => {
                self.finished.clear();
                (self.current, self.step, self.is_over) = (None, None, false);
            }
            "execution_cached" => {
                let nodes = data.get("nodes").and_then(Value::as_array);
                for id in nodes.into_iter().flatten().filter_map(Value::as_str) {
                    self.finish(id);
                }
            }
            "executing" => match node {
                Some(node) => self.start_node(node),
                None => self.end(),
            },
            "progress" => {
                if let Some(node) = node {
                    self.start_node(node);
                }
                self.step = step(data);
            }
            "progress_state" => self.states(data.get("nodes").and_then(Value::as_object)),
            "executed" => {
                if let Some(node) = node {
                    self.finish(node);
                }
            }
            "execution_success" | "execution_error" | "execution_interrupted" => self.end(),
            _ => {}
        }
    }

    fn states(&mut self, nodes: Option<&Map<String, Value>>) {
        for (id, state) in nodes.into_iter().flatten() {
            match state.get("state").and_then(Value::as_str) {
                Some("finished") => self.finish(id),
                Some("running") => {
                    self.start_node(id);
                    if let Some(found) = step(state) {
                        self.step = Some(found);
                    }
                }
                _ => {}
            }
        }
    }

    fn start_node(&mut self, node: &str) {
        if self.current.as_deref() == Some(node) {
            return;
        }
        if let Some(before) = self.current.replace(node.to_owned()) {
            self.finish(&before);
        }
        self.finished.remove(node);
        self.step = None;
    }

    fn finish(&mut self, node: &str) {
        if self.titles.contains_key(node) {
            self.finished.insert(node.to_owned());
        }
        if self.current.as_deref() == Some(node) {
            (self.current, self.step) = (None, None);
        }
    }

    fn end(&mut self) {
        (self.current, self.step, self.is_over) = (None, None, true);
    }

    /// Returns whether the socket reported the end of the run. History decides.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns the progress, or `None` before the first frame.
    pub(super) fn progress(&self) -> Option<Progress> {
        let all = self.titles.len() as u64;
        let is_known = self.current.is_some() || !self.finished.is_empty();
        is_known.then(|| Progress {
            doing: self.current.as_ref().map(|node| self.title(node)),
            step: self.step,
            parts: (all > 0).then_some((self.finished.len() as u64, all)),
            left_ms: None,
        })
    }

    /// Returns the title of a node. A node of an expanded sub-graph has an id like `12.0.3`, whose
    /// first part is one of our nodes.
    fn title(&self, node: &str) -> String {
        let outer = node.split(['.', ':']).next().unwrap_or(node);
        let known = self.titles.get(node).or_else(|| self.titles.get(outer));
        known.cloned().unwrap_or_else(|| clean_title(&format!("node {node}")))
    }
}

/// Reads `value` of `max`. Floats occur as well, and a single step counts as no step.
fn step(data: &Value) -> Option<(u64, u64)> {
    let (value, max) = (integer_of(data.get("value")?)?, integer_of(data.get("max")?)?);
    (max > 1 && value > 0).then_some((value.min(max), max))
}

/// Reads a number that may be written as a float. It is parsed from its digits, so a value that
/// does not fit gives `None` and is never truncated.
pub(super) fn integer_of(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| format!("{:.0}", value.as_f64()?).parse().ok())
}

/// Returns the titles of the nodes that feed one of `outputs`; the others never run.
fn titles(graph: &Map<String, Value>, outputs: Option<&[String]>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting: Vec<&str> = match outputs {
        Some(outputs) if !outputs.is_empty() => outputs.iter().map(String::as_str).collect(),
        _ => graph.keys().map(String::as_str).collect(),
    };
    while let Some(id) = waiting.pop() {
        let Some(node) = graph.get(id).filter(|_| !found.contains_key(id)) else { continue };
        let names = [node.pointer("/_meta/title"), node.get("class_type")];
        let mut names = names.into_iter().flatten().filter_map(Value::as_str).map(str::trim);
        found.insert(
            id.to_owned(),
            clean_title(names.find(|name| !name.is_empty()).unwrap_or_default()),
        );
        let inputs = node.get("inputs").and_then(Value::as_object).into_iter().flatten();
        waiting.extend(inputs.filter_map(|(_, value)| link(value)).map(|link| link.node));
    }
    found
}

fn clean_title(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TITLE).collect()
}

#[cfg(test)]
mod tests;
