//! Views of a graph: a node, its inputs, its links, and everything that feeds it.
//!
//! Owns reading the JSON of one node, and knows nothing about roles. Every walk marks visited
//! nodes, so a graph with cycles or thousands of nodes in a chain costs one visit per node and
//! no recursion.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Map, Value};

use super::Workflow;

/// A borrowed node of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Its id: the key in the graph.
    pub id: &'a str,
    /// Its class; empty if it has none.
    pub class: &'a str,
    /// Its trimmed title; the class if it has none.
    pub title: &'a str,
    inputs: Option<&'a Map<String, Value>>,
}

/// An input that takes another node's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// The feeding node's id. It may not exist.
    pub node: &'a str,
    /// The number of the output, counted from 0.
    pub output: u64,
}

/// Parses a link: an array of a node's id and an output's number. Any other value is a literal.
pub fn link(value: &Value) -> Option<Link<'_>> {
    match value.as_array()?.as_slice() {
        [node, output] => Some(Link { node: node.as_str()?, output: output.as_u64()? }),
        _ => None,
    }
}

impl<'a> Node<'a> {
    /// Reads a node; `None` if it is not an object.
    pub(super) fn new(id: &'a str, node: &'a Value) -> Option<Self> {
        let node = node.as_object()?;
        let class = node.get("class_type").and_then(Value::as_str).unwrap_or_default();
        let title = node.get("_meta").and_then(|meta| meta.get("title")).and_then(Value::as_str);
        let title = title.map(str::trim).filter(|title| !title.is_empty()).unwrap_or(class);
        Some(Self { id, class, title, inputs: node.get("inputs").and_then(Value::as_object) })
    }

    /// Returns the value of an input.
    pub fn input(self, name: &str) -> Option<&'a Value> {
        self.inputs?.get(name)
    }

    /// Returns every input with its value, in the order of the file.
    pub fn inputs(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.inputs.into_iter().flatten().map(|(name, value)| (name.as_str(), value))
    }

    /// Returns every input that takes another node's output.
    pub fn links(self) -> impl Iterator<Item = (&'a str, Link<'a>)> {
        self.inputs().filter_map(|(name, value)| Some((name, link(value)?)))
    }

    /// Returns whether the lower-case class contains one of `words`.
    pub fn class_has(self, words: &[&str]) -> bool {
        let class = self.class.to_lowercase();
        words.iter().any(|word| class.contains(word))
    }

    /// Returns whether the lower-case title contains one of `words`.
    pub fn title_has(self, words: &[&str]) -> bool {
        let title = self.title.to_lowercase();
        words.iter().any(|word| title.contains(word))
    }
}

/// Returns `starts` and everything that feeds them, with the smallest number of links in between.
pub fn ancestors<'a, 's>(
    workflow: &'a Workflow,
    starts: impl IntoIterator<Item = &'s str>,
) -> HashMap<&'a str, usize> {
    let mut distance = HashMap::new();
    let starts = starts.into_iter().filter_map(|id| workflow.node(id));
    let mut waiting: VecDeque<(Node<'a>, usize)> = starts.map(|node| (node, 0)).collect();
    while let Some((node, steps)) = waiting.pop_front() {
        if distance.contains_key(node.id) {
            continue;
        }
        distance.insert(node.id, steps);
        waiting.extend(
            node.links()
                .filter_map(|(_, link)| {
                    (!distance.contains_key(link.node)).then(|| workflow.node(link.node)).flatten()
                })
                .map(|feeding| (feeding, steps + 1)),
        );
    }
    distance
}

/// Returns every input that takes an output of `node`, as (node, input).
pub fn inputs_fed_by<'a>(workflow: &'a Workflow, node: &str) -> Vec<(Node<'a>, &'a str)> {
    let feeds = |user: Node<'a>| {
        user.links().filter(|(_, link)| link.node == node).map(move |(input, _)| (user, input))
    };
    workflow.nodes().flat_map(feeds).collect()
}

/// Returns the nodes of one cycle of links, in the order in which they feed each other; `None` if
/// there is no cycle.
pub fn find_cycle(workflow: &Workflow) -> Option<Vec<&str>> {
    let mut finished = HashSet::new();
    for start in workflow.nodes() {
        let mut path: Vec<(&str, Vec<&str>)> = Vec::new();
        let mut on_path = HashSet::new();
        let mut next = Some(start.id);
        loop {
            if let Some(node) = next.take().and_then(|id| workflow.node(id)) {
                if on_path.contains(node.id) {
                    let ring = path.iter().map(|(id, _)| *id).skip_while(|id| *id != node.id);
                    return Some(ring.collect());
                }
                if !finished.contains(node.id) {
                    on_path.insert(node.id);
                    path.push((node.id, node.links().map(|(_, link)| link.node).collect()));
                }
            }
            let Some((id, open)) = path.last_mut() else { break };
            next = open.pop();
            if next.is_none() {
                on_path.remove(id);
                finished.insert(*id);
                path.pop();
            }
        }
    }
    None
}
