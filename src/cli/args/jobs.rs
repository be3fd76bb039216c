//! `conjured jobs …`: what a person can ask about jobs.

use clap::{Args, Subcommand};

use crate::domain::job::State;

/// `conjured jobs`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct JobsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: JobsCommand,
}

/// What can be done with jobs.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum JobsCommand {
    /// List jobs, the newest first.
    #[command(after_help = "\
Examples:
  conjured jobs list
  conjured jobs list --state failed --state unknown --limit 100
  conjured jobs list --project conjure --json")]
    List {
        /// Show at most so many.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// Show only jobs in this state; may be given several times.
        #[arg(long = "state", value_name = "STATE", value_parser = state)]
        states: Vec<State>,
        /// Show only this project's.
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one job: its inputs, its attempts, its artifacts and what it cost.
    #[command(after_help = "\
Example:
  conjured jobs show 01K7Z0000000000000000000AB --json")]
    Show {
        /// The job, as `conjured jobs list` shows it.
        #[arg(value_name = "ID")]
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Cancel a job, at the service too.
    ///
    /// What has run until then is billed all the same.
    #[command(after_help = "\
Example:
  conjured jobs cancel 01K7Z0000000000000000000AB")]
    Cancel {
        /// The job, as `conjured jobs list` shows it.
        #[arg(value_name = "ID")]
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Reads a state; the one whose word has a space may be written with `-` or `_`.
fn state(text: &str) -> Result<State, String> {
    let word = text.trim().to_ascii_lowercase().replace(['-', '_'], " ");
    State::from_word(&word).ok_or_else(|| {
        let words: Vec<_> = State::ALL.iter().map(|state| state.word().replace(' ', "-")).collect();
        format!("there is no such state; the states are {}", words.join(", "))
    })
}
