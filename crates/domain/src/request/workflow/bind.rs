//! Binds roles to nodes: the built-in table, overridden by `[generation.bind]` of
//! the configuration.
//!
//! Owns the finished [`Bindings`] and their rules: image, prompt and mesh are required; a binding
//! must exist in the graph, so that a request never names an unknown node (RunComfy answers that
//! with 422, or ignores it); and no two roles share one input.
//!
//! A binding is written as `"41.value"` (node id, input), as `"title:FLUXT5XXL.value"` (title,
//! input), or as either without the input if only one input of the node fits; an output is just a
//! node. An empty text removes a role of the built-in table.

use std::{collections::BTreeMap, fmt};

use super::{
    Workflow,
    inspect::{Confidence, inspect},
    naming::display_name,
    resolve::resolve,
    role::{Role, UnknownRole},
};
use crate::fingerprint::Fingerprint;

/// A location in a graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Binding {
    /// An input value of a node.
    Input {
        /// The node's id.
        node: String,
        /// The input's name.
        input: String,
    },
    /// A node whose files are the job's artifact.
    Output {
        /// The node's id.
        node: String,
    },
}

impl Binding {
    /// Returns the node's id.
    pub fn node(&self) -> &str {
        match self {
            Self::Input { node, .. } | Self::Output { node } => node,
        }
    }
}

impl fmt::Display for Binding {
    /// Writes the form used in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input { node, input } => write!(f, "{node}.{input}"),
            Self::Output { node } => f.write_str(node),
        }
    }
}

/// The location of every bound role, created by [`bind`] for one version of one graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bindings {
    targets: BTreeMap<Role, Binding>,
    version: Fingerprint,
}

impl Bindings {
    /// Returns a role's location.
    pub fn get(&self, role: Role) -> Option<&Binding> {
        self.targets.get(&role)
    }

    /// Returns the node and the input of an input role.
    pub fn input(&self, role: Role) -> Option<(&str, &str)> {
        match self.get(role)? {
            Binding::Input { node, input } => Some((node, input)),
            Binding::Output { .. } => None,
        }
    }

    /// Returns the node of an output role.
    pub fn output(&self, role: Role) -> Option<&str> {
        match self.get(role)? {
            Binding::Input { .. } => None,
            Binding::Output { node } => Some(node),
        }
    }

    /// Returns every bound role with its location, in the order of [`Role::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Role, &Binding)> {
        self.targets.iter().map(|(role, place)| (*role, place))
    }

    /// Returns the version of the graph that the bindings were made for.
    pub fn version(&self) -> Fingerprint {
        self.version
    }
}

/// Why the roles do not fit the graph. Nothing was sent and nothing was charged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindFault {
    /// A key of `[generation.bind]` is not a role.
    #[error("in `[generation.bind]`: {0}")]
    UnknownRole(#[from] UnknownRole),
    /// A binding does not match a location in this graph.
    #[error(
        "`generation.bind.{role} = \"{text}\"` does not fit the workflow `{workflow}`: {mismatch}"
    )]
    Mismatch {
        /// The role.
        role: Role,
        /// The binding as written.
        text: String,
        /// The workflow's name.
        workflow: String,
        /// What is wrong.
        mismatch: Box<BindMismatch>,
    },
    /// A required role is not bound.
    #[error("the workflow `{workflow}` has no binding for the role `{role}`: {hint}")]
    Missing {
        /// The role.
        role: Role,
        /// The workflow's name.
        workflow: String,
        /// What to add to the configuration.
        hint: String,
    },
    /// Two roles would write the same input.
    #[error(
        "the roles `{first}` and `{second}` are both bound to `{target}`; \
         remove one of them from `[generation.bind]`, or set it to \"\""
    )]
    Twice {
        /// One role.
        first: Role,
        /// The other role.
        second: Role,
        /// The location.
        target: String,
    },
}

