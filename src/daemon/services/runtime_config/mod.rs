//! The configuration as working parts: rules, workflow, backends, prices, as jobs use them.
//!
//! Owns the step from checked values to working parts. It succeeds as a whole or not at all, so
//! that a bad reload keeps the old parts; jobs read the newest one for every call, so that a new
//! token reaches a running job.

pub(crate) mod backends;
pub(crate) mod bound_workflow;
pub(crate) mod server_api;

use std::sync::Arc;

pub use self::bound_workflow::{read_workflow, workflow};
use self::{
    backends::{ConfiguredBackend, ConfiguredBackends},
    bound_workflow::BoundWorkflows,
    server_api::{Cloud, cloud},
};
use crate::{
    config::{
        enums::{Mode, Provider},
        settings::{Config, SeedSetting},
        sources::Sources,
    },
    daemon::services::errors::{RuntimeConfigError, Unavailable},
    domain::{
        inputs::{debounce::Window, prompt::IgnorePatterns, trigger},
        job::choose_backend::BackendKind,
        machines::deployment::{self, PriceRate},
        money::budget::BudgetLimits,
        request::overrides::SeedChoice,
    },
};

/// Everything that a reload replaces.
#[derive(Debug)]
pub struct RuntimeConfig {
    /// The checked values.
    pub settings: Config,
    /// The rules of the trigger.
    pub(crate) trigger: trigger::Settings,
    /// Prompts that are known accidents.
    pub(crate) ignore: Arc<IgnorePatterns>,
    /// What runs on each backend.
    pub(crate) workflows: BoundWorkflows,
    /// The source of seeds.
    pub(crate) seed: SeedChoice,
    /// The backends of the mode, in order of preference. Never empty.
    pub(crate) order: Vec<BackendKind>,
    /// The backends, or the reasons why they are unavailable.
    pub(crate) backends: ConfiguredBackends,
    /// Rented machines, or why there are none; in every mode, because an earlier one may have
    /// left some.
    pub(crate) cloud: Result<Cloud, Unavailable>,
    /// The limits on spending.
    pub(crate) limits: BudgetLimits,
    /// Warnings about settings that work but should be corrected.
    pub(crate) warnings: Vec<String>,
}

impl RuntimeConfig {
    /// Builds the parts.
    pub fn new(config: Config, sources: &Sources) -> Result<Self, RuntimeConfigError> {
        let order = order(&config);
        let recipes = BoundWorkflows::new(&config, &order)?;
        let ignore = Arc::new(IgnorePatterns::new(&config.trigger.ignore_prompts)?);
        let cloud = cloud(&config, sources)?;
        let (places, warnings) = ConfiguredBackends::new(&config, sources, &order, &cloud)?;
        let budget = &config.budget;
        let limits = BudgetLimits {
            per_job: budget.per_job,
            per_session: budget.per_session,
            per_day: budget.per_day,
            per_month: budget.per_month,
        };
        let seed = match config.generation.seed {
            SeedSetting::Derived => SeedChoice::Derived,
            SeedSetting::Random => SeedChoice::Random,
            SeedSetting::Fixed(seed) => SeedChoice::Fixed(seed),
        };
        let trigger = rules(&config);
        Ok(Self {
            settings: config,
            trigger,
            ignore,
            workflows: recipes,
            seed,
            order,
            backends: places,
            cloud,
            limits,
            warnings,
        })
    }

    /// Takes over the parts of an older configuration with the same settings.
    pub(crate) fn reuse(mut self, old: &Self) -> Self {
        self.backends.reuse(&old.backends);
        self
    }

    /// Returns the backend for new jobs, or why it is unavailable.
    pub(crate) fn at(&self, backend: BackendKind) -> &Result<ConfiguredBackend, Unavailable> {
        self.backends.at(backend)
    }

    /// Returns the backend for requests that were already sent, even if the mode no longer
    /// names it.
    pub(crate) const fn known_at(
        &self,
        backend: BackendKind,
    ) -> &Result<ConfiguredBackend, Unavailable> {
        self.backends.known_at(backend)
    }

    /// Returns the current terms of jobs in RunComfy's queue.
    pub(crate) fn rate(&self) -> PriceRate {
        let facts =
            self.at(BackendKind::Serverless).as_ref().ok().and_then(ConfiguredBackend::facts);
        deployment::rate(&self.settings.budget.price_settings(), facts.as_ref())
    }

    /// Returns the backend that jobs are sent to first, according to the configuration.
    pub(crate) fn first(&self) -> BackendKind {
        let ready = self.order.iter().find(|backend| self.at(**backend).is_ok());
        ready.or(self.order.first()).copied().unwrap_or(BackendKind::Serverless)
    }

    /// Returns whether jobs can be sent, or why not.
    pub fn check_available(&self) -> Result<(), &Unavailable> {
        self.at(self.first()).as_ref().map(drop)
    }
}

/// Returns the backends of the mode, in order of preference.
fn order(config: &Config) -> Vec<BackendKind> {
    let local = config.local.providers.iter().map(|provider| match provider {
        Provider::Comfyui => BackendKind::Comfyui,
        Provider::Huggingface => BackendKind::Huggingface,
    });
    match config.mode {
        Mode::Serverless => vec![BackendKind::Serverless],
        Mode::Local => local.collect(),
        Mode::Cloud => vec![BackendKind::Cloud],
        Mode::Auto => std::iter::once(BackendKind::Serverless).chain(local).collect(),
    }
}

fn rules(config: &Config) -> trigger::Settings {
    let rules = &config.trigger;
    trigger::Settings {
        on: rules.on,
        prompt: Window { quiet: rules.prompt_quiet, max_wait: Some(rules.prompt_max_wait) },
        render: Window { quiet: rules.render_quiet, max_wait: None },
        min_interval: rules.min_interval,
        max_jobs_per_hour: rules.max_jobs_per_hour,
        hold_while_sculpting: rules.hold_while_sculpting,
        after_result_hold: rules.after_result_hold,
        when_busy: rules.when_busy,
        at_start: rules.at_start,
    }
}
