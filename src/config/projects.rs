//! The `[[project]]` blocks: which checkouts are served, and where their files are.
//!
//! Owns a project's paths, and the check that no two projects, and no two of their files, conflict.
//! Whether the files exist is not checked: they may appear later.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use ::config::Value;

use super::{
    errors::ConfigProblem,
    settings::ProjectConfig,
    sources::{
        origin::Origin,
        toml_source::{Table, items_of, table_of, type_name},
    },
    values::{
        reader::{Completeness, ConfigReader, RawValue, SectionReader},
        same_path::{fault, key},
    },
};

/// The longest project name, in characters, because it is shown in tables.
const MAX_NAME_CHARS: usize = 64;

/// Reads every project. With `only_root` only that checkout is served: with the block that
/// describes it, if there is one, or else with the default names.
pub(super) fn read_projects<'a>(
    reader: &mut ConfigReader<'a>,
    table: &'a Table,
    only_root: Option<&PathBuf>,
) -> Vec<ProjectConfig> {
    let usual = usual_names(reader);
    let mut projects = Vec::new();
    if let Some(value) = table.get("project") {
        let origin = reader.origins.of(value);
        // The default checkout is not wanted if another one was requested.
        if !(only_root.is_some() && matches!(origin, Origin::BuiltIn(_))) {
            for block in blocks(reader, value, &origin) {
                let origin = reader.origins.of(block);
                projects.extend(read_block(reader, block, usual).map(|project| (project, origin)));
            }
        }
    } else if reader.completeness == Completeness::All {
        let problem = ConfigProblem::Missing { key: "project".to_owned(), why: " in the defaults" };
        reader.report(Origin::BuiltIn(1), problem);
    }
    report_collisions(reader, &projects);
    let mut projects: Vec<_> = projects.into_iter().map(|(project, _)| project).collect();
    if let Some(root) = only_root {
        projects.retain(|project| project.root == *root);
        if projects.is_empty()
            && let Some(usual) = usual
        {
            let mut section = reader.entry(usual, None, "project");
            projects.extend(read_files(&mut section, root.clone(), name_of(root)));
        }
    }
    projects
}

/// Returns the built-in project, whose file names are the defaults for all projects.
fn usual_names<'a>(reader: &ConfigReader<'a>) -> Option<&'a Table> {
    let defaults: &'a Table = reader.defaults;
    defaults.get("project").and_then(items_of)?.first().and_then(table_of)
}

fn blocks<'a>(reader: &mut ConfigReader<'a>, value: &'a Value, origin: &Origin) -> &'a [Value] {
    let problem = match (items_of(value), table_of(value)) {
        (Some([]), _) => ConfigProblem::Rule {
            key: "project".to_owned(),
            rule: "must name at least one checkout".to_owned(),
        },
        (Some(blocks), _) => return blocks,
        (None, Some(_)) => ConfigProblem::Rule {
            key: "project".to_owned(),
            rule: "is a list: write [[project]], with two brackets".to_owned(),
        },
        (None, None) => ConfigProblem::WrongType {
            key: "project".to_owned(),
            expected: "a list of [[project]] blocks".to_owned(),
            found: type_name(value),
        },
    };
    reader.report(origin.clone(), problem);
    &[]
}

fn read_block<'a>(
    reader: &mut ConfigReader<'a>,
    block: &'a Value,
    usual: Option<&'a Table>,
) -> Option<ProjectConfig> {
    let origin = reader.origins.of(block);
    let Some(table) = table_of(block) else {
        let problem = ConfigProblem::WrongType {
            key: "project".to_owned(),
            expected: "a list of [[project]] blocks".to_owned(),
            found: type_name(block),
        };
        reader.report(origin, problem);
        return None;
    };
    let mut section = reader.entry(table, usual, "project");
    let root = match section.find_own("root").map(|value| (root(&value), value.origin)) {
        Some((Ok(root), _)) => Some(root),
        Some((Err(problem), origin)) => {
            section.report(origin, problem);
            None
        }
        None => {
            let why = "; each [[project]] needs the folder of its CONJURE checkout, such as root \
                = \"~/CONJURE\"";
            section.report(origin, ConfigProblem::Missing { key: "project.root".to_owned(), why });
            None
        }
    };
    let name = match section.find_own("name").map(|value| (name(&value), value.origin)) {
        Some((Ok(name), _)) => Some(name),
        Some((Err(problem), origin)) => {
            section.report(origin, problem);
            None
        }
        None => root.as_deref().map(name_of),
    };
    // The files are read in any case, so that their errors are in the same report.
    let project = read_files(
        &mut section,
        root.clone().unwrap_or_default(),
        name.clone().unwrap_or_default(),
    );
    section.finish();
    project.filter(|_| root.is_some() && name.is_some())
}

