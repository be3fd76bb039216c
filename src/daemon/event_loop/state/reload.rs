//! Reloads of the configuration: on SIGHUP, when its file is saved, on request.
//!
//! Owns when the configuration is read again, one reading at a time, and which parts of a new one
//! take effect at once and which need a restart. An invalid one is refused as a whole: the old one
//! stays, and `status` says why. The reading belongs to [`super::super::tasks::reload`].

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    super::{
        action::{Action, ManagerNotice},
        event::Replies,
        tasks::reload::Reloaded,
    },
    DaemonState,
    warnings::REFUSED,
};
use crate::{
    config::settings::Config,
    daemon::services::command::{CommandError, CommandErrorKind, Reply},
    domain::{
        engine::event::Event,
        time::{Moment, Now},
    },
    logging::Logging,
};

/// How long a saved configuration must be unchanged before it is read. Most editors empty the
/// file before they write it, and an empty file is a valid configuration: one without the
/// user's projects.
const SAVE_DEBOUNCE: Duration = Duration::from_millis(300);

/// How often the token is read again after a rejection.
const TOKEN_RECHECK: Duration = Duration::from_secs(15);

/// When the configuration is read again, and who waits for it.
pub(super) struct Reloading {
    /// Counts configurations, so that early work for an older one is discarded.
    generation: u64,
    /// Whether a reload is in progress, and whether another one is requested.
    under_way: bool,
    again: bool,
    /// When a saved file will have been unchanged long enough.
    due_at: Option<Moment>,
    /// When the token was last read again because the service rejected it.
    token_read_at: Option<Moment>,
    /// The callers that wait for the next reading.
    replies: Replies,
    /// What the daemon started with: these keys change only with a restart.
    fixed: FixedPaths,
    /// The log, whose level the configuration sets.
    log: Option<Logging>,
}

/// What cannot change while the daemon runs.
#[derive(Clone, Debug, PartialEq)]
struct FixedPaths {
    state_dir: PathBuf,
    log_dir: Option<PathBuf>,
}

impl FixedPaths {
    fn of(config: &Config) -> Self {
        Self { state_dir: config.state_dir.clone(), log_dir: config.log.dir.clone() }
    }
}

impl Reloading {
    /// Begins with a configuration that has just been read.
    pub(super) fn new(config: &Config, log: Option<Logging>) -> Self {
        Self {
            generation: 0,
            under_way: false,
            again: false,
            due_at: None,
            token_read_at: None,
            replies: Vec::new(),
            fixed: FixedPaths::of(config),
            log,
        }
    }

    /// Returns the number of the configuration in effect.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns when the configuration is read again because its file was saved.
    pub(super) const fn due_at(&self) -> Option<Moment> {
        self.due_at
    }

    /// Begins a reading. Returns whether it may begin: only one is under way at a time, because an
    /// older reading must not win over a newer one, nor take the same project twice.
    fn begin(&mut self) -> bool {
        self.again |= self.under_way;
        !std::mem::replace(&mut self.under_way, true)
    }

    /// Returns whether the token is to be read again after a rejection.
    fn token_due(&mut self, now: Moment) -> bool {
        let due = self.token_read_at.is_none_or(|at| now.since(at) >= TOKEN_RECHECK);
        if due {
            self.token_read_at = Some(now);
        }
        due
    }
}

impl DaemonState {
    /// Schedules a reload after a change of a configuration file, for when the file is unchanged
    /// for long enough.
    pub(super) fn schedule_reload(&mut self, now: Moment) {
        self.reloading.due_at = Some(now.plus(SAVE_DEBOUNCE));
    }

    /// Reads a rejected token again from its source, because there may be a new one. Limited to an
    /// interval that a person does not notice, since a suspended job asks again after each reading.
    pub(super) fn on_token_refused(&mut self, now: Moment) {
        self.publication.mark_changed();
        if self.reloading.token_due(now) {
            self.schedule_reload(now);
        }
    }

    pub(super) fn reload_if_due(&mut self, now: Moment) {
        if self.reloading.due_at.take_if(|due| *due <= now).is_some() {
            self.reload(None);
        }
    }

    /// Starts a reload of the configuration.
    pub(super) fn reload(&mut self, reply: Option<Reply<String>>) {
        self.reloading.replies.extend(reply);
        if !self.reloading.begin() {
            return;
        }
        self.push(Action::NotifyManager(ManagerNotice::Reloading));
        let replies = std::mem::take(&mut self.reloading.replies);
        let known_roots = self.known_roots();
        self.push(Action::Reload { known_roots, replies });
    }

    /// Takes a configuration that is good, or keeps the old one.
    pub(super) fn on_reloaded(
        &mut self,
        result: Result<Reloaded, String>,
        replies: Replies,
        now: Now,
    ) {
        self.reloading.under_way = false;
        let answer = match result {
            Ok(reloaded) => {
                let said = self.apply_config(reloaded, now);
                self.fetch_facts();
                Ok(said.to_owned())
            }
            Err(errors) => {
                self.warn([format!("{REFUSED}; the old one stays in effect:\n{errors}")]);
                Err(CommandError::new(CommandErrorKind::Configuration, errors))
            }
        };
        if std::mem::take(&mut self.reloading.again) {
            self.reload(None);
        } else {
            self.push(Action::NotifyManager(ManagerNotice::Reloaded));
        }
        for reply in replies {
            self.push(Action::ReplyText { reply, answer: answer.clone() });
        }
    }

    fn apply_config(&mut self, reloaded: Reloaded, now: Now) -> &'static str {
        let Reloaded { loaded, runtime_config: config, attempts } = reloaded;
        if let Err(error) = self.on_lock_attempts(attempts) {
            self.warn([error.to_string()]);
        }
        self.drop_refusal();
        let old = Arc::clone(&self.config);
        let config = Arc::new(config);
        // What another daemon held at the last reading may be had now.
        let has_new_projects = self.taken.can_be_served();
        self.reloading.generation += 1;
        if config.settings == old.settings
            && config.check_available().is_ok() == old.check_available().is_ok()
        {
            // The token may have changed all the same.
            self.configure(config);
            if has_new_projects {
                self.change_projects(&loaded, now);
            }
            return "the configuration is unchanged; the token was read again";
        }
        if FixedPaths::of(&config.settings) != self.reloading.fixed {
            self.warn([
                "a change of `state_dir` or `log.dir` takes effect only after a restart".to_owned()
            ]);
        }
        if let Some(log) = &self.reloading.log {
            log.set_level(config.settings.log.level.filter());
        }
        for project in self.projects.values_mut() {
            project.discard_early_work();
        }
        let max_in_flight = usize::try_from(config.settings.max_in_flight).unwrap_or(1);
        self.engine.reconfigure(config.trigger, max_in_flight);
        self.warn(config.warnings.clone());
        let projects_changed = config.settings.projects != old.settings.projects
            || config.settings.trigger.watch != old.settings.trigger.watch
            || config.settings.trigger.ignore_prompts != old.settings.trigger.ignore_prompts;
        self.configure(config);
        tracing::info!("the configuration was read again and is in effect");
        if projects_changed || has_new_projects {
            self.change_projects(&loaded, now);
        }
        self.decide(Event::Tick, now);
        "the new configuration is in effect"
    }
}
