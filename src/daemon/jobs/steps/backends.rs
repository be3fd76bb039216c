//! The steps of a job before its request may leave: another backend, a probe, the request as bytes,
//! a rented machine.
//!
//! Owns how these steps are performed. Nothing is sent here that could cost anything, except the
//! rent of a machine, which belongs to [`crate::daemon::servers`].

use std::sync::Arc;

use crate::{
    backend::{CallError, FaultKind},
    daemon::{
        inputs::prepare,
        jobs::{
            details::reason_of,
            driver::{JobRun, Refused},
            early_work,
            routing::{self, PROBE_TIMEOUT, Probed},
            steps::submit::RESEND_BACKOFF,
        },
        services::{
            command::CommandErrorKind,
            leases::{NoServer, ServerUpdate},
            messages::{Control, JobReport},
            store::blocking,
        },
    },
    domain::{
        engine::event::JobStage,
        job::{
            Cause, JobState,
            backoff::Backoff,
            choose_backend::{BackendKind, Skip},
            flow::{
                self, Switch,
                record::Origin,
                world::{PayloadSeen, Seen, WaitFor},
            },
        },
        machines::MachineId,
    },
    ledger::{Ledger, error::LedgerError, rows::BackendSwitch},
};

impl JobRun {
    /// Switches the job to another backend: records it, and replaces everything that depends on the
    /// backend.
    pub(in crate::daemon::jobs) async fn switch_backend(
        &mut self,
        switch: Switch,
    ) -> Result<(), Refused> {
        let Switch { backend, skipped, end, booking } = switch;
        let (config, id) = (self.config(), self.task.id);
        let (row, why) = self.read_with_reasons(backend, &skipped).await?;
        let (own, history) = (Arc::clone(&config), Arc::clone(&self.task.services.history));
        let built = blocking(move || prepare::rebuild(&own, backend, &history, &row)).await;
        let built = match built {
            Ok(built) => built,
            Err(fault) => {
                self.details.note(fault.to_string());
                self.seen.payload = PayloadSeen::Unusable;
                return Ok(());
            }
        };
        let deployment = early_work::deployment_of(&config, backend);
        let to = BackendSwitch {
            job: id,
            backend: backend.name().to_owned(),
            deployment: deployment.clone(),
            workflow: built.workflow,
            workflow_version: built.version,
            body_digest: built.digest,
            body_bytes: built.bytes,
            summary: built.summary,
            booking,
            outcome: end,
            reason: self.details.problem.clone(),
            why: why.clone(),
            at: self.now().wall,
        };
        // The next attempt must not take files that a failed run left.
        let history = Arc::clone(&self.task.services.history);
        let cleared = blocking(move || history.past(id).clear_artifacts()).await;
        if let Err(error) = cleared {
            tracing::warn!(
                job = %id, %error,
                "could not remove the files of an earlier attempt from the history"
            );
        }
        let what = "the switch to another backend";
        let record = move |ledger: &mut Ledger| ledger.switch_backend(&to);
        match self.task.services.store.record(what, record).await {
            Ok(()) => {}
            Err(LedgerError::ChargedBefore { .. }) => {
                // A job that ran ends with the reason of its run.
                if self.record.state == JobState::Prepared {
                    self.details.note(format!(
                        "{why}; {backend} is paid and is not used after an attempt that may have \
                         been charged"
                    ));
                }
                self.seen.charged_before = true;
                return Ok(());
            }
            Err(error) => return Err(Refused::new(what, &error)),
        }
        let from = self.record.backend;
        tracing::warn!(job = %id, %from, to = %backend, "trying the next backend: {why}");
        self.reload_surely().await?;
        self.deployment = deployment;
        (self.lease, self.slot) = (None, None);
        self.payload = Some(built.payload);
        self.files.clear();
        self.instance = None;
        self.server_gone = false;
        self.refusals = 0;
        self.seen = Seen {
            earlier_attempts: self.seen.earlier_attempts,
            over_budget: std::mem::take(&mut self.seen.over_budget),
            unproven: std::mem::take(&mut self.seen.unproven),
            payload: PayloadSeen::Ready,
            ..Seen::default()
        };
        (self.learned, self.estimate) =
            early_work::expectation(&self.task.services, &config, backend).await;
        let status = &mut self.task.status;
        backend.name().clone_into(&mut status.backend);
        early_work::describe(status, &self.learned, &self.estimate);
        status.why = Some(why);
        status.request = None;
        status.queue_position = None;
        status.progress = None;
        self.set_state(JobState::Prepared, JobStage::Waiting).await;
        self.set_activity(format!("trying {backend}")).await;
        Ok(())
    }

