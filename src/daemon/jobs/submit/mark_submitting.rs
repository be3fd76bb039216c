//! The mark before a request that leaves some time after its release: after a rate-limit delay,
//! after a try that did not arrive, after a restart.
//!
//! Owns the job's reservation at that moment: by now the machine may sleep and its rate
//! may differ, so the cost is estimated again, and a higher estimate must fit the budget
//! in the commit that lets the request leave. A job that does not fit waits for room; a
//! person's job ends instead, with the reason. The cost of a request that leaves at once
//! belongs to [`crate::daemon::jobs::submit`].

use std::sync::PoisonError;

use crate::{
    backend::Payload,
    daemon::{
        jobs::{JobRun, Step, early_work, interrupted},
        services::{budget_windows, messages::JobReport},
    },
    domain::{
        job::{
            Cause,
            attempt::AttemptEnd,
            choose_backend::{AttemptOutcome, Route},
        },
        money::{
            budget::{BudgetLimits, BudgetWindows},
            job_cost::PriceTerms,
        },
    },
    ledger::{
        error::{LedgerError, ReleaseError},
        rows::{Booking, BudgetChange, DelayedSubmit, Reason},
    },
};

impl JobRun {
    /// Records that the request may leave now, on the terms of now. If that cannot be recorded,
    /// nothing leaves. A job without room in the budget switches to a free backend if there is one:
    /// the work for that backend is returned.
    pub(in crate::daemon::jobs) async fn mark_submitting(&mut self) -> Step<Option<Payload>> {
        let mut failures = 0;
        loop {
            let leaving = self.delayed_submit().await;
            let (limits, windows) = (self.config().limits, budget_windows::windows(leaving.at));
            let marked = self
                .services
                .store
                .with(move |ledger| ledger.submitting(&leaving, &limits, &windows))
                .await;
            let problem = match marked {
                Ok(released) => {
                    self.warn_of_limits(&limits, &windows, &released).await;
                    return Ok(None);
                }
                Err(ReleaseError::Budget(refusal)) if self.config().order.len() > 1 => {
                    self.record_attempt(AttemptOutcome::Refused, refusal.to_string());
                    match self.choose_backend().await {
                        route @ (Route::Use { .. } | Route::Wait { .. }) => {
                            return self
                                .switch_backend(route, AttemptEnd::OverBudget, Booking::Nothing)
                                .await
                                .map(Some);
                        }
                        Route::Unroutable { .. } if self.status.cause == Cause::Person => {
                            let reason = Reason::new("budget", refusal.to_string());
                            return Err(self.end_failed(reason, Booking::Nothing).await);
                        }
                        Route::Unroutable { .. } => {
                            // There may be room later, or another backend.
                            self.attempts.pop();
                            refusal.to_string()
                        }
                    }
                }
                Err(ReleaseError::Budget(refusal)) if self.status.cause == Cause::Person => {
                    let reason = Reason::new("budget", refusal.to_string());
                    return Err(self.end_failed(reason, Booking::Nothing).await);
                }
                Err(ReleaseError::Budget(refusal)) => refusal.to_string(),
                Err(ReleaseError::Ledger(LedgerError::Store(error))) => {
                    format!("nothing was sent: {error}")
                }
                // The row names a paid backend, and an earlier request of the same work may have
                // been charged: this job ends, unpaid.
                Err(ReleaseError::Ledger(error @ LedgerError::ChargedBefore { .. })) => {
                    let reason = Reason::new("nowhere", format!("{error}; nothing was sent"));
                    return Err(self.end_failed(reason, Booking::Nothing).await);
                }
                Err(ReleaseError::Ledger(error)) => {
                    return Err(interrupted("the submit", &error));
                }
            };
            failures += 1;
            self.set_activity(problem).await;
            self.wait_before_resend(failures, None).await?;
        }
    }

    /// Returns what the job is expected to cost now. A job for a deployment that is no longer
    /// configured keeps its reservation: nothing is known about that machine any more.
    async fn delayed_submit(&mut self) -> DelayedSubmit {
        let config = self.config();
        if self.deployment == early_work::deployment_of(&config, self.backend) {
            (self.learned, self.estimate) =
                early_work::expectation(&self.services, &config, self.backend).await;
            self.terms = PriceTerms::of(&self.estimate);
            early_work::describe(&mut self.status, &self.learned, &self.estimate);
        }
        DelayedSubmit {
            job: self.id,
            session: self.services.session,
            reserve: self.estimate.cost,
            terms: Some(self.terms),
            at: self.services.clock.now().wall,
        }
    }

    /// Warns once about each limit that is nearly reached.
    pub(in crate::daemon::jobs) async fn warn_of_limits(
        &self,
        limits: &BudgetLimits,
        windows: &BudgetWindows,
        released: &BudgetChange,
    ) {
        let news = {
            let mut warned = self.services.warned.lock().unwrap_or_else(PoisonError::into_inner);
            warned.new_warnings(limits, windows, &released.before, &released.spent)
        };
        for warning in news {
            tracing::warn!(job = %self.id, "{warning}");
            self.report(JobReport::Warning(warning.to_string())).await;
        }
    }
}
