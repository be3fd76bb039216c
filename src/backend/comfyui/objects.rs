//! Checks what is installed: the classes that a graph uses, and the models and choices that
//! it names.
//!
//! Owns the calls of `GET /object_info/CLASS` before the first run, and the messages that name what
//! is missing. A class that was found is remembered for the life of the adapter. A missing class is
//! asked for again each time, because people install things. Only a clear "no" counts: if an answer
//! cannot be read, the server decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use futures_util::{StreamExt, stream};
use serde_json::{Map, Value};

use super::{
    faults,
    wire::{MAX_LARGE_ANSWER, Wire},
};
use crate::{
    backend::{CallError, ServiceFault, http::answer::Answer},
    domain::request::workflow::graph::link,
};

/// How many classes are asked for at once: a rented machine is some hundred milliseconds away.
const MAX_PARALLEL: usize = 6;

/// How many of an input's choices are shown.
const SHOWN_CHOICES: usize = 6;

const INSTALL_ADVICE: &str = "Install what is missing in ComfyUI and restart it (its Manager finds nodes by their class), or choose another workflow with `local.comfyui_workflow`. Nothing ran.";

/// The packages that provide the nodes of the built-in workflows.
const NODE_PACKS: [(&str, &str); 9] = [
    ("DepthAnythingV2Preprocessor", "comfyui_controlnet_aux"),
    ("DepthAnythingPreprocessor", "comfyui_controlnet_aux"),
    ("ImageResizeKJv2", "ComfyUI-KJNodes"),
    ("PartPacker_Loader", "ComfyUI_PartPacker"),
    ("PartPacker_Sampler", "ComfyUI_PartPacker"),
    ("LoadFluxControlNet", "x-flux-comfyui"),
    ("ApplyFluxControlNet", "x-flux-comfyui"),
    ("XlabsSampler", "x-flux-comfyui"),
    ("ImageRemoveBackground+", "ComfyUI_essentials"),
];

/// The choices of each input of a class that has them.
type Choices = BTreeMap<String, Vec<Value>>;

/// The classes that were found.
#[derive(Default)]
pub(super) struct InstalledClasses(Mutex<BTreeMap<String, Choices>>);

/// What the graph needs and the server does not have.
struct MissingClasses {
    classes: BTreeMap<String, Vec<String>>,
    choices: Vec<String>,
}

impl InstalledClasses {
    /// Asks for the classes of `graph` that are not known yet. `image` is the input for the
    /// uploaded picture; its choices are the files that already exist, so it is not checked.
    pub(super) async fn check(
        &self,
        graph: &Map<String, Value>,
        image: &(String, String),
        wire: &Wire,
    ) -> Result<Option<ServiceFault>, CallError> {
        let used: BTreeSet<&str> = graph.values().filter_map(class_of).collect();
        let unknown: Vec<&str> = used.into_iter().filter(|class| !self.is_known(class)).collect();
        let mut missing = self.fetch(&unknown, wire).await?;
        let odd = self.invalid_choices(graph, image);
        if !odd.is_empty() {
            // A model may have been added since, so the remembered classes are asked for again
            // before anything is reported as missing.
            let stale: BTreeSet<&str> =
                odd.iter().filter_map(|(id, ..)| class_of(&graph[*id])).collect();
            missing.extend(self.fetch(&stale.into_iter().collect::<Vec<_>>(), wire).await?);
        }
        let report = MissingClasses {
            classes: nodes_by_class(graph, &missing),
            choices: self
                .invalid_choices(graph, image)
                .into_iter()
                .map(|odd| messages_of(odd, graph, wire))
                .collect(),
        };
        Ok(report.fault(wire))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Choices>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_known(&self, class: &str) -> bool {
        self.lock().contains_key(class)
    }

    /// Asks for classes. Returns those that the server does not have.
    async fn fetch(&self, classes: &[&str], wire: &Wire) -> Result<BTreeSet<String>, CallError> {
        let questions: Vec<_> =
            classes.iter().map(|class| fetch_class((*class).to_owned(), wire)).collect();
        let answers: Vec<_> =
            stream::iter(questions).buffer_unordered(MAX_PARALLEL).collect().await;
        let mut missing = BTreeSet::new();
        for (class, answer) in answers {
            // A class that does not exist is a 200 with an empty object.
            let Ok(Value::Object(said)) = wire.json(&answer?) else { continue };
            match said.get(&class) {
                Some(info) => {
                    self.lock().insert(class, choices_of(info));
                }
                None => {
                    missing.insert(class);
                }
            }
        }
        Ok(missing)
    }

    /// Returns the values that are not among the choices of their input: node, input,
    /// value, choices.
    fn invalid_choices<'a>(
        &self,
        graph: &'a Map<String, Value>,
        image: &(String, String),
    ) -> Vec<(&'a str, &'a str, &'a Value, Vec<Value>)> {
        let known = self.lock();
        let mut odd = Vec::new();
        for (id, node) in graph {
            let Some(choices) = class_of(node).and_then(|class| known.get(class)) else { continue };
            for (input, value) in
                node.get("inputs").and_then(Value::as_object).into_iter().flatten()
            {
                let Some(offered) = choices.get(input) else { continue };
                let is_picture = *id == image.0 && *input == image.1;
                let is_plain =
                    matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_));
                if is_picture || !is_plain || link(value).is_some() {
                    continue;
                }
                if !offered.iter().any(|choice| choice_matches(choice, value)) {
                    odd.push((id.as_str(), input.as_str(), value, offered.clone()));
                }
            }
        }
        odd
    }
}

