//! Every key with its type and range: the only list of what can be set.
//!
//! Owns the checks of single values. Checks between values are in `whole`, and the defaults are
//! in `config.example.toml`.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    enums::{Keyword, Mode, Provider},
    errors::ConfigProblem,
    projects::read_projects,
    secrets::shape::is_token_instead_of_path,
    settings::{
        BudgetConfig, CloudConfig, Config, GenerationConfig, HistoryConfig, LocalConfig, LogConfig,
        PageConfig, PlacementConfig, SeedSetting, ServerlessConfig, SpaceSetting, TriggerConfig,
        WorkflowSource,
    },
    sources::toml_source::Table,
    values::{
        addresses::{api_url, download_host, http_url, listen_address, placeholder_url, space},
        reader::{ConfigReader, RawValue},
    },
};
use crate::domain::money::{TIERS, Tier};

/// The roles that `[generation.bind]` and `[local.bind]` may bind.
pub const ROLES: [&str; 9] = [
    "image",
    "prompt",
    "prompt_clip",
    "seed",
    "mesh_seed",
    "steps_flux",
    "steps_partpacker",
    "flux",
    "mesh",
];

/// The built-in workflows.
pub const WORKFLOWS: [&str; 2] = ["conjure_flux_mesh", "conjure_flux_mesh_local"];

/// A day, the largest time-out.
const DAY: f64 = 86_400.0;

/// Seeds are below 2^53: beyond that, JSON numbers are not exact.
const MAX_SEED: u64 = (1 << 53) - 1;

/// Reads everything and collects errors in the reader. `state_dir` and `log.dir` are completed by
/// [`super::validate`], which knows the default folders for an empty value.
pub(super) fn read<'a>(
    reader: &mut ConfigReader<'a>,
    table: &'a Table,
    only_root: Option<&PathBuf>,
) -> Config {
    let mut top = reader.section(table, "");
    let mode = top.read("mode", Mode::Auto, mode);
    let max_in_flight = top.read("max_in_flight", 1, |value| value.integer_u32(1..=16));
    let state_dir = top.read("state_dir", None, RawValue::path).unwrap_or_default();
    for section in [
        "project",
        "trigger",
        "generation",
        "serverless",
        "local",
        "cloud",
        "budget",
        "placement",
        "history",
        "page",
        "log",
    ] {
        top.known(section);
    }
    top.finish();
    Config {
        mode,
        max_in_flight,
        state_dir,
        projects: read_projects(reader, table, only_root),
        trigger: trigger(reader, table),
        generation: generation(reader, table),
        serverless: serverless(reader, table),
        local: local(reader, table),
        cloud: cloud(reader, table),
        budget: budget(reader, table),
        placement: placement(reader, table),
        history: history(reader, table),
        page: page(reader, table),
        log: log(reader, table),
    }
}

fn trigger<'a>(reader: &mut ConfigReader<'a>, table: &'a Table) -> TriggerConfig {
    let mut section = reader.section(table, "trigger");
    let zero = Duration::ZERO;
    let settings = TriggerConfig {
        on: section.keyword("on"),
        prompt_quiet: section.read("prompt_quiet_ms", zero, |value| value.millis(0..=60_000)),
        render_quiet: section.read("render_quiet_ms", zero, |value| value.millis(0..=600_000)),
        prompt_max_wait: section
            .read("prompt_max_wait_ms", zero, |value| value.millis(0..=600_000)),
        min_interval: section.read("min_interval_s", zero, |value| value.seconds(0.0..=DAY)),
        max_jobs_per_hour: section
            .read("max_jobs_per_hour", 1, |value| value.integer_u32(1..=3600)),
        hold_while_sculpting: section.flag("hold_while_sculpting"),
        after_result_hold: section
            .read("after_result_hold_s", zero, |value| value.seconds(0.0..=3600.0)),
        when_busy: section.keyword("when_busy"),
        at_start: section.keyword("at_start"),
        ignore_prompts: section.list("ignore_prompts", "regular expressions", pattern),
        watch: section.keyword("watch"),
        poll_interval: section.read("poll_interval_ms", zero, |value| value.millis(50..=60_000)),
    };
    section.finish();
    settings
}

fn generation<'a>(reader: &mut ConfigReader<'a>, table: &'a Table) -> GenerationConfig {
    let mut section = reader.section(table, "generation");
    section.known("bind");
    let workflow = section.read("workflow", WorkflowSource::BuiltIn(WORKFLOWS[0]), workflow);
    let seed = section.read("seed", SeedSetting::Derived, seed);
    let steps_flux = section.read("steps_flux", 1, |value| value.integer_u32(1..=1000));
    let steps_partpacker = section.read("steps_partpacker", 1, |value| value.integer_u32(1..=1000));
    let image_max_base64_kb = section.read("image_max_base64_kb", None, |value| {
        match value.integer_u32(0..=65_536)? {
            0 => Ok(None),
            // With a smaller limit, not even the smallest picture that the workflow can use
            // would fit.
            1..16 => Err(value.rule("must be 0 (send unchanged) or between 16 and 65536")),
            limit => Ok(Some(limit)),
        }
    });
    let cache = section.flag("cache");
    section.finish();
    GenerationConfig {
        workflow,
        seed,
        steps_flux,
        steps_partpacker,
        image_max_base64_kb,
        cache,
        bind: bind(reader, table, "generation.bind"),
    }
}