/// What is wrong with one binding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindMismatch {
    /// No node has that id or title.
    #[error("there is no node `{node}`; {hint}")]
    UnknownNode {
        /// The name that was searched for.
        node: String,
        /// What exists instead.
        hint: String,
    },
    /// Several nodes have that title.
    #[error("several nodes are titled `{title}`: {ids}; bind one of them by its id")]
    AmbiguousTitle {
        /// The title.
        title: String,
        /// Their ids.
        ids: String,
    },
    /// The node has no such input.
    #[error("node {node} has no input `{input}`; its inputs are {inputs}")]
    UnknownInput {
        /// The node's id.
        node: String,
        /// The input that was searched for.
        input: String,
        /// The existing inputs.
        inputs: String,
    },
    /// The input takes another node's output; a value there would cut the link.
    #[error("input `{input}` of node {node} is fed by node {feeder}; {advice}")]
    Linked {
        /// The node's id.
        node: String,
        /// The input.
        input: String,
        /// The feeding node's id.
        feeder: String,
        /// What to bind instead.
        advice: String,
    },
    /// The input was omitted and is not obvious.
    #[error("node {node} has no single input that fits; name one of {inputs}")]
    ManyInputs {
        /// The node's id.
        node: String,
        /// Its inputs.
        inputs: String,
    },
}

/// Binds every role of `workflow`: first its own table, then `overrides` (role to text, from
/// the configuration).
pub fn bind(
    workflow: &Workflow,
    overrides: &BTreeMap<String, String>,
) -> Result<Bindings, BindFault> {
    let mut places: BTreeMap<Role, Binding> = workflow
        .table()
        .iter()
        .map(|(role, node, input)| (*role, known(*role, node, input)))
        .collect();
    for (word, text) in overrides {
        let role: Role = word.parse()?;
        if text.trim().is_empty() {
            places.remove(&role);
            continue;
        }
        let place = resolve(workflow, role, text).map_err(|misfit| BindFault::Mismatch {
            role,
            text: display_name(text),
            workflow: display_name(workflow.name()),
            mismatch: Box::new(misfit),
        })?;
        places.insert(role, place);
    }
    check_required(workflow, &places)?;
    check_twice(&places)?;
    Ok(Bindings { targets: places, version: workflow.version() })
}

/// Binds like [`bind`], and fills roles missing from the configuration with what [`inspect`] is
/// certain of. A built-in workflow has its own table, so it is not searched. Returns the bindings
/// and the roles that were found, so that they can be reported.
pub fn bind_or_find(
    workflow: &Workflow,
    overrides: &BTreeMap<String, String>,
) -> Result<(Bindings, Vec<Role>), BindFault> {
    let mut complete = overrides.clone();
    let mut found = Vec::new();
    if workflow.table().is_empty() {
        let inspection = inspect(workflow);
        for role in Role::ALL {
            let certain = inspection
                .best(role)
                .filter(|best| best.confidence == Confidence::Certain)
                .filter(|best| bind_one(workflow, role, &best.target));
            if let Some(best) = certain
                && !overrides.contains_key(role.name())
            {
                complete.insert(role.name().to_owned(), best.target.to_string());
                found.push(role);
            }
        }
    }
    Ok((bind(workflow, &complete)?, found))
}

/// Returns whether a location can be written and parsed back: an id may contain what the notation
/// cannot express.
fn bind_one(workflow: &Workflow, role: Role, place: &Binding) -> bool {
    resolve(workflow, role, &place.to_string()).is_ok_and(|read| read == *place)
}

fn known(role: Role, node: &str, input: &str) -> Binding {
    let node = node.to_owned();
    if role.is_output() {
        Binding::Output { node }
    } else {
        Binding::Input { node, input: input.to_owned() }
    }
}

fn check_required(workflow: &Workflow, places: &BTreeMap<Role, Binding>) -> Result<(), BindFault> {
    let missing =
        Role::ALL.into_iter().find(|role| role.is_required() && !places.contains_key(role));
    let Some(role) = missing else { return Ok(()) };
    let hint = match inspect(workflow).best(role) {
        Some(found) => format!(
            "add `{role} = {}` to `[generation.bind]` if this is it: {}",
            found.toml(),
            found.reason
        ),
        None => format!(
            "add `{role} = \"…\"` to `[generation.bind]`; \
             `conjured workflow inspect` lists the nodes of the graph"
        ),
    };
    Err(BindFault::Missing { role, workflow: display_name(workflow.name()), hint })
}

fn check_twice(places: &BTreeMap<Role, Binding>) -> Result<(), BindFault> {
    let mut taken: BTreeMap<&Binding, Role> = BTreeMap::new();
    // One node may save both the image and the mesh, so outputs may coincide.
    for (role, place) in places.iter().filter(|(role, _)| !role.is_output()) {
        if let Some(first) = taken.insert(place, *role) {
            let place = display_name(&place.to_string());
            return Err(BindFault::Twice { first, second: *role, target: place });
        }
    }
    Ok(())
}
