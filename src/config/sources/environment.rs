//! Settings from the environment: `CONJURED__SECTION__KEY`, and the variables named in
//! CONJURE's plan.
//!
//! Owns the names and their translation to keys. Values stay text here, with the variable as
//! their origin; the code that reads a key knows which text it accepts. Tokens are not settings:
//! see [`crate::config::secrets`].

use std::collections::BTreeMap;

use ::config::{Value, ValueKind};

use super::{
    Layer,
    origin::{Origin, Origins},
    toml_source::{Table, read_value, table_of},
};
use crate::config::{
    enums::{Keyword as _, Mode},
    errors::{ConfigError, ConfigProblem},
    secrets::shape::quoted,
};

/// The prefix of our own variables.
pub(in crate::config) const PREFIX: &str = "CONJURED__";

/// CONJURE's variables whose value is used unchanged. A time-out there covers queue and run
/// together; here they are two. The time-outs of its machines and of its local ComfyUI are
/// in seconds there as here (`runcomfy/runcomfy_client.py`,
/// `runcomfy/runcomfy_orchestrator.py`, `runcomfy/comfyui_workflow_client.py`).
const UNCHANGED_VARIABLES: [(&str, &[(&str, &str)]); 11] = [
    ("RUNCOMFY_DEPLOYMENT_ID", &[("serverless", "deployment_id")]),
    ("RUNCOMFY_USER_ID", &[("cloud", "user_id")]),
    ("RUNCOMFY_SERVERLESS_ENABLED", &[("serverless", "enabled")]),
    ("RUNCOMFY_COST_LIMIT_PER_SESSION", &[("budget", "per_session_usd")]),
    ("RUNCOMFY_PREFERRED_HARDWARE", &[("budget", "hardware")]),
    ("RUNCOMFY_DEFAULT_STEPS_FLUX", &[("generation", "steps_flux")]),
    ("RUNCOMFY_DEFAULT_STEPS_PARTPACKER", &[("generation", "steps_partpacker")]),
    (
        "RUNCOMFY_REQUEST_TIMEOUT",
        &[("serverless", "queue_timeout_s"), ("serverless", "run_timeout_s")],
    ),
    ("RUNCOMFY_MACHINE_TIMEOUT", &[("cloud", "start_timeout_s")]),
    ("CONJURE_IDLE_TIMEOUT", &[("cloud", "idle_stop_s")]),
    ("COMFYUI_EXECUTION_TIMEOUT", &[("local", "timeout_s")]),
];

/// CONJURE's poll interval in seconds; ours is in milliseconds, and is the longest one.
const POLL_INTERVAL_VAR: &str = "RUNCOMFY_POLL_INTERVAL";

/// For how many seconds CONJURE requests a machine, which then ends automatically; ours is
/// in minutes.
const DURATION_VAR: &str = "RUNCOMFY_DEFAULT_DURATION";

/// CONJURE's machine type. Its plan writes `x-large` for what the Server API calls `extra-large`.
const SERVER_TYPE_VAR: &str = "RUNCOMFY_DEFAULT_SERVER_TYPE";

/// Two names for one setting: whether a job may run locally when serverless is unavailable.
const FALLBACK_VARS: [&str; 2] = ["RUNCOMFY_FALLBACK_TO_LOCAL", "RUNCOMFY_FALLBACK_ENABLED"];

/// Reads `CONJURED__SECTION__KEY`. Deeper parts become nested tables; the reader decides whether
/// they mean anything.
pub(in crate::config) fn own_variables(
    env: &BTreeMap<String, String>,
    places: &mut Origins,
) -> Layer {
    let mut layer = Layer { table: Table::new(), by_user: true };
    for (name, text) in env {
        let Some(path) = name.strip_prefix(PREFIX) else { continue };
        let parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        let place = places.add(Origin::Variable(name.clone()));
        // Lists and tables are written as TOML; a text that merely starts like one stays a text.
        let looks_nested = text.trim_start().starts_with(['[', '{']);
        let value = looks_nested
            .then(|| read_value(text.trim(), name, places))
            .flatten()
            .unwrap_or_else(|| Value::new(Some(&place), ValueKind::String(text.clone())));
        insert(&mut layer.table, &parts, &place, value);
    }
    layer
}

