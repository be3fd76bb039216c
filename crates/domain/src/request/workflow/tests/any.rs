//! Properties that must hold for any file, any JSON and any graph.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    super::{
        Workflow,
        bind::{BindFault, bind},
        inspect::inspect,
        role::Role,
        validate::{Finding, validate},
    },
    overrides, workflow,
};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_:.0-9\"\\\\\\n]{0,12}".prop_map(Value::from),
        Just(json!(["1", 0])),
    ];
    leaf.prop_recursive(4, 60, 8, |inner| {
        let key = prop_oneof![
            "[0-9:]{1,3}",
            Just("class_type".to_owned()),
            Just("inputs".to_owned()),
            Just("prompt".to_owned()),
            Just("_meta".to_owned()),
            Just("title".to_owned()),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Graphs with the classes and inputs that the search knows, linked at random; most have a picture,
/// a text and a mesh that can be bound.
fn any_graph() -> impl Strategy<Value = Value> {
    const CLASSES: &[&str] = &[
        "LoadImage",
        "CLIPTextEncode",
        "CLIPTextEncodeFlux",
        "PrimitiveInt",
        "PrimitiveStringMultiline",
        "KSampler",
        "XlabsSampler",
        "PartPacker_Sampler",
        "SaveImage",
        "PreviewImage",
        "SaveGLB",
        "Reroute",
    ];
    const NAMES: &[&str] = &[
        "image",
        "images",
        "mesh",
        "text",
        "t5xxl",
        "clip_l",
        "value",
        "seed",
        "noise_seed",
        "steps",
        "positive",
        "negative",
        "conditioning",
        "latent_image",
        "model",
        "guider",
    ];
    let value = prop_oneof![
        (0..10_u8, 0..2_u8).prop_map(|(node, output)| json!([node.to_string(), output])),
        any::<u64>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
    ];
    let inputs =
        prop::collection::vec((prop::sample::select(NAMES), value), 0..6).prop_map(|inputs| {
            Value::Object(
                inputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            )
        });
    let node = (prop::sample::select(CLASSES), inputs, "[A-Z.]{0,3}").prop_map(
        |(class, inputs, title)| json!({"class_type": class, "inputs": inputs, "_meta": {"title": title}}),
    );
    let some = [("LoadImage", "image"), ("CLIPTextEncode", "text"), ("SaveGLB", "filename_prefix")];
    prop::collection::vec(node, 1..10).prop_map(move |mut nodes| {
        for (node, (class, input)) in nodes.iter_mut().zip(some) {
            node["class_type"] = class.into();
            node["inputs"][input] = "".into();
        }
        Value::Object(
            nodes.into_iter().enumerate().map(|(id, node)| (id.to_string(), node)).collect(),
        )
    })
}

proptest! {
    #[test]
    fn any_bytes_are_a_workflow_or_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Workflow::parse("test", &bytes);
    }

    #[test]
    fn any_json_is_read_searched_and_bound_without_a_panic(json in any_json(), text in ".{0,20}") {
        if let Ok(workflow) = Workflow::parse("test", json.to_string().as_bytes()) {
            let _ = inspect(&workflow).snippet();
            for role in Role::ALL {
                let _ = bind(&workflow, &overrides(&[(role.name(), &text)]));
            }
        }
    }

    #[test]
    fn the_snippet_of_an_inspection_can_be_pasted_as_it_is(graph in any_graph()) {
        let workflow = workflow(&graph);
        let inspection = inspect(&workflow);
        let toml: toml::Table = toml::from_str(&inspection.snippet()).expect("TOML");
        let pasted: BTreeMap<String, String> = toml["generation"]["bind"]
            .as_table()
            .expect("a section")
            .iter()
            .map(|(role, text)| (role.clone(), text.as_str().expect("a text").to_owned()))
            .collect();
        match bind(&workflow, &pasted) {
            Ok(bindings) => {
                for (role, place) in bindings.iter() {
                    prop_assert_eq!(inspection.best(role).map(|best| &best.target), Some(place));
                }
                let gone = validate(&workflow, &bindings).into_iter().find(|finding| matches!(
                    finding,
                    Finding::MissingNode { .. } | Finding::MissingInput { .. } | Finding::Linked { .. }
                        | Finding::KindMismatch { .. } | Finding::Preview { .. }
                ));
                prop_assert_eq!(gone, None);
            }
            Err(fault) => prop_assert!(matches!(fault, BindFault::Missing { .. }), "{}", fault),
        }
    }

    #[test]
    fn the_version_does_not_depend_on_the_order_of_nodes(graph in any_graph()) {
        let turned: Map<String, Value> =
            graph.as_object().into_iter().flatten().rev().map(|(id, node)| (id.clone(), node.clone())).collect();
        prop_assert_eq!(workflow(&graph).version(), workflow(&Value::Object(turned)).version());
    }
}
