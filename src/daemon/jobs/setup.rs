//! Builds a job's request (from early work, a snapshot, a command or an earlier job) and picks
//! its backend.
//!
//! Owns the steps up to a prepared request, and the reasons why there may be none. Nothing is
//! recorded or sent here; that belongs to [`crate::daemon::jobs`].

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    driver::JobTask,
    early_work::{describe, expectation, prepare_early},
    release::NewRun,
    rerun::{cause, rebuild_request},
    routing::{self, Chosen},
};
use crate::{
    config::settings::ProjectConfig,
    daemon::{
        inputs::{
            prepare::{self, PrepareFault, PreparedRequest, SnapshotContent},
            project_state::EarlyWork,
        },
        services::{
            budget_windows,
            command::{CommandError, CommandErrorKind, Repeat, RepeatKind, UserRequest},
            drives::ANSWER_TIMEOUT,
            messages::{JobEnd, JobReport},
            root_locks::LockStatus,
            runtime_config::RuntimeConfig,
            store::{blocking, blocking_within},
        },
    },
    disk::{
        dirs,
        read::{self, ReadOutcome},
    },
    domain::{
        inputs::{png, prompt},
        job::{
            Cause, Inputs, JobId,
            choose_backend::{AttemptOutcome, BackendKind, PastAttempt},
        },
        money::{budget, estimate::Estimate},
        picture,
        request::overrides::SeedChoice,
    },
    ledger::rows::JobRow,
};

/// An estimate older than this is computed again: a machine that was warm then may be cold now.
const ESTIMATE_MAX_AGE: Duration = Duration::from_secs(10);

/// The wait after a full disk or a locked ledger before a job is tried again. Each try costs a
/// failed write.
pub(crate) const START_RETRY: Duration = Duration::from_secs(10);

/// The wait after a full budget: a session's budget changes only by a reload, a day's becomes free
/// again with time.
pub(crate) const BUDGET_RETRY: Duration = Duration::from_secs(600);

/// What a new job is made of.
#[derive(Debug)]
pub(crate) struct JobSpec {
    pub(crate) request: PreparedRequest,
    pub(crate) cause: Cause,
    /// The job that it does again.
    pub(crate) retry_of: Option<JobId>,
    /// The job whose lost answer it stands in for: only free backends may run it.
    pub(crate) stands_in_for: Option<JobId>,
    /// A folder for the artifacts instead of the project's public names.
    pub(crate) out: Option<PathBuf>,
    /// Whether it uses the project's own inputs, which then count as processed.
    pub(crate) moves_baseline: bool,
    /// Whether an earlier success of the same work may be reused.
    pub(crate) may_be_cached: bool,
}

/// Where a new job's request comes from.
pub(crate) enum JobInput {
    /// The early work of the debounce window, finished or nearly finished; and the material to
    /// repeat it if the disk refused it then.
    EarlyWork(oneshot::Receiver<Result<EarlyWork, PrepareFault>>, Option<SnapshotContent>),
    /// A snapshot without early work.
    Snapshot(SnapshotContent),
    /// A person's command; its inputs are read when it is the job's turn.
    Requested(Box<UserRequest>, Box<ProjectConfig>),
    /// The work of an earlier job.
    Repeat(Repeat),
}

/// A new job before it is in the ledger.
pub(crate) struct JobSetup {
    pub(crate) task: JobTask,
    pub(crate) config: Arc<RuntimeConfig>,
    pub(crate) cause: Cause,
    pub(crate) out: Option<PathBuf>,
    /// Whether it uses the project's own prompt and render.
    pub(crate) own_inputs: bool,
}

