//! The event loop: waits for one event, handles it, and carries out what it leads to.
//!
//! Owns the order of these three steps, and the end of the process's work. Each source of events is
//! folded into a `LoopEvent`; `DaemonState::handle` decides, without a runtime; `Performer`
//! acts. The loop waits for nothing but its `select!`: files, the ledger and the network are
//! handled by tasks that report back.

pub mod start;
pub(crate) mod event;
pub(crate) mod action;
pub(crate) mod state;
pub(crate) mod performer;
pub(crate) mod spawn_job;
pub mod tasks;
pub(crate) mod signals;
pub(crate) mod systemd;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use self::{
    event::{DaemonEnd, LoopEvent},
    performer::Performer,
    signals::{SignalStream, stop_requested},
    state::DaemonState,
};
use super::{
    inputs::wake_queue::WakeQueue,
    services::{
        command::{Command, CommandError, CommandErrorKind},
        messages::JobReport,
        store::blocking,
    },
};
use crate::{
    clock::Clock,
    disk::lock::Lock,
    domain::{job::JobId, time::Moment},
};

/// How long the ledger and the locks may take to be closed at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(400);

pub(crate) struct EventLoop {
    clock: Clock,
    state: DaemonState,
    performer: Performer,
    inbox: Inbox,
    /// The lock of the state folder, held for the life of the process.
    lock: Lock,
}

/// The sources of events, besides the loop's own tasks.
pub(crate) struct Inbox {
    reports: mpsc::Receiver<JobReport>,
    commands: mpsc::Receiver<Command>,
    wake_queue: Arc<WakeQueue>,
    /// The answer to the one request of `conjured once`.
    one_job: Option<OneJobAnswer>,
    signals: Option<SignalStream>,
    stop: Option<oneshot::Receiver<()>>,
}

/// The answer to the one request of `conjured once`.
type OneJobAnswer = oneshot::Receiver<Result<JobId, CommandError>>;

impl EventLoop {
    /// Runs until a signal, the end of the one job, or the end of a background task.
    pub(crate) async fn run(mut self) -> DaemonEnd {
        let mut end = self.turn(LoopEvent::Started);
        let end = loop {
            let now = self.clock.now().moment;
            let manager = &mut self.performer.service_manager;
            manager.tick(manager.is_ready() || self.state.is_ready(), now);
            if let Some(end) = end {
                break end;
            }
            let manager = self.performer.service_manager.deadline();
            let deadline = self.state.deadline(now).into_iter().chain(manager).min();
            let event = self.next_event(sleep_until(deadline, now)).await;
            end = self.turn(event);
        };
        self.close().await;
        end
    }

    /// Handles an event and carries out what it leads to. Returns how the loop ends, if it does.
    fn turn(&mut self, event: LoopEvent) -> Option<DaemonEnd> {
        let now = self.clock.now();
        let actions = self.state.handle(event, now);
        self.performer.act(actions, &self.state, now)
    }

    /// Waits for the next event of any source.
    async fn next_event(&mut self, timer: impl Future<Output = ()>) -> LoopEvent {
        let Inbox { reports, commands, wake_queue, one_job, signals, stop } = &mut self.inbox;
        let signal = async {
            match signals.as_mut() {
                Some(signals) => signals.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            finished = self.performer.tasks.next() => LoopEvent::TaskFinished(finished),
            Some(report) = reports.recv() => LoopEvent::Reported(report),
            Some(command) = commands.recv() => LoopEvent::Commanded(command),
            signal = signal => LoopEvent::Signalled(signal),
            () = stop_requested(stop) => LoopEvent::StopOrdered,
            () = wake_queue.wait() => {
                let (projects, config) = wake_queue.drain();
                LoopEvent::Woken { projects, config }
            }
            answer = await_reply(one_job) => LoopEvent::OneJobAnswered(answer),
            () = timer => LoopEvent::Timer,
        }
    }

    /// Carries out what the state wants before the loop begins.
    fn act_now(&mut self) {
        let actions = self.state.take_actions();
        self.performer.act(actions, &self.state, self.clock.now());
    }

    /// Records the end of the session and releases the locks.
    async fn close(mut self) {
        self.performer.tasks.abort_all();
        let services = Arc::clone(&self.performer.services);
        let (session, now) = (services.session, self.clock.now().wall);
        let closing = services.store.with(move |ledger| {
            ledger.end_session(session, now)?;
            ledger.checkpoint()
        });
        // Each on a thread of its own: one whose drive does not answer ends with the process.
        let locks = tokio::time::timeout(CLOSE_TIMEOUT, services.root_locks.release_all());
        let closing = tokio::time::timeout(CLOSE_TIMEOUT, closing);
        match futures_util::future::join(closing, locks).await.0 {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "could not record the end of the session"),
            Err(_) => tracing::warn!("the ledger took too long to close; nothing is lost"),
        }
        // Last of all, for whoever waits for this state folder.
        let lock = self.lock;
        let released = tokio::time::timeout(CLOSE_TIMEOUT / 4, blocking(move || drop(lock)));
        if released.await.is_err() {
            tracing::warn!(
                "releasing the state folder's lock took too long; it is released when the process \
                 ends"
            );
        }
    }
}

/// Sleeps until a deadline; for ever if there is none.
async fn sleep_until(deadline: Option<Moment>, now: Moment) {
    match deadline {
        Some(at) => tokio::time::sleep(at.since(now)).await,
        None => std::future::pending().await,
    }
}

/// Waits for the one job's answer; stays pending if there is none to wait for.
async fn await_reply(receiver: &mut Option<OneJobAnswer>) -> Result<JobId, CommandError> {
    let Some(answer) = receiver.as_mut() else { return std::future::pending().await };
    let answer = answer.await;
    *receiver = None;
    answer.unwrap_or_else(|_| {
        Err(CommandError::new(CommandErrorKind::TryAgain, "the request was dropped"))
    })
}
