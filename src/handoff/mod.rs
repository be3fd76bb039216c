//! Hands a mesh over to CONJURE once, by its API or by its state file, and watches until it
//! is taken.
//!
//! Owns the reading and the action of one step. [`crate::domain::blender::handoff::decide`] decides
//! what to do; the caller owns the clock, takes the next step when it is due and records the notes
//! of [`HandoffRunner::take_notes`]. No call in here waits, except
//! [`import_call::ImportCall::send`], which has a time-out.
//!
//! - [`state_file`]: reads and replaces `state.json`;
//! - [`import_call`]: the HTTP API;
//! - [`copies`]: the job's own copy of the mesh, which Blender reads.

pub mod copies;
pub mod import_call;
pub mod state_file;

use std::path::PathBuf;

use self::{import_call::ImportCall, state_file::ReplaceOutcome};
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
pub struct HandoffRequest {
    /// The job.
    pub job: JobId,
    /// 0 for a job's first handoff and another number for each later one; otherwise the file would
    /// show it as already done.
    pub sequence: u64,
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
pub enum HandoffProgress {
    /// Take the next step after this time.
    Wait(std::time::Duration, HandoffWait),
    /// Send this call, report it with [`HandoffRunner::record_call`], then take the next step.
    Call(ImportCall),
    /// Blender has taken the mesh.
    Taken,
    /// The handoff is no longer waited for.
    GivenUp {
        /// What it waited for.
        waiting: HandoffWait,
        /// Whether the request stays in CONJURE's file.
        requested: bool,
    },
}

/// The handoff of one mesh.
#[derive(Debug)]
pub struct HandoffRunner {
    request: HandoffRequest,
    state: PathBuf,
    flow: HandoffFlow,
    notes: Vec<String>,
    competing_launcher: Option<CompetingLauncher>,
}

impl HandoffRunner {
    /// Starts a handoff, or continues what an earlier session began.
    pub fn new(request: HandoffRequest) -> Result<Self, UnusableFolder> {
        let ticket = HandoffTicket::new(request.job, request.sequence, &request.folder)?;
        let state = request.root.join(STATE_FILE);
        let flow = HandoffFlow::new(request.rules, ticket);
        Ok(Self { request, state, flow, notes: Vec::new(), competing_launcher: None })
    }

    /// Returns what happened since the last call, as sentences for the job's events.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Returns once the launcher that was found to generate automatically.
    pub fn take_competing_launcher(&mut self) -> Option<CompetingLauncher> {
        self.competing_launcher.take()
    }

    /// Reads the state and performs the next step. Blocking, so it runs in the blocking pool.
    pub fn step(&mut self, now: Moment) -> HandoffProgress {
        let (look, base) = state_file::read_state(&self.state);
        if let StateRead::State(state) = &look
            && let LauncherState::Generates(competitor) = competing_launcher::launcher_state(state)
            && competitor.is_generating
        {
            self.competing_launcher = Some(competitor);
        }
        let next = self.flow.next(now, &look);
        if let Some(why) = self.flow.take_api_closed() {
            self.notes.push(format!("continuing with state.json: {why}"));
        }
        match next {
            HandoffStep::Wait(wait, waiting) => HandoffProgress::Wait(wait, waiting),
            HandoffStep::Taken => {
                self.notes.push("Blender has taken the mesh".to_owned());
                HandoffProgress::Taken
            }
            HandoffStep::GiveUp { waiting, requested: asked } => {
                HandoffProgress::GivenUp { waiting, requested: asked }
            }
            HandoffStep::Stage(channel) => self.write_request(now, channel, &base, false),
            HandoffStep::Request(channel) => self.write_request(now, channel, &base, true),
        }
    }

    /// Writes to CONJURE through one of the channels.
    fn write_request(
        &mut self,
        now: Moment,
        channel: HandoffChannel,
        base: &[u8],
        ask: bool,
    ) -> HandoffProgress {
        let ticket = self.flow.ticket();
        // The copy is complete and durable before anything refers to it.
        let HandoffRequest { root, folder, mesh, .. } = &self.request;
        let made = copies::make(ticket, root, folder, mesh);
        if let Err(why) = made {
            return self.record_refused(now, HandoffChannel::File, &why.to_string());
        }
        let mut changes = vec![
            ("mesh_path", ticket.path().into()),
            ("min_volume_threshold", self.request.min_volume_threshold.into()),
            (MARKER, if ask { ticket.mark() } else { ticket.staged_mark() }.into()),
        ];
        if ask {
            changes.insert(0, ("command", COMMAND.into()));
        }
        if channel == HandoffChannel::Api {
            return HandoffProgress::Call(ImportCall::new(changes));
        }
        match state_file::replace(&self.state, &self.request.root, base, &changes, &ticket.mark()) {
            Ok(ReplaceOutcome::Written) => {
                if ask {
                    self.notes
                        .push(format!("asked CONJURE through state.json ({})", ticket.mark()));
                }
                HandoffProgress::Wait(std::time::Duration::ZERO, HandoffWait::Settling)
            }
            Ok(ReplaceOutcome::Changed) => {
                self.flow.record_write_lost();
                HandoffProgress::Wait(std::time::Duration::from_millis(3), HandoffWait::Settling)
            }
            Err(why) => self.record_refused(now, HandoffChannel::File, &why.to_string()),
        }
    }

    fn record_refused(
        &mut self,
        now: Moment,
        channel: HandoffChannel,
        why: &str,
    ) -> HandoffProgress {
        match self.flow.record_refused(now, channel, why) {
            HandoffStep::GiveUp { waiting, requested: asked } => {
                HandoffProgress::GivenUp { waiting, requested: asked }
            }
            HandoffStep::Wait(wait, waiting) => HandoffProgress::Wait(wait, waiting),
            // `refused` returns only the two cases above.
            HandoffStep::Stage(_) | HandoffStep::Request(_) | HandoffStep::Taken => {
                HandoffProgress::Wait(std::time::Duration::ZERO, HandoffWait::Settling)
            }
        }
    }

    /// Processes the result of a call.
    pub fn record_call(
        &mut self,
        now: Moment,
        call: &ImportCall,
        outcome: import_call::ImportOutcome,
    ) -> HandoffProgress {
        match outcome {
            import_call::ImportOutcome::Accepted => {
                if call.is_request() {
                    let mark = self.flow.ticket().mark();
                    self.notes.push(format!("asked CONJURE through its API ({mark})"));
                }
                HandoffProgress::Wait(std::time::Duration::ZERO, HandoffWait::Settling)
            }
            import_call::ImportOutcome::Refused(why) => {
                self.record_refused(now, HandoffChannel::Api, &why)
            }
            import_call::ImportOutcome::Unanswered => {
                self.flow.record_unanswered();
                HandoffProgress::Wait(std::time::Duration::ZERO, HandoffWait::Settling)
            }
        }
    }
}
