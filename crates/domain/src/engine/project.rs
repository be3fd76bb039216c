//! The state of one project over time: its two inputs, the active job and the manual requests.
//!
//! Owns everything that concerns a single project. What projects share (slots, the hourly limit)
//! belongs to [`super::Engine`].

use std::{collections::VecDeque, time::Duration};

use super::event::{Baseline, Effect, JobStage, ProjectId, RequestTicket};
use crate::{
    fingerprint::Fingerprint,
    inputs::{
        debounce::{DebouncedInput, InputState},
        trigger::{self, AtStart, Decision, Settings, WaitReason},
    },
    job::{Cause, Inputs},
    time::Moment,
};

/// How long before a debounce window closes the early preparation begins: long enough to encode a
/// picture and to open a TLS connection, short enough not to repeat it at every tick of a scene
/// that is still being sculpted.
pub(super) const PREPARE_LEAD: Duration = Duration::from_secs(1);

/// How long an import may take to become visible: two ticks of CONJURE's auto-refresh (3.1 s each).
/// If the configured debounce time is shorter than a tick, a quiet period before the first picture
/// proves nothing.
pub(super) const IMPORT_DELAY: Duration = Duration::from_millis(6500);

/// How long to wait for the first picture after an import if none was written since: a big scene on
/// a small machine takes many seconds to render, and that picture shows our own mesh. After this
/// time without a picture, nothing is rendering.
const SLOWEST_RENDER: Duration = Duration::from_secs(60);

/// How long an answer "no hands" stays valid: the release follows at once.
const NO_HANDS_VALID_FOR: Duration = Duration::from_secs(1);

/// How often to check again while hands hold back a release.
const HANDS_RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What is known about hands in the picture. The daemon checks only when the answer matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandState {
    Unknown,
    Requested,
    InPicture(Moment),
    Away(Moment),
}

/// How long changed renders count as the effect of our own mesh.
#[derive(Clone, Copy, Debug)]
pub(super) enum IgnoreOwnEffect {
    /// The time of the import will not be reported: ignore changes until this moment.
    Until(Moment),
    /// CONJURE has the mesh: ignore changes until the picture has changed and is stable again, or
    /// until it was rendered again and has not changed for two ticks.
    Import { since: Moment, changed: Option<Moment> },
}

