//! Telling CONJURE of a mesh, once: by its API or by its state file, and watching for it to be taken.
//!
//! Owns the one look and the one deed of a step. What to do is decided by [`crate::domain::handoff::decide`]; when the next
//! step is due is the caller's matter, who owns the clock and writes down what is told in [`Errand::take_notes`]. No
//! call in here waits, except [`import_call::Call::send`], which is bounded.
//!
//! - [`state_file`]: reading and replacing `state.json`;
//! - [`import_call`]: the HTTP API;
//! - [`copies`]: the job's own copy of the mesh, which Blender reads.

pub mod copies;
pub mod import_call;
pub mod state_file;

use std::path::PathBuf;

use self::{import_call::Call, state_file::Replaced};
use crate::domain::{
    handoff::{
        COMMAND, MARKER, STATE_FILE, Ticket, Unnameable,
        decide::{Channel, Handover, Look, Next, Rules, Waiting},
    },
    job::JobId,
    moment::Moment,
    rival::{self, Launcher, Rival},
};

/// What is to be handed over, and to whom.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The job.
    pub job: JobId,
    /// 0 for a job's first handover; another number for each later one, or the file would say that it is done already.
    pub turn: u64,
    /// The CONJURE checkout.
    pub root: PathBuf,
    /// The checked mesh in history.
    pub mesh: PathBuf,
    /// Where the job's own copy is made: a folder that Blender may read.
    pub folder: PathBuf,
    /// Parts smaller than this are dropped, in Blender's cubic units.
    pub min_volume_threshold: f64,
    /// The ways and the bounds.
    pub rules: Rules,
}

/// What came of a step.
#[derive(Debug)]
pub enum Step {
    /// Take the next step after this long.
    Wait(std::time::Duration, Waiting),
    /// Send this, then tell with [`Errand::called`], then take the next step.
    Call(Call),
    /// Blender has taken the mesh.
    Taken,
    /// It is not waited for any longer.
    GivenUp {
        /// What it waited for.
        waiting: Waiting,
        /// Whether the request stays in CONJURE's file.
        asked: bool,
    },
}

/// A mesh on its way.
#[derive(Debug)]
pub struct Errand {
    delivery: Delivery,
    state: PathBuf,
    handover: Handover,
    notes: Vec<String>,
    rival: Option<Rival>,
}

impl Errand {
    /// Begins, or goes on with what an earlier session began.
    pub fn new(delivery: Delivery) -> Result<Self, Unnameable> {
        let ticket = Ticket::new(delivery.job, delivery.turn, &delivery.folder)?;
        let state = delivery.root.join(STATE_FILE);
        let handover = Handover::new(delivery.rules, ticket);
        Ok(Self { delivery, state, handover, notes: Vec::new(), rival: None })
    }

    /// Returns what happened since the last time, as sentences for the job's story.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Returns the launcher that was seen to generate by itself, once.
    pub fn take_rival(&mut self) -> Option<Rival> {
        self.rival.take()
    }

    /// Looks at the state and does what it calls for. Blocking, for the pool.
    pub fn step(&mut self, now: Moment) -> Step {
        let (look, base) = state_file::look(&self.state);
        if let Look::State(seen) = &look
            && let Launcher::Generates(rival) = rival::launcher(seen)
            && rival.now
        {
            self.rival = Some(rival);
        }
        let next = self.handover.next(now, &look);
        if let Some(why) = self.handover.closed() {
            self.notes.push(format!("goes on by state.json: {why}"));
        }
        match next {
            Next::Wait(wait, waiting) => Step::Wait(wait, waiting),
            Next::Taken => {
                self.notes.push("Blender has taken the mesh".to_owned());
                Step::Taken
            }
            Next::GiveUp { waiting, asked } => Step::GivenUp { waiting, asked },
            Next::Stage(channel) => self.tell(now, channel, &base, false),
            Next::Ask(channel) => self.tell(now, channel, &base, true),
        }
    }

    /// Tells CONJURE by one of the ways.
    fn tell(&mut self, now: Moment, channel: Channel, base: &[u8], ask: bool) -> Step {
        let ticket = self.handover.ticket();
        // The copy is whole and durable before anything names it.
        let Delivery { root, folder, mesh, .. } = &self.delivery;
        let made = copies::make(ticket, root, folder, mesh);
        if let Err(why) = made {
            return self.refused(now, Channel::File, &why.to_string());
        }
        let mut changes = vec![
            ("mesh_path", ticket.path().into()),
            ("min_volume_threshold", self.delivery.min_volume_threshold.into()),
            (MARKER, if ask { ticket.mark() } else { ticket.staged_mark() }.into()),
        ];
        if ask {
            changes.insert(0, ("command", COMMAND.into()));
        }
        if channel == Channel::Api {
            return Step::Call(Call::new(changes));
        }
        match state_file::replace(&self.state, &self.delivery.root, base, &changes, &ticket.mark())
        {
            Ok(Replaced::Written) => {
                if ask {
                    self.notes.push(format!("asked CONJURE by state.json ({})", ticket.mark()));
                }
                Step::Wait(std::time::Duration::ZERO, Waiting::Settling)
            }
            Ok(Replaced::Changed) => {
                self.handover.missed();
                Step::Wait(std::time::Duration::from_millis(3), Waiting::Settling)
            }
            Err(why) => self.refused(now, Channel::File, &why.to_string()),
        }
    }

    fn refused(&mut self, now: Moment, channel: Channel, why: &str) -> Step {
        match self.handover.refused(now, channel, why) {
            Next::GiveUp { waiting, asked } => Step::GivenUp { waiting, asked },
            Next::Wait(wait, waiting) => Step::Wait(wait, waiting),
            // It says no more than these two.
            Next::Stage(_) | Next::Ask(_) | Next::Taken => {
                Step::Wait(std::time::Duration::ZERO, Waiting::Settling)
            }
        }
    }

    /// Takes in what became of a call.
    pub fn called(&mut self, now: Moment, call: &Call, outcome: import_call::Outcome) -> Step {
        match outcome {
            import_call::Outcome::Accepted => {
                if call.asks() {
                    let mark = self.handover.ticket().mark();
                    self.notes.push(format!("asked CONJURE by its API ({mark})"));
                }
                Step::Wait(std::time::Duration::ZERO, Waiting::Settling)
            }
            import_call::Outcome::Refused(why) => self.refused(now, Channel::Api, &why),
            import_call::Outcome::Unanswered => {
                self.handover.unanswered();
                Step::Wait(std::time::Duration::ZERO, Waiting::Settling)
            }
        }
    }
}
