//! Builds the request: the values that a job writes into the graph, as the bytes that are sent.
//!
//! Owns the body of a RunComfy submit and the merged graph for a ComfyUI server. It does not choose
//! the form of the picture ([`crate::picture`]), sends nothing, and knows the targets of the values
//! only through [`Bindings`].
//!
//! ```text
//! {"overrides":{"16":{"inputs":{"image":"data:image/png;base64,…"}},
//!               "41":{"inputs":{"value":"…"}},…}}
//! ```
//!
//! RunComfy merges `overrides` over the graph that the deployment has saved. The body is built
//! during the debounce window, so that only bytes are sent when it closes; the picture is by far
//! its largest part and is encoded directly into its position.

mod seeds;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};

pub use self::seeds::{BadSeed, IMAGE_SEED_LIMIT, MESH_SEED_LIMIT, SeedChoice, Seeds, seeds};
use super::workflow::{
    Workflow,
    bind::{Binding, Bindings},
    role::Role,
};
use crate::fingerprint::Fingerprint;

/// The values that a job puts into the graph, apart from the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkflowInputs<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// The seeds.
    pub seeds: Seeds,
    /// The sampling steps of the image; `None` keeps the graph's own.
    pub steps_flux: Option<u32>,
    /// The sampling steps of the mesh; `None` keeps the graph's own.
    pub steps_partpacker: Option<u32>,
}

/// The picture in the form in which it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture<'a> {
    /// The bytes of the file.
    pub bytes: &'a [u8],
    /// Its media type, such as `image/png`.
    pub mime: &'a str,
    /// The fingerprint of the render it was made from.
    pub fingerprint: Fingerprint,
}

/// A finished body.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// The JSON that is sent.
    pub bytes: Bytes,
    /// BLAKE3 of `bytes`.
    pub digest: Fingerprint,
    /// The overrides for people, ledger and history, with a description instead of the picture
    /// (`{"fingerprint", "bytes", "mime"}`).
    pub summary: Value,
}

/// The error for bindings that were made for another graph than the one they are used with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the bindings were made for another version of the workflow `{workflow}`; nothing was sent"
)]
pub struct ForeignBindings {
    /// The workflow's name.
    pub workflow: String,
}

/// How to build bodies: for one workflow and its bindings.
#[derive(Clone, Copy, Debug)]
pub struct BodyPlan<'a> {
    bindings: &'a Bindings,
}

impl<'a> BodyPlan<'a> {
    /// Creates the plan if the workflow and the bindings match.
    pub fn new(workflow: &Workflow, bindings: &'a Bindings) -> Result<Self, ForeignBindings> {
        check_version(workflow, bindings)?;
        Ok(Self { bindings })
    }

    /// Builds the body of a job.
    pub fn build(&self, values: &WorkflowInputs<'_>, picture: &Picture<'_>) -> Body {
        let changes = changes(self.bindings, values);
        let mut text = Text::default();
        write_overrides(&mut text, &changes);
        let bytes = Bytes::from(text.with(picture));
        let digest = Fingerprint::of(&bytes);
        Body { bytes, digest, summary: overrides_summary(&changes, picture) }
    }
}

/// Returns the graph with the values filled in, for a ComfyUI server; `image` is the value for its
/// LoadImage node: the name of an uploaded file.
pub fn merged(
    workflow: &Workflow,
    bindings: &Bindings,
    values: &WorkflowInputs<'_>,
    image: &str,
) -> Result<Map<String, Value>, ForeignBindings> {
    check_version(workflow, bindings)?;
    let mut graph = workflow.graph().clone();
    for Change { node, inputs } in changes(bindings, values) {
        let place = graph.get_mut(node).and_then(|node| node.get_mut("inputs"));
        let Some(place) = place.and_then(Value::as_object_mut) else { continue };
        for (input, content) in inputs {
            let value = match content {
                Content::Value(value) => value,
                Content::Picture => Value::from(image),
            };
            place.insert(input.to_owned(), value);
        }
    }
    Ok(graph)
}

fn check_version(workflow: &Workflow, bindings: &Bindings) -> Result<(), ForeignBindings> {
    if workflow.version() == bindings.version() {
        return Ok(());
    }
    Err(ForeignBindings { workflow: workflow.name().to_owned() })
}

/// The new value of one input.
enum Content {
    Value(Value),
    Picture,
}

/// The new values of one node: every bound input, in the order of the roles.
struct Change<'a> {
    node: &'a str,
    inputs: Vec<(&'a str, Content)>,
}

