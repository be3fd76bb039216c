//! Checks that the example file, the structs and the design's list have the same defaults.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::ConfigFixture;
use crate::{
    config::{
        EXAMPLE,
        enums::{ApiVersion, Handoff, Level, Mode, Provider, ServerType, Watch},
        settings::{
            BudgetConfig, CloudConfig, Config, GenerationConfig, HistoryConfig, LocalConfig,
            LogConfig, PageConfig, PlacementConfig, ProjectConfig, SeedSetting, ServerlessConfig,
            SpaceSetting, TriggerConfig, WorkflowSource,
        },
    },
    domain::{
        inputs::trigger,
        money::{BillingPlan, MicroUsd, Tier},
    },
};

/// The defaults as the design lists them, written once more, so that an edit of the example is
/// noticed here. Those of the trigger are the domain's own.
fn expected() -> Config {
    let usual = trigger::Settings::default();
    let root = PathBuf::from("/home/ada/CONJURE");
    let state_dir = PathBuf::from("/home/ada/.local/state/conjured");
    let results = root.join("data/generated_models/partpacker_results");
    Config {
        mode: Mode::Auto,
        max_in_flight: 1,
        projects: vec![ProjectConfig {
            name: "conjure".into(),
            prompt: root.join("data/generated_text/userPrompt.txt"),
            render: root.join("data/generated_images/gestureCamera/render.png"),
            image: vec![root.join("data/generated_images/flux/flux.png")],
            mesh: vec![results.join("result.glb"), results.join("partpacker_result_0.glb")],
            root,
        }],
        trigger: TriggerConfig {
            on: usual.on,
            prompt_quiet: usual.prompt.quiet,
            render_quiet: usual.render.quiet,
            prompt_max_wait: usual.prompt.max_wait.expect("it has a limit"),
            min_interval: usual.min_interval,
            max_jobs_per_hour: usual.max_jobs_per_hour,
            hold_while_sculpting: usual.hold_while_sculpting,
            after_result_hold: usual.after_result_hold,
            when_busy: usual.when_busy,
            at_start: usual.at_start,
            ignore_prompts: vec!["^null$".into(), r"^\. Shown in".into()],
            watch: Watch::Auto,
            poll_interval: Duration::from_secs(1),
        },
        generation: GenerationConfig {
            workflow: WorkflowSource::BuiltIn("conjure_flux_mesh"),
            seed: SeedSetting::Derived,
            steps_flux: 20,
            steps_partpacker: 50,
            image_max_base64_kb: Some(256),
            cache: true,
            bind: BTreeMap::new(),
        },
        serverless: ServerlessConfig {
            enabled: true,
            deployment_id: None,
            api_url: "https://api.runcomfy.net".parse().expect("a URL"),
            api_version: ApiVersion::V2,
            download_hosts: vec![".runcomfy.net".into(), ".runcomfy.com".into()],
            connect_timeout: Duration::from_secs(10),
            submit_timeout: Duration::from_secs(60),
            queue_timeout: Duration::from_secs(900),
            run_timeout: Duration::from_secs(900),
            poll_min: Duration::from_millis(250),
            poll_max: Duration::from_secs(5),
            resubmit_unknown: false,
            token_file: None,
        },
        local: LocalConfig {
            providers: vec![Provider::Comfyui, Provider::Huggingface],
            comfyui_url: "http://127.0.0.1:8188".parse().expect("a URL"),
            comfyui_workflow: WorkflowSource::BuiltIn("conjure_flux_mesh_local"),
            bind: BTreeMap::new(),
            flux_space: SpaceSetting::Named("black-forest-labs/FLUX.1-Depth-dev".into()),
            mesh_space: SpaceSetting::Named("nvidia/PartPacker".into()),
            process_image: false,
            timeout: Duration::from_secs(3600),
            after_unknown: false,
        },
        cloud: CloudConfig {
            user_id: None,
            workflow_version_id: None,
            server_type: ServerType::ExtraLarge,
            idle_stop: Duration::from_secs(300),
            max_run: Duration::from_secs(3600),
            start_timeout: Duration::from_secs(900),
        },
        budget: BudgetConfig {
            per_job: Some(MicroUsd(1_000_000)),
            per_session: Some(MicroUsd(5_000_000)),
            per_day: None,
            per_month: None,
            plan: BillingPlan::Hobby,
            hourly: None,
            hardware: Tier::find("x-large").expect("a tier"),
            hardware_is_set: false,
        },
        placement: PlacementConfig {
            max_artifact_mb: 512,
            handoff: Handoff::Auto,
            conjure_url: "http://127.0.0.1:8000".parse().expect("a URL"),
            min_volume_threshold: 0.001,
        },
        history: HistoryConfig { keep_jobs: 200, keep_mb: 4096 },
        page: PageConfig { listen: Some("127.0.0.1:7717".parse().expect("an address")) },
        log: LogConfig {
            level: Level::Info,
            dir: Some(state_dir.join("logs")),
            keep_days: 14,
            keep_mb: 64,
        },
        state_dir,
    }
}

