//! Reloads the configuration: on SIGHUP, when its file is saved, on request.
//!
//! Owns which parts of a new configuration take effect at once and which need a restart. An invalid
//! one is refused as a whole: the old one stays, and `status` says why.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    Shell,
    outcomes::{Outcome, TaskName},
    start,
};
use crate::{
    config::{self, Loaded, settings::ProjectConfig, sources::Sources},
    daemon::{
        inputs::watching,
        services::{
            command::{Refused, RefusedKind},
            runtime_config::Live,
            store::blocking,
        },
    },
    domain::{engine::event::ProjectId, time::Moment},
    logging::Logging,
};

/// How long a saved configuration must be unchanged before it is read. Most editors empty the
/// file before they write it, and an empty file is a valid configuration: one without the
/// user's projects.
const SAVED: Duration = Duration::from_millis(300);

/// How often the token is read again after a rejection.
const TOKEN_AGAIN: Duration = Duration::from_secs(15);

/// The sources of the configuration, and the log whose level it sets.
pub(crate) struct Source {
    pub(crate) sources: Sources,
    pub(crate) log: Option<Logging>,
    /// What the daemon started with: these keys change only with a restart.
    pub(crate) fixed: Fixed,
    /// When a saved file will have been unchanged long enough.
    pub(crate) due: Option<Moment>,
    /// When the token was last read again because the service rejected it.
    pub(crate) token_read: Option<Moment>,
}

impl Source {
    /// Creates a source with no reload due.
    pub(crate) const fn new(sources: Sources, log: Option<Logging>, fixed: Fixed) -> Self {
        Self { sources, log, fixed, due: None, token_read: None }
    }
}

/// What cannot change while the daemon runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fixed {
    pub(crate) state_dir: std::path::PathBuf,
    pub(crate) log_dir: Option<std::path::PathBuf>,
}

impl Fixed {
    pub(crate) fn of(config: &config::settings::Config) -> Self {
        Self { state_dir: config.state_dir.clone(), log_dir: config.log.dir.clone() }
    }
}

/// A valid configuration.
pub(crate) struct Reloaded {
    pub(crate) loaded: Loaded,
    pub(crate) live: Live,
}

impl Shell {
    /// Schedules a reload after a change of a configuration file, for when the file is unchanged
    /// for long enough.
    pub(crate) fn reload_soon(&mut self) {
        self.reload.due = Some(self.clock.now().moment.plus(SAVED));
    }

    /// Reads a rejected token again from its source, because there may be a new one. Limited to an
    /// interval that a person does not notice, since a suspended job asks again after each reading.
    pub(crate) fn token_refused(&mut self) {
        let now = self.clock.now().moment;
        self.dirty = true;
        if self.reload.token_read.is_none_or(|at| now.since(at) >= TOKEN_AGAIN) {
            self.reload.token_read = Some(now);
            self.reload_soon();
        }
    }

    /// Starts a reload that is due.
    pub(crate) fn reload_if_due(&mut self) {
        if self.reload.due.take_if(|due| *due <= self.clock.now().moment).is_some() {
            self.reload(None);
        }
    }

    /// Starts a reload of the configuration.
    pub(crate) fn reload(&mut self, reply: Option<oneshot::Sender<Result<String, Refused>>>) {
        // One at a time: an older reading must not win over a newer one. A person's request is
        // always carried out.
        if self.reloading && reply.is_none() {
            self.reload_again = true;
            return;
        }
        self.reloading = true;
        self.manager.reloading();
        let sources = self.reload.sources.clone();
        let old = Arc::clone(&self.live.borrow());
        self.tasks.spawn(TaskName::Reload, async move {
            let result = blocking(move || {
                let loaded = config::load(&sources).map_err(|errors| errors.to_string())?;
                // A reload must refuse what `run` refuses at its start.
                let lost =
                    |project: &&ProjectConfig| loaded.default_project && !project.root.is_dir();
                if let Some(project) = loaded.config.projects.first().filter(lost) {
                    let root = project.root.display();
                    return Err(format!(
                        "no project is configured any more, and there is no {root}"
                    ));
                }
                let live = Live::new(loaded.config.clone(), &sources)
                    .map_err(|error| error.to_string())?
                    .adopt(&old);
                Ok(Reloaded { loaded, live })
            })
            .await;
            Outcome::Reloaded(Box::new(result), reply)
        });
    }

    /// Applies a valid configuration, or keeps the old one.
    pub(crate) fn reloaded(
        &mut self,
        result: Result<Reloaded, String>,
        reply: Option<oneshot::Sender<Result<String, Refused>>>,
    ) {
        self.reloading = false;
        if std::mem::take(&mut self.reload_again) {
            self.reload(None);
        }
        let answer = match result {
            Ok(reloaded) => {
                let said = self.take(reloaded);
                self.ask_facts();
                Ok(said)
            }
            Err(errors) => {
                self.warn([format!(
                    "the new configuration was refused, the old one stays:\n{errors}"
                )]);
                Err(Refused::new(RefusedKind::Configuration, errors))
            }
        };
        if !self.reloading {
            self.manager.reloaded();
        }
        if let Some(reply) = reply {
            drop(reply.send(answer));
        }
    }

