//! `conjured run`: the daemon in the foreground; what the services start.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    context::Context,
    exit::{BUG, Failure},
};
use crate::{
    daemon::{
        Ended,
        live::Live,
        start::{self, Options, Purpose},
    },
    disk::dirs,
    domain::status::Status,
    logging,
};

/// Runs until a signal comes.
pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let mut loaded = context.load_to_serve()?;
    let live = Live::new(loaded.config.clone(), &context.sources)?;
    let log = &loaded.config.log;
    let level = match context.out.verbosity {
        0 => log.level.filter(),
        verbosity => louder(log.level.filter(), verbosity),
    };
    let settings = |dir| logging::Settings {
        level,
        dir,
        keep_days: usize::try_from(log.keep_days).unwrap_or(usize::MAX),
        colour: context.out.colour,
    };
    let usable = match &log.dir {
        Some(dir) => dirs::make_private(dir)
            .and_then(|()| dirs::tighten(dir))
            .map_err(|error| format!("{error}; set `log.dir` to another folder, or to \"-\"")),
        None => Ok(()),
    };
    let started = usable.and_then(|()| {
        logging::start(&settings(log.dir.as_deref())).map_err(|error| error.to_string())
    });
    // The work counts for more than its story: without a folder for it the log goes to standard error, and `status` says so.
    let (log, trouble) = match started {
        Ok(log) => (log, None),
        Err(trouble) => (logging::start(&settings(None))?, Some(trouble)),
    };
    loaded
        .warnings
        .extend(trouble.map(|trouble| format!("the log goes to standard error only: {trouble}")));
    if let Some(dir) = &loaded.config.log.dir {
        // The folder is private; the appender makes its files as the system's mask says.
        dirs::owner_only_below(dir);
    }
    let (status, _) = watch::channel(Arc::new(Status::starting()));
    let options = Options {
        loaded,
        sources: context.sources.clone(),
        live,
        log: Some(log),
        purpose: Purpose::Serve,
        signals: true,
        stop: None,
        status,
    };
    match Box::pin(start::run(options)).await? {
        Ended::Stopped | Ended::OneJob(_) => Ok(()),
        Ended::Broken(reason) => Err(Failure::new(BUG, format!("the daemon broke: {reason}"))),
    }
}

/// Returns the level `steps` louder, or quieter when negative.
fn louder(
    level: tracing::level_filters::LevelFilter,
    steps: i8,
) -> tracing::level_filters::LevelFilter {
    use tracing::level_filters::LevelFilter as Level;
    const LADDER: [Level; 6] =
        [Level::OFF, Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    let now = LADDER.iter().position(|step| *step == level).unwrap_or(3);
    let wanted = now.saturating_add_signed(isize::from(steps)).min(LADDER.len() - 1);
    LADDER[wanted]
}
