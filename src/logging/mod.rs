//! Where the log goes: standard error, and daily files in a folder of their own.
//!
//! Owns the set-up of `tracing` and the level that a reload may change. What is worth a line is decided where it happens, what a line
//! looks like is [`line`]'s, the files are [`crate::disk::daily_log`]'s. Nothing that is logged holds a token or the query of a URL. A
//! file that cannot be written never stops anything: the line is on standard error, too.

mod line;

use std::{io::IsTerminal, path::Path};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{Layer, Registry, fmt, layer::SubscriberExt, reload};

use self::line::{JobOnly, Line};
use crate::{clock::Clock, disk::daily_log::DailyFiles};

/// How many lines may wait for the file. The library's 128 000 are 4 MB that are written to at start and so stay resident, a quarter of
/// an idle daemon; these are 128 KB. Where a disk hangs, later lines are on standard error only, and the memory has a bound.
const QUEUE: usize = 4096;

/// Keeps the log alive: dropping it writes out what is still in memory.
pub struct Logging {
    level: reload::Handle<LevelFilter, Registry>,
    louder: i8,
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
    /// How many steps more (or less) than that the command line asked for; it stays when a reload changes the level.
    pub louder: i8,
    /// The folder for daily files; `None` = standard error only.
    pub dir: Option<&'a Path>,
    /// Of how many days files are kept.
    pub keep_days: usize,
    /// How many bytes all files may take together.
    pub keep_bytes: u64,
    /// Whether standard error is coloured.
    pub colour: bool,
    /// What systemd says that standard error is connected to (`$JOURNAL_STREAM`).
    pub journal_stream: Option<&'a str>,
}

/// Starts the log for the whole process. A second call in one process keeps the first.
pub fn start(settings: &Settings<'_>) -> Logging {
    let (level, handle) = reload::Layer::new(louder(settings.level, settings.louder));
    let journal = settings.journal_stream.is_some_and(is_standard_error);
    // A standard error that is closed must not end the process that would complain about it.
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
                NonBlockingBuilder::default().buffered_lines_limit(QUEUE).finish(files);
            let layer = fmt::layer()
                .with_writer(writer)
                .with_ansi(false)
                .fmt_fields(JobOnly)
                .event_format(Line { journal: false });
            (Some(layer.boxed()), Some(worker))
        }
    };
    let subscriber = Registry::default().with(level).with(stderr).with(file);
    // Only a test can have set one before, and its log is as good as ours.
    drop(tracing::subscriber::set_global_default(subscriber));
    Logging { level: handle, louder: settings.louder, _worker: worker }
}

impl Logging {
    /// Changes the level of everything from now on.
    pub fn set_level(&self, level: LevelFilter) {
        // It fails only when the subscriber is gone, and then there is no log to change.
        drop(self.level.reload(louder(level, self.louder)));
    }
}

/// The civil day here and now.
fn today() -> String {
    jiff::Timestamp::from_millisecond(Clock.now().wall.unix_millis())
        .unwrap_or_default()
        .to_zoned(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%d")
        .to_string()
}

/// Tells whether `dev:inode` of `$JOURNAL_STREAM` is our standard error: only then is it the journal that reads it
/// (`systemd.exec(5)`).
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

/// Returns the level `steps` louder, or quieter when negative.
fn louder(level: LevelFilter, steps: i8) -> LevelFilter {
    use LevelFilter as Level;
    const LADDER: [Level; 6] =
        [Level::OFF, Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    let now = LADDER.iter().position(|step| *step == level).unwrap_or(3);
    let wanted = now.saturating_add_signed(isize::from(steps)).min(LADDER.len() - 1);
    LADDER[wanted]
}
