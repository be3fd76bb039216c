//! Reading keys out of a table, each with its type, collecting every complaint on the way.
//!
//! A section asks for each key it knows, with what the key must be; [`Section::finish`] then complains about every key
//! nobody asked for. So the list of keys stands in one place only: where they are read. After a complaint, and for a
//! key that a layer does not set, the reader hands out a *filler* and reading goes on; a value that was read along
//! with complaints is thrown away by the caller.

use std::fmt::Display;

use ::config::{Value, ValueKind};

use super::folders::Folders;
use crate::config::{
    enums::Word,
    errors::{ConfigError, Hint, Problem, nearest},
    secrets::shape::{is_secret_name, is_secret_value, shown_key},
    sources::{
        environment::variable_of,
        layer::{items_of, table_of},
        origin::{Place, Places},
        toml_source::{Table, type_name},
    },
};

pub(in crate::config) use super::raw_value::Found;

/// What to do about a key that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Demand {
    /// A single layer sets what it likes.
    Some,
    /// All layers together set everything: the built-in defaults do.
    All,
}

/// What every section's reading needs.
pub(in crate::config) struct Reader<'a> {
    /// Where values were written.
    pub places: &'a Places,
    /// What relative paths and `~` stand for.
    pub folders: &'a Folders,
    /// The built-in defaults: every key there is, for hints, and the names of a project's files.
    pub defaults: &'a Table,
    /// What to do about a key that is not there.
    pub demand: Demand,
    /// The complaints so far.
    pub problems: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    /// Begins to read the section `name` of `table`; the empty name is the top level.
    pub(in crate::config) fn section<'r>(
        &'r mut self,
        table: &'a Table,
        name: &'static str,
    ) -> Section<'r, 'a> {
        let found = if name.is_empty() { Some(table) } else { self.inner(table, name) };
        Section { reader: self, table: found, fallback: None, name, asked: Vec::new() }
    }

    /// Finds the table of a section, down the dots of its name.
    fn inner(&mut self, table: &'a Table, name: &str) -> Option<&'a Table> {
        let mut table = table;
        for part in name.split('.') {
            let value = table.get(part)?;
            let Some(inner) = table_of(value) else {
                let expected = format!("a section, [{name}]");
                let problem =
                    Problem::WrongType { key: part.to_owned(), expected, found: type_name(value) };
                self.complain(self.places.of(value), problem);
                return None;
            };
            table = inner;
        }
        Some(table)
    }

    /// Begins to read a table that stands in a list; keys that it lacks are read from `fallback`.
    pub(in crate::config) fn entry<'r>(
        &'r mut self,
        table: &'a Table,
        fallback: Option<&'a Table>,
        name: &'static str,
    ) -> Section<'r, 'a> {
        Section { reader: self, table: Some(table), fallback, name, asked: Vec::new() }
    }

    /// Notes a complaint.
    pub(in crate::config) fn complain(&mut self, place: Place, problem: Problem) {
        self.problems.push(ConfigError { place, problem });
    }

    /// Finds where a key would belong that does not belong where it stands.
    fn home_of(&self, key: &str) -> Option<&'a str> {
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

/// One section being read.
pub(in crate::config) struct Section<'r, 'a> {
    reader: &'r mut Reader<'a>,
    table: Option<&'a Table>,
    fallback: Option<&'a Table>,
    name: &'static str,
    asked: Vec<&'static str>,
}

