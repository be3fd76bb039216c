//! The steps of a run: render to FLUX, picture to PartPacker, mesh.
//!
//! Owns each step, the deadlines, and the cancelling of calls that are no longer waited for. A step
//! that fails temporarily leaves the run as it was, so that the next `observe` retries it. A
//! permanent failure ends the run and keeps the files made so far.
//!
//! A broken call is not repeated here: its function may still run, and would run before ours in the
//! Space's queue. Whether to retry the job is decided where the other backends are known.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{
    Spaces, errors, files,
    gradio::{
        calls::Progression,
        describe::SpaceDescription,
        events::{self, SpaceEvent},
        sse::StreamItem,
    },
    run::{Run, RunOutcome, RunStage, ShownProgress, SpaceCall, SpaceSide},
    to_submit_error,
};
use crate::backend::{
    CallError, CancelReply, FaultKind, ServiceFault, SubmitError, work::SpacesPayload,
};

/// How long one `observe` waits in all for events that have not arrived yet.
const EVENT_WAIT: Duration = Duration::from_millis(120);

/// How long one `observe` continues from step to step, so that a finished picture need not wait for
/// the next call.
const MAX_ADVANCE: Duration = Duration::from_secs(2);

/// How long a cancelled call is waited for.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size in bytes of a picture that is held in memory. A WebP of 1024² pixels has about
/// one hundred thousand.
const PICTURE_LIMIT: usize = 64 * 1024 * 1024;

impl Spaces {
    /// Uploads the render to FLUX and makes the first call.
    pub(super) async fn begin(
        &self,
        work: &SpacesPayload,
        flux: SpaceDescription,
        mesh: SpaceDescription,
    ) -> Result<Run, SubmitError> {
        let title = self.title(SpaceSide::Flux);
        let mut run = Run {
            work: work.clone(),
            spaces: [flux, mesh],
            process_image: self.settings.process_image,
            part: SpaceCall::Mesh,
            stage: RunStage::Ended(RunOutcome::Cancelled),
            deadline: Instant::now() + self.settings.deadline,
            files: Vec::new(),
            picture: None,
            cancelled: None,
            shown: ShownProgress::waiting(),
        };
        // Arguments that the second Space would reject are rejected before the first Space starts.
        self.data(&run, "x").map_err(to_submit_error)?;
        run.part = SpaceCall::Flux;
        let picture = &work.picture;
        let path = self.upload(run.space(), &picture.name, &picture.mime, &picture.bytes, &title);
        let path = path.await.map_err(to_submit_error)?;
        run.stage = RunStage::Joined(self.join_first(&run, &path, &title).await?);
        Ok(run)
    }

    /// Advances a run as far as possible at the moment.
    pub(super) async fn advance(&self, run: &mut Run) -> Result<(), CallError> {
        let begun = Instant::now();
        loop {
            if matches!(run.stage, RunStage::Ended(_)) {
                return Ok(());
            }
            let pace = match self.advance_once(run).await {
                Ok(pace) => Ok(pace),
                Err(CallError::Fault(fault)) => {
                    Self::fail(run, fault);
                    Ok(Progression::Continue)
                }
                passing => passing,
            };
            // The deadline is checked last, so that a result that arrives just in time is
            // still used.
            if !matches!(run.stage, RunStage::Ended(_)) && Instant::now() >= run.deadline {
                self.abandon(run).await;
                let title = self.title(run.part.side());
                let limit = self.settings.deadline.as_secs();
                let message =
                    format!("{title} did not finish within {limit} s, so the call was given up");
                Self::end_run(run, RunOutcome::Failed(errors::lost(message)));
                return Ok(());
            }
            if pace? == Progression::Idle || begun.elapsed() > MAX_ADVANCE {
                return Ok(());
            }
        }
    }