/// Inserts `value` at `parts`, creating tables as needed. A value where a table is needed is kept:
/// the deeper key is then not read, and the value is rejected because it is not a section.
fn insert(table: &mut Table, parts: &[String], place: &String, value: Value) {
    match parts {
        [] => {}
        [last] => {
            table.entry(last.clone()).or_insert(value);
        }
        [first, rest @ ..] => {
            let inner = table
                .entry(first.clone())
                .or_insert_with(|| Value::new(Some(place), ValueKind::Table(Table::new())));
            if let ValueKind::Table(inner) = &mut inner.kind {
                insert(inner, rest, place, value);
            }
        }
    }
}

/// Reads CONJURE's variables. An empty one counts as unset, as in CONJURE's own shells. `below` are
/// the layers that they override; they are needed because a fallback variable changes the mode.
/// Values that cannot be translated are reported here.
pub(in crate::config) fn runcomfy_variables(
    env: &BTreeMap<String, String>,
    below: &[Layer],
    places: &mut Origins,
) -> (Layer, Vec<ConfigError>) {
    let mut layer = Layer { table: Table::new(), by_user: true };
    let mut problems = Vec::new();
    let set = |name: &str| env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());

    for (name, keys) in UNCHANGED_VARIABLES {
        let Some(text) = set(name) else { continue };
        let place = places.add(Origin::Variable(name.to_owned()));
        for (section, key) in keys {
            let value = Value::new(Some(&place), ValueKind::String(text.to_owned()));
            insert(&mut layer.table, &[(*section).to_owned(), (*key).to_owned()], &place, value);
        }
    }
    // The maximum rounds up to whole minutes, so that a machine is not requested for less time
    // than before.
    let scaled = [
        (POLL_INTERVAL_VAR, ["serverless", "poll_max_ms"]),
        (DURATION_VAR, ["cloud", "max_minutes"]),
    ];
    for (name, parts) in scaled {
        let Some(text) = set(name) else { continue };
        match text.parse::<f64>().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds)) {
            #[expect(clippy::cast_possible_truncation, reason = "at most a day of milliseconds")]
            Some(seconds) => {
                let place = places.add(Origin::Variable(name.to_owned()));
                // Dividing by 60 is exact for whole minutes; multiplying by 1/60 would not be.
                let number = if name == DURATION_VAR {
                    (seconds / 60.0).ceil()
                } else {
                    (seconds * 1e3).round()
                };
                let value = Value::new(Some(&place), ValueKind::I64(number as i64));
                insert(&mut layer.table, &parts.map(str::to_owned), &place, value);
            }
            None => problems.push(wrong_type(name, "a number of seconds", text)),
        }
    }
    if let Some(text) = set(SERVER_TYPE_VAR) {
        let place = places.add(Origin::Variable(SERVER_TYPE_VAR.to_owned()));
        let word = if text.eq_ignore_ascii_case("x-large") { "extra-large" } else { text };
        let value = Value::new(Some(&place), ValueKind::String(word.to_owned()));
        insert(&mut layer.table, &["cloud".to_owned(), "server_type".to_owned()], &place, value);
    }
    match fallback(&set) {
        Ok(Some((allowed, name))) => {
            if let Some(mode) = mode_with_fallback(mode_of(below), allowed) {
                let place = places.add(Origin::Variable(name.to_owned()));
                let value = Value::new(Some(&place), ValueKind::String(mode.word().to_owned()));
                layer.table.insert("mode".to_owned(), value);
            }
        }
        Ok(None) => {}
        Err(mut found) => problems.append(&mut found),
    }
    (layer, problems)
}