impl JobSetup {
    /// Prepares the job, releases it and runs it to its end.
    pub(crate) async fn run(mut self, source: JobInput) -> JobEnd {
        // A folder that cannot take the result is detected before anything is paid for.
        if let Some(folder) = self.out.clone()
            && let Err(error) = self.takes_artifacts(folder).await
        {
            return not_started(error.kind, &error.message, None);
        }
        // A project that is not ours is asked again soon: nothing is prepared in vain until then.
        let (services, project) = (Arc::clone(&self.task.services), self.task.project);
        let lock_status = services.root_locks.check(project).await;
        if let LockStatus::Withheld(reason) = &lock_status {
            let end = not_started(CommandErrorKind::TryAgain, reason, Some(START_RETRY));
            drop(services.reports.send(JobReport::LockStatus { project, lock_status }).await);
            return end;
        }
        // Without a backend nothing is written down: the change stays pending.
        let person = self.cause == Cause::Person;
        let again = if let JobInput::Repeat(again) = &source { Some(*again) } else { None };
        let free = again.filter(|again| again.kind == RepeatKind::Free);
        let stands_in_for = free.map(|again| again.job);
        let mut tried: Vec<(PastAttempt, String)> =
            stands_in_for.map(|lost| lost_answer(&self.config, lost)).into_iter().collect();
        let chosen = routing::choose(&services, &self.config, &tried, person).await;
        let (mut backend, mut why) = match chosen {
            Chosen::Use(backend, why) => (backend, why),
            Chosen::Unroutable(reason) => {
                return not_started(routing::unroutable_kind(&self.config), &reason, None);
            }
        };
        // A free stand-in leaves open how the other job ended.
        let retry_of = again.filter(|again| again.kind != RepeatKind::Free).map(|again| again.job);
        let may_be_cached = again.is_none_or(|again| again.kind != RepeatKind::Rerun);
        let made = Box::pin(self.early_work(source, backend)).await;
        let EarlyWork { mut request, mut learned, mut estimate, made_at } = match made {
            Ok(early) => early,
            Err(end) => return end,
        };
        let mut over_budget = Vec::new();
        loop {
            if request.built.backend != backend {
                (learned, estimate) = expectation(&services, &self.config, backend).await;
                let config = Arc::clone(&self.config);
                let (again, built) = blocking(move || {
                    let built = prepare::rebuild_for_backend(&config, backend, &request);
                    (request, built)
                })
                .await;
                request = again;
                match built {
                    Ok(built) => request.built = built,
                    Err(fault) => return unprepared(&fault),
                }
            } else if services.clock.now().moment.since(made_at) > ESTIMATE_MAX_AGE {
                (learned, estimate) = expectation(&services, &self.config, backend).await;
            }
            // If there is another backend, the budget is checked before the inputs are written.
            let Some(refusal) = self.budget_refusal(backend, &estimate).await else { break };
            let workflow = request.built.version;
            let outcome = AttemptOutcome::Refused;
            tried.push((PastAttempt { backend, workflow, outcome }, refusal.clone()));
            over_budget.push(backend);
            match routing::choose(&services, &self.config, &tried, person).await {
                Chosen::Use(other, reasons) => (backend, why) = (other, reasons),
                Chosen::Unroutable(_) => {
                    return not_started(CommandErrorKind::TryAgain, &refusal, Some(BUDGET_RETRY));
                }
            }
        }
        let status = &mut self.task.status;
        backend.name().clone_into(&mut status.backend);
        status.why = (!why.is_empty()).then_some(why);
        describe(status, &learned, &estimate);
        let spec = JobSpec {
            request,
            cause: self.cause,
            retry_of,
            stands_in_for,
            out: self.out,
            moves_baseline: self.own_inputs,
            may_be_cached,
        };
        let new = NewRun { task: self.task, learned, estimate, backend, over_budget };
        Box::pin(new.release(spec)).await
    }

    /// Does the early work, or takes the finished result of it.
    async fn early_work(
        &mut self,
        source: JobInput,
        backend: BackendKind,
    ) -> Result<EarlyWork, JobEnd> {
        let early = match source {
            JobInput::EarlyWork(ready, material) => match (ready.await, material) {
                // The early work may be much older than the job's turn: the disk may have room
                // by now.
                (Ok(Err(PrepareFault::Disk(_))), Some(material)) => {
                    prepare_early(&self.task.services, &self.config, backend, material, None).await
                }
                (Ok(early), _) => early,
                (Err(_), _) => {
                    return Err(not_started(
                        CommandErrorKind::TryAgain,
                        "the prepared request was lost; nothing was sent",
                        None,
                    ));
                }
            },
            JobInput::Snapshot(material) => {
                prepare_early(&self.task.services, &self.config, backend, material, None).await
            }
            JobInput::Repeat(again) => {
                // Its own inputs counted as processed when it was released; they may differ from
                // the project's by now.
                self.own_inputs = false;
                match rebuild_request(
                    &self.task.services,
                    &self.config,
                    backend,
                    self.task.project,
                    again,
                )
                .await
                {
                    Ok((row, early)) => {
                        self.copy_settings_from(&row, again);
                        if let Some(folder) = self.out.clone() {
                            self.takes_artifacts(folder)
                                .await
                                .map_err(|error| not_started(error.kind, &error.message, None))?;
                        }
                        Ok(early)
                    }
                    Err(error) => return Err(not_started(error.kind, &error.message, None)),
                }
            }
            JobInput::Requested(asked, config) => {
                let request = &asked.request;
                self.own_inputs = request.prompt.is_none() && request.render.is_none();
                match self.read_request(&asked, *config).await {
                    Ok(material) => {
                        let seed = asked.request.seed.map(SeedChoice::Fixed);
                        prepare_early(&self.task.services, &self.config, backend, material, seed)
                            .await
                    }
                    Err(error) => return Err(not_started(error.kind, &error.message, None)),
                }
            }
        };
        early.map_err(|fault| unprepared(&fault))
    }

    /// Returns why the budget has no room for a job on a backend, if another backend could run
    /// it instead.
    async fn budget_refusal(&self, backend: BackendKind, estimate: &Estimate) -> Option<String> {
        if !backend.is_paid() || self.config.order.len() < 2 {
            return None;
        }
        let (limits, windows) =
            (self.config.limits, budget_windows::windows(self.task.services.clock.now().wall));
        let (session, cost) = (self.task.services.session, estimate.cost);
        let spent =
            self.task.services.store.with(move |ledger| ledger.spent(session, &windows)).await;
        // A ledger that cannot be read refuses the release as well.
        budget::decide(&limits, &spent.ok()?, cost).err().map(|refusal| refusal.to_string())
    }

