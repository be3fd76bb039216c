//! Every key with its type and range: the only list of what can be set.
//!
//! Owns the checks of single values. Checks between values are in `whole`, and the defaults are
//! in `config.example.toml`.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    enums::{Mode, Provider, Word},
    errors::Problem,
    projects::read_projects,
    secrets::shape::is_token_instead_of_path,
    settings::{
        BudgetConfig, CloudConfig, Config, GenerationConfig, HistoryConfig, LocalConfig, LogConfig,
        PageConfig, PlacementConfig, Seed, ServerlessConfig, Space, TriggerConfig, Workflow,
    },
    sources::toml_source::Table,
    values::{
        addresses::{api_url, download_host, filler_url, http_url, listen_address, space},
        reader::{Found, Reader},
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
const LAST_SEED: u64 = (1 << 53) - 1;

/// Reads everything and collects errors in the reader. `state_dir` and `log.dir` are completed by
/// [`super::validate`], which knows the default folders for an empty value.
pub(super) fn read<'a>(
    reader: &mut Reader<'a>,
    table: &'a Table,
    only_root: Option<&PathBuf>,
) -> Config {
    let mut top = reader.section(table, "");
    let mode = top.take("mode", Mode::Auto, mode);
    let max_in_flight = top.take("max_in_flight", 1, |found| found.whole_u32(1..=16));
    let state_dir = top.take("state_dir", None, Found::path).unwrap_or_default();
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

fn trigger<'a>(reader: &mut Reader<'a>, table: &'a Table) -> TriggerConfig {
    let mut section = reader.section(table, "trigger");
    let zero = Duration::ZERO;
    let settings = TriggerConfig {
        on: section.word("on"),
        prompt_quiet: section.take("prompt_quiet_ms", zero, |found| found.millis(0..=60_000)),
        render_quiet: section.take("render_quiet_ms", zero, |found| found.millis(0..=600_000)),
        prompt_max_wait: section
            .take("prompt_max_wait_ms", zero, |found| found.millis(0..=600_000)),
        min_interval: section.take("min_interval_s", zero, |found| found.seconds(0.0..=DAY)),
        max_jobs_per_hour: section.take("max_jobs_per_hour", 1, |found| found.whole_u32(1..=3600)),
        hold_while_sculpting: section.flag("hold_while_sculpting"),
        after_result_hold: section
            .take("after_result_hold_s", zero, |found| found.seconds(0.0..=3600.0)),
        when_busy: section.word("when_busy"),
        at_start: section.word("at_start"),
        ignore_prompts: section.list("ignore_prompts", "regular expressions", pattern),
        watch: section.word("watch"),
        poll_interval: section.take("poll_interval_ms", zero, |found| found.millis(50..=60_000)),
    };
    section.finish();
    settings
}

