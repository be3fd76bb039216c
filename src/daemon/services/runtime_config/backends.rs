//! The configured backends: for each an adapter with its settings, or the reason why there is none.
//!
//! Owns the step from the configuration to adapters. An adapter lives as long as its
//! settings stay the same: a reload keeps those of the old configuration, because some of
//! them hold what cannot be fetched twice (a Space reports its result once). Which backend a
//! job goes to is decided by [`crate::daemon::jobs::routing`]; the health of a backend
//! belongs to [`crate::daemon::services::health`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};

use super::server_api::Cloud;
use crate::{
    backend::{
        Backend,
        comfyui::{self, Comfyui},
        huggingface::{self, SpaceAddress, Spaces},
        runcomfy::{Serverless, Settings, SettingsError},
    },
    config::{
        secrets,
        settings::{Config, SpaceSetting},
        sources::Sources,
    },
    daemon::services::{
        command::CommandErrorKind,
        errors::{RuntimeConfigError, Unavailable},
        leases::NoMachineYet,
    },
    domain::{
        job::choose_backend::BackendKind, machines::deployment::DeploymentFacts, time::Moment,
    },
};

/// How long a used connection counts as warm. The pool keeps it for longer.
const WARM_DURATION: Duration = Duration::from_secs(45);

/// How long a deployment's facts stay valid. People occasionally change them by hand.
const FACTS_VALID_FOR: Duration = Duration::from_secs(3600);

/// How long a connection to a local server may take: it is there or it is not.
const LOCAL_CONNECT: Duration = Duration::from_secs(2);

/// A backend that can run jobs.
#[derive(Debug)]
pub(crate) struct ConfiguredBackend {
    backend: Arc<dyn Backend>,
    /// Where its token came from, if it has one.
    pub(crate) token_from: Option<String>,
    warm_until: Mutex<Moment>,
    facts: Mutex<(Option<Moment>, Option<DeploymentFacts>)>,
    /// The backends of deployments that are no longer configured, for jobs that were sent there.
    others: Mutex<BTreeMap<String, Arc<dyn Backend>>>,
    settings: AdapterSettings,
}

/// Why the deployment that a job was sent to cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("its deployment `{deployment}` cannot be used: {cause}")]
pub(crate) struct NoBackend {
    deployment: String,
    cause: SettingsError,
}

/// What an adapter was made of.
#[derive(Debug)]
enum AdapterSettings {
    Serverless(Box<Settings>),
    Comfyui(Box<comfyui::Settings>),
    Spaces(Box<huggingface::Settings>),
    /// Each machine has its own adapter, which a job gets with its lease.
    Machine,
}

impl ConfiguredBackend {
    fn new(
        backend: Arc<dyn Backend>,
        token_from: Option<String>,
        made_of: AdapterSettings,
    ) -> Self {
        let (warm_until, facts) = (Mutex::new(Moment::default()), Mutex::default());
        Self { backend, token_from, warm_until, facts, others: Mutex::default(), settings: made_of }
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Returns the backend of a deployment, which need not be the one that is configured now: a job
    /// is followed where it was sent, with the token that is good today. It is made once, and no
    /// other deployment is ever asked instead.
    pub(crate) fn backend_of(
        &self,
        deployment: Option<&str>,
    ) -> Result<Arc<dyn Backend>, NoBackend> {
        let AdapterSettings::Serverless(settings) = &self.settings else {
            return Ok(Arc::clone(&self.backend));
        };
        let Some(other) = deployment.filter(|other| *other != settings.deployment_id) else {
            return Ok(Arc::clone(&self.backend));
        };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = others.get(other) {
            return Ok(Arc::clone(known));
        }
        let settings = Settings { deployment_id: other.to_owned(), ..(**settings).clone() };
        let made = Serverless::new(&settings)
            .map_err(|cause| NoBackend { deployment: other.to_owned(), cause })?;
        let made: Arc<dyn Backend> = Arc::new(made);
        others.insert(other.to_owned(), Arc::clone(&made));
        Ok(made)
    }

    /// Returns the token, for comparison only; it must never be shown.
    pub(crate) const fn token(&self) -> Option<&SecretString> {
        match &self.settings {
            AdapterSettings::Serverless(settings) => Some(&settings.token),
            AdapterSettings::Spaces(settings) => settings.token.as_ref(),
            AdapterSettings::Comfyui(_) | AdapterSettings::Machine => None,
        }
    }

    pub(crate) fn has_token(&self, token: Option<&SecretString>) -> bool {
        let text = |token: &SecretString| token.expose_secret().to_owned();
        self.token().map(text) == token.map(text)
    }

    /// Returns whether the connection may have gone cold; asking counts as warming it.
    pub(crate) fn wants_warm_up(&self, now: Moment) -> bool {
        let mut until = self.warm_until.lock().unwrap_or_else(PoisonError::into_inner);
        let cold = *until <= now;
        if cold {
            *until = now.plus(WARM_DURATION);
        }
        cold
    }

    /// Returns whether the deployment should be asked for its facts; asking counts, whatever the
    /// result is.
    pub(crate) fn wants_facts(&self, now: Moment) -> bool {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let wants = facts.0.is_none_or(|asked| now.since(asked) >= FACTS_VALID_FOR);
        if wants {
            facts.0 = Some(now);
        }
        wants
    }

    /// Returns whether it was never asked.
    pub(crate) fn facts_unknown(&self) -> bool {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).0.is_none()
    }

