//! An earlier job's work once more, as a new job: `jobs retry`, `jobs rerun`, and a lost answer that may be sent again by itself.
//!
//! Owns what may be done again, and of what the new request is made: the job's own inputs from history and its own seeds. A retry
//! takes today's settings, a rerun must come out as the very same bytes. Releasing it, and settling an `unknown` one in the same
//! commit, is the ledger's.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    early::expectation,
    live::Live,
    outcome::{Asked, Outcome, TaskName},
    prepare::{self, PrepareFault, Steps},
    restore::refused,
    run_job::Tools,
    served::Early,
    shell::Shell,
    store::blocking,
};
use crate::{
    domain::{
        engine::event::ProjectId,
        job::{Cause, JobId, State},
        route::Place,
    },
    ledger::{ends::RETRIED, error::LedgerError, rows::JobRow},
    web::{Again, AgainKind, OnceRequest, Refused, RefusedKind},
};

/// How `status` and the log tell that a lost answer is sent again by itself.
const TWICE: &str = "its answer was lost, and it is sent again because `serverless.resubmit_unknown` says so: it may be billed TWICE";

/// How they tell that it is made where it costs nothing.
const FREE: &str = "its answer was lost, and it is made where it costs nothing because `local.after_unknown` says so; what was sent \
                    may have been charged all the same";

/// Says why a job's work cannot be done again in this way. Nothing was sent.
pub fn refusal(row: &JobRow, again: Again) -> Option<Refused> {
    let (job, state) = (row.id, row.state);
    let usage = |text: String| Some(Refused::new(RefusedKind::Usage, text));
    if let (Some(by), Some(RETRIED)) =
        (row.replaced_by, row.reason.as_ref().map(|reason| reason.code.as_str()))
    {
        return usage(format!(
            "job {job} was sent again already, as job {by}; nothing was sent. `conjured jobs show {by}` tells what became of it"
        ));
    }
    match (again.kind, state) {
        (_, state) if !state.is_final() => {
            usage(format!("job {job} is `{state}`, so it goes on by itself; nothing was sent"))
        }
        (AgainKind::Retry, State::Unknown) if !again.may_charge_twice => usage(format!(
            "job {job} is `unknown`: its request may have reached the service, and then sending it again is charged twice. \
             Nothing was sent; say that this is wanted with --yes"
        )),
        (AgainKind::Retry, State::Failed | State::Cancelled)
            if row.stands_in_for.is_some() && !again.may_charge_twice =>
        {
            let lost = row.stands_in_for.unwrap_or(job);
            usage(format!(
                "job {job} stands in for job {lost}, whose request may have been charged: a paid run of the same work is charged \
                 twice. Nothing was sent; say that this is wanted with --yes"
            ))
        }
        (AgainKind::Retry | AgainKind::Resubmit | AgainKind::Free, State::Unknown)
        | (AgainKind::Retry, State::Failed | State::Cancelled) => None,
        (AgainKind::Retry | AgainKind::Resubmit | AgainKind::Free, state) => usage(format!(
            "job {job} is `{state}`, so there is nothing to retry; nothing was sent. `conjured jobs rerun {job}` makes it anew, \
             at its price"
        )),
        (AgainKind::Rerun, State::Unknown) => usage(format!(
            "job {job} is `unknown`: whether it was charged is not known; nothing was sent. `conjured jobs retry {job}` settles \
             it and sends it again"
        )),
        (AgainKind::Rerun, _) => None,
    }
}

