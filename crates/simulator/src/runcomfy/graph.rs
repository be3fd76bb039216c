//! The deployment's saved graph, and what a submit may change in it.
//!
//! Owns the check of overrides against the graph (422001), the merge, the check of the merged
//! values as in ComfyUI (10008), and reading from it what the products depend on. Pictures are
//! decoded in [`super::intake`]. Nodes are found by class, not by id, so that a graph sent along
//! (`workflow_api_json`) works like the saved one.

use serde_json::{Map, Value, json};

/// CONJURE's graph: the one saved in the simulated deployment.
const SAVED: &str = include_str!("../../../../workflows/conjure_flux_mesh.json");

/// A graph in ComfyUI's API format: node id → `{class_type, inputs}`.
#[derive(Clone, Debug)]
pub(crate) struct Graph(Map<String, Value>);

/// An override that does not fit the graph: where, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OverrideError {
    /// The path to it, starting at `overrides`.
    pub(crate) location: Vec<String>,
    /// What is wrong with it.
    pub(crate) message: &'static str,
}

/// A file that a graph's output node writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputNode {
    pub(crate) node: String,
    /// The folder below `output`; may be empty.
    pub(crate) subfolder: String,
    /// The file name before the counter.
    pub(crate) stem: String,
}

impl Graph {
    pub(crate) fn saved() -> Self {
        Self(serde_json::from_str(SAVED).unwrap_or_default())
    }

