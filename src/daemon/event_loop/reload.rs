//! Reloads the configuration: on SIGHUP, when its file is saved, on request.
//!
//! Owns which parts of a new configuration take effect at once and which need a restart. An invalid
//! one is refused as a whole: the old one stays, and `status` says why.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    EventLoop,
    outcomes::{Replies, TaskName, TaskOutcome},
    projects::{LockAttempt, silent_roots, take_projects},
};
use crate::{
    config::{self, Loaded, settings::ProjectConfig, sources::Sources},
    daemon::services::{
        command::{CommandError, CommandErrorKind},
        runtime_config::RuntimeConfig,
        store::blocking,
    },
    disk::dirs,
    domain::time::Moment,
    logging::Logging,
};

/// How long a saved configuration must be unchanged before it is read. Most editors empty the
/// file before they write it, and an empty file is a valid configuration: one without the
/// user's projects.
const SAVE_DEBOUNCE: Duration = Duration::from_millis(300);

/// How often the token is read again after a rejection.
const TOKEN_RECHECK: Duration = Duration::from_secs(15);

/// The sources of the configuration, and the log whose level it sets.
pub(crate) struct ConfigSource {
    pub(crate) sources: Sources,
    pub(crate) log: Option<Logging>,
    /// What the daemon started with: these keys change only with a restart.
    pub(crate) fixed: FixedPaths,
    /// When a saved file will have been unchanged long enough.
    pub(crate) reload_at: Option<Moment>,
    /// When the token was last read again because the service rejected it.
    pub(crate) token_read_at: Option<Moment>,
    /// Who waits for the next reading.
    pub(crate) replies: Replies,
}

impl ConfigSource {
    /// Creates a source with no reload due.
    pub(crate) const fn new(sources: Sources, log: Option<Logging>, fixed: FixedPaths) -> Self {
        Self { sources, log, fixed, reload_at: None, token_read_at: None, replies: Vec::new() }
    }
}

/// What cannot change while the daemon runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FixedPaths {
    pub(crate) state_dir: std::path::PathBuf,
    pub(crate) log_dir: Option<std::path::PathBuf>,
}

impl FixedPaths {
    pub(crate) fn of(config: &config::settings::Config) -> Self {
        Self { state_dir: config.state_dir.clone(), log_dir: config.log.dir.clone() }
    }
}

/// A valid configuration.
pub(crate) struct Reloaded {
    pub(crate) loaded: Loaded,
    pub(crate) runtime_config: RuntimeConfig,
    /// Its projects that were not served before.
    pub(crate) attempts: Vec<(ProjectConfig, LockAttempt)>,
}

/// Reads the configuration and brings it to life. A project whose drive does not answer is not
/// asked for a token.
async fn read(
    mut sources: Sources,
    old: Arc<RuntimeConfig>,
) -> Result<(Loaded, RuntimeConfig), String> {
    let own = sources.clone();
    let loaded = blocking(move || config::load(&own)).await.map_err(|errors| errors.to_string())?;
    sources.silent_roots = silent_roots(&loaded.config.projects).await;
    blocking(move || {
        // What `run` refuses at its start must not come in by the back door.
        let lost = |project: &&ProjectConfig| {
            loaded.default_project
                && !sources.silent_roots.contains(&project.root)
                && !dirs::is_dir(&project.root)
        };
        if let Some(project) = loaded.config.projects.first().filter(lost) {
            let root = project.root.display();
            return Err(format!("no project is configured any more, and {root} does not exist"));
        }
        let config = RuntimeConfig::new(loaded.config.clone(), &sources)
            .map_err(|error| error.to_string())?
            .reuse(&old);
        Ok((loaded, config))
    })
    .await
}

impl EventLoop {
    /// Schedules a reload after a change of a configuration file, for when the file is unchanged
    /// for long enough.
    pub(crate) fn schedule_reload(&mut self) {
        self.reload.reload_at = Some(self.clock.now().moment.plus(SAVE_DEBOUNCE));
    }

    /// Reads a rejected token again from its source, because there may be a new one. Limited to an
    /// interval that a person does not notice, since a suspended job asks again after each reading.
    pub(crate) fn on_token_refused(&mut self) {
        let now = self.clock.now().moment;
        self.dirty = true;
        if self.reload.token_read_at.is_none_or(|at| now.since(at) >= TOKEN_RECHECK) {
            self.reload.token_read_at = Some(now);
            self.schedule_reload();
        }
    }

