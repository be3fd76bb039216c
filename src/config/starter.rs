//! A user's first configuration: `config.example.toml` with everything commented out except
//! what differs.
//!
//! Owns the text that `conjured init` writes, and which settings CONJURE's own variables correspond
//! to. A token is never included: the variables that may contain one are not settings. Nothing is
//! written or asked here.

use std::{collections::BTreeMap, path::Path};

use ::config::ValueKind;
use toml::Value as Toml;

use super::{
    EXAMPLE,
    errors::ConfigErrors,
    sources::{
        Layer, environment,
        origin::Origins,
        toml_source::{TextSource, read_document, table_of},
    },
};

/// A setting that differs from its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// The section; empty for the keys above all sections.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value in TOML notation.
    pub value: String,
    /// Its source (`RUNCOMFY_DEPLOYMENT_ID`, `--mode`).
    pub from: String,
}

impl SettingChange {
    /// Returns the change of a text setting.
    pub fn text(section: &str, key: &str, value: &str, from: &str) -> Self {
        let value = toml_text(&Toml::String(value.to_owned()));
        Self { section: section.to_owned(), key: key.to_owned(), value, from: from.to_owned() }
    }
}

/// Returns whether [`imported_changes`] translates a variable of this name.
pub fn is_conjure_variable(name: &str) -> bool {
    environment::is_conjure_variable(name)
}

/// Translates CONJURE's variables into the changes they make; a default value is no change. The
/// values are not validated here: the caller has already loaded a configuration with the same
/// variables, which rejects wrong values.
pub fn imported_changes(
    env: &BTreeMap<String, String>,
) -> Result<Vec<SettingChange>, ConfigErrors> {
    let mut places = Origins::default();
    let defaults =
        read_document(EXAMPLE, &TextSource::BuiltIn, &mut places).map_err(ConfigErrors)?;
    let below = [Layer { table: defaults, by_user: false }];
    let (layer, problems) = environment::runcomfy_variables(env, &below, &mut places);
    if !problems.is_empty() {
        return Err(ConfigErrors(problems));
    }
    let usual: toml::Table = EXAMPLE.parse().unwrap_or_default();
    let mut changes = Vec::new();
    for (name, value) in &layer.table {
        let place = |value| places.of(value).to_string();
        match table_of(value) {
            Some(keys) => changes.extend(keys.iter().filter_map(|(key, value)| {
                change(name, key, value, usual.get(name)?.get(key)?, &place(value))
            })),
            None => changes.extend(
                usual.get(name).and_then(|usual| change("", name, value, usual, &place(value))),
            ),
        }
    }
    changes.sort_by(|a, b| (&a.section, &a.key).cmp(&(&b.section, &b.key)));
    Ok(changes)
}

fn change(
    section: &str,
    key: &str,
    value: &::config::Value,
    usual: &Toml,
    place: &str,
) -> Option<SettingChange> {
    let text = match &value.kind {
        ValueKind::String(text) => text.trim().to_owned(),
        ValueKind::I64(number) => number.to_string(),
        _ => return None,
    };
    let value = match usual {
        Toml::Boolean(_) => Toml::Boolean(environment::parse_bool(&text)?),
        Toml::Integer(_) | Toml::Float(_) => match text.parse::<i64>() {
            Ok(number) => Toml::Integer(number),
            Err(_) => Toml::Float(text.parse().ok()?),
        },
        _ => Toml::String(text),
    };
    let number = |value: &Toml| match value {
        #[expect(clippy::cast_precision_loss, reason = "settings are far below 2^53")]
        Toml::Integer(number) => Some(*number as f64),
        Toml::Float(number) => Some(*number),
        _ => None,
    };
    let same = match (number(&value), number(usual)) {
        (Some(value), Some(usual)) => value.to_bits() == usual.to_bits(),
        _ => value == *usual,
    };
    let from = place.strip_prefix("environment variable ").unwrap_or(place).to_owned();
    (!same).then(|| SettingChange {
        section: section.to_owned(),
        key: key.to_owned(),
        value: toml_text(&value),
        from,
    })
}

/// Formats a value. JSON's notation for a text is also valid TOML, and our TOML library's writer
/// would add 100 KB.
fn toml_text(value: &Toml) -> String {
    match value {
        Toml::String(text) => serde_json::Value::from(text.as_str()).to_string(),
        Toml::Integer(number) => number.to_string(),
        Toml::Float(number) => format!("{number:?}"),
        Toml::Boolean(flag) => flag.to_string(),
        Toml::Datetime(_) | Toml::Array(_) | Toml::Table(_) => String::new(),
    }
}

/// The text above the settings in a file that `init` writes.
const HEAD: &str = "\
# The configuration of conjured, written by `conjured init`.
#
# A line that begins with `#` and a key shows the default; remove the `#` to change it. A saved
# change takes effect at once. The environment overrides this file: CONJURED__SECTION__KEY, and
# CONJURE's own RUNCOMFY_… variables. Never write a token in here: `conjured login` stores it.
";