/// Groups the values by node. Roles keep their order, and all roles of a node are grouped at the
/// first one.
fn changes<'a>(bindings: &'a Bindings, values: &WorkflowInputs<'_>) -> Vec<Change<'a>> {
    let mut changes: Vec<Change<'a>> = Vec::new();
    for (role, place) in bindings.iter() {
        let Binding::Input { node, input } = place else { continue };
        let Some(content) = content(role, values) else { continue };
        match changes.iter_mut().find(|change| change.node == node) {
            Some(change) => change.inputs.push((input, content)),
            None => changes.push(Change { node, inputs: vec![(input, content)] }),
        }
    }
    changes
}

fn content(role: Role, values: &WorkflowInputs<'_>) -> Option<Content> {
    let value = match role {
        Role::Image => return Some(Content::Picture),
        Role::Prompt => values.prompt.into(),
        // Sent empty on purpose: the prompt goes to T5 alone, and the CLIP text of the saved graph
        // must not stay.
        Role::PromptClip => "".into(),
        Role::Seed => values.seeds.image.into(),
        Role::MeshSeed => values.seeds.mesh.into(),
        Role::StepsFlux => values.steps_flux?.into(),
        Role::StepsPartpacker => values.steps_partpacker?.into(),
        Role::Flux | Role::Mesh => return None,
    };
    Some(Content::Value(value))
}

/// Returns the values for people, as [`Body::summary`] shows them.
pub fn summary_of(
    bindings: &Bindings,
    values: &WorkflowInputs<'_>,
    picture: &Picture<'_>,
) -> Value {
    overrides_summary(&changes(bindings, values), picture)
}

fn overrides_summary(changes: &[Change<'_>], picture: &Picture<'_>) -> Value {
    let nodes = changes.iter().map(|Change { node, inputs }| {
        let inputs: Map<String, Value> = inputs
            .iter()
            .map(|(input, content)| {
                let value = match content {
                    Content::Value(value) => value.clone(),
                    Content::Picture => json!({
                        "fingerprint": picture.fingerprint,
                        "bytes": picture.bytes.len(),
                        "mime": picture.mime,
                    }),
                };
                ((*input).to_owned(), value)
            })
            .collect();
        ((*node).to_owned(), json!({ "inputs": inputs }))
    });
    Value::Object(nodes.collect())
}

fn write_overrides(text: &mut Text, changes: &[Change<'_>]) {
    text.raw("{\"overrides\":");
    text.object(changes, |text, Change { node, inputs }| {
        text.key(node);
        text.raw("{\"inputs\":");
        text.object(inputs, |text, (input, content)| {
            text.key(input);
            text.content(content);
        });
        text.raw("}");
    });
    text.raw("}");
}

/// JSON under construction: everything except the picture, and the position of the picture.
#[derive(Default)]
struct Text {
    json: String,
    picture_at: Option<usize>,
}

impl Text {
    fn raw(&mut self, json: &str) {
        self.json.push_str(json);
    }

    fn value(&mut self, value: &Value) {
        self.json.push_str(&value.to_string());
    }

    fn key(&mut self, key: &str) {
        self.value(&Value::from(key));
        self.raw(":");
    }

    fn content(&mut self, content: &Content) {
        match content {
            Content::Value(value) => self.value(value),
            Content::Picture => self.picture_at = Some(self.json.len()),
        }
    }

    fn object<T>(&mut self, members: impl IntoIterator<Item = T>, write: impl Fn(&mut Self, T)) {
        self.raw("{");
        for (count, member) in members.into_iter().enumerate() {
            if count > 0 {
                self.raw(",");
            }
            write(self, member);
        }
        self.raw("}");
    }

    /// Joins text and picture in one allocation of the exact size: the picture is a hundred times
    /// larger than the rest, so it is written only once, in its final position.
    fn with(self, picture: &Picture<'_>) -> Vec<u8> {
        let Some(at) = self.picture_at else { return self.json.into_bytes() };
        let (before, after) = self.json.as_bytes().split_at(at);
        // The media type could contain anything, so it is escaped as JSON text; its closing quote
        // follows the picture.
        let mut head = Value::from(format!("data:{};base64,", picture.mime)).to_string();
        head.pop();
        let encoded = picture.bytes.len().div_ceil(3) * 4;
        let mut body = Vec::with_capacity(self.json.len() + head.len() + encoded + 1);
        body.extend_from_slice(before);
        body.extend_from_slice(head.as_bytes());
        let start = body.len();
        body.resize(start + encoded, b'=');
        STANDARD
            .encode_slice(picture.bytes, &mut body[start..])
            .expect("there is room for four letters for every three bytes begun");
        body.push(b'"');
        body.extend_from_slice(after);
        body
    }
}

#[cfg(test)]
mod tests;
