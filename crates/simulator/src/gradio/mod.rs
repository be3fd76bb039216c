//! A simulated Gradio server with the functions of both Spaces, over HTTP on the loopback
//! interface: each version with its differences and its traps, as they were observed.
//!
//! Owns what a caller sets and asks: the version, the events of the next calls ([`Gradio::play`]),
//! answers in place of the usual ones ([`Gradio::force`]), and what was received. The parts:
//! `functions` (how they are described), `state` (checks and answers), `stream` (the events of a
//! call). It shares no type with our own client. Not built: `/queue/status`, `/call/v2`, downloads
//! of a part.

mod functions;
mod state;
mod stream;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{self, ConnectInfo},
    http::{HeaderValue, Request, Response, StatusCode},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

pub use self::state::State;
use self::state::{Reply, line};
use super::{
    url_of,
    wire::{ConnectionHandle, Connections, FaultyListener},
};

/// The largest body of a request in bytes.
const MAX_UPLOAD: usize = 64 * 1024 * 1024;

/// The version that a server behaves like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub enum Version {
    /// 4.44: no prefix, and an app's words in quotes.
    V4_44,
    /// 5.6: values beyond a slider are accepted, as before.
    V5_6,
    /// 5.49: such values are refused.
    #[default]
    V5_49,
    /// 6.31: an app's words in the simple protocol, too.
    V6_31,
}

impl Version {
    /// Every version.
    pub const ALL: [Self; 4] = [Self::V4_44, Self::V5_6, Self::V5_49, Self::V6_31];

    /// Returns what precedes every path but `/config`.
    pub const fn prefix(self) -> &'static str {
        if matches!(self, Self::V4_44) { "" } else { "/gradio_api" }
    }
}

/// The settings of a server.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The version that it behaves like.
    pub version: Version,
    /// How long each function takes.
    pub run: Duration,
    /// The number of vertices along a side of the mesh's grid.
    pub mesh_grid: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { version: Version::default(), run: Duration::from_secs(1), mesh_grid: 24 }
    }
}

/// The items that a call's stream sends.
#[derive(Clone, Debug)]
pub enum Say {
    /// A message of the queue protocol; the call's id is inserted.
    Msg(Value),
    /// A part of the stream, unchanged.
    Text(String),
    /// The usual success of the function. Its file is made with the call, so that it delays nothing
    /// here.
    Success,
    /// A failure, perhaps with the app's words, in the form of the version.
    Fail(Option<String>),
    /// Waits.
    Wait(Duration),
    /// Waits until the caller calls [`Gradio::release`], or a cancel ends the call.
    Hold,
    /// Stays open and sends nothing more until a cancel ends the call.
    Silence,
    /// Sends heartbeats until a cancel ends the call.
    Beats,
    /// Breaks the connection in the middle of the body.
    Cut,
}

/// A running server. Dropping it closes the port and breaks every connection.
pub struct Gradio {
    state: Arc<Mutex<State>>,
    connections: Connections,
    url: String,
    _tasks: JoinSet<io::Result<()>>,
}

impl Gradio {
    /// Binds a free port and serves on the current runtime. Fails when no port is free.
    pub async fn begin(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = url_of(&listener)?;
        let state = Arc::new(Mutex::new(State::new(settings)));
        let connections = Connections::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(super::serve(
            FaultyListener { listener, connections: connections.clone() },
            Router::new().fallback(serve).with_state(Arc::clone(&state)),
        ));
        Ok(Self { state, connections, url, _tasks: tasks })
    }

    /// Returns its address, `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Gives access to everything that the server remembers.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Sets what the next call that has no script sends.
    pub fn play(&self, says: impl IntoIterator<Item = Say>) {
        self.state().plays.push_back(says.into_iter().collect());
    }

    /// Answers the next `times` requests that start with `start` (`GET /config`; the prefix is
    /// inserted); with `None`, breaks their connection.
    pub fn force(&self, start: &str, answer: impl Into<Option<Response<Bytes>>>, times: usize) {
        let mut state = self.state();
        let (method, path) = start.split_once(' ').unwrap_or((start, ""));
        let prefix = if path.starts_with("/config") { "" } else { state.prefix() };
        let start = format!("{method} {prefix}{path}");
        state.forced.push((start, answer.into(), times));
    }

    /// Lets every call pass one more [`Say::Hold`].
    pub fn release(&self) {
        self.state().signals.send_modify(|signals| signals.released += 1);
    }

    /// Returns every request so far.
    pub fn seen(&self) -> Vec<Request<Bytes>> {
        self.state().seen.clone()
    }

    /// Returns the method and path, without the query, of every request.
    pub fn lines(&self) -> Vec<String> {
        self.state().seen.iter().map(line).collect()
    }

    /// Returns how many requests start with `start`.
    pub fn count(&self, start: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(start)).count()
    }
}

impl Drop for Gradio {
    fn drop(&mut self) {
        self.connections.cut_all();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers a request.
async fn serve(
    extract::State(state): extract::State<Arc<Mutex<State>>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_UPLOAD).await else {
        return json_answer(413, &json!({"detail": "Too large"})).map(Body::from);
    };
    let reply = lock(&state).answer(&Request::from_parts(head, body));
    match reply {
        Reply::Whole(answer) => answer.map(Body::from),
        Reply::Events(call) => stream::response(call, state),
        Reply::Cut => {
            connection.cut();
            Response::default()
        }
    }
}

const EVENTS: (&str, &str) = ("content-type", "text/event-stream; charset=utf-8");

/// Creates an answer with one header.
pub fn answer(
    status: u16,
    (name, value): (&'static str, &str),
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// Creates an answer of JSON.
pub fn json_answer(status: u16, body: &Value) -> Response<Bytes> {
    answer(status, ("content-type", "application/json"), body.to_string())
}
