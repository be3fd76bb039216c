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

use super::{COMMAND, Seen, Ticket, copy_of};
use crate::time::Moment;

/// Which channels to CONJURE are allowed, and the time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Ask even if the state shows no running launcher: a person chose the channel
    /// (`state`, `api`).
    pub insist: bool,
    /// Use its HTTP API, before the file.
    pub api: bool,
    /// Write the file.
    pub file: bool,
    /// How long to wait for CONJURE while it is away or busy, and how long a request may stay
    /// untaken. A job must not block the next one, and a request that was made stays valid.
    pub patience: Duration,
    /// How long the staged members must have been stable. CONJURE's own read-modify-write takes
    /// about a millisecond.
    pub settle: Duration,
    /// How long a request that an API accepted may take to appear in the file.
    pub appear: Duration,
    /// How long our marker must be missing before a new request: Blender may be importing right
    /// now, and restores the marker when it is done (a mesh of 20 MB takes it a few seconds).
    pub gone: Duration,
    /// The maximum number of requests for the same mesh.
    pub most_asks: u32,
    /// How long an older job's request may stay untaken before ours replaces it.
    pub own_older: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            insist: false,
            api: true,
            file: true,
            patience: Duration::from_secs(60),
            settle: Duration::from_millis(120),
            appear: Duration::from_millis(500),
            gone: Duration::from_secs(4),
            most_asks: 5,
            own_older: Duration::from_secs(5),
        }
    }
}

/// The result of reading the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The file does not exist.
    Missing,
    /// The file is not a valid state now, for this reason. Nothing may be written.
    Unreadable(String),
    /// The parsed state.
    State(Seen),
}

/// A channel to CONJURE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// CONJURE's HTTP API.
    Api,
    /// Its state file.
    File,
}

/// What the handoff waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
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

impl fmt::Display for Waiting {
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
pub enum Next {
    /// Read the file again after this time.
    Wait(Duration, Waiting),
    /// Write path, threshold and the staged marker, without a command.
    Stage(Channel),
    /// Write the command and the marker.
    Ask(Channel),
    /// Blender has taken it.
    Taken,
    /// Stop waiting. If `asked`, the request stays in the file and is taken when Blender polls it.
    GiveUp {
        /// What it waited for.
        waiting: Waiting,
        /// Whether CONJURE still has our request.
        asked: bool,
    },
}

/// The handoff of one mesh to CONJURE.
#[derive(Clone, Debug)]
pub struct Handover {
    rules: Rules,
    ticket: Ticket,
    began: Option<Moment>,
    /// When the staged marker was first observed.
    staged: Option<Moment>,
    /// When this session made its request.
    asked: Option<Moment>,
    /// Since when our request is missing from the file.
    gone: Option<Moment>,
    /// Since when an older job's request is in the file.
    older: Option<Moment>,
    /// When the API was asked to stage.
    told_api: Option<Moment>,
    /// Whether a request to the API got no answer: it may still be carried out.
    in_doubt: bool,
    asks: u32,
    stages: u32,
    /// Why a channel is no longer used.
    closed: Option<String>,
}

/// The owner and stage of the request in the file.
enum Place {
    Taken,
    Pending,
    Staged,
    Busy(String),
    Older,
    Free,
}

impl Handover {
    /// Starts a handoff, or continues one of an earlier session: the file shows which.
    pub const fn new(rules: Rules, ticket: Ticket) -> Self {
        Self {
            rules,
            ticket,
            began: None,
            staged: None,
            asked: None,
            gone: None,
            older: None,
            told_api: None,
            in_doubt: false,
            asks: 0,
            stages: 0,
            closed: None,
        }
    }

    /// Returns the request's path and markers.
    pub const fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Evaluates the state of the file and returns the next step.
    pub fn next(&mut self, now: Moment, look: &Look) -> Next {
        self.began.get_or_insert(now);
        let seen = match look {
            Look::Missing if self.rules.insist => return self.wait(now, Waiting::NoState),
            Look::Missing => return give_up(Waiting::NoState, false),
            Look::Unreadable(why) => return self.wait(now, Waiting::Unreadable(why.clone())),
            Look::State(seen) => seen,
        };
        let place = self.place(seen);
        if !matches!(place, Place::Older) {
            self.older = None;
        }
        if !matches!(place, Place::Staged) {
            self.staged = None;
        }
        match place {
            Place::Taken => return Next::Taken,
            Place::Pending => {
                self.asked.get_or_insert(now);
                (self.gone, self.in_doubt) = (None, false);
                return self.wait(now, Waiting::Untaken);
            }
            Place::Busy(command) => return self.wait(now, Waiting::Busy(command)),
            Place::Older => {
                let since = *self.older.get_or_insert(now);
                if now.since(since) < self.rules.own_older {
                    return self.wait(now, Waiting::Busy("an older mesh of conjured".to_owned()));
                }
            }
            Place::Staged | Place::Free => {}
        }
        if !self.rules.insist && !seen.is_running() {
            return if seen.is_starting() {
                self.wait(now, Waiting::Starting)
            } else {
                give_up(Waiting::NotRunning, false)
            };
        }
        if self.in_doubt {
            // If the late request is still carried out, it meets another path and another marker,
            // and its own copy is gone.
            self.in_doubt = false;
            self.asked = None;
            self.ticket.turn += 1;
            return self.stage(now);
        }
        if self.asked.is_some() {
            let since = *self.gone.get_or_insert(now);
            if now.since(since) < self.rules.gone {
                return self.wait(now, Waiting::Overwritten);
            }
        }
        match place {
            Place::Older | Place::Staged if self.asks >= self.rules.most_asks => {
                give_up(Waiting::Overwritten, false)
            }
            Place::Older => self.ask(now),
            Place::Staged => {
                // The staged marker has reached our file.
                self.told_api = None;
                let since = *self.staged.get_or_insert(now);
                let stood = now.since(since);
                if stood < self.rules.settle {
                    let rest = self.rules.settle.saturating_sub(stood);
                    return Next::Wait(rest, Waiting::Settling);
                }
                self.ask(now)
            }
            _ => self.stage(now),
        }
    }

