//! What the event loop does after an event, as values.
//!
//! Owns the list. [`super::state`] decides on actions, [`super::performer`] carries them out, in
//! their order. An action carries everything that it needs, so that a test can read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::oneshot;

use super::{
    event::{DaemonEnd, Replies},
    spawn_job::{NewJob, NewJobSource, ResumedJob},
    tasks::{
        projects::{LockedProject, TakenProject},
        watching::WatchRequest,
    },
};
use crate::{
    config::settings::ProjectConfig,
    daemon::{
        inputs::{
            prepare::SnapshotContent,
            scan::{InputReader, StampCheck},
        },
        services::{
            command::{CommandError, RatingRequest, RepeatKind, Reply, Restored},
            errors::StartError,
            messages::{Control, JobEnd},
            runtime_config::RuntimeConfig,
            store::PendingWork,
        },
    },
    disk::{history::RetentionLimits, lock::project_lock::ProjectLock, watch::Watcher},
    domain::{
        engine::event::ProjectId,
        fingerprint::Fingerprint,
        inputs::prompt::IgnorePatterns,
        job::{JobId, placement::Targets},
        time::Moment,
    },
    ledger::rows::Reason,
};

/// One thing to do.
pub(crate) enum Action {
    // Jobs.
    /// Do what can be done before a debounce window closes.
    PrepareEarly { project: ProjectId, content: SnapshotContent },
    /// Start a job's task.
    StartJob { job: Box<NewJob>, source: NewJobSource },
    /// Start a task for a job of an earlier session, or after a panic.
    ResumeJob(Box<ResumedJob>),
    /// Let the task of a job that cannot start end at once.
    EndUnstarted { project: ProjectId, job: JobId, end: JobEnd },
    /// Tell a job's task what is wanted of it.
    ControlJob { job: JobId, control: Control },
    /// Answer the caller that waits for a job to be in the ledger, if there is one. `None` drops
    /// the caller without an answer.
    AnswerJob { job: JobId, answer: Option<Result<JobId, CommandError>> },
    /// Ask the ledger about a job whose task panicked with this message.
    ReadPanicked { project: ProjectId, job: JobId, message: String },

    // The ledger and the history.
    /// Record that a job failed because of a panic.
    RecordPanic { job: JobId, reason: Reason },
    /// Record that a prepared job was replaced before it was sent.
    RecordReplaced { job: JobId },
    /// Record the baseline for the next start.
    SetBaseline { project: ProjectId, prompt: Option<Fingerprint>, render: Option<Fingerprint> },
    /// Record that a lost answer is sent again.
    RecordResubmit { job: JobId, kind: RepeatKind, message: &'static str },
    /// Log it if a job that is sent again is refused.
    LogResubmit { job: JobId, answer: oneshot::Receiver<Result<JobId, CommandError>> },
    /// Read what `status` shows of past jobs and of money.
    Refresh { project: ProjectId },
    /// Prune the history to these limits.
    Prune(RetentionLimits),

    // Commands.
    /// Record a person's cancel. `active` says whether the job has a task.
    Cancel { job: JobId, active: bool, reply: Reply<String> },
    /// Place an earlier job's artifacts again.
    Restore { job: JobId, places: BTreeMap<ProjectId, (PathBuf, Targets)>, reply: Reply<Restored> },
    /// Record a rating.
    Rate { job: JobId, rate: RatingRequest, reply: Reply<String> },
    /// Answer a request for a job.
    ReplyJob { reply: Reply<JobId>, answer: Result<JobId, CommandError> },
    /// Answer a command.
    ReplyText { reply: Reply<String>, answer: Result<String, CommandError> },

    // Inputs.
    /// Scan a project's inputs.
    Scan { project: ProjectId, reader: Box<InputReader>, ignore: Arc<IgnorePatterns> },
    /// Forget that a project was reported: its next file event counts again.
    ForgetWake { project: ProjectId },
    /// Check for hands in the picture of the project with this root.
    CheckHands { project: ProjectId, root: PathBuf },
    /// Check the watches, the disk and the locks.
    CheckWatches(Box<WatchesToCheck>),
    /// Check whether a project's lock is ours.
    CheckLock { project: ProjectId },
    /// Build a watcher.
    BuildWatcher(Box<WatchRequest>),
    /// Watch with this one from now on.
    UseWatcher(Box<Watcher>),
    /// Watch no more.
    DropWatcher,
    /// Wait until a drive answers.
    AwaitDrive { project: ProjectId, late: PendingWork<()> },

    // Projects.
    /// Finish taking over a project when its drive answers.
    AwaitProject {
        project: Box<ProjectConfig>,
        late: PendingWork<Result<LockedProject, StartError>>,
    },
    /// Keep the lock of a project that is served from now on.
    KeepLock { project: ProjectId, lock: Box<ProjectLock> },
    /// Release the lock of a project that is no longer served.
    ReleaseLock { project: ProjectId },
    /// Release a project that was taken over and is not wanted.
    ReleaseProject(Box<TakenProject>),

    // The configuration.
    /// Read the configuration, and take over its projects that are not in `known_roots`.
    Reload { known_roots: BTreeSet<PathBuf>, replies: Replies },
    /// Publish a new configuration to all tasks.
    Configure(Arc<RuntimeConfig>),
    /// Ask the deployment for its facts.
    FetchFacts,

    // The daemon.
    /// Publish the status.
    PublishStatus,
    /// Notify the service manager.
    NotifyManager(ManagerNotice),
    /// End the task that manages rented machines.
    CloseServers,
    /// End the loop.
    End(DaemonEnd),
}

/// What a check of the watches is about.
#[derive(Debug)]
pub(crate) struct WatchesToCheck {
    /// The number of the watcher.
    pub(crate) generation: u64,
    /// Whether everything is checked, and not only what is polled.
    pub(crate) all: bool,
    /// Projects to compare with the disk.
    pub(crate) stamp_checks: Vec<(ProjectId, StampCheck)>,
    /// Projects whose locks are checked.
    pub(crate) locks: Vec<ProjectId>,
    pub(crate) now: Moment,
}

/// What the service manager hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ManagerNotice {
    Reloading,
    Reloaded,
    Stopping,
}