    pub(crate) fn set_facts(&self, facts: DeploymentFacts) {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(facts);
    }

    pub(crate) fn facts(&self) -> Option<DeploymentFacts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Takes over the adapter of an older configuration with the same settings, and the facts of
    /// its deployment: frequent reloads must not ask for them each time, ahead of the jobs.
    fn reuse(&mut self, old: &Self) {
        if let (AdapterSettings::Serverless(own), AdapterSettings::Serverless(before)) =
            (&self.settings, &old.settings)
            && own.deployment_id == before.deployment_id
            && own.api_url == before.api_url
            && self.has_token(old.token())
        {
            let known = old.facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
            self.facts = Mutex::new(known);
        }
        if let (AdapterSettings::Serverless(own), AdapterSettings::Serverless(before)) =
            (&self.settings, &old.settings)
            && own.same_except_deployment(before)
        {
            let mut others = old.others.lock().unwrap_or_else(PoisonError::into_inner).clone();
            others.insert(before.deployment_id.clone(), Arc::clone(&old.backend));
            if let Some(same) = others.remove(&own.deployment_id) {
                self.backend = same;
            }
            self.others = Mutex::new(others);
        }
        let same = match (&self.settings, &old.settings) {
            (AdapterSettings::Comfyui(own), AdapterSettings::Comfyui(old)) => own == old,
            (AdapterSettings::Spaces(own), AdapterSettings::Spaces(old)) => own == old,
            // Above.
            _ => false,
        };
        if same {
            self.backend = Arc::clone(&old.backend);
        }
    }
}

/// The backends, or the reasons why they are unavailable.
#[derive(Debug)]
pub(crate) struct ConfiguredBackends {
    serverless: Result<ConfiguredBackend, Unavailable>,
    comfyui: Result<ConfiguredBackend, Unavailable>,
    huggingface: Result<ConfiguredBackend, Unavailable>,
    cloud: Result<ConfiguredBackend, Unavailable>,
    /// The backends that jobs are sent to, in order of preference.
    order: Vec<BackendKind>,
    /// The reason given for all others.
    unused: Result<ConfiguredBackend, Unavailable>,
}

