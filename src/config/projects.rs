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
    errors::Problem,
    settings::ProjectConfig,
    sources::{
        layer::{items_of, table_of},
        origin::Place,
        toml_source::{Table, type_name},
    },
    values::{
        reader::{Demand, Found, Reader, Section},
        same_path::{fault, key},
    },
};

/// The longest project name, in characters, because it is shown in tables.
const LONGEST_NAME: usize = 64;

/// Reads every project. With `only_root` only that checkout is served: with the block that
/// describes it, if there is one, or else with the default names.
pub(super) fn read_projects<'a>(
    reader: &mut Reader<'a>,
    table: &'a Table,
    only_root: Option<&PathBuf>,
) -> Vec<ProjectConfig> {
    let usual = usual_names(reader);
    let mut projects = Vec::new();
    if let Some(value) = table.get("project") {
        let place = reader.places.of(value);
        // The default checkout is not wanted if another one was requested.
        if !(only_root.is_some() && matches!(place, Place::BuiltIn(_))) {
            for block in blocks(reader, value, &place) {
                let place = reader.places.of(block);
                projects.extend(read_block(reader, block, usual).map(|project| (project, place)));
            }
        }
    } else if reader.demand == Demand::All {
        let problem = Problem::Missing { key: "project".to_owned(), why: " in the defaults" };
        reader.complain(Place::BuiltIn(1), problem);
    }
    complain_of_collisions(reader, &projects);
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
fn usual_names<'a>(reader: &Reader<'a>) -> Option<&'a Table> {
    let defaults: &'a Table = reader.defaults;
    defaults.get("project").and_then(items_of)?.first().and_then(table_of)
}

fn blocks<'a>(reader: &mut Reader<'a>, value: &'a Value, place: &Place) -> &'a [Value] {
    let problem = match (items_of(value), table_of(value)) {
        (Some([]), _) => Problem::Rule {
            key: "project".to_owned(),
            rule: "must name at least one checkout".to_owned(),
        },
        (Some(blocks), _) => return blocks,
        (None, Some(_)) => Problem::Rule {
            key: "project".to_owned(),
            rule: "is a list: write [[project]], with two brackets".to_owned(),
        },
        (None, None) => Problem::WrongType {
            key: "project".to_owned(),
            expected: "a list of [[project]] blocks".to_owned(),
            found: type_name(value),
        },
    };
    reader.complain(place.clone(), problem);
    &[]
}

fn read_block<'a>(
    reader: &mut Reader<'a>,
    block: &'a Value,
    usual: Option<&'a Table>,
) -> Option<ProjectConfig> {
    let place = reader.places.of(block);
    let Some(table) = table_of(block) else {
        let problem = Problem::WrongType {
            key: "project".to_owned(),
            expected: "a list of [[project]] blocks".to_owned(),
            found: type_name(block),
        };
        reader.complain(place, problem);
        return None;
    };
    let mut section = reader.entry(table, usual, "project");
    let root = match section.find_own("root").map(|found| (root(&found), found.place)) {
        Some((Ok(root), _)) => Some(root),
        Some((Err(problem), place)) => {
            section.complain(place, problem);
            None
        }
        None => {
            let why = "; each [[project]] needs the folder of its CONJURE checkout, such as root \
                = \"~/CONJURE\"";
            section.complain(place, Problem::Missing { key: "project.root".to_owned(), why });
            None
        }
    };
    let name = match section.find_own("name").map(|found| (name(&found), found.place)) {
        Some((Ok(name), _)) => Some(name),
        Some((Err(problem), place)) => {
            section.complain(place, problem);
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

fn read_files(section: &mut Section<'_, '_>, root: PathBuf, name: String) -> Option<ProjectConfig> {
    let file = |found: &Found<'_>| beneath(found, &root);
    let prompt = section.take("prompt", None, |found| file(found).map(Some));
    let render = section.take("render", None, |found| file(found).map(Some));
    let image = section.list("image", "file names", |found| ending_in(file(found)?, "png", found));
    let mesh = section.list("mesh", "file names", |found| ending_in(file(found)?, "glb", found));
    Some(ProjectConfig { name, prompt: prompt?, render: render?, root, image, mesh })
}

fn root(found: &Found<'_>) -> Result<PathBuf, Problem> {
    match found.path() {
        Ok(Some(root)) => Ok(root),
        Ok(None) => Err(found.rule("must not be empty: it is the folder of a CONJURE checkout")),
        // The user did not write this block and cannot correct it.
        Err(_) if matches!(found.place, Place::BuiltIn(_)) => Err(found.rule(
            "is ~/CONJURE, but there is no home folder (HOME is not set); give --root DIR, or a [[project]] with its root",
        )),
        Err(problem) => Err(problem),
    }
}

fn name(found: &Found<'_>) -> Result<String, Problem> {
    let text = found.text()?.trim();
    if text.is_empty() || text.chars().count() > LONGEST_NAME {
        return Err(found.rule(format!("must have 1 to {LONGEST_NAME} characters")));
    }
    Ok(text.to_owned())
}

/// Returns a project's name, taken from its folder.
fn name_of(root: &Path) -> String {
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    if name.trim().is_empty() { "conjure".to_owned() } else { name.trim().to_owned() }
}

/// Reads the path of a project's file, relative to the project's root.
fn beneath(found: &Found<'_>, root: &Path) -> Result<PathBuf, Problem> {
    let text = found.text()?;
    if text.trim().is_empty() || text.trim_end().ends_with(std::path::is_separator) {
        return Err(found.rule("must name a file"));
    }
    let path = found.folders.resolve(text, Some(root)).map_err(|rule| found.rule(rule))?;
    fault(&path).map_or(Ok(path), |rule| Err(found.rule(rule)))
}

fn ending_in(path: PathBuf, ending: &str, found: &Found<'_>) -> Result<PathBuf, Problem> {
    if path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending)) {
        return Ok(path);
    }
    Err(found.rule(format!("must name files that end in .{ending}")))
}

/// Reports names and roots that occur twice, and results that would overwrite an input or another
/// result: the daemon would then trigger its own jobs, or lose a result.
fn complain_of_collisions(reader: &mut Reader<'_>, projects: &[(ProjectConfig, Place)]) {
    let mut names: HashMap<&str, &Place> = HashMap::new();
    let mut roots: HashMap<PathBuf, &Place> = HashMap::new();
    let mut inputs: HashMap<PathBuf, &Place> = HashMap::new();
    let mut outputs: HashMap<PathBuf, (&Path, &Place)> = HashMap::new();
    let mut collide = |place: &Place, first: &Place, what: String| {
        reader.complain(place.clone(), Problem::Duplicate { what, first: first.clone() });
    };
    for (project, place) in projects {
        if let Some(first) = names.insert(&project.name, place) {
            collide(place, first, format!("two projects have the name {:?}", project.name));
        }
        if let Some(first) = roots.insert(key(&project.root), place) {
            collide(place, first, format!("two projects have the root {}", project.root.display()));
            // Their files collide too; one error is enough.
            continue;
        }
        for input in [&project.prompt, &project.render] {
            if let Some(first) = inputs.insert(key(input), place) {
                collide(place, first, format!("{} is used for two inputs", input.display()));
            }
        }
        for output in project.image.iter().chain(&project.mesh) {
            if let Some((_, first)) = outputs.insert(key(output), (output, place)) {
                collide(place, first, format!("{} is used for two results", output.display()));
            }
        }
    }
    for (name, (output, place)) in &outputs {
        if let Some(first) = inputs.get(name) {
            collide(
                place,
                first,
                format!("{} is used for both a result and an input", output.display()),
            );
        }
    }
}
