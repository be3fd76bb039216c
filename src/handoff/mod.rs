//! Hands a mesh over to CONJURE once, by its API or by its state file, and watches until it
//! is taken.
//!
//! Owns the reading and the action of one step. [`crate::domain::blender::handoff::decide`] decides
//! what to do; the caller owns the clock, takes the next step when it is due and records the notes
//! of [`Errand::take_notes`]. No call in here waits, except [`import_call::Call::send`], which has
//! a time-out.
//!
//! - [`state_file`]: reads and replaces `state.json`;
//! - [`import_call`]: the HTTP API;
//! - [`copies`]: the job's own copy of the mesh, which Blender reads.

pub mod copies;
pub mod import_call;
pub mod state_file;

use std::path::PathBuf;

use self::{import_call::Call, state_file::Replaced};
use crate::domain::{
    blender::{
        competing_launcher::{self, CompetingLauncher, LauncherState},
        handoff::{
            COMMAND, HandoffTicket, MARKER, STATE_FILE, UnusableFolder,
            decide::{
                HandoffChannel, HandoffFlow, HandoffRules, HandoffStep, HandoffWait, StateRead,
            },
        },
    },
    job::JobId,
    time::Moment,
};

/// What to hand over, and to which CONJURE.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The job.
    pub job: JobId,
    /// 0 for a job's first handoff and another number for each later one; otherwise the file would
    /// show it as already done.
    pub turn: u64,
    /// The CONJURE checkout.
    pub root: PathBuf,
    /// The checked mesh in history.
    pub mesh: PathBuf,
    /// The folder for the job's own copy, which Blender must be able to read.
    pub folder: PathBuf,
    /// Parts smaller than this are dropped, in Blender's cubic units.
    pub min_volume_threshold: f64,
    /// The allowed channels and the time limits.
    pub rules: HandoffRules,
}

/// The result of a step.
#[derive(Debug)]
pub enum Step {
    /// Take the next step after this time.
    Wait(std::time::Duration, HandoffWait),
    /// Send this call, report it with [`Errand::called`], then take the next step.
    Call(Call),
    /// Blender has taken the mesh.
    Taken,
    /// The handoff is no longer waited for.
    GivenUp {
        /// What it waited for.
        waiting: HandoffWait,
        /// Whether the request stays in CONJURE's file.
        asked: bool,
    },
}

/// The handoff of one mesh.
#[derive(Debug)]
pub struct Errand {
    delivery: Delivery,
    state: PathBuf,
    handover: HandoffFlow,
    notes: Vec<String>,
    rival: Option<CompetingLauncher>,
}

impl Errand {
    /// Starts a handoff, or continues what an earlier session began.
    pub fn new(delivery: Delivery) -> Result<Self, UnusableFolder> {
        let ticket = HandoffTicket::new(delivery.job, delivery.turn, &delivery.folder)?;
        let state = delivery.root.join(STATE_FILE);
        let flow = HandoffFlow::new(delivery.rules, ticket);
        Ok(Self { delivery, state, handover: flow, notes: Vec::new(), rival: None })
    }

    /// Returns what happened since the last call, as sentences for the job's events.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Returns once the launcher that was found to generate automatically.
    pub fn take_rival(&mut self) -> Option<CompetingLauncher> {
        self.rival.take()
    }

    /// Reads the state and performs the next step. Blocking, so it runs in the blocking pool.
    pub fn step(&mut self, now: Moment) -> Step {
        let (look, base) = state_file::look(&self.state);
        if let StateRead::State(state) = &look
            && let LauncherState::Generates(competitor) = competing_launcher::launcher_state(state)
            && competitor.is_generating
        {
            self.rival = Some(competitor);
        }
        let next = self.handover.next(now, &look);
        if let Some(why) = self.handover.take_api_closed() {
            self.notes.push(format!("continuing with state.json: {why}"));
        }
        match next {
            HandoffStep::Wait(wait, waiting) => Step::Wait(wait, waiting),
            HandoffStep::Taken => {
                self.notes.push("Blender has taken the mesh".to_owned());
                Step::Taken
            }
            HandoffStep::GiveUp { waiting, requested: asked } => Step::GivenUp { waiting, asked },
            HandoffStep::Stage(channel) => self.tell(now, channel, &base, false),
            HandoffStep::Request(channel) => self.tell(now, channel, &base, true),
        }
    }

    /// Writes to CONJURE through one of the channels.
    fn tell(&mut self, now: Moment, channel: HandoffChannel, base: &[u8], ask: bool) -> Step {
        let ticket = self.handover.ticket();
        // The copy is complete and durable before anything refers to it.
        let Delivery { root, folder, mesh, .. } = &self.delivery;
        let made = copies::make(ticket, root, folder, mesh);
        if let Err(why) = made {
            return self.refused(now, HandoffChannel::File, &why.to_string());
        }
        let mut changes = vec![
            ("mesh_path", ticket.path().into()),
            ("min_volume_threshold", self.delivery.min_volume_threshold.into()),
            (MARKER, if ask { ticket.mark() } else { ticket.staged_mark() }.into()),
        ];
        if ask {
            changes.insert(0, ("command", COMMAND.into()));
        }
        if channel == HandoffChannel::Api {
            return Step::Call(Call::new(changes));
        }
        match state_file::replace(&self.state, &self.delivery.root, base, &changes, &ticket.mark())
        {
            Ok(Replaced::Written) => {
                if ask {
                    self.notes
                        .push(format!("asked CONJURE through state.json ({})", ticket.mark()));
                }
                Step::Wait(std::time::Duration::ZERO, HandoffWait::Settling)
            }
            Ok(Replaced::Changed) => {
                self.handover.write_lost();
                Step::Wait(std::time::Duration::from_millis(3), HandoffWait::Settling)
            }
            Err(why) => self.refused(now, HandoffChannel::File, &why.to_string()),
        }
    }

    fn refused(&mut self, now: Moment, channel: HandoffChannel, why: &str) -> Step {
        match self.handover.refused(now, channel, why) {
            HandoffStep::GiveUp { waiting, requested: asked } => Step::GivenUp { waiting, asked },
            HandoffStep::Wait(wait, waiting) => Step::Wait(wait, waiting),
            // `refused` returns only the two cases above.
            HandoffStep::Stage(_) | HandoffStep::Request(_) | HandoffStep::Taken => {
                Step::Wait(std::time::Duration::ZERO, HandoffWait::Settling)
            }
        }
    }

    /// Processes the result of a call.
    pub fn called(&mut self, now: Moment, call: &Call, outcome: import_call::Outcome) -> Step {
        match outcome {
            import_call::Outcome::Accepted => {
                if call.asks() {
                    let mark = self.handover.ticket().mark();
                    self.notes.push(format!("asked CONJURE through its API ({mark})"));
                }
                Step::Wait(std::time::Duration::ZERO, HandoffWait::Settling)
            }
            import_call::Outcome::Refused(why) => self.refused(now, HandoffChannel::Api, &why),
            import_call::Outcome::Unanswered => {
                self.handover.unanswered();
                Step::Wait(std::time::Duration::ZERO, HandoffWait::Settling)
            }
        }
    }
}
