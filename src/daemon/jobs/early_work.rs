//! Early preparation of a job as a task: its request, its expected duration and cost, a
//! warm connection.
//!
//! Owns what is done before a debounce window closes. `prepare` builds the request; nothing in here
//! costs money.

use std::{sync::Arc, time::Duration};

use crate::{
    daemon::{
        inputs::{
            prepare::{self, PrepareFault, SnapshotContent},
            project_state::EarlyWork,
        },
        services::{Services, messages::JobReport, runtime_config::RuntimeConfig, store::blocking},
    },
    domain::{
        fingerprint::Fingerprint,
        job::choose_backend::BackendKind,
        machines::deployment,
        money::{
            MicroUsd,
            estimate::{self, Estimate, EstimateInput, MachineActivity, PastTimings},
        },
        request::overrides::SeedChoice,
        status::{self, Eta},
        time::WallTime,
    },
    ledger::{Reader, error::LedgerError},
};

/// Prepares a request for a backend and returns its expected cost.
pub(crate) async fn prepare_early(
    services: &Arc<Services>,
    config: &Arc<RuntimeConfig>,
    backend: BackendKind,
    material: SnapshotContent,
    seed: Option<SeedChoice>,
) -> Result<EarlyWork, PrepareFault> {
    let (own, history) = (Arc::clone(config), Arc::clone(&services.history));
    let seed = seed.unwrap_or(config.seed);
    let random = rand::random();
    let request =
        blocking(move || prepare::prepare(&own, backend, &history, material, seed, random)).await?;
    let made_at = services.clock.now().moment;
    let (learned, estimate) = expectation(services, config, backend).await;
    Ok(EarlyWork { request, learned, estimate, made_at })
}

/// Returns what past jobs show, and the expected cost of a job submitted to a backend now.
pub(crate) async fn expectation(
    services: &Services,
    config: &RuntimeConfig,
    backend: BackendKind,
) -> (PastTimings, Estimate) {
    let (version, now) = (config.workflows.at(backend).version(), services.clock.now().wall);
    let deployment = deployment_of(config, backend).unwrap_or_default();
    let known =
        services.store.with(move |ledger| known(ledger, backend, &version, &deployment)).await;
    // If the ledger cannot be read, the release fails right after this; until then the defaults are
    // good enough.
    expected(known.unwrap_or_default(), config, backend, now)
}

/// Returns the expected cost of a job submitted now, without a daemon's services: the price shown
/// before a confirmation.
pub(crate) fn expected_cost(ledger: &Reader, config: &RuntimeConfig, now: WallTime) -> MicroUsd {
    let backend = config.first();
    let deployment = deployment_of(config, backend).unwrap_or_default();
    let known = known(ledger, backend, &config.workflows.at(backend).version(), &deployment);
    expected(known.unwrap_or_default(), config, backend, now).1.cost
}

/// Returns the deployment that a job goes to, if the backend has one.
pub(crate) fn deployment_of(config: &RuntimeConfig, backend: BackendKind) -> Option<String> {
    (backend == BackendKind::Serverless)
        .then(|| config.settings.serverless.deployment_id.clone())
        .flatten()
}

fn known(
    ledger: &Reader,
    backend: BackendKind,
    version: &Fingerprint,
    deployment: &str,
) -> Result<(PastTimings, MachineActivity), LedgerError> {
    Ok((ledger.learned(backend.name(), version)?, ledger.last_activity(deployment)?))
}

fn expected(
    (learned, activity): (PastTimings, MachineActivity),
    config: &RuntimeConfig,
    backend: BackendKind,
    now: WallTime,
) -> (PastTimings, Estimate) {
    let rate = config.rate();
    // Only RunComfy's queue bills per job: a local server costs nothing, and a rented machine is
    // paid as a machine.
    let billed = backend == BackendKind::Serverless;
    let situation = EstimateInput {
        learned,
        // As far as money is concerned, a machine that never sleeps counts as active: there is no
        // cold start, and its idle time is not charged.
        activity: if rate.never_sleeps || !billed { MachineActivity::Now } else { activity },
        keep_warm: if billed { rate.keep_warm } else { Duration::ZERO },
        hourly: if billed { rate.hourly } else { MicroUsd::ZERO },
        now,
    };
    (learned, estimate::estimate(&situation))
}

/// Opens the connection before it is needed.
pub(crate) async fn warm_up(services: &Services, config: &RuntimeConfig, backend: BackendKind) {
    if backend == BackendKind::Serverless {
        fetch_facts(services, config).await;
    }
    let Ok(configured) = config.at(backend) else { return };
    if !configured.wants_warm_up(services.clock.now().moment) {
        return;
    }
    services.wait_for_call(backend).await;
    match configured.backend().warm_up().await {
        Ok(Some(balance)) => {
            drop(services.reports.send(JobReport::Balance(balance)).await);
        }
        Ok(None) => {}
        // If the problem persists, the submit itself reports it.
        Err(error) => tracing::debug!(%error, "could not open a connection early"),
    }
}

/// Asks the deployment about itself, if that is due. A failure changes nothing: the defaults apply
/// until it answers.
pub(crate) async fn fetch_facts(services: &Services, config: &RuntimeConfig) {
    let Ok(serverless) = config.at(BackendKind::Serverless) else { return };
    if !serverless.wants_facts(services.clock.now().moment) {
        return;
    }
    services.call_limiter.wait().await;
    match serverless.backend().facts().await {
        Ok(Some(facts)) => {
            let warnings = deployment::warnings(&config.settings.budget.price_settings(), &facts);
            serverless.set_facts(facts);
            drop(services.reports.send(JobReport::Facts(warnings)).await);
        }
        Ok(None) => {}
        Err(error) => tracing::info!(%error, "could not read the deployment's hardware"),
    }
}

/// Fills in the expectations for a job.
pub(crate) fn describe(shown: &mut status::Job, learned: &PastTimings, estimate: &Estimate) {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    // Only a queue's machines sleep: a local one is available or not, and a rented one reports
    // its start.
    let sleeps = shown.backend == BackendKind::Serverless.name();
    shown.cold = sleeps.then_some(estimate.cold.is_some());
    shown.estimate = estimate.cost;
    let wait = if estimate.cold.is_some() { learned.cold } else { learned.queue };
    shown.eta = Some(if let (Some(wait), Some(run)) = (wait, learned.run) {
        Eta {
            p10_ms: millis(wait.p10 + run.p10),
            median_ms: millis(wait.median + run.median),
            p90_ms: millis(wait.p90 + run.p90),
            samples: wait.samples.min(run.samples),
        }
    } else {
        let cold = estimate.cold.map_or(Duration::ZERO, |(span, _)| span);
        let all = millis(cold + estimate.run);
        Eta { p10_ms: all / 2, median_ms: all, p90_ms: all * 2, samples: 0 }
    });
}
