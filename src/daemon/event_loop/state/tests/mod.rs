//! Checks what each event leads to, without a runtime; one file per topic.
//!
//! Owns the fixture: a state that serves projects in a temporary folder, and short names for
//! actions. Scans are carried out for real, because a scan is a plain function of files.

mod commands;
mod ending;
mod inputs;
mod jobs;
mod publishing;
mod reload;
mod resumptions;

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    super::{
        action::Action,
        event::{LoopEvent, TaskName, TaskOutcome},
        spawn_job::NewJobSource,
    },
    Beginning, DaemonState,
};
use crate::{
    config::{
        self, Loaded,
        settings::{Config, ProjectConfig},
        sources::Sources,
        values::folders::Folders,
    },
    daemon::{
        inputs::project_state::ProjectState,
        services::{
            command::{Command, CommandError, OnceRequest},
            messages::{JobEnd, JobReport},
            runtime_config::RuntimeConfig,
            tasks::Finished,
        },
    },
    domain::{
        engine::{
            Engine,
            event::{Baseline, JobStage, ProjectId},
        },
        job::{JobId, JobState},
        money::budget::Spent,
        status,
        time::{Moment, Now, WallTime},
    },
};

const FIRST: ProjectId = ProjectId(1);
const SECOND: ProjectId = ProjectId(2);

/// The answer to a request for a job.
type JobAnswer = oneshot::Receiver<Result<JobId, CommandError>>;

/// A daemon's state, the folder of its projects, and the time.
struct Fixture {
    folder: tempfile::TempDir,
    sources: Sources,
    loaded: Loaded,
    state: DaemonState,
    now: Now,
}

impl Fixture {
    /// Serves this number of projects: `p1`, `p2`, … Their inputs were scanned once.
    fn new(projects: i64) -> Self {
        Self::with(projects, |_| {})
    }

    /// Does the same with an adapted configuration.
    fn with(projects: i64, adapt: impl FnOnce(&mut Config)) -> Self {
        let mut fixture = Self::unscanned(projects, false, adapt);
        let actions = fixture.handle(LoopEvent::Timer);
        let others = fixture.scans(actions);
        assert!(labels(&others).iter().all(|label| label == "baseline"), "{:?}", labels(&others));
        fixture
    }

    /// Serves projects that were not scanned yet.
    fn unscanned(projects: i64, one_job: bool, adapt: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = folder.path().to_path_buf();
        let sources = Sources {
            folders: Folders { home: Some(home.clone()), current: home.clone() },
            default_state_dir: Some(home.join("state")),
            ..Sources::default()
        };
        let mut loaded = config::load(&sources).expect("the defaults are valid");
        loaded.config.projects =
            (1..=projects).map(|n| project(home.join(n.to_string()))).collect();
        loaded.default_project = false;
        adapt(&mut loaded.config);
        let config = RuntimeConfig::new(loaded.config.clone(), &sources).expect("it is valid");
        let now = Now {
            moment: Moment::from_millis(1_000_000),
            wall: WallTime::from_unix_millis(1_700_000_000_000),
        };
        let max_in_flight = usize::try_from(loaded.config.max_in_flight).expect("small");
        let beginning = Beginning {
            engine: Engine::new(config.trigger, max_in_flight, Vec::new()),
            config: Arc::new(config),
            daemon: status::Status::starting().daemon,
            spent: Spent::default(),
            log: None,
            one_job,
            random: || 7,
        };
        let mut state = DaemonState::new(beginning, now);
        for (project, number) in loaded.config.projects.iter().zip(1..) {
            std::fs::create_dir_all(&project.root).expect("a folder");
            std::fs::write(&project.prompt, "a chair").expect("a prompt");
            let picture = |x, _| image::Rgb([u8::try_from(x).expect("small"); 3]);
            image::RgbImage::from_fn(9, 9, picture).save(&project.render).expect("a render");
            state.engine.add(ProjectId(number), Baseline::default());
            let project = ProjectState::new(project.clone(), now.moment);
            state.projects.insert(ProjectId(number), project);
        }
        Self { folder, sources, loaded, state, now }
    }