fn bind<'a>(
    reader: &mut ConfigReader<'a>,
    table: &'a Table,
    name: &'static str,
) -> BTreeMap<String, String> {
    // A role without a binding uses the workflow's own binding, so it is not missing.
    let demand =
        std::mem::replace(&mut reader.completeness, super::values::reader::Completeness::Some);
    let mut section = reader.section(table, name);
    let mut bind = BTreeMap::new();
    for role in ROLES {
        let bound = section.read(role, None, |value| {
            let text = value.text()?.trim();
            if text.chars().count() > 200 {
                return Err(
                    value.rule("must name a node, such as \"41.value\" or \"title:EXPORTGLB\"")
                );
            }
            Ok(Some(text.to_owned()))
        });
        bind.extend(bound.map(|bound| (role.to_owned(), bound)));
    }
    section.finish();
    reader.completeness = demand;
    bind
}

fn serverless<'a>(reader: &mut ConfigReader<'a>, table: &'a Table) -> ServerlessConfig {
    let mut section = reader.section(table, "serverless");
    let zero = Duration::ZERO;
    let settings = ServerlessConfig {
        enabled: section.flag("enabled"),
        deployment_id: section.read("deployment_id", None, RawValue::id),
        api_url: section.read("api_url", placeholder_url(), api_url),
        api_version: section.keyword("api_version"),
        download_hosts: section.list("download_hosts", "host names", download_host),
        connect_timeout: section
            .read("connect_timeout_s", zero, |value| value.seconds(1.0..=300.0)),
        submit_timeout: section.read("submit_timeout_s", zero, |value| value.seconds(1.0..=3600.0)),
        queue_timeout: section.read("queue_timeout_s", zero, |value| value.seconds(1.0..=DAY)),
        run_timeout: section.read("run_timeout_s", zero, |value| value.seconds(1.0..=DAY)),
        poll_min: section.read("poll_min_ms", zero, |value| value.millis(50..=60_000)),
        poll_max: section.read("poll_max_ms", zero, |value| value.millis(50..=60_000)),
        resubmit_unknown: section.flag("resubmit_unknown"),
        token_file: section.read("token_file", None, token_file),
    };
    section.finish();
    settings
}

fn local<'a>(reader: &mut ConfigReader<'a>, table: &'a Table) -> LocalConfig {
    let mut section = reader.section(table, "local");
    section.known("bind");
    let filler = || SpaceSetting::Named(String::new());
    let settings = LocalConfig {
        providers: section.list("providers", "names", provider),
        comfyui_url: section.read("comfyui_url", placeholder_url(), http_url),
        comfyui_workflow: section.read(
            "comfyui_workflow",
            WorkflowSource::BuiltIn(WORKFLOWS[1]),
            workflow,
        ),
        flux_space: section.read("flux_space", filler(), space),
        mesh_space: section.read("mesh_space", filler(), space),
        process_image: section.flag("process_image"),
        timeout: section.read("timeout_s", Duration::ZERO, |value| value.seconds(60.0..=DAY)),
        after_unknown: section.flag("after_unknown"),
        bind: BTreeMap::new(),
    };
    section.finish();
    LocalConfig { bind: bind(reader, table, "local.bind"), ..settings }
}

fn cloud<'a>(reader: &mut ConfigReader<'a>, table: &'a Table) -> CloudConfig {
    let mut section = reader.section(table, "cloud");
    let settings = CloudConfig {
        user_id: section.read("user_id", None, RawValue::id),
        workflow_version_id: section.read("workflow_version_id", None, RawValue::id),
        server_type: section.keyword("server_type"),
        idle_stop: section.read("idle_stop_s", Duration::ZERO, |value| value.seconds(1.0..=DAY)),
        max_run: section.read("max_minutes", Duration::ZERO, |value| {
            Ok(Duration::from_secs(60 * value.integer(1..=1440, "minutes")?))
        }),
        start_timeout: section
            .read("start_timeout_s", Duration::ZERO, |value| value.seconds(60.0..=3600.0)),
    };
    section.finish();
    settings
}

fn budget<'a>(reader: &mut ConfigReader<'a>, table: &'a Table) -> BudgetConfig {
    let mut section = reader.section(table, "budget");
    let settings = BudgetConfig {
        per_job: section.read("per_job_usd", None, RawValue::dollars),
        per_session: section.read("per_session_usd", None, RawValue::dollars),
        per_day: section.read("per_day_usd", None, RawValue::dollars),
        per_month: section.read("per_month_usd", None, RawValue::dollars),
        plan: section.keyword("plan"),
        hourly: section.read("hourly_usd", None, RawValue::dollars),
        hardware: section.read("hardware", &TIERS[0], |value| {
            let text = value.text()?;
            let names = TIERS.iter().map(|tier| tier.name);
            Tier::find(text).ok_or_else(|| value.unknown_keyword(text, names))
        }),
        // Known only when all layers are merged: see `whole`.
        hardware_is_set: false,
    };
    section.finish();
    settings
}

