//! `conjured workflow`: lists workflows, shows one, and checks whether its bindings fit.
//!
//! Owns the tables. [`crate::domain::request::workflow`] does the checks.

use std::{collections::BTreeMap, path::PathBuf};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{
    args::WorkflowCommand,
    context::Context,
    exit::{BAD_INPUT, Failure, MISSING_INPUT},
    out::plain,
};
use crate::{
    config::settings::WorkflowSource as Choice,
    daemon::services::runtime_config::{read_workflow, workflow as load},
    domain::request::workflow::{
        Workflow,
        bind::bind_or_find,
        built_in,
        inspect::inspect,
        validate::{Severity, validate},
    },
};

/// Runs one of the workflow commands.
pub(super) fn workflow(context: &Context, command: &WorkflowCommand) -> Result<(), Failure> {
    match command {
        WorkflowCommand::List { json } => list(context, *json),
        WorkflowCommand::Inspect { workflow, json } => run_inspect(context, workflow, *json),
        WorkflowCommand::Validate { workflow, json } => {
            run_validate(context, workflow.as_deref(), *json)
        }
    }
}

fn list(context: &Context, as_json: bool) -> Result<(), Failure> {
    // The built-in workflows are listed even if the configuration cannot be read.
    let used = context.load().ok().map(|loaded| match loaded.config.generation.workflow {
        Choice::BuiltIn(name) => name.to_owned(),
        Choice::File(path) => path.display().to_string(),
    });
    let mut rows: Vec<Value> = Vec::new();
    for name in built_in::NAMES {
        let Some(workflow) = Workflow::find_built_in(name) else { continue };
        rows.push(json!({
            "name": name,
            "source": "built in",
            "nodes": workflow.nodes().count(),
            "version": workflow.version(),
            "in_use": used.as_deref() == Some(name),
        }));
    }
    if let Some(file) = used.filter(|used| !built_in::NAMES.contains(&used.as_str())) {
        let workflow = load(&Choice::File(PathBuf::from(&file)))?;
        rows.push(json!({
            "name": file,
            "source": "file",
            "nodes": workflow.nodes().count(),
            "version": workflow.version(),
            "in_use": true,
        }));
    }
    if as_json {
        context.out.json(&Value::Array(rows));
        return Ok(());
    }
    for row in rows {
        let mark = if row["in_use"] == true { "*" } else { " " };
        let name = row["name"].as_str().unwrap_or_default();
        let source = row["source"].as_str().unwrap_or_default();
        context.out.data(format!("{mark} {name}  ({source}, {} nodes)", row["nodes"]));
    }
    Ok(())
}

/// Finds a workflow by what was typed: the name of a built-in workflow, or a file.
fn named(text: &str) -> Result<Workflow, Failure> {
    if let Some(workflow) = Workflow::find_built_in(text) {
        return Ok(workflow);
    }
    let path = PathBuf::from(text);
    if !path.exists() {
        return Err(Failure::new(
            MISSING_INPUT,
            format!(
                "`{text}` is neither a file nor a built-in workflow ({})",
                built_in::NAMES.join(", ")
            ),
        ));
    }
    let bytes = read_workflow(&path).map_err(|error| Failure::new(BAD_INPUT, error))?;
    Workflow::parse(text, &bytes)
        .map_err(|fault| Failure::new(BAD_INPUT, format!("{}: {fault}", path.display())))
}

fn run_inspect(context: &Context, text: &str, as_json: bool) -> Result<(), Failure> {
    let workflow = named(text)?;
    let inspection = inspect(&workflow);
    let out = &context.out;
    if as_json {
        let candidates: Vec<Value> = inspection
            .candidates()
            .iter()
            .map(|found| {
                let best = inspection.best(found.role).is_some_and(|best| best == found);
                json!({
                    "role": found.role.to_string(),
                    "place": found.target.to_string(),
                    "class": found.class,
                    "title": found.title,
                    "confidence": found.confidence.name(),
                    "reason": found.reason,
                    "best": best,
                })
            })
            .collect();
        out.json(&json!({
            "workflow": workflow.name(),
            "version": workflow.version(),
            "nodes": workflow.nodes().count(),
            "candidates": candidates,
            "bind": inspection.snippet(),
        }));
        return Ok(());
    }
    out.data(format!(
        "{}: {} nodes, version {}",
        plain(workflow.name()),
        workflow.nodes().count(),
        workflow.version().short()
    ));
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["role", "place", "class", "title", "confidence", "because"]);
    for found in inspection.candidates() {
        table.add_row([
            found.role.to_string(),
            plain(&found.target.to_string()),
            plain(&found.class),
            plain(&found.title),
            found.confidence.name().to_owned(),
            plain(&found.reason),
        ]);
    }
    out.data(table.trim_fmt());
    out.data(String::new());
    out.data(inspection.snippet());
    Ok(())
}

fn run_validate(context: &Context, text: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let loaded = match (context.load(), text) {
        (Ok(loaded), _) => Some(loaded),
        // A workflow given by name can be checked without a configuration.
        (Err(_), Some(_)) => None,
        (Err(failure), None) => return Err(failure),
    };
    let overrides =
        loaded.as_ref().map_or_else(BTreeMap::new, |loaded| loaded.config.generation.bind.clone());
    let workflow = match (text, &loaded) {
        (Some(text), _) => named(text)?,
        (None, Some(loaded)) => load(&loaded.config.generation.workflow)?,
        (None, None) => return Ok(()),
    };
    let (bindings, found) = bind_or_find(&workflow, &overrides)
        .map_err(|fault| Failure::new(BAD_INPUT, format!("{}: {fault}", plain(workflow.name()))))?;
    let findings = validate(&workflow, &bindings);
    let errors = findings.iter().filter(|finding| finding.severity() == Severity::Error).count();
    let out = &context.out;
    if as_json {
        let findings: Vec<Value> = findings
            .iter()
            .map(|finding| {
                let severity = match finding.severity() {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                };
                json!({ "severity": severity, "message": finding.to_string() })
            })
            .collect();
        let bound: BTreeMap<String, String> =
            bindings.iter().map(|(role, place)| (role.to_string(), place.to_string())).collect();
        out.json(&json!({
            "workflow": workflow.name(),
            "version": workflow.version(),
            "bindings": bound,
            "findings": findings,
            "ok": errors == 0,
        }));
    } else {
        for finding in &findings {
            let word = match finding.severity() {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            out.data(format!("{}: {}", out.bold(word), plain(&finding.to_string())));
        }
        for (role, place) in bindings.iter() {
            let by = if found.contains(&role) { "  (found)" } else { "" };
            out.data(format!("{role:<17} {}{by}", plain(&place.to_string())));
        }
        if errors == 0 {
            out.data(format!("{} is valid", plain(workflow.name())));
        }
    }
    if errors > 0 {
        return Err(Failure::new(BAD_INPUT, format!("{errors} errors in the workflow")));
    }
    Ok(())
}
