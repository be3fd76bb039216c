//! The configuration brought to life: rules, workflow, backend, prices, as jobs use them.
//!
//! Owns the step from checked values to working parts. It is made whole or not at all, so that a bad reload leaves the old one
//! in place; jobs look at the newest one for every call, so that a new token reaches a job in mid-flight.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    backend::{
        Backend,
        runcomfy::{Serverless, Settings},
    },
    config::{
        secrets::{self, SecretError},
        settings::{Config, Seed, Workflow as WorkflowChoice},
        sources::Sources,
        words::Mode,
    },
    disk::read::{self, Reading},
    domain::{
        budget::Limits,
        deployment::{self, Facts, Rate, Wanted},
        moment::Moment,
        overrides::SeedChoice,
        prompt::{BadPattern, IgnorePatterns},
        settle::Quiet,
        trigger,
        workflow::{
            Workflow, WorkflowFault,
            bind::{BindFault, Bindings, bind_or_find},
        },
    },
    web::RefusedKind,
};

/// A workflow file larger than this is none: CONJURE's have 6 KB.
pub(crate) const MAX_WORKFLOW: u64 = 16 * 1024 * 1024;

/// How long a connection that was used is taken for warm. The pool keeps it for longer.
const STAYS_WARM: Duration = Duration::from_secs(45);

/// How long a deployment's facts are believed. People change them by hand, now and then.
const FACTS_LAST: Duration = Duration::from_secs(3600);

/// Everything that a reload replaces.
#[derive(Debug)]
pub struct Live {
    /// The checked values.
    pub config: Config,
    /// The rules of the trigger.
    pub(crate) trigger: trigger::Settings,
    /// Prompts that are known accidents.
    pub(crate) ignore: Arc<IgnorePatterns>,
    /// The graph.
    pub(crate) workflow: Workflow,
    /// Where its values go.
    pub(crate) bindings: Bindings,
    /// Where seeds come from.
    pub(crate) seed: SeedChoice,
    /// The paid backend, or why there is none.
    pub(crate) serverless: Result<Ready, Unready>,
    /// What may be spent.
    pub(crate) limits: Limits,
    /// What a person should put right although it works.
    pub(crate) warnings: Vec<String>,
}

/// A backend that can serve.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) token_from: String,
    warm_until: Mutex<Moment>,
    facts: Mutex<(Option<Moment>, Option<Facts>)>,
    settings: Settings,
}

impl Ready {
    /// Returns the backend of a deployment, which need not be the one that is configured now: a job is followed where it was
    /// sent, with the token that is good today.
    pub(crate) fn backend_of(&self, deployment: Option<&str>) -> Arc<dyn Backend> {
        let other = deployment.filter(|deployment| *deployment != self.settings.deployment_id);
        let made = other.and_then(|deployment| {
            let settings =
                Settings { deployment_id: deployment.to_owned(), ..self.settings.clone() };
            Serverless::new(&settings).ok()
        });
        made.map_or_else(|| Arc::clone(&self.backend), |made| Arc::new(made) as Arc<dyn Backend>)
    }

    /// Returns the token, to be compared and never to be shown.
    pub(crate) const fn token(&self) -> &SecretString {
        &self.settings.token
    }

    /// Tells whether this is the token that it holds.
    pub(crate) fn has_token(&self, token: &SecretString) -> bool {
        self.settings.token.expose_secret() == token.expose_secret()
    }

    /// Tells whether the connection may have gone cold; asking counts as warming it.
    pub(crate) fn wants_warm_up(&self, now: Moment) -> bool {
        let mut until = self.warm_until.lock().unwrap_or_else(PoisonError::into_inner);
        let cold = *until <= now;
        if cold {
            *until = now.plus(STAYS_WARM);
        }
        cold
    }
}

impl Ready {
    /// Tells whether the deployment should be asked about itself; asking counts, whatever comes of it.
    pub(crate) fn wants_facts(&self, now: Moment) -> bool {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let wants = facts.0.is_none_or(|asked| now.since(asked) >= FACTS_LAST);
        if wants {
            facts.0 = Some(now);
        }
        wants
    }

    /// Tells whether it was never asked.
    pub(crate) fn never_asked(&self) -> bool {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).0.is_none()
    }

    /// Keeps what the deployment said of itself.
    pub(crate) fn keep_facts(&self, facts: Facts) {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(facts);
    }

    /// Returns what the deployment said of itself.
    pub(crate) fn facts(&self) -> Option<Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

/// Why there is no paid backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    /// What kind of reason it is.
    pub kind: RefusedKind,
    /// The reason and what to do.
    pub reason: String,
}