    async fn advance_once(&self, run: &mut Run) -> Result<Progression, CallError> {
        let title = self.title(run.part.side());
        match &mut run.stage {
            RunStage::Joined(ticket) => {
                let ticket = ticket.clone();
                let mut url;
                if let Some(session) = &ticket.session {
                    url = run.space().at("/queue/data");
                    url.set_query(Some(&format!("session_hash={session}")));
                } else {
                    url =
                        run.space().at(&format!("/call/{}/{}", run.part.function(), ticket.event));
                }
                let stream = self.wire.listen(url, &title).await?;
                run.stage = RunStage::Listening(ticket, Box::new(stream));
                Ok(Progression::Continue)
            }
            RunStage::Listening(..) => self.listen(run).await,
            RunStage::Fetch(path) => {
                let url = files::address(&run.spaces[SpaceSide::Flux.index()], path);
                let title = self.title(SpaceSide::Flux);
                let limit = PICTURE_LIMIT
                    .min(usize::try_from(self.settings.max_artifact).unwrap_or(PICTURE_LIMIT));
                let bytes = self.wire.file(url.clone(), limit, &title).await?;
                self.take_picture(run, &url, bytes);
                Ok(Progression::Continue)
            }
            RunStage::Upload { name, mime, bytes } => {
                let (name, mime, bytes) = (name.clone(), *mime, bytes.clone());
                let image = self.upload(run.space(), &name, mime, &bytes, &title).await?;
                run.stage = RunStage::Join { image, not_before: Instant::now(), failures: 0 };
                Ok(Progression::Continue)
            }
            RunStage::Join { not_before, .. } if Instant::now() < *not_before => {
                Ok(Progression::Idle)
            }
            RunStage::Join { image, failures, .. } => {
                let (image, failures) = (image.clone(), *failures);
                self.join_next(run, &image, failures, &title).await
            }
            RunStage::Ended(_) => Ok(Progression::Idle),
        }
    }

    /// Reads the events that have arrived.
    async fn listen(&self, run: &mut Run) -> Result<Progression, CallError> {
        let title = self.title(run.part.side());
        let (linger, until) = (Instant::now() + EVENT_WAIT, Instant::now() + MAX_ADVANCE);
        loop {
            let RunStage::Listening(ticket, stream) = &mut run.stage else {
                return Ok(Progression::Continue);
            };
            // Events that have already arrived are read even if the time is over.
            let Ok(next) = timeout_at(linger, stream.next()).await else { break };
            let event = match next {
                StreamItem::Frame(frame) if ticket.session.is_some() => {
                    events::of_queue(&frame, &ticket.event)
                }
                StreamItem::Frame(frame) => events::of_call(&frame),
                StreamItem::Ended(reason) => {
                    let why = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
                    let message =
                        format!("the connection to {title} broke before it finished{why}");
                    self.abandon(run).await;
                    Self::end_run(run, RunOutcome::Failed(errors::lost(message)));
                    return Ok(Progression::Continue);
                }
            };
            run.shown.update(&event, |text| self.wire.line(text));
            match event {
                SpaceEvent::Done(outputs) => {
                    self.take_outputs(run, &outputs);
                    return Ok(Progression::Continue);
                }
                SpaceEvent::Cancelled => {
                    run.end(RunOutcome::Cancelled);
                    return Ok(Progression::Continue);
                }
                SpaceEvent::Failed(text) => {
                    let text = self.wire.line(&text);
                    Self::end_run(run, RunOutcome::Failed(errors::app_fault(&title, &text)));
                    if errors::is_quota(&text) {
                        self.pause_for_quota(run.part.side(), &text);
                    }
                    return Ok(Progression::Continue);
                }
                SpaceEvent::Lost(text) => {
                    let message = format!("{title} has lost the result: {}", self.wire.line(&text));
                    Self::end_run(run, RunOutcome::Failed(errors::lost(message)));
                    return Ok(Progression::Continue);
                }
                _ if Instant::now() > until => return Ok(Progression::Idle),
                _ => {}
            }
        }
        let silence = match &run.stage {
            RunStage::Listening(_, stream) => stream.idle_for(),
            _ => Duration::ZERO,
        };
        if silence > self.settings.read_idle_timeout {
            let message =
                format!("{title} sent nothing for {} s, not even a heartbeat", silence.as_secs());
            self.abandon(run).await;
            Self::end_run(run, RunOutcome::Failed(errors::lost(message)));
        } else if run.cancelled.is_some_and(|at| at.elapsed() > CANCEL_TIMEOUT) {
            run.end(RunOutcome::Cancelled);
        }
        Ok(Progression::Idle)
    }

