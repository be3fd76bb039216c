//! Does CONJURE's own launcher generate as well? Read from its `data/input/state.json`.
//!
//! Owns the reading of that one answer. Menu and modes are those of CONJURE's `launcher/main.py` (branch of September 2025):
//! every 30 seconds the launcher sets `flux_pipeline_request` to `"new"`, changed or not, and `generation_mode` says where
//! that goes. Nobody writes here.

use serde_json::Value;

/// What the launcher's state says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// It says that it is not running.
    Off,
    /// It runs in a mode that sends nothing anywhere but to a local ComfyUI.
    Harmless,
    /// It runs and generates by itself.
    Generates {
        /// The mode's word.
        mode: String,
        /// Whether the service that it uses is paid for.
        is_paid: bool,
        /// Whether it is generating at this moment.
        now: bool,
    },
    /// It runs in a mode that no reference knows.
    Unclear {
        /// The mode's word; empty when there is none.
        mode: String,
    },
}

/// Reads a parsed `state.json`.
pub fn launcher(state: &Value) -> Launcher {
    let word = |key: &str| state.get(key).and_then(Value::as_str).unwrap_or_default().trim();
    if word("app_status") != "running" {
        return Launcher::Off;
    }
    let mode = word("generation_mode");
    let now = word("flux_pipeline_request") == "new";
    // A foreign text ends in a message.
    let name: String = mode.chars().filter(|c| !c.is_control()).take(40).collect();
    match mode {
        "local_comfyui" => Launcher::Harmless,
        // Menu 1: public Hugging Face Spaces. `debug` runs the paid pipeline twice.
        "local" => Launcher::Generates { mode: name, is_paid: false, now },
        "serverless" | "cloud_legacy" | "debug" => {
            Launcher::Generates { mode: name, is_paid: true, now }
        }
        _ => Launcher::Unclear { mode: name },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_mode_of_the_launcher_is_told_apart() {
        let of = |status: &str, mode: &str, request: Value| {
            launcher(
                &json!({"app_status": status, "generation_mode": mode, "flux_pipeline_request": request}),
            )
        };
        let paid =
            |mode: &str, is_paid, now| Launcher::Generates { mode: mode.into(), is_paid, now };
        assert_eq!(of("running", "serverless", json!("new")), paid("serverless", true, true));
        assert_eq!(of("running", "cloud_legacy", Value::Null), paid("cloud_legacy", true, false));
        assert_eq!(of("running", "debug", Value::Null), paid("debug", true, false));
        assert_eq!(of("running", "local", json!("new")), paid("local", false, true));
        assert_eq!(of("running", "local_comfyui", json!("new")), Launcher::Harmless);
        assert_eq!(of("shutting_down", "serverless", json!("new")), Launcher::Off);
        assert_eq!(of("running", "turbo", Value::Null), Launcher::Unclear { mode: "turbo".into() });
        assert_eq!(launcher(&json!([1, "running"])), Launcher::Off);
    }
}
