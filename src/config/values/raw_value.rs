//! One value as it was written, and its conversion to each type that a setting may have.
//!
//! Owns types and ranges. An environment variable is always text, so numbers and flags are parsed
//! from it; a file must write a number as a number.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, time::Duration};

use ::config::{Value, ValueKind};

use super::{folders::Folders, reader::listed};
use crate::{
    config::{
        enums::Keyword,
        errors::{ConfigProblem, Hint, nearest},
        secrets::shape::quoted,
        sources::{environment::parse_bool, origin::Origin, toml_source::type_name},
    },
    domain::money::MicroUsd,
};

/// One value as it was written.
#[derive(Clone)]
pub(in crate::config) struct RawValue<'a> {
    pub value: &'a Value,
    /// Where it was written.
    pub origin: Origin,
    /// Its complete key.
    pub key: String,
    /// The folders that relative paths and `~` resolve to.
    pub folders: &'a Folders,
}

impl RawValue<'_> {
    /// Returns the error for a value of the wrong type.
    pub(in crate::config) fn wrong_type(&self, expected: impl Into<String>) -> ConfigProblem {
        ConfigProblem::WrongType {
            key: self.key.clone(),
            expected: expected.into(),
            found: type_name(self.value),
        }
    }

    /// Returns the error for a value that violates a rule.
    pub(in crate::config) fn rule(&self, rule: impl Into<String>) -> ConfigProblem {
        ConfigProblem::Rule { key: self.key.clone(), rule: rule.into() }
    }

    /// Returns a variable's text; `None` in a file, where values have types.
    fn variable_text(&self) -> Option<&str> {
        match (&self.origin, &self.value.kind) {
            (Origin::Variable(_), ValueKind::String(text)) => Some(text.trim()),
            _ => None,
        }
    }

    pub(in crate::config) fn text(&self) -> Result<&str, ConfigProblem> {
        match &self.value.kind {
            ValueKind::String(text) if text.contains(char::is_control) => {
                Err(self.rule("must not contain control characters"))
            }
            ValueKind::String(text) => Ok(text),
            _ => Err(self.wrong_type("a text in quotes")),
        }
    }

    pub(in crate::config) fn flag(&self) -> Result<bool, ConfigProblem> {
        let flag = match &self.value.kind {
            ValueKind::Boolean(flag) => Some(*flag),
            _ => self.variable_text().and_then(parse_bool),
        };
        flag.ok_or_else(|| self.wrong_type("true or false"))
    }

    /// Reads one of a fixed set of words.
    pub(in crate::config) fn keyword<W: Keyword>(&self) -> Result<W, ConfigProblem> {
        let text = self.text()?.trim();
        let found = W::ALL.iter().copied().find(|word| word.word().eq_ignore_ascii_case(text));
        found.ok_or_else(|| self.unknown_keyword(text, W::ALL.iter().map(|word| word.word())))
    }

    /// Returns the error for a text that is not one of `words`.
    pub(in crate::config) fn unknown_keyword<'w>(
        &self,
        text: &str,
        words: impl Iterator<Item = &'w str> + Clone,
    ) -> ConfigProblem {
        ConfigProblem::UnknownKeyword {
            key: self.key.clone(),
            found: quoted(text),
            keywords: listed(words.clone()),
            hint: nearest(text, words).map_or(Hint::None, |word| Hint::Near(word.to_owned())),
        }
    }

    /// Reads an integer within `range`; `unit` follows the number in an error ("milliseconds").
    pub(in crate::config) fn integer(
        &self,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> Result<u64, ConfigProblem> {
        let of = if unit.is_empty() { String::new() } else { format!(" of {unit}") };
        let number = match (&self.value.kind, self.variable_text()) {
            (ValueKind::I64(number), _) => *number,
            (ValueKind::Float(number), _) if number.abs() >= 1e300 => i64::MAX,
            (_, Some(text)) => {
                text.parse().map_err(|_| self.wrong_type(format!("a whole number{of}")))?
            }
            _ => return Err(self.wrong_type(format!("a whole number{of}"))),
        };
        let fits = u64::try_from(number).ok().filter(|number| range.contains(number));
        fits.ok_or_else(|| self.out_of_range(number, range.start(), range.end(), unit))
    }

    /// Reads an integer within `range` that fits into 32 bits.
    pub(in crate::config) fn integer_u32(
        &self,
        range: RangeInclusive<u32>,
    ) -> Result<u32, ConfigProblem> {
        let wide = u64::from(*range.start())..=u64::from(*range.end());
        // The end of the range fits into 32 bits, so the fallback is never used.
        Ok(u32::try_from(self.integer(wide, "")?).unwrap_or(*range.end()))
    }

    /// Reads a number within `range`.
    pub(in crate::config) fn number(
        &self,
        range: RangeInclusive<f64>,
        unit: &str,
    ) -> Result<f64, ConfigProblem> {
        let of = if unit.is_empty() { String::new() } else { format!(" of {unit}") };
        let number = match (&self.value.kind, self.variable_text()) {
            (ValueKind::Float(number), _) => *number,
            #[expect(clippy::cast_precision_loss, reason = "no range here goes beyond 2^53")]
            (ValueKind::I64(number), _) => *number as f64,
            (_, Some(text)) => {
                text.parse().map_err(|_| self.wrong_type(format!("a number{of}")))?
            }
            _ => return Err(self.wrong_type(format!("a number{of}"))),
        };
        if range.contains(&number) {
            return Ok(number);
        }
        Err(self.out_of_range(number, range.start(), range.end(), unit))
    }

    fn out_of_range<N: Display>(
        &self,
        found: N,
        least: impl Display,
        most: impl Display,
        unit: &str,
    ) -> ConfigProblem {
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        let found = match type_name(self.value) {
            huge if huge == "a huge number" => huge,
            _ => found.to_string(),
        };
        ConfigProblem::OutOfRange {
            key: self.key.clone(),
            found,
            range: format!("between {least} and {most}{unit}"),
        }
    }

    /// Reads an integer number of milliseconds.
    pub(in crate::config) fn millis(
        &self,
        range: RangeInclusive<u64>,
    ) -> Result<Duration, ConfigProblem> {
        self.integer(range, "milliseconds").map(Duration::from_millis)
    }

    /// Reads a number of seconds, which may have a fraction.
    pub(in crate::config) fn seconds(
        &self,
        range: RangeInclusive<f64>,
    ) -> Result<Duration, ConfigProblem> {
        self.number(range, "seconds").map(Duration::from_secs_f64)
    }

    /// Reads an amount in dollars; 0 means no limit.
    pub(in crate::config) fn dollars(&self) -> Result<Option<MicroUsd>, ConfigProblem> {
        let dollars = self.number(0.0..=1e6, "US dollars")?;
        Ok(MicroUsd::from_dollars(dollars).filter(|amount| *amount > MicroUsd::ZERO))
    }

    /// Reads a path; an empty one means none. A relative path starts at the folder of the file it
    /// is written in.
    pub(in crate::config) fn path(&self) -> Result<Option<PathBuf>, ConfigProblem> {
        let text = self.text()?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        self.folders.resolve(text, self.origin.folder()).map(Some).map_err(|rule| self.rule(rule))
    }

    /// Reads a text that may be part of a URL's path; an empty one means none.
    pub(in crate::config) fn id(&self) -> Result<Option<String>, ConfigProblem> {
        let text = self.text()?.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() {
            return Ok(None);
        }
        // Not repeated in the error: a text pasted here by mistake may be a token.
        if text.len() > 128 || !text.chars().all(plain) || text.chars().all(|c| c == '.') {
            return Err(self.rule("must be an id: up to 128 letters, digits, `-`, `_` and `.`"));
        }
        Ok(Some(text.to_owned()))
    }

    /// Reads a list; a variable may separate its items with commas.
    pub(in crate::config) fn comma_separated(
        &self,
        expected: &str,
    ) -> Result<Vec<Value>, ConfigProblem> {
        let Some(text) = self.variable_text() else {
            return Err(self.wrong_type(format!("a list of {expected}: [\"…\", \"…\"]")));
        };
        Ok(text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| Value::new(None, ValueKind::String(item.to_owned())))
            .collect())
    }
}