    /// Takes the output of a call and continues with the next call.
    fn take_outputs(&self, run: &mut Run, outputs: &[Value]) {
        if run.cancelled.is_some() && run.part != SpaceCall::Mesh {
            return run.end(RunOutcome::Cancelled);
        }
        let Some(found) = files::find(outputs, run.part.extensions()) else {
            let title = self.title(run.part.side());
            let what = if run.part == SpaceCall::Mesh { "mesh" } else { "picture" };
            let message = format!("{title} finished but returned no {what}");
            return run.end(RunOutcome::Failed(errors::empty_result(message)));
        };
        let url = files::address(run.space(), &found.path);
        match run.part {
            SpaceCall::Flux => {
                let next = if run.process_image { SpaceCall::Segment } else { SpaceCall::Mesh };
                run.files.push(files::remote(SpaceCall::Flux, &url, found.name));
                self.enter_stage(run, next, RunStage::Fetch(found.path));
            }
            // The same server, so its own path can be used without an upload.
            SpaceCall::Segment => {
                let stage =
                    RunStage::Join { image: found.path, not_before: Instant::now(), failures: 0 };
                self.enter_stage(run, SpaceCall::Mesh, stage);
            }
            SpaceCall::Mesh => {
                run.files.push(files::remote(SpaceCall::Mesh, &url, found.name));
                run.end(RunOutcome::Succeeded);
            }
        }
    }

    fn enter_stage(&self, run: &mut Run, part: SpaceCall, stage: RunStage) {
        run.shown = ShownProgress::local("uploading the picture");
        (run.part, run.stage) = (part, stage);
        run.deadline = Instant::now() + self.settings.deadline;
    }

    /// Checks FLUX's picture before it is passed on.
    fn take_picture(&self, run: &mut Run, url: &url::Url, bytes: Bytes) {
        let Some((extension, mime)) = files::picture_kind(&bytes) else {
            let title = self.title(SpaceSide::Flux);
            let message = format!("{title} returned a file that is not a picture");
            // A file that cannot be a picture is not worth keeping in quarantine as one.
            run.files.clear();
            return run.end(RunOutcome::Failed(errors::lost(message)));
        };
        if let Some(file) = run.files.first_mut()
            && file.extension() != extension
        {
            file.filename = format!("image.{extension}");
        }
        run.picture = Some((url.as_str().to_owned(), bytes.clone()));
        run.stage = RunStage::Upload { name: format!("flux.{extension}"), mime, bytes };
    }

    fn fail(run: &mut Run, mut fault: ServiceFault) {
        // The fault is about a Space and not about our request, which exists as long as we say so.
        if fault.kind == FaultKind::Gone {
            fault.kind = FaultKind::Service;
        }
        Self::end_run(run, RunOutcome::Failed(fault));
    }

    /// Ends a run. A run that was asked to stop counts as cancelled, whatever the stream says.
    fn end_run(run: &mut Run, outcome: RunOutcome) {
        let outcome = if run.cancelled.is_some() { RunOutcome::Cancelled } else { outcome };
        run.end(outcome);
    }

    /// Stops a run that is no longer wanted. If the Space cannot be notified, the run is at least
    /// no longer waited for; it costs nothing.
    pub(super) async fn stop(&self, run: &mut Run) -> Result<CancelReply, CallError> {
        let ticket = match &run.stage {
            RunStage::Ended(_) => return Ok(CancelReply::TooLate),
            RunStage::Joined(ticket) | RunStage::Listening(ticket, _) => Some(ticket.clone()),
            RunStage::Fetch(_) | RunStage::Upload { .. } | RunStage::Join { .. } => None,
        };
        let Some((ticket, session)) = ticket.and_then(|ticket| {
            let session = ticket.session.clone()?;
            Some((ticket, session))
        }) else {
            run.end(RunOutcome::Cancelled);
            return Ok(CancelReply::Requested);
        };
        let title = self.title(run.part.side());
        match self.send_cancel(run, &ticket, &session, self.settings.call_timeout, &title).await {
            Ok(()) => {
                run.cancelled.get_or_insert_with(Instant::now);
                run.shown = ShownProgress::local("being cancelled");
            }
            Err(CallError::Fault(_)) => run.end(RunOutcome::Cancelled),
            Err(passing) => return Err(passing),
        }
        Ok(CancelReply::Requested)
    }
}
