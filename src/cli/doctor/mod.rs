//! `conjured doctor`: checks everything that could explain why nothing happens, and says how to
//! fix it.
//!
//! Owns the order of the checks, running them concurrently, and the exit code. It changes nothing
//! and spends nothing: it holds a lock only for the moment of the check, creates no file, and calls
//! RunComfy only where that is free. Each file below judges one subject; the facts come from
//! `config`, `disk`, `ledger` and [`crate::daemon::services::probes`].

mod check;
mod settings;
mod token;
mod service;
mod workflow;
mod local;
mod folders;
mod watching;
mod space;
mod daemons;
mod launcher;
mod ledger;

use std::{sync::Arc, time::Duration};

use serde_json::json;

use self::check::{Check, CheckStatus};
use super::{
    args::DoctorArgs,
    context::Context,
    daemon_client::DaemonClient,
    exit::{CONFIGURATION, Failure},
};
use crate::{
    clock::Clock,
    config::{
        self, Loaded,
        enums::Mode,
        secrets::{self, Token},
        settings::{Config, ProjectConfig},
    },
    daemon::services::probes::{self, Deployment, Service},
    disk::lock,
    domain::{inputs::prompt::IgnorePatterns, status::Status},
};

/// How long disk access may take: longer than a slow network drive needs, shorter than a
/// user waits.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs all checks and prints them.
pub(super) async fn doctor(context: &Context, args: DoctorArgs) -> Result<(), Failure> {
    let loaded = config::load(&context.sources);
    let mut checks = settings::check_settings(loaded.as_ref());
    match loaded {
        Ok(loaded) => checks.extend(run_checks(context, Arc::new(loaded), args.offline).await),
        Err(_) => checks
            .push(Check::skipped("everything else", "not checked: needs a valid configuration")),
    }
    report(context, args, &checks)
}

async fn run_checks(context: &Context, loaded: Arc<Loaded>, offline: bool) -> Vec<Check> {
    let config = &loaded.config;
    let (status, (mut remote, deployment), on_disk, local) = tokio::join!(
        status(config),
        check_remote(context, config, offline),
        check_disk(&loaded),
        local::probe_all(&context.sources, config, offline),
    );
    if config.mode == Mode::Auto && local.serves() {
        // Without an account everything runs locally, which is a valid setup.
        for check in &mut remote {
            check.soften_missing();
        }
    }
    let unit = daemons::installed_unit(&context.sources);
    let mut checks = vec![daemons::daemon(
        &lock::probe_state_lock(&config.state_dir),
        status.as_ref(),
        unit.as_deref(),
    )];
    if let Some(status) = &status {
        checks.extend(daemons::warnings(status, &loaded.warnings));
        checks.push(daemons::budget(&status.budget));
    }
    checks.append(&mut remote);
    checks.extend(workflow::check_workflows(config, deployment.as_ref()));
    checks.extend(settings::cloud(config));
    checks.extend(local.check_shared_comfyui(&config.projects).await);
    checks.extend(local.checks);
    checks.extend(on_disk);
    for project in &config.projects {
        let held = lock::probe_project_lock(&project.root);
        let more = daemons::check_second_daemon(project, &held, status.as_ref()).into_iter();
        let says =
            status.iter().flat_map(|status| daemons::project(project, &config.trigger, status));
        checks.extend(more.chain(says).map(|check| check.for_project(&project.name)));
    }
    checks
}

async fn status(config: &Config) -> Option<Status> {
    DaemonClient::find(&config.state_dir).await.map(|(_, status)| status)
}

/// Asks RunComfy, if jobs go there.
async fn check_remote(
    context: &Context,
    config: &Config,
    offline: bool,
) -> (Vec<Check>, Option<Deployment>) {
    let needed = matches!(config.mode, Mode::Serverless | Mode::Auto) && config.serverless.enabled
        || config.mode == Mode::Cloud;
    let search = secrets::find_token(&context.sources, config);
    let mut checks = token::check_token(search.as_ref(), needed);
    if !needed {
        checks.push(Check::skipped("api", "not checked: this configuration does not use RunComfy"));
        return (checks, None);
    }
    if config.serverless.deployment_id.is_none() && config.mode != Mode::Cloud {
        checks.push(Check::missing(
            "deployment",
            CONFIGURATION,
            "no deployment is configured, so nothing can be sent",
            "set `serverless.deployment_id` (RunComfy's dashboard shows it), or RUNCOMFY_DEPLOYMENT_ID; see docs/runcomfy.md",
        ));
    }
    if offline {
        checks.push(Check::skipped("api", "not checked (--offline)"));
        return (checks, None);
    }
    match search.ok().and_then(|search| search.token) {
        Some(token) => query_service(config, &token, checks).await,
        None => {
            checks.push(Check::skipped("api", "not checked: needs a token"));
            (checks, None)
        }
    }
}