fn read_files(
    section: &mut SectionReader<'_, '_>,
    root: PathBuf,
    name: String,
) -> Option<ProjectConfig> {
    let file = |value: &RawValue<'_>| path_below_root(value, &root);
    let prompt = section.read("prompt", None, |value| file(value).map(Some));
    let render = section.read("render", None, |value| file(value).map(Some));
    let image =
        section.list("image", "file names", |value| require_extension(file(value)?, "png", value));
    let mesh =
        section.list("mesh", "file names", |value| require_extension(file(value)?, "glb", value));
    Some(ProjectConfig { name, prompt: prompt?, render: render?, root, image, mesh })
}

fn root(value: &RawValue<'_>) -> Result<PathBuf, ConfigProblem> {
    match value.path() {
        Ok(Some(root)) => Ok(root),
        Ok(None) => Err(value.rule("must not be empty: it is the folder of a CONJURE checkout")),
        // The user did not write this block and cannot correct it.
        Err(_) if matches!(value.origin, Origin::BuiltIn(_)) => Err(value.rule(
            "is ~/CONJURE, but there is no home folder (HOME is not set); give --root DIR, or a [[project]] with its root",
        )),
        Err(problem) => Err(problem),
    }
}

fn name(value: &RawValue<'_>) -> Result<String, ConfigProblem> {
    let text = value.text()?.trim();
    if text.is_empty() || text.chars().count() > MAX_NAME_CHARS {
        return Err(value.rule(format!("must have 1 to {MAX_NAME_CHARS} characters")));
    }
    Ok(text.to_owned())
}

/// Returns a project's name, taken from its folder.
fn name_of(root: &Path) -> String {
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
    if name.trim().is_empty() { "conjure".to_owned() } else { name.trim().to_owned() }
}

/// Reads the path of a project's file, relative to the project's root.
fn path_below_root(value: &RawValue<'_>, root: &Path) -> Result<PathBuf, ConfigProblem> {
    let text = value.text()?;
    if text.trim().is_empty() || text.trim_end().ends_with(std::path::is_separator) {
        return Err(value.rule("must name a file"));
    }
    let path = value.folders.resolve(text, Some(root)).map_err(|rule| value.rule(rule))?;
    fault(&path).map_or(Ok(path), |rule| Err(value.rule(rule)))
}

fn require_extension(
    path: PathBuf,
    ending: &str,
    value: &RawValue<'_>,
) -> Result<PathBuf, ConfigProblem> {
    if path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending)) {
        return Ok(path);
    }
    Err(value.rule(format!("must name files that end in .{ending}")))
}

/// Reports names and roots that occur twice, and results that would overwrite an input or another
/// result: the daemon would then trigger its own jobs, or lose a result.
fn report_collisions(reader: &mut ConfigReader<'_>, projects: &[(ProjectConfig, Origin)]) {
    let mut names: HashMap<&str, &Origin> = HashMap::new();
    let mut roots: HashMap<PathBuf, &Origin> = HashMap::new();
    let mut inputs: HashMap<PathBuf, &Origin> = HashMap::new();
    let mut outputs: HashMap<PathBuf, (&Path, &Origin)> = HashMap::new();
    let mut collide = |origin: &Origin, first: &Origin, what: String| {
        reader.report(origin.clone(), ConfigProblem::Duplicate { what, first: first.clone() });
    };
    for (project, origin) in projects {
        if let Some(first) = names.insert(&project.name, origin) {
            collide(origin, first, format!("two projects have the name {:?}", project.name));
        }
        if let Some(first) = roots.insert(key(&project.root), origin) {
            collide(
                origin,
                first,
                format!("two projects have the root {}", project.root.display()),
            );
            // Their files collide too; one error is enough.
            continue;
        }
        for input in [&project.prompt, &project.render] {
            if let Some(first) = inputs.insert(key(input), origin) {
                collide(origin, first, format!("{} is used for two inputs", input.display()));
            }
        }
        for output in project.image.iter().chain(&project.mesh) {
            if let Some((_, first)) = outputs.insert(key(output), (output, origin)) {
                collide(origin, first, format!("{} is used for two results", output.display()));
            }
        }
    }
    for (name, (output, origin)) in &outputs {
        if let Some(first) = inputs.get(name) {
            collide(
                origin,
                first,
                format!("{} is used for both a result and an input", output.display()),
            );
        }
    }
}
