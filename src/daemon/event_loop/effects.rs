//! Applies the engine's effects: early work, jobs, baselines.
//!
//! Owns how an effect becomes a task. It never changes a decision: if a job cannot be started, the
//! engine is told so.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::sync::{oneshot, watch};
use tracing::Instrument as _;

use super::{
    EventLoop,
    outcomes::{TaskName, TaskOutcome},
};
use crate::{
    daemon::{
        inputs::{
            prepare::SnapshotContent,
            project_state::{PreparedWork, RunningJob},
        },
        jobs::{
            driver::{JobRun, JobTask},
            early_work::{prepare_early, warm_up},
            routing,
            setup::{JobInput, JobSetup, not_started},
        },
        services::{
            command::{CommandErrorKind, UserRequest},
            messages::Control,
        },
    },
    domain::{
        engine::event::{Event, JobSource, JobStage, ProjectId},
        fingerprint::Fingerprint,
        job::{Cause, Inputs, JobId, JobState, choose_backend::BackendKind},
        money::MicroUsd,
        status,
        time::WallTime,
    },
    ledger::rows::JobRow,
};

/// The delay before a job is retried whose render is not in memory.
const RESCAN_DELAY: Duration = Duration::from_millis(500);

impl EventLoop {
    /// Starts the early work for a snapshot.
    pub(crate) fn prepare(&mut self, project: ProjectId, inputs: Inputs) {
        let config = Arc::clone(&self.config.borrow());
        let Some(material) = self.snapshot_content(project, inputs) else { return };
        let (send, ready) = oneshot::channel();
        let generation = self.generation;
        if let Some(project_state) = self.projects.get_mut(&project) {
            project_state.prepared = Some(PreparedWork { inputs, generation, receiver: ready });
        }
        let services = Arc::clone(&self.services);
        self.tasks.spawn(TaskName::Background, async move {
            let backend = routing::likely_backend(&services, &config);
            let warm = warm_up(&services, &config, backend);
            let early = prepare_early(&services, &config, backend, material, None);
            let (early, ()) = futures_util::future::join(early, warm).await;
            // There is no receiver if the window was closed by something else.
            drop(send.send(early));
            TaskOutcome::Nothing
        });
    }

    /// Returns the content of a snapshot, if it is still in memory.
    fn snapshot_content(&self, project: ProjectId, inputs: Inputs) -> Option<SnapshotContent> {
        let project_state = self.projects.get(&project)?;
        let prompt = project_state.prompt.as_ref().filter(|p| p.fingerprint == inputs.prompt)?;
        let render = project_state.render.as_ref()?;
        Some(SnapshotContent { inputs, prompt: prompt.text.clone(), render: render.clone() })
    }

    pub(crate) fn start(&mut self, project: ProjectId, work: JobSource, cause: Cause) {
        let runtime_config = Arc::clone(&self.config.borrow());
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        let early = project_state.prepared.take();
        let generation = self.generation;
        let mut targets = project_state.targets();
        let config = project_state.config.clone();
        let root = config.root.clone();
        let mut out = None;
        let asked = matches!(work, JobSource::Requested(_));
        let source = match work {
            JobSource::Snapshot(inputs) => {
                match early.filter(|p| p.inputs == inputs && p.generation == generation) {
                    Some(prepared) => Some(JobInput::EarlyWork(
                        prepared.receiver,
                        self.snapshot_content(project, inputs),
                    )),
                    None => self.snapshot_content(project, inputs).map(JobInput::Snapshot),
                }
            }
            JobSource::Requested(ticket) => self.requested.remove(&ticket).map(|(_, asked)| {
                if let Some(folder) = &asked.request.out {
                    targets = targets.within(folder);
                    out = Some(folder.clone());
                }
                JobInput::Requested(Box::new(asked), Box::new(config))
            }),
        };
        // A request whose caller left while it was queued must not be paid for.
        let source = source.filter(|source| match source {
            JobInput::Requested(asked, _) => !asked.reply.is_closed(),
            JobInput::EarlyWork(..) | JobInput::Snapshot(_) | JobInput::Repeat(_) => true,
        });
        let now = self.clock.now();
        let id = JobId::from_parts(now.wall, rand::random());
        let name = TaskName::Job(project, id);
        let (control, control_receiver) = watch::channel(Control::Continue);
        let shown = Box::new(preparing_job(id, cause, runtime_config.first(), now.wall));
        if let Some(project_state) = self.projects.get_mut(&project) {
            project_state.job = Some(RunningJob { id, control, status: Some(shown.clone()) });
        }
        let Some(source) = source else {
            if asked {
                let reason = "the command that requested it has ended; nothing was sent";
                let end = not_started(CommandErrorKind::TryAgain, reason, None);
                self.tasks.spawn(name, async move { TaskOutcome::Job(end) });
                return;
            }
            // The render is being written at this moment, or changed without an event: both files
            // are read again.
            if let Some(project_state) = self.projects.get_mut(&project) {
                project_state.rescan(now.moment);
            }
            let reason = "the render is being written; retrying when it is complete";
            let end = not_started(CommandErrorKind::TryAgain, reason, Some(RESCAN_DELAY));
            self.tasks.spawn(name, async move { TaskOutcome::Job(end) });
            return;
        };
        let source = match source {
            JobInput::Requested(asked, config) => {
                // Kept apart from the rest of the request, so that it is answered in every case.
                let UserRequest { request, reply } = *asked;
                self.starting.insert(id, reply);
                match request.again {
                    Some(again) => JobInput::Repeat(again),
                    None => JobInput::Requested(
                        Box::new(UserRequest { request, reply: oneshot::channel().0 }),
                        config,
                    ),
                }
            }
            other => other,
        };
        let services = Arc::clone(&self.services);
        let work = async move {
            let task = JobTask {
                services,
                control: control_receiver,
                project,
                id,
                targets,
                root,
                status: *shown,
            };
            let config = runtime_config;
            let setup = JobSetup { task, config, cause, out, own_inputs: true };
            TaskOutcome::Job(setup.run(source).await)
        };
        self.tasks.spawn(name, work.instrument(job_span(id)));
    }

