//! Checks what CONJURE's words and variables mean here, and what is reported if two of
//! them disagree.

use std::time::Duration;

use super::ConfigFixture;
use crate::config::{
    Loaded,
    enums::{
        Mode::{self, Auto, Cloud, Local, Serverless},
        Provider::{self, Comfyui, Huggingface},
        ServerType,
    },
};

/// Writes `mode` into a file and sets variables, as `NAME=text`.
fn desk(mode: &str, variables: &[&str]) -> ConfigFixture {
    let text = if mode.is_empty() { String::new() } else { format!("mode = \"{mode}\"\n") };
    variables.iter().fold(ConfigFixture::with(&text), |fixture, pair| {
        let (name, text) = pair.split_once('=').expect("NAME=text");
        fixture.set(name, text)
    })
}

fn told(fixture: &ConfigFixture, loaded: &Loaded) -> String {
    fixture.without_folder(&loaded.warnings.join("\n"))
}

#[test]
fn each_mode_of_the_plan_and_of_the_menu_is_one_of_ours() {
    const BOTH: &[Provider] = &[Comfyui, Huggingface];
    let table: &[(&str, Mode, &[Provider], &str)] = &[
        ("LOCAL", Local, BOTH, ""),
        ("CLOUD", Cloud, BOTH, ""),
        ("SERVERLESS", Serverless, BOTH, ""),
        ("AUTO", Auto, BOTH, ""),
        ("Auto", Auto, BOTH, ""),
        (" Serverless ", Serverless, BOTH, ""),
        (
            "cloud_legacy",
            Cloud,
            BOTH,
            "paid by the hour; CONJURE's launcher itself sends this mode's work",
        ),
        (
            "local_comfyui",
            Local,
            &[Comfyui],
            "read as \"local\" with `local.providers = [\"comfyui\"]`",
        ),
        ("ComfyUI", Local, &[Comfyui], "`mode` is CONJURE's word \"comfyui\" (config.toml:1)"),
        ("HUGGINGFACE", Local, &[Huggingface], "with `local.providers = [\"huggingface\"]`"),
    ];
    for (word, mode, providers, why) in table {
        let fixture = desk(word, &[]);
        let loaded = fixture.loaded();
        assert_eq!(loaded.config.mode, *mode, "{word}");
        assert_eq!(loaded.config.local.providers, *providers, "{word}");
        let told = told(&fixture, &loaded);
        assert_eq!(told.is_empty(), why.is_empty(), "{word}: {told}");
        assert!(told.contains(why), "{word}: {told}");
    }
    // Explicit providers override what the mode's name says.
    let fixture =
        ConfigFixture::with("mode = \"local_comfyui\"\n[local]\nproviders = [\"huggingface\"]\n");
    let loaded = fixture.loaded();
    assert_eq!(loaded.config.local.providers, [Huggingface]);
    assert!(told(&fixture, &loaded).ends_with("with your `local.providers`"));
}

#[test]
fn the_comfyui_of_conjures_mode_5_is_known_by_its_port_on_this_machine() {
    let is = |url: &str| {
        let fixture = ConfigFixture::with(&format!("[local]\ncomfyui_url = \"{url}\"\n"));
        fixture.loaded().config.local.is_conjure_comfyui()
    };
    assert!(is("http://127.0.0.1:8188") && is("http://localhost:8188/") && is("http://[::1]:8188"));
    assert!(!is("http://127.0.0.1:8189") && !is("http://gpu.example.org:8188"));
}

#[test]
fn a_mode_that_is_none_or_pays_twice_is_refused() {
    for (word, why) in [
        ("debug", "pays for each picture twice"),
        ("DEBUG", "pays for each picture twice"),
        ("standard", "it is one of `auto`, `serverless`, `local`, `cloud`"),
        ("turbo", "it is one of `auto`"),
        ("cloudlegacy", "did you mean `cloud`?"),
        ("", "it is one of `auto`"),
    ] {
        let complaints = ConfigFixture::with(&format!("mode = \"{word}\"")).complaints();
        assert!(complaints.starts_with("config.toml:1: `mode` cannot be "), "{word}: {complaints}");
        assert!(complaints.contains(why), "{word}: {complaints}");
    }
}