/// Makes the request of a job's work once more.
pub(super) async fn ready_again(
    tools: &Arc<Tools>,
    live: &Arc<Live>,
    place: Place,
    project: ProjectId,
    again: Again,
) -> Result<(JobRow, Early), Refused> {
    let row = tools.store.with(move |ledger| ledger.job(again.job)).await;
    let row = row.map_err(|error| refused(&error))?;
    if row.project != project {
        let text = format!("job {} is another project's; nothing was sent", row.id);
        return Err(Refused::new(RefusedKind::Usage, text));
    }
    if let Some(refused) = refusal(&row, again) {
        return Err(refused);
    }
    let _read = tools.claims.read(row.id);
    let steps = match again.kind {
        AgainKind::Rerun => Steps::AsSent,
        AgainKind::Retry | AgainKind::Resubmit | AgainKind::Free => Steps::Configured,
    };
    let (own, history, earlier) = (Arc::clone(live), Arc::clone(&tools.history), row.clone());
    let ready =
        blocking(move || prepare::prepare_again(&own, place, &history, &earlier, steps)).await;
    let ready = ready.map_err(|fault| {
        let kind = match fault {
            PrepareFault::Disk(_) => RefusedKind::TryAgain,
            PrepareFault::Bindings(_) => RefusedKind::Configuration,
            PrepareFault::Picture(_) | PrepareFault::InputsLost | PrepareFault::NotTheSame(_) => {
                RefusedKind::BadInput
            }
        };
        Refused::new(kind, format!("job {}: {fault}", again.job))
    })?;
    let made_at = tools.clock.now().moment;
    let (learned, estimate) = expectation(tools, live, place).await;
    Ok((row, Early { ready, learned, estimate, made_at }))
}

/// Returns what a new job's cause is: a person's, unless it was nobody.
pub(super) const fn cause(row: &JobRow, again: Again) -> Cause {
    match again.kind {
        AgainKind::Resubmit | AgainKind::Free => row.cause,
        AgainKind::Retry | AgainKind::Rerun => Cause::Person,
    }
}

impl Shell {
    /// Sends a job again whose answer was lost, where the configuration wants that and it was not done for this snapshot before.
    pub(crate) fn resubmit(&mut self, job: JobId) {
        let live = Arc::clone(&self.live.borrow());
        let free = live.order.iter().any(|place| !place.is_paid());
        let (kind, words) = if live.config.serverless.resubmit_unknown {
            (AgainKind::Resubmit, TWICE)
        } else if live.config.local.after_unknown && free {
            (AgainKind::Free, FREE)
        } else {
            return;
        };
        let (tools, now) = (Arc::clone(&self.tools), self.clock.now().wall);
        self.tasks.spawn(TaskName::Errand, async move {
            // Written down before it is asked for, so that a crash in between leaves one time too few and never one too many.
            let row = tools
                .store
                .with(move |ledger| {
                    let row = ledger.job(job)?;
                    let once = row.retry_of.is_none()
                        && row.state == State::Unknown
                        && !ledger.resubmitted(row.project, &row.inputs)?;
                    if once {
                        ledger.note(job, "resubmitted", words, now)?;
                    }
                    Ok::<_, LedgerError>(once.then_some(row))
                })
                .await;
            match row {
                Ok(Some(row)) => Outcome::Resubmit(Box::new(row), kind),
                Ok(None) => Outcome::Nothing,
                Err(error) => {
                    tracing::error!(%job, %error, "it is not sent again by itself");
                    Outcome::Nothing
                }
            }
        });
    }

    /// Asks for the second and last try of a lost job, unless a newer change has taken its place.
    pub(crate) fn resubmit_now(&mut self, row: &JobRow, kind: AgainKind) {
        let (job, project) = (row.id, row.project);
        let own = row.cause != Cause::Person && row.out.is_none();
        if own && self.engine.snapshot(project).is_some_and(|inputs| inputs != row.inputs) {
            tracing::warn!(%job, "its answer was lost; a newer change takes its place, so it is not sent again");
            return;
        }
        let Some(served) = self.served.get(&project) else { return };
        let name = served.config.name.clone();
        let words = if kind == AgainKind::Free { FREE } else { TWICE };
        self.warn([format!("job {job}: {words}")]);
        let again = Again { job, kind, may_charge_twice: kind == AgainKind::Resubmit };
        let request =
            OnceRequest { project: Some(name), again: Some(again), ..OnceRequest::default() };
        let (reply, answer) = oneshot::channel();
        self.tasks.spawn(TaskName::Errand, async move {
            if let Ok(Err(refused)) = answer.await {
                tracing::error!(%job, "it could not be sent again: {refused}");
            }
            Outcome::Nothing
        });
        self.ask(Asked { request, reply });
    }
}
