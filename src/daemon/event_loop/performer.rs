//! Carries out actions: the only part of the loop that starts tasks and sends anything.
//!
//! Owns the loop's tasks, and the channels to jobs, callers and readers of the status. It decides
//! nothing and waits for nothing: [`super::state`] says what is done, and what takes time is a
//! task.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
};

use tokio::sync::{oneshot, watch};

use super::{
    action::{Action, ManagerNotice},
    event::{DaemonEnd, TaskName, TaskOutcome},
    spawn_job::{self, EarlyWorkReceiver, NewJob, NewJobSource, ResumedJob},
    state::DaemonState,
    systemd::ServiceManager,
    tasks::{
        commands, history, projects, prune, records, reload, scans, scans::SharedWatcher,
        watching::build_watcher,
    },
};
use crate::{
    config::sources::Sources,
    daemon::{
        api::status_view,
        inputs::{
            prepare::SnapshotContent,
            project_state::{ProjectState, SharedStatus},
            wake_queue::WakeQueue,
        },
        jobs::early_work::fetch_facts,
        services::{
            Services,
            budget_windows::windows,
            command::{CommandError, Reply},
            messages::{Control, JobEnd},
            runtime_config::RuntimeConfig,
            store::blocking,
            tasks::Tasks,
        },
    },
    disk::{lock::Holder, watch::Watcher},
    domain::{engine::event::ProjectId, job::JobId, time::Now},
};

/// What carrying out an action needs.
pub(crate) struct Performer {
    pub(crate) services: Arc<Services>,
    pub(crate) tasks: Tasks<TaskName, TaskOutcome>,
    pub(crate) config: watch::Sender<Arc<RuntimeConfig>>,
    pub(crate) status: watch::Sender<SharedStatus>,
    pub(crate) service_manager: ServiceManager,
    pub(crate) wake_queue: Arc<WakeQueue>,
    pub(crate) watcher: SharedWatcher,
    pub(crate) jobs: JobChannels,
    /// Where the configuration is read from.
    pub(crate) sources: Sources,
    /// The holder that the lock files of new projects name.
    pub(crate) holder: Holder,
}

/// The channels to jobs and to the callers that wait for them.
#[derive(Debug, Default)]
pub(crate) struct JobChannels {
    /// The controls of active jobs.
    controls: BTreeMap<JobId, watch::Sender<Control>>,
    /// The early work of each project's newest snapshot.
    early: BTreeMap<ProjectId, EarlyWorkReceiver>,
    /// The callers that wait for a job to be in the ledger.
    starting: BTreeMap<JobId, Reply<JobId>>,
}

impl JobChannels {
    /// Returns the receiver of a new job's control.
    fn add_control(&mut self, job: JobId, control: Control) -> watch::Receiver<Control> {
        let (sender, receiver) = watch::channel(control);
        self.controls.insert(job, sender);
        receiver
    }

    /// Drops what belongs to a job or a snapshot that is no longer active.
    fn retain_active(&mut self, state: &DaemonState) {
        self.controls.retain(|job, _| state.runs(*job));
        self.early.retain(|project, _| {
            state.projects().get(project).is_some_and(ProjectState::has_early_work)
        });
    }
}

impl Performer {
    /// Carries out actions in their order. `state` is what they led to, for the status. Returns how
    /// the loop ends, if it does.
    pub(crate) fn act(
        &mut self,
        actions: Vec<Action>,
        state: &DaemonState,
        now: Now,
    ) -> Option<DaemonEnd> {
        let mut end = None;
        for action in actions {
            match action {
                Action::PublishStatus => self.publish(state, now),
                Action::End(how) => end = Some(how),
                action => self.perform(action, now),
            }
        }
        self.jobs.retain_active(state);
        end
    }

    /// Starts a task whose result goes through another channel, or to nobody.
    pub(crate) fn spawn(&mut self, work: impl Future<Output = TaskOutcome> + Send + 'static) {
        self.tasks.spawn(TaskName::Background, work);
    }

