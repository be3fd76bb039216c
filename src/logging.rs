//! Where the log goes: standard error, and daily files in a folder of their own.
//!
//! Owns the set-up of `tracing` and the level that a reload may change. What is worth a line is decided where it happens;
//! nothing that is logged holds a token or the query of a URL.

use std::{io::IsTerminal, path::Path};

use tracing::level_filters::LevelFilter;
use tracing_appender::{
    non_blocking::WorkerGuard,
    rolling::{RollingFileAppender, Rotation},
};
use tracing_subscriber::{Layer, Registry, fmt, layer::SubscriberExt, reload};

/// Keeps the log alive: dropping it writes out what is still in memory.
pub struct Logging {
    level: reload::Handle<LevelFilter, Registry>,
    _worker: Option<WorkerGuard>,
}

impl std::fmt::Debug for Logging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logging")
    }
}

/// What to log and where to.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// The least important lines that are kept.
    pub level: LevelFilter,
    /// The folder for daily files, which must hold nothing else; `None` = standard error only.
    pub dir: Option<&'a Path>,
    /// How many daily files are kept.
    pub keep_days: usize,
    /// Whether standard error is coloured.
    pub colour: bool,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write a log in {dir}: {source}. Set `log.dir` to a folder that can be written, or to \"-\""
)]
pub struct LogError {
    dir: String,
    source: tracing_appender::rolling::InitError,
}

/// Starts the log for the whole process. A second call in one process keeps the first.
pub fn start(settings: &Settings<'_>) -> Result<Logging, LogError> {
    let (level, handle) = reload::Layer::new(settings.level);
    let stderr = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(settings.colour && std::io::stderr().is_terminal())
        .with_target(false);
    let (file, worker) = match settings.dir {
        None => (None, None),
        Some(dir) => {
            // The appender prunes by prefix and suffix, so the folder is ours alone.
            let appender = RollingFileAppender::builder()
                .rotation(Rotation::DAILY)
                .filename_prefix("conjured")
                .filename_suffix("log")
                .max_log_files(settings.keep_days.max(1))
                .build(dir)
                .map_err(|source| LogError { dir: dir.display().to_string(), source })?;
            let (writer, worker) = tracing_appender::non_blocking(appender);
            let layer = fmt::layer().with_writer(writer).with_ansi(false).with_target(false);
            (Some(layer.boxed()), Some(worker))
        }
    };
    let subscriber = Registry::default().with(level).with(stderr).with(file);
    // Only a test can have set one before, and its log is as good as ours.
    drop(tracing::subscriber::set_global_default(subscriber));
    Ok(Logging { level: handle, _worker: worker })
}

impl Logging {
    /// Changes the level of everything from now on.
    pub fn set_level(&self, level: LevelFilter) {
        // It fails only when the subscriber is gone, and then there is no log to change.
        drop(self.level.reload(level));
    }
}
