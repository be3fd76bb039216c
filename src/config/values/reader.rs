//! Reads keys from a table, each with its type, and collects every error on the way.
//!
//! A section asks for each key that it knows, with the key's requirements;
//! [`SectionReader::finish`] then reports every key that was not asked for. So the list of keys
//! exists only once: where they are read. After an error, and for a key that a layer does not set,
//! the reader returns a *filler* and goes on; the caller discards a value that was read with
//! errors.

use std::fmt::Display;

use ::config::{Value, ValueKind};

use super::folders::Folders;
use crate::config::{
    enums::Keyword,
    errors::{ConfigError, ConfigProblem, Hint, nearest},
    secrets::shape::{display_key, is_secret_name, is_secret_value},
    sources::{
        environment::variable_name,
        origin::{Origin, Origins},
        toml_source::{Table, items_of, table_of, type_name},
    },
};

pub(in crate::config) use super::raw_value::RawValue;

/// What to do about a missing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Completeness {
    /// A single layer may set any subset of the keys.
    Some,
    /// All layers together must set every key; the built-in defaults do.
    All,
}

/// The state shared by all sections while they are read.
pub(in crate::config) struct ConfigReader<'a> {
    /// The origins of the values.
    pub origins: &'a Origins,
    /// The folders that relative paths and `~` resolve to.
    pub folders: &'a Folders,
    /// The built-in defaults: every existing key, for suggestions, and the names of a
    /// project's files.
    pub defaults: &'a Table,
    /// What to do about a missing key.
    pub completeness: Completeness,
    /// The errors so far.
    pub problems: Vec<ConfigError>,
}

impl<'a> ConfigReader<'a> {
    /// Starts to read the section `name` of `table`; the empty name means the top level.
    pub(in crate::config) fn section<'r>(
        &'r mut self,
        table: &'a Table,
        name: &'static str,
    ) -> SectionReader<'r, 'a> {
        let found = if name.is_empty() { Some(table) } else { self.inner(table, name) };
        SectionReader { reader: self, table: found, fallback: None, name, known_keys: Vec::new() }
    }

    /// Finds the table of a section, following the dots in its name.
    fn inner(&mut self, table: &'a Table, name: &str) -> Option<&'a Table> {
        let mut table = table;
        for part in name.split('.') {
            let value = table.get(part)?;
            let Some(inner) = table_of(value) else {
                let expected = format!("a section, [{name}]");
                let problem = ConfigProblem::WrongType {
                    key: part.to_owned(),
                    expected,
                    found: type_name(value),
                };
                self.report(self.origins.of(value), problem);
                return None;
            };
            table = inner;
        }
        Some(table)
    }

    /// Starts to read a table that is an item of a list; missing keys are read from `fallback`.
    pub(in crate::config) fn entry<'r>(
        &'r mut self,
        table: &'a Table,
        fallback: Option<&'a Table>,
        name: &'static str,
    ) -> SectionReader<'r, 'a> {
        SectionReader { reader: self, table: Some(table), fallback, name, known_keys: Vec::new() }
    }

    pub(in crate::config) fn report(&mut self, origin: Origin, problem: ConfigProblem) {
        self.problems.push(ConfigError { origin, problem });
    }

    /// Finds the section in which a misplaced key belongs.
    fn section_of_key(&self, key: &str) -> Option<&'a str> {
        if self.defaults.contains_key(key) {
            return Some("");
        }
        self.defaults
            .iter()
            .filter(|(_, value)| table_of(value).is_some_and(|table| table.contains_key(key)))
            .map(|(name, _)| name.as_str())
            .min()
    }
}

/// One section while it is read.
pub(in crate::config) struct SectionReader<'r, 'a> {
    reader: &'r mut ConfigReader<'a>,
    table: Option<&'a Table>,
    fallback: Option<&'a Table>,
    name: &'static str,
    known_keys: Vec<&'static str>,
}

