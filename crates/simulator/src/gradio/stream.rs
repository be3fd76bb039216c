//! The events of a call, in either protocol and in the form of each version.
//!
//! Owns the order and the words of a stream, one piece at a time, and how it waits. What a stream
//! says is decided when the function is called, in [`super::state`].

use std::{
    collections::{HashSet, VecDeque},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::Response,
};
use futures_util::stream;
use serde_json::{Value, json};

use super::{EVENTS, Say, State, Version, answer, lock};

/// The time between two heartbeats. A real server sends one every 15 seconds.
const BEAT: Duration = Duration::from_millis(10);

/// A call that was accepted.
pub(super) struct Call {
    /// Its id.
    pub(super) event: String,
    /// Whether it was made in the queue protocol.
    pub(super) queued: bool,
    /// The version that the server behaves like.
    pub(super) version: Version,
    /// What is still to be sent.
    pub(super) says: VecDeque<Say>,
    /// What a success returns.
    pub(super) output: Value,
    /// How many [`Say::Hold`]s were reached.
    pub(super) held: usize,
}

/// What streams wait for.
#[derive(Default)]
pub(super) struct Signals {
    /// How often [`super::Gradio::release`] was called.
    pub(super) released: usize,
    /// The ids of cancelled calls.
    pub(super) cancelled: HashSet<String>,
}

/// Answers with the events of a call.
pub(super) fn response(mut call: Call, state: Arc<Mutex<State>>) -> Response<Body> {
    if call.queued {
        call.says.push_back(close());
    }
    let pieces = stream::unfold((call, state), async |(mut call, state)| {
        let piece = call.next(&state).await?;
        Some((piece.map(Bytes::from), (call, state)))
    });
    answer(200, EVENTS, "").map(|_| Body::from_stream(pieces))
}

fn close() -> Say {
    Say::Msg(json!({"msg": "close_stream", "event_id": null}))
}

impl Call {
    /// Returns the next piece of the stream, or `None` at its end.
    async fn next(&mut self, state: &Mutex<State>) -> Option<io::Result<String>> {
        loop {
            let say = self.says.pop_front()?;
            match say {
                Say::Msg(body) => return Some(Ok(self.message(body))),
                Say::Text(text) => return Some(Ok(text)),
                Say::Success => return Some(Ok(self.success())),
                Say::Fail(words) => return Some(Ok(self.failure(words))),
                Say::Wait(Duration::ZERO) => {}
                Say::Wait(span) => tokio::time::sleep(span).await,
                Say::Cut => {
                    // Only when the stream waits, what precedes is written.
                    tokio::task::yield_now().await;
                    return Some(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Say::Hold => {
                    self.held += 1;
                    self.wait(state, Some(self.held)).await;
                }
                Say::Silence => self.wait(state, None).await,
                Say::Beats => {
                    if tokio::time::timeout(BEAT, self.wait(state, None)).await.is_err() {
                        self.says.push_front(Say::Beats);
                        return Some(Ok(data(&json!({"msg": "heartbeat"}))));
                    }
                }
            }
        }
    }

    /// Waits for this release, or for a cancel, which replaces what is still to be sent.
    async fn wait(&mut self, state: &Mutex<State>, release: Option<usize>) {
        let mut signals = lock(state).signals.subscribe();
        let is_cancelled = |signals: &Signals| signals.cancelled.contains(&self.event);
        let over = signals.wait_for(|signals| {
            is_cancelled(signals) || release.is_some_and(|release| signals.released >= release)
        });
        if over.await.is_ok_and(|signals| is_cancelled(&signals)) {
            // As in a real server: success without data.
            let done = json!({"msg": "process_completed", "success": true, "output": {}});
            self.says = [Say::Msg(done), close()].into();
        }
    }

    fn message(&self, mut body: Value) -> String {
        if body.get("event_id").is_none() {
            body["event_id"] = json!(self.event);
        }
        data(&body)
    }

    fn success(&self) -> String {
        if !self.queued {
            return format!("event: complete\n{}", data(&self.output));
        }
        let output = json!({"data": self.output, "is_generating": false, "duration": 1.5});
        self.message(json!({"msg": "process_completed", "success": true, "output": output}))
    }

    fn failure(&self, words: Option<String>) -> String {
        if !self.queued {
            let told = json!({"error": words, "title": "Error"});
            let told = if self.version == Version::V6_31 { told } else { Value::Null };
            return format!("event: error\n{}", data(&told));
        }
        let quoted =
            |words| if self.version == Version::V4_44 { format!("'{words}'") } else { words };
        let output =
            json!({"error": words.map(quoted), "duration": 10, "visible": true, "title": "Error"});
        self.message(json!({"msg": "process_completed", "success": false, "output": output}))
    }
}

/// Returns a piece of a stream.
pub(super) fn data(body: &Value) -> String {
    format!("data: {body}\n\n")
}
