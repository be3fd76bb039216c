//! The decision engine: scans and reports go in, effects come out.
//!
//! Owns, for every project, its two inputs, the active job and the pending work; and across all
//! projects how many paid jobs run at once and how many started within the last hour. It has no
//! side effects: the daemon carries out each [`Effect`] and reports back with an [`Event`]. The
//! newest snapshot wins, and each project has one job at a time.

pub mod event;
mod project;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use self::{
    event::{Baseline, Effect, Event, HoldReason, JobSource, JobStage, ProjectId},
    project::{EngineJob, HandState, Project},
};
use super::{
    inputs::{
        debounce::InputState,
        trigger::{Decision, Settings, WhenBusy},
    },
    job::{Cause, Inputs},
    time::Moment,
};

/// The maximum number of manual requests that may be pending for one project.
pub const MAX_REQUESTED: usize = 16;

const HOUR: Duration = Duration::from_secs(3600);

/// Holds all state that decisions depend on.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    max_in_flight: usize,
    projects: BTreeMap<ProjectId, Project>,
    /// When jobs started within the last hour, oldest first.
    recent_starts: VecDeque<Moment>,
    stopping: bool,
}

impl Engine {
    /// Creates an engine without projects. `starts` are the job starts of the last hour from the
    /// ledger, oldest first.
    pub fn new(settings: Settings, max_in_flight: usize, starts: Vec<Moment>) -> Self {
        Self {
            settings,
            max_in_flight: max_in_flight.max(1),
            projects: BTreeMap::new(),
            recent_starts: starts.into(),
            stopping: false,
        }
    }

    /// Starts serving a project. A project that is already served keeps its state.
    pub fn add(&mut self, project: ProjectId, remembered: Baseline) {
        self.projects.entry(project).or_insert_with(|| Project::new(remembered));
    }

    /// Stops serving every project that is not in `keep`.
    pub fn retain(&mut self, keep: &[ProjectId]) {
        self.projects.retain(|project, _| keep.contains(project));
    }

    /// Applies new settings. Open debounce windows continue under them, and a job that could not
    /// start is tried again.
    pub fn reconfigure(&mut self, settings: Settings, max_in_flight: usize) {
        self.settings = settings;
        self.max_in_flight = max_in_flight.max(1);
        for project in self.projects.values_mut() {
            project.refusal = None;
        }
    }

    /// Processes one event and returns the effects to carry out.
    pub fn handle(&mut self, now: Moment, event: Event) -> Vec<Effect> {
        self.handle_all(now, [event])
    }

    /// Processes events that belong together, and only then releases what may start: nothing new
    /// starts in between, for example between the end of a job and the resumption of another one of
    /// an earlier session.
    pub fn handle_all(
        &mut self,
        now: Moment,
        events: impl IntoIterator<Item = Event>,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        for event in events {
            self.apply_event(now, event, &mut effects);
        }
        self.release(now, &mut effects);
        effects
    }