    pub(crate) fn reload_if_due(&mut self) {
        if self.reload.reload_at.take_if(|due| *due <= self.clock.now().moment).is_some() {
            self.reload(None);
        }
    }

    /// Starts a reload of the configuration.
    pub(crate) fn reload(&mut self, reply: Option<oneshot::Sender<Result<String, CommandError>>>) {
        self.reload.replies.extend(reply);
        // One at a time: an older reading must not win over a newer one, nor take the same project
        // twice.
        if self.reloading {
            self.reload_again = true;
            return;
        }
        self.reloading = true;
        self.service_manager.reloading();
        let sources = self.reload.sources.clone();
        let old = Arc::clone(&self.config.borrow());
        let (services, holder, known) =
            (Arc::clone(&self.services), self.holder(), self.known_roots());
        let (replies, now) = (std::mem::take(&mut self.reload.replies), self.clock.now().wall);
        self.tasks.spawn(TaskName::Reload, async move {
            let result = match read(sources, old).await {
                Ok((loaded, config)) => {
                    let is_new = |project: &&ProjectConfig| !known.contains(&project.root);
                    let new = loaded.config.projects.iter().filter(is_new).cloned().collect();
                    let attempts = take_projects(&services, new, &holder, now).await;
                    Ok(Reloaded { loaded, runtime_config: config, attempts })
                }
                Err(errors) => Err(errors),
            };
            TaskOutcome::Reloaded(Box::new(result), replies)
        });
    }

    /// Takes a configuration that is good, or keeps the old one.
    pub(crate) fn on_reloaded(&mut self, result: Result<Reloaded, String>, replies: Replies) {
        self.reloading = false;
        let answer = match result {
            Ok(reloaded) => {
                let said = self.apply_config(reloaded);
                self.fetch_facts();
                Ok(said)
            }
            Err(errors) => {
                self.warn([format!(
                    "the new configuration was refused; the old one stays in effect:\n{errors}"
                )]);
                Err(CommandError::new(CommandErrorKind::Configuration, errors))
            }
        };
        if std::mem::take(&mut self.reload_again) {
            self.reload(None);
        } else {
            self.service_manager.reloaded();
        }
        for reply in replies {
            drop(reply.send(answer.clone()));
        }
    }

    fn apply_config(&mut self, reloaded: Reloaded) -> String {
        let Reloaded { loaded, runtime_config: config, attempts } = reloaded;
        if let Err(error) = self.on_lock_attempts(attempts) {
            self.warn([error.to_string()]);
        }
        let old = Arc::clone(&self.config.borrow());
        self.warnings.retain(|warning| !warning.starts_with("the new configuration was refused"));
        self.dirty = true;
        // What another daemon held at the last reading may be had now.
        let has_new_projects = !self.taken_projects.is_empty() && self.pending_projects.is_none();
        if config.settings == old.settings
            && config.check_available().is_ok() == old.check_available().is_ok()
        {
            // The token may have changed all the same.
            self.config.send_replace(Arc::new(config));
            self.generation += 1;
            if has_new_projects {
                self.change_projects(&loaded);
            }
            return "the configuration is unchanged; the token was read again".to_owned();
        }
        if FixedPaths::of(&config.settings) != self.reload.fixed {
            self.warn([
                "a change of `state_dir` or `log.dir` takes effect only after a restart".to_owned()
            ]);
        }
        if let Some(log) = &self.reload.log {
            log.set_level(config.settings.log.level.filter());
        }
        self.generation += 1;
        for project in self.projects.values_mut() {
            project.prepared = None;
        }
        let max_in_flight = usize::try_from(config.settings.max_in_flight).unwrap_or(1);
        self.engine.reconfigure(config.trigger, max_in_flight);
        self.warn(config.warnings.clone());
        let projects_changed = config.settings.projects != old.settings.projects
            || config.settings.trigger.watch != old.settings.trigger.watch
            || config.settings.trigger.ignore_prompts != old.settings.trigger.ignore_prompts;
        self.config.send_replace(Arc::new(config));
        tracing::info!("the configuration was read again and is in effect");
        if projects_changed || has_new_projects {
            self.change_projects(&loaded);
        }
        self.handle(crate::domain::engine::event::Event::Tick);
        "the new configuration is in effect".to_owned()
    }
}