/// Why a configuration cannot come to life.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The workflow's file.
    #[error("`generation.workflow`: {0}")]
    WorkflowFile(String),
    /// The workflow itself.
    #[error("`generation.workflow`: {0}")]
    Workflow(#[from] WorkflowFault),
    /// Its bindings.
    #[error("`generation.bind`: {0}")]
    Bind(#[from] BindFault),
    /// A pattern.
    #[error("`trigger.ignore_prompts`: {0}")]
    Pattern(#[from] BadPattern),
    /// The token's place.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// The backend's settings.
    #[error("[serverless] {0}")]
    Serverless(String),
}

impl Live {
    /// Makes the parts.
    pub fn new(config: Config, sources: &Sources) -> Result<Self, LiveError> {
        let workflow = workflow(&config.generation.workflow)?;
        let (bindings, found) = bind_or_find(&workflow, &config.generation.bind)?;
        if !found.is_empty() {
            let roles: Vec<&str> = found.iter().map(|role| role.word()).collect();
            tracing::info!(
                workflow = workflow.name(),
                "found by itself: {}; `conjured workflow validate` shows where",
                roles.join(", ")
            );
        }
        let ignore = Arc::new(IgnorePatterns::new(&config.trigger.ignore_prompts)?);
        let (serverless, warnings) = serverless(&config, sources)?;
        let budget = &config.budget;
        let limits = Limits {
            per_job: budget.per_job,
            per_session: budget.per_session,
            per_day: budget.per_day,
            per_month: budget.per_month,
        };
        let seed = match config.generation.seed {
            Seed::Derived => SeedChoice::Derived,
            Seed::Random => SeedChoice::Random,
            Seed::Fixed(seed) => SeedChoice::Fixed(seed),
        };
        let trigger = rules(&config);
        Ok(Self { config, trigger, ignore, workflow, bindings, seed, serverless, limits, warnings })
    }

    /// Returns what is configured of the price.
    pub(crate) fn wanted(&self) -> Wanted {
        let budget = &self.config.budget;
        Wanted {
            hourly: budget.hourly,
            hardware: budget.hardware,
            hardware_is_set: budget.hardware_is_set,
            plan: budget.plan,
        }
    }

    /// Returns the terms that jobs are sent on now.
    pub(crate) fn rate(&self) -> Rate {
        let facts = self.serverless.as_ref().ok().and_then(Ready::facts);
        deployment::rate(&self.wanted(), facts.as_ref())
    }

    /// Returns whether jobs can be sent, or why not.
    pub fn ready(&self) -> Result<(), &Unready> {
        self.serverless.as_ref().map(drop)
    }
}

fn rules(config: &Config) -> trigger::Settings {
    let rules = &config.trigger;
    trigger::Settings {
        on: rules.on,
        prompt: Quiet { quiet: rules.prompt_quiet, max_wait: Some(rules.prompt_max_wait) },
        render: Quiet { quiet: rules.render_quiet, max_wait: None },
        min_interval: rules.min_interval,
        max_jobs_per_hour: rules.max_jobs_per_hour,
        hold_while_sculpting: rules.hold_while_sculpting,
        after_result_hold: rules.after_result_hold,
        when_busy: rules.when_busy,
        at_start: rules.at_start,
    }
}

/// Reads a workflow: built in, or a file.
pub fn workflow(choice: &WorkflowChoice) -> Result<Workflow, LiveError> {
    match choice {
        WorkflowChoice::BuiltIn(name) => Workflow::built_in(name).ok_or_else(|| {
            LiveError::WorkflowFile(format!("no workflow `{name}` is built into this version"))
        }),
        WorkflowChoice::File(path) => {
            let bytes = read_workflow(path).map_err(LiveError::WorkflowFile)?;
            Ok(Workflow::parse(&path.display().to_string(), &bytes)?)
        }
    }
}

/// Reads a workflow's file, size-limited.
pub fn read_workflow(path: &Path) -> Result<Vec<u8>, String> {
    match read::read_whole(path, MAX_WORKFLOW) {
        Ok(Reading::Whole { bytes, .. }) => Ok(bytes),
        Ok(Reading::Changing) => Err(format!("{} is being written at this moment", path.display())),
        Ok(Reading::Missing) => Err(format!("there is no {}", path.display())),
        Err(error) => Err(error.to_string()),
    }
}

type Serving = (Result<Ready, Unready>, Vec<String>);

fn serverless(config: &Config, sources: &Sources) -> Result<Serving, LiveError> {
    let unready =
        |kind, reason: &str| Ok((Err(Unready { kind, reason: reason.to_owned() }), Vec::new()));
    match config.mode {
        Mode::Serverless | Mode::Auto => {}
        Mode::Local | Mode::Cloud => {
            return unready(
                RefusedKind::Configuration,
                "this version runs jobs on RunComfy's Serverless API only: set `mode = \"serverless\"` or \"auto\"",
            );
        }
    }
    let settings = &config.serverless;
    if !settings.enabled {
        return unready(RefusedKind::Configuration, "`serverless.enabled` is false");
    }
    let Some(deployment) = &settings.deployment_id else {
        return unready(
            RefusedKind::Configuration,
            "no deployment is configured: set `serverless.deployment_id` or RUNCOMFY_DEPLOYMENT_ID",
        );
    };
    let search = secrets::find_token(sources, config)?;
    let Some(token) = search.token else {
        return unready(
            RefusedKind::Token,
            "no RunComfy token was found: run `conjured login`, or set RUNCOMFY_API_TOKEN",
        );
    };
    let parts = Settings {
        api_url: settings.api_url.clone(),
        api_version: settings.api_version.to_string(),
        token: token.secret,
        connect_timeout: settings.connect_timeout,
        submit_timeout: settings.submit_timeout,
        download_hosts: settings.download_hosts.clone(),
        max_artifact: config.placement.max_artifact_mb.saturating_mul(1024 * 1024),
        ..Settings::new(deployment.clone(), SecretString::default())
    };
    let backend =
        Serverless::new(&parts).map_err(|error| LiveError::Serverless(error.to_string()))?;
    let ready = Ready {
        backend: Arc::new(backend),
        token_from: token.source.to_string(),
        warm_until: Mutex::new(Moment::default()),
        facts: Mutex::default(),
        settings: parts,
    };
    Ok((Ok(ready), search.warnings))
}