    /// Takes from the earlier job what its work does not contain: where the artifacts go, and who
    /// asked for it.
    fn copy_settings_from(&mut self, row: &JobRow, again: Repeat) {
        self.cause = cause(row, again);
        self.task.status.cause = self.cause;
        if let Some(folder) = row.out.as_ref().map(PathBuf::from) {
            self.task.targets = self.task.targets.within(&folder);
            self.out = Some(folder);
        }
    }

    async fn takes_artifacts(&self, folder: PathBuf) -> Result<(), CommandError> {
        let root = self.task.root.clone();
        blocking(move || takes_artifacts(&folder, &root)).await
    }

    /// Reads the inputs of a person's command: their own prompt and picture, or the project's.
    async fn read_request(
        &self,
        asked: &UserRequest,
        config: ProjectConfig,
    ) -> Result<SnapshotContent, CommandError> {
        let request = asked.request.clone();
        let ignore = self.config.ignore.clone();
        let silent = CommandError::new(
            CommandErrorKind::TryAgain,
            "the drive with the inputs does not answer; nothing was sent",
        );
        let read = blocking_within(ANSWER_TIMEOUT, move || {
            let bad = |kind, message: String| {
                CommandError::new(kind, format!("{message}; nothing was sent"))
            };
            let prompt_bytes = match request.prompt {
                Some(words) => words.into_bytes(),
                None => read_input_file(&config.prompt, prompt::READ_LIMIT as u64)?,
            };
            let prompt = prompt::read(&prompt_bytes, &ignore)
                .map_err(|refusal| bad(CommandErrorKind::BadInput, refusal.to_string()))?;
            let path = request.render.unwrap_or(config.render);
            let render = read_input_file(&path, crate::daemon::inputs::scan::MAX_RENDER)?;
            let facts = png::check(&render).map_err(|fault| {
                bad(
                    CommandErrorKind::BadInput,
                    format!("{} cannot be used: {fault}", path.display()),
                )
            })?;
            if let Ok(Some(_)) = picture::single_colour(&render) {
                let message =
                    format!("{} has a single colour: it is a placeholder", path.display());
                return Err(bad(CommandErrorKind::BadInput, message));
            }
            let inputs = Inputs { prompt: prompt.fingerprint, render: facts.fingerprint };
            Ok(SnapshotContent { inputs, prompt: prompt.text, render: render.into() })
        });
        read.await.unwrap_or(Err(silent))
    }
}

/// Returns the attempt of the job whose lost answer another job stands in for. Only RunComfy's
/// queue loses an answer that may have been charged: every other backend can be asked for the
/// request again.
fn lost_answer(config: &RuntimeConfig, lost: JobId) -> (PastAttempt, String) {
    let backend = BackendKind::Serverless;
    let workflow = config.workflows.at(backend).version();
    let attempt = PastAttempt { backend, workflow, outcome: AttemptOutcome::Unknown };
    (attempt, format!("the answer for job {lost} was lost"))
}

/// Checks that artifacts can be written to a folder named by a person. Creates the folder if it is
/// missing, but never the project's root or anything above it.
fn takes_artifacts(folder: &Path, root: &Path) -> Result<(), CommandError> {
    if folder.starts_with(root) && !root.is_dir() {
        let text =
            format!("the project's root {} does not exist; nothing was sent", root.display());
        return Err(CommandError::new(CommandErrorKind::CannotWrite, text));
    }
    if !folder.is_absolute() {
        let text = format!("{} is not an absolute path; nothing was sent", folder.display());
        return Err(CommandError::new(CommandErrorKind::Usage, text));
    }
    dirs::probe_write(folder).map_err(|error| {
        CommandError::new(CommandErrorKind::CannotWrite, format!("{error}; nothing was sent"))
    })
}

/// Reads a file named by a person, whole.
fn read_input_file(path: &Path, limit: u64) -> Result<Vec<u8>, CommandError> {
    match read::read_complete(path, limit) {
        Ok(ReadOutcome::Complete { bytes, .. }) => Ok(bytes),
        Ok(ReadOutcome::Changing) => Err(CommandError::new(
            CommandErrorKind::TryAgain,
            format!("{} is being written at this moment; nothing was sent", path.display()),
        )),
        Ok(ReadOutcome::Missing) => Err(CommandError::new(
            CommandErrorKind::MissingInput,
            format!("{} does not exist; nothing was sent", path.display()),
        )),
        Err(error) => {
            Err(CommandError::new(CommandErrorKind::BadInput, format!("{error}; nothing was sent")))
        }
    }
}

/// Converts a failed preparation into the job's end.
fn unprepared(fault: &PrepareFault) -> JobEnd {
    let retry = (fault.kind() == CommandErrorKind::TryAgain).then_some(START_RETRY);
    not_started(fault.kind(), &fault.to_string(), retry)
}

pub(crate) fn not_started(
    kind: CommandErrorKind,
    reason: &str,
    retry_after: Option<Duration>,
) -> JobEnd {
    JobEnd::NotStarted { kind, reason: reason.to_owned(), retry_after }
}