    /// Reads the job's row, and says why backends were passed over.
    async fn read_with_reasons(
        &mut self,
        backend: BackendKind,
        skipped: &[(BackendKind, Skip)],
    ) -> Result<(crate::ledger::rows::JobRow, String), Refused> {
        let id = self.task.id;
        let read = self.task.services.store.with(move |ledger| ledger.details(id)).await;
        let details = read.map_err(|error| Refused::new("reading the job", &error))?;
        let world = self.world().await;
        let past = flow::past_attempts(&self.record, &world);
        let reason = |at: usize| match past.get(at).map(|(_, origin)| *origin) {
            Some(Origin::Attempt(index)) => details
                .attempts
                .get(index)
                .and_then(|attempt| attempt.reason.clone())
                .unwrap_or_else(|| "an earlier attempt failed".to_owned()),
            Some(Origin::StandsInFor(lost)) => format!("the answer for job {lost} was lost"),
            Some(Origin::OverBudget) => self.details.budget.clone(),
            // The attempt that is ending at this moment is not in the list yet.
            None => self.details.problem.clone(),
        };
        let mut why = routing::describe(skipped, &self.details.backends, reason);
        if why.is_empty() {
            // If the same backend is used again, or a pause ends, its last problem is the reason.
            let paused = self.details.backends.get(&backend).cloned();
            why = paused.unwrap_or_else(|| {
                let problem = if self.seen.over_budget.contains(&self.record.backend) {
                    &self.details.budget
                } else {
                    &self.details.problem
                };
                format!("{}: {problem}", self.record.backend)
            });
        }
        Ok((details.job, why))
    }

    /// Asks whether a backend is back.
    pub(in crate::daemon::jobs) async fn probe(&mut self, backend: BackendKind) {
        self.set_state(JobState::Prepared, JobStage::Waiting).await;
        self.set_activity(
            "checking whether the service is back before anything is sent".to_owned(),
        )
        .await;
        let (services, config) = (Arc::clone(&self.task.services), self.config());
        let person = self.record.cause == Cause::Person && !self.seen.unproven.contains(&backend);
        // Where another backend could begin, this one gets little time.
        let limit = (config.order.len() > 1).then_some(PROBE_TIMEOUT);
        let probed = tokio::select! {
            probed = routing::probe(&services, &config, backend, person, limit) => probed,
            // The control is looked at first; then the flow asks again.
            changed = self.task.control.changed() => {
                self.note_control(changed.is_err());
                return;
            }
        };
        match probed {
            Probed::Back => self.seen.token_refused = false,
            Probed::Later(until, reason) => {
                self.details.note(reason);
                self.seen.retry = Some((until, WaitFor::Backend));
            }
            Probed::Away(error) => {
                if !self.seen.unproven.contains(&backend) {
                    self.seen.unproven.push(backend);
                }
                self.seen.token_refused = matches!(
                    &error, CallError::Fault(fault) if fault.kind == FaultKind::Token
                );
                match error {
                    CallError::Fault(fault) if fault.kind == FaultKind::Token => {
                        let text = reason_of(&fault).text;
                        self.details.note_fault(fault);
                        if person {
                            self.report(JobReport::Warning(text)).await;
                        }
                    }
                    other => self.details.note(other.to_string()),
                }
            }
        }
    }

