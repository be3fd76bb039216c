//! Arguments of `conjured service`.
//!
//! Owns only the grammar; `cli::service` does the work.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// Options of `service`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct ServiceArgs {
    /// What to do with the service.
    #[command(subcommand)]
    pub command: ServiceCommand,
}

/// The commands about the service.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ServiceCommand {
    /// Write the service file, start the service now, and start it again at every login or boot.
    ///
    /// The --config, --root and --state-dir of this command are kept in the service. Nothing else
    /// from this shell is kept: settings belong in the configuration file. Run the command again to
    /// update the service.
    #[command(after_help = "\
Examples:
  conjured service install --dry-run                     show the file and the commands
  conjured --root ~/CONJURE service install              for you, from login to logout
  sudo conjured service install --system --as artist     for the machine, from boot")]
    Install(InstallArgs),
    /// Stop the service and remove what `install` wrote. The ledger, history, logs and
    /// configuration stay.
    Uninstall {
        /// Whose service it is.
        #[command(flatten)]
        scope: ScopeArgs,
        /// Show what would be done, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Remove the file even if `install` did not write it.
        #[arg(long)]
        force: bool,
    },
    /// Start the service now.
    Start {
        /// Whose service it is.
        #[command(flatten)]
        scope: ScopeArgs,
        /// Show what would be done, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop the service until the next login or boot. Jobs continue at RunComfy, and the next start
    /// picks them up.
    Stop {
        /// Whose service it is.
        #[command(flatten)]
        scope: ScopeArgs,
        /// Show what would be done, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop the service and start it again.
    Restart {
        /// Whose service it is.
        #[command(flatten)]
        scope: ScopeArgs,
        /// Show what would be done, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the service's status as the system reports it; exit code 69 if it is not running.
    Status {
        /// Whose service it is.
        #[command(flatten)]
        scope: ScopeArgs,
    },
    /// Show the service's log.
    Logs {
        /// Whose service it is.
        #[command(flatten)]
        scope: ScopeArgs,
        /// Keep showing new lines until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
        /// How many earlier lines to show.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
        lines: u32,
    },
}

/// Whose service it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct ScopeArgs {
    /// Your own service, running from login to logout; this is the default.
    #[arg(long, conflicts_with = "system")]
    pub user: bool,
    /// The machine's service, running from boot; needs root, or an administrator on Windows.
    #[arg(long)]
    pub system: bool,
}

/// Options of `service install`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct InstallArgs {
    /// Whose service it is.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// The user that the machine's service runs as; by default the owner of the CONJURE checkout.
    #[arg(long = "as", value_name = "USER", requires = "system")]
    pub as_user: Option<String>,
    /// A file with the token, which systemd passes to the daemon only. The default for --system is
    /// `/etc/conjured/runcomfy_token`, if it exists.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// Print the exact file and commands, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Replace a service file that `install` did not write.
    #[arg(long)]
    pub force: bool,
}
