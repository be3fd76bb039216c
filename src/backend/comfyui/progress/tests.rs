//! Frames of every kind, ours and others', valid and invalid.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn track() -> RunTracker {
    let Value::Object(graph) = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "KSampler", "_meta": {"title": "Paint"}, "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
        "9": {"class_type": "Note", "inputs": {}},
    }) else {
        unreachable!("an object")
    };
    let mut tracker = RunTracker::new("ours");
    tracker.learn_nodes(&Run { id: "ours".to_owned(), graph, outputs: Some(vec!["3".to_owned()]) });
    tracker
}

fn hear(tracker: &mut RunTracker, word: &str, data: &Value) {
    tracker.on_frame(&json!({"type": word, "data": data}).to_string());
}

fn said(tracker: &RunTracker) -> String {
    tracker.progress().map(|progress| progress.to_string()).unwrap_or_default()
}

#[test]
fn nodes_and_steps_are_counted_from_the_frames_of_one_run() {
    let mut tracker = track();
    assert_eq!(said(&tracker), "");
    hear(&mut tracker, "execution_start", &json!({"prompt_id": "ours"}));
    hear(&mut tracker, "execution_cached", &json!({"nodes": ["1"], "prompt_id": "ours"}));
    hear(&mut tracker, "executing", &json!({"node": "2", "prompt_id": "ours"}));
    assert_eq!(said(&tracker), "Paint, part 2 of 3", "the note feeds nothing and does not count");
    hear(
        &mut tracker,
        "progress",
        &json!({"value": 3, "max": 20, "node": "2", "prompt_id": "ours"}),
    );
    assert_eq!(said(&tracker), "Paint, step 3 of 20, part 2 of 3");
    let nodes = json!({"1": {"value": 1, "max": 1, "state": "finished"}, "2": {"value": 4.0, "max": 20.0, "state": "running"}});
    hear(&mut tracker, "progress_state", &json!({"nodes": nodes, "prompt_id": "ours"}));
    assert_eq!(said(&tracker), "Paint, step 4 of 20, part 2 of 3");
    hear(&mut tracker, "executed", &json!({"node": "2", "output": null, "prompt_id": "ours"}));
    hear(&mut tracker, "executing", &json!({"node": "3", "prompt_id": "ours"}));
    assert_eq!(said(&tracker), "SaveImage, part 3 of 3");
    assert!(!tracker.is_over());
    hear(&mut tracker, "executing", &json!({"node": null, "prompt_id": "ours"}));
    assert!(tracker.is_over());
}

#[test]
fn frames_of_other_runs_are_not_ours() {
    let mut tracker = track();
    for word in ["executing", "progress", "executed", "execution_success", "execution_error"] {
        hear(
            &mut tracker,
            word,
            &json!({"node": "2", "value": 7, "max": 9, "prompt_id": "theirs"}),
        );
    }
    hear(&mut tracker, "progress", &json!({"node": "2", "value": 7, "max": 9}));
    hear(&mut tracker, "executing", &json!({"node": "77"}));
    assert_eq!(said(&tracker), "");
    assert!(!tracker.is_over());
}

#[test]
fn after_a_reconnect_a_node_comes_without_an_id_and_is_taken() {
    let mut tracker = track();
    hear(
        &mut tracker,
        "status",
        &json!({"status": {"exec_info": {"queue_remaining": 1}}, "sid": "ours"}),
    );
    hear(&mut tracker, "executing", &json!({"node": "2"}));
    assert_eq!(said(&tracker), "Paint, part 1 of 3");
}

#[test]
fn a_node_of_an_expanded_sub_graph_is_called_by_its_outer_node() {
    let mut tracker = track();
    hear(&mut tracker, "executing", &json!({"node": "2.0.1", "prompt_id": "ours"}));
    assert_eq!(said(&tracker), "Paint, part 1 of 3");
}

proptest! {
    #[test]
    fn no_frame_makes_it_panic(text: String, word in "[a-z_]{0,20}", value: f64, node: String) {
        let mut tracker = track();
        tracker.on_frame(&text);
        for word in [&*word, "progress", "executing", "progress_state", "execution_cached"] {
            let nodes = json!({(node.clone()): {"state": "running", "value": value, "max": value}});
            hear(&mut tracker, word, &json!({"prompt_id": "ours", "node": node, "nodes": nodes, "value": value, "max": value}));
        }
        if let Some(Progress { parts: Some((done, all)), .. }) = tracker.progress() {
            prop_assert!(done <= all);
        }
    }
}
