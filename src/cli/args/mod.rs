//! The command-line grammar: every command, every option, and the help texts.
//!
//! Owns the arguments and their types; what a command does is in that command's own file. Wrong
//! usage ends with exit code 64 here, before anything is read. No option takes a user's own token,
//! because every process can see the arguments.

mod cost;
mod jobs;
mod parse;
mod service;
mod setup;
#[cfg(feature = "simulator")]
mod simulator;
mod workflow;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

#[cfg(feature = "simulator")]
pub use self::simulator::SimulatorArgs;
pub use self::{
    cost::{By, CostArgs, Since},
    jobs::{AgainArgs, JobsArgs, JobsCommand},
    parse::{Exit, deployment, parse},
    service::{InstallArgs, ScopeArgs, ServiceArgs, ServiceCommand},
    setup::{DoctorArgs, InitArgs, LoginArgs, LogoutArgs, ModeArg},
    workflow::{WorkflowArgs, WorkflowCommand},
};

/// Exit codes, shown in the long help and in the manual page.
const EXIT_CODES: &str = "\
Exit codes:
   0  done                          69  backend unavailable, or no daemon running
   1  job failed or cancelled       70  internal error (a bug)
  64  wrong usage                   73  cannot write outputs
  65  bad input or workflow         75  try again: locked, timed out, rate-limited
  66  input file missing            77  token missing or refused
                                    78  configuration";

/// Examples for the whole program.
const EXAMPLES: &str = "\
Examples:
  conjured demo                          see it at work: no account, no network, no cost
  conjured run --root ~/CONJURE          serve one CONJURE checkout with the defaults
  conjured once --prompt \"a clay owl\"    one job, now
  conjured status --watch                what the daemon is doing

First time: `conjured init`, `conjured login`, `conjured doctor`, `conjured run`.
All settings: see `config.example.toml`. A token is never an argument.";

/// The background daemon of CONJURE.
///
/// It watches CONJURE's prompt and render, sends one job for each change to a serverless GPU,
/// follows the job, and puts the picture and the mesh where CONJURE and Blender look for them.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(
    name = "conjured",
    // Otherwise usage lines would show the file name, which has a suffix on Windows, and differ
    // from the examples.
    bin_name = "conjured",
    version,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub globals: Globals,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes, before or after its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Options for every command")]