/// Returns the configuration of the checkout `root` with these changes; `None` if the path is not
/// UTF-8, as TOML requires.
pub fn starter(root: &Path, changes: &[SettingChange]) -> Option<String> {
    let root = SettingChange::text("project", "root", root.to_str()?, "");
    let find = |section: &str, key: &str| {
        changes.iter().chain([&root]).find(|change| change.section == section && change.key == key)
    };
    let mut text = HEAD.to_owned();
    let mut section = String::new();
    let mut open = 0_i32;
    // The example's own head only explains the example.
    for line in EXAMPLE.lines().skip_while(|line| !line.is_empty()) {
        let brackets = |line: &str| {
            line.chars().fold(0, |open, c| open + i32::from(c == '[') - i32::from(c == ']'))
        };
        if open > 0 {
            // A list's continuation lines.
            open += brackets(line);
            text.push_str(&format!("#{line}\n"));
        } else if line.starts_with('[') {
            line.trim_matches(['[', ']']).clone_into(&mut section);
            text.push_str(&format!("{line}\n"));
        } else if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#'))
        {
            open = brackets(value);
            match find(&section, key) {
                Some(change) if change.from.is_empty() => {
                    text.push_str(&format!("{key} = {}\n", change.value));
                }
                Some(change) => {
                    let (value, from) = (&change.value, &change.from);
                    text.push_str(&format!("{key} = {value}  # from {from}\n"));
                }
                None => text.push_str(&format!("#{line}\n")),
            }
        } else {
            text.push_str(&format!("{line}\n"));
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::ConfigFixture;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    // `/srv` is not an absolute path on Windows.
    #[cfg(unix)]
    #[test]
    fn a_starter_says_the_defaults_and_nothing_is_remarked() {
        let fixture = ConfigFixture::with(&starter(Path::new("/srv/CONJURE"), &[]).expect("UTF-8"));
        let loaded = fixture.loaded();
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert_eq!(loaded.not_in_effect, Vec::<String>::new());
        assert_eq!(loaded.config.projects[0].root, Path::new("/srv/CONJURE"));
        let mut usual = ConfigFixture::new().loaded().config;
        usual.projects.clone_from(&loaded.config.projects);
        assert_eq!(loaded.config, usual);
    }

    #[test]
    fn every_line_of_a_starter_that_is_a_setting_becomes_one_when_the_mark_is_taken_away() {
        let text = starter(Path::new("/srv/CONJURE"), &[]).expect("UTF-8");
        let is_setting = |line: &str| {
            line.strip_prefix('#')
                .is_some_and(|rest| rest.starts_with(|c: char| !c.is_whitespace()))
        };
        // The second line of a list has its indentation after the `#`.
        let all: Vec<&str> = text
            .lines()
            .map(|line| {
                if is_setting(line) || line.starts_with("#     ") && line.ends_with(']') {
                    &line[1..]
                } else {
                    line
                }
            })
            .collect();
        let mut fixture = ConfigFixture::with(&all.join("\n").replace("root = \"~/CONJURE\"", ""));
        let mut usual = ConfigFixture::new();
        fixture.sources.folders.home = Some("/home/ada".into());
        usual.sources.folders.home = Some("/home/ada".into());
        let (active, mut usual) = (fixture.loaded().config, usual.loaded().config);
        usual.projects.clone_from(&active.projects);
        assert_eq!(active, usual);
    }

    // Its paths contain characters that Windows does not allow.
    #[cfg(unix)]
    #[test]
    fn conjures_variables_become_settings_and_defaults_do_not() {
        let env = env(&[
            ("RUNCOMFY_DEPLOYMENT_ID", "dep-1"),
            ("RUNCOMFY_COST_LIMIT_PER_SESSION", "2.5"),
            ("RUNCOMFY_DEFAULT_STEPS_FLUX", "20"),
            ("RUNCOMFY_SERVERLESS_ENABLED", "yes"),
            ("RUNCOMFY_FALLBACK_TO_LOCAL", "false"),
            ("RUNCOMFY_POLL_INTERVAL", "2"),
            ("RUNCOMFY_API_TOKEN", "never-in-there"),
        ]);
        let changes = imported_changes(&env).expect("understood");
        let told: Vec<String> = changes
            .iter()
            .map(|change| {
                format!("{}.{} = {} ({})", change.section, change.key, change.value, change.from)
            })
            .collect();
        assert_eq!(
            told,
            [
                ".mode = \"serverless\" (RUNCOMFY_FALLBACK_TO_LOCAL)",
                "budget.per_session_usd = 2.5 (RUNCOMFY_COST_LIMIT_PER_SESSION)",
                "serverless.deployment_id = \"dep-1\" (RUNCOMFY_DEPLOYMENT_ID)",
                "serverless.poll_max_ms = 2000 (RUNCOMFY_POLL_INTERVAL)",
            ]
        );
        let text = starter(Path::new("/srv/a \"b\"\\c"), &changes).expect("UTF-8");
        assert!(!text.contains("never-in-there"), "{text}");
        let config = ConfigFixture::with(&text).loaded().config;
        assert_eq!(config.serverless.deployment_id.as_deref(), Some("dep-1"));
        assert_eq!(config.projects[0].root, Path::new("/srv/a \"b\"\\c"));
    }

    #[test]
    fn a_variable_that_cannot_be_understood_is_complained_of() {
        let error =
            imported_changes(&env(&[("RUNCOMFY_POLL_INTERVAL", "soon")])).expect_err("no number");
        assert!(error.to_string().contains("RUNCOMFY_POLL_INTERVAL"), "{error}");
    }
}
