//! `conjured jobs show`: everything about one job, for people and as JSON.
//!
//! Owns the page. It asks the disk for what the ledger does not know: whether the artifacts are
//! still in the history.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    cli::out::{Out, plain, span, time},
    daemon::jobs::job_json,
    domain::{job::attempt::AttemptEnd, time::WallTime},
    ledger::rows::{ArtifactRow, AttemptRow, JobDetails, JobRow},
};

/// Returns the job's history as JSON, with the facts from the disk.
pub(in crate::cli) fn json(details: &JobDetails, state_dir: &Path) -> Value {
    let mut value = job_json::json(details);
    if let Some(listed) = value["artifacts"].as_array_mut() {
        for (shown, artifact) in listed.iter_mut().zip(&details.artifacts) {
            shown["in_history"] = json!(in_history(artifact, state_dir));
        }
    }
    value
}

fn in_history(artifact: &ArtifactRow, state_dir: &Path) -> bool {
    state_dir.join("history").join(&artifact.path).is_file()
}

/// Returns the job's history for a person.
pub(in crate::cli) fn text(
    out: &Out,
    details: &JobDetails,
    state_dir: &Path,
    now: WallTime,
) -> String {
    let job = &details.job;
    let mut lines = vec![format!("{} {}", out.bold(&job.id.to_string()), out.state(job.state))];
    let mut add = |name: &str, text: String| lines.push(format!("  {name:<9} {text}"));
    if let Some(reason) = &job.reason {
        add("why", format!("{} [{}]", plain(&reason.text), plain(&reason.code)));
    }
    for (name, other) in [("rerun as", job.replaced_by), ("rerun of", job.retry_of)] {
        if let Some(other) = other {
            add(name, other.to_string());
        }
    }
    if let Some(source) = details.job.cached_from {
        add("from", format!("job {source}, whose results were reused free of charge"));
    }
    add("prompt", plain(&job.prompt_excerpt));
    add("cause", job.cause.name().to_owned());
    add("workflow", format!("{} (version {})", plain(&job.workflow), job.workflow_version.short()));
    add("seeds", format!("image {}, mesh {}", seed(job.seed), seed(job.mesh_seed)));
    add("money", money(job));
    add("network", network(job));
    if let Some(took) = duration_of(job) {
        add("took", took);
    }
    if let Some(rating) = &job.rating {
        add("rating", format!("{} of 5  {}", rating.stars, plain(&rating.note)).trim().to_owned());
    }
    let folder = state_dir.join("history").join(job.id.to_string());
    let gone = if folder.is_dir() { "" } else { " (removed: see `history.keep_jobs`)" };
    add("history", format!("{}{gone}", folder.display()));
    if let Some(folder) = &job.out {
        add("results", plain(folder));
    }
    for attempt in &details.attempts {
        add("attempt", self::attempt(attempt));
    }
    for artifact in &details.artifacts {
        let vertices =
            artifact.vertices.map(|count| format!(", {count} vertices")).unwrap_or_default();
        let gone = if in_history(artifact, state_dir) { "" } else { ", no longer in the history" };
        add(
            "artifact",
            format!(
                "{} {} ({} bytes{vertices}, blake3 {}{gone})",
                artifact.kind,
                artifact.path,
                artifact.bytes,
                artifact.blake3.short()
            ),
        );
    }
    for audit in &details.audits {
        add(
            "audit",
            format!(
                "{} {}: {}, {}",
                time(audit.at),
                plain(&audit.what),
                plain(&audit.outcome),
                audit.cost
            ),
        );
    }
    let last = details.events.len().saturating_sub(1);
    for (index, (event, lasted)) in
        details.events.iter().zip(job_json::state_durations_ms(details)).enumerate()
    {
        let lasted = match lasted {
            Some(millis) => span(std::time::Duration::from_millis(millis)),
            None if index == last && !job.state.is_final() => {
                format!("{} so far", span(now.since(event.at)))
            }
            None => String::new(),
        };
        let line = format!(
            "  {}  {:<12} {lasted:>10}  {}",
            out.dim(&time(event.at)),
            event.kind,
            plain(&event.note)
        );
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

fn attempt(attempt: &AttemptRow) -> String {
    let request = attempt.request.as_ref().map_or_else(|| "no id".to_owned(), ToString::to_string);
    let mut text = format!("{} on {}, request {request}", attempt.number, plain(&attempt.backend));
    if let Some(deployment) = &attempt.deployment {
        text.push_str(&format!(" at {}", plain(deployment)));
    }
    if let Some(instance) = &attempt.instance {
        text.push_str(&format!(", machine {}", plain(instance)));
    }
    text.push_str(&format!(", sent {}", time(attempt.submitting_at)));
    for (word, at) in [
        ("accepted", attempt.submitted_at),
        ("running", attempt.running_at),
        ("over", attempt.ended_at),
    ] {
        if let Some(at) = at {
            text.push_str(&format!(", {word} after {}", span(at.since(attempt.submitting_at))));
        }
    }
    format!("{text}: {}", attempt.outcome.map_or("in progress", AttemptEnd::name))
}

fn seed(seed: Option<u64>) -> String {
    seed.map_or_else(|| "the workflow's own".to_owned(), |seed| seed.to_string())
}

fn money(job: &JobRow) -> String {
    match job.booked {
        Some(booked) => {
            let how = job.basis.map_or_else(String::new, |basis| format!(" ({})", basis.name()));
            format!("{booked} booked{how}; {} was reserved", job.reserved)
        }
        None => format!("{} reserved; counts as spent until more is known", job.reserved),
    }
}

fn network(job: &JobRow) -> String {
    let sent = format!("{} bytes", job.body_bytes);
    format!("request {sent}, received {} bytes", job.received_bytes)
}

fn duration_of(job: &JobRow) -> Option<String> {
    let (queue, run) = (job.timing.queue?, job.timing.run?);
    let cold = if job.timing.cold == Some(true) { " with a cold start" } else { "" };
    Some(format!("{} waiting{cold}, {} running", span(queue), span(run)))
}
