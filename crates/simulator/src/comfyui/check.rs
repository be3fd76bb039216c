//! The installed classes with their inputs, and the validation of a prompt.
//!
//! Owns `object_info` and the validation that comes before the queue, with the messages of both
//! versions. It runs nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Quirks, Version};
use conjured_domain::request::workflow::{Workflow, built_in, graph::link};

/// Classes whose files are a run's outputs.
const OUTPUTS: [&str; 4] = ["SaveImage", "SaveGLB", "PreviewImage", "PreviewAny"];

/// The definition of one input of a class: a list of choices, or a type.
#[derive(Clone, Debug)]
enum Input {
    Choices(Vec<String>),
    Picture,
    Number,
    Text,
    Link,
}

/// Every installed class.
#[derive(Clone, Debug, Default)]
pub(super) struct Classes(BTreeMap<String, BTreeMap<String, Input>>);

/// The result of validating a prompt.
pub(super) enum PromptVerdict {
    /// Accepted: the outputs that are left, perhaps not all, and `node_errors`.
    Taken(Vec<String>, Value),
    /// Refused: the body of the 400.
    Refused(Value),
}

impl Classes {
    /// Installs the classes that the built-in workflows use.
    pub(super) fn built_in() -> Self {
        let mut classes = Self::default();
        for name in built_in::NAMES {
            if let Some(workflow) = Workflow::find_built_in(name) {
                classes.install(workflow.graph());
            }
        }
        classes
    }

    /// Installs the classes that a graph uses, with the models that it names.
    pub(super) fn install(&mut self, graph: &Map<String, Value>) {
        for node in graph.values() {
            let class = text(node, "class_type");
            let inputs = self.0.entry(class.to_owned()).or_default();
            for (name, value) in node["inputs"].as_object().into_iter().flatten() {
                let is_model = value.as_str().is_some_and(|text| {
                    let end = text.rsplit('.').next().unwrap_or_default();
                    matches!(end, "safetensors" | "pt" | "pth")
                });
                let input = match value {
                    Value::String(_) if class == "LoadImage" && name == "image" => Input::Picture,
                    Value::String(model) if is_model || name.ends_with("_name") => {
                        let mut known = match inputs.get(name) {
                            Some(Input::Choices(known)) => known.clone(),
                            _ => vec!["another-model.safetensors".to_owned()],
                        };
                        known.push(model.clone());
                        Input::Choices(known)
                    }
                    Value::Number(_) => Input::Number,
                    Value::Array(_) => Input::Link,
                    _ => Input::Text,
                };
                inputs.insert(name.clone(), input);
            }
        }
    }

    /// Describes a class; null where it is not installed.
    pub(super) fn describe(&self, class: &str, quirks: &Quirks, pictures: &[&String]) -> Value {
        let Some(inputs) = self.0.get(class).filter(|_| !quirks.lacks.contains(class)) else {
            return Value::Null;
        };
        let choice = |choices: Value, mut options: Value| match quirks.version {
            Version::V03 => json!([choices, options]),
            Version::V33 => {
                options["options"] = choices;
                json!(["COMBO", options])
            }
        };
        let required: Map<String, Value> = inputs
            .iter()
            .map(|(name, input)| {
                let told = match input {
                    Input::Choices(_) => choice(json!(installed_choices(input, quirks)), json!({})),
                    Input::Picture => choice(json!(pictures), json!({"image_upload": true})),
                    Input::Number => json!(["INT", {"min": 0, "max": u64::MAX}]),
                    Input::Text => json!(["STRING", {"multiline": true}]),
                    Input::Link => json!(["IMAGE,MASK", {}]),
                };
                (name.clone(), told)
            })
            .collect();
        json!({
            "input": {"required": required, "hidden": {"prompt": "PROMPT"}}, "name": class, "display_name": class,
            "output": [], "python_module": "nodes", "category": "", "output_node": OUTPUTS.contains(&class),
        })
    }

    /// Describes every installed class.
    pub(super) fn all(&self, quirks: &Quirks, pictures: &[&String]) -> Value {
        let told =
            self.0.keys().map(|class| (class.clone(), self.describe(class, quirks, pictures)));
        Value::Object(told.filter(|(_, told)| !told.is_null()).collect())
    }

