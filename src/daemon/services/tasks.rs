//! The process's tasks: each has a name, and the event loop that owns this set awaits it.
//!
//! Owns spawning. The owner decides what a panic means: in a job's task it fails that job, in a
//! background task it stops the daemon.

use std::future::Future;

use tokio::task::{AbortHandle, JoinError, JoinSet};

/// A set of named tasks with results of one type.
#[derive(Debug)]
pub(crate) struct Tasks<N, T> {
    set: JoinSet<(N, T)>,
    names: Vec<(tokio::task::Id, N)>,
}

#[derive(Debug)]
pub(crate) enum Finished<N, T> {
    Returned(N, T),
    /// It panicked, with this message.
    Panicked(N, String),
}

impl<N: Clone + Send + 'static, T: Send + 'static> Tasks<N, T> {
    pub(crate) fn new() -> Self {
        Self { set: JoinSet::new(), names: Vec::new() }
    }

    /// Starts a task under `name`.
    pub(crate) fn spawn(
        &mut self,
        name: N,
        future: impl Future<Output = T> + Send + 'static,
    ) -> AbortHandle {
        let own = name.clone();
        let handle = self.set.spawn(async move { (own, future.await) });
        self.names.push((handle.id(), name));
        handle
    }

    /// Waits for the next task to end. Pending while there is none, so that it can be used in
    /// a `select!`.
    pub(crate) async fn next(&mut self) -> Finished<N, T> {
        loop {
            match self.set.join_next_with_id().await {
                None => std::future::pending::<()>().await,
                Some(Ok((id, (name, value)))) => {
                    self.remove_name(id);
                    return Finished::Returned(name, value);
                }
                Some(Err(error)) => {
                    let Some(name) = self.remove_name(error.id()) else { continue };
                    if error.is_panic() {
                        return Finished::Panicked(name, panic_message(error));
                    }
                }
            }
        }
    }

    /// Aborts every task at its next await.
    pub(crate) fn abort_all(&mut self) {
        self.set.abort_all();
    }

    fn remove_name(&mut self, id: tokio::task::Id) -> Option<N> {
        let at = self.names.iter().position(|(own, _)| *own == id)?;
        Some(self.names.swap_remove(at).1)
    }
}

fn panic_message(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".to_owned()),
        Err(error) => error.to_string(),
    }
}
