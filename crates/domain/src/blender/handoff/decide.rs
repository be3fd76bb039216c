//! What to do next, given a look at `state.json`: one small machine with virtual time.
//!
//! Owns the order of a handover and its bounds. The order has two steps. First path, threshold and a *staged* mark are
//! written without a command, and must still be there after a moment; then the command is added. Two traps need the
//! first step: Blender's operator reads the file a second time, so a stale snapshot that comes between would make it
//! import the mesh *before* ours; and whatever answers on CONJURE's port may belong to another checkout, which shows
//! when the staged mark does not appear in ours.
//!
//! What nobody can prevent: a launcher that read the file before Blender's write-back and writes it after (about a
//! millisecond, a few times in half a minute) puts back a command that was taken, whoever had given it.

use std::{fmt, time::Duration};

use super::{COMMAND, Seen, Ticket, copy_of};
use crate::time::Moment;

/// How CONJURE may be told, and the bounds of patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Ask although the state shows no running launcher: a person chose the way (`state`, `api`).
    pub insist: bool,
    /// By its HTTP API, tried first.
    pub api: bool,
    /// By writing the file.
    pub file: bool,
    /// How long CONJURE may be away or busy before it is asked, and how long it may leave a request lying. A job must not
    /// stand in the way of the next one, and what was asked stays asked.
    pub patience: Duration,
    /// How long what was staged must have stood. CONJURE's own read-modify-write takes about a millisecond.
    pub settle: Duration,
    /// How long a request that an API took may need to appear in the file.
    pub appear: Duration,
    /// How long our mark must be gone before it is asked again: Blender may be importing at this moment, and then puts the
    /// mark back when it is through (a mesh of 20 MB takes it a few seconds).
    pub gone: Duration,
    /// How often the same mesh is asked for at most.
    pub most_asks: u32,
    /// How long an older job's request lies before it makes room for ours.
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

/// What a look at the file found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// There is none.
    Missing,
    /// It is no state at this moment, for this reason. Nothing may be written.
    Unreadable(String),
    /// What it says.
    State(Seen),
}

/// A way to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// CONJURE's HTTP API.
    Api,
    /// Its state file.
    File,
}

/// What the handover waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// No state file.
    NoState,
    /// A launcher is about to reset the file.
    Starting,
    /// No launcher says that it runs.
    NotRunning,
    /// The file cannot be used, for this reason.
    Unreadable(String),
    /// CONJURE has been asked to do something else.
    Busy(String),
    /// Staged, and nearly ready.
    Settling,
    /// Asked, and not taken yet.
    Untaken,
    /// Our request is gone from the file.
    Overwritten,
    /// No way is left, for this reason.
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
                "Blender is not running CONJURE yet, or is busy: it imports the mesh when it looks again",
            ),
            Self::Overwritten => {
                f.write_str("the request to import was overwritten by something else in CONJURE")
            }
            Self::Unreachable(reason) => write!(f, "CONJURE cannot be told: {reason}"),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look again after this long.
    Wait(Duration, Waiting),
    /// Write path, threshold and the staged mark, without a command.
    Stage(Channel),
    /// Write the command and the mark.
    Ask(Channel),
    /// Blender has taken it.
    Taken,
    /// It is not waited for any longer. `asked`: the request lies in the file and is taken when Blender looks.
    GiveUp {
        /// What it waited for.
        waiting: Waiting,
        /// Whether CONJURE still has our request.
        asked: bool,
    },
}

/// One mesh on its way to CONJURE.
#[derive(Clone, Debug)]
pub struct Handover {
    rules: Rules,
    ticket: Ticket,
    began: Option<Moment>,
    /// Since when what is staged is seen there.
    staged: Option<Moment>,
    /// Since when a request of this session is out.
    asked: Option<Moment>,
    /// Since when a request that was out is not seen.
    gone: Option<Moment>,
    /// Since when an older job's request is seen.
    older: Option<Moment>,
    /// When the API was told to stage.
    told_api: Option<Moment>,
    /// A request to the API had no answer: it may still be carried out.
    in_doubt: bool,
    asks: u32,
    stages: u32,
    /// Why a way is not used any more.
    closed: Option<String>,
}

/// Whose the request in the file is.
enum Place {
    Taken,
    Pending,
    Staged,
    Busy(String),
    Older,
    Free,
}

impl Handover {
    /// Begins a handover, or goes on with one of an earlier session: the file tells which.
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

    /// Returns what the request bears.
    pub const fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Takes in a look and says what to do.
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
            // The late request finds another path and another mark, and its own copy gone.
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
                // Whatever told it has reached our file.
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
            return Place::Busy(format!("{COMMAND} (it stands outside of `command`)"));
        }
        let path = seen.mesh_path.as_deref();
        let mark = seen.marker.as_deref().and_then(|mark| self.ticket.read(mark));
        // A mark alone proves nothing: whoever asks for another mesh leaves it standing.
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

    /// Tells whether a path is the copy of another job in our folder.
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

    /// Goes on by the file, where that is allowed.
    fn close_api(&mut self, why: &str) {
        if self.rules.file {
            self.rules.api = false;
        }
        self.told_api = None;
        self.closed = Some(why.to_owned());
    }

    /// Returns why the API is not used any more, once.
    pub fn closed(&mut self) -> Option<String> {
        self.closed.take()
    }

    /// What was told did not reach CONJURE and will not.
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

    /// The file was changed by somebody else before ours could take its place: nothing was written.
    pub fn missed(&mut self) {
        if self.asked.take().is_some() {
            self.asks = self.asks.saturating_sub(1);
        }
        self.told_api = None;
        self.stages = self.stages.saturating_sub(1);
    }

    /// The API did not answer in time; what it was told may still be carried out.
    pub fn unanswered(&mut self) {
        self.in_doubt = true;
        self.close_api("its API does not answer in time");
    }

    fn wait(&self, now: Moment, waiting: Waiting) -> Next {
        let since = self.asked.or(self.began).unwrap_or(now);
        let waited = now.since(since);
        if waited >= self.rules.patience {
            let asked = waiting == Waiting::Untaken;
            return give_up(waiting, asked);
        }
        // Blender looks thirty times a second when it can; when it did not for a while, it will not soon.
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
