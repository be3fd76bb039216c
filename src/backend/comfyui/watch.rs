//! The local state of each request: its socket, its progress, and whether we deleted it.
//!
//! Owns the few requests that are watched, and the retries of their sockets. Each request's socket
//! has its own client id, so that
//! - closing it does not affect another socket (of two sockets with one id, the newer is silent for
//!   ever once the older closes);
//! - a restarted daemon receives the progress of a run that it finds in the queue.
//!
//! The old socket is always dropped before another one with the same id is opened.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    progress::RunTracker,
    socket::{DrainEnd, Socket},
    wire::Wire,
};

/// The maximum number of requests with a socket. A server runs one at a time.
const MAX_WATCHES: usize = 4;

/// The maximum number of deleted requests that are remembered.
const MAX_DELETED: usize = 64;

/// The delay before a failed socket is tried again.
const RECONNECT_DELAY: Duration = Duration::from_secs(5);

/// How long one `observe` may wait for the next frame of a run.
const FRAME_WAIT: Duration = Duration::from_millis(150);

pub(super) struct RequestWatch {
    request: String,
    socket: Option<Socket>,
    not_before: Option<Instant>,
    pub(super) tracker: RunTracker,
    /// Whether it was running at the last `observe`, so that frames are expected.
    pub(super) was_running: bool,
}

#[derive(Default)]
pub(super) struct RequestWatches {
    /// Never held across an await: a watch is removed, used, and put back.
    known: Mutex<VecDeque<RequestWatch>>,
    deleted: Mutex<VecDeque<String>>,
}

impl RequestWatches {
    /// Removes and returns the watch of a request, or creates a new one.
    pub(super) fn take(&self, request: &str) -> RequestWatch {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().position(|watch| watch.request == request);
        found.and_then(|at| known.remove(at)).unwrap_or_else(|| RequestWatch {
            request: request.to_owned(),
            socket: None,
            not_before: None,
            tracker: RunTracker::new(request),
            was_running: false,
        })
    }

    /// Puts a watch back. Drops the oldest if there are too many.
    pub(super) fn put(&self, watch: RequestWatch) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back(watch);
        if known.len() > MAX_WATCHES {
            known.pop_front();
        }
    }

    /// Closes the socket of a request that has ended.
    pub(super) fn end(&self, request: &str) {
        drop(self.take(request));
    }

    /// Remembers that we deleted a request from the queue, because the server keeps no trace of it.
    pub(super) fn note_deleted(&self, request: &str) {
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        deleted.push_back(request.to_owned());
        if deleted.len() > MAX_DELETED {
            deleted.pop_front();
        }
    }

    /// Forgets the deletion, because the request is sent again.
    pub(super) fn note_sent(&self, request: &str) {
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        deleted.retain(|known| known != request);
    }

    pub(super) fn was_deleted(&self, request: &str) -> bool {
        let deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        deleted.iter().any(|known| known == request)
    }
}

impl RequestWatch {
    /// Opens the socket if there is none and the retry delay is over.
    pub(super) async fn connect(&mut self, wire: &Wire) {
        let now = Instant::now();
        if self.socket.is_some() || self.not_before.is_some_and(|at| now < at) {
            return;
        }
        match Socket::open(wire, &self.request).await {
            Ok(socket) => self.socket = Some(socket),
            Err(_) => self.not_before = Some(Instant::now() + RECONNECT_DELAY),
        }
    }

    /// Reads the frames that have arrived. Waits a little for more while the run is active.
    pub(super) async fn listen(&mut self, wire: &Wire) {
        self.connect(wire).await;
        let Some(socket) = &mut self.socket else { return };
        let linger =
            if self.was_running && !self.tracker.is_over() { FRAME_WAIT } else { Duration::ZERO };
        let tracker = &mut self.tracker;
        if matches!(socket.drain(linger, |text| tracker.on_frame(text)).await, DrainEnd::Closed) {
            self.socket = None;
        }
    }
}
