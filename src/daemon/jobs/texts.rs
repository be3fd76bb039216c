//! Why a job ended, as a code for programs and a sentence for people.
//!
//! Owns the words: what happened, whether money was involved, and what to do. Nothing is decided
//! here, and nothing reads these texts back.

use super::driver::JobRun;
use crate::{
    domain::job::{
        artifact::ArtifactKind,
        cancel::CancelReason,
        flow::{
            EndReason,
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
    if let Some((code, text)) = fixed(reason) {
        return Reason::new(code, text);
    }
    let (id, backend, details) = (run.task.id, run.record.backend, &run.details);
    let problem = &details.problem;
    let (code, text) = match reason {
        EndReason::Cache(_) => ("history", format!("{problem}; nothing was sent")),
        EndReason::Inputs => ("inputs", problem.clone()),
        EndReason::Nowhere if problem.is_empty() => {
            let text = "no configured backend may make this job; nothing was sent";
            ("nowhere", text.to_owned())
        }
        EndReason::Nowhere => ("nowhere", format!("{problem}; nothing was sent")),
        EndReason::Budget => ("budget", details.budget.clone()),
        EndReason::NotSent => {
            let text = format!("the service cannot be reached, nothing was charged: {problem}");
            ("not_sent", text)
        }
        EndReason::AnswerLost => {
            let lost = "conjured stopped between sending the request and reading the answer";
            let what = if problem.is_empty() { lost } else { problem };
            let text = format!(
                "{what}; it may have been charged, so it is not sent again automatically: check \
                 the deployment's requests, then `conjured jobs retry {id}` sends it again, at its \
                 own cost"
            );
            ("lost_answer", text)
        }
        EndReason::NeverConfirmed => {
            ("lost_answer", format!("{backend} never confirmed the request: {problem}"))
        }
        EndReason::NoServer => ("no_machine", problem.clone()),
        EndReason::ServerGone => {
            ("machine_gone", format!("{problem}; `conjured jobs retry {id}` runs it again"))
        }
        EndReason::NoAnswer => ("no_answer", problem.clone()),
        EndReason::Forgotten => {
            let Reason { code, text } = details.reason("forgotten");
            return Reason::new(code, format!("{backend} no longer knows the job: {text}"));
        }
        EndReason::RequestUnknown => {
            let Reason { code, text } = details.reason("gone");
            let request = run.record.request().map(ToString::to_string).unwrap_or_default();
            let text = format!(
                "the service does not know the request {request}, or no longer knows it: {text}; \
                 its dashboard shows whether it was charged"
            );
            return Reason::new(code, text);
        }
        EndReason::QueueTimeout if backend.is_paid() => {
            let text = "no machine started the job in time (`serverless.queue_timeout_s`); it was \
                        cancelled";
            (CancelReason::QueueTimeout.name(), text.to_owned())
        }
        EndReason::QueueTimeout => {
            let text = "it waited too long in the queue (`local.timeout_s`); it was cancelled";
            (CancelReason::QueueTimeout.name(), text.to_owned())
        }
        EndReason::RunTimeout => {
            let paid = "serverless.run_timeout_s";
            let key = if backend.is_paid() { paid } else { "local.timeout_s" };
            let text = format!("the run took too long (`{key}`); it was cancelled");
            (CancelReason::RunTimeout.name(), text)
        }
        EndReason::Unresolved(why) => {
            let text = "the service neither finished nor cancelled it; it may have been charged";
            (why.name(), text.to_owned())
        }
        EndReason::Artifact(kind, fault) => return artifact(run, kind, fault),
        EndReason::HistoryLost if problem.is_empty() => {
            ("history_lost", "its mesh is no longer in the history folder; it was charged".into())
        }
        EndReason::HistoryLost => ("history_lost", problem.clone()),
        EndReason::Place(PlaceFault::OwnFolder) => {
            let text = format!(
                "{problem}; the run was charged, and its files are in the history folder of job \
                 {id}"
            );
            (OUT_FOLDER, text)
        }
        EndReason::Place(_) => ("targets", problem.clone()),
        // The service's own words, and what they mean.
        _ => return details.reason("failed"),
    };
    Reason::new(code, text)
}

/// Returns the code and the sentence of a reason that is always told in the same words.
const fn fixed(reason: EndReason) -> Option<(&'static str, &'static str)> {
    Some(match reason {
        EndReason::Replaced => ("replaced", "a newer prompt or render replaced it"),
        EndReason::CancelledUnsent => ("cancelled", "cancelled before it was sent"),
        EndReason::Cancelled => ("cancelled", "cancelled at a person's request"),
        EndReason::CancelledElsewhere => {
            ("cancelled", "cancelled at the service; conjured has no record of requesting that")
        }
        EndReason::CancelledTooLate => (
            "cancelled_too_late",
            "the run finished before the cancel took effect; it was charged, any downloaded files \
             are in the history, and nothing was placed",
        ),
        EndReason::LeftToOther => ("left", LEFT_TO_OTHER),
        EndReason::Cache(CacheFault::Gone) => (
            "history",
            "the earlier result that this job was to reuse is no longer in the history; nothing \
             was sent. `conjured once` does the work again, at its own cost",
        ),
        EndReason::NoRequest => ("no_request", "the ledger contains no request id"),
        EndReason::NoMesh => (
            "no_mesh",
            "the run succeeded but returned no mesh (.glb); it was charged. Check the workflow's \
             output nodes with `conjured workflow inspect`",
        ),
        _ => return None,
    })
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
