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
    /// Send the work of a job that did not succeed again, as a new job.
    ///
    /// It is made of the job's own prompt, render and seeds, under today's settings, and has a price of its own. The request of an
    /// `unknown` job may have arrived the first time, and then it is charged twice: a person confirms that, or --yes does. The old
    /// job is settled with it; its money stays counted.
    #[command(after_help = "\
Examples:
  conjured jobs retry 01K7Z0000000000000000000AB
  conjured jobs retry 01K7Z --yes --detach")]
    Retry {
        /// Which, and how.
        #[command(flatten)]
        again: AgainArgs,
        /// Send an `unknown` job again although it may be charged twice.
        #[arg(long)]
        yes: bool,
    },
    /// Run exactly the same request again, as a new job at its own price.
    ///
    /// The same prompt, picture, seeds and steps are sent again, also where the result is still in history.
    #[command(after_help = "\
Example:
  conjured jobs rerun 01K7Z0000000000000000000AB")]
    Rerun {
        /// Which, and how.
        #[command(flatten)]
        again: AgainArgs,
    },
    /// Place the results of an old job again, free of charge.
    ///
    /// They are checked first: what is missing, damaged or no longer sound is refused, and the public files stay as they are.
    #[command(after_help = "\
Example:
  conjured jobs restore 01K7Z0000000000000000000AB")]
    Restore {
        /// The job, as `conjured jobs list` shows it.
        #[arg(value_name = "ID")]
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say how you like what a job made.
    #[command(after_help = "\
Example:
  conjured jobs rate 01K7Z0000000000000000000AB 4 \"good hands, dull back\"")]
    Rate {
        /// The job, as `conjured jobs list` shows it.
        #[arg(value_name = "ID")]
        id: String,
        /// 1 (bad) to 5 (good). A second rating takes the place of the first.
        #[arg(value_name = "1..5", value_parser = clap::value_parser!(u8).range(1..=5))]
        stars: u8,
        /// Words.
        #[arg(value_name = "NOTE")]
        note: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List what spent or changed something outside, the newest first.
    #[command(after_help = "\
Example:
  conjured jobs audit --limit 100 --json")]
    Audit {
        /// Show at most so many.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
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

/// What `retry` and `rerun` have in common.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct AgainArgs {
    /// The job, as `conjured jobs list` shows it.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Return as soon as it is on its road.
    #[arg(long)]
    pub detach: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Reads a state; the one whose word has a space may be written with `-` or `_`.
fn state(text: &str) -> Result<State, String> {
    let word = text.trim().to_ascii_lowercase().replace(['-', '_'], " ");
    State::from_word(&word).ok_or_else(|| {
        let words: Vec<_> = State::ALL.iter().map(|state| state.word().replace(' ', "-")).collect();
        format!("there is no such state; the states are {}", words.join(", "))
    })
}