impl MissingClasses {
    fn fault(&self, wire: &Wire) -> Option<ServiceFault> {
        if self.classes.is_empty() && self.choices.is_empty() {
            return None;
        }
        let mut all = Vec::new();
        if !self.classes.is_empty() {
            let named = self.classes.iter().map(|(class, nodes)| {
                let pack = NODE_PACKS.iter().find(|(known, _)| known == class);
                let pack = pack.map_or_else(String::new, |(_, pack)| format!(", from {pack}"));
                format!("{} (node {}{pack})", wire.line(class), nodes.join(", "))
            });
            let named: Vec<String> = named.collect();
            all.push(format!("ComfyUI lacks these node classes: {}", named.join(", ")));
        }
        all.extend(self.choices.iter().cloned());
        let advice = if self.choices.is_empty() || !self.classes.is_empty() {
            INSTALL_ADVICE
        } else {
            CHECK_OR_INSTALL
        };
        Some(faults::workflow(200, faults::listed(&all), advice))
    }
}

const CHECK_OR_INSTALL: &str = "Put the missing model files where ComfyUI looks for them, or name installed ones in the workflow. Nothing ran.";

async fn fetch_class(class: String, wire: &Wire) -> (String, Result<Answer, CallError>) {
    let answer = wire.get(wire.url(&["object_info", &class]), MAX_LARGE_ANSWER).await;
    (class, answer)
}

fn class_of(node: &Value) -> Option<&str> {
    node.get("class_type").and_then(Value::as_str)
}

fn nodes_by_class(
    graph: &Map<String, Value>,
    classes: &BTreeSet<String>,
) -> BTreeMap<String, Vec<String>> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (id, node) in graph {
        if let Some(class) = class_of(node).filter(|class| classes.contains(*class)) {
            users.entry(class.to_owned()).or_default().push(id.clone());
        }
    }
    users
}

fn messages_of(
    (id, input, value, offered): (&str, &str, &Value, Vec<Value>),
    graph: &Map<String, Value>,
    wire: &Wire,
) -> String {
    let text =
        |value: &Value| wire.line(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let mut choices: Vec<String> = offered.iter().take(SHOWN_CHOICES).map(text).collect();
    if offered.len() > SHOWN_CHOICES {
        choices.push(format!("and {} more", offered.len() - SHOWN_CHOICES));
    }
    let has = if choices.is_empty() { "none".to_owned() } else { choices.join(", ") };
    // The graph is only used to name the node.
    let node = faults::node(id, &Value::Object(graph.clone()), wire);
    format!("{node} needs {} for {}; available: {has}", text(value), wire.line(input))
}

/// Reads the inputs of a class that offer choices: `[[choice, …], {…}]`, or
/// `["COMBO", {"options": […]}]` since 0.33. An input for uploads is left out, because its choices
/// are files.
fn choices_of(info: &Value) -> Choices {
    let mut found = Choices::new();
    for group in ["required", "optional"] {
        let inputs = info.pointer(&format!("/input/{group}")).and_then(Value::as_object);
        for (name, definition) in inputs.into_iter().flatten() {
            let options = definition.get(1);
            let takes_uploads = options.and_then(Value::as_object).is_some_and(|options| {
                options
                    .iter()
                    .any(|(key, value)| key.contains("upload") && *value == Value::Bool(true))
            });
            let offered = match definition.get(0) {
                Some(Value::Array(choices)) => Some(choices),
                Some(Value::String(word)) if word == "COMBO" => {
                    options.and_then(|options| options.get("options")).and_then(Value::as_array)
                }
                _ => None,
            };
            let plain = |choice: &Value| {
                matches!(choice, Value::String(_) | Value::Number(_) | Value::Bool(_))
            };
            if let Some(offered) = offered.filter(|list| !takes_uploads && list.iter().all(plain)) {
                found.insert(name.clone(), offered.clone());
            }
        }
    }
    found
}

/// Returns whether the server would accept `value` for `choice`; 1 and 1.0 are equal in Python.
fn choice_matches(choice: &Value, value: &Value) -> bool {
    choice == value || choice.as_f64().is_some_and(|number| Some(number) == value.as_f64())
}
