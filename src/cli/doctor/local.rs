//! Checks the local backends to which a job may go: ComfyUI and the Hugging Face Spaces.
//!
//! Owns what an unavailable backend means. In mode `local` it is a failure if no other one
//! is available; in mode `auto` only the fallback for RunComfy is missing. [`probes`] makes
//! the calls.

use secrecy::SecretString;

use super::{DISK_TIMEOUT, check::Check, launcher};
use crate::{
    cli::exit::UNAVAILABLE,
    clock::Clock,
    config::{
        enums::{Mode, Provider},
        secrets::{self, TokenSource},
        settings::{Config, LocalConfig, ProjectConfig},
        sources::Sources,
    },
    daemon::services::probes,
};

const COMFYUI: &str = "ComfyUI";
const SPACE: &str = "Space";
const TOKEN: &str = "Hugging Face token";

/// The results for the local backends.
pub(super) struct Local {
    /// The checks to report.
    pub(super) checks: Vec<Check>,
    serves: bool,
    is_conjures_comfyui: bool,
}

/// The result for one provider: each part with its name, its answer and its fix.
struct ProviderFindings {
    parts: Vec<(&'static str, Result<String, String>, &'static str)>,
}

impl ProviderFindings {
    fn serves(&self) -> bool {
        self.parts.iter().all(|(_, answer, _)| answer.is_ok())
    }
}

/// Asks every local backend to which a job may go.
pub(super) async fn probe_all(sources: &Sources, config: &Config, offline: bool) -> Local {
    let local = &config.local;
    let mut nothing = Local { checks: Vec::new(), serves: false, is_conjures_comfyui: false };
    if !matches!(config.mode, Mode::Local | Mode::Auto) {
        return nothing;
    }
    let has = |provider| local.providers.contains(&provider);
    let (with_comfyui, with_spaces) = (has(Provider::Comfyui), has(Provider::Huggingface));
    if offline {
        let names = [(with_comfyui, COMFYUI), (with_spaces, SPACE)];
        let asked = names.into_iter().filter(|(is_asked, _)| *is_asked);
        nothing.checks =
            asked.map(|(_, name)| Check::skipped(name, "not checked (--offline)")).collect();
        return nothing;
    }
    let mut checks = Vec::new();
    let token = if with_spaces { token(sources, config, &mut checks) } else { None };
    let (comfyui, spaces) = tokio::join!(
        async { if with_comfyui { Some(comfyui(local).await) } else { None } },
        async { if with_spaces { Some(spaces(local, token.as_ref()).await) } else { None } }
    );
    let comfyui_serves = comfyui.as_ref().is_some_and(ProviderFindings::serves);
    let serves = comfyui_serves || spaces.as_ref().is_some_and(ProviderFindings::serves);
    let told = [comfyui, spaces].into_iter().flatten().flat_map(|found| found.parts);
    let mut judged: Vec<Check> = told
        .map(|(name, answer, fix)| check_part(name, answer, fix, config.mode, serves))
        .collect();
    judged.append(&mut checks);
    let is_conjures_comfyui = comfyui_serves && local.is_conjure_comfyui();
    Local { checks: judged, serves, is_conjures_comfyui }
}

async fn comfyui(local: &LocalConfig) -> ProviderFindings {
    let url = local.comfyui_url.as_str().trim_end_matches('/');
    let answer = match probes::comfyui(local).await {
        Ok(version) => Ok(format!("{url}, version {}", version.as_deref().unwrap_or("unknown"))),
        Err(why) => Err(format!("no answer at {url}: {why}")),
    };
    let fix = "start ComfyUI, or set `local.comfyui_url` to its address";
    ProviderFindings { parts: vec![(COMFYUI, answer, fix)] }
}

