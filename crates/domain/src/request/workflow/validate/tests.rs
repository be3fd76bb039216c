//! Each finding from a graph that has it, and no finding from a graph without problems.

use serde_json::{Value, json};

use super::{
    super::{
        bind::bind,
        tests::{overrides, workflow},
    },
    *,
};

fn graph() -> Value {
    json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},
        "2": {"class_type": "PrimitiveString", "inputs": {"value": ""}},
        "3": {"class_type": "Sampler", "inputs": {"image": ["1", 0], "text": ["2", 0]}},
        "4": {"class_type": "PartPacker_Sampler", "inputs": {"image": ["3", 0], "seed": ["5", 0]}},
        "5": {"class_type": "PrimitiveInt", "inputs": {"value": 1}},
        "6": {"class_type": "SaveGLB", "inputs": {"mesh": ["4", 1]}},
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    })
}

/// Binds the valid graph with the usual three roles and `more`, and checks `changed` against that.
fn findings(more: &[(&str, &str)], changed: &Value) -> Vec<String> {
    let mut given = overrides(&[("image", "1.image"), ("prompt", "2.value"), ("mesh", "6")]);
    given.extend(overrides(more));
    let bindings = bind(&workflow(&graph()), &given).expect("bound");
    validate(&workflow(changed), &bindings).iter().map(ToString::to_string).collect()
}

/// Changes the valid graph in one location and returns the only finding.
fn finding(pointer: &str, value: Value) -> String {
    let mut changed = graph();
    *changed.pointer_mut(pointer).expect("a place") = value;
    let found = findings(&[], &changed);
    assert_eq!(found.len(), 1, "{found:?}");
    found.concat()
}

#[test]
fn a_sound_graph_has_no_findings() {
    assert_eq!(findings(&[("mesh_seed", "5")], &graph()), [""; 0]);
}

#[test]
fn each_fault_of_a_graph_is_found_and_said() {
    for (pointer, value, message) in [
        (
            "/3",
            json!({"inputs": {"image": ["1", 0], "text": ["2", 0]}}),
            "node 3 has no `class_type`",
        ),
        (
            "/4/inputs/seed",
            json!(["9", 0]),
            "input `seed` of node 4 is fed by node 9, which does not exist",
        ),
        ("/5/inputs/value", json!(["4", 0]), "feed each other in a cycle"),
        (
            "/4/inputs/seed",
            json!(2_147_483_648_u64),
            "is 2147483648, and a PartPacker_Sampler takes seeds from 0 to 2147483647",
        ),
        ("/4/inputs/seed", json!(-1), "is -1, and"),
        (
            "/2/inputs",
            json!({"text": ""}),
            "bound to `value` of node 2; that node's inputs are text",
        ),
        (
            "/2/inputs/value",
            json!(7),
            "`value` of node 2, which contains a number and would get a text",
        ),
        (
            "/2/inputs/value",
            json!(["5", 0]),
            "`value` of node 2, which node 5 feeds; bind that one",
        ),
        (
            "/3/inputs/text",
            json!("fixed"),
            "the role `prompt` is bound to node 2, but no bound output depends on it",
        ),
    ] {
        let said = finding(pointer, value);
        assert!(said.contains(message), "{pointer}: {said}");
    }
}

#[test]
fn a_deployment_that_saved_another_graph_is_noticed() {
    let other = json!({"6": {"class_type": "SaveGLB"}, "1": {"class_type": "LoadImage", "inputs": {"image": ""}}});
    let found = findings(&[], &other);
    assert!(
        found.contains(
            &"the role `prompt` is bound to node 2, which the graph does not have".into()
        ),
        "{found:?}"
    );
}

#[test]
fn the_images_seed_bound_to_the_mesh_sampler_is_out_of_its_range() {
    let found = findings(&[("seed", "5.value")], &graph());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("feeds the PartPacker_Sampler 4 whose largest seed is 2147483647"),
        "{found:?}"
    );
}

#[test]
fn a_preview_as_an_output_is_an_error_and_a_useless_binding_a_warning() {
    let bindings = |more: &[(&str, &str)]| {
        let mut given = overrides(&[("image", "1.image"), ("prompt", "2.value"), ("mesh", "6")]);
        given.extend(overrides(more));
        bind(&workflow(&graph()), &given).expect("bound")
    };
    let preview = validate(&workflow(&graph()), &bindings(&[("flux", "7")]));
    assert!(matches!(preview[..], [Finding::Preview { role: Role::Flux, .. }]), "{preview:?}");
    assert_eq!(preview[0].severity(), Severity::Error);
    let mut changed = graph();
    changed["4"]["inputs"]["seed"] = json!(3);
    let useless = validate(&workflow(&changed), &bindings(&[("mesh_seed", "5")]));
    assert_eq!(useless, [Finding::NoEffect { role: Role::MeshSeed, node: "5".into() }]);
    assert_eq!(useless[0].severity(), Severity::Warning);
}
