//! The words between the engine and the daemon: what happened, what to do, and why nothing is done.

use crate::{
    fingerprint::Fingerprint,
    inputs::{debounce::Sight, trigger::Wait},
    job::{Cause, Inputs},
    time::Moment,
};

/// A project's number: its row in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId(pub i64);

/// A person's request for a job, kept by the daemon under this number until its turn comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the ledger remembers of a project when the daemon starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Whether the ledger has seen the project before.
    pub known: bool,
    /// The prompt of the last job, or of the first start.
    pub prompt: Option<Fingerprint>,
    /// The render of the last job, or of the first start.
    pub render: Option<Fingerprint>,
}

/// What a job at work is doing, as far as decisions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not been sent: it is being prepared, or waits to be tried again.
    Waiting,
    /// Its request may be on its way.
    Submitting,
    /// It waits in the backend's queue.
    Queued,
    /// The backend is at work.
    Running,
    /// The paid work is over; artifacts are being fetched, checked and placed.
    Placing,
    /// Everything is placed, and CONJURE is being told. A newer snapshot does not wait for that: what was asked stays asked.
    HandingOver,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An input may have changed: a look is on its way, and nothing is released before it.
    Stirred {
        /// Whose.
        project: ProjectId,
    },
    /// A look at a project's inputs.
    Seen {
        /// Whose.
        project: ProjectId,
        /// The prompt.
        prompt: Sight,
        /// The render.
        render: Sight,
    },
    /// A job that a person asked for has taken the project's own inputs along.
    Took {
        /// Whose.
        project: ProjectId,
        /// Which.
        inputs: Inputs,
    },
    /// A person wants a job at once.
    Asked {
        /// For which project.
        project: ProjectId,
        /// The request's number.
        ticket: Ticket,
    },
    /// A job that was at work when the daemon stopped goes on.
    Resumed {
        /// Whose.
        project: ProjectId,
        /// Where it is.
        stage: Stage,
    },
    /// A job moved on.
    Moved {
        /// Whose.
        project: ProjectId,
        /// Where to.
        stage: Stage,
    },
    /// A job ended, however it did.
    Ended {
        /// Whose.
        project: ProjectId,
        /// Whether its artifacts are in front of the artist now.
        placed: bool,
    },
    /// A person has put an earlier job's artifacts in front of the artist again.
    Restored {
        /// Whose.
        project: ProjectId,
    },
    /// Our own mesh is in CONJURE's scene, or will be at any moment: what the next renders show is our own doing.
    Imported {
        /// Whose.
        project: ProjectId,
    },
    /// The answer to [`Effect::LookAtHands`].
    Hands {
        /// Whose.
        project: ProjectId,
        /// Whether a hand is in the picture.
        tracked: bool,
    },
    /// A job could not be started (no budget, bad binding): its change stays pending.
    NotStarted {
        /// Whose.
        project: ProjectId,
        /// When it may be tried again by itself; `None` = when the inputs or the configuration change.
        retry_at: Option<Moment>,
        /// Why, for people.
        reason: String,
    },
    /// A deadline may have passed.
    Tick,
    /// No new jobs from now on.
    Stopping,
}

/// What a job is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The project's newest whole snapshot.
    Snapshot(Inputs),
    /// What a person asked for.
    Asked(Ticket),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A window is open over this snapshot: do everything that can be done early.
    Prepare {
        /// For which project.
        project: ProjectId,
        /// The snapshot.
        inputs: Inputs,
    },
    /// Start a job.
    Start {
        /// For which project.
        project: ProjectId,
        /// Of what.
        work: Work,
        /// Why.
        cause: Cause,
    },
    /// The job at work makes room for a newer snapshot: it is cancelled, or, when only the handover is left, lets go of that.
    Replace {
        /// Whose.
        project: ProjectId,
    },
    /// A job that only a render started is due: tell whether hands are in the picture ([`Event::Hands`]).
    LookAtHands {
        /// Whose.
        project: ProjectId,
    },
    /// Remember these as the baseline.
    Rebase {
        /// Whose.
        project: ProjectId,
        /// The prompt's.
        prompt: Option<Fingerprint>,
        /// The render's.
        render: Option<Fingerprint>,
    },
}

/// Why a project's next job does not start; what `status` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A rule of the trigger.
    Trigger(Wait),
    /// Hands are in the picture, and only the render changed.
    Hands,
    /// A job of this project is at work; the newest snapshot goes next.
    JobAtWork,
    /// A job of this project is being cancelled to make room.
    Replacing,
    /// Other projects use every paid slot.
    SlotsTaken,
    /// `max_jobs_per_hour` is reached until then.
    HourlyLimit(Moment),
    /// It could not be started, for this reason.
    NotStarted(String),
    /// The daemon is stopping.
    Stopping,
}