async fn spaces(local: &LocalConfig, token: Option<&SecretString>) -> ProviderFindings {
    let (flux, mesh) = tokio::join!(
        probes::space(&local.flux_space, token),
        probes::space(&local.mesh_space, token)
    );
    let part = |space: &dyn std::fmt::Display, answer: Result<String, String>, fix| {
        let told = |text: String| format!("{space}: {text}");
        (SPACE, answer.map(told).map_err(told), fix)
    };
    ProviderFindings {
        parts: vec![
            part(
                &local.flux_space,
                flux,
                "set `local.flux_space` to a Space that answers, such as your own duplicate",
            ),
            part(
                &local.mesh_space,
                mesh,
                "set `local.mesh_space` to a Space that answers, such as your own duplicate",
            ),
        ],
    }
}

/// Looks for the optional Hugging Face token.
fn token(sources: &Sources, config: &Config, checks: &mut Vec<Check>) -> Option<SecretString> {
    const FIX: &str = "make that file contain only the token, or remove it: public Spaces need no \
        token";
    let search = match secrets::find_huggingface_token(sources, config) {
        Ok(search) => search,
        Err(error) => {
            checks.push(Check::warn(TOKEN, error.to_string(), FIX));
            return None;
        }
    };
    checks.extend(search.warnings.iter().map(|warning| Check::warn(TOKEN, warning, FIX)));
    let Some(token) = search.token else {
        let why = "none found; public Spaces need none, but a token raises your quota";
        checks.push(Check::skipped(TOKEN, why));
        return None;
    };
    let from = match &token.source {
        TokenSource::Dotenv(path, name) => format!("from {name} in {}", path.display()),
        source => format!("from {source}"),
    };
    checks.push(Check::ok(TOKEN, from));
    Some(token.secret)
}

/// Judges one part's answer. `serves` says whether any local backend is available.
fn check_part(
    name: &'static str,
    answer: Result<String, String>,
    fix: &str,
    mode: Mode,
    serves: bool,
) -> Check {
    match (answer, mode, serves) {
        (Ok(found), ..) => Check::ok(name, found),
        (Err(why), Mode::Auto, true) => {
            Check::skipped(name, format!("{why}; another one of `local.providers` answers"))
        }
        (Err(why), Mode::Auto, false) => {
            Check::warn(name, format!("{why}; there is no fallback if RunComfy fails"), fix)
        }
        (Err(why), _, true) => {
            Check::warn(name, format!("{why}; another one of `local.providers` is available"), fix)
        }
        (Err(why), _, false) => Check::fail(name, UNAVAILABLE, why, fix),
    }
}

impl Local {
    /// Returns whether a job could run locally now.
    pub(super) const fn serves(&self) -> bool {
        self.serves
    }

    /// Finds the checkouts whose launcher sends its own work to the same ComfyUI. The launcher's
    /// mode 5 is inactive only if nothing answers on port 8188.
    pub(super) async fn check_shared_comfyui(&self, projects: &[ProjectConfig]) -> Vec<Check> {
        let mut checks = Vec::new();
        if !self.is_conjures_comfyui {
            return checks;
        }
        for project in projects {
            let (root, now) = (project.root.clone(), Clock.now().wall);
            let look = move || launcher::launcher_uses_comfyui(&root, now);
            if probes::within(DISK_TIMEOUT, look).await == Some(true) {
                let found = "CONJURE's launcher runs in mode 5 (LOCAL) and sends its own work to \
                    the same ComfyUI every 30 seconds";
                let fix = "start ComfyUI on another port (--port 8189) and set \
                    `local.comfyui_url` to it: the launcher then finds nothing on port 8188 and \
                    does nothing";
                checks.push(Check::warn("CONJURE", found, fix).for_project(&project.name));
            }
        }
        checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::CheckStatus;

    #[test]
    fn an_absent_one_is_a_failure_only_where_nobody_else_can_do_the_work() {
        for (mode, serves, expected) in [
            (Mode::Local, false, CheckStatus::Fail),
            (Mode::Local, true, CheckStatus::Warn),
            (Mode::Auto, false, CheckStatus::Warn),
            (Mode::Auto, true, CheckStatus::Skipped),
        ] {
            let check = check_part(COMFYUI, Err("none".to_owned()), "start it", mode, serves);
            assert_eq!(check.status, expected, "{mode} {serves}");
        }
    }
}
