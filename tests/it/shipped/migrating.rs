//! `docs/migrating.md`: every setting that it names exists, and every variable that is read is in
//! its table.
//!
//! Owns the comparison of names. What a variable means is tested in `src/config/tests/legacy.rs`.

use std::collections::BTreeSet;

use super::text;

const PAGE: &str = "docs/migrating.md";

/// Returns every key of the example: `section.key`, and the keys above all sections without one.
fn keys() -> BTreeSet<String> {
    let example: toml::Table = text("config.example.toml").parse().expect("TOML");
    let mut keys = BTreeSet::new();
    for (name, value) in &example {
        let table = match value {
            toml::Value::Array(blocks) => blocks.first().and_then(toml::Value::as_table),
            value => value.as_table(),
        };
        match table {
            Some(table) => keys.extend(table.keys().map(|key| format!("{name}.{key}"))),
            None => drop(keys.insert(name.clone())),
        }
    }
    keys
}

/// Returns the texts between backticks, without code blocks.
fn quoted(markdown: &str) -> Vec<String> {
    let mut within = false;
    let prose = markdown.lines().filter(|line| {
        within ^= line.starts_with("```");
        !within && !line.starts_with("```")
    });
    let prose: Vec<&str> = prose.collect();
    prose.join("\n").split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the key that a quotation names, with or without a value: two lower-case words with a dot
/// between them, of which the first is a section's name.
fn key_in(quotation: &str, sections: &BTreeSet<&str>) -> Option<String> {
    let key = quotation.split(" = ").next().unwrap_or_default().trim();
    let is_word = |word: &str| {
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '0'..='9'))
    };
    let (section, name) = key.split_once('.')?;
    (is_word(section) && is_word(name) && sections.contains(section)).then(|| key.to_owned())
}

#[test]
fn every_setting_that_the_guide_names_exists() {
    let keys = keys();
    let sections: BTreeSet<&str> =
        keys.iter().filter_map(|key| key.split_once('.')).map(|(section, _)| section).collect();
    let quoted = quoted(&text(PAGE));
    let named: BTreeSet<String> =
        quoted.iter().filter_map(|text| key_in(text, &sections)).collect();
    let unknown: Vec<_> = named.difference(&keys).collect();
    assert!(unknown.is_empty(), "{PAGE} names settings that do not exist: {unknown:?}");
    assert!(named.len() >= 20, "only {} settings were found", named.len());
    // A section that does not exist is not a word of some other notation either.
    for text in &quoted {
        if let Some((key, _)) = text.split_once(" = ") {
            assert!(keys.contains(key.trim()), "{PAGE} sets `{key}`, which does not exist");
        }
    }
}

#[test]
fn every_variable_that_is_understood_stands_in_the_guide() {
    let quoted = quoted(&text(PAGE));
    let example = text("config.example.toml");
    // The list in the example's head: a name and its meaning.
    let names: BTreeSet<&str> = example
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("#        "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.len() >= 16, "only {names:?} were found");
    for name in names {
        assert!(quoted.iter().any(|text| text == name), "{PAGE} says nothing of {name}");
        assert!(
            conjured::config::starter::is_conjure_variable(name),
            "the example lists {name}, which is not understood"
        );
    }
}