    fn apply_event(&mut self, now: Moment, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Touched { project } => {
                if let Some(state) = self.projects.get_mut(&project) {
                    state.touched = true;
                }
            }
            Event::Scanned { project, prompt, render } => {
                if let Some(state) = self.projects.get_mut(&project) {
                    state.touched = false;
                    state.record_scan(&self.settings, now, project, prompt, render, effects);
                }
            }
            Event::InputsTaken { project, inputs } => {
                if let Some(state) = self.projects.get_mut(&project) {
                    state.record_inputs_taken(inputs);
                }
            }
            Event::Requested { project, ticket } => {
                if let Some(state) = self.projects.get_mut(&project)
                    && state.requested.len() < MAX_REQUESTED
                {
                    state.requested.push_back(ticket);
                }
            }
            Event::Resumed { project, stage } => {
                if let Some(state) = self.projects.get_mut(&project) {
                    state.job = Some(EngineJob::resumed(stage));
                }
            }
            Event::StageChanged { project, stage } => {
                if let Some(job) = self.projects.get_mut(&project).and_then(|p| p.job.as_mut()) {
                    job.stage = stage;
                }
            }
            Event::Ended { project, placed } => {
                if let Some(state) = self.projects.get_mut(&project) {
                    state.record_ended(now, project, placed, effects);
                    if placed {
                        state.expect_own_effect(&self.settings, now);
                    }
                }
            }
            Event::Restored { project } => {
                if let Some(state) = self.projects.get_mut(&project) {
                    state.expect_own_effect(&self.settings, now);
                }
            }
            Event::Imported { project } => {
                if let Some(state) = self.projects.get_mut(&project) {
                    state.record_imported(&self.settings, now);
                }
            }
            Event::HandsChecked { project, tracked } => {
                if let Some(state) = self.projects.get_mut(&project) {
                    state.hands =
                        if tracked { HandState::InPicture(now) } else { HandState::Away(now) };
                }
            }
            Event::NotStarted { project, retry_at, reason } => {
                let counted = self
                    .projects
                    .get_mut(&project)
                    .and_then(|state| state.record_not_started(now, retry_at, reason));
                // Its own start alone is no start any more: another project's still counts.
                let own = counted
                    .and_then(|at| self.recent_starts.iter().rposition(|start| *start == at));
                own.map(|at| self.recent_starts.remove(at));
            }
            Event::Tick => {}
            Event::Stopping => self.stopping = true,
        }
    }

    /// Starts every job that may start, beginning with the project that has waited longest.
    fn release(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        while self.recent_starts.front().is_some_and(|start| now.since(*start) >= HOUR) {
            self.recent_starts.pop_front();
        }
        if self.stopping {
            return;
        }
        let mut waiting: Vec<(Moment, ProjectId)> = self
            .projects
            .iter()
            .filter_map(|(id, project)| Some((project.waiting_since()?, *id)))
            .collect();
        waiting.sort_unstable();
        for (_, id) in waiting {
            self.release_one(now, id, effects);
            self.prepare_one(now, id, effects);
        }
    }

    fn release_one(&mut self, now: Moment, id: ProjectId, effects: &mut Vec<Effect>) {
        let free_slot = self.in_flight() < self.max_in_flight;
        let below_hourly = self.hourly_limit_until().is_none();
        let settings = self.settings;
        let Some(project) = self.projects.get_mut(&id) else { return };
        let decision = project.decide(&settings, now);

        if let Some(job) = &mut project.job {
            // A manually requested job is never cancelled for a newer snapshot.
            let wanted =
                matches!(decision, Decision::Release(_)) && below_hourly && !job.user_requested;
            let may_cancel = match settings.when_busy {
                // Nothing is cancelled at this stage: a request that CONJURE already has
                // stays valid.
                _ if job.stage == JobStage::HandingOver => true,
                WhenBusy::Wait => false,
                WhenBusy::ReplaceQueued => {
                    matches!(job.stage, JobStage::Waiting | JobStage::Queued)
                }
                WhenBusy::Cancel => {
                    matches!(job.stage, JobStage::Waiting | JobStage::Queued | JobStage::Running)
                }
            };
            if wanted && may_cancel && !job.superseding && project.refusal.is_none() {
                if held_by_hands(&settings, &decision) && project.is_held_by_hands(now, id, effects)
                {
                    return;
                }
                if let Some(job) = &mut project.job {
                    job.superseding = true;
                }
                effects.push(Effect::Supersede { project: id });
            }
            return;
        }
        if !free_slot {
            return;
        }
        // A manual request skips the trigger rules and the hourly limit: that limit only guards
        // against loops.
        if let Some(ticket) = project.requested.pop_front() {
            project.start(now, None, false, true);
            self.recent_starts.push_back(now);
            effects.push(Effect::Start {
                project: id,
                work: JobSource::Requested(ticket),
                cause: Cause::Person,
            });
            return;
        }
        // On a busy machine the last scan may be outdated. The disk has the truth, and a new scan
        // is already on its way.
        if project.touched || !below_hourly || project.check_refusal(now) {
            return;
        }
        if held_by_hands(&settings, &decision) && project.is_held_by_hands(now, id, effects) {
            return;
        }
        if let Decision::Release(cause) = decision
            && let Some(inputs) = project.snapshot()
        {
            project.hands = HandState::Unknown;
            let cause = if project.differed_at_start { Cause::Start } else { cause };
            let render_only = cause == Cause::Render;
            let before = (project.prompt.baseline(), project.render.baseline());
            project.start(now, Some(before), render_only, false);
            project.prompt.set_baseline(Some(inputs.prompt));
            project.render.set_baseline(Some(inputs.render));
            project.prepared = None;
            project.differed_at_start = false;
            if render_only {
                project.last_render_only = Some(now);
            }
            self.recent_starts.push_back(now);
            effects.push(Effect::Start { project: id, work: JobSource::Snapshot(inputs), cause });
        }
    }

    /// Requests early preparation, once for each snapshot that is about to be released.
    fn prepare_one(&mut self, now: Moment, id: ProjectId, effects: &mut Vec<Effect>) {
        let Some(project) = self.projects.get_mut(&id) else { return };
        if project.prepare_at(&self.settings, now).is_some_and(|at| at <= now)
            && let Some(inputs) = project.snapshot()
        {
            project.prepared = Some(inputs);
            effects.push(Effect::Prepare { project: id, inputs });
        }
    }

    /// Returns how many jobs may currently occupy a paid machine.
    fn in_flight(&self) -> usize {
        let paid = |project: &&Project| {
            let over = |stage| matches!(stage, JobStage::Placing | JobStage::HandingOver);
            project.job.is_some_and(|job| !over(job.stage))
        };
        self.projects.values().filter(paid).count()
    }

    fn hourly_limit_until(&self) -> Option<Moment> {
        let limit = usize::try_from(self.settings.max_jobs_per_hour).unwrap_or(usize::MAX);
        // The start that must become older than an hour before another job may start.
        let index = self.recent_starts.len().checked_sub(limit.max(1))?;
        self.recent_starts.get(index).map(|start| start.plus(HOUR))
    }

    /// Returns when [`Event::Tick`] is due if no other event arrives first. Returns `now` if it is
    /// already due.
    pub fn deadline(&self, now: Moment) -> Option<Moment> {
        if self.stopping {
            return None;
        }
        let hourly = self.hourly_limit_until();
        let free = self.in_flight() < self.max_in_flight;
        self.projects
            .values()
            .filter_map(|project| project.deadline(&self.settings, hourly, free, now))
            .min()
    }

    /// Returns why a project's next job does not start.
    pub fn hold_reason(&self, project: ProjectId, now: Moment) -> Option<HoldReason> {
        let state = self.projects.get(&project)?;
        let decision = state.decide(&self.settings, now);
        Some(match decision {
            _ if self.stopping => HoldReason::Stopping,
            _ if state.job.is_some_and(|job| job.superseding) => HoldReason::Superseding,
            _ if state.job.is_some() => HoldReason::JobRunning,
            Decision::Wait(wait) => HoldReason::Trigger(wait),
            Decision::Release(_) => match (&state.refusal, self.hourly_limit_until()) {
                (Some(refusal), _) => HoldReason::NotStarted(refusal.reason.clone()),
                (None, Some(until)) => HoldReason::HourlyLimit(until),
                (None, None)
                    if matches!(state.hands, HandState::InPicture(_) | HandState::Requested) =>
                {
                    HoldReason::HandsInPicture
                }
                (None, None) => HoldReason::NoFreeSlot,
            },
        })
    }

    /// Returns the newest complete snapshot of a project.
    pub fn snapshot(&self, project: ProjectId) -> Option<Inputs> {
        self.projects.get(&project)?.snapshot()
    }

    /// Returns what the last scan found for the prompt and the render.
    pub fn input_states(
        &self,
        project: ProjectId,
    ) -> Option<(Option<&InputState>, Option<&InputState>)> {
        let state = self.projects.get(&project)?;
        Some((state.prompt.state(), state.render.state()))
    }
}

