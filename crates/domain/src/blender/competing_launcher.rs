//! Detects whether CONJURE's own launcher generates too. Then every change is processed twice, and
//! both write the same files.
//!
//! Owns the answer, its text and the remedy; `doctor` checks before a job, a handoff after one.
//! Menu and modes are those of CONJURE's `launcher/main.py` (branch of September 2025): every 30
//! seconds the launcher sets `flux_pipeline_request` to `"new"`, changed or not, and
//! `generation_mode` says which service that uses. It only evaluates what `state.json` said.

use super::handoff::Seen;

/// How to switch it off, in the only way that needs no change to CONJURE and costs nothing.
pub const SWITCH_OFF: &str = "start CONJURE's launcher in mode 5 (LOCAL) while no ComfyUI listens on port 8188: its attempts then fail at once, \
     cost nothing, and voice, hand tracking and Blender keep working";

/// The launcher's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// It reports that it is not running.
    Off,
    /// It runs in a mode that sends nothing except to a local ComfyUI.
    Harmless,
    /// It runs and generates automatically.
    Generates(Rival),
    /// It runs in a mode that the reference does not list.
    Unclear {
        /// The name of the mode; empty if there is none.
        mode: String,
    },
}

/// A launcher that generates in parallel to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// The name of the mode.
    pub mode: String,
    /// Whether the service that it uses costs money.
    pub is_paid: bool,
    /// Whether it is generating now, or was asked to.
    pub now: bool,
}

impl Rival {
    /// Returns what this means and how to stop it.
    pub fn words(&self, project: &str) -> String {
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
pub fn launcher(seen: &Seen) -> Launcher {
    if !seen.is_running() {
        return Launcher::Off;
    }
    let word = |said: &Option<String>| said.as_deref().unwrap_or_default().trim().to_owned();
    let now = word(&seen.flux_pipeline_request) == "new";
    // The text is foreign and becomes part of a message.
    let mode: String =
        word(&seen.generation_mode).chars().filter(|c| !c.is_control()).take(40).collect();
    match mode.as_str() {
        "local_comfyui" => Launcher::Harmless,
        // Menu 1: public Hugging Face Spaces. `debug` runs the paid pipeline twice.
        "local" => Launcher::Generates(Rival { mode, is_paid: false, now }),
        "serverless" | "cloud_legacy" | "debug" => {
            Launcher::Generates(Rival { mode, is_paid: true, now })
        }
        _ => Launcher::Unclear { mode },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_of_the_launcher_is_recognised() {
        let of = |status: &str, mode: &str, request: &str| {
            launcher(&Seen {
                app_status: Some(status.to_owned()),
                generation_mode: Some(mode.to_owned()),
                flux_pipeline_request: Some(request.to_owned()),
                ..Seen::default()
            })
        };
        let generates = |mode: &str, is_paid, now| {
            Launcher::Generates(Rival { mode: mode.into(), is_paid, now })
        };
        assert_eq!(of("running", "serverless", "new"), generates("serverless", true, true));
        assert_eq!(of("running", "cloud_legacy", ""), generates("cloud_legacy", true, false));
        assert_eq!(of("running", "debug", "done"), generates("debug", true, false));
        assert_eq!(of("running", "local", "new"), generates("local", false, true));
        assert_eq!(of("running", "local_comfyui", "new"), Launcher::Harmless);
        assert_eq!(of("shutting_down", "serverless", "new"), Launcher::Off);
        assert_eq!(of("running", "turbo\n", ""), Launcher::Unclear { mode: "turbo".into() });
        assert_eq!(launcher(&Seen::default()), Launcher::Off);
    }

    #[test]
    fn a_free_launcher_is_not_described_as_paid() {
        let rival = |mode: &str, is_paid| Rival { mode: mode.to_owned(), is_paid, now: true };
        let told = rival("serverless", true).words("owl");
        assert!(told.contains("`owl`") && told.contains("both are paid"), "{told}");
        assert!(told.contains("mode 5"), "{told}");
        assert!(!rival("local", false).words("owl").contains("paid"));
    }
}
