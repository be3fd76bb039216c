//! What is true about a job today, gathered for its flow.
//!
//! Owns the reading: the configuration, the health of the backends, the lease, the disk. It makes
//! no call to a service and changes nothing.

use std::sync::Arc;

use super::{
    driver::JobRun,
    handoff,
    routing::{self, Candidates},
};
use crate::{
    backend::Backend,
    daemon::services::{
        leases::Lease, messages::Control, runtime_config::RuntimeConfig, store::blocking,
    },
    domain::job::{
        Cause, JobState,
        artifact::{self, ArtifactKind},
        choose_backend::BackendKind,
        control::JobControl,
        flow::world::{Access, Artifacts, Limits, Whereabouts, World},
    },
};

impl JobRun {
    /// Gathers what is true now.
    pub(super) async fn world(&mut self) -> World {
        self.note_config();
        let config = self.config();
        let control = *self.task.control.borrow_and_update();
        let wanted = match control {
            Control::Continue | Control::Stop => JobControl::Continue,
            Control::Supersede => JobControl::Supersede,
            Control::Cancel => JobControl::Cancel,
        };
        self.wanted = self.wanted.max(wanted);
        let now = self.now().moment;
        // A person's job asks once whether a backend is back, before its pause ends.
        let person = self.record.cause == Cause::Person;
        let unproven = &self.seen.unproven;
        let asks = |backend| person && !unproven.contains(&backend);
        let Candidates { list, reasons } =
            routing::candidates(&self.task.services, &config, now, asks);
        self.details.backends = reasons;
        World {
            stopping: control == Control::Stop,
            control: self.wanted,
            candidates: list,
            after_unknown: config.settings.local.after_unknown,
            access: self.access(&config),
            limits: limits(&config, self.record.backend),
            artifacts: self.artifacts(&config).await,
            hands_over: self.hands_over(&config).await,
            seen: self.seen.clone(),
        }
    }

    fn access(&mut self, config: &RuntimeConfig) -> Access {
        if self.record.backend == BackendKind::Cloud {
            return match self.lease.as_ref().map(Lease::ended_reason) {
                None if self.server_gone => Access::ServerGone,
                None => Access::NeedsServer,
                Some(None) => Access::Usable,
                Some(Some(message)) => {
                    self.details.problem = message;
                    Access::ServerGone
                }
            };
        }
        match self.configured(config) {
            Ok(_) => Access::Usable,
            Err(reason) => {
                self.details.unready = reason;
                Access::Unconfigured
            }
        }
    }

    /// Returns the client of the job's backend, or why there is none.
    fn configured(&self, config: &RuntimeConfig) -> Result<Arc<dyn Backend>, String> {
        let backend = self.record.backend;
        // A change of mode only affects new work: a submitted request is followed where it is.
        let is_sent = matches!(self.record.state, JobState::Submitted | JobState::Running);
        let configured = if is_sent { config.known_at(backend) } else { config.at(backend) };
        match configured {
            Ok(configured) => {
                configured.backend_of(self.deployment.as_deref()).map_err(|none| none.to_string())
            }
            Err(unavailable) => Err(unavailable.reason.clone()),
        }
    }

    /// Returns the client to call now, or why there is none: the configuration or the machine may
    /// have changed a moment ago.
    pub(super) fn client(&self) -> Result<Arc<dyn Backend>, String> {
        match &self.lease {
            Some(lease) => match lease.ended_reason() {
                None => Ok(lease.backend()),
                Some(message) => Err(message),
            },
            None => self.configured(&self.config()),
        }
    }

    async fn artifacts(&mut self, config: &RuntimeConfig) -> Artifacts {
        let is_sent = matches!(self.record.state, JobState::Submitted | JobState::Running);
        let is_fetched = matches!(self.record.state, JobState::Fetched | JobState::Placing);
        if !is_sent && !is_fetched {
            return Artifacts::default();
        }
        let workflow = config.workflows.at(self.record.backend);
        let listed = |kind| {
            let found = artifact::choose_file(&self.files, kind, workflow.output(kind));
            if found.is_some() { Whereabouts::Listed } else { Whereabouts::Nowhere }
        };
        let listed =
            Artifacts { image: listed(ArtifactKind::Image), mesh: listed(ArtifactKind::Mesh) };
        if is_sent && !self.record.outputs_known {
            return listed;
        }
        let (history, id) = (Arc::clone(&self.task.services.history), self.task.id);
        let (image, mesh) = blocking(move || {
            let folder = history.past(id);
            (folder.has_artifact(ArtifactKind::Image), folder.has_artifact(ArtifactKind::Mesh))
        })
        .await;
        let mut at = |found: std::io::Result<bool>, listed| match found {
            Ok(true) => Whereabouts::InHistory,
            Ok(false) => listed,
            Err(error) => {
                self.details.unready = error.to_string();
                Whereabouts::Unreadable
            }
        };
        Artifacts { image: at(image, listed.image), mesh: at(mesh, listed.mesh) }
    }

    async fn hands_over(&mut self, config: &RuntimeConfig) -> bool {
        if self.record.state != JobState::Placed || self.record.own_folder {
            return false;
        }
        match self.hands_over {
            Some(hands_over) => hands_over,
            None => {
                let hands_over = handoff::should_hand_over(config, &self.task.root).await;
                self.hands_over = Some(hands_over);
                hands_over
            }
        }
    }
}

/// Returns how long a job may be queued, and how long it may run.
fn limits(config: &RuntimeConfig, backend: BackendKind) -> Limits {
    let (serverless, local) = (&config.settings.serverless, &config.settings.local);
    if backend.is_paid() {
        Limits { queue: serverless.queue_timeout, run: serverless.run_timeout }
    } else {
        Limits { queue: local.timeout, run: local.timeout }
    }
}
