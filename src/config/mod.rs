//! Settings: files, environment and flags become one validated [`Config`], or a list of all errors.
//!
//! Owns what can be set, and the rule that a wrong setting is found when it is read, with file and
//! line, and never later when money depends on it. It runs nothing and keeps no state: a reload is
//! another [`load`], and comparing two [`Config`]s shows what changed.
//!
//! Layers; a later one overrides an earlier one, key by key (lists are replaced as a whole):
//! 1. the built-in defaults, which are `config.example.toml` itself;
//! 2. the machine's file; 3. the user's file; 4. `--config FILE`;
//! 5. `CONJURED__SECTION__KEY` in the environment; 6. CONJURE's own variables;
//! 7. `--root` and `--state-dir`.
//!
//! Each layer is also validated separately, so that an error is found even while a later layer
//! overrides it.

pub mod errors;
mod unimplemented;
mod projects;
pub mod secrets;
pub mod sections;
pub mod settings;
pub mod sources;
pub mod values;
pub mod starter;
mod validate;
pub mod enums;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use self::{
    errors::{ConfigError, ConfigErrors, ConfigProblem},
    settings::Config,
    sources::{
        Layer, Sources,
        files::ReadError,
        merge,
        origin::{Origin, Origins},
        toml_source::{Table, TextSource},
    },
    values::reader::{Completeness, ConfigReader},
};

/// The built-in defaults: every key, commented.
pub const EXAMPLE: &str = include_str!("../../config.example.toml");

/// The largest configuration file that is read. A file with a thousand projects is a fifth of that.
const FILE_LIMIT_KB: u64 = 1024;

/// The most errors that are reported for one layer.
const MAX_PROBLEMS: usize = 100;

/// A configuration and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The validated settings.
    pub config: Config,
    /// The files that were read, earlier layers first; a change in one of them is a reason
    /// to reload.
    pub files: Vec<PathBuf>,
    /// The files that were looked for but do not exist; one that appears is a reason to reload too.
    pub absent: Vec<PathBuf>,
    /// Settings that are allowed but probably not meant, one sentence each.
    pub warnings: Vec<String>,
    /// Settings that were set but have no effect yet, one sentence each.
    pub not_in_effect: Vec<String>,
    /// Whether no project was configured, so that the built-in default is served.
    pub default_project: bool,
}

/// Reads, validates and merges every layer. The errors of all layers are returned together.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let mut places = Origins::default();
    let defaults = sources::toml_source::read_document(EXAMPLE, &TextSource::BuiltIn, &mut places)
        .map_err(ConfigErrors)?;
    let mut layers = vec![Layer { table: defaults.clone(), by_user: false }];
    let mut problems = Vec::new();

    let mut read = Vec::new();
    let mut absent = Vec::new();
    for (path, needed) in sources.files() {
        match read_file(&path, needed, &mut places) {
            Ok(Some(table)) => {
                layers.push(Layer { table, by_user: true });
                read.push(path);
            }
            Ok(None) => absent.push(path),
            Err(mut found) => problems.append(&mut found),
        }
    }
    let own = sources::environment::own_variables(&sources.env, &mut places);
    layers.push(own.clone());
    let (layer, mut untranslated) =
        sources::environment::runcomfy_variables(&sources.env, &layers, &mut places);
    let set_twice = sources::environment::conflicting_variables(&own, &layer, &places);
    layers.push(layer);

    let root = sources.root.as_ref().map(|root| sources.folders.on_command_line(root));
    let reader = |demand| ConfigReader {
        origins: &places,
        folders: &sources.folders,
        defaults: &defaults,
        completeness: demand,
        problems: Vec::new(),
    };
    for layer in layers.iter().filter(|layer| layer.by_user) {
        let mut reader = reader(Completeness::Some);
        let _: Config = sections::read(&mut reader, &layer.table, None);
        // Tables have no order; report the errors from top to bottom.
        reader.problems.sort_by_cached_key(|error| (error.origin.line(), error.to_string()));
        problems.append(&mut shortened(reader.problems));
    }
    problems.append(&mut untranslated);
    if !problems.is_empty() {
        return Err(ConfigErrors(problems));
    }

    let merged = merge(&layers).map_err(|error| {
        let problem = ConfigProblem::Merge(error.to_string());
        ConfigErrors(vec![ConfigError { origin: Origin::BuiltIn(1), problem }])
    })?;
    let mut reader = reader(Completeness::All);
    let mut config = sections::read(&mut reader, &merged, root.as_ref());
    if !reader.problems.is_empty() {
        return Err(ConfigErrors(reader.problems));
    }
    let mut warnings =
        validate::complete(&mut config, &merged, &places, sources).map_err(ConfigErrors)?;
    warnings.extend(set_twice);
    let default_project = root.is_none() && is_default_project(&merged, &places);
    if default_project && read.is_empty() {
        warnings.push(format!(
            "there is no configuration file: serving {}; --root DIR serves another CONJURE checkout",
            config.projects.first().map(|project| project.root.display().to_string()).unwrap_or_default()
        ));
    }
    let not_in_effect = unimplemented::not_in_effect(&layers, &places);
    Ok(Loaded { config, files: read, absent, warnings, not_in_effect, default_project })
}

/// Cuts a list of errors that is too long to read.
fn shortened(mut problems: Vec<ConfigError>) -> Vec<ConfigError> {
    if problems.len() > MAX_PROBLEMS {
        let more = problems.len() - MAX_PROBLEMS;
        let origin = problems[MAX_PROBLEMS].origin.clone();
        problems.truncate(MAX_PROBLEMS);
        problems.push(ConfigError { origin, problem: ConfigProblem::More(more) });
    }
    problems
}

fn is_default_project(merged: &Table, places: &Origins) -> bool {
    merged.get("project").is_some_and(|value| matches!(places.of(value), Origin::BuiltIn(_)))
}

/// Reads one file; returns `None` if it is missing and optional.
fn read_file(
    path: &std::path::Path,
    needed: bool,
    places: &mut Origins,
) -> Result<Option<Table>, Vec<ConfigError>> {
    let file: Arc<std::path::Path> = Arc::from(path);
    let whole_file =
        |problem| vec![ConfigError { origin: Origin::File(Arc::clone(&file)), problem }];
    let bytes = match sources::files::read_small(path, FILE_LIMIT_KB * 1024) {
        Ok(bytes) => bytes,
        Err(ReadError::Missing(_)) if !needed => return Ok(None),
        Err(ReadError::Missing(cause) | ReadError::Io(cause)) => {
            return Err(whole_file(ConfigProblem::Unreadable(cause)));
        }
        Err(ReadError::TooLarge) => {
            return Err(whole_file(ConfigProblem::TooLarge { limit_kb: FILE_LIMIT_KB }));
        }
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let origin = sources::toml_source::first_bad_line(&bytes, error.valid_up_to(), &file);
        vec![ConfigError { origin, problem: ConfigProblem::NotUtf8 }]
    })?;
    sources::toml_source::read_document(text, &TextSource::File(Arc::clone(&file)), places)
        .map(Some)
}
