//! The state of a run over the two Spaces.
//!
//! Owns the state and what is reported about it. [`super::steps`] advances it.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Spaces,
    arguments::Argument,
    gradio::{describe::Description, events::Event, sse::Stream},
};
use crate::{
    backend::{Observation, Phase, RunResult, RunTimes, ServiceFault, work::SpacesWork},
    domain::job::{artifact::RemoteFile, progress::Progress},
};

/// One of the two Spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The Space that makes the picture.
    Flux,
    /// The Space that makes the mesh.
    Mesh,
}

impl Side {
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
pub(super) enum Part {
    /// Makes the picture.
    Flux,
    /// Removes the picture's background, if that is wanted.
    Segment,
    /// Makes the mesh.
    Mesh,
}

impl Part {
    pub(super) const fn side(self) -> Side {
        match self {
            Self::Flux => Side::Flux,
            Self::Segment | Self::Mesh => Side::Mesh,
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
pub(super) struct Ticket {
    /// The session whose events belong to the call; `None` in the simple protocol.
    pub(super) session: Option<String>,
    /// The Space's id of the call.
    pub(super) event: String,
    /// The number of the function.
    pub(super) function: u64,
}

/// The next step of a run.
#[derive(Debug)]
pub(super) enum Stage {
    /// The Space has the call; its events are not read yet.
    Joined(Ticket),
    /// The events of the call are being read.
    Listening(Ticket, Box<Stream>),
    /// The picture is at the first Space, at this URL.
    Fetch(String),
    /// The picture is in memory and must be uploaded to the second Space.
    Upload {
        /// Its name there.
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
    /// The run is over.
    Over(Outcome),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All parts succeeded.
    Succeeded,
    /// A part failed.
    Failed(ServiceFault),
    /// The run was cancelled.
    Cancelled,
}

/// The progress of the current call, as shown to people.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// Whether the call waits in the Space's queue.
    pub(super) waits: bool,
    position: Option<u64>,
    doing: String,
    step: Option<(u64, u64)>,
    until: Option<Instant>,
}

impl Shown {
    /// Updates the progress from an event; `line` cleans a text for people.
    pub(super) fn take(&mut self, event: &Event, line: impl Fn(&str) -> String) {
        let at = |left: &Option<Duration>| left.map(|left| Instant::now() + left);
        match event {
            Event::Queued { position, wait } => {
                (self.waits, self.position, self.until) = (true, *position, at(wait));
            }
            Event::Started { takes } => {
                *self = Self { until: at(takes), ..Self::default() };
            }
            Event::Progress { doing, step } => {
                self.waits = false;
                (self.doing, self.step) = (line(doing), *step);
            }
            Event::Log(text) => self.doing = line(text),
            Event::Alive
            | Event::Done(_)
            | Event::Cancelled
            | Event::Failed(_)
            | Event::Lost(_) => {}
        }
    }

    /// Returns the progress of a step that this process does.
    pub(super) fn ours(doing: &str) -> Self {
        Self { doing: doing.to_owned(), ..Self::default() }
    }

    /// Returns the progress of a call that was not accepted yet.
    pub(super) fn waiting_because(why: &str) -> Self {
        Self { waits: true, ..Self::ours(why) }
    }

    /// Returns the progress of a call that waits.
    pub(super) fn waiting() -> Self {
        Self { waits: true, ..Self::default() }
    }
}

/// A run.
#[derive(Debug)]
pub(super) struct Run {
    /// The arguments of the job.
    pub(super) work: SpacesWork,
    /// The two Spaces, by [`Side::index`].
    pub(super) spaces: [Description; 2],
    /// Whether the background is removed before the mesh is made.
    pub(super) process_image: bool,
    /// The current call, or the next one.
    pub(super) part: Part,
    /// The next step.
    pub(super) stage: Stage,
    /// The deadline of the current part.
    pub(super) deadline: Instant,
    /// The files made so far.
    pub(super) files: Vec<RemoteFile>,
    /// The picture and its address.
    pub(super) picture: Option<(String, Bytes)>,
    /// When the Space was asked to stop.
    pub(super) cancelled: Option<Instant>,
    /// The progress that is shown.
    pub(super) shown: Shown,
}

impl Run {
    pub(super) const fn space(&self) -> &Description {
        &self.spaces[self.part.side().index()]
    }

    pub(super) fn arguments(&self, image: &str) -> Vec<Argument> {
        use super::arguments::{flux, mesh, segment};
        match self.part {
            Part::Flux => flux(&self.work, image),
            Part::Segment => segment(image),
            Part::Mesh => mesh(&self.work, image),
        }
    }

    /// Ends the run.
    pub(super) fn end(&mut self, outcome: Outcome) {
        self.stage = Stage::Over(outcome);
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
            Stage::Over(Outcome::Succeeded) => {
                RunResult::Succeeded { files: self.files.clone(), times }
            }
            Stage::Over(Outcome::Failed(fault)) => {
                RunResult::Failed { fault: fault.clone(), files: self.files.clone(), times }
            }
            Stage::Over(Outcome::Cancelled) => RunResult::Cancelled { times },
            _ => RunResult::Pending(phase),
        }
    }

    fn parts(&self) -> (u64, u64) {
        let (all, before) = match (self.process_image, self.part) {
            (_, Part::Flux) => (2 + u64::from(self.process_image), 0),
            (true, Part::Segment | Part::Mesh) => (3, 1 + u64::from(self.part == Part::Mesh)),
            (false, Part::Segment | Part::Mesh) => (2, 1),
        };
        let is_done = matches!(self.stage, Stage::Over(Outcome::Succeeded));
        (before + u64::from(is_done), all)
    }
}

impl Spaces {
    /// Returns the current state of a run.
    pub(super) fn observation(&self, run: &Run) -> Observation {
        let shown = &run.shown;
        let phase = match &run.stage {
            Stage::Over(_) => Phase::Ended,
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
        Observation { phase, instance: None, unknown_word: None, progress: Some(progress) }
    }
}
