//! Checks whether the configuration says which RunComfy machine to start, if jobs run on one.
//!
//! Owns what can be told from the file alone. The token and the balance are checked as for every
//! paid mode.

use super::check::Check;
use crate::{
    cli::exit::CONFIGURATION,
    config::{enums::Mode, settings::Config},
};

const NAME: &str = "machine";

/// Checks `[cloud]`.
pub(super) fn inspect(config: &Config) -> Vec<Check> {
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
