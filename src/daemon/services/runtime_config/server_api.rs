//! `[cloud]` as working parts: the client of the Server API, the price of a machine and its limits.
//!
//! Owns the step from validated values to parts. The client is created in every mode if a user id
//! and a token are present, because a machine from an earlier session must be stopped, whatever the
//! mode is now.

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;

use crate::{
    backend::{
        Backend,
        runcomfy::machines::{MachineUrl, Machines, Settings},
    },
    config::{
        enums::Mode,
        secrets::{self, SecretError},
        settings::Config,
        sources::Sources,
    },
    daemon::services::{command::CommandErrorKind, errors::Unavailable},
    domain::{
        machines::ServerRules,
        money::{MicroUsd, server_cost},
    },
};

/// Creates the client of a machine's ComfyUI.
pub(crate) type Connect = fn(&MachineUrl, &Config) -> Result<Arc<dyn Backend>, String>;

/// The Server API and its settings.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) machines: Arc<Machines>,
    /// The service's user id.
    pub(crate) account: String,
    /// What may be launched, or why nothing may.
    pub(crate) kind: Result<ServerKind, Unavailable>,
    pub(crate) rules: ServerRules,
    pub(crate) hourly: MicroUsd,
    pub(crate) token_from: String,
}

/// The wanted kind of machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerKind {
    pub(crate) workflow_version: String,
    pub(crate) server_type: String,
}

/// Creates the parts, or returns why there are none.
pub(crate) fn cloud(
    config: &Config,
    sources: &Sources,
) -> Result<Result<Cloud, Unavailable>, SecretError> {
    let unavailable = |kind, reason: &str| Unavailable { kind, reason: reason.to_owned() };
    let configuration = |reason| unavailable(CommandErrorKind::Configuration, reason);
    let section = &config.cloud;
    let Some(account) = section.user_id.clone() else {
        return Ok(Err(configuration(
            "no RunComfy user is configured: set `cloud.user_id` or RUNCOMFY_USER_ID (the id is \
             in the dashboard's URL)",
        )));
    };
    let Some(token) = secrets::find_token(sources, config)?.token else {
        return Ok(Err(unavailable(
            CommandErrorKind::Token,
            "no RunComfy token was found: run `conjured login`, or set RUNCOMFY_API_TOKEN",
        )));
    };
    let serverless = &config.serverless;
    let client = Machines::new(&Settings {
        api_url: serverless.api_url.clone(),
        user_id: account.clone(),
        token: SecretString::clone(&token.secret),
        connect_timeout: serverless.connect_timeout,
        launch_timeout: serverless.submit_timeout,
        call_timeout: Duration::from_secs(30),
        hosts: serverless.download_hosts.clone(),
    });
    let machines = match client {
        Ok(client) => Arc::new(client),
        Err(error) => return Ok(Err(configuration(&error.to_string()))),
    };
    let fit = match (config.mode, &section.workflow_version_id) {
        (Mode::Cloud, Some(version)) => Ok(ServerKind {
            workflow_version: version.clone(),
            server_type: section.server_type.to_string(),
        }),
        (Mode::Cloud, None) => Err(configuration(
            "no workflow is configured for the machine: set `cloud.workflow_version_id`",
        )),
        _ => Err(configuration("`mode` is not \"cloud\"")),
    };
    let hourly = config.budget.hourly.unwrap_or_else(|| {
        server_cost::hourly_price(&section.server_type.to_string(), config.budget.plan)
    });
    Ok(Ok(Cloud {
        machines,
        account,
        kind: fit,
        rules: ServerRules {
            idle_stop: section.idle_stop,
            start: section.start_timeout,
            max_run: section.max_run,
        },
        hourly,
        token_from: token.source.to_string(),
    }))
}
