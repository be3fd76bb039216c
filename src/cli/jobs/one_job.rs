//! Runs one job now, with or without a running daemon; shared by `once`, `jobs retry` and
//! `jobs rerun`.
//!
//! Owns what the user sees of it: progress, the paths of the artifacts, and the exit code. The job
//! itself runs like every other job.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::json;
use tokio::sync::{oneshot, watch};

use super::follow::{self, FollowEnd, StatusSource};
use crate::{
    cli::{
        context::Context,
        daemon_client::DaemonClient,
        exit::{BUG, CANNOT_WRITE, Failure, JOB_FAILED, TRY_AGAIN, code_of_reason},
        out::span,
    },
    clock::Clock,
    config::Loaded,
    daemon::{
        DaemonEnd,
        event_loop::start::{self, Options, Purpose},
        services::{command::OnceRequest, runtime_config::RuntimeConfig},
    },
    disk::history::artifact_name,
    domain::{
        job::{Cause, JobId, JobState, artifact::ArtifactKind},
        status::{Job, Status},
        time::WallTime,
    },
    ledger::{FILE, Ledger},
};

/// How one job is followed and reported.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli) struct FollowOptions {
    /// Return as soon as the job has started.
    pub(in crate::cli) detach: bool,
    /// Print JSON.
    pub(in crate::cli) json: bool,
}

