//! `conjured jobs retry` and `rerun`: submit an earlier job's work again, as a new job.
//!
//! Owns the warning about a possible second charge and the estimated price shown before anything is
//! sent. Which jobs may be repeated is decided by [`crate::daemon::jobs::rerun`], here and once
//! more where the job is created.

use super::{
    one_job::{self, FollowOptions},
    opened,
};
use crate::{
    cli::{
        args::AgainArgs,
        context::Context,
        exit::{Failure, USAGE},
    },
    clock::Clock,
    daemon::{
        jobs::{early_work::expected_cost, rerun::refusal},
        services::{
            command::{OnceRequest, Repeat, RepeatKind},
            runtime_config::RuntimeConfig,
        },
    },
    domain::job::JobState,
    ledger::rows::JobRow,
};

/// Submits the work of an unsuccessful job again.
pub(in crate::cli) async fn retry(
    context: &Context,
    args: &AgainArgs,
    yes: bool,
) -> Result<(), Failure> {
    repeat(context, args, RepeatKind::Retry, yes).await
}

/// Submits exactly the same request again.
pub(in crate::cli) async fn rerun(context: &Context, args: &AgainArgs) -> Result<(), Failure> {
    repeat(context, args, RepeatKind::Rerun, false).await
}

async fn repeat(
    context: &Context,
    args: &AgainArgs,
    kind: RepeatKind,
    yes: bool,
) -> Result<(), Failure> {
    let loaded = context.load_to_serve()?;
    let config = RuntimeConfig::new(loaded.config.clone(), &context.sources)?;
    let (row, project, cost) = {
        let reader = opened(&loaded.config.state_dir)?;
        let row = reader.job(reader.find(&args.id)?)?;
        let projects = reader.projects()?;
        let project = projects.into_iter().find(|project| project.id == row.project);
        let cost = expected_cost(&reader, &config, Clock.now().wall);
        (row, project.map(|project| project.name), cost)
    };
    let mut again = Repeat { job: row.id, kind, may_charge_twice: yes };
    let unknown = row.state == JobState::Unknown && kind == RepeatKind::Retry;
    // Refuse an impossible request before asking for a confirmation.
    if let Some(error) = refusal(&row, Repeat { may_charge_twice: true, ..again }) {
        return Err(error.into());
    }
    if unknown {
        context.out.error(format!(
            "job {} is `unknown`: its request may have reached the service, so running it again \
             may charge you TWICE (about {cost} more). Its own {} still count as spent.",
            row.id, row.reserved
        ));
        again.may_charge_twice = yes || confirmed(context, &row)?;
    } else {
        context.out.info(format!("running job {} again as a new job, estimated at {cost}", row.id));
    }
    let request = OnceRequest { project, again: Some(again), ..OnceRequest::default() };
    let how = FollowOptions { detach: args.detach, json: args.json };
    Box::pin(one_job::run(context, loaded, config, request, how)).await
}

/// Asks for a typed word, so that one accidental key press cannot cause a second charge.
fn confirmed(context: &Context, row: &JobRow) -> Result<bool, Failure> {
    match context.out.confirm("Submit it again anyway?", "yes") {
        Some(true) => Ok(true),
        Some(false) => Err(Failure::new(
            USAGE,
            format!("job {} was not submitted again; nothing was charged", row.id),
        )),
        None => Err(Failure::new(
            USAGE,
            format!(
                "nothing was sent: add --yes to accept that job {} may be charged twice, or close \
                 it with `conjured jobs cancel {}`",
                row.id, row.id
            ),
        )),
    }
}