    /// Validates a prompt as a server does before it queues one. `has_picture` returns whether
    /// LoadImage can find a file.
    pub(super) fn check(
        &self,
        graph: &Map<String, Value>,
        quirks: &Quirks,
        has_picture: impl Fn(&str) -> bool,
    ) -> PromptVerdict {
        for (id, node) in graph {
            let class = text(node, "class_type");
            if !self.0.contains_key(class) || quirks.lacks.contains(class) {
                return PromptVerdict::Refused(unknown_class(id, node, quirks.version));
            }
        }
        let outputs: Vec<&String> = graph
            .iter()
            .filter(|(_, node)| OUTPUTS.contains(&text(node, "class_type")))
            .map(|(id, _)| id)
            .collect();
        if outputs.is_empty() {
            return PromptVerdict::Refused(error("prompt_no_outputs", "Prompt has no outputs", ""));
        }
        let (mut good, mut errors) = (Vec::new(), Map::new());
        for output in outputs {
            let mut is_good = true;
            for id in path_to(graph, output) {
                let complaints = match graph.get(&id) {
                    Some(node) => self.complaints(graph, node, quirks, &has_picture),
                    None => Vec::new(),
                };
                if complaints.is_empty() {
                    continue;
                }
                is_good = false;
                let report = errors.entry(id.clone()).or_insert_with(|| {
                    json!({"errors": complaints, "dependent_outputs": [], "class_type": text(&graph[&id], "class_type")})
                });
                if let Some(list) = report["dependent_outputs"].as_array_mut() {
                    list.push(output.as_str().into());
                }
            }
            if is_good {
                good.push(output.clone());
            }
        }
        if good.is_empty() {
            let message = "Prompt outputs failed validation";
            let mut body = error("prompt_outputs_failed_validation", message, "");
            body["node_errors"] = Value::Object(errors);
            return PromptVerdict::Refused(body);
        }
        PromptVerdict::Taken(good, Value::Object(errors))
    }

    fn complaints(
        &self,
        graph: &Map<String, Value>,
        node: &Value,
        quirks: &Quirks,
        has_picture: impl Fn(&str) -> bool,
    ) -> Vec<Value> {
        let mut complaints = Vec::new();
        let complain = |kind: &str, message: &str, details: String| json!({"type": kind, "message": message, "details": details, "extra_info": {}});
        let known = self.0.get(text(node, "class_type"));
        for (name, value) in node["inputs"].as_object().into_iter().flatten() {
            let Some(input) = known.and_then(|inputs| inputs.get(name)) else { continue };
            if let Some(link) = link(value) {
                if !graph.contains_key(link.node) {
                    complaints.push(complain(
                        "exception_during_validation",
                        "Exception when validating node",
                        format!("'{}'", link.node),
                    ));
                }
                continue;
            }
            match (input, value) {
                (Input::Picture, Value::String(file)) if !has_picture(file) => {
                    complaints.push(complain(
                        "custom_validation_failed",
                        "Custom validation failed for node",
                        format!("{name} - Invalid image file: {file}"),
                    ));
                }
                (Input::Choices(_), Value::String(chosen))
                    if !installed_choices(input, quirks).contains(chosen) =>
                {
                    complaints.push(complain(
                        "value_not_in_list",
                        "Value not in list",
                        format!("{name}: '{chosen}' not in {:?}", installed_choices(input, quirks)),
                    ));
                }
                (Input::Number, Value::String(message)) if message.parse::<f64>().is_err() => {
                    let mut said = complain(
                        "invalid_input_type",
                        "Failed to convert an input value to a INT value",
                        name.clone(),
                    );
                    said["extra_info"]["exception_message"] =
                        format!("invalid literal for int() with base 10: '{message}'").into();
                    complaints.push(said);
                }
                (Input::Number, Value::Number(number))
                    if number.as_f64().is_some_and(|n| n < 0.0) =>
                {
                    complaints.push(complain(
                        "value_smaller_than_min",
                        &format!("Value {number} smaller than min of 0"),
                        name.clone(),
                    ));
                }
                _ => {}
            }
        }
        complaints
    }
}

fn installed_choices(input: &Input, quirks: &Quirks) -> Vec<String> {
    let Input::Choices(choices) = input else { return Vec::new() };
    choices.iter().filter(|choice| !quirks.lacks.contains(*choice)).cloned().collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Builds the body of a refusal.
pub(super) fn error(kind: &str, message: &str, details: &str) -> Value {
    json!({"error": {"type": kind, "message": message, "details": details, "extra_info": {}}, "node_errors": {}})
}

fn unknown_class(id: &str, node: &Value, version: Version) -> Value {
    let class = text(node, "class_type");
    let title = node["_meta"]["title"].as_str().unwrap_or(class);
    let details = format!("Node ID '#{id}'");
    match version {
        Version::V03 => error(
            "invalid_prompt",
            &format!("Cannot execute because node {class} does not exist."),
            &details,
        ),
        Version::V33 => {
            let message =
                format!("Node '{title}' not found. The custom node may not be installed.");
            let mut body = error("missing_node_type", &message, &details);
            body["error"]["extra_info"] =
                json!({"node_id": id, "class_type": class, "node_title": title});
            body
        }
    }
}

/// Returns the nodes that feed `output`, each after the nodes that feed it, with `output`
/// itself last.
pub(super) fn path_to(graph: &Map<String, Value>, output: &str) -> Vec<String> {
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    let mut waiting = vec![(output.to_owned(), false)];
    while let Some((id, is_fed)) = waiting.pop() {
        if is_fed {
            order.push(id);
            continue;
        }
        if !seen.insert(id.clone()) {
            continue;
        }
        waiting.push((id.clone(), true));
        let inputs = graph.get(&id).and_then(|node| node["inputs"].as_object());
        let links = inputs.into_iter().flatten().filter_map(|(_, value)| link(value));
        waiting.extend(links.map(|link| (link.node.to_owned(), false)));
    }
    order
}
