//! Errors in a configuration, worded so that the user finds the line and knows what to
//! write instead.
//!
//! Owns the texts. Every error begins with its [`Origin`]; the errors of all files are collected in
//! [`ConfigErrors`]. A text that could be a secret is never repeated (`secret_shape`).

use std::{fmt, io};

use super::sources::origin::Origin;

/// One error.
#[derive(Debug)]
pub struct ConfigError {
    /// Where the setting was written.
    pub origin: Origin,
    /// What is wrong with it.
    pub problem: ConfigProblem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.problem)
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            ConfigProblem::Unreadable(cause) => Some(cause),
            _ => None,
        }
    }
}

/// What is wrong. Keys are complete (`trigger.on`); texts are already safe to show.
#[derive(Debug, thiserror::Error)]
pub enum ConfigProblem {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The file is too large to be a configuration.
    #[error("is larger than {limit_kb} KB; a configuration is a small text file")]
    TooLarge {
        /// The limit.
        limit_kb: u64,
    },
    /// The file is not text.
    #[error("the file is not UTF-8 text from here on; save it as UTF-8")]
    NotUtf8,
    /// The file is not TOML.
    #[error("column {column}: {message}\n{snippet}")]
    Syntax {
        /// The column in characters, counted from 1.
        column: usize,
        /// The parser's message.
        message: String,
        /// The line, with a caret below it.
        snippet: String,
    },
    /// The file has more errors than are worth reading.
    #[error("{0} more errors follow")]
    More(usize),
    /// There is no section of that name.
    #[error("unknown section [{name}]{hint}")]
    UnknownSection {
        /// The name.
        name: String,
        /// A suggestion.
        hint: Hint,
    },
    /// The section has no such key.
    #[error("unknown key `{key}` {}{hint}", section_phrase(.section))]
    UnknownKey {
        /// The key, without its section.
        key: String,
        /// The section; empty for the top level.
        section: &'static str,
        /// A suggestion.
        hint: Hint,
    },
    /// The variable names no setting.
    #[error("there is no setting of this name{0}")]
    UnknownVariable(Hint),
    /// A required key is missing.
    #[error("`{key}` is missing{why}")]
    Missing {
        /// The key.
        key: String,
        /// Why it is required, as the rest of the sentence; may be empty.
        why: &'static str,
    },
    /// The value has the wrong type.
    #[error("`{key}` must be {expected}, not {found}")]
    WrongType {
        /// The key.
        key: String,
        /// The expected type.
        expected: String,
        /// The actual type.
        found: String,
    },
    /// The number is too small or too large.
    #[error("`{key}` is {found}, but must be {range}")]
    OutOfRange {
        /// The key.
        key: String,
        /// The number.
        found: String,
        /// The allowed range.
        range: String,
    },
    /// The value is not one of the allowed words.
    #[error("`{key}` cannot be {found}; it is one of {keywords}{hint}")]
    UnknownKeyword {
        /// The key.
        key: String,
        /// The text.
        found: String,
        /// The allowed words.
        keywords: String,
        /// The word that was probably meant.
        hint: Hint,
    },
    /// The value violates a rule specific to its key.
    #[error("`{key}` {rule}")]
    Rule {
        /// The key.
        key: String,
        /// The rule, as the rest of the sentence.
        rule: String,
    },
    /// A secret is written where others may read it.
    #[error(
        "`{key}` looks like a secret, and a token must never be in this file; remove it and run \
         `conjured login`, or put the token into a file that only you can read and set \
         `serverless.token_file` to that file, or set RUNCOMFY_API_TOKEN in the environment"
    )]
    Secret {
        /// The key.
        key: String,
    },
    /// Two things are the same and must differ.
    #[error("{what}; the other one is at {first}")]
    Duplicate {
        /// What is the same.
        what: String,
        /// Where the other one is written.
        first: Origin,
    },
    /// Two variables contradict each other.
    #[error("it contradicts {other}; unset one of them")]
    Contradiction {
        /// The other variable.
        other: &'static str,
    },
    /// The layers could not be merged.
    #[error("cannot be combined with the other settings: {0}")]
    Merge(String),
}

fn section_phrase(section: &str) -> String {
    if section.is_empty() { "at the top level".to_owned() } else { format!("in [{section}]") }
}

/// A suggestion of what was probably meant; an extra line of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// No suggestion.
    None,
    /// This spelling.
    Near(String),
    /// A token was given instead of a setting.
    TokenVariable,
    /// The key exists in another section.
    BelongsTo(String),
    /// The key exists at the top level, but is written below a section header.
    BelongsToTop,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Near(name) => write!(f, "\n  did you mean `{name}`?"),
            Self::TokenVariable => f.write_str(
                "\n  for a token, set RUNCOMFY_API_TOKEN, or set CONJURED__SERVERLESS__TOKEN_FILE \
                 to the path of a file that contains it",
            ),
            Self::BelongsTo(section) => write!(f, "\n  it belongs in [{section}]"),
            Self::BelongsToTop => {
                f.write_str("\n  it belongs at the top of the file, before the first [section]")
            }
        }
    }
}

/// Finds the candidate that `wrong` was probably meant to be.
pub(super) fn nearest<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A hostile key may be as long as the file; a text this long is not a typing mistake.
    if wrong.len() > 64 {
        return None;
    }
    let wrong = wrong.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&wrong, &name.replace('-', "_")), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// Every error of a configuration; never empty. Printed with one error per paragraph.
#[derive(Debug)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
