//! The waits before a submit, and how a control is applied to a job that has not been sent.
//!
//! Owns these waits, and the check whether a service that failed is back. Nothing is sent
//! here that could cost anything, so every control is applied at once. The submit itself
//! belongs to [`crate::daemon::jobs::submit`].

use std::time::Duration;

use crate::{
    backend::{CallError, FaultKind, Payload},
    daemon::{
        jobs::{JobRun, Step, control_changed},
        services::{
            health::Permit,
            messages::{Control, JobEnd, JobReport},
            runtime_config::RuntimeConfig,
        },
    },
    domain::{
        engine::event::JobStage,
        job::{Cause, JobState, attempt::AttemptEnd, backoff::Backoff, choose_backend::Route},
    },
    ledger::rows::{Booking, Reason},
};

/// The first and the longest wait before a request that did not arrive is sent again.
const RESEND_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl JobRun {
    /// Waits before the next try of a request that has not left the machine. A control is applied
    /// at once here.
    pub(in crate::daemon::jobs) async fn wait_before_resend(
        &mut self,
        failures: u32,
        retry_after: Option<Duration>,
    ) -> Step<()> {
        let backoff = Backoff::new(RESEND_BACKOFF.0, RESEND_BACKOFF.1);
        let wait = backoff.wait(failures, rand::random(), retry_after);
        if retry_after.is_some() {
            let doing = format!("{}; retrying in {} s", self.status.doing, wait.as_secs().max(1));
            self.set_activity(doing).await;
        }
        match self.wait_or_control(wait, Control::Continue).await {
            Some(control) => self.apply(control).await,
            None => Ok(()),
        }
    }

    /// Waits while the service is paused after failures, or its token is rejected. The job whose
    /// turn it is first asks whether the service is back, with a call that costs nothing. The job
    /// stays `prepared`, and a control is applied at once. If another backend can run the job
    /// meanwhile, it switches: the work for that backend is returned.
    pub(in crate::daemon::jobs) async fn wait_for_service(&mut self) -> Step<Option<Payload>> {
        let mut moved = None;
        let mut person = self.status.cause == Cause::Person;
        loop {
            self.apply_pending_control().await?;
            let (config, now) = (self.config(), self.services.clock.now().moment);
            match self.services.health.at(self.backend).request_permit(now, &config, person) {
                // Whether a backend is configured is checked before the ledger says that something
                // may leave.
                Permit::Proceed
                    if config.at(self.backend).is_err()
                        && config.order.iter().any(|other| *other != self.backend) =>
                {
                    // A reload removed its backend.
                    match self.choose_backend().await {
                        route @ (Route::Use { .. } | Route::Wait { .. }) => {
                            moved = Some(
                                self.switch_backend(route, AttemptEnd::NotSent, Booking::Nothing)
                                    .await?,
                            );
                        }
                        Route::Unroutable { .. } => {
                            if self.backend_or_control().await?.is_none() {
                                self.apply_pending_control().await?;
                            }
                        }
                    }
                }
                Permit::Proceed => match self.backend_or_control().await? {
                    Some(_) => return Ok(moved),
                    None => self.apply_pending_control().await?,
                },
                Permit::Wait(until, reason) => {
                    self.set_state(JobState::Prepared, JobStage::Waiting).await;
                    if config.order.len() > 1
                        && let route @ Route::Use { backend, .. } = self.choose_backend().await
                        && backend != self.backend
                    {
                        moved = Some(
                            self.switch_backend(route, AttemptEnd::NotSent, Booking::Nothing)
                                .await?,
                        );
                        continue;
                    }
                    let wait = until.since(now);
                    let seconds = wait.as_secs().max(1);
                    self.set_activity(format!(
                        "not sent, nothing was charged; next check in {seconds} s: {reason}"
                    ))
                    .await;
                    let mut changes = self.services.config.clone();
                    changes.borrow_and_update();
                    let control = tokio::select! {
                        control = self.wait_or_control(wait, Control::Continue) => control,
                        // Perhaps another token, or another address.
                        _ = changes.changed() => None,
                    };
                    if let Some(control) = control {
                        self.apply(control).await?;
                    }
                }
                Permit::Probe => self.probe(&config, std::mem::take(&mut person)).await?,
            }
        }
    }

    /// Asks whether the service is back. A person's job ends with an error if it is not.
    async fn probe(&mut self, config: &RuntimeConfig, person: bool) -> Step<()> {
        self.set_activity(
            "checking whether the service is back before anything is sent".to_owned(),
        )
        .await;
        let Some(backend) = self.backend_or_control().await? else {
            return self.apply_pending_control().await;
        };
        self.services.wait_for_call(self.backend).await;
        let mut control = self.control.clone();
        let answer = tokio::select! {
            answer = backend.warm_up() => answer,
            control = control_changed(&mut control) => return self.apply(control).await,
        };
        let heard = self.services.clock.now().moment;
        self.services.health.at(self.backend).record_call(heard, config, &answer);
        match answer {
            Ok(Some(balance)) => self.report(JobReport::Balance(balance)).await,
            Err(CallError::Fault(fault)) if fault.kind == FaultKind::Token => {
                self.report(JobReport::TokenRefused).await;
                if person {
                    return Err(self.end_refused(&fault).await);
                }
            }
            Err(error) if person => {
                let text = format!("the service cannot be reached, nothing was charged: {error}");
                return Err(self.end_failed(Reason::new("not_sent", text), Booking::Nothing).await);
            }
            Ok(None) | Err(_) => {}
        }
        Ok(())
    }

    /// Applies a control that may have come while the job was not listening.
    pub(in crate::daemon::jobs) async fn apply_pending_control(&mut self) -> Step<()> {
        let control = *self.control.borrow_and_update();
        self.apply(control).await
    }

    /// Applies a control to a job that is in the ledger and has not been sent.
    pub(in crate::daemon::jobs) async fn apply(&mut self, control: Control) -> Step<()> {
        let (id, now) = (self.id, self.services.clock.now().wall);
        let state = match control {
            Control::Continue => return Ok(()),
            Control::Stop => return Err(JobEnd::Stopped),
            Control::Supersede => JobState::Replaced,
            Control::Cancel => JobState::Cancelled,
        };
        let record = move |ledger: &mut crate::ledger::Ledger| {
            if state == JobState::Replaced {
                ledger.replaced(id, None, Booking::Nothing, now)
            } else {
                let reason = Reason::new("cancelled", "cancelled before it was sent");
                ledger.cancelled(id, &reason, Booking::Nothing, now)
            }
        };
        // A step that the ledger refuses is logged there; the job is over in both cases.
        drop(self.services.store.record("the end of an unsent job", record).await);
        Err(JobEnd::Ended { state, placed: false })
    }
}