/// Returns what the two fallback variables agree on, and the name of the first one that is set.
fn fallback<'a>(
    set: &impl Fn(&str) -> Option<&'a str>,
) -> Result<Option<(bool, &'static str)>, Vec<ConfigError>> {
    let mut problems = Vec::new();
    let mut agreed: Option<(bool, &'static str)> = None;
    for name in FALLBACK_VARS {
        let Some(text) = set(name) else { continue };
        match (parse_bool(text), agreed) {
            (None, _) => problems.push(wrong_type(name, "true or false", text)),
            (Some(allowed), None) => agreed = Some((allowed, name)),
            (Some(allowed), Some((other, first))) if allowed != other => {
                let problem = ConfigProblem::Contradiction { other: first };
                problems.push(ConfigError { origin: Origin::Variable(name.to_owned()), problem });
            }
            (Some(_), Some(_)) => {}
        }
    }
    if problems.is_empty() { Ok(agreed) } else { Err(problems) }
}

/// Returns whether one of CONJURE's variables is a setting here.
pub(in crate::config) fn is_conjure_variable(name: &str) -> bool {
    UNCHANGED_VARIABLES.iter().any(|(known, _)| *known == name)
        || FALLBACK_VARS.contains(&name)
        || [POLL_INTERVAL_VAR, DURATION_VAR, SERVER_TYPE_VAR].contains(&name)
}

/// Lists the keys that one of our variables and one of CONJURE's set to different values, with both
/// names. That is never intended, and the later layer would win silently. Values are not shown.
pub(in crate::config) fn conflicting_variables(
    ours: &Layer,
    theirs: &Layer,
    places: &Origins,
) -> Vec<String> {
    let mut ignored = Vec::new();
    for (section, table) in &theirs.table {
        let (Some(table), Some(own)) =
            (table_of(table), ours.table.get(section).and_then(table_of))
        else {
            continue;
        };
        for (key, value) in table {
            if let Some(other) = own.get(key).filter(|other| !same_value(&other.kind, &value.kind))
            {
                ignored.push(format!(
                    "{} and {} set `{section}.{key}` to different values; the second one is used",
                    places.of(other),
                    places.of(value)
                ));
            }
        }
    }
    // A table has no order.
    ignored.sort();
    ignored
}

/// Returns whether two values of variables mean the same, however a number or a flag is written.
fn same_value(a: &ValueKind, b: &ValueKind) -> bool {
    let (a, b) = (a.to_string(), b.to_string());
    let (a, b) = (a.trim(), b.trim());
    let numbers = || Some(a.parse::<f64>().ok()?.to_bits() == b.parse::<f64>().ok()?.to_bits());
    let flags = || Some(parse_bool(a)? == parse_bool(b)?);
    a.eq_ignore_ascii_case(b) || numbers().or_else(flags).unwrap_or(false)
}

fn wrong_type(name: &str, expected: &str, text: &str) -> ConfigError {
    let problem = ConfigProblem::WrongType {
        key: name.to_owned(),
        expected: expected.to_owned(),
        found: quoted(text),
    };
    ConfigError { origin: Origin::Variable(name.to_owned()), problem }
}

/// Parses a flag as shells and Python programs write it.
pub(in crate::config) fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Returns the mode that `layers` result in; `None` if the last value is not a valid mode.
fn mode_of(layers: &[Layer]) -> Option<Mode> {
    let value = layers.iter().rev().find_map(|layer| layer.table.get("mode"))?;
    let ValueKind::String(text) = &value.kind else { return None };
    Mode::named(text)
}

/// Returns the mode that results from allowing or forbidding a fallback; `None` if nothing changes.
fn mode_with_fallback(mode: Option<Mode>, allowed: bool) -> Option<Mode> {
    match (mode?, allowed) {
        (Mode::Serverless, true) => Some(Mode::Auto),
        (Mode::Auto, false) => Some(Mode::Serverless),
        (Mode::Auto | Mode::Local | Mode::Cloud, true)
        | (Mode::Serverless | Mode::Local | Mode::Cloud, false) => None,
    }
}

pub(in crate::config) fn variable_name(section: &str, key: &str) -> String {
    let section = if section.is_empty() { String::new() } else { format!("{section}__") };
    format!("{PREFIX}{section}{key}").to_uppercase()
}