/// Runs one job and returns when it is over, or when it has started.
pub(in crate::cli) async fn run(
    context: &Context,
    loaded: Loaded,
    config: RuntimeConfig,
    request: OnceRequest,
    how: FollowOptions,
) -> Result<(), Failure> {
    let state_dir = loaded.config.state_dir.clone();
    let out = &context.out;
    if let Some((client, status)) = DaemonClient::find(&state_dir).await {
        let _log = context.quiet_log();
        out.info(format!("handed to the running daemon (process {})", status.daemon.pid));
        let job = client.once(&request).await?;
        if how.detach {
            return job_started(context, job, how);
        }
        let mut source = StatusSource::Remote(client);
        let over = follow::follow(&mut source, job, out).await?;
        return report_end(context, &state_dir, job, over, how);
    }
    let _log = context.quiet_log();
    // Report this now, before half a second of preparation.
    if let Err(unavailable) = config.check_available() {
        return Err(Failure::new(
            crate::cli::exit::code_of(unavailable.kind),
            unavailable.reason.clone(),
        ));
    }
    let (status, statuses) = watch::channel(Arc::new(Status::starting()));
    let (stop, stopped) = oneshot::channel();
    let options = Options {
        loaded,
        sources: context.sources.clone(),
        runtime_config: config,
        log: None,
        purpose: Purpose::OneJob(request),
        signals: true,
        stop: how.detach.then_some(stopped),
        status,
    };
    let since = Clock.now().wall;
    let running = start::run(options);
    let sent = accepted_job(statuses.clone(), since);
    let watching = watch_local(statuses, context, since);
    tokio::pin!(running, watching, sent);
    let (mut stuck, mut stop, mut detached) = (None, Some(stop), None);
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended?,
            over = &mut watching, if stuck.is_none() => {
                if let Ok((job, FollowEnd::StuckPlacing(reason))) = over {
                    return report_end(context, &state_dir, job, FollowEnd::StuckPlacing(reason), how);
                }
                stuck = Some(());
            }
            job = &mut sent, if how.detach && detached.is_none() => {
                detached = Some(job);
                // A run at the service continues there; the daemon in this process stops.
                if let Some(stop) = stop.take() {
                    // An error means that the daemon has already ended.
                    let _ = stop.send(());
                }
            }
        }
    };
    match (ended, detached) {
        (DaemonEnd::OneJob(Ok(job)), None) => {
            report_end(context, &state_dir, job, FollowEnd::Ended, how)
        }
        (DaemonEnd::OneJob(Err(error)), _) => Err(error.into()),
        (DaemonEnd::OneJob(Ok(_)) | DaemonEnd::Stopped, Some(job)) => {
            out.info(
                "no daemon is running: the job continues at the service, and the next `conjured \
                 run` or `once` places its result",
            );
            job_started(context, job, how)
        }
        (DaemonEnd::Stopped, None) => Err(Failure::new(
            JOB_FAILED,
            "stopped; a submitted job continues at the service (and is billed), and the next \
             `conjured run` or `once` finishes it",
        )),
        (DaemonEnd::Broken(reason), _) => Err(Failure::new(BUG, reason)),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is one of the ends of a command")]
fn job_started(context: &Context, job: JobId, how: FollowOptions) -> Result<(), Failure> {
    if how.json {
        context.out.json(&json!({ "job": job }));
    } else {
        context.out.data(job.to_string());
    }
    Ok(())
}

/// Waits until the service has accepted the only job of a daemon in this process.
async fn accepted_job(mut statuses: watch::Receiver<Arc<Status>>, since: WallTime) -> JobId {
    loop {
        let found = find_requested_job(&statuses.borrow_and_update(), since)
            .filter(|job| matches!(job.state, JobState::Submitted | JobState::Running))
            .map(|job| job.id);
        if let Some(job) = found {
            return job;
        }
        if statuses.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Finds the requested job: an unfinished job of an earlier session may run first.
fn find_requested_job(status: &Status, since: WallTime) -> Option<&Job> {
    let mut jobs = status.projects.iter().filter_map(|project| project.job.as_ref());
    jobs.find(|job| job.cause == Cause::Person && job.since >= since)
}

/// Shows the progress of the only job of a daemon in this process.
async fn watch_local(
    statuses: watch::Receiver<Arc<Status>>,
    context: &Context,
    since: WallTime,
) -> Result<(JobId, FollowEnd), Failure> {
    let mut statuses = statuses;
    let job = loop {
        let found = find_requested_job(&statuses.borrow_and_update(), since).map(|job| job.id);
        if let Some(job) = found {
            break job;
        }
        if statuses.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let mut source = StatusSource::Local(statuses);
    let over = follow::follow(&mut source, job, &context.out).await?;
    Ok((job, over))
}

/// Reports how the job ended, and where its artifacts are.
fn report_end(
    context: &Context,
    state_dir: &Path,
    job: JobId,
    over: FollowEnd,
    how: FollowOptions,
) -> Result<(), Failure> {
    let out = &context.out;
    let row = Ledger::open_read_only(&state_dir.join(FILE))?.job(job)?;
    if let FollowEnd::StuckPlacing(reason) = over {
        return Err(Failure::new(
            CANNOT_WRITE,
            format!(
                "{reason}. Job {job} stays `placing`; `conjured run` finishes it once the folder can be written"
            ),
        ));
    }
    match row.state {
        JobState::Done => {
            let took =
                row.ended_at.map(|ended| span(ended.since(row.created_at))).unwrap_or_default();
            out.info(format!("job {job} is done after {took}; it cost about {}", row.spent()));
            let folder = state_dir.join("history").join(job.to_string());
            let mut files = Vec::new();
            for kind in ArtifactKind::ALL {
                let path = match &row.out {
                    Some(shown) => placed_in(Path::new(shown), context, kind)?,
                    None => Some(folder.join(artifact_name(kind))),
                };
                if let Some(path) = path.filter(|path| path.exists()) {
                    files.push(path.display().to_string());
                }
            }
            if how.json {
                out.json(&json!({
                    "job": job,
                    "retry_of": row.retry_of,
                    "state": row.state,
                    "spent_microusd": row.spent(),
                    "files": files,
                }));
            } else {
                for file in files {
                    out.data(file);
                }
            }
            Ok(())
        }
        JobState::Failed => {
            let (code, text) = row.reason.map_or_else(
                || (JOB_FAILED, "no reason was recorded".to_owned()),
                |reason| (code_of_reason(&reason.code), reason.text),
            );
            Err(Failure::new(code, format!("job {job} failed: {text}")))
        }
        JobState::Unknown => {
            let text = row.reason.map(|reason| reason.text).unwrap_or_default();
            Err(Failure::new(JOB_FAILED, format!("job {job} is `unknown`: {text}")))
        }
        JobState::Cancelled | JobState::Replaced => {
            Err(Failure::new(JOB_FAILED, format!("job {job} was {}", row.state)))
        }
        state => Err(Failure::new(
            TRY_AGAIN,
            format!("job {job} is `{state}`; see `conjured jobs show {job}`"),
        )),
    }
}

fn placed_in(
    folder: &Path,
    context: &Context,
    kind: ArtifactKind,
) -> Result<Option<PathBuf>, Failure> {
    let config = context.load()?.config;
    let names = config.projects.first().map(|project| match kind {
        ArtifactKind::Image => &project.image,
        ArtifactKind::Mesh => &project.mesh,
    });
    let name = names.and_then(|names| names.first()?.file_name());
    Ok(name.map(|name| folder.join(name)))
}