impl<'a> Section<'_, 'a> {
    /// Returns what is written for `key`, if anything is.
    pub(in crate::config) fn find(&mut self, key: &'static str) -> Option<Found<'a>> {
        self.asked.push(key);
        let value = self
            .table
            .and_then(|table| table.get(key))
            .or_else(|| self.fallback.and_then(|table| table.get(key)));
        let Some(value) = value else {
            if self.reader.demand == Demand::All && self.fallback.is_none() {
                let problem = Problem::Missing { key: self.path(key), why: " in the defaults" };
                self.reader.complain(Place::BuiltIn(1), problem);
            }
            return None;
        };
        let found = self.found(value, self.path(key));
        if let ValueKind::String(text) = &value.kind
            && is_secret_value(text)
        {
            self.reader.complain(found.place, Problem::Secret { key: found.key });
            return None;
        }
        Some(found)
    }

    /// Returns what is written for `key` in the table itself; that it is not is no complaint.
    pub(in crate::config) fn find_own(&mut self, key: &'static str) -> Option<Found<'a>> {
        self.asked.push(key);
        let value = self.table.and_then(|table| table.get(key))?;
        Some(self.found(value, self.path(key)))
    }

    /// Reads `key` with `read`; complaints are noted, and `filler` stands for what could not be read.
    pub(in crate::config) fn take<T>(
        &mut self,
        key: &'static str,
        filler: T,
        read: impl FnOnce(&Found<'a>) -> Result<T, Problem>,
    ) -> T {
        let Some(found) = self.find(key) else { return filler };
        match read(&found) {
            Ok(value) => value,
            Err(problem) => {
                self.reader.complain(found.place, problem);
                filler
            }
        }
    }

    /// Reads `key` as a word of a few.
    pub(in crate::config) fn word<W: Word>(&mut self, key: &'static str) -> W {
        self.take(key, W::ALL[0], Found::word)
    }

    /// Reads `key` as yes or no.
    pub(in crate::config) fn flag(&mut self, key: &'static str) -> bool {
        self.take(key, false, Found::flag)
    }

    /// Reads `key` as a list, each item with `read`.
    pub(in crate::config) fn list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl Fn(&Found<'_>) -> Result<T, Problem>,
    ) -> Vec<T> {
        let Some(found) = self.find(key) else { return Vec::new() };
        if let Some(items) = items_of(found.value) {
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                let item = self.found(item, found.key.clone());
                match read(&item) {
                    Ok(value) => list.push(value),
                    Err(problem) => self.reader.complain(item.place, problem),
                }
            }
            return list;
        }
        match found.comma_separated(expected) {
            Ok(texts) => {
                let mut list = Vec::with_capacity(texts.len());
                for value in &texts {
                    match read(&Found { value, ..found.clone() }) {
                        Ok(value) => list.push(value),
                        Err(problem) => self.reader.complain(found.place.clone(), problem),
                    }
                }
                list
            }
            Err(problem) => {
                self.reader.complain(found.place, problem);
                Vec::new()
            }
        }
    }

    /// Notes a complaint about `key`.
    pub(in crate::config) fn complain(&mut self, place: Place, problem: Problem) {
        self.reader.complain(place, problem);
    }

    /// Marks a key as known that is read elsewhere.
    pub(in crate::config) fn known(&mut self, key: &'static str) {
        self.asked.push(key);
    }

    fn found(&self, value: &'a Value, key: String) -> Found<'a> {
        Found { value, place: self.reader.places.of(value), key, folders: self.reader.folders }
    }

    /// Returns the whole name of a key.
    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// Complains about every key that nobody asked for.
    pub(in crate::config) fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, value) in table {
            if self.asked.contains(&key.as_str()) {
                continue;
            }
            let place = self.reader.places.of(value);
            let secret = is_secret_name(key) && !is_misspelt(key, &self.asked);
            let problem = if secret && matches!(place, Place::Variable(_)) {
                Problem::UnknownVariable(Hint::TokenVariable)
            } else if secret {
                Problem::Secret { key: self.path(&shown_key(key)) }
            } else {
                self.unknown(key, value, &place)
            };
            self.reader.complain(place, problem);
        }
    }

    fn unknown(&self, key: &str, value: &Value, place: &Place) -> Problem {
        let near = nearest(key, self.asked.iter().copied());
        if matches!(place, Place::Variable(_)) {
            let hint = near.map_or(Hint::None, |key| Hint::Near(variable_of(self.name, key)));
            return Problem::UnknownVariable(hint);
        }
        if self.name.is_empty() && table_of(value).is_some() {
            let hint = near.map_or(Hint::None, |name| Hint::Near(format!("[{name}]")));
            return Problem::UnknownSection { name: shown_key(key), hint };
        }
        let hint = match (near, self.reader.home_of(key)) {
            (_, Some("")) => Hint::BelongsToTop,
            (_, Some(home)) => Hint::BelongsTo(home.to_owned()),
            (Some(name), None) => Hint::Near(name.to_owned()),
            (None, None) => Hint::None,
        };
        Problem::UnknownKey { key: shown_key(key), section: self.name, hint }
    }
}

/// Tells whether a name is one of ours with a slip in it: `token_fil` is no secret.
fn is_misspelt(key: &str, asked: &[&str]) -> bool {
    asked.iter().any(|known| strsim::damerau_levenshtein(&shown_key(key), known) <= 2)
}

/// Lists words for a complaint.
pub(in crate::config) fn listed<T: Display>(words: impl IntoIterator<Item = T>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
