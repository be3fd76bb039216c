//! Cross-field validation, and default folders for empty paths.
//!
//! Owns the checks that need all layers merged; [`super::sections`] checks single values, layer
//! by layer.

use std::path::PathBuf;

use super::{
    enums::Mode,
    errors::{ConfigError, ConfigProblem},
    settings::Config,
    sources::{
        Sources,
        origin::{Origin, Origins},
        toml_source::{Table, table_of},
    },
};

/// `budget.hardware` if it is not set; a test compares it with the example.
const DEFAULT_HARDWARE: &str = "x-large";

/// Completes `config`, which was read from `table`. Returns the settings that are allowed but
/// probably not meant.
pub(super) fn complete(
    config: &mut Config,
    table: &Table,
    places: &Origins,
    sources: &Sources,
) -> Result<Vec<String>, Vec<ConfigError>> {
    let mut problems = Vec::new();
    let place_of = |section: &str, key: &str| {
        let value = table.get(section).and_then(table_of).and_then(|section| section.get(key));
        value.map_or(Origin::BuiltIn(1), |value| places.of(value))
    };
    if let Some(dir) = state_dir(config, sources) {
        config.state_dir = dir;
    } else {
        let rule = "is not set, and without a home folder (HOME is not set) there is no default; \
            give --state-dir DIR or set STATE_DIRECTORY";
        let origin = table.get("state_dir").map_or(Origin::BuiltIn(1), |value| places.of(value));
        let problem = ConfigProblem::Rule { key: "state_dir".to_owned(), rule: rule.to_owned() };
        problems.push(ConfigError { origin, problem });
    }
    if config.log.dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
        let given = sources.systemd_folder("LOGS_DIRECTORY").map(std::path::Path::to_path_buf);
        let usual = given.or_else(|| sources.default_log_dir.clone());
        config.log.dir = Some(usual.unwrap_or_else(|| config.state_dir.join("logs")));
    }
    // Writing the default explicitly (as in a copy of the example) is not a decision: the
    // deployment's own answer is better.
    let budget = &mut config.budget;
    budget.hardware_is_set = !matches!(place_of("budget", "hardware"), Origin::BuiltIn(_))
        && budget.hardware.name != DEFAULT_HARDWARE;
    let serverless = &config.serverless;
    if serverless.poll_min > serverless.poll_max {
        let (least, most) =
            (place_of("serverless", "poll_min_ms"), place_of("serverless", "poll_max_ms"));
        // The value that the user wrote is the one to correct.
        let least_is_default = matches!(least, Origin::BuiltIn(_));
        let rule = format!(
            "is {}, more than `serverless.poll_max_ms`, which is {}",
            serverless.poll_min.as_millis(),
            serverless.poll_max.as_millis()
        );
        let origin = if least_is_default { most } else { least };
        let key = "serverless.poll_min_ms".to_owned();
        problems.push(ConfigError { origin, problem: ConfigProblem::Rule { key, rule } });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut found = apply_conjure_mode(config, table, places, &place_of);
    found.extend(warnings(config, table, places));
    Ok(found)
}

/// Applies what CONJURE's own name for a mode says beyond the mode, and returns how it
/// was interpreted.
fn apply_conjure_mode(
    config: &mut Config,
    table: &Table,
    places: &Origins,
    place_of: &impl Fn(&str, &str) -> Origin,
) -> Vec<String> {
    let Some(value) = table.get("mode") else { return Vec::new() };
    let text = value.clone().into_string().unwrap_or_default();
    let Some((word, mode, provider)) = Mode::from_conjure(&text) else { return Vec::new() };
    let taken = match provider {
        // Explicit providers have precedence.
        Some(provider) if matches!(place_of("local", "providers"), Origin::BuiltIn(_)) => {
            config.local.providers = vec![provider];
            format!("\"{mode}\" with `local.providers = [\"{provider}\"]`")
        }
        Some(_) => format!("\"{mode}\" with your `local.providers`"),
        None => format!(
            "\"{mode}\", a RunComfy machine that is paid by the hour; CONJURE's launcher itself sends this mode's work to \
             the serverless deployment, which is \"serverless\" here"
        ),
    };
    vec![format!(
        "`mode` is CONJURE's word \"{word}\" ({}); it is read as {taken}",
        places.of(value)
    )]
}

/// Returns where `section.key`, or the top-level `mode`, was last written.
fn origin_of(table: &Table, places: &Origins, section: &str, key: &str) -> String {
    let within =
        if section.is_empty() { Some(table) } else { table.get(section).and_then(table_of) };
    match within.and_then(|within| within.get(key)).map(|value| places.of(value)) {
        None | Some(Origin::BuiltIn(_)) => "the default".to_owned(),
        Some(origin) => origin.to_string(),
    }
}

/// In order: the flag, the setting, systemd, the platform.
fn state_dir(config: &Config, sources: &Sources) -> Option<PathBuf> {
    if let Some(dir) = &sources.state_dir {
        return Some(sources.folders.on_command_line(dir));
    }
    if !config.state_dir.as_os_str().is_empty() {
        return Some(config.state_dir.clone());
    }
    let given = sources.systemd_folder("STATE_DIRECTORY").map(std::path::Path::to_path_buf);
    given.or_else(|| sources.default_state_dir.clone())
}

fn warnings(config: &Config, table: &Table, places: &Origins) -> Vec<String> {
    let mut warnings = Vec::new();
    let at = |section: &str, key: &str| origin_of(table, places, section, key);
    let trigger = &config.trigger;
    if trigger.prompt_max_wait < trigger.prompt_quiet {
        warnings.push(format!(
            "`trigger.prompt_max_wait_ms` ({}) is less than `trigger.prompt_quiet_ms` ({}): a \
             prompt is sent after the shorter time, even while it is still changing",
            trigger.prompt_max_wait.as_millis(),
            trigger.prompt_quiet.as_millis()
        ));
    }
    if config.mode == Mode::Serverless && !config.serverless.enabled {
        warnings.push(format!(
            "`mode` is \"serverless\" ({}) and `serverless.enabled` is false ({}): no job can start",
            at("", "mode"),
            at("serverless", "enabled")
        ));
    }
    if config.local.providers.is_empty() {
        let (mode, providers) = (at("", "mode"), at("local", "providers"));
        if config.mode == Mode::Local {
            warnings.push(format!(
                "`mode` is \"local\" ({mode}) and `local.providers` is empty ({providers}): no job can start"
            ));
        } else if config.mode == Mode::Auto && !config.serverless.enabled {
            warnings.push(format!(
                "`serverless.enabled` is false ({}) and `local.providers` is empty ({providers}): no job can start",
                at("serverless", "enabled")
            ));
        }
    }
    if config.serverless.download_hosts.is_empty() {
        warnings
            .push("`serverless.download_hosts` is empty: no result can be downloaded".to_owned());
    }
    for project in &config.projects {
        if project.mesh.is_empty() {
            warnings.push(format!(
                "project \"{}\" has no `mesh` names: meshes stay in the history",
                project.name
            ));
        }
    }
    warnings
}
