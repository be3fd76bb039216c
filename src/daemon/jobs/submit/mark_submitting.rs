//! The mark before a request that leaves some time after its release: behind the rate limit, after a try that did not arrive,
//! after a restart.
//!
//! Owns what is promised of such a job's money: by now the machine may sleep and its rate be another, so the expectation is
//! made anew, and what it is more must fit the budget in the commit that lets the request leave. A job that does not fit waits
//! for room; one that a person waits for ends, and they hear why. What a request costs that leaves at once is [`crate::daemon::jobs::submit`]'s.

use std::sync::PoisonError;

use crate::{
    backend::Work,
    daemon::{
        jobs::{Road, Step, early_work, interrupted},
        services::{budget_windows, messages::Report},
    },
    domain::{
        job::{
            Cause,
            choose_backend::{Outcome, Route},
        },
        money::{
            budget::{Limits, Windows},
            job_cost::Terms,
        },
    },
    ledger::{
        error::{LedgerError, ReleaseError},
        rows::{Booking, Leaving, Reason, Released},
    },
};

impl Road {
    /// Writes down that the request may leave now, on the terms of now. If that cannot be written, nothing leaves. A job that has no
    /// room in the budget goes to a place that costs nothing, where there is one: what that is sent is returned.
    pub(in crate::daemon::jobs) async fn announce(&mut self) -> Step<Option<Work>> {
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
                    self.remember(Outcome::Refused, refusal.to_string());
                    match self.choose().await {
                        route @ (Route::Go { .. } | Route::Wait { .. }) => {
                            return self
                                .redirect(route, "over budget", Booking::Nothing)
                                .await
                                .map(Some);
                        }
                        Route::Nowhere { .. } if self.shown.cause == Cause::Person => {
                            let reason = Reason::new("budget", refusal.to_string());
                            return Err(self.end_failed(reason, Booking::Nothing).await);
                        }
                        Route::Nowhere { .. } => {
                            // There may be room again, or another place.
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
                // The row names a paid backend, and a request of it may have been charged: this job ends, unpaid.
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

    /// Returns what the job is expected to cost now. One that goes to a deployment that is no longer configured keeps what was
    /// reserved for it: nothing is known of that machine any more.
    async fn leaving(&mut self) -> Leaving {
        let live = self.live();
        if self.deployment == early_work::deployment_of(&live, self.place) {
            (self.learned, self.estimate) =
                early_work::expectation(&self.tools, &live, self.place).await;
            self.terms = Some(Terms::of(&self.estimate));
            early_work::describe(&mut self.shown, &self.learned, &self.estimate);
        }
        Leaving {
            job: self.id,
            session: self.tools.session,
            reserve: self.estimate.cost,
            terms: self.terms,
            at: self.tools.clock.now().wall,
        }
    }

    /// Tells a person of each limit that comes nearer, once.
    pub(in crate::daemon::jobs) async fn tell_of_limits(
        &self,
        limits: &Limits,
        windows: &Windows,
        released: &Released,
    ) {
        let news = {
            let mut told = self.tools.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.news(limits, windows, &released.before, &released.spent)
        };
        for warning in news {
            tracing::warn!(job = %self.id, "{warning}");
            self.report(Report::Warning(warning.to_string())).await;
        }
    }
}
