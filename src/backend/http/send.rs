//! Sends one request once and reports whether it left this process.
//!
//! Owns the distinction between "certainly did not arrive" and "unknown". Every call that may cost
//! money depends on it.
//!
//! The distinction does not rely on error texts. The body of a POST is handed to the HTTP library
//! behind a gate. As long as the library has not requested the body, no server can have a whole
//! request; and once we have given up, the gate is closed, so that the body cannot leave later
//! either. Name look-up, TCP, TLS, a refusal by a proxy and a time-out while connecting all happen
//! before the body is requested; after that, the outcome is unknown.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Body, RequestBuilder, Response, header::CONTENT_LENGTH};
use tokio::time::Sleep;

use super::answer::{Answer, read_body};
use crate::failpoint::{self, Point, Side};

/// Why a POST returned no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendFault {
    /// No byte of the body left this process, and none will.
    NotSent(String),
    /// The body left completely or in part.
    Unknown(String),
}

/// The extra time for reading an answer that has already arrived when the time-out expires.
const FINAL_POLL: Duration = Duration::from_secs(1);

/// The error text of an answer that does not arrive in time.
const TIMED_OUT: &str = "no answer within the time-out";

/// Sends `body` with `request`. `timeout` covers the head and the body (at most `limit` bytes) of
/// the answer together. After the time-out the socket is polled once more: a process that was
/// stopped in between (SIGSTOP, a frozen container, a suspended machine) finds both the expired
/// time-out and the answer, and the answer counts.
pub async fn post_once(
    request: RequestBuilder,
    body: Bytes,
    timeout: Duration,
    limit: usize,
) -> Result<Answer, SendFault> {
    poll_sockets().await;
    let gate = Arc::new(BodyGate::default());
    let behind_gate = {
        let (gate, body) = (Arc::clone(&gate), body.clone());
        futures_util::stream::once(async move {
            if gate.try_pass() {
                Ok(body)
            } else {
                Err(io::Error::other("the sender has given up"))
            }
        })
    };
    failpoint::hit(Point::SubmitPost, Side::Before);
    let mut deadline = std::pin::pin!(tokio::time::sleep(timeout));
    let head = request
        // A stream has no length of its own. With this header it is sent as it is, not in chunks.
        .header(CONTENT_LENGTH, body.len())
        .body(Body::wrap_stream(behind_gate))
        .send();
    let head = until_deadline(deadline.as_mut(), head).await;
    failpoint::hit(Point::SubmitPost, Side::After);
    let reason = match head {
        Some(Ok(mut response)) => {
            let mut answer = Answer::head(&response);
            answer.body = until_deadline(deadline, read_body(&mut response, limit))
                .await
                .unwrap_or_else(|| Err(TIMED_OUT.to_owned()));
            return Ok(answer);
        }
        Some(Err(error)) => describe(&error),
        None => TIMED_OUT.to_owned(),
    };
    Err(if gate.close() { SendFault::NotSent(reason) } else { SendFault::Unknown(reason) })
}

/// Waits for `wanted` until the deadline, then polls it for [`FINAL_POLL`] more.
async fn until_deadline<T>(
    deadline: Pin<&mut Sleep>,
    wanted: impl Future<Output = T>,
) -> Option<T> {
    let mut wanted = std::pin::pin!(wanted);
    tokio::select! {
        biased;
        done = &mut wanted => return Some(done),
        () = deadline => {}
    }
    // The connection is a task of its own, which must run before the answer can arrive here.
    tokio::time::timeout(FINAL_POLL, wanted).await.ok()
}

/// Sends a request without a body that may safely be repeated.
pub async fn send(request: RequestBuilder) -> Result<Response, String> {
    poll_sockets().await;
    request.send().await.map_err(|error| describe(&error))
}

/// Lets the runtime check its sockets before one is chosen. Otherwise a busy daemon would not
/// notice that a kept-alive connection has already been closed, and would lose the request in it.
async fn poll_sockets() {
    // More than once: on a busy machine the end of a connection arrives a moment late.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

/// Decides a race once: either the body was requested, or it never will be.
#[derive(Default)]
struct BodyGate(AtomicU8);

impl BodyGate {
    const WAITING: u8 = 0;
    const PASSED: u8 = 1;
    const CLOSED: u8 = 2;

    /// Called when the library requests the body. Returns false if the body must no longer be sent.
    fn try_pass(&self) -> bool {
        self.try_set(Self::PASSED) != Self::CLOSED
    }

    /// Called when the sender gives up. Returns true if the body was never requested.
    fn close(&self) -> bool {
        self.try_set(Self::CLOSED) != Self::PASSED
    }

    /// Tries to change `WAITING` to `wanted` and returns the resulting state.
    fn try_set(&self, wanted: u8) -> u8 {
        let tried =
            self.0.compare_exchange(Self::WAITING, wanted, Ordering::SeqCst, Ordering::SeqCst);
        tried.map_or_else(|found| found, |_| wanted)
    }
}

/// Describes an error in a short phrase without the URL.
pub fn describe(error: &reqwest::Error) -> String {
    if let Some(tls) = super::trust::tls_fault(error) {
        let host = error.url().and_then(url::Url::host_str).unwrap_or("the service");
        return super::trust::untrusted_message(tls, host);
    }
    match (error.is_connect(), error.is_timeout()) {
        _ if error.is_dns() => format!("the name look-up failed ({})", cause(error)),
        (true, true) => "no connection within the time-out".to_owned(),
        (true, false) if is_refused(error) => "connection refused".to_owned(),
        (true, false) => format!("no connection ({})", cause(error)),
        (false, true) => TIMED_OUT.to_owned(),
        (false, false) => format!("the connection failed ({})", cause(error)),
    }
}

/// Returns whether the server refused the connection, which usually means that it is not running.
fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Returns the text of the innermost cause; the outer errors repeat each other and the URL.
pub fn cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_the_gate_is_never_called_unsent_and_what_is_unsent_never_passes() {
        let first = BodyGate::default();
        assert!(first.try_pass() && first.try_pass(), "asked twice is still asked");
        assert!(!first.close());
        let second = BodyGate::default();
        assert!(second.close());
        assert!(!second.try_pass());
    }
}
