//! Checks which layer wins, what variables mean, and which folders are the defaults.

use std::{path::PathBuf, time::Duration};

use super::ConfigFixture;
use crate::{
    config::{
        enums::{Level, Mode, Provider},
        settings::{SeedSetting, SpaceSetting, WorkflowSource},
        sources::Sources,
    },
    domain::money::MicroUsd,
};

#[test]
fn a_later_layer_wins_key_by_key() {
    let mut fixture =
        ConfigFixture::with("[trigger]\nprompt_quiet_ms = 30\n[log]\nkeep_days = 3\n");
    fixture.sources.system_file = Some(
        fixture.write("system.toml", b"[trigger]\nprompt_quiet_ms = 10\nrender_quiet_ms = 10\n"),
    );
    fixture.sources.user_file = Some(
        fixture.write("user.toml", b"[trigger]\nprompt_quiet_ms = 20\nrender_quiet_ms = 20\n"),
    );
    let fixture = fixture
        .set("CONJURED__LOG__KEEP_DAYS", " 4 ")
        .set("CONJURED__GENERATION__STEPS_FLUX", "5")
        .set("RUNCOMFY_DEFAULT_STEPS_FLUX", "6");
    let loaded = fixture.loaded();
    assert_eq!(loaded.config.trigger.prompt_quiet, Duration::from_millis(30), "--config over user");
    assert_eq!(loaded.config.trigger.render_quiet, Duration::from_millis(20), "user over system");
    assert_eq!(loaded.config.log.keep_days, 4, "environment over files");
    assert_eq!(loaded.config.generation.steps_flux, 6, "CONJURE's variables over ours");
    assert_eq!(loaded.config.generation.steps_partpacker, 50, "what nobody set stays");
    let names: Vec<_> = loaded.files.iter().filter_map(|file| file.file_name()).collect();
    assert_eq!(names, ["system.toml", "user.toml", "config.toml"]);
}

#[test]
fn an_optional_file_may_be_absent_and_is_remembered() {
    let mut fixture = ConfigFixture::new();
    fixture.sources.user_file = Some(fixture.dir.path().join("conjured/config.toml"));
    let loaded = fixture.loaded();
    assert_eq!(loaded.files, Vec::<PathBuf>::new());
    assert_eq!(loaded.absent, [fixture.dir.path().join("conjured/config.toml")]);
}

#[test]
fn an_error_that_a_later_layer_hides_is_found_all_the_same() {
    let mut fixture = ConfigFixture::with("mode = \"serverless\"");
    fixture.sources.user_file = Some(fixture.write("user.toml", b"mode = \"nowhere\""));
    assert!(fixture.complaints().starts_with("user.toml:1: `mode` cannot be \"nowhere\""));
}

#[test]
fn a_list_is_replaced_whole() {
    let fixture = ConfigFixture::with(
        "[serverless]\ndownload_hosts = [\"LOCALHOST:9000\", \"127.0.0.1\", \"[::1]:80\"]",
    );
    assert_eq!(
        fixture.loaded().config.serverless.download_hosts,
        ["localhost:9000", "127.0.0.1", "[::1]:80"]
    );
}

