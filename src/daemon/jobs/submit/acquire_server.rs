//! A job on a rented machine: waits for one, and handles the job when the machine is gone.
//!
//! Owns the job's side of a lease. The machines themselves belong to
//! [`crate::daemon::services::leases`]; their cost is booked on the machine, so a job that ends
//! here costs nothing of its own.

use std::sync::Arc;

use crate::{
    backend::Backend,
    daemon::{
        jobs::{JobRun, Step, control_changed},
        services::{
            command::CommandErrorKind,
            leases::{NoServer, ServerUpdate},
            messages::{Control, JobEnd},
        },
    },
    domain::{
        job::{Cause, choose_backend::BackendKind},
        machines::MachineId,
    },
    ledger::rows::{Booking, JobRow, Reason},
};

impl JobRun {
    /// Waits for a machine before the request is marked as submitting, if the job needs one. A
    /// control is applied at once.
    pub(in crate::daemon::jobs) async fn acquire_server(&mut self) -> Step<()> {
        if self.backend != BackendKind::Cloud {
            return Ok(());
        }
        if self.lease.as_ref().is_some_and(|lease| lease.ended_reason().is_none()) {
            return Ok(());
        }
        self.lease = None;
        let mut failures = 0;
        loop {
            let mut wanted = self.services.servers.request(self.id, self.estimate.run);
            let answer = loop {
                tokio::select! {
                    news = wanted.next() => match news {
                        ServerUpdate::Progress(message) => self.set_activity(message).await,
                        ServerUpdate::Answer(answer) => break answer,
                    },
                    control = control_changed(&mut self.control) => self.apply(control).await?,
                }
            };
            let none = match answer {
                Ok(lease) => {
                    self.deployment = Some(lease.machine.to_string());
                    self.lease = Some(lease);
                    return Ok(());
                }
                Err(none) => none,
            };
            let NoServer { kind, reason, .. } = none;
            // There may be room in the budget later; every other reason needs a person.
            if kind != CommandErrorKind::TryAgain || self.status.cause == Cause::Person {
                return Err(self
                    .end_failed(Reason::new("no_machine", reason), Booking::Nothing)
                    .await);
            }
            failures += 1;
            self.set_activity(reason).await;
            self.wait_before_resend(failures, None).await?;
        }
    }

    /// Leases again the machine that a job of an earlier session runs on.
    pub(in crate::daemon::jobs) async fn reacquire_server(&mut self, row: &JobRow) -> Step<()> {
        if self.backend != BackendKind::Cloud || self.lease.is_some() {
            return Ok(());
        }
        let machine = row.deployment.as_deref().and_then(|id| id.parse::<MachineId>().ok());
        let Some(machine) = machine else {
            return Err(self
                .server_gone("the ledger does not contain the machine that it runs on")
                .await);
        };
        let mut wanted = self.services.servers.request_again(self.id, self.estimate.run, machine);
        loop {
            tokio::select! {
                news = wanted.next() => match news {
                    ServerUpdate::Progress(message) => self.set_activity(message).await,
                    ServerUpdate::Answer(Ok(lease)) => {
                        self.lease = Some(lease);
                        return Ok(());
                    }
                    ServerUpdate::Answer(Err(none)) if none.is_gone => {
                        return Err(self.server_gone(&none.reason).await);
                    }
                    ServerUpdate::Answer(Err(_)) => return Err(JobEnd::Stopped),
                },
                // Other controls need the machine too, and are seen when it is there.
                control = control_changed(&mut self.control) => if control == Control::Stop {
                    return Err(JobEnd::Stopped);
                },
            }
        }
    }

    /// Returns the ComfyUI of the job's machine, or the job's end if the machine is gone; `None`
    /// for a job without one.
    pub(in crate::daemon::jobs) async fn leased_backend(
        &mut self,
    ) -> Option<Step<Arc<dyn Backend>>> {
        let lease = self.lease.as_ref()?;
        match lease.ended_reason() {
            None => Some(Ok(lease.backend())),
            Some(message) => Some(Err(self.server_gone(&message).await)),
        }
    }

    async fn server_gone(&mut self, message: &str) -> JobEnd {
        let text = format!("{message}; `conjured jobs retry {}` runs it again", self.id);
        self.end_failed(Reason::new("machine_gone", text), Booking::Nothing).await
    }
}
