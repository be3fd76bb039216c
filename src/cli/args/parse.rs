//! Parses the arguments into [`Cli`], or into an early exit: help, version, or wrong usage with
//! exit code 64.
//!
//! Owns the parsers of single arguments that are more than text. The help's colours follow
//! `--color` too, so that option is searched for before the other arguments are parsed.

use std::ffi::OsString;

use clap::{ColorChoice, CommandFactory, FromArgMatches, error::ErrorKind};

use super::Cli;
use crate::cli::exit::USAGE;

/// An exit before any command runs: help, the version, or an error in the arguments.
#[derive(Debug)]
pub struct Exit(clap::Error);

impl Exit {
    /// Returns the exit code: 0 for requested help and version, otherwise 64.
    pub fn code(&self) -> u8 {
        match self.0.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
            // Includes `DisplayHelpOnMissingArgumentOrSubcommand`: the command is missing.
            _ => USAGE,
        }
    }

    /// Returns the text without colours.
    pub fn text(&self) -> String {
        self.0.render().to_string()
    }

    /// Prints the text: requested output on standard output, errors on standard error. A closed
    /// pipe is not an error.
    pub fn print(&self) {
        drop(self.0.print());
    }
}

/// Parses the program's arguments; the first is the program's own name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    let args: Vec<OsString> = args.into_iter().collect();
    let command = Cli::command().color(colour(&args));
    let matches = command.try_get_matches_from(args).map_err(Exit)?;
    Cli::from_arg_matches(&matches).map_err(|error| Exit(error.format(&mut Cli::command())))
}

/// Finds `--color` without parsing the other arguments. The last one counts, as in the full parse.
fn colour(args: &[OsString]) -> ColorChoice {
    let words: Vec<&str> =
        args.iter().map_while(|arg| arg.to_str()).take_while(|arg| *arg != "--").collect();
    let after = words.windows(2).filter(|pair| pair[0] == "--color").map(|pair| pair[1]);
    let joined = words.iter().filter_map(|word| word.strip_prefix("--color="));
    match joined.chain(after).next_back() {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// Parses a seed: an integer below 2^53, the limit up to which JSON numbers are exact.
pub(super) fn seed(text: &str) -> Result<u64, String> {
    let seed = text.trim().parse::<u64>().ok().filter(|seed| *seed < 1 << 53);
    seed.ok_or_else(|| "a seed is a whole number from 0 to 9007199254740991".to_owned())
}

/// Parses a deployment id: only characters that need no escaping in a URL.
pub fn deployment(text: &str) -> Result<String, String> {
    let id = Some(text.trim()).filter(|text| text.len() <= 128);
    let id = id.and_then(crate::domain::job::RequestId::new);
    id.map(|id| id.as_str().to_owned())
        .ok_or_else(|| "a deployment id contains only letters, digits, `-`, `_` and `.`".to_owned())
}

/// Parses a prompt, which must not be empty.
pub(super) fn prompt(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("the prompt must not be empty".to_owned());
    }
    Ok(text.to_owned())
}