impl ConfiguredBackends {
    /// Creates the adapters of the backends in `order`, and collects warnings about settings that
    /// work but should be corrected. The other adapters are created if that is possible without an
    /// error: a request that was sent under another mode is followed to its end.
    pub(crate) fn new(
        config: &Config,
        sources: &Sources,
        order: &[BackendKind],
        rented: &Result<Cloud, Unavailable>,
    ) -> Result<(Self, Vec<String>), RuntimeConfigError> {
        let unused = || Err(Unavailable::configuration(format!("`mode = \"{}\"`", config.mode)));
        let mut places = Self {
            serverless: unused(),
            comfyui: unused(),
            huggingface: unused(),
            cloud: unused(),
            order: order.to_vec(),
            unused: unused(),
        };
        let mut warnings = Vec::new();
        if !order.contains(&BackendKind::Serverless)
            && let Ok((made @ Ok(_), _)) = serverless(config, sources)
        {
            places.serverless = made;
        }
        if !order.contains(&BackendKind::Comfyui)
            && let Ok(made @ Ok(_)) = comfyui(config)
        {
            places.comfyui = made;
        }
        if !order.contains(&BackendKind::Huggingface)
            && let Ok((made @ Ok(_), _)) = spaces(config, sources)
        {
            places.huggingface = made;
        }
        for &backend_kind in order {
            match backend_kind {
                BackendKind::Serverless => {
                    let (made, more) = serverless(config, sources)?;
                    places.serverless = made;
                    warnings.extend(more);
                }
                BackendKind::Comfyui => places.comfyui = comfyui(config)?,
                BackendKind::Huggingface => {
                    let (made, more) = spaces(config, sources)?;
                    places.huggingface = made;
                    warnings.extend(more);
                }
                BackendKind::Cloud => {
                    places.cloud = rented.as_ref().map_err(Clone::clone).and_then(|cloud| {
                        cloud.kind.as_ref().map_err(Clone::clone)?;
                        let backend = Arc::new(NoMachineYet);
                        Ok(ConfiguredBackend::new(
                            backend,
                            Some(cloud.token_from.clone()),
                            AdapterSettings::Machine,
                        ))
                    });
                }
            }
        }
        Ok((places, warnings))
    }

    /// Returns the backend for new jobs.
    pub(crate) fn at(&self, backend: BackendKind) -> &Result<ConfiguredBackend, Unavailable> {
        if self.order.contains(&backend) { self.known_at(backend) } else { &self.unused }
    }

    /// Returns the backend for requests that were already sent, even if it is no longer used for
    /// new jobs.
    pub(crate) const fn known_at(
        &self,
        backend: BackendKind,
    ) -> &Result<ConfiguredBackend, Unavailable> {
        match backend {
            BackendKind::Serverless => &self.serverless,
            BackendKind::Comfyui => &self.comfyui,
            BackendKind::Huggingface => &self.huggingface,
            BackendKind::Cloud => &self.cloud,
        }
    }

    /// Takes over the adapters of an older configuration with the same settings.
    pub(crate) fn reuse(&mut self, old: &Self) {
        let Self { serverless, comfyui, huggingface, cloud, order: _, unused: _ } = self;
        for (own, backend) in [
            (serverless, BackendKind::Serverless),
            (comfyui, BackendKind::Comfyui),
            (huggingface, BackendKind::Huggingface),
            (cloud, BackendKind::Cloud),
        ] {
            if let (Ok(own), Ok(old)) = (own, old.known_at(backend)) {
                own.reuse(old);
            }
        }
    }
}

type AdapterResult = (Result<ConfiguredBackend, Unavailable>, Vec<String>);

