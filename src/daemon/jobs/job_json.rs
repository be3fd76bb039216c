//! A job's full record as JSON: the same in the history's `job.json` and in `conjured jobs
//! show --json`.
//!
//! Owns the field names. Times are Unix milliseconds, money is in micro-dollars, durations
//! are milliseconds.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    daemon::services::store::{Store, blocking},
    disk::history::History,
    domain::{
        job::{JobId, JobState, attempt::AttemptEnd, control::JobControl},
        money::cost_of,
    },
    ledger::rows::{AuditRow, EventRow, JobDetails, JobFilter, JobRow},
};

/// How many of the newest jobs are checked at start: more than a daemon can have active when
/// it dies.
const NEWEST: u32 = 8;

/// Writes a job's record next to its artifacts, and removes partial downloads. It is a copy for
/// people: if it cannot be written, that is only logged.
pub(crate) async fn write_record(store: &Store, history: &Arc<History>, id: JobId) {
    let Ok(details) = store.with(move |ledger| ledger.details(id)).await else { return };
    let history = Arc::clone(history);
    let kept = blocking(move || {
        let json = serde_json::to_vec_pretty(&json(&details)).map_err(|error| error.to_string())?;
        let folder = history.job(id).map_err(|error| error.to_string())?;
        folder.prune().map_err(|error| error.to_string())?;
        folder.write_record(&json).map_err(|error| error.to_string())
    })
    .await;
    if let Err(error) = kept {
        tracing::warn!(job = %id, error, "job.json could not be written");
    }
}

/// Writes the records that are missing because of a crash at the very end of a job.
pub(crate) async fn write_missing_records(store: &Store, history: &Arc<History>) {
    let newest =
        JobFilter { states: vec![JobState::Done], limit: Some(NEWEST), ..JobFilter::default() };
    let Ok(rows) = store.with(move |ledger| ledger.jobs(&newest)).await else { return };
    for row in rows {
        let (own, id) = (Arc::clone(history), row.id);
        let missing = move || own.job_if_there(id).is_some_and(|folder| !folder.has_record());
        if blocking(missing).await {
            write_record(store, history, row.id).await;
        }
    }
}

/// Returns one job as `jobs list --json` shows it.
pub(crate) fn list_json(job: &JobRow) -> Value {
    let millis = |span: Option<std::time::Duration>| {
        span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    };
    json!({
        "id": job.id,
        "state": job.state,
        "cause": job.cause,
        "prompt": job.prompt_excerpt,
        "inputs": job.inputs,
        "workflow": job.workflow,
        "workflow_version": job.workflow_version,
        "body_digest": job.body_digest,
        "seed": job.seed,
        "mesh_seed": job.mesh_seed,
        "mode": job.mode,
        "backend": job.backend,
        "deployment": job.deployment,
        "request": job.request,
        "instance": job.instance,
        "created_at": job.created_at,
        "state_at": job.state_at,
        "ended_at": job.ended_at,
        "reason": job.reason,
        "replaced_by": job.replaced_by,
        "retry_of": job.retry_of,
        "reserved_microusd": job.reserved,
        "booked_microusd": job.booked,
        "basis": job.basis,
        "keep_warm_microusd": cost_of(job.terms.keep_warm, job.terms.hourly),
        "hourly_microusd": job.terms.hourly,
        "queue_ms": millis(job.timing.queue),
        "run_ms": millis(job.timing.run),
        "cold": job.timing.cold,
        "cancel_wanted": job.control == JobControl::Cancel,
        "out": job.out,
        "sent_bytes": job.body_bytes,
        "received_bytes": job.received_bytes,
        "rating": job.rating,
    })
}

/// Returns the full record, as `jobs show --json` prints it.
pub(crate) fn json(details: &JobDetails) -> Value {
    let attempts: Vec<Value> = details
        .attempts
        .iter()
        .map(|attempt| {
            json!({
                "number": attempt.number,
                "backend": attempt.backend,
                "deployment": attempt.deployment,
                "request": attempt.request,
                "instance": attempt.instance,
                "prepared_at": attempt.prepared_at,
                "submitting_at": attempt.submitting_at,
                "submitted_at": attempt.submitted_at,
                "running_at": attempt.running_at,
                "ended_at": attempt.ended_at,
                "outcome": attempt.outcome.map(AttemptEnd::name),
                "reason": attempt.reason,
            })
        })
        .collect();
    let mut value = list_json(&details.job);
    value["overrides"] = serde_json::from_str(&details.job.summary).unwrap_or(Value::Null);
    value["attempts"] = Value::Array(attempts);
    value["events"] = events(details);
    value["artifacts"] = json!(details.artifacts);
    value["cache_of"] = json!(details.job.cached_from);
    value["audit"] = Value::Array(details.audits.iter().map(audit).collect());
    value
}

/// Returns an audit row as `jobs audit --json` shows it.
pub(crate) fn audit(row: &AuditRow) -> Value {
    json!({
        "at": row.at,
        "what": row.what,
        "job": row.job,
        "outcome": row.outcome,
        "cost_microusd": row.cost,
    })
}

/// Returns every event, with the duration of its state if the job has left that state.
fn events(details: &JobDetails) -> Value {
    let lines = details.events.iter().zip(state_durations_ms(details)).map(|(event, lasted)| {
        let mut line = json!(event);
        line["lasted_ms"] = json!(lasted);
        line
    });
    Value::Array(lines.collect())
}

/// Returns for each event how many milliseconds the state that it began lasted; `None` for the last
/// one and for events that are not states.
pub(crate) fn state_durations_ms(details: &JobDetails) -> Vec<Option<u64>> {
    let is_state = |event: &EventRow| JobState::from_name(&event.kind).is_some();
    let next = |after: usize| details.events.iter().skip(after + 1).find(|event| is_state(event));
    let one = |(index, event): (usize, &EventRow)| {
        let span = next(index).filter(|_| is_state(event))?.at.since(event.at);
        Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    };
    details.events.iter().enumerate().map(one).collect()
}