impl<'a> SectionReader<'_, 'a> {
    /// Returns the value of `key`, if there is one.
    pub(in crate::config) fn find(&mut self, key: &'static str) -> Option<RawValue<'a>> {
        self.known_keys.push(key);
        let value = self
            .table
            .and_then(|table| table.get(key))
            .or_else(|| self.fallback.and_then(|table| table.get(key)));
        let Some(value) = value else {
            if self.reader.completeness == Completeness::All && self.fallback.is_none() {
                let problem =
                    ConfigProblem::Missing { key: self.path(key), why: " in the defaults" };
                self.reader.report(Origin::BuiltIn(1), problem);
            }
            return None;
        };
        let raw = self.found(value, self.path(key));
        if let ValueKind::String(text) = &value.kind
            && is_secret_value(text)
        {
            self.reader.report(raw.origin, ConfigProblem::Secret { key: raw.key });
            return None;
        }
        Some(raw)
    }

    /// Returns the value of `key` in the table itself; a missing key is not an error.
    pub(in crate::config) fn find_own(&mut self, key: &'static str) -> Option<RawValue<'a>> {
        self.known_keys.push(key);
        let value = self.table.and_then(|table| table.get(key))?;
        Some(self.found(value, self.path(key)))
    }

    /// Reads `key` with `read`; errors are collected, and `filler` replaces a value that could not
    /// be read.
    pub(in crate::config) fn read<T>(
        &mut self,
        key: &'static str,
        filler: T,
        read: impl FnOnce(&RawValue<'a>) -> Result<T, ConfigProblem>,
    ) -> T {
        let Some(raw) = self.find(key) else { return filler };
        match read(&raw) {
            Ok(value) => value,
            Err(problem) => {
                self.reader.report(raw.origin, problem);
                filler
            }
        }
    }

    /// Reads `key` as one of a fixed set of words.
    pub(in crate::config) fn keyword<W: Keyword>(&mut self, key: &'static str) -> W {
        self.read(key, W::ALL[0], RawValue::keyword)
    }

    /// Reads `key` as a boolean.
    pub(in crate::config) fn flag(&mut self, key: &'static str) -> bool {
        self.read(key, false, RawValue::flag)
    }

    /// Reads `key` as a list, each item with `read`.
    pub(in crate::config) fn list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl Fn(&RawValue<'_>) -> Result<T, ConfigProblem>,
    ) -> Vec<T> {
        let Some(raw) = self.find(key) else { return Vec::new() };
        if let Some(items) = items_of(raw.value) {
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                let item = self.found(item, raw.key.clone());
                match read(&item) {
                    Ok(value) => list.push(value),
                    Err(problem) => self.reader.report(item.origin, problem),
                }
            }
            return list;
        }
        match raw.comma_separated(expected) {
            Ok(texts) => {
                let mut list = Vec::with_capacity(texts.len());
                for value in &texts {
                    match read(&RawValue { value, ..raw.clone() }) {
                        Ok(value) => list.push(value),
                        Err(problem) => self.reader.report(raw.origin.clone(), problem),
                    }
                }
                list
            }
            Err(problem) => {
                self.reader.report(raw.origin, problem);
                Vec::new()
            }
        }
    }

    /// Adds an error about `key`.
    pub(in crate::config) fn report(&mut self, origin: Origin, problem: ConfigProblem) {
        self.reader.report(origin, problem);
    }

    /// Marks a key as known that other code reads.
    pub(in crate::config) fn known(&mut self, key: &'static str) {
        self.known_keys.push(key);
    }

    fn found(&self, value: &'a Value, key: String) -> RawValue<'a> {
        RawValue { value, origin: self.reader.origins.of(value), key, folders: self.reader.folders }
    }

    /// Returns the complete name of a key.
    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// Reports every key that was not asked for.
    pub(in crate::config) fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, value) in table {
            if self.known_keys.contains(&key.as_str()) {
                continue;
            }
            let origin = self.reader.origins.of(value);
            let secret = is_secret_name(key) && !is_misspelt(key, &self.known_keys);
            let problem = if secret && matches!(origin, Origin::Variable(_)) {
                ConfigProblem::UnknownVariable(Hint::TokenVariable)
            } else if secret {
                ConfigProblem::Secret { key: self.path(&display_key(key)) }
            } else {
                self.unknown(key, value, &origin)
            };
            self.reader.report(origin, problem);
        }
    }

    fn unknown(&self, key: &str, value: &Value, origin: &Origin) -> ConfigProblem {
        let near = nearest(key, self.known_keys.iter().copied());
        if matches!(origin, Origin::Variable(_)) {
            let hint = near.map_or(Hint::None, |key| Hint::Near(variable_name(self.name, key)));
            return ConfigProblem::UnknownVariable(hint);
        }
        if self.name.is_empty() && table_of(value).is_some() {
            let hint = near.map_or(Hint::None, |name| Hint::Near(format!("[{name}]")));
            return ConfigProblem::UnknownSection { name: display_key(key), hint };
        }
        let hint = match (near, self.reader.section_of_key(key)) {
            (_, Some("")) => Hint::BelongsToTop,
            (_, Some(home)) => Hint::BelongsTo(home.to_owned()),
            (Some(name), None) => Hint::Near(name.to_owned()),
            (None, None) => Hint::None,
        };
        ConfigProblem::UnknownKey { key: display_key(key), section: self.name, hint }
    }
}

/// Returns whether a name is a known key with a typing mistake: `token_fil` is not a secret.
fn is_misspelt(key: &str, asked: &[&str]) -> bool {
    asked.iter().any(|known| strsim::damerau_levenshtein(&display_key(key), known) <= 2)
}

/// Formats a list of words for an error.
pub(in crate::config) fn listed<T: Display>(words: impl IntoIterator<Item = T>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