    /// Reads a graph from a submit.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let nodes = value.as_object()?;
        let fits = |node: &Value| node["class_type"].is_string() && node["inputs"].is_object();
        (!nodes.is_empty() && nodes.values().all(fits)).then(|| Self(nodes.clone()))
    }

    /// Returns the graph as JSON, as a deployment's payload shows it.
    pub(crate) fn to_json(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// Returns a node catalogue of the graph's own classes, in the form of ComfyUI's `object_info`.
    pub(crate) fn object_info(&self) -> Value {
        let mut classes = Map::new();
        for node in self.0.values() {
            let inputs = node["inputs"].as_object().into_iter().flatten();
            let required = inputs.map(|(key, value)| {
                let kind = match value {
                    Value::Number(number) if number.is_f64() => "FLOAT",
                    Value::Number(_) => "INT",
                    Value::Bool(_) => "BOOLEAN",
                    _ => "STRING",
                };
                (key.clone(), json!([kind, {}]))
            });
            let class = node["class_type"].as_str().unwrap_or_default();
            let required: Map<_, _> = required.collect();
            classes
                .insert(class.to_owned(), json!({"input": {"required": required}, "name": class}));
        }
        Value::Object(classes)
    }

    /// Merges `overrides` into the graph. Returns those that name no node or key of it; they are
    /// left out.
    pub(crate) fn merge(&mut self, overrides: &Value) -> Vec<OverrideError> {
        let mut misfits = Vec::new();
        let mut misfit = |place: &[&str], message| {
            let place = place.iter().map(|&step| step.to_owned()).collect();
            misfits.push(OverrideError { location: place, message });
        };
        let Some(nodes) = overrides.as_object() else {
            misfit(&[], "Input should be a valid dictionary");
            return misfits;
        };
        for (id, change) in nodes {
            let Some(node) = self.0.get_mut(id) else {
                misfit(&[id], "Node not found in workflow");
                continue;
            };
            let Some(inputs) = change.get("inputs").and_then(Value::as_object) else {
                misfit(&[id, "inputs"], "Field required");
                continue;
            };
            for (key, value) in inputs {
                match node.get_mut("inputs").and_then(|saved| saved.get_mut(key)) {
                    Some(saved) => *saved = value.clone(),
                    None => misfit(&[id, "inputs", key], "Input not found in node"),
                }
            }
        }
        misfits
    }

    /// Checks the values as ComfyUI does when it accepts a prompt; returns its error message.
    pub(crate) fn complaint(&self) -> Option<String> {
        for (id, node) in &self.0 {
            let class = node["class_type"].as_str().unwrap_or_default();
            for (key, value) in node["inputs"].as_object().into_iter().flatten() {
                if let Some(fault) = self.fault_of(class, key, value) {
                    return Some(format!("node {id} ({class}), input {key}: {fault}"));
                }
            }
        }
        None
    }

    fn fault_of(&self, class: &str, key: &str, value: &Value) -> Option<&'static str> {
        if let Some(link) = value.as_array() {
            let source = link.first().and_then(Value::as_str);
            let known = link.len() == 2 && source.is_some_and(|id| self.0.contains_key(id));
            return (!known).then_some("bad_linked_input");
        }
        if value.is_object() {
            return Some("invalid_input_type");
        }
        let (low, high) = match (class, key) {
            ("PrimitiveInt", "value") => (i128::from(i64::MIN), i128::from(i64::MAX)),
            ("XlabsSampler", "noise_seed") | ("KSampler", "seed") => (0, i128::from(u64::MAX)),
            ("PartPacker_Sampler", "seed") => (0, i128::from(i32::MAX)),
            ("XlabsSampler" | "KSampler" | "PartPacker_Sampler", "steps") => (1, 10_000),
            ("PrimitiveStringMultiline", "value") | ("LoadImage", "image") => {
                return value.is_null().then_some("invalid_input_type");
            }
            _ => return None,
        };
        match integer(value) {
            None => Some("invalid_input_type"),
            Some(value) if value < low => Some("value_smaller_than_min"),
            Some(value) if value > high => Some("value_bigger_than_max"),
            Some(_) => None,
        }
    }

    /// Returns the value of an input, followed through primitive nodes.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let mut value = value;
        // Primitives may be chained; a chain longer than this is a cycle.
        for _ in 0..8 {
            let Some(id) = value.as_array().and_then(|link| link.first()?.as_str()) else { break };
            value = &self.0.get(id).unwrap_or(&Value::Null)["inputs"]["value"];
        }
        value
    }

    fn of_class<'a>(&'a self, class: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let nodes = self.0.iter().filter(move |(_, node)| node["class_type"] == *class);
        nodes.map(|(id, node)| (id.as_str(), &node["inputs"]))
    }

    /// Returns the name of the first picture that is loaded.
    pub(crate) fn picture(&self) -> Option<&str> {
        self.of_class("LoadImage").find_map(|(_, inputs)| inputs["image"].as_str())
    }

    /// Returns the prompt: the longest text that reaches an encoder.
    pub(crate) fn prompt(&self) -> String {
        let encoders = self.of_class("CLIPTextEncodeFlux").chain(self.of_class("CLIPTextEncode"));
        encoders
            .flat_map(|(_, inputs)| {
                ["t5xxl", "clip_l", "text"].map(|key| self.resolve(&inputs[key]))
            })
            .filter_map(Value::as_str)
            .max_by_key(|text| text.len())
            .unwrap_or_default()
            .to_owned()
    }

    pub(crate) fn seed(&self) -> Option<i128> {
        let flux = self.of_class("XlabsSampler").map(|(_, inputs)| &inputs["noise_seed"]);
        let others = self.of_class("KSampler").map(|(_, inputs)| &inputs["seed"]);
        flux.chain(others).find_map(|value| integer(self.resolve(value)))
    }

    pub(crate) fn mesh_seed(&self) -> Option<i128> {
        let seeds = self.of_class("PartPacker_Sampler").map(|(_, inputs)| &inputs["seed"]);
        seeds.into_iter().find_map(|value| integer(self.resolve(value)))
    }

    /// Returns the nodes that save pictures.
    pub(crate) fn image_nodes(&self) -> Vec<OutputNode> {
        self.of_class("SaveImage").map(|(id, inputs)| output(id, inputs)).collect()
    }

    /// Returns the nodes that save meshes.
    pub(crate) fn mesh_nodes(&self) -> Vec<OutputNode> {
        self.of_class("SaveGLB").map(|(id, inputs)| output(id, inputs)).collect()
    }
}

impl OverrideError {
    /// Returns the entry for `detail[]`.
    pub(crate) fn to_json(&self) -> Value {
        let mut place = vec!["body".to_owned(), "overrides".to_owned()];
        place.extend(self.location.iter().cloned());
        json!({"type": "value_error", "loc": place, "msg": self.message})
    }
}

