//! Follows an input to its value: the input itself, or the primitive node that feeds it.
//!
//! Owns that walk. A value only ever replaces a literal, never a link: that would cut the link.

use std::collections::HashSet;

use serde_json::Value;

use super::super::{
    Workflow,
    bind::Binding,
    graph::{Node, link},
    resolve::literal_input,
    role::Role,
};

/// The maximum number of values behind one input: a text that is combined from more is not
/// useful to bind.
const MAX_SOURCES: usize = 8;

/// Follows an input (all usual ones of `role` if none is named) to the literal values behind it:
/// its own, or those of the nearest nodes that feed it.
pub(super) fn values_behind(
    workflow: &Workflow,
    node: Node<'_>,
    input: Option<&str>,
    role: Role,
) -> Vec<Binding> {
    let fits = |value: &Value| if role.is_text() { value.is_string() } else { value.is_number() };
    let here = match input {
        Some(input) => node.input(input).is_some_and(fits).then_some(input),
        None => literal_input(role, node),
    };
    if let Some(input) = here {
        return vec![target(node, input)];
    }
    let looked_at = input.as_ref().map_or(role.usual_inputs(), std::slice::from_ref);
    let links = looked_at.iter().filter_map(|name| node.input(name)).filter_map(link);
    let mut waiting: Vec<&str> = links.map(|link| link.node).collect();
    let mut seen = HashSet::from([node.id]);
    while !waiting.is_empty() {
        let nodes: Vec<Node<'_>> = waiting
            .drain(..)
            .filter_map(|id| workflow.node(id))
            .filter(|node| seen.insert(node.id))
            .collect();
        let found: Vec<Binding> = nodes
            .iter()
            .filter_map(|node| literal_input(role, *node).map(|input| target(*node, input)))
            .take(MAX_SOURCES)
            .collect();
        if !found.is_empty() {
            return found;
        }
        waiting.extend(nodes.iter().flat_map(|node| node.links().map(|(_, link)| link.node)));
    }
    Vec::new()
}

fn target(node: Node<'_>, input: &str) -> Binding {
    Binding::Input { node: node.id.to_owned(), input: input.to_owned() }
}
