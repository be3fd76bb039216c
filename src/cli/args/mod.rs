//! The grammar of the command line: every command, every option, and the help a person reads.
//!
//! Owns words and their types. What a command does is its own file's; what is typed wrongly ends with exit code 64
//! here, before anything was looked at. There is no option for a token of yours: arguments are seen by every process.

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

/// Exit codes, for the long help and the manual.
const EXIT_CODES: &str = "\
Exit codes:
   0  done                          69  backend unavailable, or no daemon runs
   1  job failed or cancelled       70  a fault of conjured's own
  64  wrong usage                   73  cannot write outputs
  65  bad input or workflow         75  try again: locked, timed out, rate-limited
  66  input file missing            77  token missing or refused
                                    78  configuration";

/// Examples of the whole.
const EXAMPLES: &str = "\
Examples:
  conjured demo                          see all of it: no account, no network, no cost
  conjured run --root ~/CONJURE          serve one CONJURE checkout, with the defaults
  conjured once --prompt \"a clay owl\"    one job, now
  conjured status --watch                what the daemon is doing

First time: `conjured init`, `conjured login`, `conjured doctor`, `conjured run`.
Settings: `config.example.toml` shows every one. A token is never an argument.";

/// The background daemon of CONJURE.
///
/// It notices what an artist said and sculpted, sends one job for it to a serverless GPU, follows it, and places the
/// picture and the mesh where CONJURE and Blender look.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(
    name = "conjured",
    // Else usage lines name the file, which has a suffix on Windows, and the examples below them do not.
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
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes, before or after its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Options for every command")]
pub struct Globals {
    /// Read this configuration file too; it wins over the machine's and the user's.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Serve this CONJURE checkout alone.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub root: Option<PathBuf>,
    /// Keep the ledger and the history here.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state_dir: Option<PathBuf>,
    /// Say more; twice: everything.
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Say less: only warnings; twice: only errors.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
    /// When to use colours and progress bars; `NO_COLOR` is honoured by `auto`.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
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
    /// It watches every configured project and starts a job when the prompt or the render has changed and come to
    /// rest. Ctrl-C stops it within seconds; jobs that are under way go on at the service and are picked up at the
    /// next start. A second Ctrl-C ends it at once.
    #[command(after_help = "\
Examples:
  conjured run
  conjured run --root ~/CONJURE --state-dir /tmp/conjured
  CONJURED__TRIGGER__RENDER_QUIET_MS=8000 conjured -v run")]
    Run,
    #[cfg(feature = "simulator")]
    /// See all of it at work: no account, no network, no cost.
    ///
    /// In a temporary project a stand-in for GestureCamera writes files as Blender does, the real daemon notices them,
    /// and a simulator takes RunComfy's place.
    #[command(after_help = "\
Examples:
  conjured demo
  conjured demo --keep               leave the project there to look at
  conjured demo --seed 7 --color never")]
    Demo(DemoArgs),
    #[cfg(feature = "simulator")]
    /// Serve a RunComfy look-alike, for developers and tests.
    Simulator(SimulatorArgs),
    /// Do one job now and wait for it.
    ///
    /// The project's own prompt and render are used where none are given. Whatever the daemon's triggers say, this
    /// starts a job; the budget's limits hold all the same.
    #[command(after_help = "\
Examples:
  conjured once
  conjured once --prompt \"a clay owl with big eyes\"
  conjured once --render sketch.png --seed 42 --out ./results
  conjured once --project second")]
    Once(OnceArgs),
    /// Show what the daemon is doing.
    ///
    /// Ends with 0 where a daemon answers, and with 69 where none runs.
    #[command(after_help = "\
Examples:
  conjured status
  conjured status --watch
  conjured status --json | jq .projects")]
    Status(StatusArgs),
    /// List, show and cancel jobs.
    Jobs(JobsArgs),
    /// Show what was spent on what, and what other settings would have cost.
    ///
    /// Reads the ledger, whether a daemon runs or not. Booked money is measured, or (marked) an upper bound where a run
    /// happened unseen; reserved money counts as spent until more is known.
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
    /// The checkout is --root, else the working folder or one above it, else one in the usual places. What CONJURE's
    /// environment already says (`RUNCOMFY_DEPLOYMENT_ID` and others, a `.env` in the checkout) is taken over; a token is
    /// not, see `conjured login`. The file is the user's configuration, or the one that --config names, and one that is
    /// there is replaced only when you say so.
    #[command(after_help = "\
Examples:
  conjured init
  conjured init --root ~/CONJURE --deployment YOUR-DEPLOYMENT --yes
  conjured init --print")]
    Init(InitArgs),
    /// Check a RunComfy token and store it.
    ///
    /// It is typed without being shown, or read from standard input, tried with a call that costs nothing, and stored in
    /// a file that only you can read. It is never an argument: every program on the machine sees those.
    #[command(after_help = "\
Examples:
  conjured login
  conjured login --token-stdin < token.txt
  conjured login --no-check --token-stdin < token.txt   without a network")]
    Login(LoginArgs),
    /// Remove the token that `login` stored.
    Logout(LogoutArgs),
    /// Check everything that could explain why nothing happens.
    ///
    /// It changes nothing and spends nothing. Ends with 0 when no check failed; else with the exit code of the first
    /// failed check.
    #[command(after_help = "\
Examples:
  conjured doctor
  conjured doctor --offline
  conjured doctor --json | jq '.checks[] | select(.verdict == \"fail\")'")]
    Doctor(DoctorArgs),
    /// Let the system start conjured by itself: systemd, launchd or the Task Scheduler.
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
    /// Print the manual page, or write all of them into a folder.
    #[command(after_help = "\
Examples:
  conjured man | man -l -
  conjured man --dir ./man1")]
    Man {
        /// Write one page a command into this folder instead of printing the first.
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

#[cfg(feature = "simulator")]
/// Options of `demo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct DemoArgs {
    /// Keep the temporary project and say where it is.
    #[arg(long)]
    pub keep: bool,
    /// Draw and generate from this number, so that a demo can be repeated.
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
    /// Write the results into this folder instead of the project's places.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// The project, where several are configured.
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
}

/// Options of `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct StatusArgs {
    /// Print JSON; with `--watch` one object a line.
    #[arg(long)]
    pub json: bool,
    /// Go on showing it until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
}

#[cfg(test)]
mod tests;
