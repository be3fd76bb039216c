//! `conjured run`: the daemon in the foreground; service managers start this command.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::watch;

use super::{
    context::Context,
    exit::{BUG, Failure},
};
use crate::{
    config::Loaded,
    daemon::{
        DaemonEnd,
        event_loop::{
            start::{self, Options, Purpose},
            tasks::projects::silent_roots,
        },
        services::runtime_config::RuntimeConfig,
    },
    disk::dirs,
    domain::status::Status,
    logging::{self, Logging},
};

/// Runs until a signal arrives.
pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let mut loaded = context.load_to_serve()?;
    let mut sources = context.sources.clone();
    sources.silent_roots = silent_roots(&loaded.config.projects).await;
    let config = RuntimeConfig::new(loaded.config.clone(), &sources)?;
    let log = start_log(context, &mut loaded);
    let (status, _) = watch::channel(Arc::new(Status::starting()));
    let options = Options {
        loaded,
        sources: context.sources.clone(),
        runtime_config: config,
        log: Some(log),
        purpose: Purpose::Serve,
        signals: true,
        stop: None,
        status,
    };
    match Box::pin(start::run(options)).await? {
        DaemonEnd::Stopped | DaemonEnd::OneJob(_) => Ok(()),
        DaemonEnd::Broken(reason) => Err(Failure::new(BUG, format!("the daemon failed: {reason}"))),
    }
}

/// Starts the log. A log folder that cannot be written is only a warning: the artist's work does
/// not wait for a log.
fn start_log(context: &Context, loaded: &mut Loaded) -> Logging {
    let settings = &loaded.config.log;
    let usable = |dir: &&PathBuf| {
        dirs::make_private(dir)
            .and_then(|()| dirs::restrict_dir(dir))
            .and_then(|()| dirs::probe_write(dir))
    };
    let fault = settings.dir.as_ref().and_then(|dir| usable(&dir).err());
    let log = logging::start(&logging::Settings {
        level: settings.level.filter(),
        verbosity: context.out.verbosity,
        dir: settings.dir.as_deref().filter(|_| fault.is_none()),
        keep_days: usize::try_from(settings.keep_days).unwrap_or(usize::MAX),
        keep_bytes: u64::from(settings.keep_mb) << 20,
        colour: context.out.colour,
        journal_stream: context.sources.env.get("JOURNAL_STREAM").map(String::as_str),
    });
    if let Some(fault) = fault {
        loaded.warnings.push(format!(
            "logging to standard error only: {fault}. Set `log.dir` to a writable folder, or to \
             \"-\", and restart"
        ));
    }
    log
}