    /// Builds the request of a job that another session prepared, from the inputs in history.
    pub(in crate::daemon::jobs) async fn prepare(&mut self) -> Result<(), Refused> {
        let (config, id) = (self.config(), self.task.id);
        let row = self.task.services.store.with(move |ledger| ledger.job(id)).await;
        let row = row.map_err(|error| Refused::new("reading the job", &error))?;
        let (history, backend) = (Arc::clone(&self.task.services.history), self.record.backend);
        let built = blocking(move || prepare::rebuild(&config, backend, &history, &row)).await;
        match built {
            Ok(built) => {
                self.payload = Some(built.payload);
                self.seen.payload = PayloadSeen::Ready;
            }
            Err(fault) => {
                self.details.note(fault.to_string());
                self.seen.payload = PayloadSeen::Unusable;
            }
        }
        Ok(())
    }

    /// Waits for a rented machine, or for the one that the job was sent to. A control is applied at
    /// once, unless it needs the machine too.
    pub(in crate::daemon::jobs) async fn acquire_server(&mut self) -> Result<(), Refused> {
        let is_sent = matches!(self.record.state, JobState::Submitted | JobState::Running);
        // A machine that waited for another project's job would cost money meanwhile.
        if !is_sent && self.waits_for_slot().await {
            return Ok(());
        }
        // Nothing was sent to a machine that is gone by now: there may be another one.
        self.lease = None;
        let (id, run) = (self.task.id, self.estimate.run);
        let servers = &self.task.services.servers;
        let mut wanted = if is_sent {
            let machine = self.deployment.as_deref().and_then(|id| id.parse::<MachineId>().ok());
            match machine {
                Some(machine) => servers.request_again(id, run, machine),
                None => {
                    let gone = "the ledger does not contain the machine that it runs on";
                    self.lose_server(gone);
                    return Ok(());
                }
            }
        } else {
            servers.request(id, run)
        };
        let answer = loop {
            tokio::select! {
                news = wanted.next() => match news {
                    ServerUpdate::Progress(message) => self.set_activity(message).await,
                    ServerUpdate::Answer(answer) => break answer,
                },
                changed = self.task.control.changed() => {
                    self.note_control(changed.is_err());
                    let control = *self.task.control.borrow();
                    if control == Control::Stop || !is_sent {
                        return Ok(());
                    }
                }
            }
        };
        let NoServer { kind, reason, is_gone } = match answer {
            Ok(lease) => {
                if !is_sent {
                    self.deployment = Some(lease.machine.to_string());
                }
                self.lease = Some(lease);
                return Ok(());
            }
            Err(none) => none,
        };
        if is_sent {
            if is_gone {
                self.lose_server(&reason);
                return Ok(());
            }
            // The machines' task ends with the daemon, and asking once more costs nothing.
            self.details.note(reason);
            self.retry_later(WaitFor::Server);
            return Ok(());
        }
        self.details.note(reason.clone());
        // There may be room in the budget later; every other reason needs a person.
        if kind != CommandErrorKind::TryAgain || self.record.cause == Cause::Person {
            self.seen.server_refused = true;
            return Ok(());
        }
        self.set_activity(reason).await;
        self.slot = None;
        self.retry_later(WaitFor::Server);
        Ok(())
    }

    fn lose_server(&mut self, reason: &str) {
        self.details.note(reason);
        self.server_gone = true;
    }

    /// Sets a wait before the request is tried again, longer after each refusal in a row.
    pub(in crate::daemon::jobs) fn retry_later(&mut self, what: WaitFor) {
        self.refusals += 1;
        let wait = Backoff::new(RESEND_BACKOFF.0, RESEND_BACKOFF.1).wait(
            self.refusals,
            rand::random(),
            None,
        );
        self.seen.retry = Some((self.now().moment.plus(wait), what));
    }
}
