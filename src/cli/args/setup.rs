//! `conjured init`, `login`, `logout` and `doctor`: what a person does once, and when nothing happens.

use clap::{Args, ValueEnum};

use super::parse;

/// `conjured init`. Where the checkout is, `--root` says; which file is written, `--config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct InitArgs {
    /// The deployment that runs the workflow, as RunComfy's dashboard shows it.
    #[arg(long, value_name = "ID", value_parser = parse::deployment)]
    pub deployment: Option<String>,
    /// Where jobs run.
    #[arg(long, value_name = "MODE", value_enum, ignore_case = true)]
    pub mode: Option<ModeArg>,
    /// Replace a configuration that is there already; the old one is kept beside it.
    #[arg(long)]
    pub force: bool,
    /// Take what was found without asking; a configuration that is there is still not replaced.
    #[arg(short, long)]
    pub yes: bool,
    /// Print the configuration instead of writing it.
    #[arg(long)]
    pub print: bool,
}

/// The modes, as an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Serverless, and local where serverless cannot serve.
    Auto,
    /// RunComfy's Serverless API.
    Serverless,
    /// Local backends.
    Local,
    /// A RunComfy machine.
    Cloud,
}

impl ModeArg {
    /// Returns the word of the configuration.
    pub const fn word(self) -> &'static str {
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
    /// Read the token from standard input, as a script hands it over.
    #[arg(long)]
    pub token_stdin: bool,
    /// Store it without asking RunComfy whether it is good.
    #[arg(long)]
    pub no_check: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Not a way to hand over a token: it is here to say so.
    #[arg(long = "token", hide = true, num_args = 0.., value_name = "TOKEN")]
    pub token_option: Option<Vec<std::ffi::OsString>>,
    /// Not a way to hand over a token: it is here to say so.
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
    /// Ask nobody over the network.
    #[arg(long)]
    pub offline: bool,
}