fn output(node: &str, inputs: &Value) -> OutputNode {
    let prefix = inputs["filename_prefix"].as_str().unwrap_or("ComfyUI");
    // The name becomes part of a URL: any character that is not plain becomes an underscore.
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_/".contains(c) { c } else { '_' };
    let prefix: String = prefix.chars().take(100).map(plain).collect();
    let (subfolder, stem) = prefix.rsplit_once('/').unwrap_or(("", &prefix));
    OutputNode {
        node: node.to_owned(),
        subfolder: subfolder.trim_matches('/').to_owned(),
        stem: if stem.is_empty() { "ComfyUI" } else { stem }.to_owned(),
    }
}

/// Reads an integer as Python's `int()` would: numbers, digits in a string, booleans.
fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Bool(truth) => Some(i128::from(*truth)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => {
            let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a float saturates, which is out of range"
            )]
            whole.or_else(|| number.as_f64().map(|float| float as i128))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn merged(overrides: &Value) -> (Graph, Vec<OverrideError>) {
        let mut graph = Graph::saved();
        let misfits = graph.merge(overrides);
        (graph, misfits)
    }

    #[test]
    fn the_saved_graph_makes_one_picture_and_one_mesh() {
        let graph = Graph::saved();
        assert_eq!(graph.complaint(), None);
        let images = graph.image_nodes();
        assert_eq!(images.iter().map(|one| &*one.node).collect::<Vec<_>>(), ["24"]);
        let meshes = graph.mesh_nodes();
        assert_eq!(meshes.iter().map(|one| &*one.node).collect::<Vec<_>>(), ["33"]);
        assert_eq!(meshes[0].subfolder, "mesh");
    }

    #[test]
    fn overrides_reach_the_nodes_behind_the_primitives() {
        let (graph, misfits) = merged(&json!({
            "16": {"inputs": {"image": "data:image/png;base64,AAAA"}},
            "40": {"inputs": {"value": ""}},
            "41": {"inputs": {"value": "a carrot — orange"}},
            "42": {"inputs": {"value": 9_007_199_254_740_993_u64}},
            "32": {"inputs": {"seed": 7}},
        }));
        assert_eq!(misfits, []);
        assert_eq!(graph.complaint(), None);
        assert_eq!(graph.prompt(), "a carrot — orange");
        assert_eq!(graph.seed(), Some(9_007_199_254_740_993));
        assert_eq!(graph.mesh_seed(), Some(7));
        assert_eq!(graph.picture(), Some("data:image/png;base64,AAAA"));
    }

    #[test]
    fn unknown_nodes_and_keys_are_named() {
        let (_, misfits) = merged(&json!({
            "9999": {"inputs": {"value": 1}},
            "41": {"inputs": {"text": "the key is value"}},
            "42": {"value": 1},
        }));
        let places: Vec<_> = misfits.iter().map(|misfit| misfit.location.join(".")).collect();
        assert_eq!(places, ["9999", "41.inputs.text", "42.inputs"]);
    }

    #[test]
    fn wrong_types_and_ranges_are_refused_as_comfyui_does() {
        let complaint = |overrides| merged(&overrides).0.complaint();
        for bad in [
            json!({"42": {"inputs": {"value": "many"}}}),
            json!({"42": {"inputs": {"value": u64::MAX}}}),
            json!({"32": {"inputs": {"seed": 2_147_483_648_u64}}}),
            json!({"32": {"inputs": {"seed": -1}}}),
            json!({"41": {"inputs": {"value": {"a": 1}}}}),
            json!({"41": {"inputs": {"value": null}}}),
            json!({"34": {"inputs": {"t5xxl": ["404", 0]}}}),
        ] {
            assert!(complaint(bad.clone()).is_some(), "{bad}");
        }
        assert_eq!(
            complaint(json!({"42": {"inputs": {"value": "20"}}})),
            None,
            "int() reads texts"
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z0-9:]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let key = prop_oneof![
                Just("inputs".to_owned()),
                Just("class_type".to_owned()),
                Just("41".to_owned()),
                Just("value".to_owned()),
                "[a-z0-9]{0,3}",
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..5)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_overrides_and_no_graph_make_it_panic(json in any_json()) {
            let (graph, _) = merged(&json);
            let _ = (graph.complaint(), graph.prompt(), graph.seed(), graph.image_nodes());
            if let Some(graph) = Graph::from_json(&json) {
                let _ = (graph.complaint(), graph.prompt(), graph.mesh_seed(), graph.mesh_nodes());
            }
        }
    }
}