    fn place(&mut self, seen: &Seen) -> Place {
        if seen.elsewhere {
            return Place::Busy(format!("{COMMAND} (outside of `command`)"));
        }
        let path = seen.mesh_path.as_deref();
        let mark = seen.marker.as_deref().and_then(|mark| self.ticket.read(mark));
        // A marker alone proves nothing: a request for another mesh leaves it unchanged.
        let mine = mark.filter(|(turn, _)| {
            *turn >= self.ticket.turn && path == Some(self.ticket.path_of(*turn).as_str())
        });
        if let Some((turn, _)) = mine {
            self.ticket.turn = turn;
        }
        match (seen.command.as_deref(), mine) {
            (Some(COMMAND), Some(_)) => Place::Pending,
            (None, Some((_, false))) => Place::Taken,
            (None, Some((_, true))) => Place::Staged,
            (None, None) => Place::Free,
            (Some(COMMAND), None) if path.is_some_and(|path| self.is_older(path)) => Place::Older,
            (Some(command), _) => Place::Busy(command.to_owned()),
        }
    }

    /// Returns whether a path is the copy of another job in our folder.
    fn is_older(&self, path: &str) -> bool {
        let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
        let ours = path.len() > name.len() && path.starts_with(&self.ticket.folder);
        ours && copy_of(name).is_some_and(|job| job != self.ticket.job)
    }

    fn stage(&mut self, now: Moment) -> Next {
        if let Some(told) = self.told_api {
            if now.since(told) < self.rules.appear {
                return Next::Wait(Duration::from_millis(20), Waiting::Settling);
            }
            let why = "its API answers for another checkout, or lost the request";
            self.close_api(why);
        }
        if self.stages >= self.rules.most_asks.saturating_mul(4) {
            return give_up(Waiting::Overwritten, false);
        }
        let channel = self.channel();
        self.stages += 1;
        self.told_api = (channel == Channel::Api).then_some(now);
        Next::Stage(channel)
    }

    fn ask(&mut self, now: Moment) -> Next {
        let channel = self.channel();
        self.asks += 1;
        (self.asked, self.gone, self.told_api, self.staged) = (Some(now), None, None, None);
        Next::Ask(channel)
    }

    const fn channel(&self) -> Channel {
        if self.rules.api { Channel::Api } else { Channel::File }
    }

    /// Continues with the file, if that is allowed.
    fn close_api(&mut self, why: &str) {
        if self.rules.file {
            self.rules.api = false;
        }
        self.told_api = None;
        self.closed = Some(why.to_owned());
    }

    /// Returns once why the API is no longer used.
    pub fn closed(&mut self) -> Option<String> {
        self.closed.take()
    }

    /// Handles a write or request that did not reach CONJURE and will not.
    pub fn refused(&mut self, now: Moment, channel: Channel, why: &str) -> Next {
        self.missed();
        if channel == Channel::Api {
            self.close_api(why);
            if self.rules.file {
                return Next::Wait(Duration::ZERO, Waiting::Settling);
            }
        }
        match self.wait(now, Waiting::Unreachable(why.to_owned())) {
            Next::Wait(_, waiting) => Next::Wait(Duration::from_secs(1), waiting),
            end => end,
        }
    }

    /// Handles a file that was changed before ours could replace it: nothing was written.
    pub fn missed(&mut self) {
        if self.asked.take().is_some() {
            self.asks = self.asks.saturating_sub(1);
        }
        self.told_api = None;
        self.stages = self.stages.saturating_sub(1);
    }

    /// Handles an API call that got no answer in time; it may still be carried out.
    pub fn unanswered(&mut self) {
        self.in_doubt = true;
        self.close_api("its API did not answer in time");
    }

    fn wait(&self, now: Moment, waiting: Waiting) -> Next {
        let since = self.asked.or(self.began).unwrap_or(now);
        let waited = now.since(since);
        if waited >= self.rules.patience {
            let asked = waiting == Waiting::Untaken;
            return give_up(waiting, asked);
        }
        // Blender polls thirty times a second when it can; if it did not for a while, it will
        // not soon.
        let pace = match waited.as_millis() {
            0..1000 => 20,
            1000..5000 => 100,
            _ => 500,
        };
        Next::Wait(Duration::from_millis(pace), waiting)
    }
}

const fn give_up(waiting: Waiting, asked: bool) -> Next {
    Next::GiveUp { waiting, asked }
}
