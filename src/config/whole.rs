//! What values must be to one another, and the folders that stand for an empty setting.
//!
//! Owns the checks that only make sense once all layers lie over one another; each value by itself is checked in
//! [`super::sections`], layer by layer.

use std::path::PathBuf;

use super::{
    errors::{ConfigError, Problem},
    layer::table_of,
    place::{Place, Places},
    settings::Config,
    sources::Sources,
    text::Table,
    words::Mode,
};

/// `budget.hardware` where nobody says otherwise; a test compares it with the example.
const DEFAULT_HARDWARE: &str = "x-large";

/// Completes `config`, which was read from `table`. Returns what is allowed and probably not meant.
pub(super) fn complete(
    config: &mut Config,
    table: &Table,
    places: &Places,
    sources: &Sources,
) -> Result<Vec<String>, Vec<ConfigError>> {
    let mut problems = Vec::new();
    let place_of = |section: &str, key: &str| {
        let value = table.get(section).and_then(table_of).and_then(|section| section.get(key));
        value.map_or(Place::BuiltIn(1), |value| places.of(value))
    };
    if let Some(dir) = state_dir(config, sources) {
        config.state_dir = dir;
    } else {
        let rule = "is not set, and without a home folder (HOME is not set) there is none to fall back to; \
                    give --state-dir DIR or set STATE_DIRECTORY";
        let place = table.get("state_dir").map_or(Place::BuiltIn(1), |value| places.of(value));
        let problem = Problem::Rule { key: "state_dir".to_owned(), rule: rule.to_owned() };
        problems.push(ConfigError { place, problem });
    }
    if config.log.dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
        let given = sources.systemd_folder("LOGS_DIRECTORY").map(std::path::Path::to_path_buf);
        let usual = given.or_else(|| sources.default_log_dir.clone());
        config.log.dir = Some(usual.unwrap_or_else(|| config.state_dir.join("logs")));
    }
    // The default written out once more (a copy of the example has it) is no opinion: the deployment knows better.
    let budget = &mut config.budget;
    budget.hardware_is_set = !matches!(place_of("budget", "hardware"), Place::BuiltIn(_))
        && budget.hardware.name != DEFAULT_HARDWARE;
    let serverless = &config.serverless;
    if serverless.poll_min > serverless.poll_max {
        let (least, most) =
            (place_of("serverless", "poll_min_ms"), place_of("serverless", "poll_max_ms"));
        // The one a person wrote is the one to correct.
        let least_is_default = matches!(least, Place::BuiltIn(_));
        let rule = format!(
            "is {}, more than `serverless.poll_max_ms`, which is {}",
            serverless.poll_min.as_millis(),
            serverless.poll_max.as_millis()
        );
        let place = if least_is_default { most } else { least };
        let key = "serverless.poll_min_ms".to_owned();
        problems.push(ConfigError { place, problem: Problem::Rule { key, rule } });
    }
    if problems.is_empty() { Ok(warnings(config)) } else { Err(problems) }
}

/// Flag, then setting, then systemd, then platform.
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

fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let trigger = &config.trigger;
    if trigger.prompt_max_wait < trigger.prompt_quiet {
        warnings.push(format!(
            "`trigger.prompt_max_wait_ms` ({}) is less than `trigger.prompt_quiet_ms` ({}): a prompt is sent after the \
             shorter time, whether it has settled or not",
            trigger.prompt_max_wait.as_millis(),
            trigger.prompt_quiet.as_millis()
        ));
    }
    if config.mode == Mode::Serverless && !config.serverless.enabled {
        warnings.push(
            "`mode` is \"serverless\" and `serverless.enabled` is false: no job can start"
                .to_owned(),
        );
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
