//! Arguments of `conjured init`, `login`, `logout` and `doctor`: the commands for setup and for
//! finding faults.

use clap::{Args, ValueEnum};

use super::parse;

/// `conjured init`. `--root` names the checkout and `--config` the file to write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct InitArgs {
    /// The id of the deployment that runs the workflow, as RunComfy's dashboard shows it.
    #[arg(long, value_name = "ID", value_parser = parse::deployment)]
    pub deployment: Option<String>,
    /// Where jobs run.
    #[arg(long, value_name = "MODE", value_enum, ignore_case = true)]
    pub mode: Option<ModeArg>,
    /// Replace an existing configuration; the old file is kept next to it.
    #[arg(long)]
    pub force: bool,
    /// Use what was found without asking; this does not replace an existing configuration.
    #[arg(short, long)]
    pub yes: bool,
    /// Print the configuration instead of writing it.
    #[arg(long)]
    pub print: bool,
}

/// The modes, as values of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// RunComfy's Serverless API, or a local backend if it is unavailable.
    Auto,
    /// RunComfy's Serverless API.
    Serverless,
    /// Local backends.
    Local,
    /// A rented RunComfy machine.
    Cloud,
}

impl ModeArg {
    /// Returns the mode's name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Serverless => "serverless",
            Self::Local => "local",
            Self::Cloud => "cloud",
        }
    }
}

/// `conjured login`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct LoginArgs {
    /// Read the token from standard input, for use in scripts.
    #[arg(long)]
    pub token_stdin: bool,
    /// Store the token without checking it at RunComfy.
    #[arg(long)]
    pub no_check: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Refuses a token as an argument; it exists only to explain why.
    #[arg(long = "token", hide = true, num_args = 0.., value_name = "TOKEN")]
    pub token_option: Option<Vec<std::ffi::OsString>>,
    /// Refuses a token as an argument; it exists only to explain why.
    #[arg(hide = true, num_args = 0.., value_name = "TOKEN")]
    pub token_words: Vec<std::ffi::OsString>,
}

/// `conjured logout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct LogoutArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `conjured doctor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Skip the checks that use the network.
    #[arg(long)]
    pub offline: bool,
}
