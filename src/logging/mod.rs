//! Sets up the log: standard error, and daily files in a separate folder.
//!
//! Owns the set-up of `tracing` and the level, which a reload may change. Each part decides which
//! events it logs, [`line`] formats the lines, and [`crate::disk::daily_log`] owns the files.
//! Nothing that is logged contains a token or the query of a URL. A file that cannot be written
//! never stops anything: the line is on standard error too.

mod line;

use std::{io::IsTerminal, path::Path};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{Layer, Registry, fmt, layer::SubscriberExt, reload};

use self::line::{JobOnly, Line};
use crate::{clock::Clock, disk::daily_log::DailyFiles};

/// How many lines may wait for the file. The library's 128 000 take 4 MB that are written to at
/// start and so stay resident, a quarter of an idle daemon; these take 128 KB. If a disk hangs,
/// later lines are on standard error only, and memory use stays limited.
const MAX_QUEUED_LINES: usize = 4096;

/// Keeps the log running: dropping it writes out the lines that are still in memory.
pub struct Logging {
    level: reload::Handle<LevelFilter, Registry>,
    verbosity: i8,
    _worker: Option<WorkerGuard>,
}

impl std::fmt::Debug for Logging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logging")
    }
}

/// What to log, and where.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// The least important level that is logged.
    pub level: LevelFilter,
    /// How many levels more (or less) the command line asked for; this stays when a reload changes
    /// the level.
    pub verbosity: i8,
    /// The folder for daily files; `None` = standard error only.
    pub dir: Option<&'a Path>,
    /// For how many days files are kept.
    pub keep_days: usize,
    /// How many bytes all files together may take.
    pub keep_bytes: u64,
    /// Whether standard error is coloured.
    pub colour: bool,
    /// The stream that systemd says standard error is connected to (`$JOURNAL_STREAM`).
    pub journal_stream: Option<&'a str>,
}

/// Starts the log for the whole process. A second call in one process keeps the first log.
pub fn start(settings: &Settings<'_>) -> Logging {
    let (level, handle) = reload::Layer::new(more_verbose(settings.level, settings.verbosity));
    let journal = settings.journal_stream.is_some_and(is_standard_error);
    // If standard error is closed, reporting that error must not end the process.
    let stderr = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(settings.colour && !journal && std::io::stderr().is_terminal())
        .fmt_fields(JobOnly)
        .event_format(Line { journal })
        .log_internal_errors(false);
    let (file, worker) = match settings.dir {
        None => (None, None),
        Some(dir) => {
            let files = DailyFiles::new(dir, settings.keep_days, settings.keep_bytes, today);
            let (writer, worker) =
                NonBlockingBuilder::default().buffered_lines_limit(MAX_QUEUED_LINES).finish(files);
            let layer = fmt::layer()
                .with_writer(writer)
                .with_ansi(false)
                .fmt_fields(JobOnly)
                .event_format(Line { journal: false });
            (Some(layer.boxed()), Some(worker))
        }
    };
    let subscriber = Registry::default().with(level).with(stderr).with(file);
    // Only a test can have set a subscriber before, and its log is just as good.
    drop(tracing::subscriber::set_global_default(subscriber));
    Logging { level: handle, verbosity: settings.verbosity, _worker: worker }
}

impl Logging {
    /// Changes the level of all output from now on.
    pub fn set_level(&self, level: LevelFilter) {
        // It fails only when the subscriber is gone, and then there is no log to change.
        drop(self.level.reload(more_verbose(level, self.verbosity)));
    }
}

/// Returns the current civil day in the local time zone.
fn today() -> String {
    jiff::Timestamp::from_millisecond(Clock.now().wall.unix_millis())
        .unwrap_or_default()
        .to_zoned(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%d")
        .to_string()
}

/// Returns whether `dev:inode` of `$JOURNAL_STREAM` is our standard error: only then does the
/// journal read it (`systemd.exec(5)`).
fn is_standard_error(stream: &str) -> bool {
    #[cfg(unix)]
    {
        rustix::fs::fstat(std::io::stderr())
            .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
    }
    #[cfg(not(unix))]
    {
        let _ = stream;
        false
    }
}

/// Returns the level that is `steps` more verbose, or less verbose if negative.
fn more_verbose(level: LevelFilter, steps: i8) -> LevelFilter {
    use LevelFilter as Level;
    const LEVELS: [Level; 6] =
        [Level::OFF, Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    let now = LEVELS.iter().position(|step| *step == level).unwrap_or(3);
    let wanted = now.saturating_add_signed(isize::from(steps)).min(LEVELS.len() - 1);
    LEVELS[wanted]
}
