//! The functions of the Spaces, and how a server describes them in `/config` and `/info`.
//!
//! Owns names, order, defaults and bounds, from the Spaces' published API pages. What a function
//! does is [`super::state`]'s.

use serde_json::{Value, json};

use super::{State, Version};

/// A function of the Spaces: its name, the name of the file that it makes, and its parameters.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) file: &'static str,
    pub(super) parameters: &'static [Parameter],
}

/// A parameter: its name, its default, the maximum of its slider.
type Parameter = (&'static str, Option<i64>, Option<f64>);

/// The functions, from the Spaces' published API pages.
pub(super) static FUNCTIONS: [Function; 3] = [
    Function {
        name: "infer",
        file: "image.webp",
        parameters: &[
            ("control_image", None, None),
            ("prompt", None, None),
            ("seed", Some(0), Some(2_147_483_647.0)),
            ("randomize_seed", Some(1), None),
            ("width", Some(1024), Some(2048.0)),
            ("height", Some(1024), Some(2048.0)),
            ("guidance_scale", Some(10), Some(30.0)),
            ("num_inference_steps", Some(28), Some(50.0)),
        ],
    },
    Function { name: "process_image", file: "seg.webp", parameters: &[("image_path", None, None)] },
    Function {
        name: MESH,
        file: "a mesh \u{fc}%.glb",
        parameters: &[
            ("input_image", None, None),
            ("num_steps", Some(50), Some(100.0)),
            ("cfg_scale", Some(7), None),
            ("grid_res", Some(384), None),
            ("seed", Some(0), Some(2_147_483_647.0)),
            ("simplify_mesh", Some(0), None),
            ("target_num_faces", Some(100_000), None),
        ],
    },
];

/// The function with hidden state as its second input, which `/info` leaves out.
pub(super) const MESH: &str = "process_3d";

/// Returns `/config`: the numbers of the functions, and the bounds of their inputs.
pub(super) fn config(state: &State, version: Version) -> Value {
    let mut components = vec![json!({"id": 900, "type": "state", "props": {}})];
    // The list starts with a function that cannot be called by name.
    let mut dependencies = vec![json!({"id": 0, "api_name": false, "inputs": []})];
    for (id, Function { name, parameters, .. }) in (1..).zip(&FUNCTIONS) {
        let mut inputs = Vec::new();
        for (input, (_, _, maximum)) in (100 * id..).zip(*parameters) {
            let props = json!({"minimum": maximum.map(|_| 0), "maximum": maximum});
            components.push(json!({"id": input, "type": "x", "props": props}));
            inputs.push(json!(input));
        }
        if *name == MESH {
            inputs.insert(1, json!(900));
        }
        dependencies.push(json!({"id": id, "api_name": name, "inputs": inputs}));
    }
    let mut config = json!({
        "protocol": state.protocol, "max_file_size": state.max_file_size,
        // Wrong on purpose: only the prefix may be read from here.
        "root": "http://foreign.invalid/root",
        "components": components, "dependencies": dependencies,
    });
    if version > Version::V4_44 {
        config["api_prefix"] = json!(version.prefix());
    }
    config
}

/// Returns `/info`: the parameters by name, in their order.
pub(super) fn info() -> Value {
    let endpoints = FUNCTIONS.iter().map(|function| {
        let parameters = function.parameters.iter().map(|(name, default, _)| {
            json!({"parameter_name": name, "label": "x", "parameter_has_default": default.is_some(),
                "parameter_default": default})
        });
        let parameters: Vec<Value> = parameters.collect();
        (format!("/{}", function.name), json!({"parameters": parameters, "returns": []}))
    });
    json!({"named_endpoints": endpoints.collect::<serde_json::Map<_, _>>(), "unnamed_endpoints": {}})
}
