//! The words of `conjured service`.
//!
//! Owns the grammar only; what each does is `cli::service`'s.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// Options of `service`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct ServiceArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ServiceCommand,
}

/// What to do with the service.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ServiceCommand {
    /// Write the service's file, start it, and start it again at every login or boot.
    ///
    /// --config, --root and --state-dir of this command are carried over. Nothing else of this shell is: settings belong
    /// into the configuration file. Installing again brings the service up to date.
    #[command(after_help = "\
Examples:
  conjured service install --dry-run                     show the file and the commands
  conjured --root ~/CONJURE service install              for you, from login to logout
  sudo conjured service install --system --as artist     for the machine, from boot on")]
    Install(InstallArgs),
    /// Stop it, and take away what `install` wrote. Ledger, history, logs and configuration stay.
    Uninstall {
        /// Whose service.
        #[command(flatten)]
        scope: ScopeArgs,
        /// Show what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Also when the file was not written by `install`.
        #[arg(long)]
        force: bool,
    },
    /// Start it now.
    Start {
        /// Whose service.
        #[command(flatten)]
        scope: ScopeArgs,
        /// Show what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop it until the next login or boot. Jobs go on at RunComfy and are picked up at the next start.
    Stop {
        /// Whose service.
        #[command(flatten)]
        scope: ScopeArgs,
        /// Show what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop it and start it again.
    Restart {
        /// Whose service.
        #[command(flatten)]
        scope: ScopeArgs,
        /// Show what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what the service manager says about it; ends with 69 where it does not run.
    Status {
        /// Whose service.
        #[command(flatten)]
        scope: ScopeArgs,
    },
    /// Show what it has said.
    Logs {
        /// Whose service.
        #[command(flatten)]
        scope: ScopeArgs,
        /// Go on showing until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
        /// How many lines of the past.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
        lines: u32,
    },
}

/// Whose service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct ScopeArgs {
    /// Yours, from login to logout; this is the default.
    #[arg(long, conflicts_with = "system")]
    pub user: bool,
    /// The machine's, from boot on; needs root, on Windows an administrator.
    #[arg(long)]
    pub system: bool,
}

/// Options of `service install`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct InstallArgs {
    /// Whose service.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// The user that the machine's service runs as; without it, the owner of the CONJURE checkout.
    #[arg(long = "as", value_name = "USER", requires = "system")]
    pub as_user: Option<String>,
    /// A file with the token, which systemd hands to the daemon alone. For --system, without it,
    /// /`etc/conjured/runcomfy_token` where that is there.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// Print exactly the file and the commands, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Replace a service file that `install` did not write.
    #[arg(long)]
    pub force: bool,
}