    #[expect(clippy::too_many_lines, reason = "one table: an arm for each action")]
    fn perform(&mut self, action: Action, now: Now) {
        let services = Arc::clone(&self.services);
        let store = services.store.clone();
        match action {
            Action::PrepareEarly { project, content } => self.prepare_early(project, content),
            Action::StartJob { job, source } => self.start_job(*job, source),
            Action::ResumeJob(job) => self.resume_job(*job),
            Action::EndUnstarted { project, job, end } => self.end_unstarted(project, job, end),
            Action::ControlJob { job, control } => {
                if let Some(sender) = self.jobs.controls.get(&job) {
                    control.raise(sender);
                }
            }
            Action::AnswerJob { job, answer } => {
                if let (Some(reply), Some(answer)) = (self.jobs.starting.remove(&job), answer) {
                    drop(reply.send(answer));
                }
            }
            Action::ReadPanicked { project, job, message } => {
                let work = history::read_panicked(store, job, message);
                self.tasks.spawn(TaskName::Panicked(project, job), work);
            }

            Action::RecordPanic { job, reason } => {
                self.spawn(records::panicked(store, job, reason, now.wall));
            }
            Action::RecordReplaced { job } => self.spawn(records::replaced(store, job, now.wall)),
            Action::SetBaseline { project, prompt, render } => {
                self.spawn(records::set_baseline(store, project, prompt, render, now.wall));
            }
            Action::RecordResubmit { job, kind, message } => {
                self.spawn(records::resubmitted(store, job, kind, message, now.wall));
            }
            Action::LogResubmit { job, answer } => self.spawn(log_resubmit(job, answer)),
            Action::Refresh { project } => {
                let work = history::refresh(services, project, windows(now.wall));
                self.tasks.spawn(TaskName::Refresh(project), work);
            }
            Action::Prune(limits) => self.spawn(prune::prune(services, limits)),

            Action::Cancel { job, active, reply } => {
                self.spawn(commands::cancel(store, job, active, now.wall, reply));
            }
            Action::Restore { job, places, reply } => {
                let config = self.current_config();
                self.spawn(commands::restore(services, config, job, places, reply));
            }
            Action::Rate { job, rate, reply } => {
                self.spawn(commands::rate(store, job, rate, now.wall, reply));
            }
            Action::ReplyJob { reply, answer } => drop(reply.send(answer)),
            Action::ReplyText { reply, answer } => drop(reply.send(answer)),

            Action::Scan { project, reader, ignore } => {
                self.wake_queue.scan_began(project);
                let work = scans::scan(*reader, ignore, Arc::clone(&self.watcher));
                self.tasks.spawn(TaskName::Scan(project), work);
            }
            Action::ForgetWake { project } => self.wake_queue.scan_began(project),
            Action::CheckHands { project, root } => {
                self.tasks.spawn(TaskName::Hands(project), scans::check_hands(root));
            }
            Action::CheckWatches(wanted) => {
                let work = scans::check_watches(services, Arc::clone(&self.watcher), *wanted);
                self.tasks.spawn(TaskName::Housekeeping, work);
            }
            Action::CheckLock { project } => {
                self.tasks.spawn(TaskName::Lock(project), async move {
                    TaskOutcome::LockStatus(services.root_locks.check(project).await)
                });
            }
            Action::BuildWatcher(request) => {
                let wake_queue = Arc::clone(&self.wake_queue);
                self.tasks.spawn(TaskName::Watch, async move {
                    TaskOutcome::Watching(Box::new(build_watcher(*request, wake_queue).await))
                });
            }
            Action::UseWatcher(watcher) => self.replace_watcher(Some(*watcher)),
            Action::DropWatcher => self.replace_watcher(None),
            Action::AwaitDrive { project, late } => {
                self.tasks.spawn(TaskName::DriveBack(project), async move {
                    late.wait().await;
                    TaskOutcome::Nothing
                });
            }

            Action::AwaitProject { project, late } => {
                let work = projects::await_project(services, *project, late, now.wall);
                self.tasks.spawn(TaskName::TakeProject, work);
            }
            Action::KeepLock { project, lock } => services.root_locks.insert(project, *lock),
            Action::ReleaseLock { project } => self.spawn(async move {
                services.root_locks.release(project).await;
                TaskOutcome::Nothing
            }),
            Action::ReleaseProject(taken) => self.spawn(projects::release(*taken)),

            Action::Reload { known_roots, replies } => {
                let (sources, holder) = (self.sources.clone(), self.holder.clone());
                let old = self.current_config();
                let work =
                    reload::reload(services, sources, old, known_roots, holder, now.wall, replies);
                self.tasks.spawn(TaskName::Reload, work);
            }
            Action::Configure(config) => {
                self.config.send_replace(config);
            }
            Action::FetchFacts => {
                let config = self.current_config();
                self.spawn(async move {
                    fetch_facts(&services, &config).await;
                    TaskOutcome::Nothing
                });
            }

            Action::NotifyManager(notice) => match notice {
                ManagerNotice::Reloading => self.service_manager.reloading(),
                ManagerNotice::Reloaded => self.service_manager.reloaded(),
                ManagerNotice::Stopping => self.service_manager.stopping(),
            },
            Action::CloseServers => services.servers.close(),
            // Handled by the caller.
            Action::PublishStatus | Action::End(_) => {}
        }
    }