fn placement<'a>(reader: &mut ConfigReader<'a>, table: &'a Table) -> PlacementConfig {
    let mut section = reader.section(table, "placement");
    let settings = PlacementConfig {
        max_artifact_mb: section
            .read("max_artifact_mb", 1, |value| value.integer(1..=65_536, "MB")),
        handoff: section.keyword("handoff"),
        conjure_url: section.read("conjure_url", placeholder_url(), http_url),
        min_volume_threshold: section
            .read("min_volume_threshold", 0.0, |value| value.number(0.0..=1000.0, "")),
    };
    section.finish();
    settings
}

fn history<'a>(reader: &mut ConfigReader<'a>, table: &'a Table) -> HistoryConfig {
    let mut section = reader.section(table, "history");
    let settings = HistoryConfig {
        keep_jobs: section.read("keep_jobs", 0, |value| value.integer(0..=1_000_000, "jobs")),
        keep_mb: section.read("keep_mb", 0, |value| value.integer(0..=100_000_000, "MB")),
    };
    section.finish();
    settings
}

fn page<'a>(reader: &mut ConfigReader<'a>, table: &'a Table) -> PageConfig {
    let mut section = reader.section(table, "page");
    let listen: Option<SocketAddr> = section.read("listen", None, listen_address);
    section.finish();
    PageConfig { listen }
}

fn log<'a>(reader: &mut ConfigReader<'a>, table: &'a Table) -> LogConfig {
    let mut section = reader.section(table, "log");
    let settings = LogConfig {
        level: section.keyword("level"),
        dir: section.read("dir", None, |value| match value.text()?.trim() {
            "-" => Ok(None),
            // The caller knows the default folder for an empty value.
            "" => Ok(Some(PathBuf::new())),
            _ => value.path(),
        }),
        keep_days: section.read("keep_days", 1, |value| value.integer_u32(1..=3650)),
        keep_mb: section.read("keep_mb", 1, |value| value.integer_u32(1..=100_000)),
    };
    section.finish();
    settings
}

/// Reads the mode, also under CONJURE's own names. [`super::validate`] applies what such a name
/// says about the providers.
fn mode(value: &RawValue<'_>) -> Result<Mode, ConfigProblem> {
    let text = value.text()?.trim();
    if text.eq_ignore_ascii_case("debug") {
        return Err(value.rule(
            "cannot be \"debug\": CONJURE's mode of that name pays for each picture twice; \"serverless\" pays once",
        ));
    }
    let words = Mode::ALL.iter().map(|mode| mode.word());
    Mode::named(text).ok_or_else(|| value.unknown_keyword(text, words))
}

fn provider(value: &RawValue<'_>) -> Result<Provider, ConfigProblem> {
    value.keyword()
}

fn pattern(value: &RawValue<'_>) -> Result<String, ConfigProblem> {
    let text = value.text()?;
    match regex_lite::Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(value.rule(format!("contains an invalid regular expression: {error}"))),
    }
}

fn workflow(value: &RawValue<'_>) -> Result<WorkflowSource, ConfigProblem> {
    let text = value.text()?.trim();
    if let Some(name) = WORKFLOWS.into_iter().find(|name| *name == text) {
        return Ok(WorkflowSource::BuiltIn(name));
    }
    let is_path = text.contains(std::path::is_separator)
        || PathBuf::from(text)
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    if !is_path {
        let words = WORKFLOWS.into_iter().chain(["the path of a .json file"]);
        return Err(value.unknown_keyword(text, words));
    }
    value.path().map(|path| WorkflowSource::File(path.unwrap_or_default()))
}

fn seed(value: &RawValue<'_>) -> Result<SeedSetting, ConfigProblem> {
    use ::config::ValueKind::{Float, I64, String};
    let named = |text: &str| match text.trim() {
        "derived" => Some(SeedSetting::Derived),
        "random" => Some(SeedSetting::Random),
        _ => None,
    };
    match &value.value.kind {
        I64(_) | Float(_) => value.integer(0..=MAX_SEED, "").map(SeedSetting::Fixed),
        String(text) => match named(text) {
            Some(seed) => Ok(seed),
            None if text.trim().parse::<i64>().is_ok() => {
                value.integer(0..=MAX_SEED, "").map(SeedSetting::Fixed)
            }
            None => Err(value.unknown_keyword(text, ["derived", "random", "a number"].into_iter())),
        },
        _ => Err(value.wrong_type("\"derived\", \"random\" or a number")),
    }
}

fn token_file(value: &RawValue<'_>) -> Result<Option<PathBuf>, ConfigProblem> {
    if is_token_instead_of_path(value.text()?) {
        return Err(ConfigProblem::Secret { key: value.key.clone() });
    }
    value.path()
}
