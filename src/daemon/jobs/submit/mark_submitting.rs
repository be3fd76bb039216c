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
        jobs::{Road, Step, early_work, interrupted},
        services::{budget_windows, messages::Report},
    },
    domain::{
        job::{
            Cause,
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

impl Road {
    /// Records that the request may leave now, on the terms of now. If that cannot be recorded,
    /// nothing leaves. A job without room in the budget switches to a free backend if there is one:
    /// the work for that backend is returned.
    pub(in crate::daemon::jobs) async fn announce(&mut self) -> Step<Option<Payload>> {
        let mut failures = 0;
        loop {
            let leaving = self.leaving().await;
            let (limits, windows) = (self.live().limits, budget_windows::windows(leaving.at));
            let marked = self
                .tools
                .store
                .with(move |ledger| ledger.submitting(&leaving, &limits, &windows))
                .await;
            let trouble = match marked {
                Ok(released) => {
                    self.tell_of_limits(&limits, &windows, &released).await;
                    return Ok(None);
                }
                Err(ReleaseError::Budget(refusal)) if self.live().order.len() > 1 => {
                    self.remember(AttemptOutcome::Refused, refusal.to_string());
                    match self.choose().await {
                        route @ (Route::Use { .. } | Route::Wait { .. }) => {
                            return self
                                .redirect(route, "over budget", Booking::Nothing)
                                .await
                                .map(Some);
                        }
                        Route::Unroutable { .. } if self.shown.cause == Cause::Person => {
                            let reason = Reason::new("budget", refusal.to_string());
                            return Err(self.end_failed(reason, Booking::Nothing).await);
                        }
                        Route::Unroutable { .. } => {
                            // There may be room later, or another backend.
                            self.tried.pop();
                            refusal.to_string()
                        }
                    }
                }
                Err(ReleaseError::Budget(refusal)) if self.shown.cause == Cause::Person => {
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
                    return Err(interrupted("that the request leaves", &error));
                }
            };
            failures += 1;
            self.say(trouble).await;
            self.wait_unsent(failures, None).await?;
        }
    }

    /// Returns what the job is expected to cost now. A job for a deployment that is no longer
    /// configured keeps its reservation: nothing is known about that machine any more.
    async fn leaving(&mut self) -> DelayedSubmit {
        let config = self.live();
        if self.deployment == early_work::deployment_of(&config, self.place) {
            (self.learned, self.estimate) =
                early_work::expectation(&self.tools, &config, self.place).await;
            self.terms = Some(PriceTerms::of(&self.estimate));
            early_work::describe(&mut self.shown, &self.learned, &self.estimate);
        }
        DelayedSubmit {
            job: self.id,
            session: self.tools.session,
            reserve: self.estimate.cost,
            terms: self.terms,
            at: self.tools.clock.now().wall,
        }
    }

    /// Warns once about each limit that is nearly reached.
    pub(in crate::daemon::jobs) async fn tell_of_limits(
        &self,
        limits: &BudgetLimits,
        windows: &BudgetWindows,
        released: &BudgetChange,
    ) {
        let news = {
            let mut warned = self.tools.warned.lock().unwrap_or_else(PoisonError::into_inner);
            warned.new_warnings(limits, windows, &released.before, &released.spent)
        };
        for warning in news {
            tracing::warn!(job = %self.id, "{warning}");
            self.report(Report::Warning(warning.to_string())).await;
        }
    }
}