#[test]
fn every_kind_of_setting_can_come_from_the_environment() {
    let config = ConfigFixture::new()
        .set("CONJURED__MODE", "Serverless")
        .set("CONJURED__TRIGGER__HOLD_WHILE_SCULPTING", "off")
        .set("CONJURED__TRIGGER__MIN_INTERVAL_S", "0.5")
        .set("CONJURED__TRIGGER__IGNORE_PROMPTS", r#"["a,b", '^x$']"#)
        .set("CONJURED__LOCAL__PROVIDERS", "huggingface, comfyui")
        .set("CONJURED__GENERATION__SEED", "42")
        .set("CONJURED__GENERATION__BIND__PROMPT", "41.value")
        .set("CONJURED__GENERATION__WORKFLOW", "graphs/mine.json")
        .set("CONJURED__LOCAL__COMFYUI_WORKFLOW", "graphs/local.json")
        .set("CONJURED__LOCAL__BIND__MESH", "title:EXPORTGLB")
        .set("CONJURED__LOCAL__FLUX_SPACE", "http://localhost:7860")
        .set("CONJURED__LOCAL__PROCESS_IMAGE", "yes")
        .set("CONJURED__LOCAL__AFTER_UNKNOWN", "1")
        .set("CONJURED__LOCAL__TIMEOUT_S", "600")
        .set("CONJURED__CLOUD__START_TIMEOUT_S", "60")
        .set("CONJURED__PAGE__LISTEN", "")
        .set("CONJURED__LOG__DIR", "-")
        .set("CONJURED__PROJECT", r#"[{ root = "/a" }, { root = "/b", name = "second" }]"#);
    let dir = config.dir.path().to_path_buf();
    let config = config.loaded().config;
    assert_eq!(config.mode, Mode::Serverless);
    assert!(!config.trigger.hold_while_sculpting);
    assert_eq!(config.trigger.min_interval, Duration::from_millis(500));
    assert_eq!(config.trigger.ignore_prompts, ["a,b", "^x$"]);
    assert_eq!(config.local.providers, [Provider::Huggingface, Provider::Comfyui]);
    assert_eq!(config.generation.seed, SeedSetting::Fixed(42));
    assert_eq!(config.generation.bind["prompt"], "41.value");
    assert_eq!(config.generation.workflow, WorkflowSource::File(dir.join("graphs/mine.json")));
    let local = &config.local;
    assert_eq!(local.comfyui_workflow, WorkflowSource::File(dir.join("graphs/local.json")));
    assert_eq!(local.bind["mesh"], "title:EXPORTGLB");
    assert_eq!(
        local.flux_space,
        SpaceSetting::At("http://localhost:7860/".parse().expect("a URL"))
    );
    assert!(local.process_image && local.after_unknown);
    assert_eq!(local.timeout, Duration::from_secs(600));
    assert_eq!(config.cloud.start_timeout, Duration::from_secs(60));
    assert_eq!((config.page.listen, config.log.dir), (None, None));
    let names: Vec<_> = config.projects.iter().map(|project| project.name.as_str()).collect();
    assert_eq!(names, ["a", "second"]);
}

#[test]
fn conjures_own_variables_mean_what_they_mean_there() {
    let config = ConfigFixture::new()
        .set("RUNCOMFY_DEPLOYMENT_ID", "dep-1")
        .set("RUNCOMFY_USER_ID", "user-1")
        .set("RUNCOMFY_SERVERLESS_ENABLED", "False")
        .set("RUNCOMFY_COST_LIMIT_PER_SESSION", "2.50")
        .set("RUNCOMFY_PREFERRED_HARDWARE", "AMPERE_80")
        .set("RUNCOMFY_DEFAULT_STEPS_FLUX", "8")
        .set("RUNCOMFY_DEFAULT_STEPS_PARTPACKER", "9")
        .set("RUNCOMFY_POLL_INTERVAL", "2")
        .set("RUNCOMFY_REQUEST_TIMEOUT", "1800")
        .loaded()
        .config;
    assert_eq!(config.serverless.deployment_id.as_deref(), Some("dep-1"));
    assert_eq!(config.cloud.user_id.as_deref(), Some("user-1"));
    assert!(!config.serverless.enabled);
    assert_eq!(config.budget.per_session, Some(MicroUsd(2_500_000)));
    assert_eq!(config.budget.hardware.name, "2x-large");
    assert_eq!((config.generation.steps_flux, config.generation.steps_partpacker), (8, 9));
    assert_eq!(config.serverless.poll_max, Duration::from_secs(2));
    assert_eq!(config.serverless.queue_timeout, Duration::from_secs(1800));
    assert_eq!(config.serverless.run_timeout, Duration::from_secs(1800));
}

#[test]
fn an_empty_variable_of_conjures_is_none() {
    let fixture = ConfigFixture::with("[serverless]\ndeployment_id = \"dep-1\"")
        .set("RUNCOMFY_DEPLOYMENT_ID", " ");
    assert_eq!(fixture.loaded().config.serverless.deployment_id.as_deref(), Some("dep-1"));
}

#[test]
fn a_fallback_turns_serverless_into_auto_and_back_and_leaves_the_rest() {
    for (mode, allowed, expected) in [
        ("auto", "false", Mode::Serverless),
        ("auto", "true", Mode::Auto),
        ("serverless", "1", Mode::Auto),
        ("serverless", "0", Mode::Serverless),
        ("local", "true", Mode::Local),
        ("cloud", "no", Mode::Cloud),
    ] {
        for name in ["RUNCOMFY_FALLBACK_TO_LOCAL", "RUNCOMFY_FALLBACK_ENABLED"] {
            let fixture = ConfigFixture::with(&format!("mode = \"{mode}\"")).set(name, allowed);
            assert_eq!(fixture.loaded().config.mode, expected, "{mode} {name}={allowed}");
        }
    }
}

#[test]
fn other_variables_are_nobodys_business() {
    ConfigFixture::new()
        .set("CONJURED_HOME", "x")
        .set("RUNCOMFY_MAX_RETRIES", "3")
        .set("PATH", "/")
        .loaded();
}

// `/abs` is not an absolute path on Windows.
#[cfg(unix)]
#[test]
fn relative_paths_count_from_their_file_and_a_tilde_is_the_home_folder() {
    let text = "state_dir = \"state\"\n[serverless]\ntoken_file = \"~/token\"\n[log]\ndir = \"./logs/\"\n\
                [[project]]\nroot = \"../CONJURE\"\nprompt = \"p.txt\"\nrender = \"/abs/r.png\"\n";
    let mut fixture = ConfigFixture::with(text);
    fixture.sources.folders.current = "/elsewhere".into();
    let config = fixture.loaded().config;
    assert_eq!(config.state_dir, fixture.dir.path().join("state"));
    assert_eq!(config.serverless.token_file, Some("/home/ada/token".into()));
    assert_eq!(config.log.dir, Some(fixture.dir.path().join("logs")));
    let root = fixture.dir.path().join("../CONJURE");
    assert_eq!(config.projects[0].prompt, root.join("p.txt"));
    assert_eq!(config.projects[0].render, PathBuf::from("/abs/r.png"));
}

// `/abs` is not an absolute path on Windows.
#[cfg(unix)]
#[test]
fn the_state_folder_comes_from_the_flag_the_setting_systemd_or_the_platform() {
    let mut fixture = ConfigFixture::new();
    assert_eq!(fixture.loaded().config.state_dir, PathBuf::from("/home/ada/.local/state/conjured"));
    fixture = fixture
        .set("STATE_DIRECTORY", "/var/lib/conjured:/var/lib/other")
        .set("LOGS_DIRECTORY", "/var/log/conjured");
    let config = fixture.loaded().config;
    assert_eq!(config.state_dir, PathBuf::from("/var/lib/conjured"));
    assert_eq!(config.log.dir, Some("/var/log/conjured".into()));
    fixture = fixture.set("CONJURED__STATE_DIR", "/env");
    assert_eq!(fixture.loaded().config.state_dir, PathBuf::from("/env"));
    fixture.sources.state_dir = Some("flag".into());
    assert_eq!(fixture.loaded().config.state_dir, fixture.dir.path().join("flag"));
}

// `/s` is not an absolute path on Windows.
#[cfg(unix)]
#[test]
fn a_missing_home_is_told_only_where_it_is_needed() {
    let mut fixture = ConfigFixture::with("[[project]]\nroot = \"/c\"\n");
    fixture.sources.folders.home = None;
    fixture.sources.default_state_dir = None;
    let complaints = fixture.complaints();
    assert!(
        complaints.contains("`state_dir` is not set, and without a home folder"),
        "{complaints}"
    );
    fixture.sources.state_dir = Some("/s".into());
    assert_eq!(fixture.loaded().config.log.dir, Some("/s/logs".into()));
    fixture.sources.explicit =
        Some(fixture.write("tilde.toml", b"\n[serverless]\ntoken_file = \"~/t\"\n"));
    assert_eq!(
        fixture.complaints(),
        "tilde.toml:3: `serverless.token_file` begins with `~`, but there is no home folder (HOME \
         is not set); write the full path"
    );
    fixture.sources.explicit = None;
    assert!(fixture.complaints().contains("give --root DIR"), "the default checkout");
    fixture.sources.root = Some("/c".into());
    fixture.loaded();
}

#[test]
fn what_has_no_effect_yet_is_told_with_its_place() {
    let mut fixture = ConfigFixture::with(
        "mode = \"local\"\n[local]\nproviders = []\n[cloud]\nuser_id = \"u\"\n[page]\nlisten = \"\"\n",
    );
    let told = |fixture: &ConfigFixture| -> Vec<String> {
        let list = fixture.loaded().not_in_effect;
        list.iter().map(|line| fixture.without_folder(line)).collect()
    };
    assert_eq!(told(&fixture), ["[page] (config.toml:7): there is no page yet"]);
    fixture = fixture.set("CONJURED__PAGE__LISTEN", "127.0.0.1:7000");
    let variable = "environment variable CONJURED__PAGE__LISTEN";
    assert_eq!(told(&fixture), [format!("[page] ({variable}): there is no page yet")]);
}

#[test]
fn what_is_allowed_and_probably_not_meant_is_a_warning() {
    let fixture = ConfigFixture::with(
        "mode = \"serverless\"\n[trigger]\nprompt_quiet_ms = 5000\n[serverless]\nenabled = false\ndownload_hosts = []\n",
    );
    let warnings = fixture.loaded().warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("`trigger.prompt_max_wait_ms` (2000) is less than"));
    assert!(warnings[1].contains("no job can start"));
    assert!(warnings[2].contains("no result can be downloaded"));
}

#[test]
fn a_reload_sees_what_changed_and_only_that() {
    let before = ConfigFixture::with("[log]\nlevel = \"info\"").loaded().config;
    let after = ConfigFixture::with("[log]\nlevel = \"debug\"").loaded().config;
    assert_ne!(before, after);
    assert_eq!(before.trigger, after.trigger);
    assert_eq!(after.log.level, Level::Debug);
}

#[test]
fn the_process_gives_its_flags_its_environment_and_its_folders() {
    let sources = Sources::from_process(Some("c".into()), Some("r".into()), Some("s".into()));
    assert_eq!(sources.explicit, Some("c".into()));
    assert_eq!((sources.root, sources.state_dir), (Some("r".into()), Some("s".into())));
    assert_eq!(sources.env.get("PATH").map(String::as_str), std::env::var("PATH").ok().as_deref());
    assert!(sources.folders.current.is_absolute());
}

#[test]
fn sources_show_names_of_variables_and_no_values() {
    let fixture = ConfigFixture::new().set("RUNCOMFY_API_TOKEN", "tok-unseen");
    let shown = format!("{:?}", fixture.sources);
    assert!(shown.contains("RUNCOMFY_API_TOKEN") && !shown.contains("unseen"), "{shown}");
}