    /// Handles an event. The publication of the status is left out.
    fn handle(&mut self, event: LoopEvent) -> Vec<Action> {
        let mut actions = self.state.handle(event, self.now);
        actions.retain(|action| !matches!(action, Action::PublishStatus));
        actions
    }

    fn report(&mut self, report: JobReport) -> Vec<Action> {
        self.handle(LoopEvent::Reported(report))
    }

    fn returned(&mut self, name: TaskName, outcome: TaskOutcome) -> Vec<Action> {
        self.handle(LoopEvent::TaskFinished(Finished::Returned(name, outcome)))
    }

    fn panicked(&mut self, name: TaskName) -> Vec<Action> {
        self.handle(LoopEvent::TaskFinished(Finished::Panicked(name, "a bug".to_owned())))
    }

    fn pass(&mut self, span: Duration) {
        self.now.moment = self.now.moment.plus(span);
        self.now.wall = self.now.wall.plus(span);
    }

    /// Carries out the scans among `actions`. Returns all other actions, with those that the scans
    /// led to.
    fn scans(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let (mut others, mut rest) = (Vec::new(), VecDeque::from(actions));
        while let Some(action) = rest.pop_front() {
            if let Action::Scan { project, mut reader, ignore } = action {
                let scan = reader.scan(&ignore, self.now.moment);
                let outcome = TaskOutcome::Scanned(Box::new((*reader, scan)), Vec::new(), true);
                rest.extend(self.returned(TaskName::Scan(project), outcome));
            } else {
                others.push(action);
            }
        }
        others
    }

    /// Writes another prompt and lets its window close. Returns what that leads to.
    fn change_prompt(&mut self, project: ProjectId, text: &str) -> Vec<Action> {
        let path = self.state.projects[&project].config().prompt.clone();
        std::fs::write(path, text).expect("a prompt");
        self.pass(Duration::from_millis(20));
        let woken = self.handle(LoopEvent::Woken { projects: vec![project], config: false });
        let mut actions = self.scans(woken);
        self.pass(Duration::from_millis(400));
        actions.extend(self.handle(LoopEvent::Timer));
        actions
    }

    /// Requests a job of a project.
    fn request(&mut self, project: ProjectId) -> (Vec<Action>, JobAnswer) {
        let name = self.state.projects[&project].config().name.clone();
        let request = OnceRequest { project: Some(name), ..OnceRequest::default() };
        let (reply, answer) = oneshot::channel();
        (self.handle(LoopEvent::Commanded(Command::Once { request, reply })), answer)
    }

    /// Starts a job of a project by a request, and returns its id.
    fn start(&mut self, project: ProjectId) -> JobId {
        let (actions, _) = self.request(project);
        assert_eq!(labels(&actions), ["start, as requested"]);
        self.state.projects[&project].job_id().expect("it is active")
    }

    /// Lets the job of a project reach a stage.
    fn stage(&mut self, project: ProjectId, stage: JobStage) {
        let actions = self.report(JobReport::StageChanged { project, stage });
        assert_eq!(labels(&actions), [""; 0]);
    }

    /// Ends the active job of a project.
    fn end_job(&mut self, project: ProjectId, end: JobEnd) -> Vec<Action> {
        let job = self.state.projects[&project].job_id().expect("it is active");
        self.returned(TaskName::Job(project, job), TaskOutcome::Job(end))
    }

    /// Serves the same projects under a new configuration.
    fn reloaded(&self, adapt: impl FnOnce(&mut Config)) -> (Loaded, RuntimeConfig) {
        let mut loaded = self.loaded.clone();
        adapt(&mut loaded.config);
        let config = RuntimeConfig::new(loaded.config.clone(), &self.sources).expect("it is valid");
        (loaded, config)
    }
}

