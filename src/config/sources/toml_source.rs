//! Parses TOML text into values that know their line, and reports syntax errors so that they can
//! be found.
//!
//! Owns the conversion of text to [`Value`]s, not their meaning. The parser limits its own depth;
//! the caller limits the size ([`super::files`]). TOML has dates, but no setting uses them: they
//! become [`ValueKind::Nil`], which TOML does not have, so that an error can name them.

use std::{path::Path, sync::Arc};

use ::config::{Map, Value, ValueKind};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::origin::{Origin, Origins};
use crate::config::{
    errors::{ConfigError, ConfigProblem},
    secrets::shape::{display_key, masked_line},
};

/// A table of settings.
pub(in crate::config) type Table = Map<String, Value>;

/// The most syntax errors that are reported for one file.
const MAX_ERRORS: usize = 20;

/// Only the part around the error is shown of a line longer than this.
const SHOWN_COLUMNS: usize = 100;

/// The origin of the parsed text.
#[derive(Clone, Debug)]
pub(in crate::config) enum TextSource {
    /// The built-in defaults.
    BuiltIn,
    File(Arc<Path>),
    /// A variable's value; all of it has one origin.
    Variable(String),
}

pub(in crate::config) fn read_document(
    text: &str,
    whose: &TextSource,
    places: &mut Origins,
) -> Result<Table, Vec<ConfigError>> {
    // Editors on Windows write a byte order mark first; it is not content.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Lines::new(text, whose);
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(lines.convert_table(document.get_ref(), places));
    }
    // Further errors on the same line come from the parser's recovery. They are removed before
    // anything is quoted, because a hostile text has as many errors as characters, all on one
    // long line.
    let mut first: Vec<(usize, &toml::de::Error)> =
        errors.iter().map(|error| (lines.line(lines.position(error)), error)).collect();
    first.sort_by_key(|(line, error)| (*line, lines.position(error)));
    first.dedup_by_key(|(line, _)| *line);
    let problems = first.iter().take(MAX_ERRORS).map(|(_, error)| lines.syntax_error(error));
    let more = first.get(MAX_ERRORS).map(|(_, error)| ConfigError {
        origin: lines.origin(lines.position(error)),
        problem: ConfigProblem::More(first.len() - MAX_ERRORS),
    });
    Err(problems.chain(more).collect())
}

/// Reads one value from the environment: `[1, 2]`, `{ prompt = "41.value" }`. Returns `None` if it
/// is not TOML.
pub(in crate::config) fn read_value(text: &str, name: &str, places: &mut Origins) -> Option<Value> {
    let value = DeValue::parse(text).ok()?;
    let whose = TextSource::Variable(name.to_owned());
    Some(Lines::new(text, &whose).convert_value(value.get_ref(), value.span().start, places))
}

