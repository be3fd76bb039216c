//! What runs on each backend, and where a job's values and results are in it.
//!
//! Owns the choice of a graph for a backend, its file and its bindings.
//! [`crate::daemon::inputs::prepare`] builds one job's request from it.

use std::{collections::BTreeMap, path::Path};

use crate::{
    config::settings::{Config, WorkflowSource as WorkflowChoice},
    daemon::services::errors::RuntimeConfigError,
    disk::read::{self, ReadOutcome},
    domain::{
        fingerprint::Fingerprint,
        job::{artifact::ArtifactKind, choose_backend::BackendKind},
        request::workflow::{
            Workflow,
            bind::{Bindings, bind_or_find},
            role::Role,
        },
    },
};

/// A larger file is not a workflow: CONJURE's have 6 KB.
pub(crate) const MAX_WORKFLOW: u64 = 16 * 1024 * 1024;

/// The name of the two Spaces in the ledger.
const SPACES: &str = "spaces";

/// What runs on the configured backends.
#[derive(Debug)]
pub(crate) struct BoundWorkflows {
    /// What a deployment or a rented machine runs.
    remote: BoundWorkflow,
    /// What the local ComfyUI runs; `None` if it is not used.
    local: Option<BoundWorkflow>,
    spaces: BoundWorkflow,
}

/// What runs on a backend.
#[derive(Debug)]
pub(crate) enum BoundWorkflow {
    Graph(Box<(Workflow, Bindings)>),
    /// Two Spaces and how they are called.
    Spaces {
        /// What makes results differ: which Spaces, and in which order they are called.
        version: Fingerprint,
    },
}

impl BoundWorkflows {
    /// Reads the graphs that the backends in `order` need.
    pub(crate) fn new(config: &Config, order: &[BackendKind]) -> Result<Self, RuntimeConfigError> {
        let generation = &config.generation;
        let remote = graph(&generation.workflow, &generation.bind)?;
        let local = if order.contains(&BackendKind::Comfyui) {
            let local = &config.local;
            let made = graph(&local.comfyui_workflow, &local.bind);
            Some(made.map_err(|error| RuntimeConfigError::Local(Box::new(error)))?)
        } else {
            None
        };
        let local_settings = &config.local;
        let named = format!(
            "{} {} {}",
            local_settings.flux_space, local_settings.mesh_space, local_settings.process_image
        );
        let spaces = BoundWorkflow::Spaces { version: Fingerprint::of(named.as_bytes()) };
        Ok(Self { remote, local, spaces })
    }

    /// Returns what runs on a backend. For a backend that is not (or no longer) configured that is
    /// the remote workflow.
    pub(crate) fn at(&self, backend: BackendKind) -> &BoundWorkflow {
        match backend {
            BackendKind::Serverless | BackendKind::Cloud => &self.remote,
            BackendKind::Comfyui => self.local.as_ref().unwrap_or(&self.remote),
            BackendKind::Huggingface => &self.spaces,
        }
    }
}

impl BoundWorkflow {
    /// Returns the name for people and the ledger.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Graph(graph) => graph.0.name(),
            Self::Spaces { .. } => SPACES,
        }
    }

    /// Returns what distinguishes it from every other.
    pub(crate) fn version(&self) -> Fingerprint {
        match self {
            Self::Graph(graph) => graph.1.version(),
            Self::Spaces { version } => *version,
        }
    }

    /// Returns the node and the input of a value; `None` for Spaces, whose calls have names.
    pub(crate) fn input(&self, role: Role) -> Option<(&str, &str)> {
        match self {
            Self::Graph(graph) => graph.1.input(role),
            Self::Spaces { .. } => None,
        }
    }

    /// Returns the node that makes an artifact.
    pub(crate) fn output(&self, kind: ArtifactKind) -> &str {
        let role = match kind {
            ArtifactKind::Image => Role::Flux,
            ArtifactKind::Mesh => Role::Mesh,
        };
        match self {
            Self::Graph(graph) => graph.1.output(role).unwrap_or_default(),
            Self::Spaces { .. } => role.name(),
        }
    }
}

fn graph(
    choice: &WorkflowChoice,
    bind: &BTreeMap<String, String>,
) -> Result<BoundWorkflow, RuntimeConfigError> {
    let workflow = workflow(choice)?;
    let (bindings, found) = bind_or_find(&workflow, bind)?;
    if !found.is_empty() {
        let roles: Vec<&str> = found.iter().map(|role| role.name()).collect();
        tracing::info!(
            workflow = workflow.name(),
            "found automatically: {}; `conjured workflow validate` shows where",
            roles.join(", ")
        );
    }
    Ok(BoundWorkflow::Graph(Box::new((workflow, bindings))))
}

/// Reads a workflow: a built-in one, or a file.
pub fn workflow(choice: &WorkflowChoice) -> Result<Workflow, RuntimeConfigError> {
    match choice {
        WorkflowChoice::BuiltIn(name) => Workflow::find_built_in(name).ok_or_else(|| {
            RuntimeConfigError::WorkflowFile(format!(
                "no workflow `{name}` is built into this version"
            ))
        }),
        WorkflowChoice::File(path) => {
            let bytes = read_workflow(path).map_err(RuntimeConfigError::WorkflowFile)?;
            Ok(Workflow::parse(&path.display().to_string(), &bytes)?)
        }
    }
}

/// Reads a workflow's file, with a size limit.
pub fn read_workflow(path: &Path) -> Result<Vec<u8>, String> {
    match read::read_complete(path, MAX_WORKFLOW) {
        Ok(ReadOutcome::Complete { bytes, .. }) => Ok(bytes),
        Ok(ReadOutcome::Changing) => {
            Err(format!("{} is being written at the moment; try again", path.display()))
        }
        Ok(ReadOutcome::Missing) => Err(format!("{} does not exist", path.display())),
        Err(error) => Err(error.to_string()),
    }
}