pub struct Globals {
    /// Read this configuration file too; it overrides the machine's and the user's configuration.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Serve only this CONJURE checkout.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub root: Option<PathBuf>,
    /// Keep the ledger and the history in this folder.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state_dir: Option<PathBuf>,
    /// Show more detail; give it twice to show everything.
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Show only warnings; give it twice to show only errors.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
    /// When to use colours and progress bars; `auto` respects `NO_COLOR`.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// Only on a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground.
    ///
    /// It watches every configured project and starts a job once a changed prompt or render has
    /// stopped changing. Ctrl-C stops it within seconds; running jobs continue at the service, and
    /// the next start picks them up. A second Ctrl-C ends it at once.
    #[command(after_help = "\
Examples:
  conjured run
  conjured run --root ~/CONJURE --state-dir /tmp/conjured
  CONJURED__TRIGGER__RENDER_QUIET_MS=8000 conjured -v run")]
    Run,
    #[cfg(feature = "simulator")]
    /// See the whole program at work: no account, no network, no cost.
    ///
    /// In a temporary project, a stand-in for GestureCamera writes files as Blender does, the real
    /// daemon notices them, and a simulator replaces RunComfy.
    #[command(after_help = "\
Examples:
  conjured demo
  conjured demo --keep               keep it running at the end, to try things out
  conjured demo --seed 7 --color never")]
    Demo(DemoArgs),
    #[cfg(feature = "simulator")]
    /// Run a simulator of RunComfy, for developers and tests.
    Simulator(SimulatorArgs),
    /// Run one job now and wait for it.
    ///
    /// Without --prompt or --render, the project's own prompt or render is used. The job starts
    /// whatever the daemon's triggers say; the budget limits still apply.
    #[command(after_help = "\
Examples:
  conjured once
  conjured once --prompt \"a clay owl with big eyes\"
  conjured once --render sketch.png --seed 42 --out ./results
  conjured once --project second")]
    Once(OnceArgs),
    /// Show what the daemon is doing.
    ///
    /// Exit code 0 if a daemon answers, 69 if none is running.
    #[command(after_help = "\
Examples:
  conjured status
  conjured status --watch
  conjured status --json | jq .projects")]
    Status(StatusArgs),
    /// List, show, repeat, restore, rate and cancel jobs.
    Jobs(JobsArgs),
    /// Show what was spent, and what other settings would have cost.
    ///
    /// Reads the ledger, with or without a running daemon. A booked amount is measured, or is an
    /// upper bound (marked) for a run that could not be observed; a reserved amount counts as spent
    /// until more is known.
    #[command(after_help = "\
Examples:
  conjured cost
  conjured cost --by project --since 7d
  conjured cost --by month --csv > cost.csv
  conjured cost --json | jq .total")]
    Cost(CostArgs),
    /// List, inspect and check workflows.
    Workflow(WorkflowArgs),
    /// Write a configuration for a CONJURE checkout.
    ///
    /// The checkout is --root, otherwise the working folder or a folder above it, otherwise one in
    /// the usual locations. Settings from CONJURE's environment (`RUNCOMFY_DEPLOYMENT_ID` and
    /// others, and a `.env` in the checkout) are copied into it; a token is not, see `conjured
    /// login`. The file is the user's configuration, or the one given with --config; an existing
    /// file is replaced only if you agree.
    #[command(after_help = "\
Examples:
  conjured init
  conjured init --root ~/CONJURE --deployment YOUR-DEPLOYMENT --yes
  conjured init --print")]
    Init(InitArgs),
    /// Check a RunComfy token and store it.
    ///
    /// The token is typed without being shown, or read from standard input. It is checked with a
    /// call that costs nothing, and stored in a file that only you can read. It is never an
    /// argument, because every program on the machine can see arguments.
    #[command(after_help = "\
Examples:
  conjured login
  conjured login --token-stdin < token.txt
  conjured login --no-check --token-stdin < token.txt   without network access")]
    Login(LoginArgs),
    /// Remove the token that `login` stored.
    Logout(LogoutArgs),
    /// Check everything that could explain why nothing happens.
    ///
    /// Changes nothing and spends nothing. Exit code 0 if no check failed, otherwise the exit code
    /// of the first failed check.
    #[command(after_help = "\
Examples:
  conjured doctor
  conjured doctor --offline
  conjured doctor --json | jq '.checks[] | select(.verdict == \"fail\")'")]
    Doctor(DoctorArgs),
    /// Start conjured automatically, with systemd, launchd or the Task Scheduler.
    Service(ServiceArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "\
Examples:
  conjured completions bash > ~/.local/share/bash-completion/completions/conjured
  conjured completions zsh > \"${fpath[1]}/_conjured\"
  conjured completions fish > ~/.config/fish/completions/conjured.fish")]
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL", value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all manual pages into a folder.
    #[command(after_help = "\
Examples:
  conjured man | man -l -
  conjured man --dir ./man1")]
    Man {
        /// Write one page per command into this folder instead of printing the main page.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

#[cfg(feature = "simulator")]
/// Options of `demo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct DemoArgs {
    /// Keep the demo running at the end, until Ctrl-C, and show how to try it out.
    #[arg(long)]
    pub keep: bool,
    /// Use this seed for drawing and generating, so that a demo can be repeated.
    #[arg(long, value_name = "N", value_parser = parse::seed)]
    pub seed: Option<u64>,
}

/// Options of `once`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct OnceArgs {
    /// Use this text instead of the project's prompt.
    #[arg(long, value_name = "TEXT", value_parser = parse::prompt)]
    pub prompt: Option<String>,
    /// Use this PNG instead of the project's render.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub render: Option<PathBuf>,
    /// Use this seed instead of the configured one.
    #[arg(long, value_name = "N", value_parser = parse::seed)]
    pub seed: Option<u64>,
    /// Write the results into this folder instead of the project's output files.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// The project, if several are configured.
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
}

/// Options of `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct StatusArgs {
    /// Print JSON; with `--watch` one object per line.
    #[arg(long)]
    pub json: bool,
    /// Keep showing changes until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
}

#[cfg(test)]
mod tests;
