//! Decides the next step of a handoff from the current `state.json`: a small state machine with
//! virtual time.
//!
//! Owns the order of a handoff and its limits. It has two steps. First, path, threshold and a
//! *staged* marker are written without a command, and must still be there after a moment; then the
//! command is added. There are two reasons for the first step: Blender's operator reads the file a
//! second time, so a stale snapshot written in between would make it import the mesh *before* ours;
//! and the server on CONJURE's port may belong to another checkout, which shows when the staged
//! marker does not appear in our file.
//!
//! Limit: a launcher that read the file before Blender's write-back and writes it afterwards (a
//! window of about a millisecond, a few times in half a minute) restores a command that was already
//! taken, whoever gave it.

use std::{fmt, time::Duration};

use super::{COMMAND, ConjureState, HandoffTicket, job_of_copy};
use crate::time::Moment;

/// Which channels to CONJURE are allowed, and the time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandoffRules {
    /// Ask even if the state shows no running launcher: a person chose the channel
    /// (`state`, `api`).
    pub force: bool,
    /// Use its HTTP API, before the file.
    pub api: bool,
    /// Write the file.
    pub file: bool,
    /// How long to wait for CONJURE while it is away or busy, and how long a request may stay
    /// untaken. A job must not block the next one, and a request that was made stays valid.
    pub patience: Duration,
    /// How long the staged members must have been stable. CONJURE's own read-modify-write takes
    /// about a millisecond.
    pub staging_time: Duration,
    /// How long a request that an API accepted may take to appear in the file.
    pub api_lag: Duration,
    /// How long our marker must be missing before a new request: Blender may be importing right
    /// now, and restores the marker when it is done (a mesh of 20 MB takes it a few seconds).
    pub missing_for: Duration,
    /// The maximum number of requests for the same mesh.
    pub max_requests: u32,
    /// How long an older job's request may stay untaken before ours replaces it.
    pub replace_older_after: Duration,
}

impl Default for HandoffRules {
    fn default() -> Self {
        Self {
            force: false,
            api: true,
            file: true,
            patience: Duration::from_secs(60),
            staging_time: Duration::from_millis(120),
            api_lag: Duration::from_millis(500),
            missing_for: Duration::from_secs(4),
            max_requests: 5,
            replace_older_after: Duration::from_secs(5),
        }
    }
}

/// The result of reading the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateRead {
    /// The file does not exist.
    Missing,
    /// The file is not a valid state now, for this reason. Nothing may be written.
    Unreadable(String),
    /// The parsed state.
    State(ConjureState),
}

/// A channel to CONJURE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoffChannel {
    /// CONJURE's HTTP API.
    Api,
    /// Its state file.
    File,
}

/// What the handoff waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandoffWait {
    /// There is no state file.
    NoState,
    /// A launcher is about to reset the file.
    Starting,
    /// No launcher reports that it is running.
    NotRunning,
    /// The file cannot be used, for this reason.
    Unreadable(String),
    /// CONJURE has another command.
    Busy(String),
    /// Staged, and almost ready for the command.
    Settling,
    /// Requested, but not taken yet.
    Untaken,
    /// Our request is no longer in the file.
    Overwritten,
    /// No channel is left, for this reason.
    Unreachable(String),
}

impl fmt::Display for HandoffWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoState | Self::NotRunning => f.write_str("CONJURE is not running"),
            Self::Starting => f.write_str("CONJURE is still starting"),
            Self::Unreadable(reason) => {
                write!(f, "CONJURE's state.json cannot be used at the moment: {reason}")
            }
            Self::Busy(command) => write!(f, "CONJURE is busy with `{}`", short(command)),
            Self::Settling => f.write_str("the mesh is being handed over to CONJURE"),
            Self::Untaken => f.write_str(
                "Blender is not running CONJURE yet, or is busy; it imports the mesh as soon as it can",
            ),
            Self::Overwritten => {
                f.write_str("the request to import was overwritten by something else in CONJURE")
            }
            Self::Unreachable(reason) => write!(f, "CONJURE cannot be reached: {reason}"),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandoffStep {
    /// Read the file again after this time.
    Wait(Duration, HandoffWait),
    /// Write path, threshold and the staged marker, without a command.
    Stage(HandoffChannel),
    /// Write the command and the marker.
    Request(HandoffChannel),
    /// Blender has taken it.
    Taken,
    /// Stop waiting. If `asked`, the request stays in the file and is taken when Blender polls it.
    GiveUp {
        /// What it waited for.
        waiting: HandoffWait,
        /// Whether CONJURE still has our request.
        requested: bool,
    },
}

