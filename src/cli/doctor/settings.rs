//! Checks whether the configuration can be read and is valid.
//!
//! Owns the first check: with an invalid configuration nothing starts, and nothing else can
//! be checked.

use super::check::Check;
use crate::{
    cli::exit::CONFIGURATION,
    config::{Loaded, errors::ConfigErrors},
};

const NAME: &str = "configuration";

/// Judges the result of loading the configuration.
pub(super) fn judge(loaded: Result<&Loaded, &ConfigErrors>) -> Vec<Check> {
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
