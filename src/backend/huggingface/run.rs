//! A run: where a job is on its way over the two Spaces.
//!
//! Owns the state and what is told of it. What moves it is [`super::steps`]'s.

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
    /// The Space of the picture.
    Flux,
    /// The Space of the mesh.
    Mesh,
}

impl Side {
    pub(super) const fn word(self) -> &'static str {
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

    /// Returns the functions that the road needs of it.
    pub(super) const fn functions(self, process_image: bool) -> &'static [&'static str] {
        match (self, process_image) {
            (Self::Flux, _) => &["infer"],
            (Self::Mesh, false) => &["process_3d"],
            (Self::Mesh, true) => &["process_image", "process_3d"],
        }
    }
}

/// A call on the road.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The picture.
    Flux,
    /// The picture without its background, where that is wanted.
    Segment,
    /// The mesh.
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

    /// Returns the node and the channel under which its file is listed.
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

/// A call that a Space took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The session whose events tell of it; `None` in the simple protocol.
    pub(super) session: Option<String>,
    /// The Space's id for it.
    pub(super) event: String,
    /// The function's number.
    pub(super) function: u64,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Stage {
    /// The Space has the call, and nobody listens yet.
    Joined(Ticket),
    /// Somebody listens.
    Listening(Ticket, Box<Stream>),
    /// The picture is at the first Space.
    Fetch(String),
    /// The picture is here, and goes to the second Space.
    Upload {
        /// Its name there.
        name: String,
        /// Its media type.
        mime: &'static str,
        /// The file.
        bytes: Bytes,
    },
    /// The next function is to be called with the file at this path.
    Join {
        /// The picture, on the second Space.
        image: String,
        /// The earliest moment: a full queue was met before.
        not_before: Instant,
        /// Attempts that failed.
        failures: u32,
    },
    /// It is over.
    Over(Outcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every part is there.
    Succeeded,
    /// One failed.
    Failed(ServiceFault),
    /// Somebody stopped it.
    Cancelled,
}

/// What people are shown of the call under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// Whether it waits in the Space's queue.
    pub(super) waits: bool,
    position: Option<u64>,
    doing: String,
    step: Option<(u64, u64)>,
    until: Option<Instant>,
}

impl Shown {
    /// Takes what an event says; `line` makes a text fit for people.
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

    /// Returns what is shown of something that is done here.
    pub(super) fn ours(doing: &str) -> Self {
        Self { doing: doing.to_owned(), ..Self::default() }
    }

    /// Returns what is shown of a call that is not taken yet.
    pub(super) fn waiting_because(why: &str) -> Self {
        Self { waits: true, ..Self::ours(why) }
    }

    /// Returns what is shown of a call that waits.
    pub(super) fn waiting() -> Self {
        Self { waits: true, ..Self::default() }
    }
}

/// A run.
#[derive(Debug)]
pub(super) struct Run {
    /// What was asked for.
    pub(super) work: SpacesWork,
    /// The two Spaces, by [`Side::index`].
    pub(super) spaces: [Description; 2],
    /// Whether the background is taken away in between.
    pub(super) process_image: bool,
    /// The call under way, or to be made next.
    pub(super) part: Part,
    /// What is to be done next.
    pub(super) stage: Stage,
    /// When the part's time is over.
    pub(super) deadline: Instant,
    /// What was made.
    pub(super) files: Vec<RemoteFile>,
    /// The picture and its address.
    pub(super) picture: Option<(String, Bytes)>,
    /// When the Space was told to stop.
    pub(super) cancelled: Option<Instant>,
    /// What people are shown.
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

    /// Ends it.
    pub(super) fn end(&mut self, outcome: Outcome) {
        self.stage = Stage::Over(outcome);
        // The render is not needed any more, and old runs are remembered for a while.
        self.work.picture.bytes = Bytes::new();
    }

    pub(super) fn picture_at(&self, url: &str) -> Option<Bytes> {
        self.picture.as_ref().filter(|(known, _)| known == url).map(|(_, bytes)| bytes.clone())
    }

    /// Returns how it ended; `phase` where it did not.
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
    /// Returns where a run is, as it is known now.
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