impl IgnoreOwnEffect {
    fn is_active(self, render: &DebouncedInput, quiet: Duration, now: Moment) -> bool {
        match self {
            Self::Until(until) => now <= until,
            Self::Import { changed: Some(changed), .. } => now.since(changed) < quiet,
            Self::Import { since, changed: None } => {
                let least = quiet.max(IMPORT_DELAY);
                let longest =
                    if render.is_rewritten(since) { least } else { least.max(SLOWEST_RENDER) };
                now.since(since) < longest
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct EngineJob {
    pub(super) stage: JobStage,
    pub(super) superseding: bool,
    /// The baselines to restore if the job turns out not to have started.
    pub(super) before: Option<(Option<Fingerprint>, Option<Fingerprint>)>,
    pub(super) render_only: bool,
    /// Whether it is a manual request.
    pub(super) user_requested: bool,
    /// When it started, as the hourly limit counts it; `None` for a job that another session began.
    pub(super) started: Option<Moment>,
}

impl EngineJob {
    /// Describes a job that an earlier session began. The baselines before it are no longer known.
    pub(super) const fn resumed(stage: JobStage) -> Self {
        Self {
            stage,
            superseding: false,
            before: None,
            render_only: false,
            user_requested: false,
            started: None,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct StartRefusal {
    pub(super) retry_at: Option<Moment>,
    pub(super) reason: String,
    pub(super) inputs: (Option<Fingerprint>, Option<Fingerprint>),
}

/// Which inputs still belong to the first scan, and until when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BaselineGrace {
    pub(super) until: Moment,
    pub(super) prompt: bool,
    pub(super) render: bool,
}

#[derive(Debug)]
pub(super) struct Project {
    pub(super) prompt: DebouncedInput,
    pub(super) render: DebouncedInput,
    pub(super) remembered: Baseline,
    pub(super) scanned: bool,
    /// Inputs that the first scan of a baseline start found in the middle of a write.
    pub(super) baseline_grace: Option<BaselineGrace>,
    /// Set while changed renders count as the effect of our own mesh.
    pub(super) ignore_own_effect: Option<IgnoreOwnEffect>,
    pub(super) hands: HandState,
    /// Whether the inputs already differed at the daemon's first scan.
    pub(super) differed_at_start: bool,
    pub(super) prepared: Option<Inputs>,
    pub(super) job: Option<EngineJob>,
    pub(super) requested: VecDeque<RequestTicket>,
    pub(super) last_render_only: Option<Moment>,
    pub(super) refusal: Option<StartRefusal>,
    /// Whether a scan is on its way.
    pub(super) touched: bool,
}

impl Project {
    pub(super) fn new(remembered: Baseline) -> Self {
        Self {
            prompt: DebouncedInput::new(remembered.prompt),
            render: DebouncedInput::new(remembered.render),
            remembered,
            scanned: false,
            baseline_grace: None,
            ignore_own_effect: None,
            hands: HandState::Unknown,
            differed_at_start: false,
            prepared: None,
            job: None,
            requested: VecDeque::new(),
            last_render_only: None,
            refusal: None,
            touched: false,
        }
    }

    /// Notes that one of our results was placed: picture changes count as its effect for a while,
    /// unless the length of that time is already known.
    pub(super) fn expect_own_effect(&mut self, settings: &Settings, now: Moment) {
        self.expire_own_effect(settings, now);
        if !matches!(self.ignore_own_effect, Some(IgnoreOwnEffect::Import { .. })) {
            self.ignore_own_effect =
                Some(IgnoreOwnEffect::Until(now.plus(settings.after_result_hold)));
        }
    }

    /// Notes that CONJURE has our mesh or may have it at any moment. If repeated, the changes since
    /// the first call still count as its effect.
    pub(super) fn record_imported(&mut self, settings: &Settings, now: Moment) {
        self.expire_own_effect(settings, now);
        let changed = match self.ignore_own_effect {
            Some(IgnoreOwnEffect::Import { changed, .. }) => changed,
            Some(IgnoreOwnEffect::Until(_)) | None => None,
        };
        self.ignore_own_effect = Some(IgnoreOwnEffect::Import { since: now, changed });
    }

    /// Ends the time in which changes count as our own effect, once it is over.
    fn expire_own_effect(&mut self, settings: &Settings, now: Moment) {
        let lasts =
            |absorb: &IgnoreOwnEffect| absorb.is_active(&self.render, settings.render.quiet, now);
        self.ignore_own_effect = self.ignore_own_effect.filter(lasts);
    }

    pub(super) fn record_scan(
        &mut self,
        settings: &Settings,
        now: Moment,
        id: ProjectId,
        prompt: InputState,
        render: InputState,
        effects: &mut Vec<Effect>,
    ) {
        let first = !self.scanned;
        self.scanned = true;
        let baseline_start = match settings.at_start {
            AtStart::Changed => !self.remembered.known,
            AtStart::Never => true,
            AtStart::Always => false,
        };
        if first && settings.at_start == AtStart::Always {
            self.prompt.set_baseline(None);
            self.render.set_baseline(None);
        }
        self.expire_own_effect(settings, now);

        if first && baseline_start {
            // A file found in the middle of a write belongs to the baseline once it is complete.
            // One that does not become complete soon must not extend the first scan indefinitely.
            self.baseline_grace = Some(BaselineGrace {
                until: now.plus(settings.render.quiet),
                prompt: true,
                render: true,
            });
        }
        self.baseline_grace = self.baseline_grace.filter(|adopt| now <= adopt.until);
        let adopt = self.baseline_grace.unwrap_or_default();

        let mut sets_baseline = first && baseline_start;
        let prompt_changed = self.prompt.observe(now, prompt, settings.prompt);
        if prompt_changed && adopt.prompt {
            self.prompt.set_baseline(self.prompt.current());
            sets_baseline = true;
        }
        let render_was_pending = self.render.pending_since().is_some();
        let render_changed = self.render.observe(now, render, settings.render);
        if render_changed && self.render.current().is_some() {
            if let Some(IgnoreOwnEffect::Import { changed, .. }) = &mut self.ignore_own_effect {
                *changed = Some(now);
            }
            if adopt.render || (self.ignore_own_effect.is_some() && !render_was_pending) {
                self.render.set_baseline(self.render.current());
                sets_baseline = true;
            }
        }
        if let Some(adopt) = &mut self.baseline_grace {
            let unfinished = |input: &DebouncedInput| {
                input.current().is_none()
                    && matches!(input.state(), Some(InputState::Incomplete { .. }))
            };
            adopt.prompt &= unfinished(&self.prompt);
            adopt.render &= unfinished(&self.render);
        }
        let differs = self.waiting_since().is_some();
        self.differed_at_start = differs && (first || self.differed_at_start);
        if sets_baseline {
            effects.push(Effect::SetBaseline {
                project: id,
                prompt: self.prompt.baseline(),
                render: self.render.baseline(),
            });
        }
    }

    /// Returns when early preparation of the pending snapshot should begin.
    pub(super) fn prepare_at(&self, settings: &Settings, now: Moment) -> Option<Moment> {
        if self.job.is_some() || self.prepared.is_some() && self.prepared == self.snapshot() {
            return None;
        }
        match self.decide(settings, now) {
            Decision::Wait(WaitReason::Debouncing(at) | WaitReason::MinInterval(at)) => {
                Some(at.minus(PREPARE_LEAD).max(now))
            }
            Decision::Wait(_) | Decision::Release(_) => None,
        }
    }

    pub(super) fn snapshot(&self) -> Option<Inputs> {
        Some(Inputs { prompt: self.prompt.current()?, render: self.render.current()? })
    }

    pub(super) fn decide(&self, settings: &Settings, now: Moment) -> Decision {
        trigger::decide(settings, &self.prompt, &self.render, self.last_render_only, now)
    }

    pub(super) fn waiting_since(&self) -> Option<Moment> {
        if !self.requested.is_empty() {
            return Some(Moment::default());
        }
        match (self.prompt.pending_since(), self.render.pending_since()) {
            (Some(prompt), Some(render)) => Some(prompt.min(render)),
            (prompt, render) => prompt.or(render),
        }
    }

    pub(super) fn start(
        &mut self,
        now: Moment,
        before: Option<(Option<Fingerprint>, Option<Fingerprint>)>,
        render_only: bool,
        person: bool,
    ) {
        self.refusal = None;
        self.job = Some(EngineJob {
            stage: JobStage::Waiting,
            superseding: false,
            before,
            render_only,
            user_requested: person,
            started: Some(now),
        });
    }

    /// Takes back a job that did not start. Returns when it was counted as a start, if it was.
    pub(super) fn record_not_started(
        &mut self,
        now: Moment,
        retry_at: Option<Moment>,
        reason: String,
    ) -> Option<Moment> {
        let job = self.job.take()?;
        let Some((prompt, render)) = job.before else { return job.started };
        // The refusal applies to the inputs of this job; a newer snapshot is tried at once.
        let inputs = (self.prompt.baseline(), self.render.baseline());
        self.prompt.restore_pending(now, prompt);
        self.render.restore_pending(now, render);
        if job.render_only {
            self.last_render_only = None;
        }
        self.refusal = Some(StartRefusal { retry_at, reason, inputs });
        job.started
    }

    /// Ends the job. A superseded job gives its change back: if the inputs return to that content,
    /// it is pending again.
    pub(super) fn record_ended(
        &mut self,
        now: Moment,
        id: ProjectId,
        placed: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.job.take() else { return };
        if let (true, false, Some((prompt, render))) = (job.superseding, placed, job.before) {
            self.prompt.restore_pending(now, prompt);
            self.render.restore_pending(now, render);
            effects.push(Effect::SetBaseline { project: id, prompt, render });
        }
    }

    /// Returns whether hands hold back a job caused by the render alone. Requests a check if the
    /// answer is not known.
    pub(super) fn is_held_by_hands(
        &mut self,
        now: Moment,
        id: ProjectId,
        effects: &mut Vec<Effect>,
    ) -> bool {
        match self.hands {
            HandState::Away(at) if now.since(at) < NO_HANDS_VALID_FOR => return false,
            HandState::Requested => {}
            HandState::InPicture(at) if now.since(at) < HANDS_RECHECK_INTERVAL => {}
            HandState::Unknown | HandState::InPicture(_) | HandState::Away(_) => {
                self.hands = HandState::Requested;
                effects.push(Effect::CheckHands { project: id });
            }
        }
        true
    }

    /// Notes that a manual job used these inputs: where the content is still the same, it is no
    /// longer a change.
    pub(super) fn record_inputs_taken(&mut self, inputs: Inputs) {
        if self.prompt.current() == Some(inputs.prompt) {
            self.prompt.set_baseline(Some(inputs.prompt));
        }
        if self.render.current() == Some(inputs.render) {
            self.render.set_baseline(Some(inputs.render));
        }
    }

    /// Returns whether the last refusal still applies. It ends at its time limit or when the
    /// inputs change.
    pub(super) fn check_refusal(&mut self, now: Moment) -> bool {
        let stands = self.is_refused(now);
        if !stands {
            self.refusal = None;
        }
        stands
    }

    fn is_refused(&self, now: Moment) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| {
            let same = refusal.inputs == (self.prompt.current(), self.render.current());
            same && refusal.retry_at.is_none_or(|at| now < at)
        })
    }

    /// Returns when the next action is due if no other event arrives, or `now` if it is already
    /// due. A deadline can pass between the last event and this call, and must not be lost. `free`
    /// says whether a paid slot is free.
    pub(super) fn deadline(
        &self,
        settings: &Settings,
        hourly: Option<Moment>,
        free: bool,
        now: Moment,
    ) -> Option<Moment> {
        let release = match self.decide(settings, now) {
            // The scan that is on its way is an event of its own.
            _ if self.touched && self.requested.is_empty() => return None,
            Decision::Wait(WaitReason::Debouncing(at) | WaitReason::MinInterval(at)) => Some(at),
            Decision::Wait(_) => None,
            // Hands hold back the cancellation of an active job: check them again.
            Decision::Release(Cause::Render)
                if self.job.is_some() && settings.hold_while_sculpting =>
            {
                match self.hands {
                    HandState::InPicture(at) => {
                        Some(at.plus(HANDS_RECHECK_INTERVAL)).filter(|at| *at > now)
                    }
                    HandState::Unknown | HandState::Requested | HandState::Away(_) => None,
                }
            }
            // Ready, but a job is active or no slot is free: the end of that job is an event
            // of its own.
            Decision::Release(_) if self.job.is_some() || !free => None,
            Decision::Release(cause) => {
                match self.refusal.as_ref().filter(|_| self.is_refused(now)) {
                    Some(refusal) => refusal.retry_at,
                    None if hourly.is_none()
                        && settings.hold_while_sculpting
                        && cause == Cause::Render =>
                    {
                        match self.hands {
                            // The answer is an event of its own.
                            HandState::Requested => None,
                            HandState::InPicture(at) => {
                                Some(at.plus(HANDS_RECHECK_INTERVAL).max(now))
                            }
                            HandState::Unknown | HandState::Away(_) => Some(now),
                        }
                    }
                    None => hourly.or(Some(now)),
                }
            }
        };
        let prepare = self.snapshot().and_then(|_| self.prepare_at(settings, now));
        [release, prepare].into_iter().flatten().min()
    }
}