/// The positions at which the lines of a text begin.
struct Lines<'t> {
    text: &'t str,
    source: &'t TextSource,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str, whose: &'t TextSource) -> Self {
        let starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, source: whose, starts }
    }

    /// Returns the line of a byte, counted from 1.
    fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at).max(1)
    }

    fn origin(&self, at: usize) -> Origin {
        match self.source {
            TextSource::BuiltIn => Origin::BuiltIn(self.line(at)),
            TextSource::File(file) => Origin::Line(Arc::clone(file), self.line(at)),
            TextSource::Variable(name) => Origin::Variable(name.clone()),
        }
    }

    fn convert_table(&self, table: &DeTable<'_>, places: &mut Origins) -> Table {
        table
            .iter()
            .map(|(key, value)| {
                // The position of the key and not of the value, because that is the line to
                // look for.
                let value = self.convert_value(value.get_ref(), key.span().start, places);
                (key.get_ref().to_string(), value)
            })
            .collect()
    }

    fn convert_value(&self, value: &DeValue<'_>, at: usize, places: &mut Origins) -> Value {
        let kind = match value {
            DeValue::String(text) => ValueKind::String(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(
                    // Too large for any setting; kept as a number, so that the range check
                    // rejects it.
                    |_| {
                        let negative = number.as_str().starts_with('-');
                        ValueKind::Float(if negative { f64::MIN } else { f64::MAX })
                    },
                    ValueKind::I64,
                ),
            DeValue::Float(number) => {
                // `parse` also reads TOML's `inf` and `nan`, which every range check rejects.
                ValueKind::Float(number.as_str().parse().unwrap_or(f64::NAN))
            }
            DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
            DeValue::Datetime(_) => ValueKind::Nil,
            DeValue::Array(items) => ValueKind::Array(
                items
                    .iter()
                    .map(|item: &Spanned<DeValue<'_>>| {
                        self.convert_value(item.get_ref(), item.span().start, places)
                    })
                    .collect(),
            ),
            DeValue::Table(table) => ValueKind::Table(self.convert_table(table, places)),
        };
        Value::new(Some(&places.add(self.origin(at))), kind)
    }

    /// Returns the byte position of an error, at the beginning of a character.
    fn position(&self, error: &toml::de::Error) -> usize {
        let at = error.span().map_or(self.text.len(), |span| span.start);
        // The end of the text is after its last line break; what is missing there belongs to the
        // line before.
        let at = if at >= self.text.len() { self.text.trim_end().len() } else { at };
        (0..=at).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
    }

    fn syntax_error(&self, error: &toml::de::Error) -> ConfigError {
        let at = self.position(error);
        let line = self.line(at);
        let start = self.starts[line - 1];
        let text = self.text[start..].lines().next().unwrap_or_default();
        let column = self.text[start..at].chars().count();
        let message = parser_message(error.message());
        ConfigError {
            origin: self.origin(at),
            problem: ConfigProblem::Syntax {
                column: column + 1,
                message,
                snippet: snippet(text, line, column),
            },
        }
    }
}

/// Returns the parser's own message. It may quote keys, but never a value.
fn parser_message(message: &str) -> String {
    message
        .split_whitespace()
        .map(|word| word.to_owned() + " ")
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Returns a line with a caret below `column` (counted from 0).
fn snippet(text: &str, line: usize, column: usize) -> String {
    let masked: Vec<char> = masked_line(text).chars().collect();
    let from =
        if masked.len() > SHOWN_COLUMNS { column.saturating_sub(SHOWN_COLUMNS / 2) } else { 0 };
    let shown: String = masked.iter().skip(from).take(SHOWN_COLUMNS).collect();
    let number = line.to_string();
    let caret = " ".repeat(column.saturating_sub(from));
    format!("  {number} | {}\n  {} | {caret}^", shown.trim_end(), " ".repeat(number.len()))
}

/// Returns the origin of the first byte that is not UTF-8.
pub(in crate::config) fn first_bad_line(
    bytes: &[u8],
    valid_up_to: usize,
    file: &Arc<Path>,
) -> Origin {
    let line = bytes[..valid_up_to].split(|byte| *byte == b'\n').count();
    Origin::Line(Arc::clone(file), line)
}

/// Returns the name of a value's type, as used in errors.
pub(in crate::config) fn type_name(value: &Value) -> String {
    match &value.kind {
        ValueKind::Nil => "a date or a time".to_owned(),
        ValueKind::Boolean(flag) => format!("{flag}"),
        ValueKind::I64(number) => format!("the number {number}"),
        ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a huge number".to_owned(),
        ValueKind::Float(number) if number.abs() >= 1e300 => "a huge number".to_owned(),
        ValueKind::Float(number) => format!("the number {number}"),
        ValueKind::String(text) => match crate::config::secrets::shape::quoted(text) {
            quoted if quoted.starts_with('"') => format!("the text {quoted}"),
            hidden => hidden,
        },
        ValueKind::Table(table) => match table.keys().min() {
            Some(key) => format!("a table with `{}`", display_key(key)),
            None => "an empty table".to_owned(),
        },
        ValueKind::Array(_) => "a list".to_owned(),
    }
}

pub(in crate::config) fn table_of(value: &Value) -> Option<&Table> {
    match &value.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}

/// Returns the items of the value's list, if it is one.
pub(in crate::config) fn items_of(value: &Value) -> Option<&[Value]> {
    match &value.kind {
        ValueKind::Array(items) => Some(items),
        _ => None,
    }
}