fn generation<'a>(reader: &mut Reader<'a>, table: &'a Table) -> GenerationConfig {
    let mut section = reader.section(table, "generation");
    section.known("bind");
    let workflow = section.take("workflow", Workflow::BuiltIn(WORKFLOWS[0]), workflow);
    let seed = section.take("seed", Seed::Derived, seed);
    let steps_flux = section.take("steps_flux", 1, |found| found.whole_u32(1..=1000));
    let steps_partpacker = section.take("steps_partpacker", 1, |found| found.whole_u32(1..=1000));
    let image_max_base64_kb = section.take("image_max_base64_kb", None, |found| {
        match found.whole_u32(0..=65_536)? {
            0 => Ok(None),
            // With a smaller limit, not even the smallest picture that the workflow can use
            // would fit.
            1..16 => Err(found.rule("must be 0 (send unchanged) or between 16 and 65536")),
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
    reader: &mut Reader<'a>,
    table: &'a Table,
    name: &'static str,
) -> BTreeMap<String, String> {
    // A role without a binding uses the workflow's own binding, so it is not missing.
    let demand = std::mem::replace(&mut reader.demand, super::values::reader::Demand::Some);
    let mut section = reader.section(table, name);
    let mut bind = BTreeMap::new();
    for role in ROLES {
        let bound = section.take(role, None, |found| {
            let text = found.text()?.trim();
            if text.chars().count() > 200 {
                return Err(
                    found.rule("must name a node, such as \"41.value\" or \"title:EXPORTGLB\"")
                );
            }
            Ok(Some(text.to_owned()))
        });
        bind.extend(bound.map(|bound| (role.to_owned(), bound)));
    }
    section.finish();
    reader.demand = demand;
    bind
}

fn serverless<'a>(reader: &mut Reader<'a>, table: &'a Table) -> ServerlessConfig {
    let mut section = reader.section(table, "serverless");
    let zero = Duration::ZERO;
    let settings = ServerlessConfig {
        enabled: section.flag("enabled"),
        deployment_id: section.take("deployment_id", None, Found::id),
        api_url: section.take("api_url", filler_url(), api_url),
        api_version: section.word("api_version"),
        download_hosts: section.list("download_hosts", "host names", download_host),
        connect_timeout: section
            .take("connect_timeout_s", zero, |found| found.seconds(1.0..=300.0)),
        submit_timeout: section.take("submit_timeout_s", zero, |found| found.seconds(1.0..=3600.0)),
        queue_timeout: section.take("queue_timeout_s", zero, |found| found.seconds(1.0..=DAY)),
        run_timeout: section.take("run_timeout_s", zero, |found| found.seconds(1.0..=DAY)),
        poll_min: section.take("poll_min_ms", zero, |found| found.millis(50..=60_000)),
        poll_max: section.take("poll_max_ms", zero, |found| found.millis(50..=60_000)),
        resubmit_unknown: section.flag("resubmit_unknown"),
        token_file: section.take("token_file", None, token_file),
    };
    section.finish();
    settings
}

fn local<'a>(reader: &mut Reader<'a>, table: &'a Table) -> LocalConfig {
    let mut section = reader.section(table, "local");
    section.known("bind");
    let filler = || Space::Named(String::new());
    let settings = LocalConfig {
        providers: section.list("providers", "names", provider),
        comfyui_url: section.take("comfyui_url", filler_url(), http_url),
        comfyui_workflow: section.take(
            "comfyui_workflow",
            Workflow::BuiltIn(WORKFLOWS[1]),
            workflow,
        ),
        flux_space: section.take("flux_space", filler(), space),
        mesh_space: section.take("mesh_space", filler(), space),
        process_image: section.flag("process_image"),
        timeout: section.take("timeout_s", Duration::ZERO, |found| found.seconds(60.0..=DAY)),
        after_unknown: section.flag("after_unknown"),
        bind: BTreeMap::new(),
    };
    section.finish();
    LocalConfig { bind: bind(reader, table, "local.bind"), ..settings }
}

fn cloud<'a>(reader: &mut Reader<'a>, table: &'a Table) -> CloudConfig {
    let mut section = reader.section(table, "cloud");
    let settings = CloudConfig {
        user_id: section.take("user_id", None, Found::id),
        workflow_version_id: section.take("workflow_version_id", None, Found::id),
        server_type: section.word("server_type"),
        idle_stop: section.take("idle_stop_s", Duration::ZERO, |found| found.seconds(1.0..=DAY)),
        max_run: section.take("max_minutes", Duration::ZERO, |found| {
            Ok(Duration::from_secs(60 * found.whole(1..=1440, "minutes")?))
        }),
        start_timeout: section
            .take("start_timeout_s", Duration::ZERO, |found| found.seconds(60.0..=3600.0)),
    };
    section.finish();
    settings
}

fn budget<'a>(reader: &mut Reader<'a>, table: &'a Table) -> BudgetConfig {
    let mut section = reader.section(table, "budget");
    let settings = BudgetConfig {
        per_job: section.take("per_job_usd", None, Found::dollars),
        per_session: section.take("per_session_usd", None, Found::dollars),
        per_day: section.take("per_day_usd", None, Found::dollars),
        per_month: section.take("per_month_usd", None, Found::dollars),
        plan: section.word("plan"),
        hourly: section.take("hourly_usd", None, Found::dollars),
        hardware: section.take("hardware", &TIERS[0], |found| {
            let text = found.text()?;
            let names = TIERS.iter().map(|tier| tier.name);
            Tier::find(text).ok_or_else(|| found.no_such_word(text, names))
        }),
        // Known only when all layers are merged: see `whole`.
        hardware_is_set: false,
    };
    section.finish();
    settings
}

