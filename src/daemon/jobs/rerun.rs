//! Does an earlier job's work again as a new job: `jobs retry`, `jobs rerun`, and the automatic
//! resend after a lost answer.
//!
//! Owns what may be done again and how the new request is made: from the job's own inputs in
//! history and its own seeds. A retry takes today's settings; a rerun must produce exactly the
//! same bytes. Releasing the new job, and settling an `unknown` one in the same commit, belongs to
//! the ledger.

use std::sync::Arc;

use super::{early_work::expectation, restore::refused};
use crate::{
    daemon::{
        inputs::{
            prepare::{self, Steps},
            project_state::EarlyWork,
        },
        services::{
            Services,
            command::{CommandError, CommandErrorKind, Repeat, RepeatKind},
            runtime_config::RuntimeConfig,
            store::blocking,
        },
    },
    domain::{
        engine::event::ProjectId,
        job::{Cause, JobState, choose_backend::BackendKind},
    },
    ledger::{job::finish::RETRIED, rows::JobRow},
};

/// Returns why a job's work cannot be done again in this way. Nothing was sent.
pub(crate) fn refusal(row: &JobRow, again: Repeat) -> Option<CommandError> {
    let (job, state) = (row.id, row.state);
    let usage = |text: String| Some(CommandError::new(CommandErrorKind::Usage, text));
    if let (Some(by), Some(RETRIED)) =
        (row.replaced_by, row.reason.as_ref().map(|reason| reason.code.as_str()))
    {
        return usage(format!(
            "job {job} was already sent again as job {by}; nothing was sent. `conjured jobs show \
             {by}` shows the new job"
        ));
    }
    match (again.kind, state) {
        (_, state) if !state.is_final() => {
            usage(format!("job {job} is `{state}` and continues automatically; nothing was sent"))
        }
        (RepeatKind::Retry, JobState::Unknown) if !again.may_charge_twice => usage(format!(
            "job {job} is `unknown`: its request may have reached the service, so sending it again \
             may be charged twice. Nothing was sent; add --yes to accept that"
        )),
        (RepeatKind::Retry, JobState::Failed | JobState::Cancelled)
            if row.stands_in_for.is_some() && !again.may_charge_twice =>
        {
            let lost = row.stands_in_for.unwrap_or(job);
            usage(format!(
                "job {job} stands in for job {lost}, whose request may have been charged: a paid \
                 run of the same work may be charged twice. Nothing was sent; add --yes to accept \
                 that"
            ))
        }
        (RepeatKind::Retry | RepeatKind::Resubmit | RepeatKind::Free, JobState::Unknown)
        | (RepeatKind::Retry, JobState::Failed | JobState::Cancelled) => None,
        (RepeatKind::Retry | RepeatKind::Resubmit | RepeatKind::Free, state) => usage(format!(
            "job {job} is `{state}`, so there is nothing to retry; nothing was sent. `conjured \
             jobs rerun {job}` runs it again, at its own cost"
        )),
        (RepeatKind::Rerun, JobState::Unknown) => usage(format!(
            "job {job} is `unknown`: it is not known whether it was charged; nothing was sent. \
             `conjured jobs retry {job}` closes it and sends it again"
        )),
        (RepeatKind::Rerun, _) => None,
    }
}

/// Builds the request that does a job's work again.
pub(crate) async fn rebuild_request(
    services: &Arc<Services>,
    config: &Arc<RuntimeConfig>,
    backend: BackendKind,
    project: ProjectId,
    again: Repeat,
) -> Result<(JobRow, EarlyWork), CommandError> {
    let row = services.store.with(move |ledger| ledger.job(again.job)).await;
    let row = row.map_err(|error| refused(&error))?;
    if row.project != project {
        let text = format!("job {} belongs to another project; nothing was sent", row.id);
        return Err(CommandError::new(CommandErrorKind::Usage, text));
    }
    if let Some(command_error) = refusal(&row, again) {
        return Err(command_error);
    }
    let _read = services.locks.hold_history(row.id);
    let steps = match again.kind {
        RepeatKind::Rerun => Steps::AsSent,
        RepeatKind::Retry | RepeatKind::Resubmit | RepeatKind::Free => Steps::Configured,
    };
    let (own, history, earlier) = (Arc::clone(config), Arc::clone(&services.history), row.clone());
    let request =
        blocking(move || prepare::prepare_from_history(&own, backend, &history, &earlier, steps))
            .await;
    let request = request
        .map_err(|fault| CommandError::new(fault.kind(), format!("job {}: {fault}", again.job)))?;
    let made_at = services.clock.now().moment;
    let (learned, estimate) = expectation(services, config, backend).await;
    Ok((row, EarlyWork { request, learned, estimate, made_at }))
}

/// Returns the new job's cause: a person, unless the daemon started it automatically.
pub(crate) const fn cause(row: &JobRow, again: Repeat) -> Cause {
    match again.kind {
        RepeatKind::Resubmit | RepeatKind::Free => row.cause,
        RepeatKind::Retry | RepeatKind::Rerun => Cause::Person,
    }
}
