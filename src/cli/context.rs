//! What most commands start with: the loaded and checked configuration.
//!
//! Owns how flags and environment become a [`Loaded`] configuration, and where the state folder is
//! for commands that can run without a configuration.

use std::path::PathBuf;

use super::{
    args::Globals,
    exit::{CONFIGURATION, Failure},
    out::Out,
};
use crate::{
    config::{self, Loaded, sources::Sources},
    logging::{self, Logging},
};

/// The surroundings of a command.
#[derive(Debug)]
pub struct Context {
    /// How to print.
    pub out: Out,
    /// The sources of settings.
    pub sources: Sources,
}

impl Context {
    /// Reads the process's environment and the flags.
    pub fn new(globals: &Globals) -> Self {
        let sources = Sources::from_process(
            globals.config.clone(),
            globals.root.clone(),
            globals.state_dir.clone(),
        );
        let verbosity = i8::try_from(globals.verbose).unwrap_or(i8::MAX);
        let quieter = i8::try_from(globals.quiet).unwrap_or(i8::MAX);
        let no_color = sources.env.get("NO_COLOR").is_some_and(|value| !value.is_empty());
        let out = Out::new(globals.color, verbosity.saturating_sub(quieter), no_color);
        Self { out, sources }
    }

    /// Loads and checks the configuration.
    pub fn load(&self) -> Result<Loaded, Failure> {
        Ok(config::load(&self.sources)?)
    }

    /// Loads and checks the configuration for a command that serves projects, which requires one.
    pub fn load_to_serve(&self) -> Result<Loaded, Failure> {
        let loaded = self.load()?;
        // A root that somebody named may lie on a drive that does not answer: it is asked later, by
        // itself.
        let default = loaded.config.projects.first().filter(|_| loaded.default_project);
        match default.filter(|project| !project.root.is_dir()) {
            Some(project) => Err(Failure::new(
                CONFIGURATION,
                format!(
                    "no project is configured, and there is no {}: set a CONJURE checkout with \
                     --root DIR, or with a [[project]] section in a configuration file",
                    project.root.display()
                ),
            )),
            _ => Ok(loaded),
        }
    }

    /// Returns the state folder: from the configuration, or from the flag alone if no configuration
    /// can be read.
    pub fn state_dir(&self) -> Result<PathBuf, Failure> {
        match (self.load(), &self.sources.state_dir) {
            (Ok(loaded), _) => Ok(loaded.config.state_dir),
            (Err(_), Some(folder)) => {
                Ok(std::path::absolute(folder).unwrap_or_else(|_| folder.clone()))
            }
            (Err(failure), None) => Err(failure),
        }
    }

    /// Starts the log of a command that is not the daemon: on standard error only, at the requested
    /// verbosity only.
    pub fn quiet_log(&self) -> Option<Logging> {
        use tracing::level_filters::LevelFilter;
        let level = match self.out.verbosity {
            i8::MIN..=-1 => LevelFilter::OFF,
            0 => LevelFilter::WARN,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            3..=i8::MAX => LevelFilter::TRACE,
        };
        Some(logging::start(&logging::Settings {
            level,
            verbosity: 0,
            dir: None,
            keep_days: 1,
            keep_bytes: 0,
            colour: self.out.colour,
            journal_stream: None,
        }))
    }
}