/// The handoff of one mesh to CONJURE.
#[derive(Clone, Debug)]
pub struct HandoffFlow {
    rules: HandoffRules,
    ticket: HandoffTicket,
    began_at: Option<Moment>,
    /// When the staged marker was first observed.
    staged_at: Option<Moment>,
    /// When this session made its request.
    requested_at: Option<Moment>,
    /// Since when our request is missing from the file.
    missing_since: Option<Moment>,
    /// Since when an older job's request is in the file.
    older_since: Option<Moment>,
    /// When the API was asked to stage.
    api_called_at: Option<Moment>,
    /// Whether a request to the API got no answer: it may still be carried out.
    in_doubt: bool,
    requests: u32,
    stages: u32,
    /// Why a channel is no longer used.
    api_closed: Option<String>,
}

/// The owner and stage of the request in the file.
enum RequestOwner {
    Taken,
    Pending,
    Staged,
    Busy(String),
    Older,
    Free,
}

impl HandoffFlow {
    /// Starts a handoff, or continues one of an earlier session: the file shows which.
    pub const fn new(rules: HandoffRules, ticket: HandoffTicket) -> Self {
        Self {
            rules,
            ticket,
            began_at: None,
            staged_at: None,
            requested_at: None,
            missing_since: None,
            older_since: None,
            api_called_at: None,
            in_doubt: false,
            requests: 0,
            stages: 0,
            api_closed: None,
        }
    }

    /// Returns the request's path and markers.
    pub const fn ticket(&self) -> &HandoffTicket {
        &self.ticket
    }

    /// Evaluates the state of the file and returns the next step.
    pub fn next(&mut self, now: Moment, look: &StateRead) -> HandoffStep {
        self.began_at.get_or_insert(now);
        let state = match look {
            StateRead::Missing if self.rules.force => return self.wait(now, HandoffWait::NoState),
            StateRead::Missing => return give_up(HandoffWait::NoState, false),
            StateRead::Unreadable(why) => {
                return self.wait(now, HandoffWait::Unreadable(why.clone()));
            }
            StateRead::State(state) => state,
        };
        let place = self.owner(state);
        if !matches!(place, RequestOwner::Older) {
            self.older_since = None;
        }
        if !matches!(place, RequestOwner::Staged) {
            self.staged_at = None;
        }
        match place {
            RequestOwner::Taken => return HandoffStep::Taken,
            RequestOwner::Pending => {
                self.requested_at.get_or_insert(now);
                (self.missing_since, self.in_doubt) = (None, false);
                return self.wait(now, HandoffWait::Untaken);
            }
            RequestOwner::Busy(command) => return self.wait(now, HandoffWait::Busy(command)),
            RequestOwner::Older => {
                let since = *self.older_since.get_or_insert(now);
                if now.since(since) < self.rules.replace_older_after {
                    return self
                        .wait(now, HandoffWait::Busy("an older mesh of conjured".to_owned()));
                }
            }
            RequestOwner::Staged | RequestOwner::Free => {}
        }
        if !self.rules.force && !state.is_running() {
            return if state.is_starting() {
                self.wait(now, HandoffWait::Starting)
            } else {
                give_up(HandoffWait::NotRunning, false)
            };
        }
        if self.in_doubt {
            // If the late request is still carried out, it meets another path and another marker,
            // and its own copy is gone.
            self.in_doubt = false;
            self.requested_at = None;
            self.ticket.sequence += 1;
            return self.stage(now);
        }
        if self.requested_at.is_some() {
            let since = *self.missing_since.get_or_insert(now);
            if now.since(since) < self.rules.missing_for {
                return self.wait(now, HandoffWait::Overwritten);
            }
        }
        match place {
            RequestOwner::Older | RequestOwner::Staged
                if self.requests >= self.rules.max_requests =>
            {
                give_up(HandoffWait::Overwritten, false)
            }
            RequestOwner::Older => self.request(now),
            RequestOwner::Staged => {
                // The staged marker has reached our file.
                self.api_called_at = None;
                let since = *self.staged_at.get_or_insert(now);
                let stood = now.since(since);
                if stood < self.rules.staging_time {
                    let rest = self.rules.staging_time.saturating_sub(stood);
                    return HandoffStep::Wait(rest, HandoffWait::Settling);
                }
                self.request(now)
            }
            _ => self.stage(now),
        }
    }

