//! Where a setting was written: a line of a file, a variable, a flag. Every complaint begins with it.
//!
//! The `config` crate carries one text with each value, its origin. Ours is the number of a [`Place`] in
//! `Places`, so that a merged value still knows the file and the line it came from.

use std::{fmt, path::Path, sync::Arc};

use ::config::Value;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the built-in `config.example.toml`, counted from 1.
    BuiltIn(usize),
    /// A line of a file, counted from 1.
    Line(Arc<Path>, usize),
    /// A file as a whole: it could not be read.
    File(Arc<Path>),
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl Place {
    /// Returns the line, where there is one.
    pub const fn line(&self) -> Option<usize> {
        match self {
            Self::BuiltIn(line) | Self::Line(_, line) => Some(*line),
            Self::File(_) | Self::Variable(_) | Self::Flag(_) => None,
        }
    }

    /// Returns the folder that a relative path written here counts from; `None` is the working folder.
    pub(in crate::config) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Line(file, _) | Self::File(file) => file.parent(),
            Self::BuiltIn(_) | Self::Variable(_) | Self::Flag(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(line) => write!(f, "the built-in defaults, line {line}"),
            Self::Line(file, line) => write!(f, "{}:{line}", file.display()),
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Every place that a value came from, by number.
#[derive(Debug, Default)]
pub(in crate::config) struct Places(Vec<Place>);

impl Places {
    /// Remembers a place; the text returned is what a [`Value`] carries as its origin.
    pub(in crate::config) fn remember(&mut self, place: Place) -> String {
        self.0.push(place);
        (self.0.len() - 1).to_string()
    }

    /// Returns where a value was written.
    pub(in crate::config) fn of(&self, value: &Value) -> Place {
        // The merge makes empty tables of its own, which have no origin and never are at fault themselves.
        let number = value.origin().and_then(|origin| origin.parse::<usize>().ok());
        number.and_then(|number| self.0.get(number)).cloned().unwrap_or(Place::BuiltIn(1))
    }
}
