//! What a job's task and the loop tell each other: where it begins, what is wanted of it, what happens, how it ends.
//!
//! Owns plain values; who sends them when is the road's and the loop's matter.

use std::time::Duration;

use tokio::sync::watch;

use crate::{
    daemon::services::{command::RefusedKind, root_locks::Standing},
    domain::{
        engine::event::{ProjectId, Stage},
        job::{Inputs, JobId, State},
        money::MicroUsd,
        status,
    },
};

/// What a job's task tells the loop while it works.
#[derive(Debug)]
pub(crate) enum Report {
    /// The job is in the ledger and on its road.
    Started {
        /// Whose.
        project: ProjectId,
        /// Which.
        job: JobId,
        /// The project's own inputs, if it is made of them.
        inputs: Option<Inputs>,
    },
    /// It moved, as far as decisions need it.
    Moved {
        /// Whose.
        project: ProjectId,
        /// Where to.
        stage: Stage,
    },
    /// Our mesh is in CONJURE's scene, or may be at any moment.
    Imported {
        /// Whose.
        project: ProjectId,
    },
    /// Whether the project is this daemon's, as was found right before a release.
    Standing {
        /// Whose.
        project: ProjectId,
        /// How.
        standing: Standing,
    },
    /// What `status` shows of it.
    Shown {
        /// Whose.
        project: ProjectId,
        /// All of it.
        job: Box<status::Job>,
    },
    /// Something a person should know beyond this job.
    Warning(String),
    /// Something that happened waits to be written down, or has been.
    Unwritten {
        /// What; the same words come when it is over.
        what: &'static str,
        /// Why, for people; `None` when it is written.
        trouble: Option<String>,
    },
    /// The deployment told about itself; these are the warnings that follow.
    Facts(Vec<String>),
    /// The service refuses the token: there may be another one in its place by now.
    TokenRefused,
    /// The account's balance.
    Balance(MicroUsd),
    /// What `status` shows of the rented machines.
    Machines(Vec<status::Machine>),
    /// What machines cost has changed.
    MachineMoney,
}

/// What the loop wants of a job's task, in the order of what it weighs: a wish is only ever raised, so that a newer
/// snapshot cannot take back a person's cancel ([`Wish::raise`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    /// Go on.
    Go,
    /// Make room for a newer snapshot.
    Replace,
    /// A person wants it to end.
    Cancel,
    /// The daemon stops: leave remote work alone, it goes on at the next start.
    Stop,
}

impl Wish {
    /// Wants this of a task, unless something that weighs more is wanted of it already.
    pub(crate) fn raise(self, of: &watch::Sender<Self>) {
        of.send_if_modified(|wanted| {
            let is_more = self > *wanted;
            if is_more {
                *wanted = self;
            }
            is_more
        });
    }
}

/// How a job's task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// It never left and is not in the ledger: its change stays pending.
    NotStarted {
        /// What kind of reason it is.
        kind: RefusedKind,
        /// The reason, for people.
        reason: String,
        /// After which wait it may be tried again by itself.
        retry_after: Option<Duration>,
    },
    /// It reached a final state.
    Ended {
        /// Which.
        state: State,
        /// Whether its artifacts are in front of the artist.
        placed: bool,
    },
    /// The daemon stops; the ledger says where the next session goes on.
    Stopped,
    /// The ledger refused a step. The task itself takes the job up again from what the ledger says, so the loop never
    /// sees this end.
    Interrupted {
        /// Which step, and why, for people.
        reason: String,
    },
}
