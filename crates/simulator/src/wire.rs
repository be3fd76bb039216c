//! What can happen to an answer between the simulator and its client.
//!
//! Owns the connections (each has a [`ConnectionHandle`] with which a handler, or the end of the
//! simulator, breaks it) and the execution of the faults that can happen at any call. It does not
//! know what an answer says.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::connect_info::Connected,
    http::{Response, StatusCode, header},
    serve::{IncomingStream, Listener},
};
use bytes::Bytes;
use futures_util::{stream, task::AtomicWaker};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::faults::Fault;

/// A handle to one connection: cutting it breaks the connection without another byte.
#[derive(Clone, Default)]
pub(crate) struct ConnectionHandle(Arc<CutSwitch>);

#[derive(Default)]
struct CutSwitch {
    cut: AtomicBool,
    waker: AtomicWaker,
}

impl ConnectionHandle {
    /// Breaks the connection.
    pub(crate) fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    fn check(&self) -> io::Result<()> {
        if self.0.cut.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

/// The handles of all open connections.
#[derive(Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<Vec<Weak<CutSwitch>>>>);

impl Connections {
    fn keep(&self, connection: &ConnectionHandle) {
        let mut cords = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cords.retain(|rope| rope.strong_count() > 0);
        cords.push(Arc::downgrade(&connection.0));
    }

    /// Breaks every connection.
    pub(crate) fn cut_all(&self) {
        let cords = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cords.iter().filter_map(Weak::upgrade).for_each(|rope| ConnectionHandle(rope).cut());
    }
}

/// A listener whose connections can be cut.
pub(crate) struct FaultyListener {
    pub(crate) listener: TcpListener,
    pub(crate) connections: Connections,
}

impl Listener for FaultyListener {
    type Io = FaultyStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (FaultyStream, SocketAddr) {
        let (stream, from) = Listener::accept(&mut self.listener).await;
        // An answer in two pieces must not wait for an acknowledgement; a socket that cannot do
        // this works anyway.
        let _ = stream.set_nodelay(true);
        let connection = ConnectionHandle::default();
        self.connections.keep(&connection);
        (FaultyStream { stream, connection }, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, FaultyListener>> for ConnectionHandle {
    fn connect_info(stream: IncomingStream<'_, FaultyListener>) -> Self {
        stream.io().connection.clone()
    }
}

/// A connection that can be cut.
pub(crate) struct FaultyStream {
    stream: TcpStream,
    connection: ConnectionHandle,
}

impl AsyncRead for FaultyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Register before checking, so that no cut is missed in between.
        self.connection.0.waker.register(context.waker());
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.connection.0.waker.register(context.waker());
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The effect of a fault on one call.
#[derive(Default)]
pub(crate) struct TransportFault {
    /// The connection breaks before anything is read.
    pub(crate) unread: bool,
    /// The call takes no effect.
    pub(crate) void: bool,
    wait: Option<Wait>,
    dropped: bool,
    drops: Option<Duration>,
    instead: Option<Response<Body>>,
}

enum Wait {
    For(Duration),
    Forever,
}

impl TransportFault {
    /// Returns the effect of `fault`; none, if it is not a fault that can happen at any call.
    pub(crate) fn of(fault: Option<&Fault>) -> Self {
        let none = Self::default();
        let text = |kind: &'static str, body: &'static str| {
            Some(raw(StatusCode::OK, kind, Bytes::from_static(body.as_bytes())))
        };
        match fault {
            Some(Fault::AcceptThenDrop) => Self { dropped: true, ..none },
            Some(Fault::DropBeforeReading) => Self { unread: true, void: true, ..none },
            Some(Fault::Hang { ms }) => {
                let wait = ms.map_or(Wait::Forever, |ms| Wait::For(Duration::from_millis(ms)));
                Self { wait: Some(wait), ..none }
            }
            Some(Fault::SlowBody { ms }) => {
                Self { drops: Some(Duration::from_millis(*ms)), ..none }
            }
            Some(Fault::InvalidJson) => {
                Self { instead: text("application/json", "{\"request_id\":\"r"), ..none }
            }
            Some(Fault::EmptyObject) => Self { instead: text("application/json", "{}"), ..none },
            Some(Fault::HtmlBody) => Self {
                instead: text("text/html", "<html><body>Please wait.</body></html>"),
                ..none
            },
            Some(Fault::Http { status, retry_after, body, accepted }) => {
                let answer = http_error(*status, retry_after.as_deref(), body.as_deref());
                Self { instead: Some(answer), void: !accepted, ..none }
            }
            Some(Fault::OkWithErrorCode { code }) => {
                let body = json!({"error_code": code, "error_message": "ordered by a fault"});
                Self { instead: Some(answer(StatusCode::OK, &body)), void: true, ..none }
            }
            _ => none,
        }
    }

    /// Delivers `normal`, or what replaces it, to the client in the way the fault requires.
    pub(crate) async fn deliver(
        self,
        connection: &ConnectionHandle,
        normal: Response<Body>,
    ) -> Response<Body> {
        match self.wait {
            Some(Wait::For(span)) => sleep(span).await,
            Some(Wait::Forever) => std::future::pending().await,
            None => {}
        }
        if self.dropped || self.unread {
            connection.cut();
        }
        let response = self.instead.unwrap_or(normal);
        match self.drops {
            Some(span) => in_drops(response, span).await,
            None => response,
        }
    }
}

fn http_error(status: u16, retry_after: Option<&str>, body: Option<&str>) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match body {
        Some(body) => raw(status, "application/json", Bytes::from(body.to_owned())),
        None => answer(status, &json!({"error_message": format!("ordered by a fault: {status}")})),
    };
    if let Some(value) = retry_after.and_then(|value| value.parse().ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// Sends the head at once and the body in sixteen pieces over `span`.
async fn in_drops(response: Response<Body>, span: Duration) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let whole = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    parts.headers.insert(header::CONTENT_LENGTH, whole.len().into());
    let size = whole.len().div_ceil(16).max(1);
    let drops = stream::unfold(whole, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        sleep(span / 16).await;
        let drop = rest.split_to(size.min(rest.len()));
        Some((Ok::<_, io::Error>(drop), rest))
    });
    Response::from_parts(parts, Body::from_stream(drops))
}

/// Creates an answer of JSON.
pub(crate) fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    raw(status, "application/json", Bytes::from(body.to_string()))
}

/// Creates an answer of any content type.
pub(crate) fn raw(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
