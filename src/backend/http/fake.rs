//! A hand-written HTTP server for tests: it can answer, answer partly, or just hang up.
//!
//! It runs on the test's own runtime and ends with it. It does not know any API.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use url::Url;

/// What the server does with the next request (or the next connection).
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Reads the whole request, writes these bytes and keeps the connection.
    Answer(Vec<u8>),
    /// The same, but then closes the connection without announcing it.
    AnswerAndClose(Vec<u8>),
    /// Accepts the connection and closes it without reading.
    CloseUnread,
    /// Reads the whole request and closes the connection.
    ReadAndClose,
    /// Reads the whole request and stays silent.
    Hang,
    /// Writes the bytes, then keeps the connection open and silent.
    AnswerAndHang(Vec<u8>),
    /// Writes the bytes one by one, too slowly for any client to wait for the last one.
    Drip(Vec<u8>),
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct RecordedRequest {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) connection: usize,
}

impl RecordedRequest {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

#[derive(Default)]
struct ScriptState {
    steps: Vec<Step>,
    requests: Vec<RecordedRequest>,
    connections: usize,
}

impl ScriptState {
    fn next(&mut self) -> Step {
        if self.steps.len() > 1 { self.steps.remove(0) } else { self.steps[0].clone() }
    }
}

pub(crate) struct ScriptedServer {
    pub(crate) url: Url,
    shared: Arc<Mutex<ScriptState>>,
    closed: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl ScriptedServer {
    /// Starts a server that runs one step for each request and repeats the last step.
    pub(crate) async fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shared = ScriptState { steps: steps.into_iter().collect(), ..ScriptState::default() };
        let shared = Arc::new(Mutex::new(shared));
        let (report, closed) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared), Arc::new(report)));
        let url = Url::parse(&format!("http://127.0.0.1:{port}")).expect("a URL");
        Self { url, shared, closed, _tasks: tasks }
    }

    /// Returns every request so far.
    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.lock().expect("no panic").requests.clone()
    }

    /// Returns how many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.shared.lock().expect("no panic").connections
    }

    /// Waits until the server has closed `count` connections.
    pub(crate) async fn closed(&mut self, count: usize) {
        self.closed.wait_for(|closed| *closed >= count).await.expect("the server lives");
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Mutex<ScriptState>>,
    closed: Arc<watch::Sender<usize>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = {
            let mut shared = shared.lock().expect("no panic");
            shared.connections += 1;
            shared.connections
        };
        let (shared, closed) = (Arc::clone(&shared), Arc::clone(&closed));
        connections.spawn(async move {
            serve(stream, number, &shared).await;
            closed.send_modify(|closed| *closed += 1);
        });
    }
}

async fn serve(mut stream: TcpStream, connection: usize, shared: &Mutex<ScriptState>) {
    loop {
        let unread = {
            let mut shared = shared.lock().expect("no panic");
            matches!(shared.steps[0], Step::CloseUnread) && {
                shared.next();
                true
            }
        };
        if unread {
            return;
        }
        let Some((head, body)) = read_request(&mut stream).await else { return };
        let step = {
            let mut shared = shared.lock().expect("no panic");
            shared.requests.push(RecordedRequest { head, body, connection });
            shared.next()
        };
        let (bytes, stays) = match step {
            Step::Answer(bytes) => (bytes, Some(true)),
            Step::AnswerAndClose(bytes) => (bytes, None),
            Step::AnswerAndHang(bytes) => (bytes, Some(false)),
            Step::Hang => (Vec::new(), Some(false)),
            Step::Drip(bytes) => {
                let mut tick = tokio::time::interval(Duration::from_millis(30));
                for byte in bytes {
                    tick.tick().await;
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                }
                continue;
            }
            Step::CloseUnread | Step::ReadAndClose => return,
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        match stays {
            Some(true) => {}
            Some(false) => std::future::pending::<()>().await,
            None => return,
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let head_len = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_len]).into_owned();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().expect("a length"));
    while bytes.len() < head_len + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, bytes[head_len..].to_vec()))
}

/// Returns an answer with a body, the usual headers, and `headers` (each line ending in `\r\n`).
pub(crate) fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len())
        .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Returns a 200 answer with a JSON body.
pub(crate) fn json(body: &str) -> Vec<u8> {
    answer("200 OK", "content-type: application/json\r\n", body)
}
