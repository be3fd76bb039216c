//! Finds what would make a run fail, or its result be missed, before any money is spent.
//!
//! Owns the checks of a graph against itself and against its bindings. The graph may differ from
//! the one that the bindings were made for, for example the one that a deployment has saved. It
//! knows no node packs: only the backend can say whether a class exists there.

use std::collections::HashMap;

use super::{
    Workflow,
    bind::{Binding, Bindings},
    graph::{Node, ancestors, find_cycle, inputs_fed_by, link},
    naming::{display_name, listed},
    role::Role,
};

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The graph runs, but perhaps not as intended.
    Warning,
    /// The run would be refused or its result missed.
    Error,
}

/// A problem, or a possible problem, of a graph. Node ids and names are safe to display.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A node has no class.
    #[error("node {node} has no `class_type`; export the workflow again")]
    NoClass {
        /// Its id.
        node: String,
    },
    /// A link to a missing node.
    #[error("input `{input}` of node {node} is fed by node {missing}, which does not exist")]
    Dangling {
        /// The node.
        node: String,
        /// Its input.
        input: String,
        /// The id in the link.
        missing: String,
    },
    /// Nodes feed each other in a cycle.
    #[error("the nodes {ring} feed each other in a cycle, so none of them can run")]
    Cycle {
        /// Their ids.
        ring: String,
    },
    /// A bound node does not exist in this graph.
    #[error("the role `{role}` is bound to node {node}, which the graph does not have")]
    MissingNode {
        /// The role.
        role: Role,
        /// The id.
        node: String,
    },
    /// A bound input does not exist in this graph.
    #[error(
        "the role `{role}` is bound to `{input}` of node {node}; that node's inputs are {inputs}"
    )]
    MissingInput {
        /// The role.
        role: Role,
        /// The node.
        node: String,
        /// The bound input.
        input: String,
        /// The existing inputs.
        inputs: String,
    },
    /// A bound input is fed by another node: a value would cut the link.
    #[error(
        "the role `{role}` is bound to `{input}` of node {node}, which node {feeder} feeds; bind that one"
    )]
    Linked {
        /// The role.
        role: Role,
        /// The node.
        node: String,
        /// The input.
        input: String,
        /// The feeding node.
        feeder: String,
    },
    /// A bound input has a value of another type.
    #[error(
        "the role `{role}` is bound to `{input}` of node {node}, which contains {holds} and would get {wanted}"
    )]
    KindMismatch {
        /// The role.
        role: Role,
        /// The node.
        node: String,
        /// The input.
        input: String,
        /// The type of its current value.
        holds: &'static str,
        /// The type of the new value.
        wanted: &'static str,
    },
    /// An output role is bound to a node whose files are discarded.
    #[error(
        "the role `{role}` is bound to node {node}, a {class}: previews are never kept as a result"
    )]
    Preview {
        /// The role.
        role: Role,
        /// The node.
        node: String,
        /// Its class.
        class: String,
    },
    /// A bound input has no influence on any bound output.
    #[error(
        "the role `{role}` is bound to node {node}, but no bound output depends on it, so it has no effect"
    )]
    NoEffect {
        /// The role.
        role: Role,
        /// The node.
        node: String,
    },
    /// The role `seed` feeds an input with a smaller range than image seeds have.
    #[error(
        "the role `seed` is bound to node {node}, which feeds the {class} {sampler} whose largest seed is {max}; \
         bind `mesh_seed` to it and remove `seed`"
    )]
    SeedRange {
        /// The bound node.
        node: String,
        /// The node with the smaller range.
        sampler: String,
        /// Its class.
        class: String,
        /// Its largest seed.
        max: u64,
    },
    /// A seed in the graph is outside of its node's range.
    #[error("`{input}` of node {node} is {value}, and a {class} takes seeds from 0 to {max}")]
    SeedValue {
        /// The node.
        node: String,
        /// Its class.
        class: String,
        /// The input.
        input: String,
        /// Its value.
        value: String,
        /// Its largest seed.
        max: u64,
    },
}

impl Finding {
    /// Returns its severity.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::NoClass { .. }
            | Self::Dangling { .. }
            | Self::Cycle { .. }
            | Self::MissingNode { .. }
            | Self::MissingInput { .. }
            | Self::Linked { .. }
            | Self::Preview { .. }
            | Self::SeedRange { .. }
            | Self::SeedValue { .. } => Severity::Error,
            Self::KindMismatch { .. } | Self::NoEffect { .. } => Severity::Warning,
        }
    }
}

