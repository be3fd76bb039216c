//! The waits before a submit, and how a control is applied to a job that has not been sent.
//!
//! Owns these waits, and the check whether a service that failed is back. Nothing is sent
//! here that could cost anything, so every control is applied at once. The submit itself
//! belongs to [`crate::daemon::jobs::submit`].

use std::time::Duration;

use crate::{
    backend::{CallError, FaultKind, Payload},
    daemon::{
        jobs::{Road, Step, wished},
        services::{
            health::Permit,
            messages::{JobEnd, Report, Wish},
            runtime_config::RuntimeConfig,
        },
    },
    domain::{
        engine::event::JobStage,
        job::{Cause, JobState, backoff::Backoff, choose_backend::Route},
    },
    ledger::rows::{Booking, Reason},
};

/// The first and the longest wait before a request that did not arrive is sent again.
const RESEND: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl Road {
    /// Waits before the next try of a request that has not left the machine. A control is applied
    /// at once here.
    pub(in crate::daemon::jobs) async fn wait_unsent(
        &mut self,
        failures: u32,
        retry_after: Option<Duration>,
    ) -> Step<()> {
        let backoff = Backoff::new(RESEND.0, RESEND.1);
        let wait = backoff.wait(failures, rand::random(), retry_after);
        if retry_after.is_some() {
            let doing = format!("{}; tried again in {} s", self.shown.doing, wait.as_secs().max(1));
            self.say(doing).await;
        }
        match self.pause(wait, Wish::Go).await {
            Some(wish) => self.grant(wish).await,
            None => Ok(()),
        }
    }

    /// Waits while the service is paused after failures, or its token is rejected. The job whose
    /// turn it is first asks whether the service is back, with a call that costs nothing. The job
    /// stays `prepared`, and a control is applied at once. If another backend can run the job
    /// meanwhile, it switches: the work for that backend is returned.
    pub(in crate::daemon::jobs) async fn await_service(&mut self) -> Step<Option<Payload>> {
        let mut moved = None;
        let mut person = self.shown.cause == Cause::Person;
        loop {
            self.grant_unsent().await?;
            let (config, now) = (self.live(), self.tools.clock.now().moment);
            match self.tools.health.at(self.place).request_permit(now, &config, person) {
                // Whether a backend is configured is checked before the ledger says that something
                // may leave.
                Permit::Proceed
                    if config.at(self.place).is_err()
                        && config.order.iter().any(|other| *other != self.place) =>
                {
                    // A reload removed its backend.
                    match self.choose().await {
                        route @ (Route::Use { .. } | Route::Wait { .. }) => {
                            moved = Some(self.redirect(route, "not sent", Booking::Nothing).await?);
                        }
                        Route::Unroutable { .. } => {
                            if self.backend_or_wish().await?.is_none() {
                                self.grant_unsent().await?;
                            }
                        }
                    }
                }
                Permit::Proceed => match self.backend_or_wish().await? {
                    Some(_) => return Ok(moved),
                    None => self.grant_unsent().await?,
                },
                Permit::Wait(until, reason) => {
                    self.moved(JobState::Prepared, JobStage::Waiting).await;
                    if config.order.len() > 1
                        && let route @ Route::Use { backend, .. } = self.choose().await
                        && backend != self.place
                    {
                        moved = Some(self.redirect(route, "not sent", Booking::Nothing).await?);
                        continue;
                    }
                    let wait = until.since(now);
                    let seconds = wait.as_secs().max(1);
                    self.say(format!(
                        "not sent, nothing was charged; asked again in {seconds} s: {reason}"
                    ))
                    .await;
                    let mut changes = self.tools.config.clone();
                    changes.borrow_and_update();
                    let wish = tokio::select! {
                        wish = self.pause(wait, Wish::Go) => wish,
                        // Perhaps another token, or another address.
                        _ = changes.changed() => None,
                    };
                    if let Some(wish) = wish {
                        self.grant(wish).await?;
                    }
                }
                Permit::Probe => self.probe(&config, std::mem::take(&mut person)).await?,
            }
        }
    }

    /// Asks whether the service is back. A person's job ends with an error if it is not.
    async fn probe(&mut self, config: &RuntimeConfig, person: bool) -> Step<()> {
        self.say("asks whether the service is back, before anything is sent".to_owned()).await;
        let Some(backend) = self.backend_or_wish().await? else {
            return self.grant_unsent().await;
        };
        self.tools.wait_for_call(self.place).await;
        let mut wish = self.wish.clone();
        let answer = tokio::select! {
            answer = backend.warm_up() => answer,
            wish = wished(&mut wish) => return self.grant(wish).await,
        };
        let heard = self.tools.clock.now().moment;
        self.tools.health.at(self.place).record_call(heard, config, &answer);
        match answer {
            Ok(Some(balance)) => self.report(Report::Balance(balance)).await,
            Err(CallError::Fault(fault)) if fault.kind == FaultKind::Token => {
                self.report(Report::TokenRefused).await;
                if person {
                    return Err(self.refused(&fault).await);
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
    pub(in crate::daemon::jobs) async fn grant_unsent(&mut self) -> Step<()> {
        let wish = *self.wish.borrow_and_update();
        self.grant(wish).await
    }

    /// Applies a control to a job that is in the ledger and has not been sent.
    pub(in crate::daemon::jobs) async fn grant(&mut self, wish: Wish) -> Step<()> {
        let (id, now) = (self.id, self.tools.clock.now().wall);
        let state = match wish {
            Wish::Go => return Ok(()),
            Wish::Stop => return Err(JobEnd::Stopped),
            Wish::Replace => JobState::Replaced,
            Wish::Cancel => JobState::Cancelled,
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
        drop(self.tools.store.record("the end of an unsent job", record).await);
        Err(JobEnd::Ended { state, placed: false })
    }
}
