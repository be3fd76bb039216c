//! Why a job ended, as a code for programs and a sentence for people.
//!
//! Owns the words: what happened, whether money was involved, and what to do. Nothing is decided
//! here, and nothing reads these texts back.

use super::driver::JobRun;
use crate::{
    domain::job::{
        artifact::ArtifactKind,
        flow::{
            EndReason,
            record::CancelReason,
            world::{CacheFault, FetchFault, PlaceFault},
        },
    },
    ledger::rows::Reason,
};

/// The code of the reason of a job whose own folder could not take its artifacts.
pub(crate) const OUT_FOLDER: &str = "out_folder";

/// Why a job's change belongs to another daemon.
pub(super) const LEFT_TO_OTHER: &str = "another process served the project when this changed, so this daemon ignores the change; \
     nothing was sent. Save the prompt again if you still want it";

/// Returns the reason of an end.
pub(super) fn end_reason(run: &JobRun, reason: EndReason) -> Reason {
    let (id, backend, details) = (run.task.id, run.record.backend, &run.details);
    let problem = &details.problem;
    match reason {
        EndReason::Replaced => Reason::new("replaced", "a newer prompt or render replaced it"),
        EndReason::CancelledUnsent => Reason::new("cancelled", "cancelled before it was sent"),
        EndReason::Cancelled => Reason::new("cancelled", "cancelled at a person's request"),
        EndReason::CancelledElsewhere => Reason::new(
            "cancelled",
            "cancelled at the service; conjured has no record of requesting that",
        ),
        EndReason::CancelledTooLate => Reason::new(
            "cancelled_too_late",
            "the run finished before the cancel took effect; it was charged, any downloaded files \
             are in the history, and nothing was placed",
        ),
        EndReason::LeftToOther => Reason::new("left", LEFT_TO_OTHER),
        EndReason::Cache(CacheFault::Gone) => Reason::new(
            "history",
            "the earlier result that this job was to reuse is no longer in the history; nothing \
             was sent. `conjured once` does the work again, at its own cost",
        ),
        EndReason::Cache(CacheFault::NotCopied) => {
            Reason::new("history", format!("{problem}; nothing was sent"))
        }
        EndReason::Inputs => Reason::new("inputs", problem.clone()),
        EndReason::Nowhere => Reason::new("nowhere", format!("{problem}; nothing was sent")),
        EndReason::Budget => Reason::new("budget", details.budget.clone()),
        EndReason::NotSent => {
            let text = format!("the service cannot be reached, nothing was charged: {problem}");
            Reason::new("not_sent", text)
        }
        EndReason::Refused => details.reason("refused"),
        EndReason::TokenRefused => details.reason("token"),
        EndReason::AnswerLost => {
            let lost = "conjured stopped between sending the request and reading the answer";
            let what = if problem.is_empty() { lost } else { problem };
            let text = format!(
                "{what}; it may have been charged, so it is not sent again automatically: check \
                 the deployment's requests, then `conjured jobs retry {id}` sends it again, at its \
                 own cost"
            );
            Reason::new("lost_answer", text)
        }
        EndReason::NeverConfirmed => {
            let text = format!("{backend} never confirmed the request: {problem}");
            Reason::new("lost_answer", text)
        }
        EndReason::NoServer => Reason::new("no_machine", problem.clone()),
        EndReason::ServerGone => {
            let text = format!("{problem}; `conjured jobs retry {id}` runs it again");
            Reason::new("machine_gone", text)
        }
        EndReason::NoRequest => Reason::new("no_request", "the ledger contains no request id"),
        EndReason::NoAnswer => Reason::new("no_answer", problem.clone()),
        EndReason::Forgotten => {
            let Reason { code, text } = details.reason("forgotten");
            Reason::new(code, format!("{backend} no longer knows the job: {text}"))
        }
        EndReason::Unknown => {
            let Reason { code, text } = details.reason("gone");
            let request = run.record.request().map(ToString::to_string).unwrap_or_default();
            let text = format!(
                "the service does not know the request {request}, or no longer knows it: {text}; \
                 its dashboard shows whether it was charged"
            );
            Reason::new(code, text)
        }
        EndReason::QueueTimeout if backend.is_paid() => Reason::new(
            CancelReason::QueueTimeout.name(),
            "no machine started the job in time (`serverless.queue_timeout_s`); it was cancelled",
        ),
        EndReason::QueueTimeout => Reason::new(
            CancelReason::QueueTimeout.name(),
            "it waited too long in the queue (`local.timeout_s`); it was cancelled",
        ),
        EndReason::RunTimeout => {
            let key =
                if backend.is_paid() { "serverless.run_timeout_s" } else { "local.timeout_s" };
            let text = format!("the run took too long (`{key}`); it was cancelled");
            Reason::new(CancelReason::RunTimeout.name(), text)
        }
        EndReason::Unresolved(why) => Reason::new(
            why.name(),
            "the service neither finished nor cancelled it; it may have been charged",
        ),
        EndReason::RunFailed => details.reason("failed"),
        EndReason::NoMesh => Reason::new(
            "no_mesh",
            "the run succeeded but returned no mesh (.glb); it was charged. Check the workflow's \
             output nodes with `conjured workflow inspect`",
        ),
        EndReason::Artifact(kind, fault) => artifact(run, kind, fault),
        EndReason::HistoryLost if problem.is_empty() => Reason::new(
            "history_lost",
            "its mesh is no longer in the history folder; it was charged",
        ),
        EndReason::HistoryLost => Reason::new("history_lost", problem.clone()),
        EndReason::Place(PlaceFault::OwnFolder) => {
            let text = format!(
                "{problem}; the run was charged, and its files are in the history folder of job \
                 {id}"
            );
            Reason::new(OUT_FOLDER, text)
        }
        EndReason::Place(PlaceFault::Targets | PlaceFault::SourceLost) => {
            Reason::new("targets", problem.clone())
        }
    }
}

fn artifact(run: &JobRun, kind: ArtifactKind, fault: FetchFault) -> Reason {
    let reason = &run.details.artifacts[kind as usize];
    let (code, text) = match fault {
        FetchFault::Download => ("download", reason.clone()),
        FetchFault::Invalid => (
            "bad_artifact",
            format!(
                "the {kind} from the service cannot be used: {reason}. It is in quarantine; the \
                 public files are unchanged"
            ),
        ),
        FetchFault::Refused => (
            "refused_download",
            format!("the {kind} was not downloaded: {reason}; the public files are unchanged"),
        ),
    };
    Reason::new(code, format!("{text}. The run was charged"))
}
