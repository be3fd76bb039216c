//! The messages between the engine and the daemon: events, effects, and why a job does not start.

use crate::{
    fingerprint::Fingerprint,
    inputs::{debounce::InputState, trigger::WaitReason},
    job::{Cause, Inputs},
    time::Moment,
};

/// Identifies a project by its row in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId(pub i64);

/// Identifies a manual job request, which the daemon keeps under this number until its turn comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestTicket(pub u64);

/// What the ledger knows about a project when the daemon starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// Whether the ledger has seen the project before.
    pub known: bool,
    /// The prompt of the last job, or of the first start.
    pub prompt: Option<Fingerprint>,
    /// The render of the last job, or of the first start.
    pub render: Option<Fingerprint>,
}

/// The progress of an active job, as far as decisions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStage {
    /// Not sent yet: the job is being prepared or waits for a retry.
    Waiting,
    /// The request may be on its way.
    Submitting,
    /// The request waits in the backend's queue.
    Queued,
    /// The backend is executing the job.
    Running,
    /// The paid work is over. Artifacts are being downloaded, checked and placed.
    Placing,
    /// Everything is placed and the handoff to CONJURE is in progress. A newer snapshot does not
    /// wait for it: a request that CONJURE already has stays valid.
    HandingOver,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An input may have changed. A scan is on its way, and no job is released before its result.
    Touched {
        /// The project.
        project: ProjectId,
    },
    /// A scan of a project's inputs has finished.
    Scanned {
        /// The project.
        project: ProjectId,
        /// The state of the prompt.
        prompt: InputState,
        /// The state of the render.
        render: InputState,
    },
    /// A manual job was made from the project's own inputs.
    InputsTaken {
        /// The project.
        project: ProjectId,
        /// The inputs that it used.
        inputs: Inputs,
    },
    /// A person requested a job now.
    Requested {
        /// The project.
        project: ProjectId,
        /// The number of the request.
        ticket: RequestTicket,
    },
    /// A job that was active when the daemon stopped continues.
    Resumed {
        /// The project.
        project: ProjectId,
        /// Its current stage.
        stage: JobStage,
    },
    /// A job reached another stage.
    StageChanged {
        /// The project.
        project: ProjectId,
        /// The new stage.
        stage: JobStage,
    },
    /// A job ended, with any outcome.
    Ended {
        /// The project.
        project: ProjectId,
        /// Whether its artifacts are now visible to the artist.
        placed: bool,
    },
    /// A person restored an earlier job's artifacts.
    Restored {
        /// The project.
        project: ProjectId,
    },
    /// Our own mesh is in CONJURE's scene, or may appear there at any moment: the next renders
    /// change because of it.
    Imported {
        /// The project.
        project: ProjectId,
    },
    /// The answer to [`Effect::CheckHands`].
    HandsChecked {
        /// The project.
        project: ProjectId,
        /// Whether a hand is in the picture.
        tracked: bool,
    },
    /// A job could not be started (no budget, bad binding). Its change stays pending.
    NotStarted {
        /// The project.
        project: ProjectId,
        /// When the start may be retried automatically; `None` = when the inputs or the
        /// configuration change.
        retry_at: Option<Moment>,
        /// The reason, for people.
        reason: String,
    },
    /// A deadline may have passed.
    Tick,
    /// No new jobs may start from now on.
    Stopping,
}

/// What a job is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobSource {
    /// The project's newest complete snapshot.
    Snapshot(Inputs),
    /// A manual request.
    Requested(RequestTicket),
}

/// What the daemon must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A debounce window is open for this snapshot: do all work that can be done early.
    Prepare {
        /// The project.
        project: ProjectId,
        /// The snapshot.
        inputs: Inputs,
    },
    /// Start a job.
    Start {
        /// The project.
        project: ProjectId,
        /// What to make it from.
        work: JobSource,
        /// What caused it.
        cause: Cause,
    },
    /// A newer snapshot supersedes the active job: cancel it, or, if only the handoff is left,
    /// abandon that.
    Supersede {
        /// The project.
        project: ProjectId,
    },
    /// A job caused by the render alone is due: report whether hands are in the
    /// picture ([`Event::HandsChecked`]).
    CheckHands {
        /// The project.
        project: ProjectId,
    },
    /// Store these as the baseline.
    SetBaseline {
        /// The project.
        project: ProjectId,
        /// The prompt's fingerprint.
        prompt: Option<Fingerprint>,
        /// The render's fingerprint.
        render: Option<Fingerprint>,
    },
}

/// Why a project's next job does not start, as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// A trigger rule.
    Trigger(WaitReason),
    /// Hands are in the picture, and only the render changed.
    HandsInPicture,
    /// A job of this project is active; the newest snapshot is next.
    JobRunning,
    /// A job of this project is being cancelled in favour of a newer snapshot.
    Superseding,
    /// Other projects use every paid slot.
    NoFreeSlot,
    /// `max_jobs_per_hour` is reached until that moment.
    HourlyLimit(Moment),
    /// The job could not be started, for this reason.
    NotStarted(String),
    /// The daemon is stopping.
    Stopping,
}