    fn current_config(&self) -> Arc<RuntimeConfig> {
        Arc::clone(&self.config.borrow())
    }

    fn prepare_early(&mut self, project: ProjectId, content: SnapshotContent) {
        let (send, ready) = oneshot::channel();
        self.jobs.early.insert(project, ready);
        let work =
            spawn_job::early_work(Arc::clone(&self.services), self.current_config(), content);
        self.spawn(async move {
            // There is no receiver if the window was closed by something else.
            drop(send.send(work.await));
            TaskOutcome::Nothing
        });
    }

    fn start_job(&mut self, job: NewJob, source: NewJobSource) {
        let (project, id) = (job.project, job.id);
        let early = self.jobs.early.remove(&project);
        let (input, reply) = match spawn_job::input(source, early) {
            Ok(input) => input,
            Err(end) => return self.end_unstarted(project, id, end),
        };
        if let Some(reply) = reply {
            self.jobs.starting.insert(id, reply);
        }
        let control = self.jobs.add_control(id, Control::Continue);
        let (services, config) = (Arc::clone(&self.services), self.current_config());
        let work = spawn_job::start(services, config, control, job, input);
        self.tasks.spawn(TaskName::Job(project, id), work);
    }

    fn resume_job(&mut self, job: ResumedJob) {
        let (project, id) = (job.project, job.row.id);
        let control = self.jobs.add_control(id, Control::from(job.row.control));
        let work = spawn_job::resume(Arc::clone(&self.services), control, job);
        self.tasks.spawn(TaskName::Job(project, id), work);
    }

    /// Lets the task of a job that cannot start end at once.
    fn end_unstarted(&mut self, project: ProjectId, job: JobId, end: JobEnd) {
        self.tasks.spawn(TaskName::Job(project, job), async move { TaskOutcome::Job(end) });
    }

    fn replace_watcher(&mut self, watcher: Option<Watcher>) {
        let new = Arc::new(Mutex::new(watcher));
        let old = std::mem::replace(&mut self.watcher, new);
        // A scan of a drive that hangs may hold it; the process ends all the same.
        self.spawn(async move {
            blocking(move || drop(old)).await;
            TaskOutcome::Nothing
        });
    }

    fn publish(&mut self, state: &DaemonState, now: Now) {
        let status = status_view::status(&state.status_view(&self.services.health), now);
        self.service_manager.show(|| status_view::one_line(&status));
        self.status.send_replace(Arc::new(status));
    }
}

/// Logs it if a job that is sent again is refused.
async fn log_resubmit(
    job: JobId,
    answer: oneshot::Receiver<Result<JobId, CommandError>>,
) -> TaskOutcome {
    if let Ok(Err(error)) = answer.await {
        tracing::error!(%job, "could not send it again: {error}");
    }
    TaskOutcome::Nothing
}
