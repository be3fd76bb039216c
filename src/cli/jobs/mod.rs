//! `conjured jobs`: lists and shows jobs, and cancels one.
//!
//! Owns the tables of jobs and of audit events. It reads the ledger directly, so it works with or
//! without a running daemon; only `cancel` needs one, if the job is active.

pub mod follow;
pub(crate) mod once;
pub(crate) mod one_job;
pub(crate) mod cost;
pub(crate) mod details;
pub(crate) mod rerun;
pub(crate) mod restore;

use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::{
    context::Context,
    daemon_client::DaemonClient,
    exit::{Failure, USAGE},
    out::{plain, span, time},
};
use crate::{
    clock::Clock,
    daemon::{event_loop::tasks::commands::not_cancelled, jobs::job_json},
    disk::lock::{Holder, Lock},
    domain::job::{JobState, control::JobControl},
    ledger::{
        FILE, Ledger, Reader,
        error::OpenError,
        rows::{Booking, JobFilter, Reason},
    },
};

pub(super) fn list(
    context: &Context,
    limit: u32,
    states: &[JobState],
    project: Option<&str>,
    as_json: bool,
) -> Result<(), Failure> {
    let state_dir = context.state_dir()?;
    let Some(reader) = open(&state_dir)? else {
        if as_json {
            context.out.json(&json!([]));
        } else {
            context.out.info("no job has been run yet");
        }
        return Ok(());
    };
    let names = reader.projects()?;
    let project = match project {
        None => None,
        Some(name) => {
            let found = names.iter().find(|row| row.name == name).ok_or_else(|| {
                let known: Vec<&str> = names.iter().map(|row| row.name.as_str()).collect();
                Failure::new(
                    USAGE,
                    format!(
                        "there is no project `{name}` in the ledger; it has: {}",
                        known.join(", ")
                    ),
                )
            })?;
            Some(found.id)
        }
    };
    let filter = JobFilter { states: states.to_vec(), project, before: None, limit: Some(limit) };
    let rows = reader.jobs(&filter)?;
    if as_json {
        context.out.json(&Value::Array(rows.iter().map(job_json::list_json).collect()));
        return Ok(());
    }
    if rows.is_empty() {
        context.out.info("no such job");
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["job", "state", "released", "took", "cost", "cause", "prompt"]);
    for row in &rows {
        table.add_row([
            row.id.to_string(),
            context.out.state(row.state),
            time(row.created_at),
            row.ended_at.map(|ended| span(ended.since(row.created_at))).unwrap_or_default(),
            row.spent().to_string(),
            row.cause.name().to_owned(),
            short(&row.prompt_excerpt),
        ]);
    }
    context.out.data(table.trim_fmt());
    Ok(())
}

/// Shows everything known about one job.
pub(super) fn show(context: &Context, id: &str, as_json: bool) -> Result<(), Failure> {
    let state_dir = context.state_dir()?;
    let reader = opened(&state_dir)?;
    let details = reader.details(reader.find(id)?)?;
    if as_json {
        context.out.json(&details::json(&details, &state_dir));
    } else {
        context.out.data(details::text(&context.out, &details, &state_dir, Clock.now().wall));
    }
    Ok(())
}

/// Lists what spent money or changed something outside, newest first.
pub(super) fn audit(context: &Context, limit: u32, as_json: bool) -> Result<(), Failure> {
    let rows = match open(&context.state_dir()?)? {
        Some(reader) => reader.audits(limit)?,
        None => Vec::new(),
    };
    if as_json {
        context.out.json(&Value::Array(rows.iter().map(job_json::audit).collect()));
        return Ok(());
    }
    if rows.is_empty() {
        context.out.info("there are no audit events yet");
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["when", "what", "job", "outcome", "cost"]);
    for row in &rows {
        table.add_row([
            time(row.at),
            plain(&row.what),
            row.job.map(|job| job.to_string()).unwrap_or_default(),
            plain(&row.outcome),
            row.cost.to_string(),
        ]);
    }
    context.out.data(table.trim_fmt());
    Ok(())
}

/// Cancels a job, at the service too if it is active there.
pub(super) async fn cancel(context: &Context, id: &str, as_json: bool) -> Result<(), Failure> {
    let state_dir = context.state_dir()?;
    let job = opened(&state_dir)?.find(id)?;
    let said = match DaemonClient::find(&state_dir).await {
        Some((client, _)) => client.cancel(job).await?,
        None => cancel_alone(&state_dir, job)?,
    };
    if as_json {
        context.out.json(&json!({ "job": job, "said": said }));
    } else {
        context.out.data(said);
    }
    Ok(())
}

/// Cancels without a daemon: a job that was never sent ends here, and the next daemon cancels one
/// that is at the service.
fn cancel_alone(state_dir: &Path, job: crate::domain::job::JobId) -> Result<String, Failure> {
    let now = Clock.now().wall;
    let holder = Holder {
        pid: std::process::id(),
        since: now,
        socket: None,
        what: "conjured jobs cancel".to_owned(),
    };
    let _lock = Lock::acquire_state(state_dir, &holder)
        .map_err(|error| Failure::new(super::exit::TRY_AGAIN, error.to_string()))?;
    let mut ledger = Ledger::open(&state_dir.join(FILE))?;
    let row = ledger.job(job)?;
    match row.state {
        JobState::Prepared | JobState::Unknown | JobState::Fetched => {
            let booking =
                if row.state == JobState::Prepared { Booking::Nothing } else { row.job_cost().0 };
            ledger.cancelled(
                job,
                &Reason::new("cancelled", "cancelled by a person"),
                booking,
                now,
            )?;
            Ok(format!("job {job} is cancelled"))
        }
        _ => {
            ledger
                .raise_control(job, JobControl::Cancel, now)
                .map_err(|error| not_cancelled(job, &error))?;
            Ok(format!(
                "no daemon is running: job {job} continues at the service until the next \
                 `conjured run` cancels it"
            ))
        }
    }
}

fn open(state_dir: &Path) -> Result<Option<Reader>, Failure> {
    match Ledger::open_read_only(&state_dir.join(FILE)) {
        Ok(reader) => Ok(Some(reader)),
        Err(OpenError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn opened(state_dir: &Path) -> Result<Reader, Failure> {
    open(state_dir)?.ok_or_else(|| Failure::new(USAGE, "no job has been run yet"))
}

fn short(prompt: &str) -> String {
    let prompt = plain(prompt);
    if prompt.chars().count() <= 48 {
        return prompt;
    }
    let mut short: String = prompt.chars().take(47).collect();
    short.push('…');
    short
}
