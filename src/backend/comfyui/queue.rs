//! Reads the server's queue for one request: running, waiting and behind how many jobs, or absent.
//!
//! Owns the shape of `GET /queue`: `[number, prompt id, graph, extra data, output nodes]` for
//! each job of every user. The waiting entries are a heap and not sorted, so the position is
//! counted by number. Only our own entry is parsed completely: other users' graphs may be large,
//! and are private.

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::MARKER_KEY;

#[derive(Debug, PartialEq)]
pub(super) enum QueueState {
    Running(Run),
    Pending {
        /// Jobs ahead of it, including the running one.
        ahead: u64,
        run: Run,
    },
    /// It is not in the queue.
    Absent,
}

/// One of our entries.
#[derive(Debug, PartialEq)]
pub(super) struct Run {
    /// The server's id of the entry.
    pub(super) id: String,
    /// The graph as the server has it.
    pub(super) graph: Map<String, Value>,
    /// The output nodes that passed the server's checks; `None` if it does not list them.
    pub(super) outputs: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Queues<'a> {
    #[serde(borrow)]
    queue_running: Vec<&'a RawValue>,
    #[serde(borrow)]
    queue_pending: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Extra {
    conjured_attempt: Option<String>,
}

/// Finds `request` in the body of an answer. Returns `None` if that is not a queue.
pub(super) fn find(body: &[u8], request: &str) -> Option<QueueState> {
    let queues: Queues<'_> = serde_json::from_slice(body).ok()?;
    if let Some((_, run)) =
        queues.queue_running.iter().find_map(|entry| match_entry(entry, request))
    {
        return Some(QueueState::Running(run));
    }
    let Some((number, run)) =
        queues.queue_pending.iter().find_map(|entry| match_entry(entry, request))
    else {
        return Some(QueueState::Absent);
    };
    let before = queues.queue_pending.iter().filter(|entry| {
        let parts: Vec<&RawValue> = serde_json::from_str(entry.get()).unwrap_or_default();
        number_of(&parts) < number
    });
    let ahead = before.count() + queues.queue_running.len();
    Some(QueueState::Pending { ahead: ahead as u64, run })
}

fn match_entry(entry: &RawValue, request: &str) -> Option<(f64, Run)> {
    let parts: Vec<&RawValue> = serde_json::from_str(entry.get()).ok()?;
    let id: String = serde_json::from_str(parts.get(1)?.get()).ok()?;
    if id != request {
        // A server that chose its own id still returns the marker that we sent with the graph.
        let extra: Extra = serde_json::from_str(parts.get(3)?.get()).ok()?;
        extra.conjured_attempt.filter(|mark| mark == request)?;
    }
    let read = |index: usize| parts.get(index).map(|part| part.get());
    let graph = read(2).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let outputs = read(4).and_then(|text| serde_json::from_str(text).ok());
    Some((number_of(&parts), Run { id, graph, outputs }))
}

fn number_of(parts: &[&RawValue]) -> f64 {
    parts.first().and_then(|part| serde_json::from_str(part.get()).ok()).unwrap_or(f64::MAX)
}

/// Returns the marker that is sent with the graph, so that a request can be found whatever id the
/// server gives it.
pub(super) fn marker(key: &str) -> Value {
    serde_json::json!({ MARKER_KEY: key })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stands(json: &Value, request: &str) -> Option<QueueState> {
        find(json.to_string().as_bytes(), request)
    }

    #[test]
    fn the_place_in_line_is_counted_by_number_because_the_heap_is_not_sorted() {
        let entry = |number: i64, id: &str| serde_json::json!([number, id, {"1": {}}, {}, ["1"]]);
        let queue = serde_json::json!({
            "queue_running": [entry(3, "running")],
            "queue_pending": [entry(-9, "front"), entry(8, "late"), entry(5, "ours"), entry(4, "early"), "rubbish", [null]],
        });
        let Some(QueueState::Pending { ahead, run }) = stands(&queue, "ours") else {
            panic!("it waits");
        };
        assert_eq!((ahead, &*run.id), (3, "ours"), "the running one, the front one, the early one");
        assert!(matches!(stands(&queue, "running"), Some(QueueState::Running(_))));
        assert_eq!(stands(&queue, "unknown"), Some(QueueState::Absent));
        assert_eq!(stands(&serde_json::json!({"queue": []}), "ours"), None);
    }

    #[test]
    fn a_job_is_found_by_what_was_written_beside_it_where_the_server_chose_the_id() {
        let queue = serde_json::json!({
            "queue_running": [[1, "theirs", {}, {"client_id": "c", "conjured_attempt": "key"}, []]],
            "queue_pending": [],
        });
        let Some(QueueState::Running(run)) = stands(&queue, "key") else { panic!("it runs") };
        assert_eq!(run.id, "theirs");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = find(&bytes, "x");
        }

        #[test]
        fn no_entry_makes_it_panic(entry in "[\\[\\]{}\",0-9a-z:]{0,40}") {
            let _ = find(format!("{{\"queue_running\":[{entry}],\"queue_pending\":[{entry}]}}").as_bytes(), "x");
        }
    }
}
