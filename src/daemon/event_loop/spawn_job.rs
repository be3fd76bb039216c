//! Makes the future of a job's task, for a new job and for one that is resumed, and of early work.
//!
//! Owns every place where the loop constructs what a job is made of. These functions are given
//! plain data; when a job starts is decided by [`super::state`], and its flow belongs to
//! [`crate::daemon::jobs`].

use std::{future::Future, path::PathBuf, sync::Arc};

use tokio::sync::{oneshot, watch};
use tracing::Instrument as _;

use super::{event::TaskOutcome, state::jobs::caller_left};
use crate::{
    config::settings::ProjectConfig,
    daemon::{
        inputs::{
            prepare::{PrepareFault, SnapshotContent},
            project_state::EarlyWork,
        },
        jobs::{
            driver::{JobRun, JobTask},
            early_work::{prepare_early, warm_up},
            routing,
            setup::{JobInput, JobSetup},
        },
        services::{
            Services,
            command::{Reply, UserRequest},
            messages::{Control, JobEnd},
            runtime_config::RuntimeConfig,
        },
    },
    domain::{
        engine::event::ProjectId,
        job::{Cause, JobId, placement::Targets},
        status,
    },
    ledger::rows::JobRow,
};

/// A job to start.
pub(crate) struct NewJob {
    pub(crate) project: ProjectId,
    pub(crate) id: JobId,
    pub(crate) cause: Cause,
    /// The public names of its artifacts.
    pub(crate) targets: Targets,
    pub(crate) root: PathBuf,
    /// A folder for the artifacts instead of the project's public names.
    pub(crate) out: Option<PathBuf>,
    /// What `status` shows of it.
    pub(crate) status: status::Job,
}

/// What a new job is made from.
pub(crate) enum NewJobSource {
    /// The early work of the debounce window, and the snapshot if it is still in memory.
    EarlyWork(Option<SnapshotContent>),
    /// A snapshot without early work.
    Snapshot(SnapshotContent),
    /// A person's request, with the project's configuration.
    Requested(UserRequest, Box<ProjectConfig>),
}

/// A job to resume.
pub(crate) struct ResumedJob {
    pub(crate) project: ProjectId,
    pub(crate) row: JobRow,
    pub(crate) targets: Targets,
    pub(crate) root: PathBuf,
    /// What `status` shows of it.
    pub(crate) status: status::Job,
}

/// Where the early work for a job arrives.
pub(super) type EarlyWorkReceiver = oneshot::Receiver<Result<EarlyWork, PrepareFault>>;

/// Does what can be done before a debounce window closes.
pub(super) async fn early_work(
    services: Arc<Services>,
    config: Arc<RuntimeConfig>,
    content: SnapshotContent,
) -> Result<EarlyWork, PrepareFault> {
    let backend = routing::likely_backend(&services, &config);
    let warm = warm_up(&services, &config, backend);
    let early = prepare_early(&services, &config, backend, content, None);
    futures_util::future::join(early, warm).await.0
}

/// Returns what a new job is made from, and who waits for it to be in the ledger. If that caller
/// has left, returns the job's end.
pub(super) fn input(
    source: NewJobSource,
    early: Option<EarlyWorkReceiver>,
) -> Result<(JobInput, Option<Reply<JobId>>), JobEnd> {
    let (asked, config) = match source {
        NewJobSource::EarlyWork(content) => {
            // A receiver without a sender says that the early work was lost.
            let early = early.unwrap_or_else(|| oneshot::channel().1);
            return Ok((JobInput::EarlyWork(early, content), None));
        }
        NewJobSource::Snapshot(content) => return Ok((JobInput::Snapshot(content), None)),
        NewJobSource::Requested(asked, config) => (asked, config),
    };
    if asked.reply.is_closed() {
        return Err(caller_left());
    }
    // Kept apart from the rest of the request, so that it is answered in every case.
    let UserRequest { request, reply } = asked;
    let input = match request.again {
        Some(again) => JobInput::Repeat(again),
        None => {
            let asked = UserRequest { request, reply: oneshot::channel().0 };
            JobInput::Requested(Box::new(asked), config)
        }
    };
    Ok((input, Some(reply)))
}

/// Returns the future of a new job's task.
pub(super) fn start(
    services: Arc<Services>,
    config: Arc<RuntimeConfig>,
    control: watch::Receiver<Control>,
    job: NewJob,
    input: JobInput,
) -> impl Future<Output = TaskOutcome> + Send + 'static {
    let NewJob { project, id, cause, targets, root, out, status } = job;
    let work = async move {
        let task = JobTask { services, control, project, id, targets, root, status };
        let setup = JobSetup { task, config, cause, out, own_inputs: true };
        TaskOutcome::Job(setup.run(input).await)
    };
    work.instrument(job_span(id))
}

/// Returns the future of a resumed job's task.
pub(super) fn resume(
    services: Arc<Services>,
    control: watch::Receiver<Control>,
    job: ResumedJob,
) -> impl Future<Output = TaskOutcome> + Send + 'static {
    let ResumedJob { project, row, targets, root, status } = job;
    let id = row.id;
    let task = JobTask { services, control, project, id, targets, root, status };
    let work = async move { TaskOutcome::Job(Box::pin(JobRun::resume(task, row)).await) };
    work.instrument(job_span(id))
}

/// Returns the span that adds the job's id to each of its log lines. It has the level of errors, so
/// that it is present at every level.
fn job_span(job: JobId) -> tracing::Span {
    tracing::error_span!("job", job = %job)
}