fn placement<'a>(reader: &mut Reader<'a>, table: &'a Table) -> PlacementConfig {
    let mut section = reader.section(table, "placement");
    let settings = PlacementConfig {
        max_artifact_mb: section.take("max_artifact_mb", 1, |found| found.whole(1..=65_536, "MB")),
        handoff: section.word("handoff"),
        conjure_url: section.take("conjure_url", filler_url(), http_url),
        min_volume_threshold: section
            .take("min_volume_threshold", 0.0, |found| found.number(0.0..=1000.0, "")),
    };
    section.finish();
    settings
}

fn history<'a>(reader: &mut Reader<'a>, table: &'a Table) -> HistoryConfig {
    let mut section = reader.section(table, "history");
    let settings = HistoryConfig {
        keep_jobs: section.take("keep_jobs", 0, |found| found.whole(0..=1_000_000, "jobs")),
        keep_mb: section.take("keep_mb", 0, |found| found.whole(0..=100_000_000, "MB")),
    };
    section.finish();
    settings
}

fn page<'a>(reader: &mut Reader<'a>, table: &'a Table) -> PageConfig {
    let mut section = reader.section(table, "page");
    let listen: Option<SocketAddr> = section.take("listen", None, listen_address);
    section.finish();
    PageConfig { listen }
}

fn log<'a>(reader: &mut Reader<'a>, table: &'a Table) -> LogConfig {
    let mut section = reader.section(table, "log");
    let settings = LogConfig {
        level: section.word("level"),
        dir: section.take("dir", None, |found| match found.text()?.trim() {
            "-" => Ok(None),
            // The caller knows the default folder for an empty value.
            "" => Ok(Some(PathBuf::new())),
            _ => found.path(),
        }),
        keep_days: section.take("keep_days", 1, |found| found.whole_u32(1..=3650)),
        keep_mb: section.take("keep_mb", 1, |found| found.whole_u32(1..=100_000)),
    };
    section.finish();
    settings
}

/// Reads the mode, also under CONJURE's own names. [`super::validate`] applies what such a name
/// says about the providers.
fn mode(found: &Found<'_>) -> Result<Mode, Problem> {
    let text = found.text()?.trim();
    if text.eq_ignore_ascii_case("debug") {
        return Err(found.rule(
            "cannot be \"debug\": CONJURE's mode of that name pays for each picture twice; \"serverless\" pays once",
        ));
    }
    let words = Mode::ALL.iter().map(|mode| mode.word());
    Mode::named(text).ok_or_else(|| found.no_such_word(text, words))
}

fn provider(found: &Found<'_>) -> Result<Provider, Problem> {
    found.word()
}

fn pattern(found: &Found<'_>) -> Result<String, Problem> {
    let text = found.text()?;
    match regex_lite::Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(found.rule(format!("contains an invalid regular expression: {error}"))),
    }
}

fn workflow(found: &Found<'_>) -> Result<Workflow, Problem> {
    let text = found.text()?.trim();
    if let Some(name) = WORKFLOWS.into_iter().find(|name| *name == text) {
        return Ok(Workflow::BuiltIn(name));
    }
    let is_path = text.contains(std::path::is_separator)
        || PathBuf::from(text)
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    if !is_path {
        let words = WORKFLOWS.into_iter().chain(["the path of a .json file"]);
        return Err(found.no_such_word(text, words));
    }
    found.path().map(|path| Workflow::File(path.unwrap_or_default()))
}

fn seed(found: &Found<'_>) -> Result<Seed, Problem> {
    use ::config::ValueKind::{Float, I64, String};
    let named = |text: &str| match text.trim() {
        "derived" => Some(Seed::Derived),
        "random" => Some(Seed::Random),
        _ => None,
    };
    match &found.value.kind {
        I64(_) | Float(_) => found.whole(0..=LAST_SEED, "").map(Seed::Fixed),
        String(text) => match named(text) {
            Some(seed) => Ok(seed),
            None if text.trim().parse::<i64>().is_ok() => {
                found.whole(0..=LAST_SEED, "").map(Seed::Fixed)
            }
            None => Err(found.no_such_word(text, ["derived", "random", "a number"].into_iter())),
        },
        _ => Err(found.wrong_type("\"derived\", \"random\" or a number")),
    }
}

fn token_file(found: &Found<'_>) -> Result<Option<PathBuf>, Problem> {
    if is_token_instead_of_path(found.text()?) {
        return Err(Problem::Secret { key: found.key.clone() });
    }
    found.path()
}