// It compares paths in Unix notation.
#[cfg(unix)]
#[test]
fn without_any_file_the_defaults_are_those_of_the_design() {
    let loaded = ConfigFixture::new().loaded();
    assert_eq!(loaded.config, expected());
    assert_eq!(loaded.not_in_effect, Vec::<String>::new(), "nobody set anything");
    assert_eq!(
        loaded.warnings,
        [
            "there is no configuration file: serving /home/ada/CONJURE; --root DIR serves another CONJURE checkout"
        ]
    );
}

/// Together with [`without_any_file_the_defaults_are_those_of_the_design`] this keeps example and
/// code equal in both directions: a key that the code does not know is refused here, and a key that
/// the example lacks is missing there.
// `/home` is not an absolute path on Windows.
#[cfg(unix)]
#[test]
fn the_example_is_a_valid_file_that_changes_nothing() {
    assert_eq!(ConfigFixture::with(EXAMPLE).loaded().config, expected());
}

#[test]
fn a_key_that_the_example_lost_would_be_missed() {
    for key in ["mode = \"auto\"\n", "poll_max_ms = 5000\n", "keep_days = 14\n"] {
        let shorter = EXAMPLE.replacen(key, "", 1);
        assert_ne!(shorter, EXAMPLE, "{key}");
        let name = key.split(' ').next().expect("a key");
        let complaints = read_as_defaults(&shorter);
        assert!(
            complaints.contains(&format!("{name}` is missing in the defaults")),
            "{complaints}"
        );
    }
    assert_eq!(read_as_defaults(EXAMPLE), "");
}

/// Reads a text as if it were the built-in defaults.
fn read_as_defaults(text: &str) -> String {
    use crate::config::{
        errors::ConfigErrors,
        sections,
        sources::{
            origin::Origins,
            toml_source::{TextSource, read_document},
        },
        values::reader::{Completeness, ConfigReader},
    };
    let mut places = Origins::default();
    let table = read_document(text, &TextSource::BuiltIn, &mut places).expect("TOML");
    let fixture = ConfigFixture::new();
    let mut reader = ConfigReader {
        origins: &places,
        folders: &fixture.sources.folders,
        defaults: &table,
        completeness: Completeness::All,
        problems: Vec::new(),
    };
    let _: Config = sections::read(&mut reader, &table, None);
    ConfigErrors(reader.problems).to_string()
}

#[test]
fn every_key_of_the_example_has_a_comment_above_it_or_above_its_group() {
    let mut commented = false;
    for line in EXAMPLE.lines() {
        match line.trim_start().chars().next() {
            Some('#') => commented = true,
            // The keys of a group follow each other without a blank line.
            None | Some('[') => commented = false,
            Some(_) => {
                let plain = ["enabled", "hardware"];
                let continues = line.starts_with(' ');
                let spoken_for = plain.iter().any(|key| line.starts_with(key));
                assert!(commented || continues || spoken_for, "{line}");
            }
        }
    }
}