/// The mode and `serverless.enabled` together decide which backends may be used: `auto` without the
/// second means local only.
#[test]
fn what_the_plan_enables_and_allows_decides_who_may_serve() {
    const OFF: &str = "RUNCOMFY_SERVERLESS_ENABLED=false";
    const ON: &str = "RUNCOMFY_SERVERLESS_ENABLED=True";
    const NO: &str = "RUNCOMFY_FALLBACK_TO_LOCAL=false";
    const YES: &str = "RUNCOMFY_FALLBACK_TO_LOCAL=true";
    const NO_TOO: &str = "RUNCOMFY_FALLBACK_ENABLED=0";
    const NOTHING: &str = "no job can start";
    let table: &[(&str, &[&str], Mode, bool, &str)] = &[
        // The plan's default: serverless, then local.
        ("", &[], Auto, true, ""),
        ("AUTO", &[ON, YES], Auto, true, ""),
        // Local only.
        ("AUTO", &[OFF], Auto, false, ""),
        ("AUTO", &[OFF, YES], Auto, false, ""),
        ("SERVERLESS", &[OFF, YES], Auto, false, ""),
        ("LOCAL", &[OFF], Local, false, ""),
        ("LOCAL", &[ON, NO], Local, true, ""),
        // Serverless only.
        ("AUTO", &[NO], Serverless, true, ""),
        ("AUTO", &[NO_TOO], Serverless, true, ""),
        ("AUTO", &[ON, NO, NO_TOO], Serverless, true, ""),
        ("SERVERLESS", &[], Serverless, true, ""),
        ("SERVERLESS", &[NO], Serverless, true, ""),
        // Allowing a fallback turns "serverless" into "auto", and leaves "cloud" as it is.
        ("SERVERLESS", &[YES], Auto, true, ""),
        ("CLOUD", &[OFF, NO], Cloud, false, ""),
        ("cloud_legacy", &[YES], Cloud, true, "CONJURE's word"),
        // No backend is left.
        ("SERVERLESS", &[OFF], Serverless, false, NOTHING),
        ("AUTO", &[OFF, NO], Serverless, false, NOTHING),
        ("", &[OFF, "CONJURED__LOCAL__PROVIDERS="], Auto, false, NOTHING),
        ("LOCAL", &["CONJURED__LOCAL__PROVIDERS="], Local, true, NOTHING),
    ];
    for (mode, variables, expected, enabled, why) in table {
        let fixture = desk(mode, variables);
        let loaded = fixture.loaded();
        let found = (loaded.config.mode, loaded.config.serverless.enabled);
        assert_eq!(found, (*expected, *enabled), "{mode} {variables:?}");
        let told = told(&fixture, &loaded);
        assert_eq!(told.is_empty(), why.is_empty(), "{mode} {variables:?}: {told}");
        assert!(told.contains(why), "{mode} {variables:?}: {told}");
    }
}

