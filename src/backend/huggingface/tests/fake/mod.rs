//! A fake Gradio server: the known versions, with their differences and their traps.
//!
//! Owns the wire format that the `reference` servers of 4.44, 5.6, 5.49 and 6.31 use. It makes the
//! same checks as they do, and fails silently where they do. It runs on the test's runtime and ends
//! with it.

mod state;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use url::Url;

pub(super) use self::state::{GLB, WEBP, json_answer};
use self::state::{Reply, State, line};
use crate::backend::http::fake::RecordedRequest;

/// A version of Gradio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Version {
    V4_44,
    V5_6,
    V5_49,
    V6_31,
}

impl Version {
    pub(super) const ALL: [Self; 4] = [Self::V4_44, Self::V5_6, Self::V5_49, Self::V6_31];

    pub(super) const fn prefix(self) -> &'static str {
        if matches!(self, Self::V4_44) { "" } else { "/gradio_api" }
    }
}

/// The items that a call's stream sends.
#[derive(Clone, Debug)]
pub(super) enum Say {
    /// A message of the queue protocol; the call's id is inserted.
    Msg(Value),
    /// The usual success of the function.
    Success,
    /// A failure with the app's text, in the form of the version.
    Fail(Option<&'static str>),
    /// An event of the simple protocol, unchanged.
    Event(&'static str, String),
    /// Waits until the test calls [`Gradio::release`], or a cancel ends the call.
    Hold,
    /// Breaks the connection in the middle of the body.
    Cut,
    /// Stays open and sends nothing more.
    Silence,
    /// Sends heartbeats for ever.
    Beats,
}

pub(super) struct Gradio {
    pub(super) url: Url,
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<()>>,
    tasks: JoinSet<()>,
}

impl Gradio {
    pub(super) async fn start(version: Version) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let state = State::new(version);
        let state = Arc::new(Mutex::new(state));
        let changed = Arc::new(watch::Sender::new(()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state), Arc::clone(&changed)));
        let url = Url::parse(&format!("http://127.0.0.1:{port}")).expect("a URL");
        Self { url, state, changed, tasks }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    pub(super) fn play(&self, says: impl IntoIterator<Item = Say>) {
        self.state().plays.push_back(says.into_iter().collect());
    }

    /// Answers the next `times` requests that start with `start` (`GET /config`; the prefix
    /// is inserted).
    pub(super) fn force(&self, start: &str, bytes: Vec<u8>, times: usize) {
        let mut state = self.state();
        let (method, path) = start.split_once(' ').expect("a method and a path");
        let prefix = if path.starts_with("/config") { "" } else { state.version.prefix() };
        state.forced.push((format!("{method} {prefix}{path}"), bytes, times));
    }

    pub(super) fn release(&self) {
        self.state().released += 1;
        self.changed.send_replace(());
    }

    pub(super) fn stop(&mut self) {
        self.tasks.abort_all();
    }

    pub(super) fn seen(&self) -> Vec<RecordedRequest> {
        self.state().seen.clone()
    }

    /// Returns the method and path, without the query, of every request.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(line).collect()
    }

    /// Returns how many requests start with `start`.
    pub(super) fn count(&self, start: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(start)).count()
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, changed: Arc<watch::Sender<()>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&state), Arc::clone(&changed)));
    }
}

async fn serve(mut socket: TcpStream, state: Arc<Mutex<State>>, changed: Arc<watch::Sender<()>>) {
    while let Some(seen) = read(&mut socket).await {
        let reply = state.lock().expect("no panic").answer(&seen);
        match reply {
            Reply::Whole(bytes) if bytes.is_empty() => return,
            Reply::Whole(bytes) => {
                if socket.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Stream(event, function, says) => {
                let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
                if socket.write_all(head).await.is_err() {
                    return;
                }
                let mut stream =
                    Streaming { socket: &mut socket, state: &state, changed: &changed };
                if stream.play(&event, &function, says).await.is_none() {
                    return;
                }
            }
        }
    }
}

async fn read(socket: &mut TcpStream) -> Option<RecordedRequest> {
    let mut bytes = Vec::new();
    let head_len = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_len]).into_owned();
    let mut seen = RecordedRequest { head, body: Vec::new(), connection: 0 };
    let length: usize =
        seen.header("content-length").map_or(0, |text| text.parse().expect("a length"));
    while bytes.len() < head_len + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    seen.body = bytes[head_len..].to_vec();
    Some(seen)
}