    /// Resumes a job of an earlier session.
    pub(crate) fn resume(&mut self, project: ProjectId, row: JobRow) {
        self.resume_after(None, project, row);
    }

    /// Resumes a job of an earlier session after the end of another one of its project: the engine
    /// gets both events at once, and starts nothing in between.
    pub(crate) fn resume_after(&mut self, end: Option<Event>, project: ProjectId, row: JobRow) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        let targets = match &row.out {
            Some(folder) => project_state.targets().within(Path::new(folder)),
            None => project_state.targets(),
        };
        let root = project_state.config.root.clone();
        let (control, control_receiver) = watch::channel(Control::from(row.control));
        let shown = status::Job {
            id: row.id,
            state: row.state,
            cause: row.cause,
            doing: "resuming where an earlier session stopped".to_owned(),
            since: row.created_at,
            backend: row.backend.clone(),
            why: None,
            progress: None,
            request: row.request.as_ref().map(ToString::to_string),
            queue_position: None,
            cold: None,
            elapsed_ms: 0,
            eta: None,
            received: None,
            estimate: row.reserved,
        };
        project_state.job =
            Some(RunningJob { id: row.id, control, status: Some(Box::new(shown.clone())) });
        let stage = match row.state {
            JobState::Prepared => JobStage::Waiting,
            JobState::Submitting => JobStage::Submitting,
            JobState::Submitted => JobStage::Queued,
            JobState::Running => JobStage::Running,
            JobState::HandingOver => JobStage::HandingOver,
            _ => JobStage::Placing,
        };
        tracing::info!(job = %row.id, "an earlier session left it `{}`; resuming it", row.state);
        self.handle_all(end.into_iter().chain([Event::Resumed { project, stage }]));
        let name = TaskName::Job(project, row.id);
        let lines = job_span(row.id);
        let task = JobTask {
            services: Arc::clone(&self.services),
            control: control_receiver,
            project,
            id: row.id,
            targets,
            root,
            status: shown,
        };
        let work = async move { TaskOutcome::Job(Box::pin(JobRun::resume(task, row)).await) };
        self.tasks.spawn(name, work.instrument(lines));
    }

    /// Records a baseline for the next start.
    pub(crate) fn set_baseline(
        &mut self,
        project: ProjectId,
        prompt: Option<Fingerprint>,
        render: Option<Fingerprint>,
    ) {
        let (store, now) = (self.services.store.clone(), self.clock.now().wall);
        self.tasks.spawn(TaskName::Background, async move {
            let record = move |ledger: &mut crate::ledger::Ledger| {
                ledger.set_baseline(project, prompt, render, now)
            };
            if let Err(error) = store.record("the baseline", record).await {
                tracing::error!(%error, "could not record the baseline");
            }
            TaskOutcome::Nothing
        });
    }
}

/// Returns what `status` shows of a job that is being prepared.
fn preparing_job(id: JobId, cause: Cause, backend: BackendKind, since: WallTime) -> status::Job {
    status::Job {
        id,
        state: JobState::Prepared,
        cause,
        doing: "preparing the request".to_owned(),
        since,
        backend: backend.name().to_owned(),
        why: None,
        progress: None,
        request: None,
        queue_position: None,
        cold: None,
        elapsed_ms: 0,
        eta: None,
        received: None,
        estimate: MicroUsd::ZERO,
    }
}

/// Returns the span that adds the job's id to each of its log lines. It has the level of errors, so
/// that it is present at every level.
fn job_span(job: JobId) -> tracing::Span {
    tracing::error_span!("job", job = %job)
}
