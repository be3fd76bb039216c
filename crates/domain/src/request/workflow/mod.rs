//! A workflow: the graph of nodes that a backend runs, in ComfyUI's "API format".
//!
//! Owns the parsing of such a file (untrusted input), its version, and the two built-in workflows.
//! Its parts:
//! - [`graph`]: views of a graph: nodes, links, and which node feeds which;
//! - [`role`]: the names for the values that a job changes and the outputs that it collects;
//! - [`bind`]: which node has which role;
//! - [`inspect`]: finds the roles in an unknown graph;
//! - [`validate`]: finds what would make a run fail or its result be missed;
//! - [`built_in`]: the graphs that are included in the program.
//!
//! It does not know what a deployment runs: that is a saved copy of such a graph on the
//! backend. The API format:
//! `{"<node id>": {"class_type": "…", "inputs": {…}, "_meta": {"title": "…"}}}`, where an input
//! `["<node id>", 0]` is a link to that node's first output and anything else is a value.

pub mod bind;
pub mod built_in;
pub mod graph;
pub mod inspect;
mod naming;
mod resolve;
pub mod role;
pub mod validate;

use serde_json::{Map, Value};

use self::{built_in::Table, graph::Node, naming::display_name};
use crate::fingerprint::Fingerprint;

/// The largest workflow file that is read, in bytes. CONJURE's graphs have 6 KB; the largest known
/// public ones have a few hundred KB.
pub const MAX_WORKFLOW_BYTES: usize = 4 * 1024 * 1024;

/// The maximum number of nodes of a graph: far more than any hand-made graph has, and every message
/// stays readable.
pub const MAX_NODES: usize = 4_000;

/// The longest node id, in bytes. ComfyUI uses numbers (`41`), sub-graphs add a colon (`38:42`).
pub const MAX_ID_BYTES: usize = 64;

/// A complete, parsed graph in API format.
#[derive(Clone, Debug, PartialEq)]
pub struct Workflow {
    name: String,
    graph: Map<String, Value>,
    version: Fingerprint,
    table: Table,
}

/// Why a file is not a workflow that can be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkflowFault {
    /// Larger than [`MAX_WORKFLOW_BYTES`] or more than [`MAX_NODES`] nodes.
    #[error("the workflow is too large: {size}, the limit is {limit}")]
    TooLarge {
        /// Its size with the unit.
        size: String,
        /// The limit with the unit.
        limit: String,
    },
    /// Not JSON.
    #[error("the workflow is not valid JSON: {reason}")]
    NotJson {
        /// What is wrong, with line and column.
        reason: String,
    },
    /// The format of ComfyUI's "Save": it has positions and widgets, but not what a run needs.
    #[error(
        "the workflow is in the editor's format (it lists `nodes` and `links`); \
         export it again with \"Export (API)\" in ComfyUI's menu, which older versions \
         call \"Save (API Format)\" after enabling the developer mode"
    )]
    EditorFormat,
    /// JSON, but not an object of nodes.
    #[error("the workflow is not a graph in API format: {reason}")]
    NotAGraph {
        /// What was found instead.
        reason: String,
    },
    /// A node does not have the structure of a node.
    #[error("node `{node}` of the workflow is not a node in API format: {reason}")]
    BadNode {
        /// Its id.
        node: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Workflow {
    /// Parses a graph in API format. A wrapper `{"prompt": {…}}` (a request to ComfyUI) or
    /// `{"workflow_api_json": {…}}` (one to RunComfy) is unwrapped. Links and classes are not
    /// checked here, but in [`validate`].
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, WorkflowFault> {
        if bytes.len() > MAX_WORKFLOW_BYTES {
            return Err(WorkflowFault::TooLarge {
                size: format!("{} bytes", bytes.len()),
                limit: format!("{MAX_WORKFLOW_BYTES} bytes"),
            });
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        // The parser rejects more than 128 levels, so everything below may recurse over values.
        let json: Value = serde_json::from_slice(text)
            .map_err(|fault| WorkflowFault::NotJson { reason: fault.to_string() })?;
        let graph = graph_of(json)?;
        check_nodes(&graph)?;
        Ok(Self { name: name.to_owned(), version: version_of(&graph), graph, table: &[] })
    }

    /// Returns the built-in workflow with this name (see [`built_in`]).
    pub fn find_built_in(name: &str) -> Option<Self> {
        built_in::find(name)
    }

    /// Returns its name in the configuration and the ledger.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the graph, nodes in the order of the file.
    pub fn graph(&self) -> &Map<String, Value> {
        &self.graph
    }

    /// Returns the BLAKE3 of the graph as JSON with sorted keys and no white space: the same graph
    /// has the same version, regardless of indentation and key order.
    pub fn version(&self) -> Fingerprint {
        self.version
    }

    /// Returns every node, in the order of the file.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.graph.iter().filter_map(|(id, node)| Node::new(id, node))
    }

    /// Returns the node with this id.
    pub fn node(&self, id: &str) -> Option<Node<'_>> {
        let (id, node) = self.graph.get_key_value(id)?;
        Node::new(id, node)
    }

    /// Returns the built-in bindings of this graph; empty unless the workflow is built in.
    pub(super) fn table(&self) -> Table {
        self.table
    }
}

