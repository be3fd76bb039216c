//! The state of a run over the two Spaces.
//!
//! Owns the state and what is reported about it. [`super::steps`] advances it.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Spaces,
    arguments::Argument,
    gradio::{describe::SpaceDescription, events::SpaceEvent, sse::EventStream},
};
use crate::{
    backend::{Observation, Phase, RunResult, RunTimes, ServiceFault, work::SpacesPayload},
    domain::job::{artifact::RemoteFile, progress::Progress},
};

/// One of the two Spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpaceSide {
    /// The Space that makes the picture.
    Flux,
    /// The Space that makes the mesh.
    Mesh,
}

impl SpaceSide {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Flux => "FLUX",
            Self::Mesh => "PartPacker",
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Flux => 0,
            Self::Mesh => 1,
        }
    }

    /// Returns the functions that a run calls on this Space.
    pub(super) const fn functions(self, process_image: bool) -> &'static [&'static str] {
        match (self, process_image) {
            (Self::Flux, _) => &["infer"],
            (Self::Mesh, false) => &["process_3d"],
            (Self::Mesh, true) => &["process_image", "process_3d"],
        }
    }
}

/// One of the calls of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpaceCall {
    /// Makes the picture.
    Flux,
    /// Removes the picture's background, if that is wanted.
    Segment,
    /// Makes the mesh.
    Mesh,
}

impl SpaceCall {
    pub(super) const fn side(self) -> SpaceSide {
        match self {
            Self::Flux => SpaceSide::Flux,
            Self::Segment | Self::Mesh => SpaceSide::Mesh,
        }
    }

    pub(super) const fn function(self) -> &'static str {
        match self {
            Self::Flux => "infer",
            Self::Segment => "process_image",
            Self::Mesh => "process_3d",
        }
    }

    /// Returns the node and the channel that its file is listed under.
    pub(super) const fn output(self) -> (&'static str, &'static str) {
        match self {
            Self::Flux => ("flux", "image"),
            Self::Segment => ("segment", "image"),
            Self::Mesh => ("mesh", "mesh"),
        }
    }

    /// Returns the extensions that its file may have.
    pub(super) const fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Flux | Self::Segment => &["webp", "png", "jpg", "jpeg"],
            Self::Mesh => &["glb"],
        }
    }
}

/// A call that a Space accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallTicket {
    /// The session whose events belong to the call; `None` in the simple protocol.
    pub(super) session: Option<String>,
    /// The Space's id of the call.
    pub(super) event: String,
    /// The number of the function.
    pub(super) function: u64,
}

/// The next step of a run.
#[derive(Debug)]
pub(super) enum RunStage {
    /// The Space has the call; its events are not read yet.
    Joined(CallTicket),
    /// The events of the call are being read.
    Listening(CallTicket, Box<EventStream>),
    /// The picture is at the first Space, at this URL.
    Fetch(String),
    /// The picture is in memory and must be uploaded to the second Space.
    Upload {
        name: String,
        /// Its media type.
        mime: &'static str,
        /// The file's content.
        bytes: Bytes,
    },
    /// The next function must be called with the file at this path.
    Join {
        /// The path of the picture on the second Space.
        image: String,
        /// The earliest time for the call, after a full queue.
        not_before: Instant,
        /// The number of failed attempts.
        failures: u32,
    },
    Ended(RunOutcome),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RunOutcome {
    Succeeded,
    Failed(ServiceFault),
    Cancelled,
}

/// The progress of the current call, as shown to people.
#[derive(Clone, Debug, Default)]
pub(super) struct ShownProgress {
    /// Whether the call waits in the Space's queue.
    pub(super) waits: bool,
    position: Option<u64>,
    doing: String,
    step: Option<(u64, u64)>,
    until: Option<Instant>,
}

impl ShownProgress {
    /// Updates the progress from an event; `line` cleans a text for people.
    pub(super) fn update(&mut self, event: &SpaceEvent, line: impl Fn(&str) -> String) {
        let at = |left: &Option<Duration>| left.map(|left| Instant::now() + left);
        match event {
            SpaceEvent::Queued { position, wait } => {
                (self.waits, self.position, self.until) = (true, *position, at(wait));
            }
            SpaceEvent::Started { takes } => {
                *self = Self { until: at(takes), ..Self::default() };
            }
            SpaceEvent::Progress { doing, step } => {
                self.waits = false;
                (self.doing, self.step) = (line(doing), *step);
            }
            SpaceEvent::Log(text) => self.doing = line(text),
            SpaceEvent::Heartbeat
            | SpaceEvent::Done(_)
            | SpaceEvent::Cancelled
            | SpaceEvent::Failed(_)
            | SpaceEvent::Lost(_) => {}
        }
    }

