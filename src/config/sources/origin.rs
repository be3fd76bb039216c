//! The origin of a setting: a line of a file, or a variable. Every error begins with it.
//!
//! The `config` crate stores one text with each value, its origin. Ours is the number of a
//! [`Origin`] in `Origins`, so that a merged value still knows the file and line it came from.

use std::{fmt, path::Path, sync::Arc};

use ::config::Value;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of the built-in `config.example.toml`, counted from 1.
    BuiltIn(usize),
    /// A line of a file, counted from 1.
    Line(Arc<Path>, usize),
    /// A whole file that could not be read.
    File(Arc<Path>),
    /// An environment variable.
    Variable(String),
}

impl Origin {
    /// Returns the line, if there is one.
    pub const fn line(&self) -> Option<usize> {
        match self {
            Self::BuiltIn(line) | Self::Line(_, line) => Some(*line),
            Self::File(_) | Self::Variable(_) => None,
        }
    }

    /// Returns the folder at which a relative path written here starts; `None` means the
    /// working folder.
    pub(in crate::config) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Line(file, _) | Self::File(file) => file.parent(),
            Self::BuiltIn(_) | Self::Variable(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(line) => write!(f, "the built-in defaults, line {line}"),
            Self::Line(file, line) => write!(f, "{}:{line}", file.display()),
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// The origins of all values, by number.
#[derive(Debug, Default)]
pub(in crate::config) struct Origins(Vec<Origin>);

impl Origins {
    /// Stores an origin; returns the text that a [`Value`] carries to refer to it.
    pub(in crate::config) fn add(&mut self, origin: Origin) -> String {
        self.0.push(origin);
        (self.0.len() - 1).to_string()
    }

    /// Returns where a value was written.
    pub(in crate::config) fn of(&self, value: &Value) -> Origin {
        // The merge creates empty tables, which have no origin and never cause an error themselves.
        let number = value.origin().and_then(|origin| origin.parse::<usize>().ok());
        number.and_then(|number| self.0.get(number)).cloned().unwrap_or(Origin::BuiltIn(1))
    }
}