    fn take(&mut self, reloaded: Reloaded) -> String {
        let Reloaded { loaded, live } = reloaded;
        let old = Arc::clone(&self.live.borrow());
        self.warnings.retain(|warning| !warning.starts_with("the new configuration was refused"));
        self.dirty = true;
        if live.config == old.config && live.ready().is_ok() == old.ready().is_ok() {
            // The token may have changed all the same.
            self.live.send_replace(Arc::new(live));
            self.generation += 1;
            return "the configuration is unchanged; the token was read again".to_owned();
        }
        if Fixed::of(&live.config) != self.reload.fixed {
            self.warn(["`state_dir` and `log.dir` change only with a restart".to_owned()]);
        }
        if let Some(log) = &self.reload.log {
            log.set_level(live.config.log.level.filter());
        }
        self.generation += 1;
        for served in self.served.values_mut() {
            served.prepared = None;
        }
        let max_in_flight = usize::try_from(live.config.max_in_flight).unwrap_or(1);
        self.engine.reconfigure(live.trigger, max_in_flight);
        self.warn(live.warnings.clone());
        let projects_changed = live.config.projects != old.config.projects
            || live.config.trigger.watch != old.config.trigger.watch
            || live.config.trigger.ignore_prompts != old.config.trigger.ignore_prompts;
        self.live.send_replace(Arc::new(live));
        tracing::info!("the configuration was read again and is in effect");
        if projects_changed {
            self.change_projects(&loaded);
        }
        self.handle(crate::domain::engine::event::Event::Tick);
        "the new configuration is in effect".to_owned()
    }

    /// Serves the projects of the new configuration. While a changed or removed project has an
    /// active job, the change waits for the end of that job.
    pub(crate) fn change_projects(&mut self, loaded: &Loaded) {
        let now = self.clock.now();
        let busy: Vec<String> = self
            .served
            .values()
            .filter(|served| {
                served.job.is_some() && !loaded.config.projects.contains(&served.config)
            })
            .map(|served| served.config.name.clone())
            .collect();
        if !busy.is_empty() {
            self.warn([format!(
                "the changed projects take effect when the job at work of {} is over",
                busy.join(", ")
            )]);
            self.projects_later = Some(loaded.clone());
            return;
        }
        // What waited for a job's end is older than this.
        self.projects_later = None;
        let holder = self.holder();
        let mut keep: Vec<ProjectId> = Vec::new();
        for project in &loaded.config.projects {
            let known = self
                .served
                .iter()
                .find(|(_, served)| served.config.root == project.root)
                .map(|(id, _)| *id);
            match known {
                Some(id) => {
                    keep.push(id);
                    if let Some(served) = self.served.get_mut(&id)
                        && served.config != *project
                    {
                        served.change(project.clone(), now.moment);
                    }
                }
                None => match start::take_project(&self.tools, project, &holder, now.wall) {
                    Ok((id, remembered)) => {
                        self.engine.add(id, remembered);
                        let served = crate::daemon::inputs::project_state::Served::new(
                            project.clone(),
                            now.moment,
                        );
                        self.served.insert(id, served);
                        keep.push(id);
                    }
                    Err(error) => self.warn([error.to_string()]),
                },
            }
        }
        let gone: Vec<_> = self
            .asked
            .iter()
            .filter(|(_, (project, _))| !keep.contains(project))
            .map(|(ticket, _)| *ticket)
            .collect();
        for (_, asked) in gone.into_iter().filter_map(|ticket| self.asked.remove(&ticket)) {
            let refused = Refused::new(
                RefusedKind::Configuration,
                "its project is not served any more; nothing was sent",
            );
            drop(asked.reply.send(Err(refused)));
        }
        for id in self.served.keys().filter(|id| !keep.contains(id)).copied() {
            let tools = Arc::clone(&self.tools);
            self.tasks.spawn(TaskName::Errand, async move {
                tools.root_locks.release(id).await;
                Outcome::Nothing
            });
        }
        self.served.retain(|id, _| keep.contains(id));
        self.engine.retain(&keep);
        for served in self.served.values_mut() {
            // Patterns may have changed: a refused prompt may be valid now.
            served.look_anew(now.moment);
        }
        let watched = watching::watched(&self.served, loaded);
        let mode = watching::watch_mode(loaded.config.trigger.watch);
        let (watcher, warnings) = watching::watch(watched, mode, &self.wakes);
        self.note_polled(&watcher.polled());
        // A new mutex for the new watcher: the old one may be held by a scan of a drive that hangs.
        self.watcher = Arc::new(std::sync::Mutex::new(Some(watcher)));
        self.warn(warnings);
    }
}
