//! Arguments of `conjured jobs …`.

use clap::{Args, Subcommand};

use crate::domain::job::JobState;

/// `conjured jobs`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct JobsArgs {
    /// What to do with the jobs.
    #[command(subcommand)]
    pub command: JobsCommand,
}

/// The commands about jobs.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum JobsCommand {
    /// List jobs, newest first.
    #[command(after_help = "\
Examples:
  conjured jobs list
  conjured jobs list --state failed --state unknown --limit 100
  conjured jobs list --project conjure --json")]
    List {
        /// Show at most this many.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// Show only jobs in this state; can be given several times.
        #[arg(long = "state", value_name = "STATE", value_parser = state)]
        states: Vec<JobState>,
        /// Show only this project's jobs.
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
        /// The job's id or a unique prefix of it, as `conjured jobs list` shows it.
        #[arg(value_name = "ID")]
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Submit the work of an unsuccessful job again, as a new job.
    ///
    /// The new job uses the old job's prompt, render and seeds with today's settings, and has its
    /// own price. The request of an `unknown` job may have reached the service, and then the work
    /// is charged twice: confirm that when asked, or with --yes. The old job is settled at the same
    /// time; its amount still counts as spent.
    #[command(after_help = "\
Examples:
  conjured jobs retry 01K7Z0000000000000000000AB
  conjured jobs retry 01K7Z --yes --detach")]
    Retry {
        /// The job and how to follow it.
        #[command(flatten)]
        again: AgainArgs,
        /// Submit an `unknown` job again although it may be charged twice.
        #[arg(long)]
        yes: bool,
    },
    /// Run exactly the same request again, as a new job at its own price.
    ///
    /// Sends the same prompt, picture, seeds and steps, even if the result is still in the history.
    #[command(after_help = "\
Example:
  conjured jobs rerun 01K7Z0000000000000000000AB")]
    Rerun {
        /// The job and how to follow it.
        #[command(flatten)]
        again: AgainArgs,
    },
    /// Put the results of an old job back in place, free of charge.
    ///
    /// The results are checked first. If one is missing, damaged or invalid, the command refuses
    /// and the public files stay as they are.
    #[command(after_help = "\
Example:
  conjured jobs restore 01K7Z0000000000000000000AB")]
    Restore {
        /// The job's id or a unique prefix of it, as `conjured jobs list` shows it.
        #[arg(value_name = "ID")]
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Rate what a job made.
    #[command(after_help = "\
Example:
  conjured jobs rate 01K7Z0000000000000000000AB 4 \"good hands, dull back\"")]
    Rate {
        /// The job's id or a unique prefix of it, as `conjured jobs list` shows it.
        #[arg(value_name = "ID")]
        id: String,
        /// From 1 (bad) to 5 (good). A second rating replaces the first.
        #[arg(value_name = "1..5", value_parser = clap::value_parser!(u8).range(1..=5))]
        stars: u8,
        /// A comment.
        #[arg(value_name = "NOTE")]
        note: Vec<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List what spent money or changed something outside, newest first.
    #[command(after_help = "\
Example:
  conjured jobs audit --limit 100 --json")]
    Audit {
        /// Show at most this many.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Cancel a job, at the service too.
    ///
    /// Time already used is still billed.
    #[command(after_help = "\
Example:
  conjured jobs cancel 01K7Z0000000000000000000AB")]
    Cancel {
        /// The job's id or a unique prefix of it, as `conjured jobs list` shows it.
        #[arg(value_name = "ID")]
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments that `retry` and `rerun` share.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct AgainArgs {
    /// The job's id or a unique prefix of it, as `conjured jobs list` shows it.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Return as soon as the job has started, without waiting for its result.
    #[arg(long)]
    pub detach: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Reads a state's name; a space in it may be written as `-` or `_`.
fn state(text: &str) -> Result<JobState, String> {
    let word = text.trim().to_ascii_lowercase().replace(['-', '_'], " ");
    JobState::from_name(&word).ok_or_else(|| {
        let words: Vec<_> =
            JobState::ALL.iter().map(|state| state.name().replace(' ', "-")).collect();
        format!("unknown state; the states are {}", words.join(", "))
    })
}
