//! What people are told about a job and no decision depends on: the newest problems in words.
//!
//! Owns the words between two steps, and the sentences about waits. Why a job ended is told by
//! [`super::texts`].

use super::{driver::JobRun, routing::Reasons};
use crate::{
    backend::ServiceFault,
    domain::{
        engine::event::JobStage,
        job::{JobState, control::JobControl, flow::world::WaitFor},
        time::Moment,
    },
    ledger::rows::Reason,
};

/// The newest problems of a job, in words.
#[derive(Debug, Default)]
pub(super) struct Details {
    /// What went wrong last.
    pub(super) problem: String,
    /// The service's own fault, if that is what went wrong last.
    pub(super) fault: Option<ServiceFault>,
    /// Why the budget has no room.
    pub(super) budget: String,
    /// Why the configuration or the disk cannot be used.
    pub(super) unready: String,
    /// Why backends cannot serve now.
    pub(super) backends: Reasons,
    /// Why the image and the mesh are not fetched.
    pub(super) artifacts: [String; 2],
}

impl Details {
    /// Notes a fault that the service reported.
    pub(super) fn note_fault(&mut self, fault: ServiceFault) {
        self.problem = reason_of(&fault).text;
        self.fault = Some(fault);
    }

    /// Notes another problem.
    pub(super) fn note(&mut self, problem: impl Into<String>) {
        self.problem = problem.into();
        self.fault = None;
    }

    /// Returns the newest fault as a reason; a problem without one gets `code`.
    pub(super) fn reason(&self, code: &str) -> Reason {
        match &self.fault {
            Some(fault) => reason_of(fault),
            None => Reason::new(code, self.problem.clone()),
        }
    }
}

impl JobRun {
    /// Shows what a wait is for, where nothing has said so yet.
    pub(super) async fn show_wait(&mut self, until: Option<Moment>, what: WaitFor) {
        let seconds = until.map_or(0, |until| until.since(self.now().moment).as_secs()).max(1);
        let doing = match what {
            WaitFor::Backend => {
                let reason = self.details.backends.get(&self.record.backend);
                let reason = reason.cloned().unwrap_or_default();
                format!("not sent, nothing was charged; next check in {seconds} s: {reason}")
            }
            WaitFor::Config => {
                let is_sent = matches!(self.record.state, JobState::Submitted | JobState::Running);
                let reason = match self.details.backends.get(&self.record.backend) {
                    Some(reason) if !is_sent => reason,
                    _ => &self.details.unready,
                };
                if is_sent && self.wanted.max(self.record.control) == JobControl::Cancel {
                    format!(
                        "will be cancelled at the service once the configuration is usable: \
                         {reason}"
                    )
                } else {
                    format!("waiting for a usable configuration: {reason}")
                }
            }
            WaitFor::Disk
                if self.record.state != JobState::Prepared && !self.details.unready.is_empty() =>
            {
                format!("waiting for the disk: {}", self.details.unready)
            }
            // The step that failed has said what happened.
            WaitFor::Poll
            | WaitFor::Resend
            | WaitFor::Turn
            | WaitFor::Budget
            | WaitFor::Lock
            | WaitFor::Server
            | WaitFor::Token
            | WaitFor::Service
            | WaitFor::Storage
            | WaitFor::Disk
            | WaitFor::Folder
            | WaitFor::Ledger => return,
        };
        if self.record.state == JobState::Prepared {
            self.set_state(JobState::Prepared, JobStage::Waiting).await;
        }
        if self.task.status.doing != doing {
            self.set_activity(doing).await;
        }
    }
}

/// Converts a service's fault into a reason.
pub(super) fn reason_of(fault: &ServiceFault) -> Reason {
    let code = fault.code.map_or_else(|| format!("http_{}", fault.status), |code| code.to_string());
    let text = if fault.message.is_empty() {
        fault.advice.to_owned()
    } else {
        format!("{} ({})", fault.advice, fault.message)
    };
    Reason::new(code, text)
}
