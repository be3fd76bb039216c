//! Resolves a configured binding (`41.value`, `title:FLUXT5XXL`) to a location in the graph, or
//! reports what is wrong.
//!
//! Owns the lookup of one node and one input; [`super::bind`] decides which roles must exist.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    Workflow,
    bind::{BindMismatch, Binding},
    graph::{Node, link},
    naming::{display_name, listed, nearest},
    role::Role,
};

/// The longest possible binding text; longer ones are not searched for.
const MAX_TEXT_BYTES: usize = 300;

/// Returns the location that `text` names, for `role`.
pub(super) fn resolve(
    workflow: &Workflow,
    role: Role,
    text: &str,
) -> Result<Binding, BindMismatch> {
    let text = text.trim();
    let unknown =
        || BindMismatch::UnknownNode { node: display_name(text), hint: hint(workflow, text) };
    if text.len() > MAX_TEXT_BYTES {
        return Err(unknown());
    }
    if role.is_output() {
        let node = find(workflow, text)?.ok_or_else(unknown)?;
        return Ok(Binding::Output { node: node.id.to_owned() });
    }
    // Titles and the inputs of newer node packs may contain dots, so any dot may be the one before
    // the input.
    let dots = text.rmatch_indices('.').map(|(at, _)| (&text[..at], Some(&text[at + 1..])));
    for (name, input) in std::iter::once((text, None)).chain(dots) {
        let Some(node) = find(workflow, name)? else { continue };
        let input = match input {
            Some(input) => checked_input(workflow, role, node, input)?,
            None => usual_input(workflow, role, node)?,
        };
        return Ok(Binding::Input { node: node.id.to_owned(), input: input.to_owned() });
    }
    let before_input = text.rsplit_once('.').map_or(text, |(node, _)| node);
    Err(BindMismatch::UnknownNode {
        node: display_name(before_input),
        hint: hint(workflow, before_input),
    })
}

/// Returns the node with an id or a `title:…`; an error if several nodes have that title.
fn find<'a>(workflow: &'a Workflow, name: &str) -> Result<Option<Node<'a>>, BindMismatch> {
    let Some(title) = name.strip_prefix("title:").map(str::trim) else {
        return Ok(workflow.node(name.trim()));
    };
    let mut titled = workflow.nodes().filter(|node| node.title == title);
    let first = titled.next();
    let others: Vec<&str> = titled.map(|node| node.id).collect();
    match first {
        Some(first) if !others.is_empty() => Err(BindMismatch::AmbiguousTitle {
            title: display_name(title),
            ids: listed(std::iter::once(first.id).chain(others)),
        }),
        found => Ok(found),
    }
}

/// Returns a hint what was probably meant by a node that does not exist.
fn hint(workflow: &Workflow, text: &str) -> String {
    let word = text.strip_prefix("title:").unwrap_or(text).trim();
    let ids = || workflow.nodes().map(|node| node.id);
    if let Some(node) = workflow.nodes().find(|node| node.title == word) {
        return format!("node {} has that title: write `title:{}`", node.id, display_name(word));
    }
    let titles: HashSet<&str> = workflow.nodes().map(|node| node.title).collect();
    let near = nearest(word, titles);
    if near.is_empty() {
        return format!("its nodes are {}", listed(ids()));
    }
    format!("nodes with a similar title: {}", listed(near))
}

/// Returns the input with that name if a value can be written to it.
fn checked_input<'a>(
    workflow: &'a Workflow,
    role: Role,
    node: Node<'a>,
    input: &str,
) -> Result<&'a str, BindMismatch> {
    let Some((name, value)) = node.inputs().find(|(name, _)| *name == input) else {
        return Err(BindMismatch::UnknownInput {
            node: display_name(node.id),
            input: display_name(input),
            inputs: listed(node.inputs().map(|(name, _)| name)),
        });
    };
    match link(value) {
        None => Ok(name),
        Some(link) => Err(BindMismatch::Linked {
            node: display_name(node.id),
            input: display_name(name),
            feeder: display_name(link.node),
            advice: advice(workflow, role, link.node),
        }),
    }
}

/// Returns which input of the feeding node to bind instead.
fn advice(workflow: &Workflow, role: Role, feeder: &str) -> String {
    match workflow.node(feeder) {
        None => "which does not exist in the graph".into(),
        Some(node) => match literal_input(role, node) {
            Some(input) => {
                format!("bind `{}.{}` instead", display_name(node.id), display_name(input))
            }
            None => format!("bind an input of that {} node instead", display_name(node.class)),
        },
    }
}

/// Returns the input of a node that is the only plausible one for `role`.
fn usual_input<'a>(
    workflow: &'a Workflow,
    role: Role,
    node: Node<'a>,
) -> Result<&'a str, BindMismatch> {
    if let Some(input) = literal_input(role, node) {
        return Ok(input);
    }
    match role.usual_inputs().iter().find(|input| node.input(input).is_some()) {
        Some(linked) => checked_input(workflow, role, node, linked),
        None => Err(BindMismatch::ManyInputs {
            node: display_name(node.id),
            inputs: listed(node.inputs().map(|(name, _)| name)),
        }),
    }
}

/// Returns the input that takes a value for `role`, by its usual names. The only input of a node is
/// not good enough: the only text of a loader is the name of a model.
pub(super) fn literal_input(role: Role, node: Node<'_>) -> Option<&str> {
    let fits = |value: &Value| if role.is_text() { value.is_string() } else { value.is_number() };
    role.usual_inputs().iter().find_map(|usual| {
        node.inputs()
            .find(|(name, value)| name.eq_ignore_ascii_case(usual) && fits(value))
            .map(|(name, _)| name)
    })
}