/// The largest seeds of known classes, by the input's name. PartPacker's is an `i32`, the others
/// have 64 bits (ComfyUI's own samplers and `RandomNoise`).
const SEED_RANGES: [(&str, &str, u64); 5] = [
    ("PartPacker_Sampler", "seed", 2_147_483_647),
    ("KSampler", "seed", u64::MAX),
    ("KSamplerAdvanced", "noise_seed", u64::MAX),
    ("RandomNoise", "noise_seed", u64::MAX),
    ("XlabsSampler", "noise_seed", u64::MAX),
];

/// The largest image seed that is sent ([`crate::request::overrides::IMAGE_SEED_LIMIT`]).
const LARGEST_IMAGE_SEED: u64 = crate::request::overrides::IMAGE_SEED_LIMIT - 1;

/// Checks `workflow`, and `bindings` against it.
pub fn validate(workflow: &Workflow, bindings: &Bindings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in workflow.nodes() {
        findings.extend(node_findings(workflow, node));
    }
    if let Some(ring) = find_cycle(workflow) {
        findings.push(Finding::Cycle { ring: listed(ring) });
    }
    let outputs = [Role::Flux, Role::Mesh].into_iter().filter_map(|role| bindings.output(role));
    let useful = ancestors(workflow, outputs);
    for (role, place) in bindings.iter() {
        findings.extend(target_findings(workflow, role, place, &useful));
    }
    findings.extend(seed_range(workflow, bindings));
    findings
}

fn node_findings(workflow: &Workflow, node: Node<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if node.class.is_empty() {
        findings.push(Finding::NoClass { node: display_name(node.id) });
    }
    for (input, link) in node.links().filter(|(_, link)| workflow.node(link.node).is_none()) {
        findings.push(Finding::Dangling {
            node: display_name(node.id),
            input: display_name(input),
            missing: display_name(link.node),
        });
    }
    for (class, input, max) in SEED_RANGES.iter().filter(|(class, ..)| *class == node.class) {
        let number = node.input(input).filter(|value| value.is_number());
        let Some(value) = number.filter(|value| value.as_u64().is_none_or(|seed| seed > *max))
        else {
            continue;
        };
        findings.push(Finding::SeedValue {
            node: display_name(node.id),
            class: (*class).to_owned(),
            input: (*input).to_owned(),
            value: value.to_string(),
            max: *max,
        });
    }
    findings
}

fn target_findings(
    workflow: &Workflow,
    role: Role,
    place: &Binding,
    useful: &HashMap<&str, usize>,
) -> Vec<Finding> {
    let id = || display_name(place.node());
    let Some(node) = workflow.node(place.node()) else {
        return vec![Finding::MissingNode { role, node: id() }];
    };
    let input = match place {
        Binding::Output { .. } if node.class_has(&["preview"]) => {
            return vec![Finding::Preview { role, node: id(), class: display_name(node.class) }];
        }
        Binding::Output { .. } => return Vec::new(),
        Binding::Input { input, .. } => input,
    };
    let Some(value) = node.input(input) else {
        let inputs = listed(node.inputs().map(|(name, _)| name));
        return vec![Finding::MissingInput {
            role,
            node: id(),
            input: display_name(input),
            inputs,
        }];
    };
    if let Some(link) = link(value) {
        let feeder = display_name(link.node);
        return vec![Finding::Linked { role, node: id(), input: display_name(input), feeder }];
    }
    let mut findings = Vec::new();
    let fits = if role.is_text() { value.is_string() } else { value.is_number() };
    if !fits {
        let holds = kind_of(value);
        let wanted = if role.is_text() { "a text" } else { "a number" };
        findings.push(Finding::KindMismatch {
            role,
            node: id(),
            input: display_name(input),
            holds,
            wanted,
        });
    }
    if !useful.contains_key(node.id) {
        findings.push(Finding::NoEffect { role, node: id() });
    }
    findings
}

fn kind_of(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "nothing",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a text",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

/// Finds a sampler with a smaller range that the image's seed feeds.
fn seed_range(workflow: &Workflow, bindings: &Bindings) -> Option<Finding> {
    let (bound, bound_input) = bindings.input(Role::Seed)?;
    let own = workflow.node(bound).map(|node| (node, bound_input));
    let fed = inputs_fed_by(workflow, bound);
    let ranges: HashMap<(&str, &str), u64> =
        SEED_RANGES.iter().map(|(class, input, max)| ((*class, *input), *max)).collect();
    own.into_iter().chain(fed).find_map(|(node, input)| {
        let max = *ranges.get(&(node.class, input))?;
        (max < LARGEST_IMAGE_SEED).then(|| Finding::SeedRange {
            node: display_name(bound),
            sampler: display_name(node.id),
            class: node.class.to_owned(),
            max,
        })
    })
}

#[cfg(test)]
mod tests;
