//! Checks whether the configuration can be read and is valid.
//!
//! Owns what can be told from the files alone: the first check, because with an invalid
//! configuration nothing starts and nothing else can be checked, and that of `[cloud]`.

use super::check::Check;
use crate::{
    cli::exit::CONFIGURATION,
    config::{Loaded, enums::Mode, errors::ConfigErrors, settings::Config},
};

const NAME: &str = "configuration";

pub(super) fn check_settings(loaded: Result<&Loaded, &ConfigErrors>) -> Vec<Check> {
    let loaded = match loaded {
        Err(errors) => {
            return vec![Check::fail(
                NAME,
                CONFIGURATION,
                errors.to_string(),
                "correct these lines; `config.example.toml` shows every key",
            )];
        }
        Ok(loaded) => loaded,
    };
    let mut checks = Vec::new();
    for warning in &loaded.warnings {
        checks.push(Check::warn(
            NAME,
            warning,
            if loaded.files.is_empty() {
                "write a configuration with `conjured init`"
            } else {
                "correct it in the configuration"
            },
        ));
    }
    if !loaded.not_in_effect.is_empty() {
        checks.push(Check::warn(
            NAME,
            format!("set, but not supported in this version: {}", loaded.not_in_effect.join(", ")),
            "do not rely on these settings yet",
        ));
    }
    if checks.is_empty() {
        let files: Vec<String> =
            loaded.files.iter().map(|file| file.display().to_string()).collect();
        let read = if files.is_empty() { "the defaults".to_owned() } else { files.join(", ") };
        checks.push(Check::ok(NAME, format!("{read} (mode {})", loaded.config.mode)));
    }
    checks
}

/// Checks whether `[cloud]` says which RunComfy machine to start, if jobs run on one. The token and
/// the balance are checked as for every paid mode.
pub(super) fn cloud(config: &Config) -> Vec<Check> {
    const NAME: &str = "machine";
    if config.mode != Mode::Cloud {
        return Vec::new();
    }
    let cloud = &config.cloud;
    let ids = [
        (
            &cloud.user_id,
            "`cloud.user_id` is not set",
            "set it, or RUNCOMFY_USER_ID, to your RunComfy user id from the profile page",
        ),
        (
            &cloud.workflow_version_id,
            "`cloud.workflow_version_id` is not set",
            "set it to the version of your saved workflow with which a machine starts",
        ),
    ];
    let mut checks: Vec<Check> = ids
        .into_iter()
        .filter(|(id, ..)| id.is_none())
        .map(|(_, found, fix)| {
            Check::fail(NAME, CONFIGURATION, format!("{found}, so no machine can be started"), fix)
        })
        .collect();
    if checks.is_empty() {
        checks.push(Check::ok(
            NAME,
            format!(
                "{}; stopped after {} s without work, and after {} minutes at the latest",
                cloud.server_type,
                cloud.idle_stop.as_secs(),
                cloud.max_run.as_secs() / 60
            ),
        ));
    }
    checks
}
