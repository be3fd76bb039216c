//! Checks whether the values that would be sent fit the graph that would run.
//!
//! Owns the comparison of the bindings with the graph saved in the deployment, and with the
//! configured workflow if that graph is not known.

use serde_json::Value;

use super::{check::Check, service::BAD_GRAPH};
use crate::{
    config::{
        enums::{Mode, Provider},
        settings::{Config, GenerationConfig, LocalConfig, WorkflowSource},
    },
    daemon::services::{probes::Deployment, runtime_config},
    domain::request::workflow::bind::{Binding, Bindings, bind_or_find},
};

const NAME: &str = "workflow";

/// Judges the workflows that this mode may run.
pub(super) fn check_workflows(config: &Config, deployment: Option<&Deployment>) -> Vec<Check> {
    let local = matches!(config.mode, Mode::Local | Mode::Auto)
        && config.local.providers.contains(&Provider::Comfyui);
    let mut checks = match config.mode {
        Mode::Local => Vec::new(),
        Mode::Auto | Mode::Serverless | Mode::Cloud => remote(&config.generation, deployment),
    };
    if local {
        checks.push(check_comfyui_workflow(&config.local));
    }
    checks
}

/// Judges the local ComfyUI's workflow without the server. Nodes and models that the server lacks
/// are reported when a job is about to run.
fn check_comfyui_workflow(local: &LocalConfig) -> Check {
    let fix = "correct `local.comfyui_workflow` or [local.bind]; `conjured workflow validate` shows what fits";
    let workflow = runtime_config::workflow(&local.comfyui_workflow);
    if let (WorkflowSource::BuiltIn(name), Err(_)) = (&local.comfyui_workflow, &workflow) {
        // The user cannot fix that in a configuration.
        return Check::skipped(NAME, format!("not checked: {name} is not built into this version"));
    }
    let fits =
        workflow.map_err(|error| error.to_string()).and_then(|workflow| {
            match bind_or_find(&workflow, &local.bind) {
                Ok(_) => Ok(workflow.name().to_owned()),
                Err(fault) => Err(fault.to_string()),
            }
        });
    match fits {
        Ok(name) => Check::ok(NAME, format!("{name}, for ComfyUI; its bindings fit")),
        Err(why) => Check::fail(NAME, BAD_GRAPH, why, fix),
    }
}

/// Judges the configured workflow, and the deployment's if it is known.
fn remote(generation: &GenerationConfig, deployment: Option<&Deployment>) -> Vec<Check> {
    let fix = "correct `generation.workflow` or [generation.bind]; `conjured workflow validate` shows what fits";
    let workflow = match runtime_config::workflow(&generation.workflow) {
        Ok(workflow) => workflow,
        Err(error) => return vec![Check::fail(NAME, BAD_GRAPH, error.to_string(), fix)],
    };
    let bindings = match bind_or_find(&workflow, &generation.bind) {
        Ok((bindings, _)) => bindings,
        Err(fault) => return vec![Check::fail(NAME, BAD_GRAPH, fault.to_string(), fix)],
    };
    let name = workflow.name();
    let Some(deployment) = deployment else {
        return vec![Check::ok(NAME, format!("{name}; its bindings fit"))];
    };
    let Some(graph) = &deployment.graph else {
        return vec![Check::ok(
            NAME,
            format!("{name}; its bindings fit (the deployment's own graph is not available)"),
        )];
    };
    let missing = missing_inputs(&bindings, graph);
    if missing.is_empty() {
        return vec![Check::ok(NAME, format!("{name}; its bindings fit the deployment's graph"))];
    }
    vec![Check::fail(
        NAME,
        BAD_GRAPH,
        format!("the deployment's graph differs from {name}: it has no {}", missing.join(", ")),
        "export the deployment's workflow in API format, run `conjured workflow inspect FILE`, \
         and copy its [generation.bind] into your configuration; or save CONJURE's workflow in \
         the deployment",
    )]
}

/// Lists the bound inputs that are missing from `graph`.
fn missing_inputs(bindings: &Bindings, graph: &Value) -> Vec<String> {
    bindings
        .iter()
        .filter_map(|(role, place)| {
            let Some(node) = graph.get(place.node()) else {
                return Some(format!("node {} ({role})", place.node()));
            };
            match place {
                Binding::Input { input, .. } => {
                    let there =
                        node.get("inputs").is_some_and(|inputs| inputs.get(input).is_some());
                    (!there).then(|| format!("input {place} ({role})"))
                }
                Binding::Output { .. } => None,
            }
        })
        .collect()
}
