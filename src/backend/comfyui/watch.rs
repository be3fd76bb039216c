//! What is known of each request beside what the server answers: its socket, its progress, and whether we deleted it.
//!
//! Owns the few requests that are looked at, and when a socket is tried again. A socket has a client id of its own request, so that
//! - closing it makes the server forget nobody else's (of two with one id, the newer is silent for good once the older closes);
//! - a daemon that was started again hears of the run it finds in the queue.
//!
//! The old socket is always dropped before another one with its id is opened.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    progress::Track,
    socket::{Heard, Socket},
    wire::Wire,
};

/// The most requests with a socket: a server runs one at a time.
const MOST_WATCHES: usize = 4;

/// The most deleted requests that are remembered.
const MOST_DELETED: usize = 64;

/// How long a socket that failed is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long a look may wait for the next frame of a run.
const LINGER: Duration = Duration::from_millis(150);

/// One request.
pub(super) struct Watch {
    request: String,
    socket: Option<Socket>,
    not_before: Option<Instant>,
    pub(super) track: Track,
    /// It ran when it was last looked at, so frames are to be expected.
    pub(super) was_running: bool,
}

/// Every request.
#[derive(Default)]
pub(super) struct Watches {
    /// Never held across an await: a watch is taken out, used, and put back.
    known: Mutex<VecDeque<Watch>>,
    deleted: Mutex<VecDeque<String>>,
}

impl Watches {
    /// Takes the watch of a request out, or a new one.
    pub(super) fn take(&self, request: &str) -> Watch {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().position(|watch| watch.request == request);
        found.and_then(|at| known.remove(at)).unwrap_or_else(|| Watch {
            request: request.to_owned(),
            socket: None,
            not_before: None,
            track: Track::new(request),
            was_running: false,
        })
    }

    /// Puts a watch back. The oldest goes when there are too many.
    pub(super) fn put(&self, watch: Watch) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back(watch);
        if known.len() > MOST_WATCHES {
            known.pop_front();
        }
    }

    /// Closes the socket of a request that ended.
    pub(super) fn end(&self, request: &str) {
        drop(self.take(request));
    }

    /// Remembers that a request was deleted from the queue on our own word: it leaves no trace at the server.
    pub(super) fn note_deleted(&self, request: &str) {
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        deleted.push_back(request.to_owned());
        if deleted.len() > MOST_DELETED {
            deleted.pop_front();
        }
    }

    /// Forgets that, because it is sent once more.
    pub(super) fn note_sent(&self, request: &str) {
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        deleted.retain(|known| known != request);
    }

    pub(super) fn was_deleted(&self, request: &str) -> bool {
        let deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        deleted.iter().any(|known| known == request)
    }
}

impl Watch {
    /// Opens the socket if there is none and it is time to try.
    pub(super) async fn connect(&mut self, wire: &Wire) {
        let now = Instant::now();
        if self.socket.is_some() || self.not_before.is_some_and(|at| now < at) {
            return;
        }
        match Socket::open(wire, &self.request).await {
            Ok(socket) => self.socket = Some(socket),
            Err(_) => self.not_before = Some(Instant::now() + RETRY_AFTER),
        }
    }

    /// Takes in what the socket has to say; waits a little for it while the run is at work.
    pub(super) async fn listen(&mut self, wire: &Wire) {
        self.connect(wire).await;
        let Some(socket) = &mut self.socket else { return };
        let linger =
            if self.was_running && !self.track.is_over() { LINGER } else { Duration::ZERO };
        let track = &mut self.track;
        if matches!(socket.drain(linger, |text| track.hear(text)).await, Heard::End) {
            self.socket = None;
        }
    }
}
