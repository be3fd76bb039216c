//! Checks whether CONJURE's own launcher generates as well: then every change is paid twice, and
//! both write the same files.
//!
//! Owns the judgement of `data/input/state.json`, which is read once and never written.

use std::{path::Path, time::Duration};

use super::check::Check;
use crate::{
    cli::{exit::JOB_FAILED, out::span},
    disk::{
        probe,
        read::{self, ReadOutcome},
    },
    domain::{
        blender::{
            competing_launcher::{CompetingLauncher, LauncherState, SWITCH_OFF, launcher_state},
            handoff::{STATE_FILE, document::StateDocument},
        },
        time::WallTime,
    },
};

const NAME: &str = "CONJURE";

/// Far above a real state file, which has a few hundred bytes; a file ten thousand times as large
/// is something else.
const LIMIT: u64 = 4 << 20;

/// A running launcher writes its state at least every 30 seconds; after this long without a write
/// it is not running, whatever the file says.
const LAUNCHER_MAX_AGE: Duration = Duration::from_secs(15 * 60);

/// Checks the launcher's state.
pub(super) fn inspect(root: &Path, now: WallTime) -> Check {
    let path = root.join(STATE_FILE);
    let state = match read::read_complete(&path, LIMIT) {
        Ok(ReadOutcome::Complete { bytes, .. }) => StateDocument::parse(&bytes).ok(),
        Ok(ReadOutcome::Missing) => {
            return Check::ok(NAME, "its launcher has never run here");
        }
        Ok(ReadOutcome::Changing) => None,
        Err(error) => {
            return Check::warn(
                NAME,
                error.to_string(),
                "give conjured's user read permission for CONJURE's state",
            );
        }
    };
    let age = probe::changed_at(&path).map_or(Duration::ZERO, |at| now.since(at));
    state.map_or_else(
        || {
            Check::warn(
                NAME,
                format!("{} is incomplete at the moment", path.display()),
                "run this again; if that does not help, restart CONJURE's launcher, which hangs \
                 on such a file",
            )
        },
        |state| check_launcher(&launcher_state(&state.conjure_state()), age),
    )
}

/// Returns whether the launcher runs in mode 5, in which it sends its work to the ComfyUI on port
/// 8188, if there is one.
pub(super) fn launcher_uses_comfyui(root: &Path, now: WallTime) -> bool {
    let path = root.join(STATE_FILE);
    let Ok(ReadOutcome::Complete { bytes, .. }) = read::read_complete(&path, LIMIT) else {
        return false;
    };
    let age = probe::changed_at(&path).map_or(Duration::ZERO, |at| now.since(at));
    StateDocument::parse(&bytes)
        .is_ok_and(|state| launcher_state(&state.conjure_state()) == LauncherState::Harmless)
        && age <= LAUNCHER_MAX_AGE
}

fn check_launcher(launcher: &LauncherState, age: Duration) -> Check {
    match launcher {
        LauncherState::Off => Check::ok(NAME, "its launcher is not running"),
        LauncherState::Harmless => {
            Check::ok(NAME, "its launcher runs in mode 5 (local ComfyUI) and causes no costs")
        }
        LauncherState::Generates(CompetingLauncher { mode, .. })
        | LauncherState::Unclear { mode }
            if age > LAUNCHER_MAX_AGE =>
        {
            Check::ok(
                NAME,
                format!(
                    "its launcher is not running (last seen {} ago in mode `{mode}`)",
                    span(age)
                ),
            )
        }
        LauncherState::Generates(CompetingLauncher { mode, is_paid, is_generating: now }) => {
            let pays = if *is_paid {
                "pays for a run every 30 seconds"
            } else {
                "sends a run to public services every 30 seconds"
            };
            let at_work = if *now { "; it is generating right now" } else { "" };
            Check::fail(
                NAME,
                JOB_FAILED,
                format!(
                    "CONJURE's own launcher generates too (mode `{mode}`): it {pays} and \
                     overwrites conjured's files{at_work}"
                ),
                SWITCH_OFF,
            )
        }
        LauncherState::Unclear { mode } => {
            let mode = if mode.is_empty() {
                "an unknown mode".to_owned()
            } else {
                format!("mode `{mode}`")
            };
            Check::warn(
                NAME,
                format!("its launcher runs in {mode} and may generate too"),
                SWITCH_OFF,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::CheckStatus, *};

    #[test]
    fn a_launcher_that_generates_is_a_failure_unless_it_is_long_gone() {
        let paid = LauncherState::Generates(CompetingLauncher {
            mode: "serverless".into(),
            is_paid: true,
            is_generating: true,
        });
        let check = check_launcher(&paid, Duration::ZERO);
        assert_eq!(check.status, CheckStatus::Fail);
        assert!(check.found.contains("right now") && check.fix.expect("a fix").contains("mode 5"));
        assert_eq!(check_launcher(&paid, LAUNCHER_MAX_AGE * 2).status, CheckStatus::Ok);
        assert_eq!(
            check_launcher(&LauncherState::Harmless, Duration::ZERO).status,
            CheckStatus::Ok
        );
        assert_eq!(
            check_launcher(&LauncherState::Unclear { mode: String::new() }, LAUNCHER_MAX_AGE)
                .status,
            CheckStatus::Warn
        );
    }
}