/// Returns whether `decision` is one that is held back while hands are in the picture.
fn held_by_hands(settings: &Settings, decision: &Decision) -> bool {
    settings.hold_while_sculpting && *decision == Decision::Release(Cause::Render)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprint;

    #[test]
    fn a_window_that_closes_between_an_event_and_the_next_question_is_not_lost() {
        let project = ProjectId(1);
        let [old, new] = [b"old", b"new"].map(|text| Fingerprint::of(text));
        let mut engine = Engine::new(Settings::default(), 1, Vec::new());
        engine.add(project, Baseline { known: true, prompt: Some(old), render: Some(old) });
        let begun = Moment::from_millis(1000);
        let [prompt, render] = [new, old].map(InputState::Complete);
        engine.handle(begun, Event::Scanned { project, prompt, render });

        let late = begun.plus(Duration::from_secs(1));
        assert_eq!(engine.deadline(late), Some(late), "it is time already");
        let effects = engine.handle(late, Event::Tick);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Start { .. })));
        assert_eq!(engine.deadline(late), None, "nothing is left to do, or the daemon would spin");
    }

    #[test]
    fn nothing_starts_between_a_jobs_end_and_the_older_job_behind_it_and_its_effect_is_absorbed() {
        let project = ProjectId(1);
        let [old, new, ours] = [b"old", b"new", b"our"].map(|text| Fingerprint::of(text));
        let mut engine = Engine::new(Settings::default(), 1, Vec::new());
        engine.add(project, Baseline { known: true, prompt: Some(old), render: Some(old) });
        let begun = Moment::from_millis(1000);
        engine.handle(begun, Event::Resumed { project, stage: JobStage::Placing });
        let look = |prompt, render| {
            let [prompt, render] = [prompt, render].map(InputState::Complete);
            Event::Scanned { project, prompt, render }
        };
        engine.handle(begun, look(new, old));

        let later = begun.plus(Duration::from_secs(5));
        let end = Event::Ended { project, placed: true };
        let next = Event::Resumed { project, stage: JobStage::Running };
        let effects = engine.handle_all(later, [end, next]);
        assert_eq!(effects, [], "the older job goes first");
        assert_eq!(engine.hold_reason(project, later), Some(HoldReason::JobRunning));

        let effects = engine.handle(later.plus(Duration::from_secs(1)), look(new, ours));
        let absorbed = |effect: &Effect| matches!(effect, Effect::SetBaseline { render: Some(render), .. } if *render == ours);
        assert!(effects.iter().any(absorbed), "the placed mesh is in the picture: {effects:?}");
    }
}
