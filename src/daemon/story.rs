//! A job's story as JSON: `job.json` in history and `conjured jobs show --json` say the same.
//!
//! Owns the field names. Times are Unix milliseconds, money is micro-dollars, durations are milliseconds.

use serde_json::{Value, json};

use crate::{
    domain::money::cost_of,
    ledger::rows::{JobRow, JobStory},
};

/// Returns one job as `jobs list --json` shows it.
pub fn row(job: &JobRow) -> Value {
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
        "keep_warm_microusd": job.terms.map(|terms| cost_of(terms.keep_warm, terms.hourly)),
        "hourly_microusd": job.terms.map(|terms| terms.hourly),
        "queue_ms": millis(job.timing.queue),
        "run_ms": millis(job.timing.run),
        "cold": job.timing.cold,
        "cancel_wanted": job.cancel_wanted,
    })
}

/// Returns the whole story, as `jobs show --json` shows it.
pub fn json(story: &JobStory) -> Value {
    let attempts: Vec<Value> = story
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
                "outcome": attempt.outcome,
            })
        })
        .collect();
    let mut value = row(&story.job);
    value["overrides"] = serde_json::from_str(&story.job.summary).unwrap_or(Value::Null);
    value["attempts"] = Value::Array(attempts);
    value["events"] = json!(story.events);
    value["artifacts"] = json!(story.artifacts);
    value
}
