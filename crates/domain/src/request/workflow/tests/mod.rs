//! Reading workflows: the built-in graphs, common user mistakes, and size limits.

mod any;
mod binding;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{bind::bind, inspect::inspect, role::Role, validate::validate, *};

pub(crate) fn workflow(graph: &Value) -> Workflow {
    Workflow::parse("test", graph.to_string().as_bytes()).expect("a graph")
}

pub(crate) fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect()
}

fn built_in() -> Workflow {
    Workflow::find_built_in("conjure_flux_mesh").expect("built in")
}

fn parse(text: &str) -> Result<Workflow, WorkflowFault> {
    Workflow::parse("test", text.as_bytes())
}

#[test]
fn every_built_in_workflow_is_bound_whole_and_faultless() {
    for name in built_in::NAMES {
        let workflow = Workflow::find_built_in(name).expect("a name of the list");
        let bindings = bind(&workflow, &BTreeMap::new()).expect("its own table fits");
        assert_eq!(validate(&workflow, &bindings), [], "{name}");
        assert_eq!(workflow.name(), name);
    }
    assert_eq!(Workflow::find_built_in("conjure"), None);
}

#[test]
fn formatting_and_the_order_of_keys_do_not_change_the_version_and_a_value_does() {
    let one = parse(
        r#"{"1":{"class_type":"A","inputs":{"x":1,"y":[1,{"b":2,"a":3}]}},"2":{"class_type":"B"}}"#,
    );
    let other = parse(
        "\u{feff}{\n \"2\": {\"class_type\": \"B\"},\n \"1\": {\"inputs\": {\"y\": [1, {\"a\": 3, \"b\": 2}], \
         \"x\": 1}, \"class_type\": \"A\"}}\n",
    );
    let changed = parse(
        r#"{"1":{"class_type":"A","inputs":{"x":2,"y":[1,{"b":2,"a":3}]}},"2":{"class_type":"B"}}"#,
    );
    let version = |workflow: Result<Workflow, _>| workflow.map(|w| w.version()).expect("a graph");
    let first = version(one);
    assert_eq!(first, version(other));
    assert_ne!(first, version(changed));
}

#[test]
fn a_request_body_is_opened_and_a_node_called_prompt_is_not() {
    let graph = json!({"1": {"class_type": "A", "inputs": {}}});
    for wrapper in ["prompt", "workflow_api_json"] {
        let wrapped = workflow(&json!({"client_id": "x", wrapper: graph}));
        assert_eq!(wrapped.version(), workflow(&graph).version(), "{wrapper}");
    }
    assert!(workflow(&json!({"prompt": {"class_type": "A"}})).node("prompt").is_some());
}

#[test]
fn the_editors_format_is_recognised_and_the_remedy_is_named() {
    let editor = parse(r#"{"last_node_id":3,"nodes":[{"id":1,"type":"LoadImage"}],"links":[]}"#);
    assert_eq!(editor, Err(WorkflowFault::EditorFormat));
    assert!(WorkflowFault::EditorFormat.to_string().contains("Export (API)"));
}

#[test]
fn what_is_no_graph_says_why() {
    for (text, message) in [
        ("", "EOF while parsing"),
        ("{\"1\":", "line 1 column"),
        ("[]", "not a JSON object"),
        ("{}", "no nodes"),
        (r#"{"a":1}"#, "no member has a `class_type`"),
        (
            r#"{"1":{"class_type":"A"},"2":7}"#,
            "node `2` of the workflow is not a node in API format",
        ),
        (r#"{"1":{"class_type":"A","inputs":[]}}"#, "`inputs` are not an object"),
        (r#"{"1":{"class_type":5}}"#, "`class_type` is not a text"),
        (r#"{"":{"class_type":"A"}}"#, "1 to 64 bytes"),
        (r#"{"a b":{"class_type":"A"}}"#, "no white space"),
        (&"[".repeat(100_000), "recursion limit"),
    ] {
        let said = parse(text).expect_err("no graph").to_string();
        assert!(said.contains(message), "{text:.40} gives {said}");
    }
    let many: Map<String, Value> =
        (0..=MAX_NODES).map(|n| (n.to_string(), json!({"class_type": "A"}))).collect();
    assert!(matches!(parse(&json!(many).to_string()), Err(WorkflowFault::TooLarge { .. })));
    let long = " ".repeat(MAX_WORKFLOW_BYTES + 1);
    assert!(matches!(parse(&long), Err(WorkflowFault::TooLarge { .. })));
}

#[test]
fn a_chain_as_long_as_can_be_and_a_circle_in_it_need_no_stack() {
    let mut graph: Map<String, Value> = (0..MAX_NODES)
        .map(|n| {
            (
                n.to_string(),
                json!({"class_type": "SaveGLB", "inputs": {"mesh": [(n + 1).to_string(), 0]}}),
            )
        })
        .collect();
    let chain = workflow(&Value::Object(graph.clone()));
    assert_eq!(graph::ancestors(&chain, ["0"]).len(), MAX_NODES);
    assert_eq!(graph::find_cycle(&chain), None);
    graph.insert(
        (MAX_NODES - 1).to_string(),
        json!({"class_type": "A", "inputs": {"mesh": ["0", 0]}}),
    );
    let ring = workflow(&Value::Object(graph));
    assert_eq!(graph::find_cycle(&ring).map(|ring| ring.len()), Some(MAX_NODES));
    assert!(inspect(&ring).best(Role::Mesh).is_some());
}
