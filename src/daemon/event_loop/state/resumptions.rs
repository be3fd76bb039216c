//! Jobs of an earlier session: which one continues when.
//!
//! Owns their order: what was sent continues at once, one job of a project after the other; what
//! was only prepared waits for the first scan; a lost answer is sent again only after it.

use std::{collections::BTreeSet, path::Path};

use super::{
    super::{action::Action, spawn_job::ResumedJob},
    DaemonState,
};
use crate::{
    daemon::inputs::{project_state::ProjectState, scan::Scan},
    domain::{
        engine::event::{Event, JobStage, ProjectId},
        inputs::debounce::InputState,
        job::{Cause, JobId, JobState},
        status,
        time::Now,
    },
    ledger::rows::JobRow,
};

/// Jobs that wait to be resumed, and those that were resumed after a panic.
#[derive(Debug, Default)]
pub(super) struct Resumptions {
    /// Unfinished jobs that wait behind another one of their project.
    waiting: Vec<JobRow>,
    /// Prepared jobs of an earlier session: they are sent only if the first scan finds their
    /// inputs unchanged.
    prepared: Vec<JobRow>,
    /// Jobs whose answers an earlier session lost, until the first scan.
    lost_answers: Vec<JobId>,
    /// Jobs whose task panicked once and was restarted.
    panicked: BTreeSet<JobId>,
}

impl Resumptions {
    /// Notes that a job's task panicked. Returns whether it was the first time.
    pub(super) fn first_panic(&mut self, job: JobId) -> bool {
        self.panicked.insert(job)
    }

    /// Takes the jobs whose answers were lost.
    pub(super) fn take_lost_answers(&mut self) -> Vec<JobId> {
        std::mem::take(&mut self.lost_answers)
    }

    /// Takes the first waiting job of a project.
    fn next(&mut self, project: ProjectId) -> Option<JobRow> {
        let at = self.waiting.iter().position(|row| row.project == project)?;
        Some(self.waiting.remove(at))
    }

    /// Takes all waiting jobs of a project.
    fn take_waiting(&mut self, project: ProjectId) -> Vec<JobRow> {
        self.waiting.extract_if(.., |row| row.project == project).collect()
    }

    /// Takes the prepared jobs of a project.
    fn take_prepared(&mut self, project: ProjectId) -> Vec<JobRow> {
        self.prepared.extract_if(.., |row| row.project == project).collect()
    }
}

impl DaemonState {
    /// Keeps the jobs whose answers an earlier session lost, until the first scan.
    pub(crate) fn set_lost_answers(&mut self, lost: Vec<JobId>) {
        self.resumptions.lost_answers = lost;
    }

    /// Resumes unfinished jobs. `scans` says whether the inputs will be scanned.
    pub(crate) fn resume_all(&mut self, rows: Vec<JobRow>, scans: bool, now: Now) {
        for row in rows {
            let project = row.project;
            let own = row.cause != Cause::Person && row.out.is_none();
            if scans
                && own
                && row.state == JobState::Prepared
                && self.projects.contains_key(&project)
            {
                // Nothing was sent yet: the first scan decides whether it is still wanted.
                self.resumptions.prepared.push(row);
                continue;
            }
            match self.projects.get(&project) {
                Some(project_state) if project_state.is_idle() => {
                    self.resume(project, row, now);
                }
                Some(_) => self.resumptions.waiting.push(row),
                None if !self.taken.unresponsive().is_empty() => {
                    self.resumptions.waiting.push(row);
                }
                None => self.warn([format!(
                    "job {} of a project that is no longer served is `{}`: serve the project again \
                     to finish it",
                    row.id, row.state
                )]),
            }
        }
    }

    /// Resumes the jobs of a project whose drive has answered at last.
    pub(super) fn resume_waiting(&mut self, project: ProjectId, now: Now) {
        let rows = self.resumptions.take_waiting(project);
        self.resume_all(rows, true, now);
    }

    /// Reports the end of a job to the engine. An unfinished job of an earlier session comes before
    /// anything new.
    pub(super) fn resume_next(&mut self, project: ProjectId, end: Event, now: Now) {
        let next = if self.ending.is_stopping() { None } else { self.resumptions.next(project) };
        match next {
            Some(row) => self.resume_after(Some(end), project, row, now),
            None => self.decide(end, now),
        }
    }

    /// Decides about the jobs that an earlier session prepared and did not send: with unchanged
    /// inputs they continue, otherwise they are replaced at no cost.
    pub(super) fn resolve_unsent(&mut self, project: ProjectId, scan: &Scan, now: Now) {
        for row in self.resumptions.take_prepared(project) {
            let same = scan.prompt.state == InputState::Complete(row.inputs.prompt)
                && scan.render.state == InputState::Complete(row.inputs.render);
            let idle = self.projects.get(&project).is_some_and(ProjectState::is_idle);
            if same && idle {
                self.resume(project, row, now);
            } else {
                self.push(Action::RecordReplaced { job: row.id });
            }
        }
    }

    /// Resumes a job of an earlier session.
    pub(super) fn resume(&mut self, project: ProjectId, row: JobRow, now: Now) {
        self.resume_after(None, project, row, now);
    }

    /// Resumes a job of an earlier session after the end of another one of its project: the engine
    /// gets both events at once, and starts nothing in between.
    fn resume_after(&mut self, end: Option<Event>, project: ProjectId, row: JobRow, now: Now) {
        let Some(project_state) = self.projects.get_mut(&project) else { return };
        let targets = match &row.out {
            Some(folder) => project_state.targets().within(Path::new(folder)),
            None => project_state.targets(),
        };
        let root = project_state.config().root.clone();
        let status = resumed_job(&row);
        project_state.begin_job(status.clone());
        tracing::info!(job = %row.id, "an earlier session left it `{}`; resuming it", row.state);
        let resumed = Event::Resumed { project, stage: stage_of(row.state) };
        // The task comes first: the engine may have something to tell it.
        let job = ResumedJob { project, row, targets, root, status };
        self.push(Action::ResumeJob(Box::new(job)));
        self.decide_all(end.into_iter().chain([resumed]), now);
    }
}

/// Returns the stage at which a job with this state continues.
const fn stage_of(state: JobState) -> JobStage {
    match state {
        JobState::Prepared => JobStage::Waiting,
        JobState::Submitting => JobStage::Submitting,
        JobState::Submitted => JobStage::Queued,
        JobState::Running => JobStage::Running,
        JobState::HandingOver => JobStage::HandingOver,
        _ => JobStage::Placing,
    }
}

/// Returns what `status` shows of a job that is resumed.
fn resumed_job(row: &JobRow) -> status::Job {
    status::Job {
        id: row.id,
        state: row.state,
        cause: row.cause,
        doing: "resuming where an earlier session stopped".to_owned(),
        since: row.created_at,
        backend: row.backend.clone(),
        why: None,
        progress: None,
        request: row.request.as_ref().map(ToString::to_string),
        queue_position: None,
        cold: None,
        elapsed_ms: 0,
        eta: None,
        received: None,
        estimate: row.reserved,
    }
}