/// Unwraps wrappers and rejects everything that is not a graph.
fn graph_of(json: Value) -> Result<Map<String, Value>, WorkflowFault> {
    let not_a_graph = |reason: &str| WorkflowFault::NotAGraph { reason: reason.to_owned() };
    let Value::Object(mut object) = json else {
        return Err(not_a_graph("it is not a JSON object"));
    };
    for wrapper in ["workflow_api_json", "prompt"] {
        let wraps = |inner: &Map<String, Value>| !inner.contains_key("class_type");
        if object.get(wrapper).and_then(Value::as_object).is_some_and(wraps) {
            let Some(Value::Object(inner)) = object.remove(wrapper) else { break };
            object = inner;
            break;
        }
    }
    if ["nodes", "links"].iter().any(|key| object.get(*key).is_some_and(Value::is_array)) {
        return Err(WorkflowFault::EditorFormat);
    }
    if object.is_empty() {
        return Err(not_a_graph("it has no nodes"));
    }
    if object.len() > MAX_NODES {
        return Err(WorkflowFault::TooLarge {
            size: format!("{} nodes", object.len()),
            limit: format!("{MAX_NODES} nodes"),
        });
    }
    if !object.values().any(|node| node.get("class_type").is_some()) {
        return Err(not_a_graph("no member has a `class_type`"));
    }
    Ok(object)
}

fn check_nodes(graph: &Map<String, Value>) -> Result<(), WorkflowFault> {
    for (id, node) in graph {
        let bad = |reason| Err(WorkflowFault::BadNode { node: display_name(id), reason });
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return bad("a node id must have 1 to 64 bytes");
        }
        if id.chars().any(|c| c.is_control() || c.is_whitespace()) || id.starts_with("title:") {
            return bad("an id has no white space and does not begin with `title:`");
        }
        let Some(node) = node.as_object() else {
            return bad("it is not an object");
        };
        if node.get("inputs").is_some_and(|inputs| !inputs.is_object()) {
            return bad("its `inputs` are not an object");
        }
        if node.get("class_type").is_some_and(|class| !class.is_string()) {
            return bad("its `class_type` is not a text");
        }
    }
    Ok(())
}

/// Returns the digest of the graph as JSON without white space, with sorted keys.
fn version_of(graph: &Map<String, Value>) -> Fingerprint {
    let mut canonical = Value::Object(graph.clone());
    canonical.sort_all_objects();
    Fingerprint::of(canonical.to_string().as_bytes())
}

#[cfg(test)]
mod tests;