struct Streaming<'a> {
    socket: &'a mut TcpStream,
    state: &'a Mutex<State>,
    changed: &'a watch::Sender<()>,
}

impl Streaming<'_> {
    /// Plays a call's events. Returns `None` if the connection must not be used any more.
    async fn play(&mut self, event: &str, function: &str, says: Vec<Say>) -> Option<()> {
        let (version, queued) = {
            let state = self.state.lock().expect("no panic");
            (state.version, state.protocol == "sse_v3")
        };
        let mut held = 0;
        for say in says {
            match say {
                Say::Msg(body) => self.message(event, body).await?,
                Say::Event(name, data) => {
                    self.chunk(&format!("event: {name}\ndata: {data}\n\n")).await?;
                }
                Say::Success => {
                    let output = self.state.lock().expect("no panic").output(function);
                    if queued {
                        let output =
                            json!({"data": output, "is_generating": false, "duration": 1.5});
                        self.message(
                            event,
                            json!({"msg": "process_completed", "success": true, "output": output}),
                        )
                        .await?;
                    } else {
                        self.chunk(&format!("event: complete\ndata: {output}\n\n")).await?;
                    }
                }
                Say::Fail(words) if queued => {
                    let message = words.map(|message| {
                        if version == Version::V4_44 {
                            format!("'{message}'")
                        } else {
                            message.to_owned()
                        }
                    });
                    let output = json!({"error": message, "duration": 10, "visible": true, "title": "Error"});
                    self.message(
                        event,
                        json!({"msg": "process_completed", "success": false, "output": output}),
                    )
                    .await?;
                }
                Say::Fail(words) => {
                    let data = if version == Version::V6_31 {
                        json!({"error": words, "title": "Error"})
                    } else {
                        Value::Null
                    };
                    self.chunk(&format!("event: error\ndata: {data}\n\n")).await?;
                }
                Say::Cut => return None,
                Say::Silence | Say::Hold | Say::Beats => {
                    held += usize::from(matches!(say, Say::Hold));
                    if self.wait(event, &say, held).await? {
                        self.message(
                            event,
                            json!({"msg": "process_completed", "success": true, "output": {}}),
                        )
                        .await?;
                        break;
                    }
                }
            }
        }
        if queued {
            self.chunk("data: {\"msg\": \"close_stream\", \"event_id\": null}\n\n").await?;
        }
        self.socket.write_all(b"0\r\n\r\n").await.ok()
    }

    /// Waits as `say` describes. Returns true if the call was cancelled meanwhile.
    async fn wait(&mut self, event: &str, say: &Say, held: usize) -> Option<bool> {
        let mut changed = self.changed.subscribe();
        let mut beat = tokio::time::interval(Duration::from_millis(10));
        loop {
            {
                let state = self.state.lock().expect("no panic");
                if state.cancelled.contains(event) {
                    return Some(true);
                }
                if matches!(say, Say::Hold) && state.released >= held {
                    return Some(false);
                }
            }
            tokio::select! {
                _ = beat.tick() => if matches!(say, Say::Beats) {
                    self.chunk("data: {\"msg\": \"heartbeat\"}\n\n").await?;
                },
                _ = changed.changed() => {}
            }
        }
    }

    async fn message(&mut self, event: &str, mut body: Value) -> Option<()> {
        if body.get("event_id").is_none() {
            body["event_id"] = json!(event);
        }
        self.chunk(&format!("data: {body}\n\n")).await
    }

    async fn chunk(&mut self, text: &str) -> Option<()> {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.socket.write_all(chunk.as_bytes()).await.ok()
    }
}
