//! Detects whether CONJURE's own launcher generates too. Then every change is processed twice, and
//! both write the same files.
//!
//! Owns the answer, its text and the remedy; `doctor` checks before a job, a handoff after one.
//! Menu and modes are those of CONJURE's `launcher/main.py` (branch of September 2025): every 30
//! seconds the launcher sets `flux_pipeline_request` to `"new"`, changed or not, and
//! `generation_mode` says which service that uses. It only evaluates what `state.json` said.

use super::handoff::ConjureState;

/// How to switch it off, in the only way that needs no change to CONJURE and costs nothing.
pub const SWITCH_OFF: &str = "start CONJURE's launcher in mode 5 (LOCAL) while no ComfyUI listens on port 8188: its attempts then fail at once, \
     cost nothing, and voice, hand tracking and Blender keep working";

/// The launcher's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LauncherState {
    /// It reports that it is not running.
    Off,
    /// It runs in a mode that sends nothing except to a local ComfyUI.
    Harmless,
    /// It runs and generates automatically.
    Generates(CompetingLauncher),
    /// It runs in a mode that the reference does not list.
    Unclear {
        /// The name of the mode; empty if there is none.
        mode: String,
    },
}

/// A launcher that generates in parallel to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompetingLauncher {
    /// The name of the mode.
    pub mode: String,
    /// Whether the service that it uses costs money.
    pub is_paid: bool,
    /// Whether it is generating now, or was asked to.
    pub is_generating: bool,
}

impl CompetingLauncher {
    /// Returns what this means and how to stop it.
    pub fn message(&self, project: &str) -> String {
        let both =
            if self.is_paid { "both are paid" } else { "it sends each change to Hugging Face" };
        let mode = &self.mode;
        format!(
            "CONJURE's launcher generates too (project `{project}`, mode `{mode}`): {both}, and both write the same \
             files; {SWITCH_OFF}"
        )
    }
}

/// Evaluates what `state.json` says.
pub fn launcher_state(state: &ConjureState) -> LauncherState {
    if !state.is_running() {
        return LauncherState::Off;
    }
    let word = |said: &Option<String>| said.as_deref().unwrap_or_default().trim().to_owned();
    let now = word(&state.flux_pipeline_request) == "new";
    // The text is foreign and becomes part of a message.
    let mode: String =
        word(&state.generation_mode).chars().filter(|c| !c.is_control()).take(40).collect();
    match mode.as_str() {
        "local_comfyui" => LauncherState::Harmless,
        // Menu 1: public Hugging Face Spaces. `debug` runs the paid pipeline twice.
        "local" => {
            LauncherState::Generates(CompetingLauncher { mode, is_paid: false, is_generating: now })
        }
        "serverless" | "cloud_legacy" | "debug" => {
            LauncherState::Generates(CompetingLauncher { mode, is_paid: true, is_generating: now })
        }
        _ => LauncherState::Unclear { mode },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_of_the_launcher_is_recognised() {
        let of = |status: &str, mode: &str, request: &str| {
            launcher_state(&ConjureState {
                app_status: Some(status.to_owned()),
                generation_mode: Some(mode.to_owned()),
                flux_pipeline_request: Some(request.to_owned()),
                ..ConjureState::default()
            })
        };
        let generates = |mode: &str, is_paid, now| {
            LauncherState::Generates(CompetingLauncher {
                mode: mode.into(),
                is_paid,
                is_generating: now,
            })
        };
        assert_eq!(of("running", "serverless", "new"), generates("serverless", true, true));
        assert_eq!(of("running", "cloud_legacy", ""), generates("cloud_legacy", true, false));
        assert_eq!(of("running", "debug", "done"), generates("debug", true, false));
        assert_eq!(of("running", "local", "new"), generates("local", false, true));
        assert_eq!(of("running", "local_comfyui", "new"), LauncherState::Harmless);
        assert_eq!(of("shutting_down", "serverless", "new"), LauncherState::Off);
        assert_eq!(of("running", "turbo\n", ""), LauncherState::Unclear { mode: "turbo".into() });
        assert_eq!(launcher_state(&ConjureState::default()), LauncherState::Off);
    }

    #[test]
    fn a_free_launcher_is_not_described_as_paid() {
        let competitor = |mode: &str, is_paid| CompetingLauncher {
            mode: mode.to_owned(),
            is_paid,
            is_generating: true,
        };
        let told = competitor("serverless", true).message("owl");
        assert!(told.contains("`owl`") && told.contains("both are paid"), "{told}");
        assert!(told.contains("mode 5"), "{told}");
        assert!(!competitor("local", false).message("owl").contains("paid"));
    }
}