async fn query_service(
    config: &Config,
    token: &Token,
    mut checks: Vec<Check>,
) -> (Vec<Check>, Option<Deployment>) {
    let settings = &config.serverless;
    let service = match Service::new(settings, &token.secret) {
        Ok(service) => service,
        Err(error) => {
            checks.push(Check::fail(
                "api",
                CONFIGURATION,
                error,
                "correct the section [serverless]",
            ));
            return (checks, None);
        }
    };
    // A rented machine has no deployment.
    let id = settings.deployment_id.as_deref().filter(|_| config.mode != Mode::Cloud);
    let ((date, balance), deployment) = tokio::join!(service.balance(), async {
        match id {
            Some(id) => Some(service.deployment(id).await),
            None => None,
        }
    });
    let ours = Clock.now().wall.unix_millis().div_euclid(1000);
    let said = service::balance(
        &balance,
        settings.api_url.as_str().trim_end_matches('/'),
        config.budget.per_job,
    );
    // A rejected token is one failure; drop the earlier check that found it readable.
    if said.iter().any(|check| check.name == token::NAME) {
        checks.retain(|check| check.name != token::NAME || check.status != CheckStatus::Ok);
    }
    checks.extend(said);
    checks.extend(service::clock(date, ours));
    let (Some(id), Some(answer)) = (id, deployment) else { return (checks, None) };
    checks.extend(service::deployment(id, &answer, &config.budget));
    (checks, answer.ok())
}

/// Checks files and folders. A drive that hangs becomes a failed check and does not block
/// the others.
async fn check_disk(loaded: &Arc<Loaded>) -> Vec<Check> {
    let (own, shared) = (Arc::clone(loaded), Arc::clone(loaded));
    let common = probes::within(DISK_TIMEOUT, move || {
        let config = &own.config;
        let mut checks =
            vec![folders::state(&config.state_dir), ledger::inspect(&config.state_dir)];
        checks.extend(space::inspect(config));
        checks
    });
    let mut checks = common
        .await
        .unwrap_or_else(|| vec![timed_out(&loaded.config.state_dir.display().to_string())]);
    for at in 0..loaded.config.projects.len() {
        let shared = Arc::clone(&shared);
        let look = move || one_project(&shared.config, &shared.config.projects[at]);
        let project = &loaded.config.projects[at];
        let found = probes::within(DISK_TIMEOUT, look).await;
        let found = found.unwrap_or_else(|| vec![timed_out(&project.root.display().to_string())]);
        checks.extend(found.into_iter().map(|check| check.for_project(&project.name)));
    }
    checks
}

fn one_project(config: &Config, project: &ProjectConfig) -> Vec<Check> {
    let now = Clock.now();
    let ignore =
        IgnorePatterns::new(&config.trigger.ignore_prompts).or_else(|_| IgnorePatterns::new(&[]));
    let mut checks = match ignore {
        Ok(ignore) => folders::inputs(project, &ignore, now),
        Err(_) => Vec::new(),
    };
    checks.extend(folders::outputs(project));
    if project.root.is_dir() {
        checks.extend(watching::inspect(project, &config.trigger));
        checks.push(launcher::inspect(&project.root, now.wall));
    }
    checks
}

fn timed_out(place: &str) -> Check {
    Check::fail(
        "drive",
        super::exit::CANNOT_WRITE,
        format!("{place} did not answer within {} s", DISK_TIMEOUT.as_secs()),
        "check the drive that it is on: a network drive without its server blocks every program \
         that uses it",
    )
}

fn report(context: &Context, args: DoctorArgs, checks: &[Check]) -> Result<(), Failure> {
    let count = |verdict| checks.iter().filter(|check| check.status == verdict).count();
    let (failed, warned) = (count(CheckStatus::Fail), count(CheckStatus::Warn));
    let out = &context.out;
    if args.json {
        out.json(&json!({
            "schema": 1,
            "ok": failed == 0,
            "checks": checks.iter().map(Check::json).collect::<Vec<_>>(),
        }));
    } else {
        let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        let first = checks.iter().find_map(|check| check.project.as_ref());
        let several =
            checks.iter().any(|check| check.project.is_some() && check.project.as_ref() != first);
        for check in checks {
            check.print(out, width, several);
        }
        let warned = match warned {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            count => format!(", {count} warnings"),
        };
        out.data(match failed {
            0 => format!("\nNothing failed{warned}."),
            1 => format!("\n1 check failed{warned}."),
            count => format!("\n{count} checks failed{warned}."),
        });
    }
    match checks.iter().find(|check| check.status == CheckStatus::Fail) {
        None => Ok(()),
        Some(check) => Err(Failure::silent(check.code)),
    }
}