fn project(root: PathBuf) -> ProjectConfig {
    let name = root.file_name().expect("a name").to_string_lossy();
    ProjectConfig {
        name: format!("p{name}"),
        prompt: root.join("prompt.txt"),
        render: root.join("render.png"),
        image: vec![root.join("flux.png")],
        mesh: vec![root.join("result.glb")],
        root,
    }
}

const fn ended(state: JobState) -> JobEnd {
    JobEnd::Ended { state, placed: matches!(state, JobState::Done) }
}

/// Returns what a test compares of actions.
fn labels(actions: &[Action]) -> Vec<String> {
    actions.iter().map(label).collect()
}

fn label(action: &Action) -> String {
    match action {
        Action::PrepareEarly { .. } => "prepare".to_owned(),
        Action::StartJob { source, .. } => match source {
            NewJobSource::EarlyWork(_) => "start from early work".to_owned(),
            NewJobSource::Snapshot(_) => "start".to_owned(),
            NewJobSource::Requested(..) => "start, as requested".to_owned(),
        },
        Action::ResumeJob(job) => format!("resume {:?}", job.row.state),
        Action::EndUnstarted { .. } => "end unstarted".to_owned(),
        Action::ControlJob { control, .. } => format!("control {control:?}"),
        Action::AnswerJob { answer: Some(Ok(_)), .. } => "answer".to_owned(),
        Action::AnswerJob { answer: Some(Err(error)), .. } => format!("answer {:?}", error.kind),
        Action::AnswerJob { answer: None, .. } => "drop the caller".to_owned(),
        Action::ReadPanicked { .. } => "read panicked".to_owned(),
        Action::RecordPanic { .. } => "record the panic".to_owned(),
        Action::RecordReplaced { .. } => "record replaced".to_owned(),
        Action::SetBaseline { .. } => "baseline".to_owned(),
        Action::RecordResubmit { kind, .. } => format!("record {kind:?}"),
        Action::LogResubmit { .. } => "log the resubmit".to_owned(),
        Action::Refresh { .. } => "refresh".to_owned(),
        Action::Prune(_) => "prune".to_owned(),
        Action::Cancel { active, .. } => format!("cancel, active: {active}"),
        Action::Restore { .. } => "restore".to_owned(),
        Action::Rate { .. } => "rate".to_owned(),
        Action::ReplyJob { answer: Err(error), .. }
        | Action::ReplyText { answer: Err(error), .. } => {
            format!("reply {:?}", error.kind)
        }
        Action::ReplyJob { .. } | Action::ReplyText { .. } => "reply".to_owned(),
        Action::Scan { project, .. } => format!("scan {}", project.0),
        Action::ForgetWake { .. } => "forget the wake".to_owned(),
        Action::CheckHands { .. } => "check hands".to_owned(),
        Action::CheckWatches(check) => format!("check watches, all: {}", check.all),
        Action::CheckLock { .. } => "check the lock".to_owned(),
        Action::BuildWatcher(_) => "build a watcher".to_owned(),
        Action::UseWatcher(_) => "use the watcher".to_owned(),
        Action::DropWatcher => "drop the watcher".to_owned(),
        Action::AwaitDrive { .. } => "await the drive".to_owned(),
        Action::AwaitProject { .. } => "await the project".to_owned(),
        Action::KeepLock { .. } => "keep the lock".to_owned(),
        Action::ReleaseLock { .. } => "release the lock".to_owned(),
        Action::ReleaseProject(_) => "release the project".to_owned(),
        Action::Reload { replies, .. } => format!("reload for {}", replies.len()),
        Action::Configure(_) => "configure".to_owned(),
        Action::FetchFacts => "fetch facts".to_owned(),
        Action::PublishStatus => "publish".to_owned(),
        Action::NotifyManager(notice) => format!("notify {notice:?}"),
        Action::CloseServers => "close the servers".to_owned(),
        Action::End(end) => format!("end {end:?}"),
    }
}
