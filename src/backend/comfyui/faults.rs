//! The errors of a server in a form that a person can use: which node, and what is wrong with it.
//!
//! Owns the texts of refusals (`node_errors`, `missing_node_type`, …) and of failed runs, and the
//! decision whether the workflow is at fault or the machine, which may have run out of memory.

use serde_json::Value;

use super::wire::Wire;
use crate::backend::{FaultKind, ServiceFault};

/// The maximum number of errors that are shown.
const MAX_SHOWN: usize = 4;

/// The maximum length of all of them in characters.
const MAX_CHARS: usize = 900;

pub(super) const CHECK_WORKFLOW: &str = "ComfyUI refused the workflow, so nothing ran. Open it in ComfyUI to see the nodes with errors, or check it with `conjured workflow validate`.";

/// Parts of an exception's type or message, in lower case, that are about the machine and not about
/// the graph, with the advice.
const MACHINE_FAULTS: [(&str, &str); 11] = [
    ("outofmemory", OUT_OF_MEMORY),
    ("out of memory", OUT_OF_MEMORY),
    // ComfyUI's own text: "Allocation on device 0 would exceed allowed memory".
    ("allocation on device", OUT_OF_MEMORY),
    ("would exceed allowed memory", OUT_OF_MEMORY),
    ("defaultcpuallocator", OUT_OF_MEMORY),
    ("memoryerror", OUT_OF_MEMORY),
    ("cuda error", DRIVER),
    ("no cuda gpus", DRIVER),
    ("no space left on device", DISK),
    ("localentrynotfound", ABSENT_MODEL),
    ("connectionerror", ABSENT_MODEL),
];

const OUT_OF_MEMORY: &str = "The machine ran out of memory. Close other programs that use the graphics card, or let ComfyUI free its models, and try again.";
const DRIVER: &str = "The graphics card or its driver failed. Restart ComfyUI and try again.";
const DISK: &str = "The disk that ComfyUI writes to is full. Free some space and try again.";
const ABSENT_MODEL: &str = "A node could not download a model. Try again, or put the model into the folder where the node expects it.";
const NODE_FAILED: &str = "A node of the workflow failed on this input. It is not retried automatically; see the log of ComfyUI.";

pub(super) fn workflow(status: u16, message: String, advice: &'static str) -> ServiceFault {
    ServiceFault { code: None, status, message, advice, kind: FaultKind::Workflow }
}

/// Returns a node as a person knows it: `node 24 SaveImage "EXPORT IMAGE"`.
pub(super) fn node(id: &str, graph: &Value, wire: &Wire) -> String {
    let known = graph.get(id);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    named(
        id,
        &text(known.and_then(|node| node.get("class_type"))),
        &text(known.and_then(|node| node.pointer("/_meta/title"))),
        wire,
    )
}

fn named(id: &str, class: &str, title: &str, wire: &Wire) -> String {
    let mut message = format!("node {}", wire.line(id));
    if !class.is_empty() {
        message.push_str(&format!(" {}", wire.line(class)));
    }
    if !title.is_empty() && title != class {
        message.push_str(&format!(" \"{}\"", wire.line(title)));
    }
    message
}

/// Returns the texts of `node_errors`; empty if there are none.
pub(super) fn node_errors(errors: &Value, graph: &Value, wire: &Wire) -> String {
    let errors = errors.as_object().into_iter().flatten();
    let all: Vec<String> = errors
        .map(|(id, report)| {
            let said: Vec<String> = report
                .get("errors")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|error| error_text(error, wire))
                .collect();
            format!("{}: {}", node(id, graph, wire), said.join(", "))
        })
        .collect();
    listed(&all)
}

fn error_text(error: &Value, wire: &Wire) -> String {
    let text = |value: Option<&Value>| wire.line(value.and_then(Value::as_str).unwrap_or_default());
    let said = [
        text(error.get("message")),
        text(error.get("details")),
        text(error.pointer("/extra_info/exception_message")),
    ];
    let mut parts: Vec<String> = Vec::new();
    for part in said {
        if !part.is_empty() && !parts.iter().any(|known| known.contains(&part)) {
            parts.push(part);
        }
    }
    parts.join(" - ")
}

/// Joins several errors into one readable text.
pub(super) fn listed(all: &[String]) -> String {
    let mut message = all.iter().take(MAX_SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if all.len() > MAX_SHOWN {
        message.push_str(&format!("; and {} more", all.len() - MAX_SHOWN));
    }
    match message.char_indices().nth(MAX_CHARS) {
        None => message,
        Some((at, _)) => format!("{}…", &message[..at]),
    }
}

pub(super) fn from_refusal(body: &Value, status: u16, graph: &Value, wire: &Wire) -> ServiceFault {
    let error = body.get("error").unwrap_or(&Value::Null);
    let mut message = node_errors(body.get("node_errors").unwrap_or(&Value::Null), graph, wire);
    if message.is_empty() {
        message = error_text(error, wire);
        let extra = error.get("extra_info").unwrap_or(&Value::Null);
        let text = |key: &str| extra.get(key).and_then(Value::as_str).unwrap_or_default();
        if !text("node_id").is_empty() {
            let place = named(text("node_id"), text("class_type"), text("node_title"), wire);
            message = format!("{place}: {message}");
        }
    }
    if message.is_empty() {
        message = format!("HTTP {status} without a reason");
    }
    workflow(status, message, CHECK_WORKFLOW)
}

/// Returns the fault of a failed run, from its `execution_error`.
pub(super) fn from_run(error: Option<&Value>, graph: &Value, wire: &Wire) -> ServiceFault {
    let Some(error) = error else {
        return workflow(200, "the run failed without saying why".to_owned(), NODE_FAILED);
    };
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, said) = (text("exception_type"), text("exception_message"));
    let place = match graph.get(text("node_id")) {
        Some(_) => node(text("node_id"), graph, wire),
        None => named(text("node_id"), text("node_type"), "", wire),
    };
    let message = format!("{place}: {}: {}", wire.line(kind), wire.line(said));
    let lower = format!("{kind} {said}").to_lowercase();
    match MACHINE_FAULTS.iter().find(|(sign, _)| lower.contains(sign)) {
        Some((_, advice)) => {
            ServiceFault { code: None, status: 200, message, advice, kind: FaultKind::Service }
        }
        None => workflow(200, message, NODE_FAILED),
    }
}