    /// Returns the progress of a step that this process does.
    pub(super) fn local(doing: &str) -> Self {
        Self { doing: doing.to_owned(), ..Self::default() }
    }

    /// Returns the progress of a call that was not accepted yet.
    pub(super) fn waiting_because(why: &str) -> Self {
        Self { waits: true, ..Self::local(why) }
    }

    /// Returns the progress of a call that waits.
    pub(super) fn waiting() -> Self {
        Self { waits: true, ..Self::default() }
    }
}

#[derive(Debug)]
pub(super) struct Run {
    /// The arguments of the job.
    pub(super) work: SpacesPayload,
    /// The two Spaces, by [`SpaceSide::index`].
    pub(super) spaces: [SpaceDescription; 2],
    /// Whether the background is removed before the mesh is made.
    pub(super) process_image: bool,
    /// The current call, or the next one.
    pub(super) part: SpaceCall,
    pub(super) stage: RunStage,
    /// The deadline of the current part.
    pub(super) deadline: Instant,
    /// The files made so far.
    pub(super) files: Vec<RemoteFile>,
    /// The picture and its address.
    pub(super) picture: Option<(String, Bytes)>,
    /// When the Space was asked to stop.
    pub(super) cancelled: Option<Instant>,
    /// The progress that is shown.
    pub(super) shown: ShownProgress,
}

impl Run {
    pub(super) const fn space(&self) -> &SpaceDescription {
        &self.spaces[self.part.side().index()]
    }

    pub(super) fn arguments(&self, image: &str) -> Vec<Argument> {
        use super::arguments::{flux, mesh, segment};
        match self.part {
            SpaceCall::Flux => flux(&self.work, image),
            SpaceCall::Segment => segment(image),
            SpaceCall::Mesh => mesh(&self.work, image),
        }
    }

    pub(super) fn end(&mut self, outcome: RunOutcome) {
        self.stage = RunStage::Ended(outcome);
        // The render is no longer needed, and old runs are kept for a while.
        self.work.picture.bytes = Bytes::new();
    }

    pub(super) fn picture_at(&self, url: &str) -> Option<Bytes> {
        self.picture.as_ref().filter(|(known, _)| known == url).map(|(_, bytes)| bytes.clone())
    }

    /// Returns how the run ended, or `phase` if it has not ended.
    pub(super) fn result(&self, phase: Phase) -> RunResult {
        let times = RunTimes::default();
        match &self.stage {
            RunStage::Ended(RunOutcome::Succeeded) => {
                RunResult::Succeeded { files: self.files.clone(), times }
            }
            RunStage::Ended(RunOutcome::Failed(fault)) => {
                RunResult::Failed { fault: fault.clone(), files: self.files.clone(), times }
            }
            RunStage::Ended(RunOutcome::Cancelled) => RunResult::Cancelled { times },
            _ => RunResult::Pending(phase),
        }
    }

    fn parts(&self) -> (u64, u64) {
        let (all, before) = match (self.process_image, self.part) {
            (_, SpaceCall::Flux) => (2 + u64::from(self.process_image), 0),
            (true, SpaceCall::Segment | SpaceCall::Mesh) => {
                (3, 1 + u64::from(self.part == SpaceCall::Mesh))
            }
            (false, SpaceCall::Segment | SpaceCall::Mesh) => (2, 1),
        };
        let is_done = matches!(self.stage, RunStage::Ended(RunOutcome::Succeeded));
        (before + u64::from(is_done), all)
    }
}

impl Spaces {
    /// Returns the current state of a run.
    pub(super) fn observation(&self, run: &Run) -> Observation {
        let shown = &run.shown;
        let phase = match &run.stage {
            RunStage::Ended(_) => Phase::Ended,
            _ if shown.waits => Phase::Queued { position: shown.position },
            _ => Phase::Running,
        };
        let title = self.title(run.part.side());
        let doing =
            if shown.doing.is_empty() { title } else { format!("{title}: {}", shown.doing) };
        let left = shown.until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.filter(|left| !left.is_zero());
        let progress = Progress {
            doing: Some(self.wire.line(&doing)),
            step: shown.step.filter(|_| phase == Phase::Running),
            parts: Some(run.parts()),
            left_ms: left.and_then(|left| u64::try_from(left.as_millis()).ok()),
        };
        Observation { phase, instance: None, unknown_status: None, progress: Some(progress) }
    }
}