    fn owner(&mut self, state: &ConjureState) -> RequestOwner {
        if state.command_misplaced {
            return RequestOwner::Busy(format!("{COMMAND} (outside of `command`)"));
        }
        let path = state.mesh_path.as_deref();
        let mark = state.marker.as_deref().and_then(|mark| self.ticket.read(mark));
        // A marker alone proves nothing: a request for another mesh leaves it unchanged.
        let mine = mark.filter(|(turn, _)| {
            *turn >= self.ticket.sequence && path == Some(self.ticket.path_of(*turn).as_str())
        });
        if let Some((turn, _)) = mine {
            self.ticket.sequence = turn;
        }
        match (state.command.as_deref(), mine) {
            (Some(COMMAND), Some(_)) => RequestOwner::Pending,
            (None, Some((_, false))) => RequestOwner::Taken,
            (None, Some((_, true))) => RequestOwner::Staged,
            (None, None) => RequestOwner::Free,
            (Some(COMMAND), None) if path.is_some_and(|path| self.is_older(path)) => {
                RequestOwner::Older
            }
            (Some(command), _) => RequestOwner::Busy(command.to_owned()),
        }
    }

    /// Returns whether a path is the copy of another job in our folder.
    fn is_older(&self, path: &str) -> bool {
        let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
        let ours = path.len() > name.len() && path.starts_with(&self.ticket.folder);
        ours && job_of_copy(name).is_some_and(|job| job != self.ticket.job)
    }

    fn stage(&mut self, now: Moment) -> HandoffStep {
        if let Some(told) = self.api_called_at {
            if now.since(told) < self.rules.api_lag {
                return HandoffStep::Wait(Duration::from_millis(20), HandoffWait::Settling);
            }
            let why = "its API answers for another checkout, or lost the request";
            self.disable_api(why);
        }
        if self.stages >= self.rules.max_requests.saturating_mul(4) {
            return give_up(HandoffWait::Overwritten, false);
        }
        let channel = self.channel();
        self.stages += 1;
        self.api_called_at = (channel == HandoffChannel::Api).then_some(now);
        HandoffStep::Stage(channel)
    }

    fn request(&mut self, now: Moment) -> HandoffStep {
        let channel = self.channel();
        self.requests += 1;
        (self.requested_at, self.missing_since, self.api_called_at, self.staged_at) =
            (Some(now), None, None, None);
        HandoffStep::Request(channel)
    }

    const fn channel(&self) -> HandoffChannel {
        if self.rules.api { HandoffChannel::Api } else { HandoffChannel::File }
    }

    /// Continues with the file, if that is allowed.
    fn disable_api(&mut self, why: &str) {
        if self.rules.file {
            self.rules.api = false;
        }
        self.api_called_at = None;
        self.api_closed = Some(why.to_owned());
    }

    /// Returns once why the API is no longer used.
    pub fn take_api_closed(&mut self) -> Option<String> {
        self.api_closed.take()
    }

    /// Handles a write or request that did not reach CONJURE and will not.
    pub fn record_refused(
        &mut self,
        now: Moment,
        channel: HandoffChannel,
        why: &str,
    ) -> HandoffStep {
        self.record_write_lost();
        if channel == HandoffChannel::Api {
            self.disable_api(why);
            if self.rules.file {
                return HandoffStep::Wait(Duration::ZERO, HandoffWait::Settling);
            }
        }
        match self.wait(now, HandoffWait::Unreachable(why.to_owned())) {
            HandoffStep::Wait(_, waiting) => HandoffStep::Wait(Duration::from_secs(1), waiting),
            end => end,
        }
    }

    /// Handles a file that was changed before ours could replace it: nothing was written.
    pub fn record_write_lost(&mut self) {
        if self.requested_at.take().is_some() {
            self.requests = self.requests.saturating_sub(1);
        }
        self.api_called_at = None;
        self.stages = self.stages.saturating_sub(1);
    }

    /// Handles an API call that got no answer in time; it may still be carried out.
    pub fn record_unanswered(&mut self) {
        self.in_doubt = true;
        self.disable_api("its API did not answer in time");
    }

    fn wait(&self, now: Moment, waiting: HandoffWait) -> HandoffStep {
        let since = self.requested_at.or(self.began_at).unwrap_or(now);
        let waited = now.since(since);
        if waited >= self.rules.patience {
            let asked = waiting == HandoffWait::Untaken;
            return give_up(waiting, asked);
        }
        // Blender polls thirty times a second when it can; if it did not for a while, it will
        // not soon.
        let pace = match waited.as_millis() {
            0..1000 => 20,
            1000..5000 => 100,
            _ => 500,
        };
        HandoffStep::Wait(Duration::from_millis(pace), waiting)
    }
}

const fn give_up(waiting: HandoffWait, asked: bool) -> HandoffStep {
    HandoffStep::GiveUp { waiting, requested: asked }
}