#[test]
fn a_contradiction_is_told_with_both_places() {
    for (mode, variables, places) in [
        (
            "serverless",
            &["RUNCOMFY_SERVERLESS_ENABLED=no"][..],
            "`mode` is \"serverless\" (config.toml:1) and `serverless.enabled` is false (environment variable \
             RUNCOMFY_SERVERLESS_ENABLED)",
        ),
        (
            "",
            &["RUNCOMFY_SERVERLESS_ENABLED=no", "RUNCOMFY_FALLBACK_ENABLED=no"],
            "`mode` is \"serverless\" (environment variable RUNCOMFY_FALLBACK_ENABLED) and `serverless.enabled` is \
             false (environment variable RUNCOMFY_SERVERLESS_ENABLED)",
        ),
        (
            "",
            &["CONJURED__SERVERLESS__ENABLED=false", "CONJURED__LOCAL__PROVIDERS="],
            "`serverless.enabled` is false (environment variable CONJURED__SERVERLESS__ENABLED) and `local.providers` \
             is empty (environment variable CONJURED__LOCAL__PROVIDERS)",
        ),
        (
            "",
            &["CONJURED__SERVERLESS__DEPLOYMENT_ID=one", "RUNCOMFY_DEPLOYMENT_ID=two"],
            "environment variable CONJURED__SERVERLESS__DEPLOYMENT_ID and environment variable \
             RUNCOMFY_DEPLOYMENT_ID set `serverless.deployment_id` to different values; the second one is used",
        ),
    ] {
        let fixture = desk(mode, variables);
        let told = told(&fixture, &fixture.loaded());
        assert!(told.contains(places), "{mode} {variables:?}: {told}");
    }
    let both = ["RUNCOMFY_FALLBACK_TO_LOCAL=true", "RUNCOMFY_FALLBACK_ENABLED=false"];
    assert_eq!(
        desk("", &both).complaints(),
        "environment variable RUNCOMFY_FALLBACK_ENABLED: it contradicts \
         RUNCOMFY_FALLBACK_TO_LOCAL; unset one of them"
    );
    // The same value in another notation is not a contradiction.
    let same = [
        "CONJURED__SERVERLESS__ENABLED=yes",
        "RUNCOMFY_SERVERLESS_ENABLED=1",
        "CONJURED__BUDGET__PER_SESSION_USD=2.50",
        "RUNCOMFY_COST_LIMIT_PER_SESSION=2.5",
        "CONJURED__SERVERLESS__POLL_MAX_MS=2000",
        "RUNCOMFY_POLL_INTERVAL=2",
    ];
    let same = desk("", &same);
    assert_eq!(told(&same, &same.loaded()), "");
}

#[test]
fn what_conjure_says_about_machines_and_its_comfyui_is_understood() {
    let config = desk(
        "",
        &[
            "RUNCOMFY_DEFAULT_SERVER_TYPE=X-Large",
            "RUNCOMFY_DEFAULT_DURATION=3601",
            "RUNCOMFY_MACHINE_TIMEOUT=1800",
            "CONJURE_IDLE_TIMEOUT=600",
            "COMFYUI_EXECUTION_TIMEOUT=2000",
            // These have no counterpart, whatever their value.
            "RUNCOMFY_MAX_RETRIES=many",
            "RUNCOMFY_COST_TRACKING=sometimes",
            "RUNCOMFY_API_BASE_URL=elsewhere",
            "CONJURE_AUTO_SHUTDOWN=false",
            "CONJURE_MACHINE_REUSE=false",
            "COMFYUI_POLL_INTERVAL=5",
        ],
    )
    .loaded()
    .config;
    assert_eq!(config.cloud.server_type, ServerType::ExtraLarge);
    assert_eq!(config.cloud.max_run, Duration::from_secs(61 * 60));
    assert_eq!(config.cloud.start_timeout, Duration::from_secs(1800));
    assert_eq!(config.cloud.idle_stop, Duration::from_secs(600));
    assert_eq!(config.local.timeout, Duration::from_secs(2000));
    let medium = desk("", &["RUNCOMFY_DEFAULT_SERVER_TYPE=medium"]).loaded().config;
    assert_eq!(medium.cloud.server_type, ServerType::Medium);
    for (variable, why) in [
        (
            "RUNCOMFY_DEFAULT_DURATION=soon",
            "`RUNCOMFY_DEFAULT_DURATION` must be a number of seconds",
        ),
        ("RUNCOMFY_DEFAULT_DURATION=0", "`cloud.max_minutes` is 0, but must be between 1 and 1440"),
        ("RUNCOMFY_DEFAULT_SERVER_TYPE=huge", "`cloud.server_type` cannot be \"huge\""),
        ("CONJURE_IDLE_TIMEOUT=0", "`cloud.idle_stop_s` is 0, but must be between 1 and 86400"),
    ] {
        let complaints = desk("", &[variable]).complaints();
        let name = variable.split('=').next().expect("a name");
        assert!(complaints.starts_with(&format!("environment variable {name}: ")), "{complaints}");
        assert!(complaints.contains(why), "{complaints}");
    }
}