fn serverless(config: &Config, sources: &Sources) -> Result<AdapterResult, RuntimeConfigError> {
    let unavailable =
        |kind, reason: &str| Ok((Err(Unavailable { kind, reason: reason.to_owned() }), Vec::new()));
    let settings = &config.serverless;
    if !settings.enabled {
        return unavailable(CommandErrorKind::Configuration, "`serverless.enabled` is false");
    }
    let Some(deployment) = &settings.deployment_id else {
        return unavailable(
            CommandErrorKind::Configuration,
            "no deployment is configured: set `serverless.deployment_id` or RUNCOMFY_DEPLOYMENT_ID",
        );
    };
    let search = secrets::find_token(sources, config)?;
    let Some(token) = search.token else {
        return unavailable(
            CommandErrorKind::Token,
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
        max_artifact: max_artifact(config),
        ..Settings::new(deployment.clone(), SecretString::default())
    };
    let backend = Serverless::new(&parts)
        .map_err(|error| RuntimeConfigError::Serverless(error.to_string()))?;
    let from = Some(token.source.to_string());
    let configured = ConfiguredBackend::new(
        Arc::new(backend),
        from,
        AdapterSettings::Serverless(Box::new(parts)),
    );
    Ok((Ok(configured), search.warnings))
}

const fn max_artifact(config: &Config) -> u64 {
    config.placement.max_artifact_mb.saturating_mul(1024 * 1024)
}

fn comfyui(config: &Config) -> Result<Result<ConfiguredBackend, Unavailable>, RuntimeConfigError> {
    let parts = comfyui::Settings {
        connect_timeout: LOCAL_CONNECT,
        max_artifact: max_artifact(config),
        ..comfyui::Settings::local(config.local.comfyui_url.clone())
    };
    let backend = Comfyui::new(&parts)
        .map_err(|error| RuntimeConfigError::LocalSettings(format!("`comfyui_url`: {error}")))?;
    Ok(Ok(ConfiguredBackend::new(
        Arc::new(backend),
        None,
        AdapterSettings::Comfyui(Box::new(parts)),
    )))
}

fn spaces(config: &Config, sources: &Sources) -> Result<AdapterResult, RuntimeConfigError> {
    let local = &config.local;
    let address = |key: &str, space: &SpaceSetting| {
        let address = space.to_string().parse::<SpaceAddress>();
        address.map_err(|error| RuntimeConfigError::LocalSettings(format!("`{key}`: {error}")))
    };
    let search = secrets::find_huggingface_token(sources, config)?;
    let from = search.token.as_ref().map(|token| token.source.to_string());
    let parts = huggingface::Settings {
        flux: address("flux_space", &local.flux_space)?,
        mesh: address("mesh_space", &local.mesh_space)?,
        token: search.token.map(|token| token.secret),
        deadline: local.timeout,
        max_artifact: max_artifact(config),
        process_image: local.process_image,
        ..huggingface::Settings::default()
    };
    let backend = Spaces::new(&parts)
        .map_err(|error| RuntimeConfigError::LocalSettings(error.to_string()))?;
    let configured =
        ConfiguredBackend::new(Arc::new(backend), from, AdapterSettings::Spaces(Box::new(parts)));
    Ok((Ok(configured), search.warnings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(deployment: &str, token: &str) -> ConfiguredBackend {
        let settings = Settings::new(deployment, SecretString::from(token));
        let backend = Serverless::new(&settings).expect("good settings");
        ConfiguredBackend::new(
            Arc::new(backend),
            None,
            AdapterSettings::Serverless(Box::new(settings)),
        )
    }

    #[test]
    fn another_deployment_has_one_backend_of_its_own_and_never_the_configured_one() {
        let configured = ready("new", "a-token");
        let own = configured.backend_of(Some("new")).expect("the configured one");
        assert!(Arc::ptr_eq(&own, configured.backend()));
        let [first, again] = [0; 2].map(|_| configured.backend_of(Some("old")).expect("made"));
        assert!(Arc::ptr_eq(&first, &again), "it is made once");
        assert!(!Arc::ptr_eq(&first, configured.backend()));

        let none =
            configured.backend_of(Some("no/such id")).expect_err("no address can be made of it");
        assert!(none.to_string().contains("no/such id"), "{none}");
    }

    #[test]
    fn a_reload_keeps_the_backends_that_it_does_not_concern() {
        let old = ready("old", "a-token");
        let earlier = old.backend_of(Some("earlier")).expect("made");
        let mut new = ready("new", "a-token");
        new.reuse(&old);
        let kept =
            |configured: &ConfiguredBackend, name| configured.backend_of(Some(name)).expect("made");
        assert!(Arc::ptr_eq(&kept(&new, "earlier"), &earlier));
        assert!(Arc::ptr_eq(&kept(&new, "old"), old.backend()), "the configured one of then");

        let mut other_token = ready("new", "another-token");
        other_token.reuse(&new);
        assert!(!Arc::ptr_eq(&kept(&other_token, "earlier"), &earlier), "it holds the old token");
    }
}
